"""A server that speaks HTTP/2 and does what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, PingReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from scripted import reply

Answer = Callable[["Side", "Asked2"], Any]


@dataclass
class Asked2:
    """One request: its stream, its fields, its body."""

    stream: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Peer2:
    """The listening server; ``settings`` are what it says at first."""

    answer: Answer
    settings: dict[SettingCodes, int]
    port: int = 0
    sides: list[Side] = field(default_factory=list)
    requests: list[Asked2] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)
    ping_count: int = 0
    open_peak: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"


class Side(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(self, peer: Peer2) -> None:
        self.peer = peer
        self.number = len(peer.sides)
        self.closed = asyncio.Event()
        self.is_deaf = False
        self._asked: dict[int, Asked2] = {}
        peer.sides.append(self)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.h2 = h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        h2.local_settings = Settings(client=False, initial_values=self.peer.settings)
        h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self._asked[event.stream_id] = Asked2(event.stream_id, dict(event.headers))
                self.peer.open_peak = max(self.peer.open_peak, self.h2.open_inbound_streams)
            elif isinstance(event, DataReceived):
                self._asked[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                asked = self._asked[event.stream_id]
                self.peer.requests.append(asked)
                self.peer.answer(self, asked)
            elif isinstance(event, StreamReset):
                self.peer.resets.append(event.stream_id)
            elif isinstance(event, PingReceived):
                self.peer.ping_count += 1
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    def result(self, asked: Asked2, value: Any = None) -> None:
        self.head(asked)
        self.h2.send_data(asked.stream, reply(asked.json["id"], value), end_stream=True)
        self.flush()

    def head(self, asked: Asked2, status: int = 200, kind: str = "application/json", *, is_end: bool = False) -> None:
        self.h2.send_headers(asked.stream, [(":status", str(status)), ("content-type", kind)], end_stream=is_end)
        self.flush()

    def data(self, asked: Asked2, data: bytes, *, is_end: bool = False) -> None:
        self.h2.send_data(asked.stream, data, end_stream=is_end)
        self.flush()


@contextlib.asynccontextmanager
async def scripted2(answer: Answer, *, tls: Any = None, **settings: int) -> AsyncIterator[Peer2]:
    """A server on a port of 127.0.0.1; ``settings`` by the names of SettingCodes."""
    peer = Peer2(answer, {SettingCodes[name]: value for name, value in settings.items()})
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Side(peer), "127.0.0.1", 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for side in peer.sides:
            side.transport.abort()
        for side in peer.sides:
            async with asyncio.timeout(10):
                await side.closed.wait()
        await server.wait_closed()
