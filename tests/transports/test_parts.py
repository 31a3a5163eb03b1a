"""Large answers go out in pieces: whole on every transport, not copied on the way, joined without zero_copy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from rawpeer import dial, dial_line, make_house, modern, modern_post, stdio, text_of, tool

from erlmcp import Flags, core
from erlmcp.runtime.parts import SPLIT_BYTES, write_parts
from erlmcp.runtime.roll import Roll
from erlmcp.server.serve import http, tcp, unix
from erlmcp.transports.http1 import HttpConnection
from erlmcp.transports.stdio import StdioConnection
from erlmcp.transports.stream import StreamProtocol

Drive = Callable[[Any], None]
TEXT = "abcdefghij" * (SPLIT_BYTES // 2)
needs_core = pytest.mark.skipif(core.IMPLEMENTATION != "core", reason="the twin joins what it writes")
SIZES = [10, SPLIT_BYTES - 1, SPLIT_BYTES, 1 << 20]


class Pipe(asyncio.Transport):
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Any] = []

    def write(self, data: Any) -> None:
        self.written.append(data)

    def writelines(self, parts: Any) -> None:
        self.written += parts

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_protocol(self, protocol: Any) -> None: ...


def address(data: Any) -> int:
    return int(numpy.frombuffer(data, numpy.uint8).ctypes.data)


def address_of_text() -> int:
    """Of the characters of TEXT, which is ASCII: they follow its head."""
    return id(TEXT) + TEXT.__sizeof__() - len(TEXT) - 1


def server_of(flags: Flags | None = None) -> Any:
    house = make_house(flags=flags)

    @house.server.tool
    async def whole() -> str:
        return TEXT

    return house.server


CALL = modern(1, "tools/call", tool("whole"))


def check(written: list[Any], zero_copy: bool) -> None:
    places = [address(data) for data in written if len(data) == len(TEXT)]
    assert places == ([address_of_text()] * 2 if zero_copy else [])
    assert b"".join(written).count(TEXT.encode()) == 2
    assert (len(written) == 1) is not zero_copy


@needs_core
@pytest.mark.parametrize("zero_copy", [True, False])
async def test_over_http_a_text_reaches_the_socket_from_where_it_lies(zero_copy: bool) -> None:
    async with http(server_of(Flags(zero_copy=zero_copy))) as listener:
        connection, pipe = HttpConnection(listener), Pipe()
        connection.connection_made(pipe)
        connection.data_received(modern_post(CALL))
        check(pipe.written, zero_copy)
        connection.connection_lost(None)


@needs_core
@pytest.mark.parametrize("zero_copy", [True, False])
async def test_over_a_byte_stream_a_text_reaches_the_socket_from_where_it_lies(zero_copy: bool) -> None:
    server = server_of(Flags(zero_copy=zero_copy))
    async with server.running():
        connection, pipe = StreamProtocol(server.link, Roll(), 10, 1 << 26, 1 << 16), Pipe()
        connection.connection_made(pipe)
        connection.data_received(json.dumps(CALL).encode() + b"\n")
        check(pipe.written, zero_copy)
        connection.connection_lost(None)


async def test_without_batching_each_message_is_a_write_of_its_own() -> None:
    server = server_of(Flags(batching=False))
    async with server.running():
        link = server.link((written := []).append)
        link.write_parts = written.extend
        link.feed((json.dumps(CALL).encode() + b"\n") * 2)
        link.close()
    assert [data[-1:] for data in written] == [b"\n"] * 2


def test_a_transport_that_joins_is_given_one_piece_after_the_other() -> None:
    class Joining(asyncio.WriteTransport):
        def __init__(self) -> None:
            super().__init__()
            self.written: list[Any] = []

        def write(self, data: Any) -> None:
            self.written.append(data)

    joining, pipe = Joining(), Pipe()
    for transport in (joining, pipe):
        write_parts(transport, [b"a", memoryview(b"b")])
        assert transport.written == [b"a", b"b"]


@pytest.mark.parametrize("forgets", [True, False])
def test_who_has_bounds_of_its_own_looks_there_and_who_forgets_to_is_made_to(forgets: bool) -> None:
    looks = []

    class Gathering(Pipe):
        def _maybe_pause_protocol(self) -> None:
            looks.append(len(self.written))

    transport = Gathering()
    if forgets:
        transport._high_water = 1 << 16  # type: ignore[attr-defined]
    write_parts(transport, [b"a", memoryview(b"b")])
    assert transport.written == [b"a", b"b"]
    assert looks == ([2] if forgets else [])


async def test_a_socket_that_takes_no_more_pauses_who_writes_pieces() -> None:
    paused: list[bool] = []

    class Writer(asyncio.Protocol):
        def pause_writing(self) -> None:
            paused.append(True)

    theirs, ours = socket.socketpair()
    with theirs:
        transport, _ = await asyncio.get_running_loop().create_connection(Writer, sock=ours)
        write_parts(transport, [b"a" * (1 << 20)] * 8)
        assert paused == [True]
        transport.abort()


@pytest.mark.parametrize("zero_copy", [True, False])
@pytest.mark.parametrize("kind", ["http", "tcp", "unix"])
def test_texts_of_every_size_arrive_whole(drive: Drive, tmp_path: Path, kind: str, zero_copy: bool) -> None:
    async def main() -> None:
        server = make_house(flags=Flags(zero_copy=zero_copy)).server
        calls = [modern(number, "tools/call", tool("big", size=size)) for number, size in enumerate(SIZES)]
        async with asyncio.timeout(30):
            if kind == "http":
                async with http(server) as listener, dial(listener.port) as peer:
                    peer.send(b"".join(modern_post(call) for call in calls))
                    found = [(await peer.answer()).json for _ in calls]
            else:
                path = str(tmp_path / "socket")
                opened: Any = tcp(server) if kind == "tcp" else unix(server, path)
                async with opened as raw, dial_line(raw.port if kind == "tcp" else path) as line:
                    line.say(*calls)
                    found = [await line.hear() for _ in calls]
        assert [message["id"] for message in found] == list(range(len(SIZES)))
        assert [len(text_of(message)) for message in found] == SIZES

    drive(main())


@pytest.mark.parametrize("flags", ["", "-zero_copy"])
def test_texts_of_every_size_arrive_whole_over_stdio(
    tmp_path: Path, flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERLMCP_FLAGS", flags)
    with stdio(tmp_path) as server:
        for number, size in enumerate(SIZES):
            server.send(modern(number, "tools/call", tool("big", size=size)))
        assert [len(text_of(server.read())) for _ in SIZES] == SIZES
        assert server.end()[1:] == ("", 0)


async def test_a_pipe_that_takes_a_part_of_it_gets_the_rest_later(loop_kind: str) -> None:
    class Link:
        closed = False
        write_parts: Any = None
        patience_s = None

        def pace(self, pacer: Any) -> None: ...
        def finish(self) -> None: ...
        def hold(self, held: bool) -> None: ...
        def feed(self, data: bytes) -> None: ...
        def close(self, reason: str = "") -> None: ...

    own_read, their_write = os.pipe()
    their_read, own_write = os.pipe()
    connection = StdioConnection(lambda write: Link(), own_read, own_write, outbox_bytes_max=1 << 26, drain_timeout_s=5)
    parts = [b"a" * 10, memoryview(b"b" * 3_000_000), b"c", memoryview(b"d" * 200_000), b"e\n"]
    connection.write_parts(parts)
    connection.write_parts([b"f"] * 100)
    wanted, got = b"".join(parts) + b"f" * 100, b""
    os.set_blocking(their_read, False)
    while len(got) < len(wanted):
        with contextlib.suppress(BlockingIOError):
            got += os.read(their_read, 1 << 20)
        await asyncio.sleep(0)
    assert got == wanted
    os.close(their_read)
    connection.write_parts([b"x"])
    assert connection.finished.done()
    connection.close()
    for fd in (own_read, their_write, own_write):
        os.close(fd)
