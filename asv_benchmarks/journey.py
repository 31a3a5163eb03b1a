"""The whole trip: bytes in, scanned, routed, a handler of the author's, answered, bytes out. No socket, one event loop.

Which implementation a process uses is decided once, at its first import of erlmcp: asv runs each of these in a process
of its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import ClassVar

from asv_benchmarks.message import CALL

LINE = CALL + b"\n"
LINES = b"".join(LINE.replace(b'"id":42', b'"id":%d' % i) for i in range(100))
WAIT_S = 30.0


class Journey:
    """tools/call of an async function that gives its argument back."""

    version = "1"
    params: ClassVar[list[str]] = ["core", "model"]
    param_names: ClassVar[list[str]] = ["implementation"]

    def setup(self, implementation: str) -> None:
        os.environ["ERLMCP_CORE"] = implementation
        from erlmcp import Server, core

        if implementation != core.IMPLEMENTATION:
            raise RuntimeError(f"this process runs on {core.IMPLEMENTATION}: the journey needs one of its own")
        self.loop = asyncio.new_event_loop()
        self.answers = 0
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

        self.server = server
        self.loop.run_until_complete(open())
        self._ask(LINE, 1)

    def teardown(self, implementation: str) -> None:
        async def close() -> None:
            self.link.close("done")
            await self.server.stop()

        self.loop.run_until_complete(close())
        self.loop.close()

    def _write(self, data: bytes) -> None:
        assert b'"isError":true' not in data
        self.answers += data.count(b'"text":"the quick brown fox"')

    def _ask(self, data: bytes, count: int) -> None:
        async def turn() -> None:
            self.answers = 0
            deadline = time.monotonic() + WAIT_S
            self.link.feed(data)
            while self.answers < count:
                await asyncio.sleep(0)
                assert time.monotonic() < deadline, f"{self.answers} of {count} answers"

        self.loop.run_until_complete(turn())

    def time_100_calls_one_by_one(self, implementation: str) -> None:
        for _ in range(100):
            self._ask(LINE, 1)

    def time_100_calls_in_one_read(self, implementation: str) -> None:
        self._ask(LINES, 100)

    def time_100_calls_that_wait_in_one_read(self, implementation: str) -> None:
        self._ask(LINES.replace(b'"echo"', b'"wait"'), 100)
