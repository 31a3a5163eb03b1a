"""The room ``lanes``: three priority lanes with ageing."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from erlmcp._core import lanes as core
from erlmcp._core import memory
from erlmcp._model import lanes as model
from erlmcp.errors import LimitError

CRITICAL, NORMAL, BULK = 0, 1, 2


class Thing:
    pass


def test_the_lanes_have_names(impl):
    room = impl("lanes")
    assert (room.CRITICAL, room.NORMAL, room.BULK) == (0, 1, 2)


def test_the_higher_lane_goes_first_and_each_keeps_its_order(impl):
    lanes = impl("lanes").Lanes(8)
    for number in range(3):
        for lane in (BULK, CRITICAL, NORMAL):
            assert lanes.push((lane, number), lane)
    assert lanes.counts == (3, 3, 3)
    assert len(lanes) == 9
    assert [lanes.pop() for _ in range(10)] == [*((lane, n) for lane in range(3) for n in range(3)), None]
    assert lanes.pop_or("nothing") == "nothing"


def test_none_is_an_item_like_others(impl):
    lanes = impl("lanes").Lanes(2)
    lanes.push(None)
    assert lanes.count(NORMAL) == 1
    assert lanes.pop_or("nothing") is None
    assert lanes.pop_or("nothing") == "nothing"


def test_each_lane_is_bounded_by_itself(impl):
    lanes = impl("lanes").Lanes(3)
    assert lanes.capacity == 4
    assert [lanes.push(number, BULK) for number in range(5)] == [True] * 4 + [False]
    assert lanes.push_many(list(range(9)), CRITICAL) == 4
    assert lanes.push_many((7,)) == 1
    assert lanes.counts == (4, 1, 4)


def test_what_is_out_of_range_is_refused(impl):
    room = impl("lanes")
    for capacity in (0, -1):
        with pytest.raises(ValueError, match="capacity must be at least 1"):
            room.Lanes(capacity)
    with pytest.raises(LimitError, match="capacity="):
        room.Lanes(1 << 70)
    for age_pops in (0, 1 << 32):
        with pytest.raises(ValueError, match="age_pops must be"):
            room.Lanes(2, age_pops=age_pops)
    lanes = room.Lanes(2)
    for lane in (-1, 3, 1 << 70):
        for act in (lambda lane: lanes.push(1, lane), lambda lane: lanes.push_many([1], lane), lanes.count):
            with pytest.raises(ValueError, match=r"CRITICAL \(0\)"):
                act(lane)
    for hostile in ("ab", {1}, None):
        with pytest.raises(TypeError, match="a list or a tuple"):
            lanes.push_many(hostile)
    with pytest.raises(ValueError, match="at least 0"):
        lanes.pop_many(-1)
    assert len(lanes) == 0


def test_a_lane_passed_over_often_enough_has_the_next_turn(impl):
    lanes = impl("lanes").Lanes(64, age_pops=3)
    assert lanes.age_pops == 3
    lanes.push_many(["c"] * 20, CRITICAL)
    lanes.push_many(["n"] * 20, NORMAL)
    lanes.push_many(["b"] * 20, BULK)
    assert "".join(lanes.pop() for _ in range(20)) == "cccnb" * 4
    lanes = impl("lanes").Lanes(64, age_pops=3)
    lanes.push_many(["n"] * 20, NORMAL)
    lanes.push_many(["b"] * 20, BULK)
    assert "".join(lanes.pop_many(20)) == "nnnb" * 5


def test_an_empty_lane_gathers_no_age(impl):
    lanes = impl("lanes").Lanes(64, age_pops=4)
    lanes.push_many(["c"] * 20, CRITICAL)
    assert "".join(lanes.pop_many(10)) == "c" * 10
    lanes.push("b", BULK)
    assert "".join(lanes.pop_many(6)) == "ccccbc"


@pytest.mark.parametrize("single", [True, False])
def test_a_critical_item_overtakes_a_hundred_thousand_bulk_items(impl, single):
    lanes = impl("lanes").Lanes(100_000)
    assert lanes.push_many(list(range(100_000)), BULK) == 100_000
    lanes.pop_many(1000)
    lanes.push("cancel", CRITICAL)
    first = [lanes.pop() for _ in range(3)] if single else lanes.pop_many(3)
    assert "cancel" in first


def test_bulk_moves_on_in_its_order_while_every_critical_item_overtakes_it(impl):
    lanes = impl("lanes").Lanes(100_000)
    assert lanes.push_many(list(range(100_000)), BULK) == 100_000
    moved = []
    for number in range(6400):
        lanes.push(("cancel", number), CRITICAL)
        popped = lanes.pop()
        if popped != ("cancel", number):
            moved.append(popped)
            assert lanes.pop() == ("cancel", number), "one item of another lane at most goes before"
    assert moved == list(range(99)), "one of 65 pops is for the age of the bulk items"


@given(
    age_pops=st.integers(1, 9),
    load=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=60),
    single=st.booleans(),
)
def test_under_endless_critical_load_the_lower_lanes_still_get_their_share(age_pops, load, single):
    for room in (core, model):
        lanes = room.Lanes(512, age_pops=age_pops)
        lanes.push_many([BULK] * 400, BULK)
        lanes.push_many([NORMAL] * 400, NORMAL)
        popped = []
        for lane, count in [*load, *[(0, 1)] * 30]:
            lanes.push_many([lane] * count, lane)
            lanes.push_many([CRITICAL] * 5, CRITICAL)
            popped += [lanes.pop()] if single else lanes.pop_many(3)
        for start in range(len(popped) - age_pops - 1):
            window = popped[start : start + age_pops + 2]
            assert NORMAL in window
            assert BULK in window
        assert all(CRITICAL in popped[start : start + 3] for start in range(len(popped) - 2))


def test_references_are_given_back(impl):
    thing = Thing()
    before = sys.getrefcount(thing)
    lanes = impl("lanes").Lanes(4)
    for lane in range(3):
        lanes.push(thing, lane)
        lanes.push_many([thing] * 9, lane)
        assert not lanes.push(thing, lane)
    lanes.pop()
    assert len(lanes.pop_many(5)) == 5
    lanes.clear()
    assert sys.getrefcount(thing) == before
    lanes.push(thing, BULK)
    del lanes
    assert sys.getrefcount(thing) == before


def test_a_cycle_through_the_lanes_is_collected(impl):
    lanes = impl("lanes").Lanes(4)
    things = [Thing() for _ in range(3)]
    for lane, thing in enumerate(things):
        thing.lanes = lanes
        lanes.push(thing, lane)
    gone = [weakref.ref(thing) for thing in things]
    del lanes, things, thing
    gc.collect()
    assert [each() for each in gone] == [None] * 3


def test_a_destructor_may_call_back_into_the_lanes(impl):
    lanes = impl("lanes").Lanes(4)

    class Nosy:
        def __del__(self):
            lanes.push("from destructor", BULK)
            seen.append(type(lanes.pop()).__name__)

    seen: list[str] = []
    for lane in range(3):
        lanes.push(Nosy(), lane)
    lanes.clear()
    lanes.check()
    lanes.clear()
    assert len(seen) == 3
    assert len(lanes) == 0


def test_threads_lose_and_double_nothing(impl):
    lanes = impl("lanes").Lanes(64, age_pops=2)
    count = 1500
    popped: list[int] = []

    def push(lane):
        for number in range(count):
            while not lanes.push(lane * count + number, lane):
                pass

    def pop():
        for _ in range(count * 3 // 2):
            while (item := lanes.pop()) is None:
                pass
            popped.append(item)

    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    try:
        threads = [threading.Thread(target=push, args=(lane,)) for lane in range(3)]
        threads += [threading.Thread(target=pop) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(before)
    assert sorted(popped) == list(range(3 * count))
    if isinstance(lanes, core.Lanes):  # the twin may count a pass twice where threads meet
        lanes.check()


class LanesMachine(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 20), age_pops=st.integers(1, 5))
    def start(self, capacity, age_pops):
        self.pair = [room.Lanes(capacity, age_pops=age_pops) for room in (core, model)]
        self.number = 0

    def both(self, act):
        outcomes = [act(lanes) for lanes in self.pair]
        assert outcomes[0] == outcomes[1]

    @rule(lane=st.integers(0, 2))
    def push(self, lane):
        self.number += 1
        self.both(lambda lanes: lanes.push(self.number, lane))

    @rule(lane=st.integers(0, 2), count=st.integers(0, 20))
    def push_many(self, lane, count):
        items = [self.number + i for i in range(count)]
        self.number += count
        self.both(lambda lanes: lanes.push_many(items, lane))

    @rule()
    def pop(self):
        self.both(lambda lanes: lanes.pop_or("empty"))

    @rule(count=st.integers(0, 30))
    def pop_many(self, count):
        self.both(lambda lanes: lanes.pop_many(count))

    @rule()
    def clear(self):
        self.both(lambda lanes: lanes.clear())

    @invariant()
    def agree(self):
        for lanes in self.pair:
            lanes.check()
        self.both(lambda lanes: (len(lanes), lanes.counts, lanes.capacity))


TestLanesMachine = LanesMachine.TestCase
TestLanesMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together():
    run_state_machine_as_test(LanesMachine, settings=settings(max_examples=50, stateful_step_count=200, deadline=None))


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
def test_lanes_without_memory_are_not_made():
    before = memory.live_blocks()
    for nth in (1, 2, 3):
        memory.fail_after(nth)
        try:
            with pytest.raises(MemoryError):
                core.Lanes(8)
        finally:
            memory.fail_never()
        assert memory.live_blocks() == before
    lanes = core.Lanes(8)
    assert memory.live_blocks() == before + 3
    del lanes
    assert memory.live_blocks() == before
