"""The executor: the first step of a handler inline, a task only for one that waits, and no way for it to tell."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from erlmcp import Context, Server
from erlmcp.runtime.executor import Executor, cancel_soon

Outcome = list[tuple[Any, BaseException | None]]
mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")


def collect() -> tuple[Outcome, Callable[[Any, BaseException | None], None]]:
    found: Outcome = []
    return found, lambda value, error: found.append((value, error))


async def drain(executor: Executor) -> None:
    while executor.running:
        await asyncio.wait(executor.running, timeout=5)


async def test_a_handler_that_does_not_wait_is_done_at_once_and_makes_no_task(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    await asyncio.sleep(0)
    before = asyncio.all_tasks()
    found, done = collect()

    async def handler() -> int:
        return 7

    for _ in range(10):
        assert executor.start(handler(), done) is None
    assert found == [(7, None)] * 10
    assert asyncio.all_tasks() == before
    executor.close()


async def test_a_handler_that_waits_goes_on_in_a_task(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()
    gate = asyncio.Event()

    async def handler() -> str:
        await gate.wait()
        await asyncio.sleep(0)
        return "later"

    task = executor.start(handler(), done)
    assert task is not None
    assert task in executor.running
    await asyncio.sleep(0)
    assert not found
    gate.set()
    await drain(executor)
    assert found == [("later", None)]
    assert not executor.running
    executor.close()


async def test_the_current_task_is_the_same_before_and_after_the_first_wait(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()
    outer = asyncio.current_task()

    async def handler() -> list[asyncio.Task[Any] | None]:
        seen = [asyncio.current_task()]
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        return [*seen, asyncio.current_task()]

    task = executor.start(handler(), done)
    assert asyncio.current_task() is outer
    await drain(executor)
    assert found[0][0] == [task] * 3
    executor.close()


async def test_two_handlers_at_work_have_different_tasks(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def handler() -> asyncio.Task[Any] | None:
        await asyncio.sleep(0)
        return asyncio.current_task()

    tasks = [executor.start(handler(), done) for _ in range(5)]
    await drain(executor)
    assert [value for value, _ in found] == tasks
    assert len(set(tasks)) == 5
    executor.close()


async def test_many_handlers_within_one_enter_end_inline_or_wait(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()
    outer = asyncio.current_task()

    async def handler(number: int) -> int:
        if number % 3 == 0:
            await asyncio.sleep(0)
        return number

    before = executor.enter()
    for number in range(9):
        executor.start(handler(number), done)
    executor.leave(before)
    assert asyncio.current_task() is outer
    assert [value for value, _ in found] == [1, 2, 4, 5, 7, 8]
    await drain(executor)
    assert sorted(value for value, _ in found) == list(range(9))
    executor.close()


async def test_a_timeout_within_a_handler_cuts_its_wait(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def handler() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            task = asyncio.current_task()
            assert task is not None
            return f"cut, {task.cancelling()} cancellations left"
        return "not cut"

    executor.start(handler(), done)
    await drain(executor)
    assert found == [("cut, 0 cancellations left", None)]
    executor.close()


async def test_a_timeout_that_is_over_before_it_begins_cuts_the_first_wait(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def handler() -> str:
        async with asyncio.timeout(-1):
            await asyncio.Event().wait()
        return "not cut"

    executor.start(handler(), done)
    await drain(executor)
    assert isinstance(found[0][1], TimeoutError)
    executor.close()


async def test_a_task_group_within_a_handler_works_and_fails_as_a_whole(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def work(number: int) -> int:
        await asyncio.sleep(0)
        if number < 0:
            raise ValueError(number)
        return number

    async def handler(*numbers: int) -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(number)) for number in numbers]
        return sum(task.result() for task in tasks)

    executor.start(handler(1, 2, 3), done)
    executor.start(handler(1, -2, 3), done)
    await drain(executor)
    assert found[0] == (6, None)
    error = found[1][1]
    assert isinstance(error, ExceptionGroup)
    assert [type(each) for each in error.exceptions] == [ValueError]
    executor.close()


async def test_variables_of_one_handler_are_not_seen_by_the_next(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def handler(value: str, waits: bool) -> tuple[str, str]:
        before = mark.get()
        mark.set(value)
        if waits:
            await asyncio.sleep(0)
        return before, mark.get()

    outer = executor.enter()
    for number in range(6):
        executor.start(handler(str(number), number % 2 == 0), done)
    executor.leave(outer)
    await drain(executor)
    assert sorted(value for value, _ in found) == [("none", str(number)) for number in range(6)]
    assert mark.get() == "none"
    executor.close()


async def test_a_handler_sees_the_variables_that_were_set_before_the_executor_was_made(loop_kind: str) -> None:
    token = mark.set("base")
    executor = Executor(asyncio.get_running_loop())
    mark.reset(token)
    found, done = collect()

    async def handler() -> str:
        return mark.get()

    executor.start(handler(), done)
    assert found == [("base", None)]
    executor.close()


async def test_an_exception_before_and_after_the_first_wait_reaches_done(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def handler(waits: bool) -> None:
        if waits:
            await asyncio.sleep(0)
        raise KeyError("gone")

    assert executor.start(handler(False), done) is None
    executor.start(handler(True), done)
    await drain(executor)
    assert [type(error) for _, error in found] == [KeyError, KeyError]
    executor.close()


async def test_a_group_of_base_exceptions_reaches_done_whole(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    class Odd(BaseException):
        pass

    async def odd() -> None:
        raise Odd

    async def handler() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(odd())

    executor.start(handler(), done)
    await drain(executor)
    error = found[0][1]
    assert isinstance(error, BaseExceptionGroup)
    assert error.subgroup(Odd) is not None
    executor.close()


async def test_a_cancelled_handler_gets_the_cancellation_where_it_waits(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()
    seen = []

    async def handler() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return "not cancelled"

    task = executor.start(handler(), done)
    assert task is not None
    await asyncio.sleep(0)
    task.cancel()
    await drain(executor)
    assert seen == ["cancelled"]
    assert isinstance(found[0][1], asyncio.CancelledError)
    executor.close()


async def test_a_handler_cancelled_in_the_turn_in_which_it_began_gets_the_cancellation(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def handler() -> None:
        await asyncio.Event().wait()

    for _ in range(3):  # The first carrier has been there for a while, the next ones are new.
        task = executor.start(handler(), done)
        assert task is not None
        cancel_soon(task)
    await drain(executor)
    assert [type(error) for _, error in found] == [asyncio.CancelledError] * 3
    executor.close()


async def test_a_task_cancelled_at_once_from_outside_ends_its_handler(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    await asyncio.sleep(0)
    found, done = collect()

    async def handler() -> None:
        await asyncio.Event().wait()

    for _ in range(3):
        task = executor.start(handler(), done)
        assert task is not None
        task.cancel()
    await drain(executor)
    assert [type(error) for _, error in found] == [asyncio.CancelledError] * 3
    executor.close()


@pytest.mark.parametrize("waits_before", [0, 1])
async def test_a_handler_may_cancel_itself(loop_kind: str, waits_before: int) -> None:
    executor = Executor(asyncio.get_running_loop())
    await asyncio.sleep(0)
    found, done = collect()

    async def handler() -> str:
        for _ in range(waits_before):
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()
        return "went on"

    for _ in range(3):
        executor.start(handler(), done)
    await drain(executor)
    assert [type(error) for _, error in found] == [asyncio.CancelledError] * 3
    executor.close()


async def test_a_handler_that_cancels_itself_and_returns_spoils_nothing_for_the_next(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def rash() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "rash"

    async def calm() -> str:
        await asyncio.sleep(0)
        return "calm"

    for _ in range(3):
        executor.start(rash(), done)
        executor.start(calm(), done)
        await drain(executor)
    assert sorted(value for value, _ in found) == ["calm"] * 3 + ["rash"] * 3
    executor.close()


async def test_a_handler_that_shields_itself_from_cancellation_ends_with_its_value(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def handler() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "stayed"
        return "not cancelled"

    task = executor.start(handler(), done)
    assert task is not None
    cancel_soon(task)
    await drain(executor)
    assert found == [("stayed", None)]
    executor.close()


async def test_start_within_a_handler_leaves_its_task_as_it_was(loop_kind: str) -> None:
    outer_executor = Executor(asyncio.get_running_loop())
    inner_executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def inner() -> asyncio.Task[Any] | None:
        return asyncio.current_task()

    async def inner_waits() -> None:
        await asyncio.sleep(0)

    async def handler() -> tuple[bool, bool]:
        mine = asyncio.current_task()
        for executor in (outer_executor, inner_executor):
            before = executor.enter()
            executor.start(inner(), done)
            executor.start(inner_waits(), done)
            executor.leave(before)
        same = asyncio.current_task() is mine
        await asyncio.sleep(0)
        return same, asyncio.current_task() is mine

    outer_executor.start(handler(), done)
    await drain(outer_executor)
    await drain(inner_executor)
    assert (((True, True), None)) in found
    inner_tasks = [value for value, _ in found if isinstance(value, asyncio.Task)]
    assert len(set(inner_tasks)) == 2
    outer_executor.close()
    inner_executor.close()


async def test_a_tool_may_call_another_server_in_memory_and_its_own(loop_kind: str) -> None:
    import json

    inner, outer = Server("inner"), Server("outer")

    def line(id: int, name: str, **arguments: Any) -> bytes:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": name, "arguments": arguments, "_meta": meta}
        return json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode() + b"\n"

    @inner.tool
    async def twice(n: int, waits: bool = False) -> int:
        if waits:
            await asyncio.sleep(0)
        return 2 * n

    inner.add_tool(twice, name="again")
    outer.add_tool(twice)

    @outer.tool
    async def relay(ctx: Context, n: int, waits: bool) -> list[int]:
        found = []
        mine = asyncio.current_task()
        for server in (inner, outer):
            async with server.memory() as wire:
                assert asyncio.current_task() is mine
                wire.send(line(1, "twice", n=n, waits=waits))
                assert asyncio.current_task() is mine
                found.append(json.loads(await wire.receive())["result"]["structuredContent"]["result"])
        return found

    async with outer.memory() as wire:
        for id, waits in enumerate([False, True, False]):
            wire.send(line(id, "relay", n=21, waits=waits))
            answer = json.loads(await wire.receive())
            assert answer["id"] == id
            assert answer["result"]["structuredContent"] == {"result": [42, 42]}


async def test_close_lets_the_parked_carrier_end(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 2
    executor.close()
    executor.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_close_while_handlers_run_leaves_them_to_their_owner(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def handler() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "ended"

    executor.start(handler(), done)
    executor.close()
    await drain(executor)
    assert found == [("ended", None)]


def test_an_interrupt_in_the_first_step_leaves_the_executor_usable(run: Callable[..., Any]) -> None:
    async def main() -> Outcome:
        executor = Executor(asyncio.get_running_loop())
        found, done = collect()

        async def rude() -> None:
            raise KeyboardInterrupt

        async def polite() -> str:
            return "fine"

        outer = asyncio.current_task()
        with pytest.raises(KeyboardInterrupt):
            executor.start(rude(), done)
        assert asyncio.current_task() is outer
        executor.start(polite(), done)
        executor.close()
        return found

    assert run(main) == [("fine", None)]


async def test_an_anyio_scope_may_be_opened_before_the_first_wait_and_closed_after_it() -> None:
    anyio = pytest.importorskip("anyio")
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def handler() -> str:
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep_forever()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        return f"cut: {scope.cancelled_caught}"

    executor.start(handler(), done)
    await drain(executor)
    assert found == [("cut: True", None)]
    executor.close()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_cancellation_strikes_what_the_handler_waits_for(loop_kind: str, turns: int) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()
    children: list[asyncio.Task[Any]] = []

    async def handler() -> None:
        children[:] = [asyncio.create_task(asyncio.Event().wait()) for _ in range(2)]
        await asyncio.gather(*children)

    for _ in range(3):
        task = executor.start(handler(), done)
        assert task is not None
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await drain(executor)
        assert isinstance(found[-1][1], asyncio.CancelledError)
        assert [child.cancelled() for child in children] == [True, True]
    executor.close()


async def test_a_parked_carrier_that_somebody_cancelled_is_replaced(loop_kind: str) -> None:
    executor = Executor(asyncio.get_running_loop())
    found, done = collect()

    async def handler() -> str:
        await asyncio.sleep(0)
        return "served"

    current = asyncio.current_task()
    for _ in range(2):
        for task in asyncio.all_tasks() - {current}:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        executor.start(handler(), done)
        await drain(executor)
    assert found == [("served", None)] * 2
    executor.close()
