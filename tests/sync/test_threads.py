"""``erlmcp.sync.ThreadPool``: the pool as ``concurrent.futures`` knows one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from erlmcp.errors import LimitError, PoolClosedError
from erlmcp.sync import ThreadPool
from erlmcp.sync.threads import AHEAD

BOUND_S = 20


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    with ThreadPool(2) as made:
        yield made


@pytest.fixture
def gate(pool: ThreadPool) -> Iterator[threading.Event]:
    """Both threads are busy until it is set."""
    made, busy = threading.Event(), threading.Barrier(3)
    for _ in range(2):
        pool.submit(lambda: busy.wait(BOUND_S) is None or made.wait(BOUND_S))
    busy.wait(BOUND_S)
    yield made
    made.set()


def fail() -> None:
    raise ValueError("failed")


def test_it_is_an_executor_whose_futures_are_futures(pool: ThreadPool) -> None:
    assert isinstance(pool, concurrent.futures.Executor)
    future = pool.submit(divmod, 17, 5)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(BOUND_S) == (3, 2)
    assert pool.submit(int, "11", base=2).result(BOUND_S) == 3
    with pytest.raises(ValueError, match="failed"):
        pool.submit(fail).result(BOUND_S)


def test_wait_and_as_completed_take_its_futures(pool: ThreadPool, gate: threading.Event) -> None:
    futures = [pool.submit(int, "1"), pool.submit(fail), pool.submit(int, "2")]
    assert futures[2].cancel()
    done, waiting = concurrent.futures.wait(futures, timeout=0)
    assert (done, waiting) == ({futures[2]}, set(futures[:2]))
    gate.set()
    assert set(concurrent.futures.as_completed(futures, BOUND_S)) == set(futures)
    assert concurrent.futures.wait(futures, BOUND_S).not_done == set()
    failed, _ = concurrent.futures.wait(futures, BOUND_S, concurrent.futures.FIRST_EXCEPTION)
    assert futures[1] in failed


def test_a_waiting_thread_hears_of_each_kind_of_end(pool: ThreadPool, gate: threading.Event) -> None:
    futures = [pool.submit(int, "1"), pool.submit(fail), pool.submit(int, "2")]
    seen: list[Any] = []
    waiting = threading.Thread(target=lambda: seen.extend(concurrent.futures.as_completed(futures, BOUND_S)))
    waiting.start()
    while not all(getattr(future, "_waiters", None) for future in futures):
        pass
    futures[2].cancel()
    gate.set()
    waiting.join(BOUND_S)
    assert set(seen) == set(futures)


def test_only_the_pool_sets_an_outcome(pool: ThreadPool) -> None:
    future = pool.submit(int)
    for act in (
        lambda: future.set_result(1),
        lambda: future.set_exception(ValueError()),
        future.set_running_or_notify_cancel,
    ):
        with pytest.raises(concurrent.futures.InvalidStateError):
            act()
    assert future.result(BOUND_S) == 0


def test_submit_many_keeps_the_order_and_takes_all_or_none(gate: threading.Event) -> None:
    with ThreadPool(2, job_count_max=10) as pool:
        assert [future.result(BOUND_S) for future in pool.submit_many(str, range(10))] == list("0123456789")
        with pytest.raises(LimitError, match="job_count_max=10"):
            pool.submit_many(str, range(11))
        assert len(pool) == 0
        assert pool.submit_many(str, []) == []


def test_map_gives_results_in_order_as_the_standard_executor_does(pool: ThreadPool) -> None:
    count = 3 * AHEAD
    for chunksize in (1, 7):
        assert list(pool.map(pow, range(count), [2] * count, chunksize=chunksize)) == [n * n for n in range(count)]
    assert list(pool.map(str, [])) == []
    with pytest.raises(ValueError, match="failed"):
        list(pool.map(lambda _: fail(), range(5)))
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(str, [1], chunksize=0)


def test_map_submits_no_more_than_it_has_to_and_cancels_what_nobody_wants(
    pool: ThreadPool, gate: threading.Event
) -> None:
    drawn: list[int] = []

    def draw() -> Iterator[int]:
        for number in range(3 * AHEAD):
            drawn.append(number)
            yield number

    results = pool.map(str, draw())
    assert len(drawn) == AHEAD
    assert len(pool) == AHEAD + 2
    with pytest.raises(TimeoutError):
        next(pool.map(str, [1], timeout=0.001))
    gate.set()
    assert [next(results) for _ in range(5)] == list("01234")
    assert len(drawn) == AHEAD + 5
    results.close()  # type: ignore[attr-defined]


def test_a_priority_that_is_none_is_refused(pool: ThreadPool) -> None:
    with pytest.raises(KeyError, match="urgent"):
        pool.submit(int, priority="urgent")  # type: ignore[arg-type]


def test_priorities_and_owners_decide_who_goes_first() -> None:
    ran: list[str] = []
    with ThreadPool(1) as pool:
        started, gate = threading.Event(), threading.Event()
        pool.submit(lambda: started.set() or gate.wait(BOUND_S))  # type: ignore[func-returns-value]
        assert started.wait(BOUND_S)
        pool.submit_many(ran.append, ["a1", "a2", "a3"], owner="a")
        pool.submit(ran.append, "b1", owner="b")
        pool.submit(ran.append, "bulk", priority="bulk")
        pool.submit(ran.append, "critical", priority="critical")
        gate.set()
    assert ran == ["critical", "a1", "b1", "a2", "a3", "bulk"]


def test_after_shutdown_it_takes_no_more_as_the_standard_executor(pool: ThreadPool) -> None:
    pool.shutdown()
    with pytest.raises(PoolClosedError):
        pool.submit(int)
    assert issubclass(PoolClosedError, RuntimeError)


def test_shutdown_can_cancel_what_waits(pool: ThreadPool, gate: threading.Event) -> None:
    future = pool.submit(int)
    pool.shutdown(wait=False, cancel_futures=True)
    assert future.cancelled()


async def test_a_future_can_be_awaited_and_wrapped(loop_kind: str, pool: ThreadPool) -> None:
    assert await pool.submit(int, "1") == 1
    assert await asyncio.wrap_future(pool.submit(int, "2")) == 2
    assert await asyncio.get_running_loop().run_in_executor(pool, int, "3") == 3
    with pytest.raises(ValueError, match="failed"):
        await pool.submit(fail)
    ended = pool.submit(int, "4")
    ended.result(BOUND_S)
    assert await ended == 4


async def test_who_stops_waiting_on_a_loop_cancels_a_call_that_has_not_begun(
    pool: ThreadPool, gate: threading.Event
) -> None:
    future = pool.submit(int)

    async def wait() -> int:
        found: int = await future
        return found

    tasks = [asyncio.ensure_future(wait()) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        await tasks[1]


def test_a_program_that_ends_runs_what_was_accepted_first() -> None:
    program = (
        "import sys, time\n"
        "from erlmcp.sync import ThreadPool\n"
        "pool = ThreadPool(2)\n"
        "for number in range(20): pool.submit(lambda n=number: (time.sleep(0.002), sys.stdout.write(f'{n} ')))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(map(int, ran.stdout.split())) == list(range(20))
    assert ran.stderr == ""


def test_a_program_does_not_wait_for_threads_that_have_nothing_to_do() -> None:
    program = "from erlmcp.sync import ThreadPool\nprint(ThreadPool(4, idle_s=1000).submit(int, '7').result())\n"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (ran.stdout, ran.stderr) == ("7\n", "")


def test_in_the_child_of_a_fork_the_pool_begins_anew_and_leaves_the_parents_work_alone() -> None:
    program = """
import os, sys, threading
from erlmcp.sync import ThreadPool
pool, started, gate = ThreadPool(1), threading.Event(), threading.Event()
pool.submit(lambda: (started.set(), gate.wait(20)))
started.wait(20)
waiting = pool.submit(os.write, 1, b"parent ")
child = os.fork()
if child == 0:
    assert len(pool) == 0
    pool.submit(os.write, 1, b"child ").result(20)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
gate.set()
waiting.result(20)
"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("child parent ", "", 0)
