"""Raw clients: bytes on a socket and no library in between, so that a test says what is sent and sees what comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erlmcp import Context, Limits, Server

WAIT_S = 10.0
MODERN = "2026-07-28"
LATEST = "2025-11-25"
LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
KEY = "io.modelcontextprotocol/"
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
CLIENT = {"name": "rawpeer", "version": "1"}


def meta(version: str = MODERN, capabilities: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {KEY + "protocolVersion": version, KEY + "clientCapabilities": capabilities or {}, **more}


def modern(id: Any, method: str, params: dict[str, Any] | None = None, /, **of_meta: Any) -> dict[str, Any]:
    """A 2026-07-28 request."""
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": {**(params or {}), "_meta": meta(**of_meta)}}


def legacy(id: Any, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """A request of the handshake revisions."""
    return {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    """The params of a tools/call."""
    return {"name": name, "arguments": arguments}


def initialize(version: str = LATEST, capabilities: dict[str, Any] | None = None, id: Any = 0) -> dict[str, Any]:
    params = {"protocolVersion": version, "capabilities": capabilities or {}, "clientInfo": CLIENT}
    return legacy(id, "initialize", params)


def note(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})}


INITIALIZED = note("notifications/initialized")


def head(verb: str, target: str, headers: Mapping[str, str | None]) -> bytes:
    """A request head; a header whose value is None is left out."""
    lines = [f"{verb} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


BASE = {
    "Host": "localhost",
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
}


def routing(message: Any) -> dict[str, str]:
    """The headers that 2026-07-28 wants beside this message."""
    found = {"MCP-Protocol-Version": MODERN}
    if isinstance(message, dict) and "method" in message:
        found["Mcp-Method"] = message["method"]
        if message["method"] in NAMED:
            found["Mcp-Name"] = message["params"][NAMED[message["method"]]]
    return found


def post(message: Any, headers: Mapping[str, str | None] | None = None, *, target: str = "/mcp") -> bytes:
    """A POST of a message, or of raw bytes, with just the headers given beside the usual ones."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return head("POST", target, {**BASE, "Content-Length": str(len(body)), **(headers or {})}) + body


def modern_post(message: Any, headers: Mapping[str, str | None] | None = None) -> bytes:
    return post(message, {**routing(message), **(headers or {})})


def get(headers: Mapping[str, str | None] | None = None, *, target: str = "/mcp") -> bytes:
    return head("GET", target, {"Host": "localhost", "Accept": "text/event-stream", **(headers or {})})


def delete(headers: Mapping[str, str | None] | None = None) -> bytes:
    return head("DELETE", "/mcp", {"Host": "localhost", **(headers or {})})


@dataclass
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> int | None:
        """The code of a JSON-RPC error answer, else None."""
        if self.headers.get("content-type") != "application/json":
            return None
        error = self.json.get("error")
        return None if error is None else int(error["code"])

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"


@dataclass
class Event:
    """One server-sent event; ``comment`` where it is nothing else."""

    data: str = ""
    id: str | None = None
    event: str | None = None
    retry: str | None = None
    comment: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class HttpPeer:
    """One connection to an HTTP server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _events: list[Event] = field(default_factory=list)
    _rest: bytes = b""
    _chunked: bool = False
    _ended: bool = False

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, data: bytes) -> Answer:
        self.send(data)
        return await self.answer()

    async def head(self) -> Answer:
        """The head of the next answer; its body is to be read by ``event``."""
        async with asyncio.timeout(WAIT_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = text.split("\r\n")[:-2]
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self._chunked = headers.get("transfer-encoding") == "chunked"
        self._ended, self._rest = False, b""
        return Answer(int(status.split()[1]), headers)

    async def answer(self, *, has_body: bool = True) -> Answer:
        found = await self.head()
        async with asyncio.timeout(WAIT_S):
            if not has_body or found.status in (100, 204):
                pass
            elif "content-length" in found.headers:
                found.body = await self.reader.readexactly(int(found.headers["content-length"]))
            else:
                while not self._ended:
                    found.body += await self._piece()
        return found

    async def _piece(self) -> bytes:
        """The next bytes of a body without a length."""
        if not self._chunked:
            data = await self.reader.read(65536)
            self._ended = not data
            return data
        size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
        data = (await self.reader.readexactly(size + 2))[:-2]
        self._ended = size == 0
        return data

    async def event(self, *, comments: bool = False) -> Event | None:
        """The next event of a stream; None at its end. Comments are passed over unless asked for."""
        async with asyncio.timeout(WAIT_S):
            while True:
                whole, parted, rest = self._rest.partition(b"\n\n")
                if parted:
                    self._rest = rest
                    found = parse_event(whole.decode())
                    if comments or not found.comment:
                        return found
                elif self._ended:
                    assert not self._rest, f"the stream was cut within an event: {self._rest!r}"
                    return None
                else:
                    self._rest += await self._piece()

    async def events(self) -> list[Event]:
        """All events up to the end of the stream."""
        found = []
        while (event := await self.event()) is not None:
            found.append(event)
        return found

    async def is_closed(self) -> bool:
        """Waits for the server to close; False where it says more instead."""
        async with asyncio.timeout(WAIT_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        self.writer.transport.abort()


def parse_event(text: str) -> Event:
    found = Event(comment=True)
    data = []
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            continue
        found.comment = False
        if name == "data":
            data.append(value)
        else:
            setattr(found, name, value)
    found.data = "\n".join(data)
    return found


@contextlib.asynccontextmanager
async def dial(where: int | str) -> AsyncIterator[HttpPeer]:
    """A connection to a port of 127.0.0.1, or to a Unix socket."""
    peer = await connect(where)
    try:
        yield peer
    finally:
        await peer.close()


async def connect(where: int | str) -> HttpPeer:
    if isinstance(where, int):
        streams = await asyncio.open_connection("127.0.0.1", where, limit=1 << 26)
    else:
        streams = await asyncio.open_unix_connection(where, limit=1 << 26)
    return HttpPeer(*streams)


async def ask_once(where: int | str, data: bytes) -> Answer:
    """One request on a connection of its own."""
    async with dial(where) as peer:
        return await peer.ask(data)


class LinePeer(HttpPeer):
    """One connection that speaks newline-delimited JSON."""

    def say(self, *messages: Any) -> None:
        self.send(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    async def hear(self) -> Any:
        """The next message; None where the server closed."""
        async with asyncio.timeout(WAIT_S):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    async def call(self, message: Any) -> Any:
        self.say(message)
        return await self.hear()


@contextlib.asynccontextmanager
async def dial_line(where: int | str) -> AsyncIterator[LinePeer]:
    made = await connect(where)
    peer = LinePeer(made.reader, made.writer)
    try:
        yield peer
    finally:
        await peer.close()


# ---- what is served --------------------------------------------------------------------------------------------------


@dataclass
class House:
    """A server, and the means to see and steer what its tools do."""

    server: Server
    begun: asyncio.Event = field(default_factory=asyncio.Event)  # the tool ``wait`` runs
    go: asyncio.Event = field(default_factory=asyncio.Event)  # lets it end
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)  # it was cancelled
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # it came to its end
    calls: list[str] = field(default_factory=list)


def make_house(limits: dict[str, float] | None = None, **options: Any) -> House:
    # However busy the machine is, nothing waits for its turn or is refused that would not be on an idle one.
    found = Limits.load(**{"turn_time_s": 60.0, "queue_delay_max_s": 600.0, **(limits or {})})
    server = Server("house", version="1", limits=found, **options)
    house = House(server)

    @server.tool
    async def echo(text: str) -> str:
        house.calls.append(text)
        return text

    @server.tool
    async def wait(ctx: Context, text: str = "waited") -> str:
        house.begun.set()
        try:
            await house.go.wait()
        except asyncio.CancelledError:
            house.cancelled.set()
            raise
        house.ended.set()
        return text

    @server.tool
    async def big(size: int) -> str:
        return "x" * size

    @server.tool
    async def count(ctx: Context, steps: int, size: int = 0) -> str:
        for step in range(steps):
            await ctx.progress(step + 1, steps, "x" * size)
        return f"counted to {steps}"

    @server.tool
    async def count_and_wait(ctx: Context) -> str:
        await ctx.progress(1, 2)
        return await wait(ctx, "counted and waited")

    @server.tool
    async def name(ctx: Context) -> str:
        schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        answer = await ctx.elicit("Your name?", schema, key="name")
        return f"Hello, {answer.content['name']}!" if answer.action == "accept" else answer.action

    @server.tool
    async def leave(ctx: Context) -> str:
        await ctx.close_stream()
        return await wait(ctx, "left and came back")

    @server.resource("house://door", name="door")
    async def door() -> str:
        return "open"

    return house


def text_of(message: Any) -> str:
    """The text of a tool result."""
    return str(message["result"]["content"][0]["text"])


# ---- processes -------------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, sys, time
from erlmcp import Context, Server
server = Server("process")

@server.tool
async def echo(text: str) -> str:
    return text

@server.tool
def threaded(text: str) -> str:
    return text

@server.tool
async def shout(text: str) -> str:
    print("a stray print of", text)
    sys.stdout.write("and a stray write\\n")
    return text

@server.tool
async def sleep(ctx: Context, seconds: float) -> str:
    await ctx.progress(0, 1)
    await asyncio.sleep(seconds)
    return "slept"

@server.tool
def block(seconds: float) -> str:
    time.sleep(seconds)
    return "blocked"

@server.tool
async def big(size: int) -> str:
    return "x" * size
"""


class Process:
    """A server in a process of its own, over its standard streams."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        program: str = PROGRAM,
        stdin: Any = subprocess.PIPE,
        lasts_s: float = 30,
        **options: Any,
    ) -> None:
        file = folder / "program.py"
        if not file.exists():
            file.write_text(program)
        environment = {**os.environ, **options.pop("env", {})}
        environment.pop("PYTHONSTARTUP", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "erlmcp", *(word.replace("FILE", str(file)) for word in words)],
            stdin=stdin,
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            env=environment,
            **options,
        )
        # Whatever happens, no test hangs on a pipe: reads end when the process does.
        self._guard = threading.Timer(lasts_s, self.process.kill)
        self._guard.start()

    def send(self, *messages: Any) -> None:
        assert self.process.stdin is not None
        for message in messages:
            data = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
            self.process.stdin.write(data)
        self.process.stdin.flush()

    def read(self) -> Any:
        """The next message; None at the end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def call(self, message: Any) -> Any:
        self.send(message)
        return self.read()

    def say_line(self) -> str:
        """The next line of stderr."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().decode()

    def end(self, *messages: Any) -> tuple[list[Any], str, int]:
        """Send the last messages and close the input; what else was answered, what stderr says, and the exit code."""
        data = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
        out, err = self.process.communicate(data or None, timeout=WAIT_S)
        return [json.loads(line) for line in (out or b"").splitlines()], err.decode(), self.process.returncode

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self._guard.cancel()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@contextlib.contextmanager
def process(folder: Path, *words: str, **options: Any) -> Iterator[Process]:
    made = Process(folder, *words, **options)
    try:
        yield made
    finally:
        made.close()


def stdio(folder: Path, *words: str, **options: Any) -> contextlib.AbstractContextManager[Process]:
    """``erlmcp run`` of the program above."""
    return process(folder, "run", "FILE", *words, **options)
