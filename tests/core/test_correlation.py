"""Correlation: ids, deadlines, the loss of a connection."""

from __future__ import annotations

import enum
import gc
import importlib
import json
import random
import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from erlmcp.errors import LimitError

Impl = Callable[[str], ModuleType]


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("correlation").Correlation


@pytest.fixture
def waiting(new: Any) -> Any:
    return new()


def test_what_was_put_is_taken_once(waiting: Any) -> None:
    waiting.put("a", "first")
    waiting.put(1, "second")
    assert len(waiting) == 2
    assert "a" in waiting
    assert waiting.take("a") == "first"
    assert waiting.take("a") is None
    assert waiting.take(1) == "second"
    assert len(waiting) == 0
    waiting.check()


def test_an_int_and_its_digits_are_two_ids(waiting: Any) -> None:
    waiting.put(1, "int")
    waiting.put("1", "str")
    assert waiting.take_token(b"1") == "int"
    assert waiting.take_token(b'"1"') == "str"
    number = 0x3837363534333231
    waiting.put("12345678", "str")
    assert waiting.take(number) is None
    waiting.put(number, "int")
    assert waiting.take("12345678") == "str"
    assert waiting.take(number) == "int"


@pytest.mark.parametrize("id", [True, False, None, 1.0, b"1", ["1"]])
def test_other_types_are_no_ids(waiting: Any, id: Any) -> None:
    waiting.put(1, "one")
    waiting.put(0, "zero")
    with pytest.raises(TypeError, match="an id is a str or an int"):
        waiting.put(id, "x")
    assert waiting.take(id) is None
    assert id not in waiting
    assert len(waiting) == 2


def test_ints_of_64_bits_are_ids_and_longer_ones_are_not(waiting: Any) -> None:
    for number in (2**63 - 1, -(2**63), 0, -1):
        waiting.put(number, number)
        assert waiting.take_token(str(number).encode()) == number
    for number in (2**63, -(2**63) - 1, 10**40):
        with pytest.raises(OverflowError):
            waiting.put(number, "x")
        assert waiting.take(number) is None
        assert waiting.take_token(str(number).encode()) is None
        assert number not in waiting
    with pytest.raises(UnicodeEncodeError):
        waiting.put("\ud800", "x")
    assert waiting.take("\ud800") is None
    waiting.check()


def test_ids_of_a_subclass_are_what_they_spell(waiting: Any) -> None:
    class Name(str):
        __slots__ = ()

    class Number(enum.IntEnum):
        FIVE = 5

    waiting.put(Name("a"), 1)
    waiting.put(Number.FIVE, 2)
    assert [(type(id), id, pending) for id, pending in waiting.drain()] == [(str, "a", 1), (int, 5, 2)]


def test_an_id_that_waits_cannot_be_put_again(waiting: Any) -> None:
    waiting.put("a", 1)
    with pytest.raises(KeyError, match="a"):
        waiting.put("a", 2, 5)
    assert waiting.expire(10) == []
    assert waiting.take("a") == 1
    waiting.put("a", 2)
    assert waiting.take("a") == 2


def test_next_id_counts_and_passes_over_what_waits(waiting: Any) -> None:
    assert [waiting.next_id() for _ in range(3)] == [1, 2, 3]
    waiting.put(4, "x")
    waiting.put(5, "x")
    assert waiting.next_id() == 6
    waiting.take(4)
    waiting.drain()
    assert waiting.next_id() == 7


def test_deadlines_expire_in_order_and_exactly(waiting: Any) -> None:
    base = 10**15
    for id, deadline in (("late", base + 2), (1, base + 1), ("never", None), ("tie", base + 1), ("far", base + 10**12)):
        waiting.put(id, f"{id}!", deadline)
    assert waiting.next_deadline_ns() <= base + 1
    assert waiting.expire(base) == []
    assert waiting.expire(base + 1) == [(1, "1!"), ("tie", "tie!")]
    assert waiting.take("late") == "late!"
    assert waiting.expire(base + 10**12 - 1) == []
    assert waiting.expire(base + 10**12) == [("far", "far!")]
    assert waiting.next_deadline_ns() is None
    assert len(waiting) == 1
    waiting.put("past", 1, 5)
    assert waiting.expire(0) == [("past", 1)]
    with pytest.raises(ValueError):
        waiting.put("x", 1, -1)
    for act in (lambda: waiting.put("x", 1, 2**63), lambda: waiting.expire(2**63), lambda: waiting.put_next(1, 2**64)):
        with pytest.raises(OverflowError):
            act()
    assert len(waiting) == 1
    waiting.check()


def test_put_next_gives_the_id_that_it_took(waiting: Any) -> None:
    waiting.put(2, "in the way")
    assert [waiting.put_next(name) for name in "abc"] == [1, 3, 4]
    assert waiting.put_next("d", 7) == 5
    assert waiting.take(3) == "b"
    assert waiting.expire(7) == [(5, "d")]
    with pytest.raises(ValueError):
        waiting.put_next("e", -1)
    assert waiting.put_next("e") == 6


def test_many_are_put_and_taken_in_one_call(waiting: Any) -> None:
    ids = [*range(100), *map(str, range(100))]
    waiting.put_many(ids, range(200), 9)
    waiting.check()
    assert waiting.take_many([5, "5", "no", None, 5, True, 10**30, 5.0, "\ud800"]) == [5, 105, *[None] * 7]
    assert waiting.take_many(id for id in ids[10:90]) == list(range(10, 90))
    waiting.check()
    assert len(waiting) == 118
    left = [number for number in range(200) if not 10 <= number < 90 and number not in (5, 105)]
    assert waiting.expire(9) == [(ids[number], number) for number in left]
    assert waiting.take_many([]) == []
    waiting.put_many([], [])
    assert len(waiting) == 0


def test_put_many_puts_all_or_none(new: Any) -> None:
    waiting = new(5)
    waiting.put("there", 0)
    for ids, error in (
        ([1, 2, "there"], KeyError),
        ([1, 2, 1], KeyError),
        ([1, "a", True], TypeError),
        ([1, 2**64], OverflowError),
        (["a", "\ud800"], UnicodeEncodeError),
        ([1, 2, 3, 4, 5], LimitError),
    ):
        with pytest.raises(error):
            waiting.put_many(ids, [0] * len(ids))
        waiting.check()
        assert len(waiting) == 1
    with pytest.raises(ValueError, match="2 ids and 3 pendings"):
        waiting.put_many([1, 2], "abc")
    waiting.put_many([1, 2, 3, 4], "abcd")
    assert waiting.take_many([1, 2, 3, 4]) == list("abcd")


@pytest.mark.parametrize("stride", [1, 64, 2**12, 2**32, -(2**20) + 1])
def test_ints_of_every_pattern_are_found(waiting: Any, stride: int) -> None:
    ids = [number * stride for number in range(3000)]
    waiting.put_many(ids, ids)
    waiting.check()
    assert waiting.take_many(ids[::2]) == ids[::2]
    waiting.check()
    assert 2 * stride not in waiting
    assert all(waiting.take(id) == id for id in ids[1::2])
    assert len(waiting) == 0
    waiting.put_many(ids, ids)
    assert waiting.take(ids[-1]) == ids[-1]
    waiting.check()


def test_a_call_that_waits_while_thousands_pass_is_still_found(waiting: Any) -> None:
    slow = [waiting.put_next(f"slow {number}") for number in range(50)]
    for number in range(5000):
        assert waiting.take(waiting.put_next(number)) == number
    waiting.check()
    assert waiting.take_many(slow) == [f"slow {number}" for number in range(50)]


def test_a_lost_connection_gives_all_back_in_the_order_of_put(waiting: Any) -> None:
    for number in range(50):
        waiting.put(number, number, 1000 - number if number % 3 else None)
        waiting.put(str(number), number)
    waiting.take(7)
    expected = [(kind(number), number) for number in range(50) for kind in (int, str) if (kind, number) != (int, 7)]
    assert waiting.drain() == expected
    assert waiting.drain() == []
    assert waiting.expire(10**9) == []
    assert len(waiting) == 0
    waiting.put(0, "again")
    assert waiting.take(0) == "again"
    waiting.check()


def test_count_max_bounds_what_waits(new: Any) -> None:
    waiting = new(2)
    assert waiting.count_max == 2
    waiting.put(1, 1)
    waiting.put("1", 1)
    with pytest.raises(LimitError, match="count_max=2"):
        waiting.put(3, 1, 7)
    waiting.take(1)
    waiting.put(3, 1)
    waiting.check()
    for count_max in (0, -5, 2**31):
        with pytest.raises(ValueError):
            new(count_max)


@pytest.mark.parametrize(
    ("token", "id"),
    [
        (rb'"abc"', "abc"),
        (rb'"\u0061\u0062c"', "abc"),
        (rb'"\"\\\/\b\f\n\r\t"', '"\\/\b\f\n\r\t'),
        (rb'"\u00e9"', "é"),
        (rb'"\u65E5\u672c"', "日本"),
        (rb'"\ud83d\ude00!"', "\U0001f600!"),
        (b'"\\u0061' + b"x" * 600 + b'"', "a" + "x" * 600),
        (b'""', ""),
        (b"-0", 0),
        (b"-12", -12),
    ],
)
def test_a_token_is_the_id_that_it_spells(waiting: Any, token: bytes, id: Any) -> None:
    waiting.put(id, "found")
    assert waiting.take_token(token) == "found"
    assert len(waiting) == 0


def test_a_token_that_spells_no_id_finds_nothing(waiting: Any) -> None:
    for id in (0, 1, -1, "", "a", "1", '"', "\\"):
        waiting.put(id, id)
    tokens = [
        b"",
        b"-",
        b"01",
        b"1.0",
        b"1e0",
        b"+1",
        b" 1",
        b"1 ",
        b"true",
        b"null",
        b'"',
        b'"a',
        b"a",
        b"[1]",
        b"--1",
    ]
    tokens += [rb'"\x"', rb'"\u00"', rb'"\u00g1"', rb'"\ud800"', rb'"\udc00\ud800"', rb'"\ud800\u0061"', b'"\\"']
    assert [waiting.take_token(token) for token in tokens] == [None] * len(tokens)
    assert len(waiting) == 8
    with pytest.raises(TypeError):
        waiting.take_token("1")


@given(text=st.text(max_size=20), ascii_only=st.booleans())
@example(text="\U0010ffff\x7f\x80߿ࠀ￿", ascii_only=True)
def test_every_text_is_found_by_its_json(text: str, ascii_only: bool) -> None:
    for side in ("_core", "_model"):
        waiting = importlib.import_module(f"erlmcp.{side}.correlation").Correlation()
        waiting.put(text, "found")
        assert waiting.take_token(json.dumps(text, ensure_ascii=ascii_only).encode()) == "found"


def test_a_waiting_object_that_refers_back_is_collected(new: Any) -> None:
    class Pending:
        def __init__(self, waiting: Any) -> None:
            self.waiting = waiting

    waiting = new()
    pending = Pending(waiting)
    waiting.put(1, pending, 5)
    waiting.put("1", pending)
    alive = weakref.ref(pending)
    del waiting, pending
    gc.collect()
    assert alive() is None


def test_references_are_given_back(waiting: Any) -> None:
    pending, id = object(), "an id that nobody else has"
    before = sys.getrefcount(pending), sys.getrefcount(id)
    for take in (lambda: waiting.take(id), lambda: waiting.expire(10**6), waiting.drain):
        waiting.put(id, pending, 5)
        waiting.put(10**9, pending, 6)
        take()
        waiting.take_token(json.dumps(id).encode())
        waiting.take(10**9)
    assert (sys.getrefcount(pending), sys.getrefcount(id)) == before


def test_a_waiting_object_that_comes_back_when_it_dies_does_no_harm(waiting: Any) -> None:
    class Echo:
        def __del__(self) -> None:
            waiting.check()
            waiting.put(waiting.next_id(), "from the dead", 3)
            waiting.take("other")

    for id in ("a", "b", 3):
        waiting.put(id, Echo(), 5)
    waiting.put("other", 1)
    waiting.take("a")
    waiting.expire(10)
    waiting.check()
    assert "other" not in waiting
    assert len(waiting.drain()) >= 1
    waiting.check()


def test_whichever_allocation_fails_nothing_is_lost() -> None:
    memory = importlib.import_module("erlmcp._core.memory")
    if not memory.IS_CHECKED:
        pytest.skip("needs ERLMCP_BUILD=checked")
    core = importlib.import_module("erlmcp._core.correlation")
    gc.collect()  # what other tests left behind
    before = memory.live_blocks()
    colliding = [number * 2**20 for number in range(1, 40)]
    failed = 0
    for nth in range(1, 200):
        waiting, held = core.Correlation(), 0
        memory.fail_after(nth)
        acts: list[tuple[Callable[..., Any], Any, int]] = [
            (waiting.put_many, (range(20), range(20)), 20),
            (waiting.put_many, (map(str, range(20)), range(20), 5), 20),
            (waiting.put_many, (colliding, colliding), len(colliding)),
            (waiting.put_next, (1, 7), 1),
        ]
        acts += [(waiting.put, (f"str {number}", number, number if number % 3 else None), 1) for number in range(30)]
        done = 0
        for act, args, count in acts:
            try:
                act(*args)
            except MemoryError:
                failed += 1
            else:
                held += count
                done += 1
            waiting.check()
            assert len(waiting) == held
        memory.fail_never()
        assert len(waiting.expire(6)) + len(waiting.drain()) == held
        is_whole = done == len(acts)
        del waiting, acts, act
        assert memory.live_blocks() == before
        if is_whole:
            break
    assert failed >= 10


def test_memory_is_given_back_when_nothing_waits_any_more() -> None:
    memory = importlib.import_module("erlmcp._core.memory")
    if not memory.IS_CHECKED:
        pytest.skip("needs ERLMCP_BUILD=checked")
    waiting = importlib.import_module("erlmcp._core.correlation").Correlation()
    ids = [*range(5000), *map(str, range(5000))]
    gc.collect()  # what other tests left behind
    before = memory.live_bytes()
    for take in (lambda: waiting.take_many(ids), waiting.drain, lambda: [waiting.take(id) for id in ids]):
        waiting.put_many(ids, ids)
        assert memory.live_bytes() - before > 500_000
        take()
        assert memory.live_bytes() == before
        waiting.check()


def test_threads_that_share_it_take_each_thing_once(new: Any) -> None:
    waiting, taken, each = new(), [], 2000
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait(10)
        for count in range(each):
            id = waiting.put_next((number, count), count)
            waiting.put(f"{number}/{count}", (number, -1 - count))
            if count % 100 == 50:
                taken.extend(pending for _, pending in waiting.expire(count - 20))
            taken.append(waiting.take(id))
            taken.append(waiting.take(f"{number}/{count}"))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
    finally:
        sys.setswitchinterval(interval)
    waiting.check()
    found = [thing for thing in taken if thing is not None]
    assert len(found) == len(set(found)) == 2 * 4 * each
    assert len(waiting) == 0


IDS = st.sampled_from([0, 1, 2, 64, 128, -1, 2**62, "", "0", "1", "a", "é", "x" * 40])


def scan_all(waiting: Any, count: int) -> list[tuple[Any, Any]]:
    cursor, found = waiting.scan(0, count)
    while cursor:
        cursor, more = waiting.scan(cursor, count)
        assert len(more) <= count
        found += more
    return found  # type: ignore[no-any-return]


def test_a_scan_gives_each_that_waits_once(waiting: Any) -> None:
    assert waiting.scan() == (0, [])
    wanted: dict[Any, int] = {}
    for number in range(300):
        id = f"text {number}" if number % 5 == 0 else number * 1_000_003
        waiting.put(id, number, 10**9 if number % 3 else None)
        wanted[id] = number
    for id in list(wanted)[::7]:
        waiting.take(id)
        del wanted[id]
    for count in (1, 10, 99, 1_000):
        found = scan_all(waiting, count)
        assert len(found) == len(wanted)
        assert dict(found) == wanted


def test_what_waits_throughout_is_scanned_once_whatever_comes_and_goes(waiting: Any) -> None:
    rng = random.Random(3)
    for id in range(5_000):
        waiting.put(id, id)
    cursor, found = waiting.scan(0, 64)
    next_id = 5_000
    while cursor:
        for _ in range(40):
            waiting.take(rng.randrange(next_id))
            waiting.put(next_id, next_id)
            next_id += 1
        cursor, more = waiting.scan(cursor, 64)
        found += more
    seen = [id for id, _pending in found]
    assert len(seen) == len(set(seen))
    assert {id for id in range(5_000) if id in waiting} <= set(seen)


def test_a_cursor_outlives_all_that_waited(waiting: Any) -> None:
    for id in range(3_000):
        waiting.put(id, id)
    cursor, _found = waiting.scan(0, 100)
    waiting.drain()
    waiting.put("new", 1)
    cursor, found = waiting.scan(cursor, 100)
    assert cursor == 0
    assert found in ([], [("new", 1)])
    assert waiting.scan() == (0, [("new", 1)])


def test_a_scan_out_of_range_is_refused(waiting: Any) -> None:
    for cursor, count in ((-1, 1), (0, 0)):
        with pytest.raises(ValueError, match="cursor is 0 or more and count is 1 or more"):
            waiting.scan(cursor, count)


class CorrelationMachine(RuleBasedStateMachine):
    """Core and model in step: the same answers, the same errors."""

    @initialize(count_max=st.sampled_from([1, 4, 100]), start=st.sampled_from([0, 10**15]))
    def start(self, count_max: int, start: int) -> None:
        rooms = [importlib.import_module(f"erlmcp.{side}.correlation") for side in ("_core", "_model")]
        self.both = [room.Correlation(count_max) for room in rooms]
        self.now = self.latest = start
        self.next = 0

    def same(self, method: str, *args: Any) -> Any:
        answers = []
        for waiting in self.both:
            try:
                answers.append(getattr(waiting, method)(*args))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                answers.append((type(error), getattr(error, "limit", str(error))))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(id=IDS, later=st.none() | st.integers(-50, 50) | st.sampled_from([64, 4096, 2**40, 2**50]))
    def put(self, id: Any, later: int | None) -> None:
        self.next += 1
        self.same("put", id, self.next, None if later is None else max(0, self.now + later))

    @rule()
    def put_next(self) -> None:
        self.next += 1
        self.same("put", self.same("next_id"), self.next)

    @rule(ids=st.lists(IDS | st.integers(0, 300), max_size=9), later=st.none() | st.integers(0, 50))
    def put_many(self, ids: list[Any], later: int | None) -> None:
        self.next += 1
        self.same("put_many", ids, [self.next] * len(ids), None if later is None else self.now + later)

    @rule(ids=st.lists(IDS | st.integers(0, 300), max_size=9))
    def take_many(self, ids: list[Any]) -> None:
        self.same("take_many", ids)

    @rule(later=st.none() | st.integers(0, 50))
    def put_with_an_id(self, later: int | None) -> None:
        self.next += 1
        self.same("put_next", self.next, None if later is None else self.now + later)

    @rule(id=IDS)
    def take(self, id: Any) -> None:
        self.same("take", id)

    @rule(id=IDS)
    def take_token(self, id: Any) -> None:
        self.same("take_token", json.dumps(id).encode())

    @rule(step=st.integers(-5, 60) | st.sampled_from([64, 4096, 2**40, 2**50]))
    def expire(self, step: int) -> None:
        self.now = max(0, self.now + step)
        self.latest = max(self.latest, self.now)
        self.same("expire", self.now)

    @rule()
    def drain(self) -> None:
        self.same("drain")

    @rule(id=IDS)
    def contains(self, id: Any) -> None:
        self.same("__contains__", id)

    @invariant()
    def is_whole(self) -> None:
        if not hasattr(self, "both"):
            return
        core, model = self.both
        core.check()
        assert len(core) == len(model)
        assert sorted(scan_all(core, 7), key=repr) == sorted(scan_all(model, 7), key=repr)
        bound, exact = core.next_deadline_ns(), model.next_deadline_ns()
        assert (bound is None) == (exact is None)
        assert bound is None or bound <= max(exact, self.latest)


TestCorrelationMachine = CorrelationMachine.TestCase


@pytest.mark.deep
class TestCorrelationMachineDeep(CorrelationMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=250, stateful_step_count=100, deadline=None)
