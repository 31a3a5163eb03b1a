"""The whole way of a message without a socket: bytes in, scanned, routed, handled, answered, bytes out.

Which implementation and which flags a process uses is decided once: each variant is measured in a process of its own
(``worker``).
"""

from __future__ import annotations

import asyncio
import json
import sys
import types
from time import perf_counter_ns
from typing import Any

from erlmcp.bench import message
from erlmcp.bench.load import ID_SLOT
from erlmcp.bench.timing import Timed, closing

PING = b'{"jsonrpc":"2.0","id":%d,"method":"ping"}\n'
BULKHEAD = 100
PARTS = 16  # reads in one go where each holds one message


def use_json_module() -> None:
    """Let the standard library's json do what ujson does where the native codec is off: the plan's baseline."""
    made: Any = types.ModuleType("ujson")
    made.loads = json.loads
    made.dumps = lambda value, **_: json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    sys.modules["ujson"] = made


def lines(kind: str, count: int) -> list[bytes]:
    """``count`` requests with ids of their own: "ping" (answered by the server itself), else by a handler."""
    if kind == "ping":
        return [PING % number for number in range(count)]
    body = message.call("echo", {"text": message.TEXT})
    return [body.replace(ID_SLOT, b"%d" % (int(ID_SLOT) + number)) + b"\n" for number in range(count)]


def expected(kind: str) -> bytes:
    return b'"id":' if kind == "ping" else message.EXPECT


def made(kind: str, batch: int, is_plain_json: bool = False) -> Timed:
    """``batch`` messages in one read and their answers in one write; with 1 a read and a write for each.

    "guarded" is "echo" behind a breaker, a rate and a bulkhead, "timed" with an adaptive timeout that it hands on."""
    if is_plain_json:
        use_json_module()
    from erlmcp import Guards, RateRule, Server

    rate = RateRule(10**9, burst=10**6)
    guards = {
        "guarded": Guards(breaker=True, rate_limit=rate, bulkhead=BULKHEAD),
        "timed": Guards(timeout="adaptive"),
    }
    server = Server("bench", guards=guards.get(kind))

    @server.tool
    async def echo(text: str) -> str:
        return text

    given = lines(kind, batch if batch > 1 else PARTS)
    reads = [b"".join(given)] if batch > 1 else given
    wanted, mark = len(given), expected(kind)
    answered = [0]

    def write(data: bytes) -> None:
        answered[0] += data.count(b"\n")

    checked = bytearray()
    loop = asyncio.new_event_loop()

    async def start() -> Any:
        await server.start()
        link = server.link(write)
        if kind == "ping":  # a method of the handshake revisions
            link.feed(message.initialize() + b"\n" + message.INITIALIZED + b"\n")
            while not answered[0]:
                await asyncio.sleep(0)
        return link

    link = loop.run_until_complete(start())

    async def turn(repeats: int) -> int:
        feed = link.feed
        began = perf_counter_ns()
        for _ in range(repeats):
            answered[0] = 0
            for data in reads:
                feed(data)
            while answered[0] < wanted:
                await asyncio.sleep(0)
        return perf_counter_ns() - began

    def keep(data: bytes) -> None:
        checked.extend(data)
        write(data)

    async def check() -> None:
        link._write = keep
        await turn(1)
        link._write = write
        if checked.count(mark) != wanted or b'"error"' in checked:
            raise RuntimeError(f"the server answered {bytes(checked[:200])!r}")

    def close() -> None:
        loop.run_until_complete(server.stop())
        loop.close()

    loop.run_until_complete(check())
    return closing(Timed(wanted, lambda repeats: loop.run_until_complete(turn(repeats))), close)
