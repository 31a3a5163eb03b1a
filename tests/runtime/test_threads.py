"""The thread pool: what it does with jobs, in which order, and with how many threads."""

from __future__ import annotations

import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from erlmcp.errors import LimitError, PoolClosedError, WorkerLostError
from erlmcp.runtime.line import BULK, CRITICAL, NORMAL

BOUND_S = 20
mark: contextvars.ContextVar[str] = contextvars.ContextVar("threads_mark", default="none")


class Rig:
    """A pool, and short words for what the tests do with it."""

    def __init__(self, kit: Any, thread_count_max: int, job_count_max: int, **options: Any) -> None:
        self.kit = kit
        self.pool = kit.ThreadPool(thread_count_max, job_count_max, **options)
        self.gates: list[threading.Event] = []

    def make(self, fn: Callable[..., Any], *args: Any, level: int = NORMAL, owner: object = None) -> Any:
        return self.kit.Future(self.pool.live, fn, args, level, owner)

    def submit(self, fn: Callable[..., Any], *args: Any, level: int = NORMAL, owner: object = None) -> Any:
        job = self.make(fn, *args, level=level, owner=owner)
        self.pool.push(job)
        return job

    def submit_many(self, jobs: list[Any]) -> list[Any]:
        self.pool.push_many(jobs)
        return jobs

    def hold(self) -> threading.Event:
        """One thread is busy from now on until the event is set."""
        gate, started = threading.Event(), threading.Event()
        self.gates.append(gate)

        def held() -> None:
            started.set()
            gate.wait(BOUND_S)

        self.submit(held, level=CRITICAL)
        assert started.wait(BOUND_S)
        return gate

    def hurry(self) -> None:
        """Threads that have nothing to do take what comes next for quick jobs, and many at a time."""
        self.submit(int).result(BOUND_S)
        self.until(lambda: len(self.pool._parked) == len(self.pool.workers))
        for worker in self.pool.workers:
            worker._size = 64

    def threads(self) -> list[threading.Thread]:
        return [worker.thread for worker in list(self.pool.workers)]

    def until(self, is_so: Callable[[], bool]) -> None:
        """Let the pool's threads run until it is so."""
        deadline = time.monotonic() + BOUND_S
        while not is_so():
            assert time.monotonic() < deadline, "it never came to that"
            time.sleep(0)

    def close(self) -> None:
        for gate in self.gates:
            gate.set()
        self.pool.shutdown()
        assert len(self.pool) == 0
        assert self.pool.workers == self.pool._parked == []
        assert self.pool._here == {}


@pytest.fixture
def rig(kit: Any) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(thread_count_max: int = 1, job_count_max: int = 100, **options: Any) -> Rig:
        made.append(Rig(kit, thread_count_max, job_count_max, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., Rig]


# -- outcomes ----------------------------------------------------------------------------------------------------------


def test_a_job_runs_in_another_thread_and_its_value_comes_back(rig: Make) -> None:
    job = rig().submit(lambda a, b: (a + b, threading.get_ident()), 1, 2)
    total, ident = job.result(BOUND_S)
    assert total == 3
    assert ident != threading.get_ident()
    assert (job.done(), job.running(), job.cancelled(), job.exception()) == (True, False, False, None)
    assert "finished" in repr(job)


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration("y"), SystemExit(3), KeyboardInterrupt()])
def test_an_exception_of_any_kind_is_the_outcome_and_the_thread_goes_on(rig: Make, error: BaseException) -> None:
    one = rig()

    def fail() -> None:
        raise error

    job, after = one.submit(fail), one.submit(threading.get_ident)
    with pytest.raises(type(error)) as caught:
        job.result(BOUND_S)
    assert caught.value is error is job.exception()
    assert after.result(BOUND_S) == one.threads()[0].ident
    assert one.pool._started_count == 1


def test_a_thread_sees_the_context_of_the_caller_and_leaves_it_alone(rig: Make) -> None:
    one = rig()

    def change() -> str:
        before = mark.get()
        mark.set("changed")
        return before

    mark.set("the caller's")
    assert [one.submit(change).result(BOUND_S) for _ in range(2)] == ["the caller's"] * 2
    assert mark.get() == "the caller's"


def test_who_waits_for_too_long_is_told_so_and_may_wait_again(rig: Make) -> None:
    one = rig()
    gate = one.hold()
    job = one.submit(int, "7")
    with pytest.raises(TimeoutError, match=r"timeout=0\.001"):
        job.result(0.001)
    gate.set()
    assert job.result(BOUND_S) == 7


def test_many_threads_wait_for_one_job(rig: Make) -> None:
    one = rig()
    gate = one.hold()
    job, found = one.submit(int, "7"), []
    waiting = [threading.Thread(target=lambda: found.append(job.result(BOUND_S))) for _ in range(8)]
    for thread in waiting:
        thread.start()
    gate.set()
    for thread in waiting:
        thread.join(BOUND_S)
    assert found == [7] * 8


def test_what_a_job_held_is_dropped_at_its_end_and_its_error_makes_no_cycle(rig: Make) -> None:
    one = rig()

    class Thing:
        pass

    def fail(_thing: Thing) -> None:
        raise ValueError

    thing = Thing()
    dropped, failed = weakref.ref(thing), one.submit(id, thing)
    del thing
    failed.result(BOUND_S)
    one.until(lambda: dropped() is None)
    gc.collect()
    gc.disable()
    try:
        job = one.submit(fail, Thing())
        job.exception(BOUND_S)
        gone = weakref.ref(job)
        one.until(lambda: len(one.pool._parked) == 1)
        del job
        assert gone() is None
    finally:
        gc.enable()


def test_callbacks_are_called_once_and_one_that_fails_is_logged(rig: Make, caplog: pytest.LogCaptureFixture) -> None:
    one = rig()
    gate, called = one.hold(), []
    job = one.submit(int, "7")
    job.add_done_callback(lambda job: called.append(job))
    job.add_done_callback(lambda job: 1 / 0)
    job.add_done_callback(lambda job: called.append(job))
    assert called == []
    gate.set()
    one.until(lambda: len(called) == 2)
    job.add_done_callback(lambda job: called.append("late"))
    job.add_done_callback(lambda job: 1 / 0)
    assert called == [job, job, "late"]
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 2


# -- cancelling --------------------------------------------------------------------------------------------------------


def test_a_job_cancelled_before_a_thread_took_it_never_runs_and_frees_its_place(rig: Make) -> None:
    one = rig(job_count_max=2)
    gate, ran, told = one.hold(), [], []
    job = one.submit(ran.append, 1)
    job.add_done_callback(told.append)
    with pytest.raises(LimitError):
        one.submit(ran.append, 2)
    assert job.cancel()
    assert job.cancel()
    assert (job.cancelled(), job.done(), told, len(one.pool)) == (True, True, [job], 1)
    last = one.submit(ran.append, 3)
    gate.set()
    last.result(BOUND_S)
    assert ran == [3]


def test_a_job_that_runs_or_ended_is_not_cancelled(rig: Make) -> None:
    one = rig()
    gate, started = threading.Event(), threading.Event()
    one.gates.append(gate)
    job = one.submit(lambda: started.set() or gate.wait(BOUND_S))
    assert started.wait(BOUND_S)
    assert job.running()
    assert not job.cancel()
    gate.set()
    assert job.result(BOUND_S) is True
    assert not job.cancel()


def test_cancelled_jobs_do_not_pile_up(rig: Make) -> None:
    one = rig(job_count_max=10)
    gate, ran = one.hold(), []
    first = one.submit(ran.append, 1)
    for number in range(1000):
        owner = "somebody" if number % 3 == 0 else None
        one.submit(ran.append, 2, owner=owner).cancel()
    assert len(one.pool.line) <= 64
    last = one.submit(ran.append, 3)
    gate.set()
    for job in (first, last):
        job.result(BOUND_S)
    assert ran == [1, 3]


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_more_than_the_pool_may_hold_is_refused_with_the_name_of_the_limit(rig: Make) -> None:
    one = rig(job_count_max=3)
    gate = one.hold()
    one.submit_many([one.make(int, "1"), one.make(int, "2")])
    for wanted in (lambda: one.submit(int), lambda: one.submit(int, owner=1), lambda: one.submit_many([one.make(int)])):
        with pytest.raises(LimitError, match="job_count_max=3"):
            wanted()
    assert len(one.pool) == 3
    gate.set()
    one.until(lambda: len(one.pool) == 0)
    assert one.submit(int, "4").result(BOUND_S) == 4


@pytest.mark.parametrize("given", [(0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.0), (1, 1, 1e30)])
def test_a_pool_without_threads_or_jobs_or_patience_is_refused(kit: Any, given: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match=r"at least one|idle_s"):
        kit.ThreadPool(*given[:2], idle_s=given[2])


def test_no_more_jobs_run_at_a_time_than_there_may_be_threads(rig: Make) -> None:
    one = rig(3)
    gate, running = threading.Event(), threading.Semaphore(0)
    one.gates.append(gate)
    jobs = [one.submit(lambda: running.release() or gate.wait(BOUND_S)) for _ in range(10)]
    for _ in range(3):
        assert running.acquire(timeout=BOUND_S)
    one.until(lambda: sum(job.running() for job in jobs) == 3)
    assert not running.acquire(blocking=False)
    assert len(one.threads()) == 3
    gate.set()
    assert all(job.result(BOUND_S) for job in jobs)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_threads_are_started_when_they_are_needed_and_bear_the_pools_name(rig: Make) -> None:
    one = rig(8, name="mine")
    assert one.threads() == []
    one.submit(int).result(BOUND_S)
    one.until(lambda: len(one.pool._parked) == 1)
    one.submit(int).result(BOUND_S)
    assert [thread.name for thread in one.threads()] == ["mine-1"]
    assert all(thread.daemon for thread in one.threads())


def test_a_thread_without_work_ends_and_another_comes_when_there_is_some(rig: Make) -> None:
    one = rig(2, idle_s=0.005)
    for number in range(3):
        assert one.submit(int, str(number)).result(BOUND_S) == number
        for thread in one.threads():
            thread.join(BOUND_S)
            assert not thread.is_alive()
        assert one.threads() == []


def test_a_thread_that_waits_for_work_uses_no_processor(rig: Make) -> None:
    one = rig()
    one.submit(int).result(BOUND_S)
    one.until(lambda: len(one.pool._parked) == 1)
    clock = time.pthread_getcpuclockid(one.threads()[0].ident or 0)
    used, until_s = time.clock_gettime(clock), time.thread_time() + 0.05
    while time.thread_time() < until_s:
        sum(range(100_000))
    assert time.clock_gettime(clock) - used < 0.001


def test_where_no_thread_can_be_started_the_caller_is_told_and_nothing_is_left(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(2)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for submit in (lambda: one.submit(int), lambda: one.submit(int, owner=1)):
            with pytest.raises(RuntimeError, match="no thread can be started"):
                submit()
        job = one.make(int)
        with pytest.raises(RuntimeError, match="no thread can be started"):
            one.submit_many([job])
        assert job.cancelled()
        assert len(one.pool) == 0
    assert one.submit(int, "5").result(BOUND_S) == 5
    one.until(lambda: len(one.pool._parked) == 1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    jobs = one.submit_many([one.make(int, str(number)) for number in range(9)])
    assert [job.result(BOUND_S) for job in jobs] == list(range(9)), "one thread that is there is enough"


def test_a_thread_without_memory_for_its_first_step_is_not_waited_for(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Thread.start`` has no bound: a thread that dies in its bootstrap would hold up the loop, and all others."""
    one = rig(3)
    tried: list[threading.Thread] = []

    def end_at_once(thread: threading.Thread) -> None:
        tried.append(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "_bootstrap", end_at_once)
        with pytest.raises(RuntimeError, match="no thread can be started"):
            one.submit(int)
        assert len(one.pool) == 0
    assert len(tried) == 1
    gate = one.hold()
    one.until(lambda: one.pool.searcher is None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "_bootstrap", end_at_once)
        one.pool._pause_until_ns = 0
        jobs = [one.submit(int, str(number)) for number in range(5)]
    assert len(tried) == 2, "while there is a thread no other is tried for a while"
    gate.set()
    assert [job.result(BOUND_S) for job in jobs] == list(range(5))
    one.pool._pause_until_ns = 0
    second, third = one.hold(), one.hold()
    assert len(one.threads()) == 2, "afterwards there are more of them again"
    second.set()
    third.set()


# -- who takes what ----------------------------------------------------------------------------------------------------


def test_critical_jobs_go_first_then_normal_ones_then_bulk(rig: Make) -> None:
    one = rig()
    gate, ran = one.hold(), []
    for level in (BULK, NORMAL, BULK, CRITICAL, NORMAL, CRITICAL):
        one.submit(ran.append, level, level=level)
    last = one.submit(ran.append, "last", level=BULK)
    gate.set()
    last.result(BOUND_S)
    assert ran == [CRITICAL] * 2 + [NORMAL] * 2 + [BULK] * 2 + ["last"]


def test_a_critical_job_goes_past_what_a_thread_took_already(rig: Make) -> None:
    one = rig()
    ran: list[Any] = []
    one.hurry()
    gate, started = threading.Event(), threading.Event()
    one.gates.append(gate)
    first = one.make(lambda: started.set() or gate.wait(BOUND_S))
    jobs = one.submit_many([first, *(one.make(ran.append, number) for number in range(20))])
    assert started.wait(BOUND_S)
    assert len(one.pool.workers[0].deque) == 20
    one.submit(ran.append, "critical", level=CRITICAL)
    gate.set()
    jobs[-1].result(BOUND_S)
    assert ran == ["critical", *range(20)]


def test_bulk_jobs_move_on_while_others_keep_coming(rig: Make) -> None:
    one = rig(job_count_max=1000)
    gate, ran = one.hold(), []
    one.submit(ran.append, "bulk", level=BULK)
    jobs = one.submit_many([one.make(ran.append, "normal") for _ in range(300)])
    gate.set()
    jobs[-1].result(BOUND_S)
    assert 0 < ran.index("bulk") <= 130


def test_owners_take_turns_and_each_ones_jobs_keep_their_order(rig: Make) -> None:
    one = rig(job_count_max=2000)
    gate, ran = one.hold(), []
    crowd = one.submit_many([one.make(ran.append, ("crowd", number), owner="crowd") for number in range(1000)])
    for number in range(3):
        one.submit(ran.append, ("lone", number), owner="lone")
    gate.set()
    crowd[-1].result(BOUND_S)
    assert [ran.index(("lone", number)) for number in range(3)] == [1, 3, 5]
    assert [number for who, number in ran if who == "crowd"] == list(range(1000))
    assert one.pool.line._queues == {}


def test_jobs_without_an_owner_keep_their_place_among_those_that_take_turns(rig: Make) -> None:
    one = rig()
    gate, ran = one.hold(), []
    for name, owner in (("a1", "a"), ("a2", "a"), ("free", None), ("b1", "b")):
        last = one.submit(ran.append, name, owner=owner)
    gate.set()
    last.result(BOUND_S)
    one.until(lambda: len(ran) == 4)
    assert ran == ["a1", "b1", "free", "a2"]


def test_what_stands_behind_a_long_job_is_taken_by_an_idle_thread(rig: Make, kit: Any, monkeypatch: Any) -> None:
    """The long job ends when one behind it has run, so that without stealing it would never."""
    stolen: list[bool] = []
    real = kit.Worker._steal
    monkeypatch.setattr(kit.Worker, "_steal", lambda worker: stolen.append(found := real(worker)) or found)
    one = rig(2)
    for _ in range(20):
        one.hurry()
        passed = threading.Event()
        jobs = [one.make(passed.wait, BOUND_S), *(one.make(int) for _ in range(2)), one.make(passed.set)]
        jobs += [one.make(int) for _ in range(4)]  # half of it is one thread's share
        one.submit_many(jobs)
        assert jobs[0].result(BOUND_S) is True
    assert any(stolen)


def test_jobs_of_a_job_are_run_by_its_own_thread_and_by_idle_ones(rig: Make) -> None:
    one = rig(2)
    meet = threading.Barrier(2)

    def parent() -> list[Any]:
        children = [one.submit(meet.wait, BOUND_S) for _ in range(2)]
        return children if one.pool.line.counts[NORMAL] == 0 else []

    children = one.submit(parent).result(BOUND_S)
    assert sorted(child.result(BOUND_S) for child in children) == [0, 1]


def test_a_job_that_submits_itself_again_and_again_holds_up_nobody(rig: Make) -> None:
    one = rig(1)
    stop, turns = threading.Event(), []

    def again() -> None:
        turns.append(1)
        if len(turns) < 50_000 and not stop.is_set():
            one.submit(again)

    gate = one.hold()
    one.submit(again)
    last = one.submit(stop.set)
    gate.set()
    last.result(BOUND_S)
    assert len(turns) < 1000


# -- the end -----------------------------------------------------------------------------------------------------------


def test_shutdown_runs_what_was_accepted_and_takes_no_more(rig: Make) -> None:
    one = rig(2)
    gate = one.hold()
    jobs = [one.submit(int, str(number)) for number in range(20)]
    one.pool.shutdown(wait=False)
    for submit in (lambda: one.submit(int), lambda: one.submit_many([one.make(int)])):
        with pytest.raises(PoolClosedError):
            submit()
    gate.set()
    one.pool.shutdown()
    assert [job.result(0) for job in jobs] == list(range(20))
    assert one.threads() == []


def test_shutdown_can_cancel_what_no_thread_has_begun(rig: Make) -> None:
    one = rig(1)
    gate = one.hold()
    jobs = [one.submit(int, str(number)) for number in range(20)]
    one.pool.shutdown(wait=False, cancel=True)
    assert all(job.cancelled() for job in jobs)
    gate.set()


def test_a_job_may_shut_its_own_pool_down(rig: Make) -> None:
    one = rig(2)
    one.submit(one.pool.shutdown).result(BOUND_S)
    one.until(lambda: one.threads() == [])


def test_a_pool_that_was_dropped_ends_with_its_idle_threads(kit: Any) -> None:
    one = Rig(kit, 1, 10, idle_s=0.005)
    one.submit(int).result(BOUND_S)
    gone, threads = weakref.ref(one.pool), one.threads()
    del one
    for thread in threads:
        thread.join(BOUND_S)
    gc.collect()
    assert gone() is None


# -- the death of a thread ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nothing catches it by its name."""


def die(*_: object) -> None:
    raise Killed


def test_a_thread_that_dies_is_replaced_and_its_work_goes_on(rig: Make, caplog: pytest.LogCaptureFixture) -> None:
    one = rig(1)
    one.hurry()
    called: list[Any] = []
    first = one.make(int, "0")
    first.add_done_callback(die)
    first.add_done_callback(called.append)
    jobs = one.submit_many([first, *(one.make(int, str(number)) for number in range(1, 30))])
    assert [job.result(BOUND_S) for job in jobs] == list(range(30))
    assert called == [first]
    assert one.pool._started_count == 2
    one.until(lambda: "the thread erlmcp-1 died" in caplog.text)


def test_the_call_of_a_thread_that_died_before_its_end_is_answered_with_an_error(rig: Make, kit: Any) -> None:
    one = rig(1)

    class Broken(kit.Future):  # type: ignore[misc]
        def run(self) -> bool:
            raise Killed

    told: list[Any] = []
    job = Broken(one.pool.live, int, (), NORMAL, None, lambda tell: tell(), lambda *found: told.append(found))
    one.pool.push(job)
    with pytest.raises(WorkerLostError, match="Killed") as caught:
        job.result(BOUND_S)
    assert isinstance(caught.value.__cause__, Killed)
    one.until(lambda: len(told) == 1)
    assert told == [(None, caught.value)]
    assert one.submit(int, "7").result(BOUND_S) == 7


def test_where_the_last_thread_died_and_none_can_be_started_what_waits_is_answered(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(1)
    gate = one.hold()
    first = one.submit(int)
    first.add_done_callback(die)
    jobs = [one.submit(int, str(number)) for number in range(5)]

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        gate.set()
        for job in jobs:
            assert isinstance(job.exception(BOUND_S), WorkerLostError)
        assert first.result(BOUND_S) == 0
        one.until(lambda: len(one.pool) == 0)
    assert one.submit(int, "7").result(BOUND_S) == 7
