"""Work on which a flag shows: client and server of one process over HTTP, a process over stdio, lists.

Which flags hold is decided by the environment when a process begins: each variant is measured in one of its own
(``worker``), which a started server inherits them from.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter_ns
from typing import Any

from erlmcp.bench import message
from erlmcp.bench.calling import CALLS, GIVEN, new_loop
from erlmcp.bench.process import ROOT, SERVERS
from erlmcp.bench.room import library
from erlmcp.bench.timing import Timed, closing

LIST_TTL_MS = 3_600_000
MOMENT_S = 0.005  # in which connections are opened, where they are
READS = 16


def over_http(inflight: int, http2: bool = False) -> Timed:
    """Calls over HTTP on loopback, both ends on one loop, so many in flight."""
    if http2:
        library("h2")
    return _driven(lambda: _http(http2), _echo, inflight)


def over_stdio(inflight: int, is_array: bool = False) -> Timed:
    """Calls of a process that is started with the flags of this one; ``is_array``: on 2025-03-26, as JSON-RPC arrays
    where they may be."""
    return _driven(lambda: _stdio(is_array), _echo, inflight)


def kept_list(count: int) -> Timed:
    """A client's list of so many tools, which the server lets it keep."""

    async def ask(client: Any) -> None:
        if len(await client.list_tools()) != count:
            raise RuntimeError("the list is not whole")

    return _driven(lambda: _memory(count), ask, 1)


def first_calls(count: int) -> Timed:
    """So many calls at once, of a client over HTTP that connected a moment ago and wants as many connections;
    connecting is not in the time."""
    from erlmcp.client.http import HttpChannel
    from erlmcp.client.http_limit import HttpLimits

    limits = HttpLimits(connection_count_min=count)
    loop = new_loop()

    async def turn(repeats: int) -> int:
        taken = 0
        async with _listening(http2=False) as url:
            for _ in range(repeats):
                async with _client(HttpChannel(url, limits=limits)) as client:
                    await asyncio.sleep(MOMENT_S)
                    began = perf_counter_ns()
                    await client.call_many([("echo", GIVEN)] * count)
                    taken += perf_counter_ns() - began
        return taken

    return closing(Timed(count, lambda repeats: loop.run_until_complete(turn(repeats))), loop.close)


def first_session(count: int) -> Timed:
    """The first of so many conversations, of a walk over them that ends there."""
    server = _server()
    loop = new_loop()

    async def start() -> list[Any]:
        await server.start()
        return [server.link(lambda _data: None) for _ in range(count)]

    links = loop.run_until_complete(start())

    def elapsed(repeats: int) -> int:
        began = perf_counter_ns()
        for _ in range(repeats):
            next(server.sessions())
        return perf_counter_ns() - began

    def close() -> None:
        for link in links:
            link.close()
        loop.run_until_complete(server.stop())
        loop.close()

    return closing(Timed(1, elapsed), close)


def server_list(count: int) -> Timed:
    """tools/list of so many tools, bytes in to bytes out, without a socket."""
    server = _server(count)
    loop = new_loop()
    answers: list[int] = []
    line = message.request("tools/list", {}) + b"\n"

    async def start() -> Any:
        await server.start()
        return server.link(lambda data: answers.append(data.count(b"\n")))

    link = loop.run_until_complete(start())

    async def turn(repeats: int) -> int:
        began = perf_counter_ns()
        for _ in range(repeats * READS):
            answers.clear()
            link.feed(line)
            while not answers:
                await asyncio.sleep(0)
        return perf_counter_ns() - began

    def close() -> None:
        loop.run_until_complete(server.stop())
        loop.close()

    return closing(Timed(READS, lambda repeats: loop.run_until_complete(turn(repeats))), close)


def _driven(
    make: Callable[[], AbstractAsyncContextManager[Any]], act: Callable[[Any], Awaitable[None]], inflight: int
) -> Timed:
    """``act(client)`` by ``inflight`` tasks, one after the other each."""
    loop = new_loop()
    opened = make()
    client = loop.run_until_complete(opened.__aenter__())

    async def work(count: int) -> None:
        for _ in range(count):
            await act(client)

    async def turn(repeats: int) -> int:
        count = repeats * CALLS // inflight
        began = perf_counter_ns()
        await asyncio.gather(*(work(count) for _ in range(inflight)))
        return perf_counter_ns() - began

    def close() -> None:
        loop.run_until_complete(opened.__aexit__(None, None, None))
        loop.close()

    return closing(Timed(CALLS, lambda repeats: loop.run_until_complete(turn(repeats))), close)


async def _echo(client: Any) -> None:
    result = await client.call_tool("echo", GIVEN)
    if result.text != message.TEXT:
        raise RuntimeError(f"the server answered {result!r}")


def _server(count: int = 0) -> Any:
    from erlmcp import Server

    server = Server("bench", cache_ttl_ms=LIST_TTL_MS)

    @server.tool
    async def echo(text: str) -> str:
        """Give the text back."""
        return text

    async def numbered(text: str, times: int = 1) -> str:
        """Give the text back, so many times."""
        return text * times

    for number in range(count - 1):
        server.add_tool(numbered, name=f"tool_{number:04}")
    return server


@asynccontextmanager
async def _listening(*, http2: bool) -> AsyncIterator[str]:
    from erlmcp.server.serve import http

    async with http(_server(), http2=http2) as listener:
        yield f"http://127.0.0.1:{listener.port}/mcp"


def _client(target: Any, **options: Any) -> Any:
    from erlmcp import Client

    return Client(target, **options)


@asynccontextmanager
async def _http(http2: bool) -> AsyncIterator[Any]:
    async with _listening(http2=http2) as url, _client(url, http2=http2) as client:
        yield client


@asynccontextmanager
async def _memory(count: int) -> AsyncIterator[Any]:
    async with _client(_server(count)) as client:
        yield client


@asynccontextmanager
async def _stdio(is_array: bool) -> AsyncIterator[Any]:
    words = ["-m", "erlmcp", "run", str(SERVERS / "echo_erlmcp.py")]
    own = {name: value for name, value in os.environ.items() if name.startswith("ERLMCP_")}
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    options = {"mode": "2025-03-26", "json_rpc_batch": True} if is_array else {}
    entry = {"command": sys.executable, "args": words, "env": {**own, "PYTHONPATH": path}}
    async with _client(entry, **options) as client:
        yield client
