"""``erlmcp.stores.journal``: what is written down, when, by whom, and what the next one finds."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from erlmcp.errors import JournalError, LimitError, StaleHandleError
from erlmcp.stores import journal as room
from erlmcp.stores import record
from erlmcp.stores.journal import InFlight, Journal, JournaledCorrelation, Recovery, read

BOUND_S = 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.journal"


def ids(found: Any) -> list[str | int]:
    return [call.id for call in found]


def test_what_was_opened_and_not_closed_is_in_flight(path):
    with Journal(path, clock_ns=lambda: 1234) as journal:
        first = journal.open_call(1, "tools/call", b'{"name":"a"}', idempotent=True)
        second = journal.open_call("1", "resources/read")
        third = journal.open_call(-(2**63), "ping")
        journal.close_call(second)
        assert len(journal) == 2
    recovery = read(path)
    assert list(recovery) == [
        InFlight(1, "tools/call", True, b'{"name":"a"}', 1234, first),
        InFlight(-(2**63), "ping", False, b"", 1234, third),
    ]
    assert recovery.repeatable == [recovery.calls[0]]
    assert (len(recovery), recovery.is_whole, recovery.torn_bytes) == (2, True, 0)


def test_a_call_is_known_from_the_flush_on(path):
    with Journal(path) as journal:
        serial = journal.open_call("a")
        assert ids(read(path)) == []
        journal.flush()
        assert ids(read(path)) == ["a"]
        journal.close_call(serial)
        journal.flush()
        assert ids(read(path)) == []


@pytest.mark.parametrize(("sync", "flushes", "opens"), [("none", 0, 0), ("batch", 1, 0), ("always", 1, 3)])
def test_the_disk_is_waited_for_as_often_as_was_asked_for(path, monkeypatch, sync, flushes, opens):
    journal = Journal(path, sync=sync)
    writes: list[int] = []
    waits: list[int] = []
    write_all = room._write_all
    monkeypatch.setattr(room, "_write_all", lambda file, data: (writes.append(len(data)), write_all(file, data)))
    monkeypatch.setattr(os, "fsync", waits.append)
    serials = [journal.open_call(number) for number in range(3)]
    assert (len(waits), len(writes)) == (opens, opens)
    for serial in serials:
        journal.close_call(serial)
    journal.flush()
    assert (len(waits) - opens, len(writes) - opens) == (flushes, 1), "one write for all"
    journal.flush()
    assert len(writes) - opens == 1, "nothing was gathered"
    journal.close()


def test_much_that_is_gathered_is_written_without_being_asked(path):
    with Journal(path) as journal:
        before = journal.file_bytes
        for _ in range(3):
            journal.open_call("a", payload=b"x" * room.BATCH_BYTES)
        assert journal.file_bytes > before + 2 * room.BATCH_BYTES
        assert len(read(path)) == 2


def test_what_was_in_flight_stays_so_until_somebody_says_what_became_of_it(path):
    with Journal(path) as journal:
        journal.open_call("a", idempotent=True)
        journal.open_call("b")
    with Journal(path) as journal:
        assert ids(journal.recovered) == ["a", "b"]
        assert ids(journal.recovered.repeatable) == ["a"]
        journal.close_call(journal.recovered.calls[0].serial)
        fresh = journal.open_call("c")
        assert fresh > max(call.serial for call in journal.recovered), "serials go on"
    with Journal(path) as journal:
        assert ids(journal.recovered) == ["b", "c"]


def test_a_call_ends_once(path):
    with Journal(path) as journal:
        serial = journal.open_call("a")
        journal.close_call(serial)
        for wrong in (serial, 99):
            with pytest.raises(StaleHandleError, match=f"serial {wrong}"):
                journal.close_call(wrong)


def test_the_file_is_for_its_owner_alone(path):
    with Journal(path) as journal:
        journal.open_call("a")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_full_of_ended_calls_is_written_anew(path):
    with Journal(path, sync="none", bytes_max=8192) as journal:
        kept = journal.open_call("kept", "tools/call", b"payload")
        for number in range(2000):
            journal.close_call(journal.open_call(number))
            journal.flush()
            assert journal.file_bytes == path.stat().st_size <= 8192
        journal.open_call("last")
        journal.flush()
        assert [(call.id, call.serial) for call in read(path)] == [("kept", kept), ("last", 2002)]
    with Journal(path) as journal:
        assert ids(journal.recovered) == ["kept", "last"]


def test_what_was_gathered_when_the_file_is_written_anew_is_in_it_once(path):
    with Journal(path, sync="none", bytes_max=4096) as journal:
        ended = journal.open_call("ended", payload=b"x" * 1000)
        journal.open_call("open", payload=b"x" * 900)
        journal.flush()
        journal.close_call(ended)
        journal.open_call("new")
        journal._rewrite()
        journal.flush()
        assert path.read_bytes().count(b"new") == 1
        assert ids(read(path)) == ["open", "new"]


def test_calls_that_were_recovered_into_a_smaller_journal_do_not_have_it_written_again_and_again(path):
    with Journal(path) as journal:
        journal.open_call("large", payload=b"x" * 10_000)
    with Journal(path, bytes_max=4096) as journal:
        with pytest.raises(LimitError, match="bytes_max=4096"):
            journal.open_call("no room")
        inode = path.stat().st_ino
        journal.close_call(journal.recovered.calls[0].serial)
        for number in range(20):
            journal.close_call(journal.open_call(number))
            journal.flush()
        assert path.stat().st_ino == inode, "it has not doubled yet"


def test_the_limits_are_named(path):
    with Journal(path, bytes_max=4096) as journal:
        for arguments in (["x" * 65536], ["a", "x" * 65536]):
            with pytest.raises(LimitError) as caught:
                journal.open_call(*arguments)
            assert caught.value.limit == "text_bytes_max"
        with pytest.raises(LimitError) as caught:
            journal.open_call("a", "b", b"x" * 2048)
        assert (caught.value.limit, caught.value.maximum) == ("bytes_max", 4096)
        assert len(journal) == 0
        journal.open_call("x" * 1900)
    assert ids(read(path)) == ["x" * 1900]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((True,), TypeError),
        ((1.0,), TypeError),
        ((None,), TypeError),
        (("\ud800",), ValueError),
        (("a", "", 7), TypeError),
    ],
)
def test_what_cannot_be_written_down_is_refused_and_leaves_no_trace(path, arguments, error):
    with Journal(path) as journal:
        with pytest.raises(error):
            journal.open_call(*arguments)
        assert len(journal) == 0
        journal.open_call("after")
    assert ids(read(path)) == ["after"]


@pytest.mark.parametrize("options", [{"sync": "sometimes"}, {"bytes_max": 4095}])
def test_a_setting_out_of_its_range_is_refused_before_the_file_is_touched(path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Journal(path, **options)
    assert not path.exists()


# ---- Whose file it is.


def test_a_journal_has_one_writer(path):
    with Journal(path, bytes_max=4096) as journal:
        for _ in range(2):
            with pytest.raises(JournalError, match="is written by another journal"):
                Journal(path)
            journal._rewrite()  # the new file is locked too
        program = f"from erlmcp.stores.journal import Journal\nJournal({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert "is written by another journal" in done.stderr
        journal.open_call("a")
    with Journal(path) as journal:
        assert ids(journal.recovered) == ["a"]


def test_a_file_that_is_replaced_between_its_opening_and_its_locking_is_opened_again(path, monkeypatch):
    Journal(path).close()
    lock, turns = room._lock, []

    def replace_and_lock(file: Any, where: Path) -> None:
        if not turns:
            turns.append(1)
            (path.parent / "other").write_bytes(path.read_bytes())
            os.replace(path.parent / "other", path)
        lock(file, where)

    monkeypatch.setattr(room, "_lock", replace_and_lock)
    with Journal(path) as journal:
        journal.open_call("a")
    assert ids(read(path)) == ["a"]


def test_a_child_by_fork_writes_nothing(path):
    with Journal(path) as journal:
        journal.open_call("a")
        child = os.fork()
        if child == 0:
            try:
                journal.flush()
            except JournalError as error:
                journal.close()
                os._exit(7 if "of which this one is a child" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert ids(read(path)) == []
        journal.flush()
        assert ids(read(path)) == ["a"]


def test_a_closed_journal_says_so(path):
    journal = Journal(path)
    serial = journal.open_call("a")
    journal.close()
    journal.close()
    assert journal.is_closed
    for call in (journal.flush, lambda: journal.open_call("b"), lambda: journal.close_call(serial)):
        with pytest.raises(JournalError, match="was closed"):
            call()
    assert ids(read(path)) == ["a"]


@pytest.mark.parametrize("data", [b"something else entirely", b"erlmcp journal 2\n" + bytes(100)])
def test_a_file_of_somebody_else_is_left_alone(path, data):
    path.write_bytes(data)
    for opening in (read, Journal):
        with pytest.raises(JournalError, match="is not a journal"):
            opening(path)
    assert path.read_bytes() == data


@pytest.mark.parametrize("size", range(record.HEADER_BYTES))
def test_a_journal_that_was_cut_within_its_header_is_an_empty_one(path, size):
    Journal(path).close()
    path.write_bytes(path.read_bytes()[:size])
    assert read(path) == Recovery(torn_bytes=size)
    with Journal(path) as journal:
        journal.open_call("a")
    assert ids(read(path)) == ["a"]


def test_a_header_that_was_altered_is_damage_and_the_file_is_kept(path):
    with Journal(path) as journal:
        journal.open_call("a")
    data = bytearray(path.read_bytes())
    data[len(record.MAGIC)] ^= 1
    path.write_bytes(data)
    assert read(path).damage == [(0, len(data))]
    for _ in range(2):
        path.write_bytes(data)
        with Journal(path) as journal:
            assert not journal.recovered.is_whole
        assert path.with_name("calls.journal.damaged").read_bytes() == data
        assert read(path).is_whole


# ---- Threads.


def test_threads_write_one_journal_and_lose_nothing(path):
    kept: list[list[str]] = [[] for _ in range(4)]

    def work(which: int) -> None:
        for number in range(300):
            serial = journal.open_call(f"{which}/{number}", payload=bytes(50))
            if number % 10 == 0:
                journal.flush()
            if number % 7:
                journal.close_call(serial)
            else:
                kept[which].append(f"{which}/{number}")

    with Journal(path, sync="none", bytes_max=65536) as journal:
        threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND_S)
        assert len(journal) == sum(map(len, kept))
    recovery = read(path)
    assert recovery.is_whole
    assert sorted(ids(recovery)) == sorted(id for part in kept for id in part)


def test_of_threads_that_flush_at_one_time_one_waits_for_the_disk_for_all(path, monkeypatch):
    journal = Journal(path)
    entered, go, waits = threading.Event(), threading.Event(), []

    def fsync(number: int) -> None:
        waits.append(number)
        entered.set()
        assert go.wait(BOUND_S)

    monkeypatch.setattr(os, "fsync", fsync)

    def call(number: int) -> None:
        journal.open_call(number)
        ready.release()
        journal.flush()

    ready = threading.Semaphore(0)
    threads = [threading.Thread(target=call, args=(number,)) for number in range(5)]
    threads[0].start()
    assert entered.wait(BOUND_S)
    for thread in threads[1:]:
        thread.start()
    for _ in threads:
        assert ready.acquire(timeout=BOUND_S)
    go.set()
    for thread in threads:
        thread.join(BOUND_S)
    assert len(waits) == 2
    assert sorted(ids(read(path))) == [0, 1, 2, 3, 4]
    journal.close()


def test_a_destructor_that_ends_a_call_while_the_journal_is_written_does_no_harm(path, monkeypatch):
    with Journal(path, sync="none") as journal:
        first, second = journal.open_call("a"), journal.open_call("b", payload=bytes(room.BATCH_BYTES - 60))
        write_all = room._write_all

        def write_and_end(file: Any, data: bytes) -> None:
            monkeypatch.undo()
            journal.close_call(first)
            journal.flush()
            write_all(file, data)

        monkeypatch.setattr(room, "_write_all", write_and_end)
        journal.flush()
        assert ids(read(path)) == ["a", "b"]
        journal.close_call(second)
        journal.flush()
        assert ids(read(path)) == []


# ---- Beside a correlation.


def test_what_waits_for_an_answer_is_written_down_until_it_is_taken(path):
    with Journal(path) as journal:
        calls = JournaledCorrelation(journal, count_max=8)
        calls.put("a", "pending a", method="tools/call", payload=b"{}", idempotent=True)
        calls.put(1, "pending 1", 50)
        number = calls.put_next("pending next", method="ping")
        assert (number, calls.next_id(), calls.count_max) == (2, 3, 8)
        assert ("a" in calls, "b" in calls, len(calls)) == (True, False, 3)
        calls.flush()
        assert [(call.id, call.method, call.idempotent) for call in read(path)] == [
            ("a", "tools/call", True),
            (1, "", False),
            (2, "ping", False),
        ]
        assert calls.take("a") == "pending a"
        assert calls.take("a") is None
        assert calls.take_token(b"2") == "pending next"
        assert (calls.next_deadline_ns() or 0) <= 50
        assert calls.expire(10**9) == [(1, "pending 1")]
        calls.check()
        calls.flush()
        assert ids(read(path)) == []


def test_all_that_is_drained_or_taken_together_has_ended(path):
    with Journal(path) as journal:
        calls = JournaledCorrelation(journal)
        for number in range(6):
            calls.put(number, f"pending {number}")
        assert calls.take_many([1, 9, 1]) == ["pending 1", None, None]
        assert calls.drain() == [(number, f"pending {number}") for number in (0, 2, 3, 4, 5)]
        assert len(journal) == 0


def test_what_cannot_be_put_is_not_written_down_as_open(path):
    with Journal(path) as journal:
        calls = JournaledCorrelation(journal, count_max=1)
        calls.put("a", 1)
        with pytest.raises(KeyError):
            calls.put("a", 2)
        with pytest.raises(LimitError):
            calls.put("b", 2)
        with pytest.raises(LimitError):
            calls.put("c", 2, method="x" * 65536)
        assert (len(journal), len(calls)) == (1, 1)
    with pytest.raises(JournalError):
        calls.put("d", 3)
    assert calls.take("a") == 1, "an answer is not lost with the journal"
