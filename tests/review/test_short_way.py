"""The short way of a tool call, where handlers do what handlers seldom do."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from erlmcp import Server

mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="clean")


def call(id: int, name: str, **arguments: Any) -> bytes:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}
    return json.dumps(message).encode() + b"\n"


async def texts(wire: Any, count: int) -> dict[int, str]:
    found = {}
    for _ in range(count):
        message = json.loads(await wire.receive())
        found[message["id"]] = message["result"]["content"][0]["text"]
    return found


def make_server() -> Server:
    server = Server("short", mask_errors=False)

    @server.tool
    async def plain(text: str = "x") -> str:
        return text

    @server.tool
    async def see() -> str:
        return mark.get()

    return server


async def test_a_handler_that_cancels_itself_and_returns_harms_no_later_one() -> None:
    server = make_server()

    @server.tool
    async def rash() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done"

    @server.tool
    async def patient() -> str:
        await asyncio.sleep(0)
        return "waited"

    async with server.memory() as wire:
        wire.send(call(0, "plain"))
        await texts(wire, 1)
        wire.send(call(1, "rash") + call(2, "patient"))
        assert await texts(wire, 2) == {1: "done", 2: "waited"}


async def test_a_parked_task_that_somebody_cancels_takes_no_handler_with_it() -> None:
    server = make_server()
    kept: list[Any] = []

    @server.tool
    async def keep() -> str:
        kept.append(asyncio.current_task())
        return "kept"

    @server.tool
    async def patient() -> str:
        await asyncio.sleep(0)
        return "waited"

    async with server.memory() as wire:
        wire.send(call(0, "plain"))
        wire.send(call(1, "keep"))
        await texts(wire, 2)
        await asyncio.sleep(0)
        kept[0].cancel()  # It was the task of a call that has ended.
        wire.send(call(2, "patient"))
        assert await texts(wire, 1) == {2: "waited"}


async def test_a_variable_is_not_seen_by_the_next_call_where_the_handler_fed_another_link() -> None:
    server = make_server()
    answers: list[bytes] = []

    @server.tool
    async def nested() -> str:
        other = server.link(answers.append)
        mark.set("mine")
        other.feed(call(7, "plain"))
        other.feed(call(8, "see"))
        other.close()
        return mark.get()

    async with server.memory() as wire:
        wire.send(call(0, "plain"))
        await texts(wire, 1)
        wire.send(call(1, "see") + call(2, "nested") + call(3, "see") + call(4, "see"))
        assert await texts(wire, 4) == {1: "clean", 2: "mine", 3: "clean", 4: "clean"}
        inner = [json.loads(line)["result"]["content"][0]["text"] for line in b"".join(answers).splitlines()]
        assert inner == ["x", "clean"]
    assert mark.get() == "clean"


@dataclass
class Marked:
    text: str

    def __post_init__(self) -> None:
        mark.set(self.text)


async def test_what_decoding_the_arguments_sets_is_the_calls_own() -> None:
    server = make_server()

    @server.tool
    async def take(value: Marked) -> str:
        return mark.get()

    async with server.memory() as wire:
        wire.send(call(0, "plain"))
        await texts(wire, 1)
        wire.send(call(1, "take", value={"text": "mine"}) + call(2, "see"))
        assert await texts(wire, 2) == {1: "mine", 2: "clean"}
        assert mark.get() == "clean"


class Awaitable:
    """What has an __await__ and is no coroutine, as the compiled coroutines of other tools are."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.value


def _future(value: str) -> Any:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, value)
    return future


@pytest.mark.parametrize("make", [Awaitable, _future, lambda value: value], ids=["awaitable", "future", "value"])
@pytest.mark.parametrize("with_context", [False, True], ids=["short", "general"])
async def test_a_wrapper_of_an_async_function_may_give_anything_that_can_be_awaited(
    make: Callable[[str], Any], with_context: bool
) -> None:
    server = make_server()

    async def inner(text: str) -> str:
        return text

    @functools.wraps(inner)
    def outer(text: str) -> Any:
        return make(text)

    server.add_tool(outer, name="outer")
    if with_context:

        async def through(ctx: Any, call_next: Any) -> Any:
            return await call_next(ctx)

        server.add_middleware(through)
    async with server.memory() as wire:
        wire.send(call(0, "plain"))
        await texts(wire, 1)
        wire.send(call(1, "outer", text="hello") + call(2, "plain", text="after"))
        assert await texts(wire, 2) == {1: "hello", 2: "after"}


@pytest.mark.parametrize("error", [StopIteration(5), GeneratorExit(), asyncio.CancelledError(), StopAsyncIteration()])
@pytest.mark.parametrize("waits", [False, True])
async def test_an_odd_exception_of_a_handler_is_a_failed_call(error: BaseException, waits: bool, quiet: None) -> None:
    server = make_server()

    @server.tool
    async def odd() -> str:
        if waits:
            await asyncio.sleep(0)
        raise error

    async with server.memory() as wire:
        wire.send(call(0, "plain"))
        await texts(wire, 1)
        wire.send(call(1, "odd") + call(2, "plain", text="after"))
        found = await texts(wire, 2)
        assert found[1].startswith("Error executing tool odd")
        assert found[2] == "after"


async def test_a_keyboard_interrupt_leaves_the_short_way_and_nothing_entered() -> None:
    server = make_server()

    @server.tool
    async def interrupt() -> str:
        mark.set("mine")
        raise KeyboardInterrupt

    async with server.memory() as wire:
        task = asyncio.current_task()
        wire.send(call(0, "plain"))
        await texts(wire, 1)
        with pytest.raises(KeyboardInterrupt):
            wire.send(call(1, "interrupt"))
        assert asyncio.current_task() is task
        assert (server.executor.carrier, mark.get()) == (None, "clean")
        wire.send(call(2, "see"))
        assert await texts(wire, 1) == {2: "clean"}


async def test_a_tool_may_remove_itself_while_it_is_called() -> None:
    server = make_server()

    @server.tool
    async def once() -> str:
        server.remove_tool("once")
        return "gone"

    async with server.memory() as wire:
        wire.send(call(0, "plain"))
        await texts(wire, 1)
        wire.send(call(1, "once"))
        assert await texts(wire, 1) == {1: "gone"}
        wire.send(call(2, "once"))
        assert json.loads(await wire.receive())["error"]["code"] == -32602


async def test_a_handler_that_closes_its_own_connection_is_cancelled_where_it_waits_after_that() -> None:
    server = make_server()
    ended: list[str] = []

    @server.tool
    async def leave() -> str:
        wire.close()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "x"

    async with server.memory() as wire:
        wire.send(call(0, "plain"))
        await texts(wire, 1)
        wire.send(call(1, "leave"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert ended == ["cancelled"]
        assert not wire._link.session.inflight
