"""The whole trip: bytes in, scanned, routed, a handler of the author's, answered, bytes out. No socket, one event loop.

Which implementation and which phase's flags a process uses is decided once, before its first import of erlmcp: asv runs
each of these in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar

from asv_benchmarks.instruction import Counted
from asv_benchmarks.message import CALL, PING


def lines(message: bytes, count: int) -> bytes:
    """``count`` requests, each with an id of its own."""
    return b"".join(message.replace(b'"id":42', b'"id":%d' % i) + b"\n" for i in range(count))


class Journey:
    """tools/call of an async function that gives its argument back; and ping, on a connection of its own: the era of
    these calls has dropped it.
    """

    version = "1"
    params: ClassVar[list[list[str]]] = [["core", "model"], ["baseline", "1", "2", "3", "4", "5"]]
    param_names: ClassVar[list[str]] = ["implementation", "phase"]

    def setup(self, implementation: str, phase: str) -> None:
        os.environ["ERLMCP_CORE"] = implementation
        os.environ["ERLMCP_PHASE"] = phase
        from erlmcp import Server, core

        if implementation != core.IMPLEMENTATION:
            raise RuntimeError(f"this process runs on {core.IMPLEMENTATION}: the journey needs one of its own")
        self.loop = asyncio.new_event_loop()
        self.answers = self.wanted = 0
        server = Server("bench")

        @server.tool
        async def echo(text: str) -> str:
            return text

        @server.tool
        async def wait(text: str) -> str:
            await asyncio.sleep(0)
            return text

        async def open() -> None:
            await server.start()
            self.link = server.link(self._write)
            self.handshake_link = server.link(self._write)

        self.server = server
        self.call = lines(CALL, 1)
        self.calls = lines(CALL, 100)
        self.calls_that_wait = self.calls.replace(b'"echo"', b'"wait"')
        self.pings = lines(PING, 100)
        self.loop.run_until_complete(open())
        self._ask(self.link, [self.call], 1)
        self._ask(self.handshake_link, [self.pings], 100)

    def teardown(self, implementation: str, phase: str) -> None:
        async def close() -> None:
            self.link.close("done")
            self.handshake_link.close("done")
            await self.server.stop()

        self.loop.run_until_complete(close())
        self.loop.close()

    def _write(self, data: bytes) -> None:
        assert b'"isError":true' not in data
        assert b'"error":' not in data
        self.answers += data.count(b"\n")
        if self.answers == self.wanted:
            self.loop.stop()

    def _ask(self, link: Any, reads: list[bytes], count: int) -> None:
        """Each read from a callback of the loop, as transports have it. asv's timeout ends what is never answered."""
        self.answers, self.wanted = 0, count
        for data in reads:
            self.loop.call_soon(link.feed, data)
        self.loop.run_forever()

    def time_100_calls_one_by_one(self, implementation: str, phase: str) -> None:
        self._ask(self.link, self.calls.splitlines(keepends=True), 100)

    def time_100_calls_in_one_read(self, implementation: str, phase: str) -> None:
        self._ask(self.link, [self.calls], 100)

    def time_100_calls_that_wait_in_one_read(self, implementation: str, phase: str) -> None:
        self._ask(self.link, [self.calls_that_wait], 100)

    def time_100_pings_in_one_read(self, implementation: str, phase: str) -> None:
        self._ask(self.handshake_link, [self.pings], 100)

    def peakmem_a_server_and_100_calls_in_one_read(self, implementation: str, phase: str) -> None:
        self._ask(self.link, [self.calls], 100)


class Instructions(Counted):
    situation = Journey
    counted = ("100_calls_one_by_one", "100_calls_in_one_read", "100_pings_in_one_read")
