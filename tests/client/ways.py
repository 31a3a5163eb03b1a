"""Ways to the shop, peers that follow a script, and the count of what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import shop

from erlmcp import Client
from erlmcp.transports.stream import listen_tcp, listen_unix

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

KINDS = ("memory", "tcp", "unix", "stdio")
MODES = {"auto": "2026-07-28", "legacy": "2025-11-25"}
WAIT_S = 10.0
RUDE = str(HERE / "rude.py")
MODERN_RESULT = {"resultType": "complete"}


def stdio_entry(*words: str) -> dict[str, Any]:
    """The entry that starts the shop."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"command": sys.executable, "args": [*words], "env": {**os.environ, "PYTHONPATH": path}}


def rude(*manners: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": [RUDE, *manners]}


class Way:
    """The target of a kind, and the server behind it (None where that is another process)."""

    def __init__(self, kind: str, target: Any, server: Any) -> None:
        self.kind, self.target, self.server = kind, target, server


@contextlib.asynccontextmanager
async def way_to(kind: str, folder: Path) -> AsyncIterator[Way]:
    server = shop.build()
    if kind == "stdio":
        yield Way(kind, stdio_entry("-m", "erlmcp", "run", str(HERE / "shop.py")), None)
    elif kind == "memory":
        yield Way(kind, server, server)
    else:
        async with server.running():
            limits = {"connection_count_max": 100, "outbox_bytes_max": 1 << 26}
            if kind == "tcp":
                listener = await listen_tcp(server.link, "127.0.0.1", 0, **limits)
                target = f"tcp://127.0.0.1:{listener.port}"
            else:
                path = str(folder / "shop.sock")
                listener = await listen_unix(server.link, path, **limits)
                target = f"unix:{path}"
            try:
                yield Way(kind, target, server)
            finally:
                await listener.close()


@pytest.fixture(params=KINDS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """``async with way() as found``: once per kind of connection."""
    return lambda: way_to(request.param, tmp_path)


@pytest.fixture
def memory(tmp_path: Path) -> Callable[[], Any]:
    return lambda: way_to("memory", tmp_path)


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


class Peer:
    """The server's end of a connection, in the hand of a test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.seen: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        message: dict[str, Any] = json.loads(line)
        self.seen.append(message)
        return message

    async def expect(self, method: str) -> dict[str, Any]:
        """The next message with this method; what comes before it is only seen."""
        while True:
            message = await self.receive()
            if message.get("method") == method:
                return message

    def send(self, message: Any) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        self._writer.write(data)

    def answer(self, request: dict[str, Any], result: dict[str, Any]) -> None:
        self.send({"jsonrpc": "2.0", "id": request["id"], "result": result})

    def refuse(self, request: dict[str, Any], code: int, message: str = "no", data: Any = None) -> None:
        error = {"code": code, "message": message, **({} if data is None else {"data": data})}
        self.send({"jsonrpc": "2.0", "id": request["id"], "error": error})

    async def reply(self, id: Any) -> dict[str, Any]:
        """The client's answer to a request of ours."""
        while True:
            message = await self.receive()
            if message.get("id") == id and "method" not in message:
                return message

    async def both(self, *methods: str) -> list[dict[str, Any]]:
        """A request of each method, in whatever order they come."""
        found: dict[str, dict[str, Any]] = {}
        while len(found) < len(methods):
            message = await self.receive()
            if message.get("method") in methods:
                found[message["method"]] = message
        return [found[method] for method in methods]

    async def discover(self) -> None:
        """Be modern."""
        found = {
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}},
            "ttlMs": 0,
            "cacheScope": "private",
        }
        self.answer(await self.expect("server/discover"), {**MODERN_RESULT, **found})

    async def initialize(self, version: str = "2025-11-25", capabilities: dict[str, Any] | None = None) -> Any:
        """Be of the handshake era; gives the client's params."""
        request = await self.expect("initialize")
        info = {"name": "peer", "version": "1"}
        found = {"protocolVersion": version, "capabilities": capabilities or {}, "serverInfo": info}
        self.answer(request, found)
        return request["params"]

    def text(self, request: dict[str, Any], value: str) -> None:
        self.answer(request, {**MODERN_RESULT, "content": [{"type": "text", "text": value}]})

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(folder: Path, *scripts: Script) -> AsyncIterator[str]:
    """A Unix socket whose first connection follows the first script, the next one the next, and the last all others.
    What a script raises, the test raises; at its end a script's connection stays open until the client goes."""
    path = str(folder / "peer.sock")
    count = 0
    faults: list[BaseException] = []
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        script = scripts[min(count, len(scripts) - 1)]
        count += 1
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        peer = Peer(reader, writer)
        try:
            await script(peer)
            while True:
                await peer.receive()
        except (EOFError, ConnectionError):
            pass
        except Exception as fault:
            faults.append(fault)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_unix_server(serve, path)
    try:
        async with asyncio.timeout(WAIT_S):
            yield f"unix:{path}"
            if tasks:
                await asyncio.wait(tasks)
    finally:
        server.close()
    assert not faults, faults


@pytest.fixture
def peer(tmp_path: Path) -> Callable[..., Any]:
    """``async with peer(script, ...) as target``."""
    return lambda *scripts: scripted(tmp_path, *scripts)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found


@pytest.fixture(scope="session")
def warm() -> None:
    """What a loop opens once and keeps for as long as the process."""
    import uvloop

    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.sleep(0))


@pytest.fixture
def nothing_left(warm: None) -> Iterator[None]:
    """No descriptor and no process more than before the test; tasks are the loop's to count."""
    before, processes = descriptors(), set(children())
    yield
    assert set(children()) - processes == set()
    assert descriptors() == before


def tasks_left() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@contextlib.asynccontextmanager
async def connected(target: Any, **options: Any) -> AsyncIterator[Client]:
    """A client whose end leaves no task, within a bound."""
    others = set(tasks_left())
    async with asyncio.timeout(WAIT_S):
        async with Client(target, **options) as client:
            yield client
        left = [task for task in tasks_left() if task not in others and not _is_servers(task)]
        assert not left, left


def _is_servers(task: asyncio.Task[Any]) -> bool:
    """A carrier of the server in this process, or a peer's script."""
    name = getattr(task.get_coro(), "__qualname__", "")
    return name == "_live" or "scripted" in name or "connection" in name
