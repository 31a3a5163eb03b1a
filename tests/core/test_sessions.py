"""The session store: touch, expiry, eviction, quotas."""

from __future__ import annotations

import gc
import importlib
import sys
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from erlmcp.errors import LimitError

Impl = Callable[[str], ModuleType]


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("sessions").SessionStore


def scan_all(store: Any, count: int, verb: str = "scan") -> list[Any]:
    cursor, found = getattr(store, verb)(0, count)
    while cursor:
        cursor, more = getattr(store, verb)(cursor, count)
        assert 0 < len(more) <= count
        found += more
    return list(found)


@pytest.mark.parametrize("id", ["", "a", "é", "日本語", "a\0b", "x" * 300])
def test_a_record_is_found_by_an_equal_id(new: Any, id: str) -> None:
    store = new()
    assert list(store.put(id, "record")) == []
    equal = "".join([id[:1], id[1:]])
    assert store[equal] == store.get(equal) == store.peek(equal) == "record"
    assert store.get_many([equal, "absent"], 7) == store.get_many((equal, "absent"), 7) == ["record", 7]
    assert equal in store
    assert len(store) == 1
    assert store.pop(equal) == "record"
    assert store.pop(equal, 7) == 7
    assert equal not in store
    store.check()


def test_ids_are_compared_in_full(new: Any) -> None:
    store = new(1000)
    ids = ["s" * length + last for length in range(80) for last in "xy"]
    for number, id in enumerate(ids):
        store.put(id, number)
    assert store.get_many(ids) == list(range(len(ids)))
    assert store.get("s" * 80 + "x") is None


def test_what_is_not_there_is_a_key_error_a_default_or_false(new: Any) -> None:
    store = new()
    for id in ("absent", "\ud800"):
        assert id not in store
        assert store.get(id) is store.peek(id) is store.pop(id) is None
        assert store.get(id, 7) == store.peek(id, 7) == store.pop(id, 7) == 7
        with pytest.raises(KeyError):
            store[id]
    with pytest.raises(UnicodeEncodeError):
        store.put("\ud800", 1, "owner")
    assert store.get_many([]) == []
    assert store.get_many(["\ud800", "a"]) == [None, None]
    assert store.owner_count("owner") == 0


@pytest.mark.parametrize("id", [None, 1, b"a", ("a",)])
def test_other_types_are_no_ids(new: Any, id: Any) -> None:
    store = new()
    assert id not in store
    for use in (store.get, store.peek, store.pop, store.__getitem__, lambda id: store.put(id, 1, "owner")):
        with pytest.raises(TypeError, match="an id is a str"):
            use(id)
    with pytest.raises(TypeError):
        store.get_many([id])
    with pytest.raises(TypeError):
        store.get_many("abc")
    with pytest.raises(TypeError):
        store.put("a", 1, [])
    assert store.owner_count("owner") == len(store) == 0
    store.check()


def test_settings_are_checked_and_can_be_read(new: Any) -> None:
    store = new(5, idle_ns=6, age_ns=7, owner_count_max=8, now_ns=9)
    assert (store.count_max, store.idle_ns, store.age_ns, store.owner_count_max, store.now_ns) == (5, 6, 7, 8, 9)
    store = new(idle_ns=0)
    assert (store.idle_ns, store.age_ns, store.owner_count_max, store.now_ns) == (0, 0, 0, 0)
    for count_max in (0, -1, 2**31):
        with pytest.raises(ValueError, match="count_max"):
            new(count_max)
    for name in ("idle_ns", "age_ns", "owner_count_max", "now_ns"):
        with pytest.raises(ValueError, match=name):
            new(**{name: -1})


def test_the_clock_does_not_go_back(new: Any) -> None:
    store = new(now_ns=100)
    store.now_ns = 50
    assert store.now_ns == 100
    store.expire(70)
    store.put("a", 1, now_ns=80)
    assert store.now_ns == 100
    store.put("a", 1, None, 120)
    assert store.now_ns == 120
    for bad in (lambda: setattr(store, "now_ns", -1), lambda: store.expire(-1), lambda: store.put("b", 1, now_ns=-1)):
        with pytest.raises(ValueError, match="now_ns"):
            bad()
    assert len(store) == 1


def test_a_record_expires_exactly_when_it_was_idle_for_idle_ns(new: Any) -> None:
    store = new(idle_ns=10, now_ns=10**15)
    store.put("a", 1)
    store.put("b", 2)
    start = 10**15
    assert store.next_deadline_ns() == start + 10
    store.now_ns = start + 9
    assert store["a"] == 1
    assert store.peek("b") == 2
    assert store.expire() == []
    assert store.next_deadline_ns() == start + 10
    store.now_ns = start + 10
    assert "b" not in store
    assert store.get("b") is store.peek("b") is store.pop("b") is None
    assert store.get_many(["a", "b"]) == [1, None]
    assert len(store) == 2
    assert store.expire() == [("b", 2)]
    assert store.next_deadline_ns() == start + 20
    assert store.expire(start + 20) == [("a", 1)]
    assert store.next_deadline_ns() is None


def test_age_ends_a_record_however_much_it_is_used(new: Any) -> None:
    store = new(idle_ns=10, age_ns=25)
    store.put("a", 1)
    store.put("b", 2)
    for now in range(0, 25, 5):
        store.now_ns = now
        assert store["a"] == 1
    store.put("a", 3)
    assert store.expire(24) == [("b", 2)]
    assert store.next_deadline_ns() == 25
    store.now_ns = 25
    assert store.get("a") is None
    assert store.expire() == [("a", 3)]


def test_without_idle_and_age_nothing_expires(new: Any) -> None:
    store = new(idle_ns=0)
    store.put("a", 1)
    assert store.next_deadline_ns() is None
    assert store.expire(2**63 - 1) == []
    assert store["a"] == 1


def test_expiry_gives_the_longest_idle_first_and_then_the_oldest(new: Any) -> None:
    store = new(idle_ns=100, age_ns=150)
    for number, id in enumerate("abcdef"):
        store.put(id, number, now_ns=number)
    for now, id in ((60, "d"), (61, "a"), (62, "c")):
        store.now_ns = now
        store.get(id)
    assert [id for id, _ in store.expire(155)] == ["b", "e", "f", "a", "c", "d"]


def test_a_full_store_gives_back_the_longest_idle(new: Any) -> None:
    store = new(3)
    for now, id in enumerate("abc"):
        assert list(store.put(id, id.upper(), now_ns=now)) == []
    store.now_ns = 10
    assert store["a"] == "A"
    assert list(store.put("d", "D")) == [("b", "B")]
    assert list(store.put("c", "C2")) == []
    assert list(store.put("e", "E", now_ns=11)) == [("a", "A")]
    assert [id for id, _ in store.drain()] == ["c", "d", "e"]
    store.check()


def test_of_those_touched_at_one_time_the_one_born_first_is_the_longest_idle(new: Any) -> None:
    store = new(2)
    store.put("a", 1)
    store.put("b", 2)
    store.get("a")
    assert list(store.put("c", 3)) == [("a", 1)]
    store.now_ns = 1
    store.get_many(["c", "b", "c"])
    assert list(store.put("d", 4)) == [("b", 2)]
    store.put("c", 5)
    assert store.drain() == [("c", 5), ("d", 4)]


def test_a_touch_starts_the_idle_time_anew(new: Any) -> None:
    store = new(idle_ns=10, age_ns=25)
    store.put("a", 1)
    assert store.touch("b") is store.touch("\ud800") is False
    with pytest.raises(TypeError, match="an id is a str"):
        store.touch(b"a")
    for now in (9, 18, 24):
        store.now_ns = now
        assert store.touch("a") is True
    store.now_ns = 25
    assert store.touch("a") is False
    assert store.expire() == [("a", 1)]


def test_an_expired_record_that_is_put_again_is_handed_over(new: Any) -> None:
    store = new(2, idle_ns=5, age_ns=100)
    store.put("a", 1, "owner")
    store.put("b", 2)
    store.now_ns = 7
    assert list(store.put("a", 3)) == [("a", 1)]
    assert store.owner_count("owner") == 0
    assert store["a"] == 3
    assert list(store.put("c", 4)) == [("b", 2)]
    store.now_ns = 11
    store.get("a")
    assert store.next_deadline_ns() == 12
    assert len(store) == 2
    store.check()


def test_an_owner_has_at_most_its_quota(new: Any) -> None:
    store = new(100, owner_count_max=2, idle_ns=10)
    store.put("a", 1, "one")
    store.put("b", 2, "one")
    store.put("c", 3, "two")
    with pytest.raises(LimitError, match="owner_count_max=2"):
        store.put("d", 4, "one")
    with pytest.raises(LimitError):
        store.put("c", 5, "one")
    assert store["c"] == 3
    store.put("a", 6, "on" + "e")
    store.put("b", 7, "two")
    assert (store.owner_count("one"), store.owner_count("two"), store.owner_count(None)) == (1, 2, 0)
    store.put("e", 8, "one")
    store.pop("a")
    store.put("f", 9, "one")
    for number in range(10):
        store.put(f"free-{number}", number)
    store.now_ns = 10
    store.put("e", 10, "one")
    with pytest.raises(LimitError):
        store.put("g", 11, "one")
    store.expire()
    assert store.owner_count("one") == 1
    store.put("g", 11, "one")
    store.check()


def test_a_scan_returns_every_live_record_once_and_touches_none(new: Any) -> None:
    store = new(1000, idle_ns=10)
    assert store.scan() == (0, [])
    store.put("old", 0)
    store.now_ns = 5
    for number in range(257):
        store.put(f"id-{number}", number)
    store.now_ns = 10
    for count in (1, 7, 256, 257, 1000):
        assert sorted(number for _, number in scan_all(store, count)) == list(range(257))
    assert len(store.expire(15)) == 258
    for cursor, count in ((-1, 1), (0, 0)):
        with pytest.raises(ValueError):
            store.scan(cursor, count)


@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_scan_misses_nothing_while_records_come_and_go(new: Any, count: int) -> None:
    store = new(1000, idle_ns=0)
    for number in range(200):
        store.put(f"id-{number}", number)
    seen: list[str] = []
    cursor = turn = 0
    while True:
        cursor, part = store.scan(cursor, count)
        seen += [id for id, _ in part]
        if not cursor:
            break
        store.pop(f"id-{turn * 2 + 1}")
        if turn < 100:
            store.put(f"new-{turn}", 0)
            store.pop(f"new-{turn - 3}")
        turn += 1
    held = {f"id-{number}" for number in range(0, 200, 2)}
    assert held <= set(seen)
    assert len([id for id in seen if id in held]) == len(held)


def test_get_many_agrees_with_get_in_a_large_store(new: Any) -> None:
    store = new(10_000)
    ids = [f"0123456789abcdef-{number}" for number in range(10_000)]
    for number, id in enumerate(ids):
        store.put(id, number)
    asked = ["".join([id[:1], id[1:]]) for id in ids[::7]] + ["absent", "\ud800", "é"] + ids[:3]
    store.now_ns = 5
    assert store.get_many(asked, -1) == [store.peek(id, -1) for id in asked]
    store.check()
    with pytest.raises(TypeError):
        store.get_many([*asked, None])
    untouched = {id for id, _ in store.drain()[: 10_000 - len(set(ids[::7] + ids[:3]))]}
    assert untouched == set(ids) - set(ids[::7]) - set(ids[:3])


def test_a_record_that_refers_to_its_store_is_collected(new: Any) -> None:
    class Record:
        def __init__(self, store: Any) -> None:
            self.store = store

    store = new()
    record, owner = Record(store), Record(store)
    store.put("a", record, owner)
    store.put("b", record)
    alive = [weakref.ref(record), weakref.ref(owner)]
    del store, record, owner
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_a_record_that_comes_back_when_it_dies_does_no_harm(new: Any) -> None:
    store = new(4, idle_ns=10)

    class Echo:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        def __del__(self) -> None:
            store.check()
            if self.depth:
                store.put(f"from-{self.depth}", Echo(self.depth - 1), f"owner-{self.depth % 2}")
                store.pop("victim")

    store.put("victim", 1)
    for number in range(6):
        store.put(f"id-{number}", Echo(number), "owner-1")
        store.put("id-0", Echo(2), "owner-0")
        store.check()
    store.expire(20)
    store.check()
    store.drain()
    store.check()


def test_references_are_given_back(new: Any) -> None:
    store = new(2, idle_ns=10)
    record, owner, id = object(), object(), "an id that nobody else has"
    before = [sys.getrefcount(thing) for thing in (record, owner, id)]
    for turn in range(10):
        for end in (lambda: store.pop(id), lambda: store.expire(store.now_ns + 10), store.drain):
            store.put(id, record, owner)
            store.put(id, record, owner)
            store.put(id, record)
            store.put("b", record, owner)
            store.put(f"{turn}", record, owner)
            store.put(id, record, owner)
            store.get(id), store.get_many([id, "absent"], record), store.scan()
            store.now_ns += 10
            store.put(id, record, owner)
            end()
            store.drain()
    assert [sys.getrefcount(thing) for thing in (record, owner, id)] == before


IDS = st.sampled_from(["", "a", "b", "c", "ab", "é", "x" * 40])
OWNERS = st.sampled_from([None, 1, 2, "one"])
TIMES = st.integers(0, 25)


class SessionMachine(RuleBasedStateMachine):
    """Core and model in step: the same answers, the same errors."""

    @initialize(
        count_max=st.sampled_from([1, 3, 100]),
        idle_ns=st.sampled_from([0, 5, 20]),
        age_ns=st.sampled_from([0, 12, 50]),
        owner_count_max=st.sampled_from([0, 1, 2]),
        now_ns=st.sampled_from([0, 10**15]),
    )
    def start(self, count_max: int, **settings: int) -> None:
        rooms = [importlib.import_module(f"erlmcp.{side}.sessions") for side in ("_core", "_model")]
        self.both = [room.SessionStore(count_max, **settings) for room in rooms]
        self.next = 0

    def same(self, method: str, *args: Any, **kwargs: Any) -> Any:
        answers = []
        for store in self.both:
            try:
                answer = getattr(store, method)(*args, **kwargs)
            except (KeyError, TypeError, ValueError) as error:
                answer = type(error), getattr(error, "limit", str(error))
            answers.append(list(answer) if method == "put" else answer)
        assert answers[0] == answers[1]
        return answers[0]

    @rule(id=IDS, owner=OWNERS, later=st.none() | st.integers(-1, 3))
    def put(self, id: str, owner: Any, later: int | None) -> None:
        self.next += 1
        now_ns = None if later is None else max(0, self.both[0].now_ns + later)
        self.same("put", id, self.next, owner, now_ns=now_ns)

    @rule(id=IDS, method=st.sampled_from(["get", "peek", "pop", "touch", "__getitem__", "__contains__"]))
    def use(self, id: str, method: str) -> None:
        self.same(method, id)

    @rule(ids=st.lists(IDS))
    def get_many(self, ids: list[str]) -> None:
        self.same("get_many", ids)

    @rule(
        items=st.lists(st.tuples(IDS, st.integers(0, 9), OWNERS, TIMES, TIMES), max_size=3),
        shift=st.sampled_from([0, 0, -30, 5]),
    )
    def load(self, items: list[Any], shift: int) -> None:
        now = self.both[0].now_ns
        self.same("load", [(id, record, owner, now - a - b, now - b) for id, record, owner, a, b in items], shift)

    @rule(count=st.integers(1, 4))
    def dump(self, count: int) -> None:
        found = [sorted(scan_all(store, count, "dump"), key=lambda item: item[0]) for store in self.both]
        assert found[0] == found[1]

    @rule(step=st.integers(-2, 10))
    def tick(self, step: int) -> None:
        for store in self.both:
            store.now_ns = max(0, store.now_ns + step)

    @rule(step=st.none() | st.integers(0, 10))
    def expire(self, step: int | None) -> None:
        self.same("expire", None if step is None else self.both[0].now_ns + step)

    @rule(owner=OWNERS)
    def owner_count(self, owner: Any) -> None:
        self.same("owner_count", owner)

    @rule(count=st.integers(1, 4))
    def scan(self, count: int) -> None:
        found = [sorted(scan_all(store, count)) for store in self.both]
        assert found[0] == found[1]

    @rule()
    def drain(self) -> None:
        self.same("drain")

    @invariant()
    def is_whole(self) -> None:
        if hasattr(self, "both"):
            for store in self.both:
                store.check()
            self.same("__len__")
            self.same("next_deadline_ns")


TestSessionMachine = SessionMachine.TestCase


@pytest.mark.deep
class TestSessionMachineDeep(SessionMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=250, stateful_step_count=100, deadline=None)
