"""Deadlines on the wheel, with one timer of the loop; compiled and plain, under a clock of the test's own."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib
import math
import random
import weakref
from typing import Any

import pytest

from erlmcp.runtime import timers as plain

MS = 1_000_000


class Timer:
    def __init__(self, due_ns: int, callback: Any, context: Any) -> None:
        self.due_ns = due_ns
        self.callback = callback
        self.context = context
        self.live = True

    def cancel(self) -> None:
        self.live = False


class Loop:
    """A loop whose time is the test's; ``early_ns`` is how much too early its timers come."""

    def __init__(self) -> None:
        self.now_ns = 5_000 * MS + 123
        self.early_ns = 0
        self.timers: list[Timer] = []
        self.reports: list[dict[str, Any]] = []
        self.armed_count = 0

    def clock(self) -> int:
        return self.now_ns

    def call_later(self, delay_s: float, callback: Any, *, context: Any) -> Timer:
        assert delay_s >= 0
        assert not self.live
        self.armed_count += 1
        timer = Timer(self.now_ns + round(delay_s * 1e9), callback, context)
        self.timers.append(timer)
        return timer

    def call_exception_handler(self, report: dict[str, Any]) -> None:
        self.reports.append(report)

    @property
    def live(self) -> list[Timer]:
        return [timer for timer in self.timers if timer.live]

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and call the timer each time it is due."""
        end_ns = self.now_ns + round(seconds * 1e9)
        while self.live and self.live[0].due_ns - self.early_ns <= end_ns:
            timer = self.live[0]
            self.now_ns = max(self.now_ns, timer.due_ns - self.early_ns)
            timer.live = False
            timer.context.run(timer.callback)
        self.now_ns = max(self.now_ns, end_ns)
        self.timers = self.live

    def lag(self, seconds: float) -> None:
        """Let time pass without looking at the timer."""
        self.now_ns += round(seconds * 1e9)


@pytest.fixture(params=["compiled", "plain"])
def kind(request: pytest.FixtureRequest) -> Any:
    if request.param == "plain":
        return plain.PlainTimers
    return importlib.import_module("erlmcp.runtime.deadline").Timers


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def timers(kind: Any, loop: Loop) -> Any:
    return kind(loop, loop.clock)


def test_callbacks_are_called_in_order_of_their_times_and_never_early(timers: Any, loop: Loop) -> None:
    called: list[tuple[str, int]] = []
    start_ns = loop.now_ns
    for name, delay_s in (("c", 0.3), ("a", 0.0101), ("b", 0.0102), ("d", 90.0), ("z", -5.0)):
        timers.add(delay_s, lambda name=name: called.append((name, loop.now_ns - start_ns)))
    assert len(timers) == 5
    loop.pass_time(100)
    assert [name for name, _at in called] == ["z", "a", "b", "c", "d"]
    for (_name, at_ns), due_s in zip(called, (0, 0.0101, 0.0102, 0.3, 90), strict=True):
        assert due_s * 1e9 <= at_ns < due_s * 1e9 + 2 * MS
    assert len(timers) == 0
    assert not loop.live


def test_arguments_are_handed_over(timers: Any, loop: Loop) -> None:
    called: list[tuple[int, ...]] = []
    timers.add(0.1, lambda *args: called.append(args), 1, 2)
    loop.pass_time(1)
    assert called == [(1, 2)]


def test_a_cancelled_deadline_is_never_called_and_a_stale_handle_does_nothing(timers: Any, loop: Loop) -> None:
    called: list[str] = []
    one = timers.add(0.1, called.append, "one")
    two = timers.add(0.1, called.append, "two")
    assert one.is_pending
    assert timers.cancel(one) is True
    assert not one.is_pending
    assert timers.cancel(one) is False
    assert timers.extend(one, 5) is False
    loop.pass_time(1)
    assert called == ["two"]
    assert not two.is_pending
    assert timers.cancel(two) is False
    assert timers.extend(two, 1) is False
    loop.pass_time(10)
    assert called == ["two"]


def test_a_deadline_can_be_moved_both_ways(timers: Any, loop: Loop) -> None:
    called: list[str] = []
    one = timers.add(1, called.append, "one")
    two = timers.add(60, called.append, "two")
    assert timers.extend(one, 30) is True
    assert timers.extend(two, 2) is True
    loop.pass_time(29)
    assert called == ["two"]
    loop.pass_time(1.1)
    assert called == ["two", "one"]


def test_one_timer_of_the_loop_serves_any_number_of_deadlines(timers: Any, loop: Loop) -> None:
    handles = [timers.add(1 + index % 7, int) for index in range(1_000)]
    assert len(loop.live) == 1
    for handle in handles:
        timers.cancel(handle)
        timers.cancel(timers.add(2.0, int))
    assert len(loop.live) == 1
    assert loop.armed_count == 1
    loop.pass_time(10)
    assert not loop.live


def test_a_loop_that_lags_loses_nothing(timers: Any, loop: Loop) -> None:
    called: list[int] = []
    for index in range(500):
        timers.add(index * 0.01, called.append, index)
    loop.lag(1_000)
    loop.pass_time(0)
    assert called == list(range(500))


def test_a_timer_of_the_loop_that_comes_early_calls_nothing_early(timers: Any, loop: Loop) -> None:
    called: list[int] = []
    loop.early_ns = 400_000
    start_ns = loop.now_ns
    timers.add(0.25, lambda: called.append(loop.now_ns - start_ns))
    loop.pass_time(0.2499)
    assert called == []
    loop.pass_time(0.01)
    assert len(called) == 1
    assert called[0] >= 250 * MS


def test_a_callback_may_cancel_move_and_add_others_that_are_due_with_it(timers: Any, loop: Loop) -> None:
    called: list[str] = []

    def first() -> None:
        called.append("first")
        assert timers.cancel(second) is True
        assert timers.extend(third, 1.0) is True
        timers.add(0, called.append, "added")

    timers.add(0.0100, first)
    second = timers.add(0.0101, called.append, "second")
    third = timers.add(0.0102, called.append, "third")
    loop.pass_time(0.5)
    assert called == ["first", "added"]
    loop.pass_time(1)
    assert called == ["first", "added", "third"]
    assert not loop.live


def test_an_error_of_one_callback_is_reported_and_stops_no_other(timers: Any, loop: Loop) -> None:
    called: list[str] = []
    timers.add(0.01, lambda: 1 / 0)
    timers.add(0.01, called.append, "b")
    loop.pass_time(1)
    assert called == ["b"]
    assert isinstance(loop.reports[0]["exception"], ZeroDivisionError)
    assert "a deadline's callback failed" in loop.reports[0]["message"]


def test_what_was_due_with_an_interrupt_is_called_at_the_next_wake(timers: Any, loop: Loop) -> None:
    called: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    timers.add(0.010, interrupt)
    timers.add(0.010, called.append, "b")
    gone = timers.add(0.010, called.append, "c")
    with pytest.raises(KeyboardInterrupt):
        loop.pass_time(1)
    assert timers.cancel(gone)
    assert len(timers) == 1
    loop.pass_time(1)
    assert called == ["b"]


def test_closing_drops_all_and_may_come_from_a_callback(timers: Any, loop: Loop) -> None:
    called: list[str] = []
    timers.add(0.010, lambda: timers.close())
    same = timers.add(0.010, called.append, "same time")
    later = timers.add(5, called.append, "later")
    loop.pass_time(10)
    timers.close()
    assert called == []
    assert len(timers) == 0
    assert not loop.live
    assert not same.is_pending
    assert not later.is_pending
    assert timers.cancel(later) is False
    with pytest.raises(RuntimeError, match="the timers are closed"):
        timers.add(1, int)


@pytest.mark.parametrize("delay_s", [math.nan, math.inf, 1.1e9])
def test_a_delay_that_no_one_can_wait_for_is_refused(timers: Any, loop: Loop, delay_s: float) -> None:
    with pytest.raises(ValueError, match="a delay must be at most 1e"):
        timers.add(delay_s, int)
    handle = timers.add(1, int)
    with pytest.raises(ValueError, match="a delay must be at most 1e"):
        timers.extend(handle, delay_s)
    assert len(timers) == 1


def test_a_deadline_a_year_away_fires_then(timers: Any, loop: Loop) -> None:
    called: list[int] = []
    year_s = 365 * 86_400
    timers.add(year_s, called.append, 1)
    loop.lag(year_s - 5 * 86_400)  # a timer an hour for all of it takes seconds
    loop.pass_time(5 * 86_400 - 1)
    assert called == []
    loop.pass_time(1.1)
    assert called == [1]


def test_a_handle_of_other_timers_is_left_alone(kind: Any, loop: Loop) -> None:
    one, other = kind(loop, loop.clock), kind(Loop(), loop.clock)
    handle = one.add(1, int)
    assert other.cancel(handle) is False
    assert other.extend(handle, 5) is False
    assert handle.is_pending
    assert len(one) == 1


def test_callbacks_run_in_the_context_that_the_timers_were_made_in(kind: Any, loop: Loop) -> None:
    caller = contextvars.ContextVar("caller", default="nobody")
    timers, seen = kind(loop, loop.clock), []

    def add() -> None:
        caller.set("a request")
        timers.add(0.01, lambda: seen.append(caller.get()))

    contextvars.copy_context().run(add)
    loop.pass_time(1)
    assert seen == ["nobody"]


def test_nothing_is_kept_of_what_fired_was_cancelled_or_dropped(kind: Any, loop: Loop) -> None:
    class Callback:
        def __call__(self, *args: Any) -> None: ...

    timers = kind(loop, loop.clock)
    fired, cancelled, dropped = Callback(), Callback(), Callback()
    seen = [weakref.ref(each) for each in (fired, cancelled, dropped)]
    handles = [timers.add(1, fired), timers.add(1, cancelled, cancelled), timers.add(50, dropped, dropped)]
    timers.cancel(handles[1])
    loop.pass_time(2)
    timers.close()
    del fired, cancelled, dropped
    gc.collect()
    assert [each() for each in seen] == [None, None, None]
    assert len(handles) == 3


def test_timers_that_were_not_closed_give_back_what_they_held(kind: Any, loop: Loop) -> None:
    class Callback:
        def __call__(self) -> None: ...

    callback = Callback()
    seen = weakref.ref(callback)
    timers = kind(loop, loop.clock)
    handle = timers.add(50, callback)
    loop.timers.clear()
    del timers, callback, handle
    gc.collect()
    assert seen() is None


def test_any_run_of_acts_fires_what_a_plain_list_says(kind: Any) -> None:
    rng = random.Random(7)
    for _round in range(30):
        loop = Loop()
        timers = kind(loop, loop.clock)
        wanted: dict[int, int] = {}
        handles: dict[int, Any] = {}
        fired: dict[int, int] = {}

        def fire(id: int, fired: dict[int, int] = fired, loop: Loop = loop) -> None:
            assert id not in fired
            fired[id] = loop.now_ns

        for id in range(200):
            delay_s = rng.choice([0, 0.001, 0.05, 1, 20]) * rng.random()
            handles[id] = timers.add(delay_s, fire, id)
            wanted[id] = loop.now_ns + int(delay_s * 1e9)
            other = rng.randrange(id + 1)
            act = rng.random()
            if act < 0.3 and timers.cancel(handles[other]):
                del wanted[other]
            elif act < 0.6 and timers.extend(handles[other], delay_s):
                wanted[other] = loop.now_ns + int(delay_s * 1e9)
            if act > 0.8:
                loop.pass_time(rng.random())
            elif act > 0.7:
                loop.lag(rng.random())
        loop.pass_time(60)
        assert fired.keys() == wanted.keys()
        assert all(fired[id] >= due_ns for id, due_ns in wanted.items())
        assert len(timers) == 0


async def test_deadlines_fire_on_a_real_loop(loop_kind: str, kind: Any) -> None:
    loop = asyncio.get_running_loop()
    timers, called, done = kind(loop), [], loop.create_future()
    timers.add(0.02, done.set_result, None)
    timers.add(0.01, called.append, 2)
    timers.add(0, called.append, 1)
    timers.cancel(timers.add(0.005, called.append, 3))
    await asyncio.wait_for(done, 10)
    assert called == [1, 2]
    timers.close()
