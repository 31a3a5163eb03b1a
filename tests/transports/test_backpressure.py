"""Clients that do not read, and servers that have too much to do, over each transport."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from rawpeer import LATEST, WAIT_S, dial, dial_line, initialize, legacy, make_house, modern, modern_post, post, tool

from erlmcp.flags import Flags
from erlmcp.server.serve import http, tcp
from erlmcp.transports.http1 import HttpConnection
from erlmcp.transports.stream import StreamProtocol

BIG = 400_000


class Pipe(asyncio.Transport):
    """The server's end of a connection that takes only so much."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent = 0
        self.is_aborted = False
        self.is_reading = True
        self.limits: list[int] = []

    def write(self, data: Any) -> None:
        self.unsent += len(data)

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        self.abort()

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits.append(high or 0)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


async def test_a_tcp_client_that_never_reads_is_closed_and_named_in_the_log_and_others_are_served(
    loop_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = make_house({"outbox_timeout_s": 0.2, "inflight_count_max": 10_000})
    async with tcp(house.server) as listener, dial_line(listener.port) as rude, dial_line(listener.port) as other:
        rude.reader._limit = 1  # type: ignore[attr-defined]
        rude.writer.transport.pause_reading()  # type: ignore[attr-defined]
        rude.say(*(modern(id, "tools/call", tool("big", size=BIG)) for id in range(60)))
        async with asyncio.timeout(WAIT_S):
            while not any("outbox_timeout_s=0.2 passed" in record.getMessage() for record in caplog.records):
                assert (await other.call(modern("x", "tools/call", tool("echo", text="x"))))["id"] == "x"
            while len(listener.connections) > 1:
                await asyncio.sleep(0)


def protocol_of(house: Any, pipe: Pipe, **limits: int) -> StreamProtocol:
    made = StreamProtocol(house.server.link, set(), 9, 1 << 26, limits.get("outbox_pause_bytes", 1 << 16))
    made.connection_made(pipe)
    return made


@pytest.mark.parametrize("guarded", [True, False])
async def test_patience_with_a_client_ends_unless_it_reads_or_the_flag_is_off(
    guarded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    house = make_house({"outbox_timeout_s": 30}, flags=Flags(backpressure=guarded))
    async with house.server.running():
        pipe = Pipe()
        protocol = protocol_of(house, pipe)
        pipe.unsent = 500_000
        protocol.pause_writing()
        assert not pipe.is_reading
        assert (protocol._patience is not None) is guarded
        if guarded:
            assert protocol._patience is not None
            protocol._patience.cancel()
            pipe.unsent = 400_000
            protocol._lose_patience(500_000, 30)
            assert not pipe.is_aborted
            assert protocol._patience is not None
            protocol._patience.cancel()
            protocol._lose_patience(400_000, 30)
            assert pipe.is_aborted
            assert "outbox_timeout_s=30 passed with 400000 bytes unsent" in caplog.text
        protocol.connection_lost(None)


async def test_a_client_that_reads_again_is_read_from_again_and_waited_for_no_more() -> None:
    house = make_house()
    async with house.server.running():
        pipe = Pipe()
        protocol = protocol_of(house, pipe)
        protocol.pause_writing()
        protocol.pause()
        protocol.resume_writing()
        assert protocol._patience is None
        assert not pipe.is_reading  # as much of it waits for its turn
        protocol.resume()
        assert pipe.is_reading
        protocol.connection_lost(None)


async def test_the_mark_at_which_reading_pauses_can_be_moved() -> None:
    house = make_house({"outbox_pause_bytes": 1000})
    async with http(house.server) as listener:
        pipe, other = Pipe(), Pipe()
        protocol = protocol_of(house, pipe, outbox_pause_bytes=1000)
        connection = HttpConnection(listener)
        connection.connection_made(other)
        assert (pipe.limits, other.limits) == ([1000], [1000])
        protocol.connection_lost(None)
        connection.connection_lost(None)


@pytest.mark.parametrize("guarded", [True, False])
async def test_an_http_client_that_does_not_read_is_given_up_also_while_a_call_runs(
    guarded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    house = make_house({"outbox_timeout_s": 30, "keepalive_timeout_s": 1e6}, flags=Flags(backpressure=guarded))
    async with http(house.server) as listener:
        pipe = Pipe()
        connection = HttpConnection(listener)
        connection.connection_made(pipe)
        connection.data_received(modern_post(modern(1, "tools/call", tool("wait"))))
        connection.pause_writing()
        now = time.monotonic()
        pipe.unsent = 1000
        for after, unsent in ((1, 1000), (29, 900), (58, 900)):
            pipe.unsent = unsent
            connection.sweep(now + after, listener.limits)
            assert not pipe.is_aborted
        connection.sweep(now + 60, listener.limits)
        assert pipe.is_aborted is guarded
        assert ("outbox_timeout_s=30 passed with 900 bytes unsent" in caplog.text) is guarded
        connection.connection_lost(None)
        await asyncio.sleep(0)


async def test_a_busy_server_says_503_and_when_to_come_back_over_http(loop_kind: str) -> None:
    house = make_house({"total_inflight_count_max": 1})
    async with http(house.server) as listener, dial(listener.port) as one, dial(listener.port) as two:
        opened = await two.ask(post(initialize()))
        headers = {"Mcp-Session-Id": opened.headers["mcp-session-id"], "MCP-Protocol-Version": LATEST}
        one.send(modern_post(modern(1, "tools/call", tool("wait"))))
        await house.begun.wait()
        answers = [
            await two.ask(modern_post(modern(2, "tools/call", tool("echo", text="x")))),
            await two.ask(post(legacy(3, "tools/call", tool("echo", text="x")), headers)),
        ]
        for answer in answers:
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.json["error"]["code"] == -32000
            assert answer.json["error"]["data"] == {"retryAfterMs": 1000}
        assert (await two.ask(modern_post(modern(4, "server/discover")))).status == 200
        house.go.set()
        assert (await one.answer()).status == 200
        assert (await two.ask(modern_post(modern(5, "tools/call", tool("echo", text="x"))))).status == 200


async def test_an_error_of_the_author_with_the_same_code_keeps_its_status() -> None:
    from erlmcp import McpError

    house = make_house()

    @house.server.tool
    async def mine() -> str:
        raise McpError(-32000, "mine", {"why": "own"})

    async with http(house.server) as listener, dial(listener.port) as peer:
        answer = await peer.ask(modern_post(modern(1, "tools/call", tool("mine"))))
        assert (answer.status, answer.json["error"]["message"]) == (200, "mine")
