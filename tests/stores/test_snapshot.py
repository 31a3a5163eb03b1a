"""Sessions in a file: what comes back, what is refused, and that a failure leaves the old file."""

from __future__ import annotations

import os
import pickle
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erlmcp import core
from erlmcp.errors import ConfigurationError, JsonError, LimitError, SnapshotError
from erlmcp.stores import snapshot

SECOND = 1_000_000_000


@pytest.fixture(params=["core", "model"])
def new(request: pytest.FixtureRequest) -> Callable[..., Any]:
    module: ModuleType = __import__(f"erlmcp._{request.param}.sessions", fromlist=["SessionStore"])
    store: Callable[..., Any] = module.SessionStore
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


def filled(new: Callable[..., Any], count: int = 5, **settings: Any) -> Any:
    """``count`` sessions, born a second apart; the even ones were touched five seconds later."""
    store = new(10_000, now_ns=1000 * SECOND, **settings)
    for number in range(count):
        store.put(f"id-{number}", {"number": number, "text": "é" * number}, now_ns=store.now_ns + SECOND)
    store.now_ns += 5 * SECOND
    store.get_many([f"id-{number}" for number in range(0, count, 2)])
    return store


def dumped(store: Any) -> list[Any]:
    cursor, items = store.dump()
    while cursor:
        cursor, more = store.dump(cursor)
        items += more
    return sorted(items, key=lambda item: str(item[0]))


def leftovers(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path.parent) if name != path.name)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1234])
def test_what_was_saved_comes_back(new: Any, path: Path, count: int) -> None:
    store = filled(new, count)
    before = dumped(store)
    assert snapshot.save(store, path) == count
    assert dumped(store) == before
    again = new(10_000, now_ns=store.now_ns)
    assert snapshot.restore(again, str(path), down_ns=0) == count == len(again)
    assert dumped(again) == before
    again.check()
    assert leftovers(path) == []


def test_ages_go_on_over_a_restart_with_another_clock(new: Any, path: Path) -> None:
    store = filled(new, 4, idle_ns=60 * SECOND, age_ns=100 * SECOND)
    deadlines = [store.next_deadline_ns() - store.now_ns]
    snapshot.save(store, path, now_ns=store.now_ns + 2 * SECOND)
    again = new(idle_ns=60 * SECOND, age_ns=100 * SECOND)
    assert snapshot.restore(again, path, now_ns=3, down_ns=10 * SECOND) == 4
    assert again.now_ns == 3
    assert again.next_deadline_ns() - 3 == deadlines[0] - 12 * SECOND
    assert [id for id, _ in again.drain()] == ["id-1", "id-3", "id-0", "id-2"]


def test_the_time_spent_down_counts_by_the_wall_clock(new: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = 10**18
    monkeypatch.setattr("time.time_ns", lambda: wall)
    store = filled(new, 3, idle_ns=60 * SECOND)
    snapshot.save(store, path)
    wall += 57 * SECOND
    again = new(idle_ns=60 * SECOND)
    assert snapshot.restore(again, path) == 3
    assert [id for id, _ in again.expire()] == ["id-1"]
    wall -= 1000 * SECOND  # somebody set the clock back
    again = new(idle_ns=60 * SECOND)
    assert snapshot.restore(again, path) == 3
    assert again.expire() == []


def test_those_that_expired_are_handed_over_after_the_restore(new: Any, path: Path) -> None:
    store = filled(new, 3, idle_ns=60 * SECOND)
    snapshot.save(store, path)
    again = new(idle_ns=60 * SECOND)
    assert snapshot.restore(again, path, down_ns=3600 * SECOND) == 3
    assert "id-0" not in again
    assert [id for id, _ in again.expire()] == ["id-1", "id-0", "id-2"]


def test_owners_come_back_with_their_type(new: Any, path: Path) -> None:
    store = new()
    owners = [None, "", "one", "é", b"", b"\0\xff", 0, -1, 10**30]
    for number, owner in enumerate(owners):
        store.put(f"{number}", number, owner)
    snapshot.save(store, path)
    again = new()
    snapshot.restore(again, path)
    assert [item[2] for item in dumped(again)] == owners
    assert [type(item[2]) for item in dumped(again)] == [type(owner) for owner in owners]
    assert again.owner_count(b"\0\xff") == again.owner_count(10**30) == 1
    store.put("other", 1, ("a", 1))
    with pytest.raises(TypeError, match="None or a str, bytes or int, not tuple"):
        snapshot.save(store, path)
    assert snapshot.restore(new(), path) == len(owners)


def test_another_encoding_can_be_used(new: Any, path: Path) -> None:
    store = new()
    store.put("", {1, 2})
    snapshot.save(store, path, pickle.dumps)
    again = new()
    snapshot.restore(again, path, pickle.loads)
    assert again.peek("") == {1, 2}
    with pytest.raises(TypeError, match="encode gives bytes, not str"):
        snapshot.save(store, path, str)  # type: ignore[arg-type]


def test_the_file_is_for_its_owner_alone(new: Any, path: Path) -> None:
    path.write_bytes(b"old")
    path.chmod(0o644)
    mask = os.umask(0)
    try:
        snapshot.save(filled(new), path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_restore_wants_an_empty_store_with_places_enough(new: Any, path: Path) -> None:
    snapshot.save(filled(new, 5), path)
    store = new()
    store.put("a", 1)
    with pytest.raises(ConfigurationError, match="empty"):
        snapshot.restore(store, path)
    assert store.pop("a") == 1
    with pytest.raises(LimitError, match="count_max=4"):
        snapshot.restore(store := new(4), path)
    with pytest.raises(ValueError, match="down_ns"):
        snapshot.restore(store, path, down_ns=-1)
    with pytest.raises(FileNotFoundError):
        snapshot.restore(store, path.parent / "absent")
    assert len(store) == 0
    for number in range(3):
        store.put(f"{number}", number, "one")
    snapshot.save(store, path)
    with pytest.raises(LimitError, match="owner_count_max=2"):
        snapshot.restore(store := new(4, owner_count_max=2), path)
    assert len(store) == store.owner_count("one") == 0


def test_a_record_that_cannot_be_read_empties_the_store_again(new: Any, path: Path) -> None:
    store = new()
    for number in range(300):
        store.put(f"{number}", number)
    snapshot.save(store, path, lambda number: b"x" * 4000 if number < 299 else b"y")
    again = new()

    def decode(data: bytes) -> bytes:
        assert not again or len(again) > 50, "blocks come one after the other"
        if data == b"y":
            raise JsonError("no such thing")
        return data

    with pytest.raises(JsonError):
        snapshot.restore(again, path, decode)
    assert len(again) == 0
    again.check()


SMALL = [("", None, 0), ("a", "owner", 1), ("x" * 40, 7, [1])]


def small(path: Path) -> bytes:
    store = core.SessionStore(now_ns=50)
    for id, owner, record in SMALL:
        store.put(id, record, owner)
    assert snapshot.save(store, path) == len(SMALL)
    return path.read_bytes()


def refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    store = core.SessionStore()
    with pytest.raises(SnapshotError):
        snapshot.restore(store, path)
    assert len(store) == 0
    assert path.read_bytes() == data


def test_every_changed_byte_is_noticed(path: Path) -> None:
    data = small(path)
    for at in range(len(data)):
        refused(path, data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])


def test_every_cut_and_every_addition_is_noticed(path: Path) -> None:
    data = small(path)
    for length in range(len(data)):
        refused(path, data[:length])
    for more in (b"\0", b"x" * 100, data):
        refused(path, data + more)
        refused(path, more[:1] + data)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_a_damaged_file_is_noticed(path: Path, draw: st.DataObject) -> None:
    """Some bytes replaced, left out, put in or exchanged."""
    whole = small(path)
    cut = st.integers(0, len(whole))
    a, b, c, d = sorted(draw.draw(st.tuples(cut, cut, cut, cut)))
    new = draw.draw(st.sampled_from([whole[:a] + draw.draw(st.binary(max_size=50)) + whole[b:]]))
    swapped = whole[:a] + whole[c:d] + whole[b:c] + whole[a:b] + whole[d:]
    for data in (new, swapped):
        if data != whole:
            refused(path, data)


def sealed(body: bytes) -> bytes:
    """A body with the digest that belongs to it: what somebody else's program may write."""
    import hashlib

    return body + hashlib.blake2b(body, digest_size=snapshot.DIGEST_BYTES).digest()


def test_a_well_sealed_file_with_wrong_content_is_refused_too(path: Path) -> None:
    whole = small(path)
    start = snapshot.HEADER.size + snapshot.CRC.size
    head, blocks, end = whole[:start], whole[start : -snapshot.END_BYTES], whole[-snapshot.END_BYTES : -32]
    pack, session = snapshot._pack_block, snapshot.SESSION.pack
    path.write_bytes(sealed(head + blocks + end))
    assert snapshot.restore(core.SessionStore(), path) == len(SMALL)

    def block(*sessions: bytes) -> bytes:
        return b"".join(pack(list(sessions)))

    total = snapshot.TOTAL.pack
    good = session(1, 0, 1, 0, 5, 9) + b"a1"
    finish = b"".join(pack([]))
    bad = [
        head + blocks + blocks + end,  # ids twice
        head + blocks + finish + total(4),
        head + block(good + b"x") + finish + total(1),
        head + block(good[:-1]) + finish + total(1),
        head + block(b"", good) + finish + total(1),
        head + block(session(1, 0, 1, 9, 5, 9) + b"a1") + finish + total(1),
        head + block(session(1, 1, 1, 3, 5, 9) + b"ax1") + finish + total(1),
        head + block(session(1, 1, 1, 1, 5, 9) + b"a\xff1") + finish + total(1),
        head + block(session(1, 0, 1, 0, 5, 9) + b"\xff1") + finish + total(1),
        head + block(session(1, 0, 1, 0, 10, 9) + b"a1") + finish + total(1),
        head + block(session(1, 0, 1, 0, 5, 51) + b"a1") + finish + total(1),
        head + block(session(1, 0, 1, 0, -(2**63), 9) + b"a1") + finish + total(1),
        head + finish + blocks + end,
        head + snapshot.BLOCK.pack(2**32 - 1, 1) + bytes(4) + blocks + end,
        head + block(good) + end[:8] + b"\1" + end[9:],
        head + bytes(len(end)),
        head + blocks + b"\1" + end[1:],
    ]
    for body in bad:
        refused(path, sealed(body))
    for version in (0, 2, 65535):
        other = snapshot.HEADER.pack(snapshot.MAGIC, version, 0, 1, 1)
        refused(path, sealed(other + snapshot.CRC.pack(snapshot.zlib.crc32(other)) + blocks + end))


def test_the_error_says_what_is_wrong(path: Path) -> None:
    whole = small(path)
    for data, words in [
        (b"", "no snapshot"),
        (b"{}" * 100, "no snapshot"),
        (whole[:20], "was cut"),
        (whole[:10] + b"x" + whole[11:], "header of the snapshot was altered"),
        (whole[:60] + b"x" + whole[61:], "digest"),
        (whole[:-1], "digest"),
    ]:
        path.write_bytes(data)
        with pytest.raises(SnapshotError, match=words):
            snapshot.restore(core.SessionStore(), path)


class Crash(BaseException):
    pass


def steps(monkeypatch: pytest.MonkeyPatch, stop_at: int) -> list[str]:
    """Lets the ``stop_at``-th call of what ``save`` asks of the system crash; the list gathers their names."""
    seen: list[str] = []

    def watch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            if len(seen) == stop_at:
                raise Crash(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, step)

    watch(snapshot.tempfile, "mkstemp")
    watch(snapshot, "_write_all")
    watch(os, "fsync")
    watch(os, "replace")
    return seen


def test_a_crash_between_any_two_steps_leaves_a_whole_file(path: Path) -> None:
    old, new = core.SessionStore(), core.SessionStore()
    old.put("old", 1)
    new.put("new", 2)
    for stop_at in range(1, 20):
        snapshot.save(old, path)
        with pytest.MonkeyPatch.context() as monkeypatch:
            seen = steps(monkeypatch, stop_at)
            try:
                snapshot.save(new, path)
            except Crash:
                pass
        again = core.SessionStore()
        assert snapshot.restore(again, path) == 1
        is_replaced = "replace" in seen[: stop_at - 1]
        assert ("new" in again) is is_replaced
        assert leftovers(path) == []
        if len(seen) < stop_at:
            break
    assert seen == ["mkstemp", *["_write_all"] * 4, "fsync", "replace", "fsync"]


def test_a_record_that_cannot_be_written_leaves_the_old_file(new: Any, path: Path) -> None:
    store = filled(new, 3)
    snapshot.save(store, path)
    data = path.read_bytes()
    store.put("bad", object())
    with pytest.raises(JsonError):
        snapshot.save(store, path)
    assert path.read_bytes() == data
    assert leftovers(path) == []
    with pytest.raises(FileNotFoundError):
        snapshot.save(store, path.parent / "absent" / "file")


def test_short_writes_are_finished(new: Any, path: Path) -> None:
    class Slow:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: memoryview) -> int:
            self.data += bytes(data[:3])
            return len(data[:3])

    slow = Slow()
    snapshot._write_all(slow, b"0123456789")  # type: ignore[arg-type]
    assert slow.data == b"0123456789"


def test_the_memory_does_not_grow_with_the_number_of_sessions(path: Path) -> None:
    peaks = []
    for count in (2_000, 20_000):
        store = core.SessionStore(count)
        for number in range(count):
            store.put(f"{number:032d}", number)
        again = core.SessionStore(count)
        tracemalloc.start()
        snapshot.save(store, path, lambda _number: b"x" * 500)
        saving = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        snapshot.restore(again, path, len, down_ns=0)
        grown = tracemalloc.get_traced_memory()[0] - held
        peaks.append((saving, tracemalloc.get_traced_memory()[1] - held - grown))
        tracemalloc.stop()
        assert len(again) == count
    assert path.stat().st_size > 10_000_000
    for few, many in zip(*peaks, strict=True):
        assert many < few + 1_000_000 < 5_000_000
