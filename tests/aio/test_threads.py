"""``erlmcp.aio.ThreadPool``: functions that block, awaited."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest

from erlmcp.aio import ThreadPool
from erlmcp.errors import LimitError, PoolClosedError

BOUND_S = 20


def fail(_: object = None) -> None:
    raise ValueError("failed")


async def test_a_function_runs_in_a_thread_and_its_outcome_is_awaited(loop_kind: str) -> None:
    async with ThreadPool(2) as pool:
        assert await pool.run(threading.get_ident) != threading.get_ident()
        assert await pool.run(int, "11", base=2) == 3
        with pytest.raises(ValueError, match="failed"):
            await pool.run(fail)
        assert await asyncio.gather(*(pool.run(int, str(number)) for number in range(50))) == list(range(50))
    with pytest.raises(PoolClosedError):
        await pool.run(int)
    assert pool.core.workers == []


async def test_many_come_back_in_order_by_one_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, wakes = asyncio.get_running_loop(), []
    real = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *given: wakes.append(1) or real(*given))
    async with ThreadPool(1) as pool:
        started, gate = threading.Event(), threading.Event()
        blocked = asyncio.ensure_future(pool.run(lambda: started.set() or gate.wait(BOUND_S)))
        await asyncio.sleep(0)
        assert started.wait(BOUND_S)
        many = asyncio.ensure_future(pool.run_many(str, range(100)))
        await asyncio.sleep(0)
        gate.set()
        while len(pool):  # The loop stands still meanwhile.
            pass
        assert await many == [str(number) for number in range(100)]
        assert await blocked
        assert await pool.run_many(str, []) == []
    assert len(wakes) <= 3


async def test_the_first_error_of_many_cancels_what_has_not_begun() -> None:
    ran: list[int] = []

    def work(number: int) -> None:
        ran.append(number)
        if number == 0:
            raise ValueError("failed")
        assert meanwhile.wait(BOUND_S)

    meanwhile = threading.Event()
    async with ThreadPool(2) as pool:
        with pytest.raises(ValueError, match="failed"):
            await pool.run_many(work, range(100))
        meanwhile.set()
    assert len(ran) < 100


async def test_more_than_there_may_be_is_refused_as_a_whole() -> None:
    async with ThreadPool(1, job_count_max=5) as pool:
        with pytest.raises(LimitError, match="job_count_max=5"):
            await pool.run_many(str, range(6))
        assert len(pool) == 0


@pytest.mark.parametrize("kind", ["run", "run_many"])
async def test_who_waits_when_the_pool_is_closed_is_told(kind: str) -> None:
    pool = ThreadPool(1)
    started, gate = threading.Event(), threading.Event()
    blocked = asyncio.ensure_future(pool.run(lambda: started.set() or gate.wait(BOUND_S)))
    await asyncio.sleep(0)
    assert started.wait(BOUND_S)
    waiting = asyncio.ensure_future(pool.run(int) if kind == "run" else pool.run_many(str, [1, 2]))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(pool.close())
    with pytest.raises(concurrent.futures.CancelledError):
        await asyncio.wait_for(waiting, BOUND_S)
    gate.set()
    assert await blocked
    await closing


@pytest.mark.parametrize("kind", ["run", "run_many"])
async def test_a_cancelled_task_cancels_what_has_not_begun_and_the_end_waits_for_the_rest(kind: str) -> None:
    ran: list[Any] = []
    async with ThreadPool(1) as pool:
        started, gate = threading.Event(), threading.Event()
        blocked = asyncio.ensure_future(pool.run(lambda: started.set() or gate.wait(BOUND_S)))
        await asyncio.sleep(0)
        assert started.wait(BOUND_S)
        asked = pool.run(ran.append, 1) if kind == "run" else pool.run_many(ran.append, [1, 2])
        waiting = asyncio.ensure_future(asked)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(pool) == 1
        gate.set()
        assert await blocked
    assert ran == []
