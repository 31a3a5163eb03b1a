"""The room ``wheel``: thousands of deadlines, O(1) add and cancel."""

from __future__ import annotations

import gc
import random
import sys
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from erlmcp._core import wheel as core
from erlmcp._model import wheel as model

MS = 1_000_000
TIME_MAX = (1 << 64) - 1


class Thing:
    pass


def test_keys_fire_in_order_of_deadline_and_not_before(impl):
    wheel = impl("wheel").TimingWheel(tick_ns=MS)
    wheel.add("late", 30 * MS)
    wheel.add("early", 10 * MS)
    wheel.add("middle", 20 * MS)
    assert wheel.advance(9_999_999) == []
    assert wheel.advance(10 * MS) == ["early"]
    assert wheel.advance(100 * MS) == ["middle", "late"]
    assert len(wheel) == 0


def test_deadlines_within_a_tick_fire_in_their_order_at_its_end(impl):
    wheel = impl("wheel").TimingWheel(tick_ns=MS)
    wheel.add("b", 5 * MS + 20)
    wheel.add("c", 5 * MS + 20)
    wheel.add("a", 5 * MS + 10)
    assert wheel.advance(6 * MS - 1) == []
    assert wheel.advance(6 * MS) == ["a", "b", "c"]


def test_a_deadline_in_the_past_fires_at_the_next_advance(impl):
    wheel = impl("wheel").TimingWheel(tick_ns=MS, now_ns=500 * MS)
    wheel.add("now", 500 * MS)
    wheel.add("past", 3)
    assert wheel.next_deadline_ns() == 500 * MS
    assert wheel.advance(0) == ["past", "now"]


def test_time_does_not_run_backwards(impl):
    wheel = impl("wheel").TimingWheel(tick_ns=MS)
    wheel.advance(100 * MS)
    wheel.add("a", 101 * MS)
    assert wheel.advance(5) == []
    assert wheel.advance(101 * MS) == ["a"]


def test_a_cancelled_key_never_fires(impl):
    wheel = impl("wheel").TimingWheel()
    wheel.add("a", 5 * MS)
    wheel.add("b", 5 * MS)
    assert wheel.cancel("a") is True
    assert wheel.cancel("a") is False
    assert "a" not in wheel
    assert "b" in wheel
    assert wheel.advance(10 * MS) == ["b"]
    assert wheel.cancel("b") is False


def test_a_moved_key_fires_at_its_new_deadline(impl):
    wheel = impl("wheel").TimingWheel()
    wheel.add("a", 5 * MS)
    assert wheel.move("a", 500 * MS) is True
    assert wheel.move("x", 500 * MS) is False
    assert wheel.advance(499 * MS) == []
    assert wheel.move("a", 600 * MS) is True
    assert wheel.advance(599 * MS) == []
    assert wheel.advance(600 * MS) == ["a"]
    assert wheel.move("a", 700 * MS) is False


def test_a_key_is_in_the_wheel_once(impl):
    wheel = impl("wheel").TimingWheel()
    wheel.add("a", 5 * MS)
    with pytest.raises(ValueError, match="'a' is in the wheel already"):
        wheel.add("a", 6 * MS)
    assert wheel.advance(5 * MS) == ["a"]
    wheel.add("a", 6 * MS)


@pytest.mark.parametrize("time", [-1, TIME_MAX + 1])
def test_a_time_out_of_range_is_refused(impl, time):
    wheel = impl("wheel").TimingWheel()
    wheel.add("a", 1)
    for act in (lambda: wheel.add("b", time), lambda: wheel.move("a", time), lambda: wheel.advance(time)):
        with pytest.raises(OverflowError):
            act()
    assert len(wheel) == 1


def test_a_tick_of_no_length_is_refused(impl):
    with pytest.raises(ValueError, match="at least 1"):
        impl("wheel").TimingWheel(tick_ns=0)


@pytest.mark.parametrize("exponent", range(0, 64, 3))
def test_deadlines_of_every_magnitude_fire_on_time(impl, exponent):
    wheel = impl("wheel").TimingWheel(tick_ns=1)
    deadline = 1 << exponent
    wheel.add("before", deadline - 1)
    wheel.add("at", deadline)
    wheel.add("after", deadline + 1)
    assert wheel.advance(deadline - 1) == ["before"]
    wheel.check()
    assert wheel.advance(deadline) == ["at"]
    wheel.check()
    assert wheel.advance(TIME_MAX) == ["after"]
    assert wheel.next_deadline_ns() is None


def test_the_next_deadline_is_a_bound_that_leads_to_the_key(impl):
    wheel = impl("wheel").TimingWheel(tick_ns=1)
    deadline = 0x0123456789ABCDEF
    wheel.add("a", deadline)
    for _ in range(9):
        bound = wheel.next_deadline_ns()
        assert bound <= deadline
        if wheel.advance(bound):
            break
    assert bound == deadline
    assert len(wheel) == 0


def test_thousands_of_deadlines_fire_sorted(impl):
    chance = random.Random(3)
    wheel = impl("wheel").TimingWheel(tick_ns=7)
    deadlines = {key: chance.randrange(10**6) for key in range(2000)}
    for key, deadline in deadlines.items():
        wheel.add(key, deadline)
    fired = wheel.advance(10**6)
    assert fired == sorted(deadlines, key=lambda key: (deadlines[key], key))


def test_references_are_given_back(impl):
    key = Thing()
    before = sys.getrefcount(key)
    wheel = impl("wheel").TimingWheel()
    for verb, arguments in (("cancel", (key,)), ("advance", (10 * MS,)), ("clear", ())):
        wheel.add(key, 5 * MS)
        wheel.move(key, 6 * MS)
        getattr(wheel, verb)(*arguments)
    wheel.add(key, 1)
    del wheel, arguments
    gc.collect()
    assert sys.getrefcount(key) == before


def test_a_cycle_through_the_wheel_is_collected(impl):
    wheel = impl("wheel").TimingWheel()
    key = Thing()
    key.wheel = wheel
    wheel.add(key, 5)
    wheel.add("other", 5)
    gone = weakref.ref(key)
    del wheel, key
    gc.collect()
    assert gone() is None


def test_a_destructor_may_call_back_into_the_wheel(impl):
    wheel = impl("wheel").TimingWheel()

    class Nosy:
        def __del__(self):
            wheel.cancel("x")
            wheel.add(f"from destructor {len(wheel)}", 9 * MS)

    wheel.add("x", 9 * MS)
    wheel.add(Nosy(), 9 * MS)
    wheel.add(Nosy(), 9 * MS)
    wheel.clear()
    wheel.check()
    gc.collect()
    assert all(key.startswith("from destructor") for key in wheel.advance(10 * MS))


def test_a_key_whose_hash_fails_later_hides_no_other():
    class Moody:
        fails = False

        def __hash__(self):
            if self.fails:
                raise ZeroDivisionError
            return 5

    wheel = core.TimingWheel(tick_ns=1)
    moody = Moody()
    wheel.add("first", 1)
    wheel.add(moody, 2)
    wheel.add("last", 3)
    moody.fails = True
    assert wheel.advance(10) == ["first"]
    with pytest.raises(ZeroDivisionError):
        wheel.advance(10)
    moody.fails = False
    assert wheel.advance(10) == [moody, "last"]
    wheel.check()


@given(
    tick=st.integers(1, 50),
    start=st.integers(0, 5000),
    deadlines=st.lists(st.integers(0, 20_000), max_size=40),
    steps=st.lists(st.integers(1, 3000), max_size=40),
)
def test_no_key_fires_early_or_more_than_a_tick_late(tick, start, deadlines, steps):
    wheel = core.TimingWheel(tick_ns=tick, now_ns=start)
    for key, deadline in enumerate(deadlines):
        wheel.add(key, deadline)
    now, waiting = start, set(range(len(deadlines)))
    for step in steps:
        now += step
        bound = wheel.next_deadline_ns()
        fired = wheel.advance(now)
        wheel.check()
        if fired:
            assert bound <= now
        assert all(deadlines[key] <= now for key in fired)
        waiting -= set(fired)
        assert all(deadlines[key] > now - tick for key in waiting)


class WheelMachine(RuleBasedStateMachine):
    keys = st.integers(0, 15)
    spans = st.integers(-50, 300) | st.integers(0, 1 << 20) | st.integers(0, 1 << 60)

    @initialize(tick=st.sampled_from([1, 3, 64, 1000]), now=st.integers(0, 1 << 62))
    def start(self, tick, now):
        self.now = now
        self.pair = [room.TimingWheel(tick, now) for room in (core, model)]

    def both(self, act):
        outcomes = []
        for wheel in self.pair:
            try:
                outcomes.append(act(wheel))
            except (ValueError, OverflowError) as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]

    @rule(key=keys, span=spans)
    def add(self, key, span):
        self.both(lambda wheel: wheel.add(key, self.now + span))

    @rule(key=keys, span=spans)
    def move(self, key, span):
        self.both(lambda wheel: wheel.move(key, self.now + span))

    @rule(key=keys)
    def cancel(self, key):
        self.both(lambda wheel: wheel.cancel(key))

    @rule(span=st.integers(0, 500) | st.integers(0, 1 << 20) | st.integers(0, 1 << 56))
    def advance(self, span):
        self.now += span
        self.both(lambda wheel: wheel.advance(self.now))

    @rule()
    def advance_to_the_bound(self):
        bound = self.pair[0].next_deadline_ns()
        if bound is not None and bound > self.now and bound < 1 << 64:
            self.now = bound
            self.both(lambda wheel: wheel.advance(self.now))

    @rule()
    def clear(self):
        self.both(lambda wheel: wheel.clear())

    @invariant()
    def agree(self):
        for wheel in self.pair:
            wheel.check()
        self.both(lambda wheel: (len(wheel), 5 in wheel))
        bound, exact = (wheel.next_deadline_ns() for wheel in self.pair)
        assert (bound is None) == (exact is None)
        assert bound is None or bound <= exact


TestWheelMachine = WheelMachine.TestCase
TestWheelMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together():
    run_state_machine_as_test(WheelMachine, settings=settings(max_examples=50, stateful_step_count=200, deadline=None))
