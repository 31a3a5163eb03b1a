"""Turns over each transport: what waits for the next one, what does not, and what the end of a connection finds."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rawpeer import WAIT_S, dial, dial_line, initialize, legacy, make_house, modern, modern_post, note, stdio, tool

from erlmcp.flags import Flags
from erlmcp.server.serve import http, tcp
from erlmcp.transports.http1 import HttpConnection

COUNT = 40


class Pipe(asyncio.Transport):
    """The server's end of a connection whose bytes are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_reading = True
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    @property
    def answered(self) -> list[int]:
        return [int(id) for id in re.findall(rb'"id":(\d+)', self.written)]


def connect(listener: Any, kind: Any = HttpConnection) -> tuple[Any, Pipe]:
    # Turns end with the loop's alone: on a slow machine two lines of a test are as far apart as two turns.
    listener.turn.budget.gap_ns = 10**15
    connection, pipe = kind(listener), Pipe()
    connection.connection_made(pipe)
    return connection, pipe


def echo(id: int) -> dict[str, Any]:
    return modern(id, "tools/call", tool("echo", text="x"))


def discover(id: int) -> bytes:
    return modern_post(modern(id, "server/discover"))


CROWD = b"".join(modern_post(echo(id)) for id in range(COUNT))
# Of a kind that the short way does not take.
SLOWER = b"".join(modern_post(modern(id, "tools/call", tool("count", steps=0))) for id in range(COUNT))


@pytest.mark.parametrize("crowd", [CROWD, SLOWER])
async def test_pipelined_requests_take_turns_and_are_answered_in_their_order(crowd: bytes, loop_kind: str) -> None:
    house = make_house({"turn_count_max": 4, "pipeline_count_max": 10})
    async with http(house.server) as listener:
        connection, pipe = connect(listener)
        connection.data_received(crowd)
        assert 0 < len(pipe.answered) < COUNT / 2
        assert not pipe.is_reading
        while len(pipe.answered) < COUNT:
            before = len(pipe.answered)
            await asyncio.sleep(0)
            assert len(pipe.answered) - before < COUNT / 2
        assert pipe.answered == [*range(COUNT)]
        assert pipe.is_reading
        connection.connection_lost(None)


@pytest.mark.parametrize("priority", [True, False])
async def test_a_critical_request_on_its_own_connection_waits_for_no_turn(priority: bool) -> None:
    house = make_house({"turn_count_max": 4}, flags=Flags(priority_messages=priority))
    async with http(house.server) as listener:
        (crowd, _), (other, pipe), (third, echoed) = connect(listener), connect(listener), connect(listener)
        crowd.data_received(CROWD)
        third.data_received(modern_post(echo(1001)))
        other.data_received(discover(1000))
        assert pipe.answered == ([1000] if priority else [])
        assert echoed.answered == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (pipe.answered, echoed.answered) == ([1000], [1001])
        for _ in range(COUNT):
            await asyncio.sleep(0)
        for each in (crowd, other, third):
            each.connection_lost(None)


@pytest.mark.parametrize("priority", [True, False])
async def test_the_question_whether_the_server_is_alive_waits_for_no_turn(priority: bool) -> None:
    house = make_house({"turn_count_max": 4}, flags=Flags(priority_messages=priority))
    async with http(house.server) as listener:
        (crowd, _), (probe, pipe), (reader, other) = connect(listener), connect(listener), connect(listener)
        crowd.data_received(CROWD)
        probe.data_received(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reader.data_received(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (b"alive" in pipe.written) is priority
        assert other.written == b""
        for _ in range(COUNT):
            await asyncio.sleep(0)
        assert b"alive" in pipe.written
        assert b"erlmcp_info" in other.written
        for each in (crowd, probe, reader):
            each.connection_lost(None)


async def test_a_client_that_shuts_down_its_side_finds_what_it_sent_answered() -> None:
    house = make_house({"turn_count_max": 2})
    async with http(house.server) as listener:
        connection, pipe = connect(listener)
        connection.data_received(CROWD)
        connection.eof_received()
        assert pipe.answered == [*range(COUNT)]
        await asyncio.sleep(0)
        connection.connection_lost(None)


async def test_a_connection_that_is_lost_while_it_stands_in_line_leaves_nothing() -> None:
    house = make_house({"turn_count_max": 2})
    async with http(house.server) as listener:
        connection, _ = connect(listener)
        connection.data_received(CROWD)
        connection.connection_lost(None)
        before = len(house.calls)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(house.calls) == before
        assert not len(house.server.turn)


async def test_a_server_that_stops_answers_what_stands_in_line_and_says_that_it_closes() -> None:
    house = make_house({"turn_count_max": 2})
    async with http(house.server) as listener:
        (crowd, _), (other, pipe) = connect(listener), connect(listener)
        crowd.data_received(CROWD)
        other.data_received(modern_post(echo(1000)))
        assert pipe.answered == []
        other.drain()
        assert not pipe.is_closed
        for _ in range(COUNT):
            await asyncio.sleep(0)
        assert pipe.answered == [1000]
        assert b"Connection: close" in pipe.written
        assert pipe.is_closed
        for each in (crowd, other):
            each.connection_lost(None)


async def test_streams_of_http_2_take_turns_and_critical_ones_pass() -> None:
    pytest.importorskip("h2", reason="HTTP/2 needs the extra http2")
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import StreamEnded

    from erlmcp.transports.http2 import Http2Connection

    house = make_house({"turn_count_max": 3})
    async with http(house.server, http2=True) as listener:
        connection, pipe = connect(listener, Http2Connection)
        client = H2Connection(H2Configuration(client_side=True))
        client.initiate_connection()
        ids = [1 + 2 * n for n in range(20)]
        for id in ids:
            head, _, body = (discover(id) if id == ids[-1] else modern_post(echo(id))).partition(b"\r\n\r\n")
            fields = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")[1:]]
            own = [(name.lower(), value) for name, value in fields if name.lower() not in ("host", "content-length")]
            first = [(":method", "POST"), (":path", "/mcp"), (":scheme", "http"), (":authority", "localhost")]
            client.send_headers(id, [*first, *own])
            client.send_data(id, body, end_stream=True)
        client.reset_stream(ids[10])
        connection.data_received(client.data_to_send())
        ended: list[int] = []
        seen = 0
        for _ in range(30):
            events = client.receive_data(pipe.written[seen:])
            seen = len(pipe.written)
            ended += [event.stream_id for event in events if isinstance(event, StreamEnded)]
            await asyncio.sleep(0)
        assert ended[-1] == ids[-2]
        assert ended.index(ids[-1]) < len(ids) // 2  # a machine that pauses within the read begins a budget anew
        rest = [id for id in ended if id != ids[-1]]
        assert rest == [id for id in ids[:-1] if id != ids[10]]
        connection.connection_lost(None)


async def test_over_tcp_a_crowd_holds_up_neither_a_ping_nor_another_connection(loop_kind: str) -> None:
    house = make_house({"turn_count_max": 16})
    async with tcp(house.server) as listener, dial_line(listener.port) as crowd, dial_line(listener.port) as other:
        for peer in (crowd, other):
            assert (await peer.call(initialize()))["id"] == 0
            peer.say(note("notifications/initialized"))
        calls = [legacy(id, "tools/call", tool("echo", text="x" * 100)) for id in range(1, 3001)]
        crowd.say(*calls, legacy("last", "ping"))
        other.say(legacy("ping", "ping"))
        assert (await other.hear())["id"] == "ping"
        assert len(house.calls) < 3000
        heard = [(await crowd.hear())["id"] for _ in range(3001)]
        assert [id for id in heard if id != "last"] == [*range(1, 3001)]


@pytest.mark.parametrize("way", ["tcp", "http"])
async def test_one_call_after_another_is_answered_whatever_the_turns_are(way: str, loop_kind: str) -> None:
    house = make_house({"turn_count_max": 1, "turn_time_s": 1e-9})
    if way == "http":
        async with http(house.server) as listener, dial(listener.port) as peer:
            for id in range(1, 30):
                answer = await peer.ask(modern_post(echo(id)))
                assert answer.json["id"] == id
        return
    async with tcp(house.server) as listener, dial_line(listener.port) as peer:
        for id in range(1, 30):
            assert (await peer.call(echo(id)))["id"] == id


async def test_a_tcp_client_that_shuts_down_its_side_finds_what_it_sent_answered(loop_kind: str) -> None:
    house = make_house({"turn_count_max": 3})
    async with tcp(house.server) as listener, dial_line(listener.port) as peer:
        peer.say(*(echo(id) for id in range(200)))
        peer.writer.write_eof()
        async with asyncio.timeout(WAIT_S):
            data = await peer.reader.read()
        assert [json.loads(line)["id"] for line in data.splitlines()] == [*range(200)]


def test_the_end_of_standard_input_finds_what_it_brought_answered(tmp_path: Path) -> None:
    lines = b"".join(json.dumps(echo(id)).encode() + b"\n" for id in range(700))
    with stdio(tmp_path, env={"ERLMCP_TURN_COUNT_MAX": "3", "ERLMCP_BACKLOG_COUNT_MAX": "50"}) as server:
        out, _ = server.process.communicate(lines, timeout=WAIT_S)
    assert [json.loads(line)["id"] for line in out.splitlines()] == [*range(700)]
