"""A server process to be attacked, and the measure of whether it was harmed. Raw clients come from tests/transports."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "transports"))

from rawpeer import (
    HttpPeer,
    LinePeer,
    Process,
    connect,
    modern,
    modern_post,
    text_of,
    tool,
)

MIB = 1024 * 1024
LIMITS = ("head_timeout_s=0.5", "body_timeout_s=0.5", "keepalive_timeout_s=20")


class Victim:
    """A server in a process of its own, over HTTP or raw TCP."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        words = ["--port", "0"] if kind == "http" else ["--tcp", "127.0.0.1:0"]
        for limit in LIMITS:
            words += ["--limit", limit]
        # It lives to the end of the whole run, which a tracing build draws out.
        self.server = Process(folder, "serve", "FILE", *words, lasts_s=900)
        line = self.server.say_line()
        self.port = int(line.split("://")[1].split("/")[0].split()[0].rpartition(":")[2])
        self._process = psutil.Process(self.server.process.pid)

    def rss(self) -> int:
        return int(self._process.memory_info().rss)

    def connections(self) -> int:
        return sum(1 for found in self._process.net_connections() if found.status != psutil.CONN_LISTEN)

    async def dial(self) -> Any:
        made = await connect(self.port)
        return made if self.kind == "http" else LinePeer(made.reader, made.writer)

    async def greet(self, peer: Any) -> None:
        """A call that must be answered."""
        message = modern(1, "tools/call", tool("echo", text="hello"))
        if isinstance(peer, LinePeer):
            assert text_of(await peer.call(message)) == "hello"
        else:
            assert text_of((await peer.ask(modern_post(message))).json) == "hello"

    @contextlib.asynccontextmanager
    async def unharmed(self, margin_mib: int = 12) -> AsyncIterator[HttpPeer]:
        """Gives a neighbour connection, served before, meanwhile (``greet`` it) and afterwards. At the end no other
        connection is left and memory is back within the margin."""
        for _ in range(3):
            passer = await self.dial()
            await self.greet(passer)
            await passer.close()
        neighbour = await self.dial()
        await self.greet(neighbour)
        before = self.rss()
        try:
            yield neighbour
            await self.greet(neighbour)
            async with asyncio.timeout(15):
                while self.connections() > 1:
                    await asyncio.sleep(0.05)
                while (grown := self.rss() - before) > margin_mib * MIB:
                    await asyncio.sleep(0.05)
                    await self.greet(neighbour)
            assert grown <= margin_mib * MIB
        finally:
            await neighbour.close()


@contextlib.contextmanager
def victim_of(folder: Path, kind: str) -> Iterator[Victim]:
    made = Victim(folder, kind)
    try:
        yield made
        made.server.signal()
        answers, err, code = made.server.end()
        assert (answers, err, code) == ([], "", 0), err[-3000:]
    finally:
        made.server.close()


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A server over HTTP. It must end cleanly, with nothing on stderr, after all that was done to it."""
    with victim_of(tmp_path_factory.mktemp("web"), "http") as made:
        yield made


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A server over raw TCP."""
    with victim_of(tmp_path_factory.mktemp("lines"), "tcp") as made:
        yield made
