"""Functions in threads behind real sockets: a critical call and a crowd of bulk ones, which share one thread."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from rawpeer import WAIT_S, ask_once, modern, modern_post, tool

from erlmcp import Flags, Limits, Server
from erlmcp.server.serve import http, tcp

COUNT = 1000


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("way", ["stream", "http"])
async def test_a_critical_call_overtakes_a_thousand_bulk_ones_that_wait(way: str, is_on: bool) -> None:
    server = Server("house", limits=Limits(thread_count_max=1), flags=Flags(priority_queues=is_on))
    gate, begun = threading.Event(), threading.Event()
    ran: list[str] = []

    @server.tool(priority="bulk")
    def bulk() -> str:
        begun.set()
        gate.wait(WAIT_S)
        ran.append("bulk")
        return "bulk"

    @server.tool(priority="critical")
    def now() -> str:
        ran.append("now")
        return "now"

    def line(id: int, name: str) -> bytes:
        return json.dumps(modern(id, "tools/call", tool(name))).encode() + b"\n"

    async def ask_now() -> bytes:
        if way == "http":
            return (await ask_once(web.port, modern_post(modern(1, "tools/call", tool("now"))))).body
        reader, writer = await asyncio.open_connection("127.0.0.1", lines.port)
        writer.write(line(1, "now"))
        found = await reader.readline()
        writer.close()
        return found

    async def waiting(count: int) -> None:
        while len(server.lanes) < count or not begun.is_set():
            await asyncio.sleep(0)

    async with asyncio.timeout(WAIT_S), tcp(server) as lines, http(server) as web:
        reader, writer = await asyncio.open_connection("127.0.0.1", lines.port)
        writer.write(b"".join(line(id, "bulk") for id in range(COUNT)))
        await waiting(COUNT)
        asked = asyncio.ensure_future(ask_now())
        await waiting(COUNT + 1)
        gate.set()
        assert b'"isError":false' in await asked
        for _ in range(COUNT):
            assert b'"isError":false' in await reader.readline()
        writer.close()
    # The thread had begun one when the critical call came.
    assert ran.index("now") == (1 if is_on else COUNT)
