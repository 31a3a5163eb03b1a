"""Calls of a client, to their results: to a server of the same process, and to one that it started.

Each variant is measured in a process of its own (``worker``), on uvloop where it is installed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from erlmcp.bench import message
from erlmcp.bench.journey import use_json_module
from erlmcp.bench.process import ROOT, SERVERS
from erlmcp.bench.room import library
from erlmcp.bench.timing import Timed, closing

CALLS = 256  # of one repeat
GIVEN = {"text": message.TEXT}


def made(kind: str, inflight: int = 1, is_plain_json: bool = False) -> Timed:
    """``kind``: "objects" and "bytes" in this process, "mcp" the same by the official SDK, "stdio" a started process.
    ``inflight`` tasks call one after the other each."""
    if is_plain_json:
        use_json_module()
    loop = new_loop()
    ready: asyncio.Future[Any] = loop.create_future()
    ended = asyncio.Event()

    async def live() -> None:  # One task opens and closes it: the SDK's may not be closed by another.
        async with _MAKERS[kind]() as client:
            found = await client.call_tool("echo", GIVEN)
            if found.structured_content != {"result": message.TEXT}:
                raise RuntimeError(f"the server answered {found!r}")
            ready.set_result(client.call_tool)
            await ended.wait()

    life = loop.create_task(live())
    loop.run_until_complete(asyncio.wait([life, ready], return_when=asyncio.FIRST_COMPLETED))
    if life.done():
        loop.close()
        life.result()
    call = ready.result()

    async def work(count: int) -> None:
        for _ in range(count):
            await call("echo", GIVEN)

    async def turn(repeats: int) -> int:
        count = repeats * CALLS // inflight
        began = perf_counter_ns()
        if inflight == 1:
            await work(count)
        else:
            await asyncio.gather(*(work(count) for _ in range(inflight)))
        return perf_counter_ns() - began

    def close() -> None:
        ended.set()
        loop.run_until_complete(life)
        loop.close()

    return closing(Timed(CALLS, lambda repeats: loop.run_until_complete(turn(repeats))), close)


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _server() -> Any:
    from erlmcp import Server

    server = Server("bench")

    @server.tool
    async def echo(text: str) -> str:
        return text

    return server


def _objects() -> Any:
    from erlmcp import Client

    return Client(_server())


def _bytes() -> Any:
    from erlmcp import Client
    from erlmcp.client.memory import MemoryChannel

    return Client(MemoryChannel(_server(), objects=False))


def _stdio() -> Any:
    from erlmcp import Client

    words = ["-m", "erlmcp", "run", str(SERVERS / "echo_erlmcp.py")]
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return Client({"command": sys.executable, "args": words, "env": {"PYTHONPATH": path}})


def _mcp() -> Any:
    server = library("mcp.server.mcpserver").MCPServer("bench")

    @server.tool()  # type: ignore[untyped-decorator,unused-ignore]
    async def echo(text: str) -> str:
        return text

    return library("mcp.client.client").Client(server)


_MAKERS: dict[str, Callable[[], Any]] = {"objects": _objects, "bytes": _bytes, "stdio": _stdio, "mcp": _mcp}
