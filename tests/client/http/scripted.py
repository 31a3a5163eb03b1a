"""A server that does what a test says, byte by byte, and a client's front that keeps what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from erlmcp.client.channel import Request
from erlmcp.client.http import HttpChannel
from erlmcp.client.http_limit import HttpLimits

WAIT_S = 10.0
MODERN, LATEST = "2026-07-28", "2025-11-25"
KEY = "io.modelcontextprotocol/"
META = {KEY + "protocolVersion": MODERN, KEY + "clientCapabilities": {}}


# ---- the server's side


@dataclass
class Asked:
    """One HTTP request as it came."""

    verb: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> Any:
        return self.json["id"]


class Line:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
        self.reader, self.writer, self.peer = reader, writer, peer
        self.number = peer.line_count

    async def asked(self) -> Asked | None:
        """The next request; None where the client closed."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")[:-2]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        verb, target, _ = first.split(" ")
        found = Asked(verb, target, headers, body)
        self.peer.requests.append(found)
        self.peer.seen.put_nowait(found)
        return found

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def answer(self, status: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> None:
        self.send(whole(status, body, kind, **headers))

    def result(self, asked: Asked, value: Any = None, **headers: str) -> None:
        self.answer(200, reply(asked.id, value), **headers)

    def begin_stream(self, **headers: str) -> None:
        self.send(whole(200, None, "text/event-stream", **headers))

    def event(self, message: Any, *, id: str | None = None, retry: int | None = None) -> None:
        data = message if isinstance(message, str) else json.dumps(message)
        text = (f"id: {id}\n" if id else "") + (f"retry: {retry}\n" if retry is not None else "") + f"data: {data}\n\n"
        self.send(chunk(text.encode()))

    def end_stream(self) -> None:
        self.send(b"0\r\n\r\n")

    async def close(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()

    async def until_closed(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.reader.read()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(status: int, body: bytes | None, kind: str = "application/json", **headers: str) -> bytes:
    """An answer; the head of a chunked one where the body is None."""
    fields = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is None:
        fields["Transfer-Encoding"] = "chunked"
    else:
        fields["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {status} Because", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + (body or b"")


def reply(id: Any, value: Any = None) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "result": {} if value is None else value}).encode()


def fault(id: Any, code: int, message: str = "no") -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}).encode()


Script = Callable[[Line], Awaitable[None]]


@dataclass
class Peer:
    """The listening server."""

    script: Script
    port: int = 0
    line_count: int = 0
    requests: list[Asked] = field(default_factory=list)
    seen: asyncio.Queue[Asked] = field(default_factory=asyncio.Queue)
    troubles: list[BaseException] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def next_asked(self) -> Asked:
        async with asyncio.timeout(WAIT_S):
            return await self.seen.get()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.line_count += 1
        line = Line(reader, writer, self)
        try:
            await self.script(line)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.troubles.append(error)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def scripted(script: Script, *, tls: Any = None) -> AsyncIterator[Peer]:
    """A server on a port of 127.0.0.1, every connection of which is driven by ``script``."""
    peer = Peer(script)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(peer.serve(reader, writer))
        peer.tasks.add(task)
        task.add_done_callback(peer.tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in [*peer.tasks]:
            task.cancel()
        if peer.tasks:
            await asyncio.wait([*peer.tasks], timeout=WAIT_S)
        await server.wait_closed()
    assert not peer.troubles, peer.troubles


def once(answer: Callable[[Line, Asked], Any]) -> Script:
    """``answer`` for each request, until the client closes."""

    async def script(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            found = answer(line, asked)
            if found is not None:
                await found

    return script


# ---- the client's side


class Front:
    """What a channel told its client."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[Any] = asyncio.Queue()
        self.losses: list[Exception] = []

    def received(self, call: Any) -> None:
        self.calls.put_nowait(call)

    def lost(self, error: Exception) -> None:
        self.losses.append(error)

    async def call(self) -> Any:
        async with asyncio.timeout(WAIT_S):
            return await self.calls.get()


class Talk:
    """A channel and its front."""

    def __init__(self, channel: HttpChannel) -> None:
        self.channel = channel
        self.front = Front()

    def begin(
        self, method: str, params: dict[str, Any] | None = None, *, timeout_s: float = WAIT_S, **more: Any
    ) -> Request:
        """Send a request; its answer is in ``future``."""
        future = asyncio.get_running_loop().create_future()
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        request = Request(method, params, future, deadline_ns=deadline_ns, timeout_s=timeout_s, **more)
        self.channel.send(request)
        return request

    async def ask(self, method: str, params: dict[str, Any] | None = None, **more: Any) -> Any:
        """The answer, as a Call."""
        async with asyncio.timeout(2 * WAIT_S):
            return await self.begin(method, params, **more).future

    async def call(self, tool: str = "echo", **arguments: Any) -> Any:
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if self.channel.heads.era == "modern":
            params["_meta"] = META
        return await self.ask("tools/call", params, name=tool)

    async def shake_hands(self, version: str = LATEST, capabilities: dict[str, Any] | None = None) -> Any:
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        hello = await self.ask("initialize", params, is_idempotent=True)
        self.channel.negotiated("legacy", hello.result.get("protocolVersion", version))
        self.channel.notify("notifications/initialized", None)
        return hello

    def be_modern(self) -> None:
        self.channel.negotiated("modern", MODERN)


@contextlib.asynccontextmanager
async def talking(
    url: str, *, is_modern: bool = True, limits: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[Talk]:
    """An open channel; in 2026-07-28 unless told otherwise."""
    talk = Talk(
        HttpChannel(url, limits=HttpLimits(**{"connection_count_min": 0, "retry_s": 0.01, **(limits or {})}), **more)
    )
    await talk.channel.open(talk.front)
    if is_modern:
        talk.be_modern()
    try:
        yield talk
    finally:
        async with asyncio.timeout(WAIT_S):
            await talk.channel.aclose()


def fds() -> set[str]:
    """Open files of this process, by what they are; uvloop keeps a spare one of /dev/null once it accepted."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return {text for text in found if not text.endswith("/dev/null")}


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No task, no open file and no timer of the channel's is left by what happens within."""
    tasks, files = asyncio.all_tasks(), fds()
    yield
    async with asyncio.timeout(WAIT_S):
        while True:
            gc.collect(0)
            left = {task for task in asyncio.all_tasks() - tasks if not task.done()}
            more = fds() - files
            if not left and not more:
                break
            await asyncio.sleep(0)
    assert not left
    assert not more
