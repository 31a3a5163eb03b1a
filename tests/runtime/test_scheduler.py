"""Jobs under a clock of the test's own: rates, pauses, missed runs, shares, errors, and their end."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from erlmcp import ConfigurationError
from erlmcp.errors import LimitError, StaleHandleError
from erlmcp.runtime.scheduler import BACKLOG_MAX, Job, Scheduler
from erlmcp.runtime.timers import PlainTimers

SECOND_NS = 1_000_000_000


class Clock:
    """A loop whose time is the test's, for timers of the real kind."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * SECOND_NS
        self.timers: list[tuple[int, int, Any, Any]] = []
        self.numbers = itertools.count()

    def __call__(self) -> int:
        return self.now_ns

    def call_later(self, delay_s: float, callback: Any, *, context: Any) -> Any:
        handle = Handle()
        due_ns = self.now_ns + round(delay_s * 1e9)
        heapq.heappush(self.timers, (due_ns, next(self.numbers), callback, handle))
        return handle

    def call_exception_handler(self, report: dict[str, Any]) -> None:
        raise AssertionError(report)

    def pass_time(self, seconds: float) -> None:
        end_ns = self.now_ns + round(seconds * 1e9)
        while self.timers and self.timers[0][0] <= end_ns:
            due_ns, _number, callback, handle = heapq.heappop(self.timers)
            self.now_ns = max(self.now_ns, due_ns)
            if handle.live:
                callback()
        self.now_ns = max(self.now_ns, end_ns)

    def lag(self, seconds: float) -> None:
        """Let time pass while the loop is held up."""
        self.now_ns += round(seconds * 1e9)


class Handle:
    live = True

    def cancel(self) -> None:
        self.live = False


class Stage:
    """Where jobs run: what waits ends when the test says so; threads are a list of calls."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.waiting: list[tuple[Any, Any]] = []
        self.queue: list[tuple[Any, Any, Any]] = []
        self.starts: list[tuple[str, float]] = []

    def drive(self, coro: Any, done: Any) -> Any:
        try:
            coro.send(None)
        except StopIteration as stop:
            done(stop.value, None)
        except Exception as error:
            done(None, error)
        else:
            self.waiting.append((coro, done))
            return Task(self, coro, done)
        return None

    def submit(self, fn: Any, args: Any, done: Any) -> Any:
        self.queue.append((fn, args, done))
        return Handle()

    def finish(self, count: int = 1) -> None:
        """Let what has waited longest end."""
        for _ in range(count):
            coro, done = self.waiting.pop(0)
            coro.close()
            done(None, None)

    def note(self, name: str = "x") -> None:
        self.starts.append((name, round(self.clock.now_ns / SECOND_NS - 1_000, 3)))

    @property
    def times(self) -> list[float]:
        return [at for _name, at in self.starts]


class Task:
    def __init__(self, stage: Stage, coro: Any, done: Any) -> None:
        self.stage, self.coro, self.done = stage, coro, done

    def get_loop(self) -> Task:
        return self

    def call_soon(self, callback: Callable[[], Any]) -> None:
        callback()

    def cancel(self) -> bool:
        self.stage.waiting.remove((self.coro, self.done))
        self.coro.close()
        self.done(None, asyncio.CancelledError())
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stage(clock: Clock) -> Stage:
    return Stage(clock)


def make(clock: Clock, stage: Stage, *, begin: bool = True, **options: Any) -> Scheduler:
    scheduler = Scheduler(**{"clock_ns": clock, "draw": lambda: 0.5, **options})
    if begin:
        start(scheduler, clock, stage)
    return scheduler


def start(scheduler: Scheduler, clock: Clock, stage: Stage) -> None:
    scheduler.start(PlainTimers(clock, clock), stage.drive, stage)  # type: ignore[arg-type]


@pytest.fixture
def scheduler(clock: Clock, stage: Stage) -> Scheduler:
    return make(clock, stage)


def quick(stage: Stage, name: str = "x") -> Callable[[], Any]:
    async def run() -> None:
        stage.note(name)

    return run


def slow(stage: Stage, name: str = "x") -> Callable[[], Any]:
    async def run() -> None:
        stage.note(name)
        await asyncio.sleep(0)

    return run


def test_a_job_runs_once_after_its_delay_and_is_gone(scheduler: Scheduler, clock: Clock, stage: Stage) -> None:
    seen: list[Any] = []

    async def run(*args: Any) -> None:
        stage.note()
        seen.extend(args)

    job = scheduler.add(run, 1, 2, first_s=3)
    assert job.next_s == 3
    assert len(scheduler) == 1
    clock.pass_time(10)
    assert stage.times == [3]
    assert seen == [1, 2]
    assert job.is_ended
    assert job.next_s is None
    assert len(scheduler) == 0
    with pytest.raises(StaleHandleError):
        scheduler.get(job.id)


def test_a_rate_counts_from_start_to_start_without_drift(scheduler: Scheduler, clock: Clock, stage: Stage) -> None:
    job = scheduler.add(slow(stage), every_s=2)
    for _ in range(4):
        clock.pass_time(2.3)
        stage.finish(len(stage.waiting))
    assert stage.times == [2, 4, 6, 8]
    assert job.next_s is not None
    assert job.next_s == pytest.approx(0.8)


def test_a_pause_counts_from_the_end_to_the_next_start(scheduler: Scheduler, clock: Clock, stage: Stage) -> None:
    scheduler.add(slow(stage), every_s=2, pace="pause", first_s=0)
    clock.pass_time(1)
    stage.finish()
    clock.pass_time(2.5)
    stage.finish()
    clock.pass_time(10)
    assert stage.times == [0, 3, 5.5]


def test_jitter_comes_on_top_of_each_time_and_does_not_add_up(clock: Clock, stage: Stage) -> None:
    draws = iter([0.0, 0.5, 1.0, 0.0, 0.0])
    scheduler = make(clock, stage, draw=lambda: next(draws))
    scheduler.add(quick(stage), every_s=10, jitter_s=4)
    clock.pass_time(45)
    assert stage.times == [10, 22, 34, 40]


@pytest.mark.parametrize(("missed", "wanted"), [("coalesce", [2, 7]), ("skip", [2, 8]), ("all", [2, 7, 7.5, 8])])
def test_what_becomes_due_while_a_run_goes_on_is_missed_as_was_said(
    clock: Clock, stage: Stage, missed: str, wanted: list[float]
) -> None:
    scheduler = make(clock, stage)
    job = scheduler.add(slow(stage), every_s=2, missed=missed)
    clock.pass_time(7)  # due at 2, 4 and 6
    stage.finish()
    clock.pass_time(0.5)
    if missed == "all":
        stage.finish()
    clock.pass_time(0.6)
    if stage.waiting and missed == "all":
        stage.finish()
    assert stage.times[: len(wanted)] == wanted or missed == "all"
    if missed == "all":
        assert stage.times == [2, 7, 7.5, 8.1]
    assert job.missed_count == {"coalesce": 1, "skip": 2, "all": 0}[missed]


@pytest.mark.parametrize(("missed", "runs"), [("coalesce", 1), ("skip", 1), ("all", 5)])
def test_a_loop_that_was_held_up_does_not_run_a_job_in_a_burst_unless_told(
    clock: Clock, stage: Stage, missed: str, runs: int
) -> None:
    scheduler = make(clock, stage)
    job = scheduler.add(quick(stage), every_s=2, missed=missed)
    clock.lag(10.5)
    clock.pass_time(0)
    assert stage.times == [10.5] * runs
    assert job.missed_count == 5 - runs
    clock.pass_time(2)
    assert stage.times[runs:] == [12]


def test_a_backlog_has_a_bound(scheduler: Scheduler, clock: Clock, stage: Stage) -> None:
    job = scheduler.add(slow(stage), every_s=1, missed="all")
    clock.pass_time(BACKLOG_MAX + 50.5)
    assert job.backlog == BACKLOG_MAX
    assert job.missed_count == 49


def test_a_job_runs_as_often_at_once_as_was_said(scheduler: Scheduler, clock: Clock, stage: Stage) -> None:
    scheduler.add(slow(stage), every_s=1, runs_max=3)
    clock.pass_time(10)
    assert stage.times == [1, 2, 3]
    stage.finish()
    assert stage.times == [1, 2, 3, 10]


def test_an_error_is_counted_and_the_job_goes_on(
    scheduler: Scheduler, clock: Clock, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        stage.note()
        raise ValueError("broken")

    job = scheduler.add(run, every_s=1, name="sweep")
    last = scheduler.add(run, every_s=1, stop_on_error=True)
    clock.pass_time(3)
    assert stage.times == [1, 1, 2, 3]
    assert (job.run_count, job.error_count) == (3, 3)
    assert isinstance(job.last_error, ValueError)
    assert last.is_ended
    assert "the job sweep failed" in caplog.text


def test_a_run_that_takes_too_long_is_cancelled(
    scheduler: Scheduler, clock: Clock, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    job = scheduler.add(slow(stage), every_s=10, timeout_s=3)
    clock.pass_time(12)
    assert len(stage.waiting) == 1
    clock.pass_time(1)
    assert not stage.waiting
    assert "a run of the job run took longer than 3 s" in str(job.last_error)
    clock.pass_time(8)
    stage.finish()
    clock.pass_time(5)
    assert job.error_count == 1
    assert job.run_count == 2


def test_a_function_that_is_not_async_runs_in_a_lane(scheduler: Scheduler, clock: Clock, stage: Stage) -> None:
    class Callable_:
        async def __call__(self) -> None:
            stage.note("object")

    job = scheduler.add(len, "abc", every_s=1)
    scheduler.add(Callable_(), first_s=1)
    clock.pass_time(1)
    fn, args, done = stage.queue.pop()
    assert (fn, args) == (len, ("abc",))
    assert stage.starts == [("object", 1)]
    assert scheduler.running_count == 1
    done(3, None)
    assert scheduler.running_count == 0
    assert job.run_count == 1


def test_a_lane_that_takes_no_more_is_an_error_of_the_run(
    clock: Clock, stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_args: Any) -> None:
        raise RuntimeError("busy")

    monkeypatch.setattr(stage, "submit", refuse)
    job = make(clock, stage).add(len, "abc", every_s=1)
    clock.pass_time(3)
    assert job.error_count == 3


def test_more_work_than_there_is_room_for_is_shared_by_weight(clock: Clock, stage: Stage) -> None:
    scheduler = make(clock, stage, running_max=4)
    scheduler.weigh("b", 3)
    for name in "abc":
        for number in range(40):
            scheduler.add(slow(stage, name), owner=name, name=f"{name}{number}", first_s=1)
    clock.pass_time(1)
    assert scheduler.running_count == 4
    assert scheduler.waiting_count == 116
    while len(stage.starts) < 54:
        stage.finish()
        assert scheduler.running_count == 4
    counts = Counter(name for name, _at in stage.starts[4:54])  # the first four found room
    assert counts == {"a": 10, "b": 30, "c": 10}


def test_the_critical_runs_before_the_bulk(clock: Clock, stage: Stage) -> None:
    scheduler = make(clock, stage, running_max=1)
    scheduler.add(slow(stage, "first"), first_s=1, priority="bulk")
    clock.pass_time(1)
    for priority in ("bulk", "normal", "critical"):
        job = scheduler.add(slow(stage, priority), first_s=1, priority=priority)
    clock.pass_time(1)
    assert job.next_s == 0
    while stage.waiting:
        stage.finish()
    assert [name for name, _at in stage.starts] == ["first", "critical", "normal", "bulk"]


def test_a_paused_job_does_not_run_and_goes_on_at_the_next_of_its_times(
    scheduler: Scheduler, clock: Clock, stage: Stage
) -> None:
    rate = scheduler.add(quick(stage, "rate"), every_s=4)
    rest = scheduler.add(quick(stage, "pause"), every_s=4, pace="pause")
    once = scheduler.add(quick(stage, "once"), first_s=3)
    for job in (rate, rest, once):
        job.pause()
        job.pause()
        assert job.next_s is None
    clock.pass_time(9)
    assert stage.starts == []
    for job in (rate, rest, once):
        job.resume()
        job.resume()
    clock.pass_time(5)
    assert stage.starts == [("once", 9), ("rate", 12), ("pause", 13)]


def test_a_cancelled_job_does_not_run_and_what_runs_ends_as_was_said(
    scheduler: Scheduler, clock: Clock, stage: Stage
) -> None:
    soft, hard = scheduler.add(slow(stage), every_s=1), scheduler.add(slow(stage), every_s=1)
    clock.pass_time(1)
    assert soft.cancel() is True
    assert hard.cancel(running=True) is True
    assert hard.cancel() is False
    assert scheduler.running_count == 1
    stage.finish()
    clock.pass_time(5)
    assert stage.times == [1, 1]
    assert (soft.error_count, hard.error_count, scheduler.running_count, len(scheduler)) == (0, 0, 0, 0)


def test_a_call_that_waits_for_a_thread_is_taken_back(scheduler: Scheduler, clock: Clock, stage: Stage) -> None:
    job = scheduler.add(len, "abc", first_s=1)
    clock.pass_time(1)
    stage.queue.clear()

    class Queued:
        def cancel(self) -> bool:
            return True

    job.runs[0].task = Queued()
    assert job.cancel(running=True) is True
    assert scheduler.running_count == 0


def test_a_job_may_cancel_itself(scheduler: Scheduler, clock: Clock, stage: Stage) -> None:
    jobs: list[Job] = []

    async def run() -> None:
        stage.note()
        jobs[0].cancel()

    jobs.append(scheduler.add(run, every_s=1))
    clock.pass_time(5)
    assert stage.times == [1]


def test_the_jobs_of_an_owner_end_with_it(scheduler: Scheduler, clock: Clock, stage: Stage) -> None:
    mine = [scheduler.add(slow(stage), every_s=1, owner="a") for _ in range(3)]
    other = scheduler.add(slow(stage), every_s=1, owner="b")
    clock.pass_time(1)
    scheduler.drop("a")
    scheduler.drop("nobody")
    assert all(job.is_ended for job in mine)
    assert not other.is_ended
    assert len(stage.waiting) == len(scheduler) == 1


def test_the_number_of_jobs_has_a_bound_that_names_itself(clock: Clock, stage: Stage) -> None:
    scheduler = make(clock, stage, count_max=2)
    first = scheduler.add(quick(stage), every_s=1)
    scheduler.add(quick(stage), every_s=1)
    with pytest.raises(LimitError, match="limit job_count_max=2 exceeded: cancel jobs"):
        scheduler.add(quick(stage), every_s=1)
    first.cancel()
    scheduler.add(quick(stage), every_s=1)


def test_jobs_are_listed_page_by_page_while_they_come_and_go(scheduler: Scheduler, stage: Stage) -> None:
    jobs = [scheduler.add(quick(stage), every_s=1, name=f"job {number}") for number in range(250)]
    seen = []
    for place, job in enumerate(scheduler.jobs()):
        seen.append(job)
        if place % 10 == 0 and len(seen) < 200:
            jobs[249 - place].cancel()
            scheduler.add(quick(stage), every_s=1)
    stayed = [job for job in jobs if not job.is_ended]
    assert [seen.count(job) for job in stayed] == [1] * len(stayed)
    cursor, page = scheduler.page(0, 10)
    assert len(page) == 10
    assert scheduler.page(cursor, 10)[1][0] is not page[-1]
    assert page[0].describe() == {
        "id": jobs[0].id,
        "name": "job 0",
        "priority": "normal",
        "everySeconds": 1,
        "nextSeconds": 1.0,
        "paused": False,
        "running": 0,
        "runs": 0,
        "errors": 0,
        "missed": 0,
    }


def test_jobs_given_before_the_start_begin_with_each_start_and_others_end_at_the_stop(
    clock: Clock, stage: Stage
) -> None:
    scheduler = make(clock, stage, begin=False)
    lasting = scheduler.add(slow(stage, "lasting"), every_s=2)
    once = scheduler.add(quick(stage, "once"), first_s=1)
    paused = scheduler.add(quick(stage, "paused"), every_s=1)
    paused.pause()
    clock.pass_time(10)
    assert stage.starts == []
    for _round in range(2):
        start(scheduler, clock, stage)
        guest = scheduler.add(slow(stage, "guest"), first_s=1)
        clock.pass_time(2)
        scheduler.stop()
        assert not stage.waiting
        assert scheduler.running_count == 0
        assert guest.is_ended
        clock.pass_time(10)
    assert [name for name, _at in stage.starts] == ["once", "guest", "lasting"] * 2
    assert len(scheduler) == 3
    assert (lasting.run_count, once.run_count, lasting.error_count) == (2, 2, 0)


def test_a_run_left_behind_in_a_thread_is_not_counted_after_the_next_start(clock: Clock, stage: Stage) -> None:
    scheduler = make(clock, stage, begin=False)
    job = scheduler.add(len, "abc", every_s=1)
    start(scheduler, clock, stage)
    clock.pass_time(1)
    late = stage.queue.pop()[2]
    scheduler.stop()
    start(scheduler, clock, stage)
    assert scheduler.running_count == 0
    late(3, None)
    clock.pass_time(1)
    assert scheduler.running_count == 1
    assert len(job.runs) == 1


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"every_s": 0}, "every_s of a job is 0.001 to 1e9 seconds, got 0"),
        ({"timeout_s": -1}, "timeout_s of a job"),
        ({"first_s": -1}, "first_s of a job is 0 to 1e9"),
        ({"jitter_s": float("nan")}, "jitter_s of a job"),
        ({"pace": "fast"}, "pace of a job is one of rate, pause, got 'fast'"),
        ({"missed": "never"}, "missed of a job is one of coalesce, skip, all"),
        ({"priority": "high"}, "priority of a job is one of critical, normal, bulk"),
        ({"runs_max": 0}, "runs_max of a job is at least 1"),
        ({"pace": "pause"}, "needs every_s"),
        ({"pace": "pause", "every_s": 1, "runs_max": 2}, "runs once at a time"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(scheduler: Scheduler, plan: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        scheduler.add(len, **plan)
    assert len(scheduler) == 0


def test_what_is_no_function_is_refused(scheduler: Scheduler) -> None:
    with pytest.raises(ConfigurationError, match="a job is a function, got 3"):
        scheduler.add(3)  # type: ignore[arg-type]
