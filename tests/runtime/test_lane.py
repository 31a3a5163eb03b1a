"""Thread lanes: bounded, cancellable before they begin, and batched on the way back."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from erlmcp.errors import McpError
from erlmcp.flags import Flags
from erlmcp.runtime.future import Future
from erlmcp.runtime.lane import ThreadLanes
from erlmcp.runtime.line import BULK, CRITICAL

mark: contextvars.ContextVar[str] = contextvars.ContextVar("lane_mark", default="none")


@pytest.fixture(params=["work stealing", "plain"], autouse=True)
def _pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes without a host use the one pool or the other."""
    monkeypatch.setattr("erlmcp.runtime.lane._ALL_ON", Flags(work_stealing=request.param == "work stealing"))


class Calls:
    """The outcomes of calls, and a way to wait for a number of them."""

    def __init__(self) -> None:
        self.found: list[tuple[Any, BaseException | None]] = []
        self._wanted: tuple[int, asyncio.Future[None]] | None = None

    def done(self, value: Any, error: BaseException | None) -> None:
        self.found.append((value, error))
        if self._wanted is not None and len(self.found) >= self._wanted[0] and not self._wanted[1].done():
            self._wanted[1].set_result(None)

    async def wait(self, count: int) -> list[tuple[Any, BaseException | None]]:
        if len(self.found) < count:
            self._wanted = count, asyncio.get_running_loop().create_future()
            await asyncio.wait_for(self._wanted[1], 10)
        return self.found


async def emptied(lanes: ThreadLanes) -> None:
    """Until the lanes' threads have counted themselves out (they do so after they delivered)."""
    for _ in range(100_000):
        if not len(lanes):
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{len(lanes)} calls are still counted")


async def test_a_call_runs_in_another_thread_and_its_value_comes_on_the_loop(loop_kind: str) -> None:
    lanes, calls = ThreadLanes(asyncio.get_running_loop(), 2, 8), Calls()
    seen = []

    def done(value: Any, error: BaseException | None) -> None:
        seen.append(threading.get_ident())
        calls.done(value, error)

    lanes.submit(lambda a, b: (a + b, threading.get_ident()), (1, 2), done)
    (value, error), *_ = await calls.wait(1)
    assert (value[0], error) == (3, None)
    assert value[1] != threading.get_ident()
    assert seen == [threading.get_ident()]
    await emptied(lanes)
    lanes.close()


async def test_an_exception_of_any_kind_comes_back(loop_kind: str) -> None:
    lanes, calls = ThreadLanes(asyncio.get_running_loop(), 1, 8), Calls()

    def fail(error: BaseException) -> None:
        raise error

    for error in (ValueError("x"), StopIteration("y"), SystemExit(3)):
        lanes.submit(fail, (error,), calls.done)
    assert [type(error) for _, error in await calls.wait(3)] == [ValueError, StopIteration, SystemExit]
    lanes.close()


@pytest.mark.parametrize("kind", [StopIteration, SystemExit, KeyboardInterrupt])
async def test_what_would_end_the_loop_reaches_who_waits_as_an_ordinary_error(
    loop_kind: str, kind: type[BaseException]
) -> None:
    lanes = ThreadLanes(asyncio.get_running_loop(), 1, 8)

    def leave() -> None:
        raise kind

    with pytest.raises(RuntimeError, match=f"leave raised {kind.__name__} in a thread") as caught:
        await lanes.call(leave, ())
    assert isinstance(caught.value.__cause__, kind)
    lanes.close()


async def test_more_than_the_threads_and_the_queue_hold_is_refused_and_room_comes_back() -> None:
    lanes, calls = ThreadLanes(asyncio.get_running_loop(), 1, 2), Calls()
    gate = threading.Event()
    for _ in range(3):
        lanes.submit(gate.wait, (10,), calls.done)
    assert len(lanes) == 3
    with pytest.raises(McpError, match="thread_queue_max=2") as caught:
        lanes.submit(gate.wait, (10,), calls.done)
    assert caught.value.code == -32000
    assert len(lanes) == 3
    gate.set()
    assert await calls.wait(3) == [(True, None)] * 3
    await emptied(lanes)
    lanes.submit(gate.wait, (10,), calls.done)
    await calls.wait(4)
    lanes.close()


async def test_a_call_cancelled_before_a_thread_took_it_never_runs_and_frees_its_place() -> None:
    lanes, calls = ThreadLanes(asyncio.get_running_loop(), 1, 1), Calls()
    gate, ran = threading.Event(), []
    lanes.submit(gate.wait, (10,), calls.done)
    waiting = lanes.submit(ran.append, (1,), calls.done)
    assert waiting.cancel()
    assert len(lanes) == 1
    lanes.submit(ran.append, (2,), calls.done)
    gate.set()
    await calls.wait(2)
    assert ran == [2]
    await emptied(lanes)
    lanes.close()


async def test_what_is_ready_comes_in_one_turn_of_the_loop_with_one_wake_up() -> None:
    loop = asyncio.get_running_loop()
    lanes, calls = ThreadLanes(loop, 4, 100), Calls()
    threads_done = threading.Semaphore(0)
    wake_ups = 0
    real = loop.call_soon_threadsafe

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal wake_ups
        wake_ups += 1
        return real(*args, **kwargs)

    loop.call_soon_threadsafe = counting  # type: ignore[method-assign]
    for number in range(50):
        lanes.submit(lambda n: n, (number,), calls.done).add_done_callback(lambda _: threads_done.release())
    for _ in range(50):
        assert threads_done.acquire(timeout=10)  # The loop stands still meanwhile.
    assert calls.found == []
    await asyncio.sleep(0)
    assert sorted(value for value, _ in calls.found) == list(range(50))
    assert wake_ups == 1
    lanes.close()


async def test_a_callback_that_raises_does_not_lose_the_results_behind_it() -> None:
    loop = asyncio.get_running_loop()
    lanes, calls = ThreadLanes(loop, 1, 8), Calls()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    finished = threading.Semaphore(0)

    def broken(value: Any, error: BaseException | None) -> None:
        raise RuntimeError("callback")

    lanes.submit(int, ("1",), broken).add_done_callback(lambda _: finished.release())
    lanes.submit(int, ("2",), calls.done).add_done_callback(lambda _: finished.release())
    for _ in range(2):
        assert finished.acquire(timeout=10)
    assert await calls.wait(1) == [(2, None)]
    assert [str(report["exception"]) for report in reports] == ["callback"]
    lanes.close()


async def test_a_thread_sees_the_context_variables_of_the_caller_and_leaves_them_alone() -> None:
    lanes, calls = ThreadLanes(asyncio.get_running_loop(), 1, 8), Calls()

    def change() -> str:
        before = mark.get()
        mark.set("changed in the thread")
        return before

    mark.set("the caller's")
    lanes.submit(change, (), calls.done)
    lanes.submit(change, (), calls.done)
    assert [value for value, _ in await calls.wait(2)] == ["the caller's"] * 2
    assert mark.get() == "the caller's"
    lanes.close()


def test_a_thread_that_ends_after_the_loop_was_closed_is_no_error() -> None:
    loop = asyncio.new_event_loop()
    lanes, calls = ThreadLanes(loop, 1, 1), Calls()
    gate, ended = threading.Event(), threading.Event()
    lanes.submit(gate.wait, (10,), calls.done).add_done_callback(lambda _: ended.set())
    loop.close()
    lanes.close()
    gate.set()
    assert ended.wait(10)
    assert calls.found == []
    assert len(lanes) == 0


async def test_close_cancels_what_waits_and_lets_the_running_call_end() -> None:
    lanes, calls = ThreadLanes(asyncio.get_running_loop(), 1, 8), Calls()
    gate, started = threading.Event(), threading.Event()

    def hold() -> str:
        started.set()
        gate.wait(10)
        return "held"

    lanes.submit(hold, (), calls.done)
    waiting = lanes.submit(int, ("1",), calls.done)
    assert started.wait(10)
    lanes.close()
    assert waiting.cancelled()
    gate.set()
    assert await calls.wait(1) == [("held", None)]
    await emptied(lanes)


async def test_lanes_that_were_never_used_have_no_threads_to_close() -> None:
    lanes = ThreadLanes(asyncio.get_running_loop(), 1, 1)
    before = threading.active_count()
    lanes.close()
    assert threading.active_count() == before


class Host:
    def __init__(self, **flags: bool) -> None:
        self.flags = Flags(**flags)


async def test_flags_choose_the_pool_of_the_next_call_and_the_bound_is_for_both_together() -> None:
    host = Host(work_stealing=False)
    lanes, calls = ThreadLanes(asyncio.get_running_loop(), 1, 2, host), Calls()
    gate = threading.Event()
    plain = lanes.submit(gate.wait, (10,), calls.done)
    host.flags = Flags(work_stealing=True)
    stealing = lanes.submit(gate.wait, (10,), calls.done)
    assert (isinstance(plain, Future), isinstance(stealing, Future)) == (False, True)
    lanes.submit(gate.wait, (10,), calls.done)
    host.flags = Flags(work_stealing=False)
    with pytest.raises(McpError, match="thread_queue_max=2"):
        lanes.submit(gate.wait, (10,), calls.done)
    gate.set()
    assert await calls.wait(3) == [(True, None)] * 3
    await emptied(lanes)
    lanes.close()


@pytest.mark.parametrize("is_on", [True, False])
async def test_without_priority_queues_calls_go_in_the_order_in_which_they_came(is_on: bool) -> None:
    lanes, calls = ThreadLanes(asyncio.get_running_loop(), 1, 8, Host(priority_queues=is_on)), Calls()
    gate, started, ran = threading.Event(), threading.Event(), []
    lanes.submit(lambda: started.set() or gate.wait(10), (), calls.done)
    assert started.wait(10)
    for name, level, owner in [
        ("bulk", BULK, "a"),
        ("a1", 1, "a"),
        ("a2", 1, "a"),
        ("b1", 1, "b"),
        ("now", CRITICAL, 0),
    ]:
        lanes.submit(ran.append, (name,), calls.done, level=level, owner=owner)
    gate.set()
    await calls.wait(6)
    assert ran == (["now", "a1", "b1", "a2", "bulk"] if is_on else ["bulk", "a1", "a2", "b1", "now"])
    lanes.close()


async def test_a_thread_that_dies_has_its_call_answered_and_the_others_served() -> None:
    lanes, calls = ThreadLanes(asyncio.get_running_loop(), 1, 8, Host()), Calls()

    def die(_future: object) -> None:
        raise SystemExit

    lanes.submit(int, ("1",), calls.done).add_done_callback(die)
    lanes.submit(int, ("2",), calls.done)
    assert await calls.wait(2) == [(1, None), (2, None)]
    lanes.close()
