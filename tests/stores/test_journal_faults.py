"""``erlmcp.stores.journal``: whatever a crash, a disk or somebody else did to the file, nothing is made up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmcp.errors import JournalError
from erlmcp.stores import record
from erlmcp.stores.journal import InFlight, Journal, Recovery, read

BOUND_S = 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.journal"


def ids(found: Any) -> list[str | int]:
    return [call.id for call in found]


def records_of(data: bytes) -> list[tuple[int, int]]:
    """(offset, bytes) of each record of a whole file."""
    mark = data[len(record.MAGIC) : len(record.MAGIC) + record.MARK_BYTES]
    found, at = [], record.HEADER_BYTES
    while at < len(data):
        body = record.body_at(data, at, mark)
        assert body is not None
        found.append((at, record.MARK_BYTES + record.FRAME.size + len(body)))
        at += found[-1][1]
    return found


# ---- What a crash, or a disk, did to the file.

texts = st.text(st.characters(codec="utf-8"), max_size=8)
opens = st.tuples(st.one_of(st.integers(-(2**63), 2**63 - 1), texts), texts, st.booleans(), st.binary(max_size=40))
# An int closes one of the open calls.
operations = st.lists(st.one_of(opens, st.integers(0, 5)), min_size=1, max_size=12)


def written(path: Path, steps: list[Any]) -> tuple[bytes, list[tuple[int, int]], list[InFlight | int]]:
    """The bytes of a journal in which these things happened, its records, and what each says."""
    path.unlink(missing_ok=True)
    said: list[InFlight | int] = []
    with Journal(path, sync="none", clock_ns=lambda: 5) as journal:
        is_open: list[int] = []
        for step in steps:
            if not isinstance(step, int):
                id, method, idempotent, payload = step
                is_open.append(journal.open_call(id, method, payload, idempotent=idempotent))
                said.append(InFlight(id, method, idempotent, payload, 5, is_open[-1]))
            elif is_open:
                said.append(is_open.pop(step % len(is_open)))
                journal.close_call(said[-1])
    data = path.read_bytes()
    records = records_of(data)
    assert len(records) == len(said)
    return data, records, said


def calls_after(said: list[InFlight | int]) -> list[InFlight]:
    calls: dict[int, InFlight] = {}
    for what in said:
        if isinstance(what, InFlight):
            calls[what.serial] = what
        else:
            calls.pop(what, None)
    return list(calls.values())


@settings(deadline=None)
@given(steps=operations, data=st.data())
def test_a_file_that_was_cut_anywhere_says_what_its_whole_records_say(tmp_path_factory, steps, data):
    path = tmp_path_factory.getbasetemp() / "cut.journal"
    whole, records, said = written(path, steps)
    size = data.draw(st.integers(record.HEADER_BYTES, len(whole)))
    # What a file system may leave after the cut: nothing, or something else than was there.
    tail = bytes([whole[size] ^ 255 if size < len(whole) else 0]) + bytes(50) if data.draw(st.booleans()) else b""
    path.write_bytes(whole[:size] + tail)
    kept = [what for what, (at, length) in zip(said, records, strict=True) if at + length <= size]
    end = max([record.HEADER_BYTES, *(at + length for at, length in records if at + length <= size)])
    recovery = read(path)
    assert recovery == Recovery(calls_after(kept), size + len(tail) - end)
    with Journal(path) as journal:
        assert journal.recovered == recovery
    assert read(path) == Recovery(recovery.calls), "the tail is gone"


@settings(deadline=None)
@given(steps=operations, data=st.data())
def test_a_record_that_was_altered_is_known_as_damaged_and_nothing_is_made_up(tmp_path_factory, steps, data):
    path = tmp_path_factory.getbasetemp() / "altered.journal"
    whole, records, said = written(path, steps)
    if not records:
        return
    number = data.draw(st.integers(0, len(records) - 1))
    at, length = records[number]
    place = at + data.draw(st.integers(0, length - 1))
    altered = bytearray(whole)
    altered[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(altered)
    recovery = read(path)
    is_last = number == len(records) - 1
    assert (recovery.torn_bytes, recovery.damage) == ((length, []) if is_last else (0, [(at, length)]))
    doubtful = set() if is_last else {call.serial for call in calls_after(said[:number])}
    wanted = calls_after(said[:number] + said[number + 1 :])
    assert [(call.serial, call.id, call.payload) for call in recovery] == [
        (call.serial, call.id, call.payload) for call in wanted
    ]
    assert [call.is_certain for call in recovery] == [call.serial not in doubtful for call in wanted]


@settings(deadline=None)
@given(junk=st.binary(max_size=60), steps=operations, data=st.data())
def test_what_was_written_between_records_is_skipped(tmp_path_factory, junk, steps, data):
    path = tmp_path_factory.getbasetemp() / "junk.journal"
    whole, records, said = written(path, steps)
    if not records or not junk:
        return
    at = data.draw(st.sampled_from(records))[0]
    path.write_bytes(whole[:at] + junk + whole[at:])
    recovery = read(path)
    assert [call.serial for call in recovery] == [call.serial for call in calls_after(said)]
    assert recovery.damage == [(at, len(junk))]


@settings(deadline=None)
@given(junk=st.binary(max_size=200))
def test_any_bytes_after_a_good_header_are_read_without_a_crash(tmp_path_factory, junk):
    path = tmp_path_factory.getbasetemp() / "bytes.journal"
    path.write_bytes(record.header(b"MARK") + junk)
    assert read(path) == Recovery(torn_bytes=len(junk))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"X",
        record.CLOSED.pack(b"X", 1),
        b"C123",
        b"O",
        record.OPENED.pack(b"O", 0, 9, 0, 5, 0) + b"1234",
        record.OPENED.pack(b"O", 0, 9, 0, 1, 5) + b"1234",
        record.OPENED.pack(b"O", 0, 9, 0, 1, 0) + b"\xff",
        record.OPENED.pack(b"O", record.INT_ID, 9, 0, 1, 0) + b"x",
    ],
)
def test_a_record_with_a_right_checksum_and_a_wrong_body_is_damage(path, body):
    with Journal(path) as journal:
        journal.open_call("a")
    data = path.read_bytes()
    mark = data[len(record.MAGIC) : len(record.MAGIC) + record.MARK_BYTES]
    good = data[record.HEADER_BYTES :]
    bad = record.frame(mark, body)
    path.write_bytes(data[: record.HEADER_BYTES] + bad + good)
    recovery = read(path)
    assert (ids(recovery), recovery.damage) == (["a"], [(record.HEADER_BYTES, len(bad))])
    path.write_bytes(data + bad)
    assert read(path).torn_bytes == len(bad)


CRASH = """
import os, signal, sys
from erlmcp.stores import journal as room
path, sync, half = sys.argv[1:]
journal = room.Journal(path, sync=sync, bytes_max=65536)
real = room._write_all

def write_half(file, data):
    os.write(file.fileno(), data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

number = 0
while True:
    number += 1
    if half == "half" and number == 50:
        room._write_all = write_half
    serial = journal.open_call(number, "tools/call", bytes(100), idempotent=number % 2 == 0)
    journal.flush()
    print("sent", number, flush=True)
    if number % 3:
        journal.close_call(serial)
        journal.flush()
        print("done", number, flush=True)
"""


@pytest.mark.parametrize("sync", ["none", "batch", "always"])
@pytest.mark.parametrize("half", ["half", "whole"])
def test_a_process_that_is_killed_leaves_what_it_had_in_flight(path, sync, half):
    program = [sys.executable, "-c", CRASH, str(path), sync, half]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = []
        for line in child.stdout:
            if not line.endswith("\n"):
                break  # the kill came in the middle of it
            said.append(line.split())
            if half == "whole" and len(said) == 700:
                child.kill()
        assert child.wait(BOUND_S) == -signal.SIGKILL
    sent = {int(number) for word, number in said if word == "sent"}
    done = {int(number) for word, number in said if word == "done"}
    recovery = read(path)
    assert recovery.is_whole
    found = set(ids(recovery))
    last = max(sent)
    assert sent - done - {last} <= found, "each that was sent and had not ended"
    assert found - sent <= {last + 1}, "and no other, but for the one that was about to be sent"
    assert found & done == set()
    assert {call.id for call in recovery.repeatable} == {number for number in found if number % 2 == 0}
    if half == "half":
        assert recovery.torn_bytes > 0
        assert last == 49
    else:
        assert len(sent) > 300
    with Journal(path) as journal:
        assert journal.recovered == recovery


# ---- Writes that fail.


class Failing:
    """A journal's file whose next calls fail: ``write`` half way."""

    def __init__(self, file: Any, *names: str) -> None:
        self.file = file
        self.names = list(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def _fail(self, name: str) -> None:
        if name in self.names:
            self.names.remove(name)
            raise OSError(28, "No space left on device")

    def write(self, data: Any) -> int:
        if "write" in self.names and len(data) > 20:
            return self.file.write(data[:20])
        self._fail("write")
        return self.file.write(data)

    def truncate(self, size: int) -> int:
        self._fail("truncate")
        return self.file.truncate(size)


def test_a_write_that_failed_half_way_is_undone_and_can_be_tried_again(path):
    with Journal(path) as journal:
        journal.open_call("before")
        journal.flush()
        journal._file = Failing(journal._file, "write")
        journal.open_call("a", payload=b"x" * 50)
        with pytest.raises(JournalError, match="No space left"):
            journal.flush()
        assert (ids(read(path)), read(path).torn_bytes) == (["before"], 0)
        journal.open_call("b")
        journal.flush()
        assert ids(read(path)) == ["before", "a", "b"]
        assert read(path).is_whole


def test_a_write_that_cannot_be_undone_ends_the_journal(path):
    journal = Journal(path)
    journal._file = Failing(journal._file, "write", "truncate")
    journal.open_call("a", payload=b"x" * 50)
    with pytest.raises(JournalError, match="No space left"):
        journal.flush()
    for call in (journal.flush, lambda: journal.open_call("b")):
        with pytest.raises(JournalError, match="has ended"):
            call()
    journal.close()
    assert read(path).torn_bytes > 0


def test_a_disk_that_does_not_take_what_was_written_ends_the_journal(path, monkeypatch):
    journal = Journal(path)
    serial = journal.open_call("a")

    def fsync(number: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(JournalError, match="Input/output error"):
        journal.flush()
    monkeypatch.undo()
    with pytest.raises(JournalError, match="has ended"):
        journal.flush()
    with pytest.raises(JournalError, match="has ended"):
        journal.close_call(serial)
    assert len(journal) == 0, "it has ended all the same"
    journal.close()


def test_a_call_that_could_not_be_written_down_is_not_open(path):
    with Journal(path, sync="always") as journal:
        journal._file = Failing(journal._file, "write")
        with pytest.raises(JournalError):
            journal.open_call("a", payload=b"x" * 50)
        assert len(journal) == 0
        journal.open_call("b")
    assert ids(read(path)) == ["b"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_anew_goes_on_as_it_was(path, monkeypatch, step):
    with Journal(path, sync="none", bytes_max=4096) as journal:
        journal.open_call("open")
        journal.close_call(journal.open_call("ended", payload=b"x" * 1900))
        journal.close_call(journal.open_call("ended", payload=b"x" * 1900))
        journal.close_call(journal.open_call("ended", payload=b"x" * 1900))

        def fail(*_: Any) -> None:
            if len(journal) == 1:
                journal.open_call("meanwhile")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, step, fail)
        with pytest.raises(JournalError, match="No space left"):
            journal.flush()
        assert ids(read(path)) == ["open"]
        monkeypatch.undo()
        journal.flush()
        assert ids(read(path)) == ["open", "meanwhile"]
        assert path.stat().st_size < 200
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Journal(tmp_path / "none" / "calls.journal")
