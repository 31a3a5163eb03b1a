"""Many requests of every kind, in an interpreter of its own: what is there after them that was not there before?

With the collector off, as a cycle that a request leaves behind is work for it at some later time; then on, for what
would stay for good. Prints one line of JSON for each kind: its name, and how many objects more in either way.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from rawpeer import delete, initialize, legacy, make_house, modern, modern_post, note, post, tool

from erlmcp import Context, Server
from erlmcp.errors import McpError, ToolError
from erlmcp.server.serve import http

os.environ["ERLMCP_METRICS"] = "off"  # its rings and spans fill up to their bounds with time, not with requests
Round = Callable[[int], Awaitable[None]]
ROUND = 100


def add_tools(server: Server) -> None:
    @server.tool
    async def fails() -> str:
        raise ValueError("x")

    @server.tool
    async def fails_late() -> str:
        await asyncio.sleep(0)
        raise ValueError("x")

    @server.tool
    async def refuses() -> str:
        raise ToolError("x")

    @server.tool
    async def refuses_by_code() -> str:
        raise McpError(7, "x")

    @server.tool
    async def waits() -> str:
        await asyncio.sleep(0)
        return "x"

    @server.tool
    async def knows(ctx: Context) -> str:
        return str(ctx.request_id)

    @server.tool
    def threaded() -> str:
        return "x"

    @server.tool
    def thread_fails() -> str:
        raise ValueError("x")

    @server.tool
    async def forever() -> str:
        await asyncio.sleep(1000)
        return "x"

    @server.prompt
    async def greet(name: str) -> str:
        return name


async def over_memory(server: Server, say: Callable[[str, Round], Awaitable[None]]) -> None:
    async with server.memory() as wire:

        async def ask(messages: list[Any], count: int | None = None) -> None:
            wire.send(b"".join(json.dumps(each).encode() + b"\n" for each in messages))
            for _ in range(len(messages) if count is None else count):
                await wire.receive()

        for name in ("fails", "fails_late", "refuses", "refuses_by_code", "waits", "knows", "threaded", "thread_fails"):
            await say(
                f"tool {name}", lambda at, name=name: ask([modern(i, "tools/call", tool(name)) for i in range(ROUND)])
            )
        await say(
            "a simple tool", lambda at: ask([modern(i, "tools/call", tool("echo", text="x")) for i in range(ROUND)])
        )
        await say(
            "bad arguments", lambda at: ask([modern(i, "tools/call", tool("echo", text=i)) for i in range(ROUND)])
        )
        await say("an unknown tool", lambda at: ask([modern(i, "tools/call", tool("none")) for i in range(ROUND)]))
        await say("an unknown method", lambda at: ask([modern(i, f"x/{at}/{i}") for i in range(ROUND)]))
        await say("a list", lambda at: ask([modern(i, "tools/list") for i in range(ROUND)]))
        await say(
            "a resource", lambda at: ask([modern(i, "resources/read", {"uri": "house://door"}) for i in range(ROUND)])
        )
        await say(
            "no resource", lambda at: ask([modern(i, "resources/read", {"uri": "house://x"}) for i in range(ROUND)])
        )
        greeting = {"name": "greet", "arguments": {"name": "x"}}
        await say("a prompt", lambda at: ask([modern(i, "prompts/get", greeting) for i in range(ROUND)]))
        await say(
            "other _meta each time", lambda at: ask([modern(i, "tools/list", x=at * ROUND + i) for i in range(ROUND)])
        )
        await say("a batch in the wrong revision", lambda at: ask([[i] for i in range(ROUND)]))

        async def cancelled(at: int) -> None:
            calls = [modern(i, "tools/call", tool("forever")) for i in range(ROUND)]
            await ask([*calls, *(note("notifications/cancelled", {"requestId": i}) for i in range(ROUND))], 0)
            for _ in range(4):
                await asyncio.sleep(0)

        await say("a cancelled call", cancelled)

        async def listened(at: int) -> None:
            wanted = {"notifications": {"toolsListChanged": True}}
            calls = [modern(i, "subscriptions/listen", wanted) for i in range(ROUND)]
            await ask([*calls, *(note("notifications/cancelled", {"requestId": i}) for i in range(ROUND))], ROUND)

        await say("a listen stream", listened)

    async def conversations(at: int) -> None:
        for _ in range(ROUND // 10):
            async with server.memory() as other:
                for message in (
                    initialize(),
                    legacy(1, "tools/call", tool("waits")),
                    legacy(2, "tools/call", tool("echo")),
                ):
                    other.send(json.dumps(message).encode() + b"\n")
                    await other.receive()

    await say("a conversation", conversations)


class Wire(asyncio.Transport):
    """The server's end of a connection to nobody."""

    def __init__(self, listener: Any) -> None:
        from erlmcp.transports.http1 import HttpConnection

        super().__init__()
        self.got = b""
        self.connection: Any = HttpConnection(listener)
        self.connection.connection_made(self)

    def write(self, data: Any) -> None:
        self.got += data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0

    async def ask(self, *requests: bytes) -> bytes:
        self.got = b""
        self.connection.data_received(b"".join(requests))
        while self.got.count(b"HTTP/1.1 ") < len(requests):
            await asyncio.sleep(0)
        return self.got

    def lose(self) -> None:
        self.connection.connection_lost(None)
        del self.connection


async def over_http(server: Server, say: Callable[[str, Round], Awaitable[None]]) -> None:
    async with http(server) as listener:
        wire = Wire(listener)
        for name in ("fails", "fails_late", "waits", "knows", "threaded"):
            call = modern_post(modern(1, "tools/call", tool(name)))
            await say(f"HTTP tool {name}", lambda at, call=call: wire.ask(*[call] * ROUND))
        call = modern_post(modern(1, "tools/call", tool("echo", text="x")))
        await say("HTTP simple tool", lambda at: wire.ask(*[call] * ROUND))
        await say("HTTP other heads", lambda at: wire.ask(*[call.replace(b"\r\n", b"\r\nX: %d\r\n" % at, 1)] * ROUND))
        origin = b"\r\nOrigin: http://localhost:%d\r\n"

        async def origins(at: int) -> None:
            await wire.ask(*[call.replace(b"\r\n", origin % abs(at), 1)] * ROUND)
            listener._prefixes.clear()  # as happens each second

        await say("HTTP other origins", origins)
        counted = modern(1, "tools/call", tool("count", steps=3))
        counted["params"]["_meta"]["progressToken"] = 1
        await say("HTTP stream", lambda at: wire.ask(*[modern_post(counted)] * ROUND))
        wire.lose()

        async def connections(at: int) -> None:
            late, forever = (modern_post(modern(1, "tools/call", tool(name))) for name in ("waits", "forever"))
            for _ in range(ROUND):
                other = Wire(listener)
                await other.ask(call, late)
                other.connection.data_received(forever)
                other.lose()
            for _ in range(4):
                await asyncio.sleep(0)

        await say("HTTP connections", connections)

        async def sessions(at: int) -> None:
            other = Wire(listener)
            for _ in range(ROUND // 5):
                answer = await other.ask(post(initialize()))
                id = answer.partition(b"Mcp-Session-Id: ")[2].partition(b"\r\n")[0].decode()
                headers = {"Mcp-Session-Id": id, "MCP-Protocol-Version": "2025-11-25"}
                streamed = legacy(1, "tools/call", tool("count", steps=3))
                streamed["params"]["_meta"] = {"progressToken": 1}
                for message in (
                    streamed,
                    legacy(2, "tools/call", tool("waits")),
                    legacy(3, "resources/subscribe", {"uri": "a:b"}),
                ):
                    await other.ask(post(message, headers))
                await other.ask(delete(headers))
            other.lose()
            listener._prefixes.clear()  # as happens each second

        await say("HTTP sessions", sessions)


async def main() -> None:
    logging.disable(logging.CRITICAL)
    house = make_house()
    add_tools(house.server)
    rounds = int(sys.argv[1])

    async def say(name: str, one: Round) -> None:
        house.calls.clear()
        for at in range(3):
            await one(-1 - at)
        found = []
        for collects in (False, True):
            for _ in range(3):
                gc.collect()
            gc.disable()
            before = len(gc.get_objects())
            for at in range(rounds):
                await one(at + rounds * collects)
                await asyncio.sleep(0)  # The loop forgets the timers that were cancelled.
                house.calls.clear()
            if collects:
                for _ in range(3):
                    gc.collect()
            found.append(len(gc.get_objects()) - before)
            gc.enable()
        print(json.dumps([name, *found]), flush=True)

    async with house.server.running():
        await over_memory(house.server, say)
        await over_http(house.server, say)


if __name__ == "__main__":
    asyncio.run(main())
