"""HTTP/2 on both sides: the client over it in each era, and a server that is driven frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("h2", reason="HTTP/2 needs the extra http2")
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from rawpeer import dial, make_house, modern, modern_post, text_of, tool
from scripted import META, MODERN, WAIT_S, nothing_left, talking

from erlmcp.client.client import Client
from erlmcp.client.http import HttpChannel
from erlmcp.server.serve import http


def url_of(listener: Any) -> str:
    return f"http://127.0.0.1:{listener.port}/mcp"


@pytest.mark.parametrize("mode", ["auto", "legacy", "2025-03-26"])
async def test_a_client_works_over_http_2_in_each_era(mode: str, loop_kind: str) -> None:
    house = make_house()
    steps: list[float] = []

    async def name(params: Any) -> dict[str, Any]:
        return {"action": "accept", "content": {"name": "Ada"}}

    async with nothing_left(), http(house.server, http2=True) as listener:
        channel = HttpChannel(url_of(listener), http2=True)
        async with Client(channel, mode=mode, elicitation=name) as client:
            found = await client.call_many([("echo", {"text": f"call {n}"}) for n in range(300)])
            assert [result.text for result in found] == [f"call {n}" for n in range(300)]
            result = await client.call_tool(
                "count", {"steps": 3}, on_progress=lambda done, total, text: steps.append(done)
            )
            assert result.text == "counted to 3"
            assert steps == [1, 2, 3]
            assert len((await client.call_tool("big", {"size": 3_000_000})).text) == 3_000_000
            if mode != "2025-03-26":
                assert (await client.call_tool("name")).text == "Hello, Ada!"
        assert len(listener.handler.sessions) == 0


async def test_a_cancelled_call_is_cancelled_in_the_server_and_the_connection_goes_on(loop_kind: str) -> None:
    house = make_house()
    async with (
        nothing_left(),
        http(house.server, http2=True) as listener,
        talking(url_of(listener), http2=True) as talk,
    ):
        request = talk.begin("tools/call", {"name": "wait", "arguments": {}, "_meta": META}, name="wait")
        async with asyncio.timeout(WAIT_S):
            await house.begun.wait()
        talk.channel.cancel(request, "enough")
        async with asyncio.timeout(WAIT_S):
            await house.cancelled.wait()
        assert (await talk.call(text="after")).kind == 3
        assert talk.channel.stats()["opened_total"] == 1


async def test_a_server_that_stops_lets_the_answers_under_way_leave(loop_kind: str) -> None:
    house = make_house({"drain_timeout_s": WAIT_S})
    async with nothing_left():
        serving = http(house.server, http2=True)
        listener = await serving.__aenter__()
        async with talking(url_of(listener), http2=True) as talk:
            request = talk.begin("tools/call", {"name": "wait", "arguments": {}, "_meta": META}, name="wait")
            async with asyncio.timeout(WAIT_S):
                await house.begun.wait()
            leaving = asyncio.ensure_future(serving.__aexit__(None, None, None))
            while talk.channel.pool._shared:
                await asyncio.sleep(0)
            house.go.set()
            assert (await request.future).result["content"][0]["text"] == "waited"
            await leaving


async def test_http_1_is_spoken_on_the_same_port(loop_kind: str) -> None:
    async with (
        nothing_left(),
        http(make_house().server, http2=True) as listener,
        dial(listener.port) as peer,
    ):
        data = modern_post(modern(1, "tools/call", tool("echo", text="one")))
        for size in (1, 5, len(data)):  # less than tells the protocol at first
            peer.send(data[:size])
            await asyncio.sleep(0)
            data = data[size:]
        assert text_of((await peer.answer()).json) == "one"
        assert text_of((await peer.ask(modern_post(modern(2, "tools/call", tool("echo", text="two"))))).json) == "two"


# ---- frame by frame


class Frames:
    """A client that sends what a test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, **settings: int) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes[name]: value for name, value in settings.items()})
        self.heads: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaway: int | None = None

    def ask(self, body: bytes, *, is_end: bool = True, **more: str) -> int:
        id = self.h2.get_next_available_stream_id()
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":authority": "localhost",
            ":path": "/mcp",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        self.h2.send_headers(id, list(fields.items()))
        self.h2.send_data(id, body, end_stream=is_end)
        return id

    def call(self, name: str, **arguments: Any) -> int:
        message = modern(1, "tools/call", tool(name, **arguments))
        routing = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": name}
        return self.ask(json.dumps(message).encode(), **routing)

    async def until(self, is_so: Any, *, acknowledges: bool = True) -> None:
        async with asyncio.timeout(WAIT_S):
            while True:
                self.writer.write(self.h2.data_to_send())
                if is_so():
                    return
                data = await self.reader.read(65536)
                assert data, "the server closed"
                for event in self.h2.receive_data(data):
                    if isinstance(event, ResponseReceived):
                        self.heads[event.stream_id] = dict(event.headers)
                    elif isinstance(event, DataReceived):
                        self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                        if acknowledges and event.flow_controlled_length:
                            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, StreamEnded):
                        self.ended.add(event.stream_id)
                    elif isinstance(event, StreamReset):
                        self.resets[event.stream_id] = event.error_code
                    elif isinstance(event, ConnectionTerminated):
                        self.goaway = event.error_code

    async def until_closed(self) -> None:
        self.writer.write(self.h2.data_to_send())
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass


@contextlib.asynccontextmanager
async def frames(listener: Any, **settings: int) -> AsyncIterator[Frames]:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    try:
        yield Frames(reader, writer, **settings)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({":method": "GET", ":path": "/other"}, "404"),
        ({":authority": "evil.example"}, "421"),
        ({"content_type": "text/plain"}, "415"),
        ({"origin": "http://evil.example"}, "403"),
    ],
)
async def test_a_request_is_judged_as_over_http_1(fields: dict[str, str], status: str) -> None:
    async with nothing_left(), http(make_house().server, http2=True) as listener, frames(listener) as peer:
        id = peer.ask(b"{}", **fields)
        await peer.until(lambda: id in peer.ended)
        assert peer.heads[id][":status"] == status


async def test_a_body_over_its_limit_is_refused_and_the_others_go_on() -> None:
    house = make_house({"body_bytes_max": 1000})
    async with nothing_left(), http(house.server, http2=True) as listener, frames(listener) as peer:
        big = peer.ask(b"x" * 1500, is_end=False)
        small = peer.call("echo", text="one")
        await peer.until(lambda: small in peer.ended and big in peer.ended)
        assert peer.heads[big][":status"] == "413"
        assert b"body_bytes_max=1000" in peer.bodies[big]
        assert peer.heads[small][":status"] == "200"


async def test_an_answer_waits_for_the_clients_window() -> None:
    async with (
        nothing_left(),
        http(make_house().server, http2=True) as listener,
        frames(listener, INITIAL_WINDOW_SIZE=100) as peer,
    ):
        id = peer.call("big", size=5000)
        await peer.until(lambda: len(peer.bodies.get(id, b"")) == 100, acknowledges=False)
        other = peer.call("echo", text="")
        await peer.until(lambda: other in peer.heads, acknowledges=False)
        assert len(peer.bodies[id]) == 100
        peer.h2.increment_flow_control_window(10_000, id)
        await peer.until(lambda: id in peer.ended)
        assert len(peer.bodies[id]) > 5000


async def test_an_answer_that_is_not_read_is_bounded() -> None:
    house = make_house({"outbox_bytes_max": 2000})
    async with (
        nothing_left(),
        http(house.server, http2=True) as listener,
        frames(listener, INITIAL_WINDOW_SIZE=10) as peer,
    ):
        params = {**tool("count", steps=100, size=100)}
        message = modern(1, "tools/call", params, progressToken=1)
        routing = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "count"}
        id = peer.ask(json.dumps(message).encode(), **routing)
        await peer.until(lambda: id in peer.resets, acknowledges=False)


async def test_a_client_that_resets_by_the_thousand_is_sent_away() -> None:
    house = make_house({"stream_count_max": 2})
    async with nothing_left(), http(house.server, http2=True) as listener, frames(listener) as peer:
        for _ in range(30):
            id = peer.call("wait")
            peer.h2.reset_stream(id, ErrorCodes.CANCEL)
        await peer.until(lambda: peer.goaway is not None)
        assert peer.goaway == ErrorCodes.ENHANCE_YOUR_CALM


async def test_what_is_no_http_2_after_the_preface_ends_the_connection() -> None:
    async with nothing_left(), http(make_house().server, http2=True) as listener, frames(listener) as peer:
        peer.writer.write(peer.h2.data_to_send() + b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")
        await peer.until_closed()
        assert len(listener.connections) == 0


async def test_the_server_closes_what_is_idle_and_what_comes_to_no_end() -> None:
    limits = {"keepalive_timeout_s": 50.0, "body_timeout_s": 20.0}
    async with nothing_left(), http(make_house(limits).server, http2=True) as listener, frames(listener) as peer:
        id = peer.ask(b"{", is_end=False)
        whole = peer.call("echo", text="one")
        await peer.until(lambda: whole in peer.ended)
        (connection,) = listener.connections
        now = connection._streams[id].since
        connection.sweep(now + 19, listener.limits)
        assert id not in peer.heads
        connection.sweep(now + 21, listener.limits)
        await peer.until(lambda: id in peer.heads)
        assert peer.heads[id][":status"] == "408"
        connection.sweep(connection._idle_since + 49, listener.limits)
        assert not connection.transport.is_closing()
        connection.sweep(connection._idle_since + 51, listener.limits)
        await peer.until(lambda: peer.goaway == ErrorCodes.NO_ERROR)
        await peer.until_closed()


async def test_more_connections_than_are_allowed_are_refused() -> None:
    house = make_house({"connection_count_max": 1})
    async with nothing_left(), http(house.server, http2=True) as listener, frames(listener) as first:
        id = first.call("echo", text="one")
        await first.until(lambda: id in first.ended)
        async with frames(listener) as second:
            await second.until_closed()
        id = first.call("echo", text="two")
        await first.until(lambda: id in first.ended)


async def test_a_client_that_leaves_cancels_its_calls(loop_kind: str) -> None:
    house = make_house()
    async with nothing_left(), http(house.server, http2=True) as listener:
        async with frames(listener) as peer:
            peer.call("wait")
            peer.writer.write(peer.h2.data_to_send())
            async with asyncio.timeout(WAIT_S):
                await house.begun.wait()
        async with asyncio.timeout(WAIT_S):
            await house.cancelled.wait()
