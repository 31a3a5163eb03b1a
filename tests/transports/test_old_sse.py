"""The HTTP+SSE pair of 2024-11-05 (behind ``sse_transport``), and the in-memory transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from rawpeer import (
    INITIALIZED,
    HttpPeer,
    ask_once,
    delete,
    dial,
    get,
    head,
    initialize,
    legacy,
    make_house,
    modern,
    modern_post,
    note,
    post,
    text_of,
    tool,
)

from erlmcp.errors import ConnectionClosedError
from erlmcp.server.serve import http

Drive = Callable[[Any], None]
OLD = "2024-11-05"


class SsePeer:
    """The client of one pair: reads the stream, posts to the URL that its first event named."""

    def __init__(self, where: int, stream: HttpPeer, target: str) -> None:
        self.where = where
        self.stream = stream
        self.target = target

    async def post(self, message: Any) -> int:
        return (await ask_once(self.where, post(message, target=self.target))).status

    async def hear(self) -> Any:
        event = await self.stream.event()
        return None if event is None else event.json

    async def call(self, message: Any) -> Any:
        assert await self.post(message) == 202
        return await self.hear()


@asynccontextmanager
async def dial_sse(where: int) -> AsyncIterator[SsePeer]:
    async with dial(where) as stream:
        stream.send(get(target="/sse"))
        found = await stream.head()
        assert (found.status, found.is_stream) == (200, True)
        first = await stream.event()
        assert first is not None
        assert first.event == "endpoint"
        yield SsePeer(where, stream, first.data)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_client_of_2024_11_05_is_served_beside_the_new_endpoint(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house(sse_transport=True).server) as listener:
            async with dial_sse(listener.port) as peer:
                assert (await peer.call(initialize(OLD)))["result"]["protocolVersion"] == OLD
                assert await peer.post(INITIALIZED) == 202
                assert text_of(await peer.call(legacy(1, "tools/call", tool("echo", text="old")))) == "old"
                params = {**tool("count", steps=1), "_meta": {"progressToken": 1}}
                assert (await peer.call(legacy(2, "tools/call", params)))["method"] == "notifications/progress"
                assert text_of(await peer.hear()) == "counted to 1"
            found = await ask_once(listener.port, modern_post(modern(1, "tools/call", tool("echo", text="new"))))
            assert text_of(found.json) == "new"

    drive(main())


def test_a_question_of_the_server_comes_on_the_stream(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house(sse_transport=True).server) as listener, dial_sse(listener.port) as peer:
            await peer.call(initialize("2025-06-18", {"elicitation": {}}))
            question = await peer.call(legacy(1, "tools/call", tool("name")))
            assert question["method"] == "elicitation/create"
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
            assert text_of(await peer.call(answer)) == "decline"

    drive(main())


def test_two_clients_do_not_hear_each_other(drive: Drive) -> None:
    async def main() -> None:
        async with (
            http(make_house(sse_transport=True).server) as listener,
            dial_sse(listener.port) as one,
            dial_sse(listener.port) as two,
        ):
            assert one.target != two.target
            await one.call(initialize(OLD))
            await two.call(initialize(OLD))
            assert await one.post(legacy("to one", "ping")) == 202
            assert await two.post(legacy("to two", "ping")) == 202
            assert ((await one.hear())["id"], (await two.hear())["id"]) == ("to one", "to two")

    drive(main())


def test_a_client_that_leaves_ends_its_session_and_its_calls(drive: Drive) -> None:
    async def main() -> None:
        house = make_house(sse_transport=True)
        async with http(house.server) as listener:
            async with dial_sse(listener.port) as peer:
                await peer.call(initialize(OLD))
                assert await peer.post(legacy(1, "tools/call", tool("wait"))) == 202
                await house.begun.wait()
                peer.stream.abort()
                await asyncio.wait_for(house.cancelled.wait(), 10)
            await until(lambda: not listener.handler.streams)  # type: ignore[attr-defined]
            assert await peer.post(legacy(2, "ping")) == 404

    drive(main())


def test_a_cancelled_request_gets_no_answer(drive: Drive) -> None:
    async def main() -> None:
        house = make_house(sse_transport=True)
        async with http(house.server) as listener, dial_sse(listener.port) as peer:
            await peer.call(initialize(OLD))
            await peer.post(legacy(1, "tools/call", tool("wait")))
            await house.begun.wait()
            await peer.post(note("notifications/cancelled", {"requestId": 1}))
            assert (await peer.call(legacy(2, "ping")))["id"] == 2

    drive(main())


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(legacy(1, "ping"), target="/messages"), 404),
        (post(legacy(1, "ping"), target="/messages?session_id=x"), 404),
        (post(b"{", target="/messages?session_id=x"), 404),
        (get(target="/messages"), 405),
        (post(legacy(1, "ping"), target="/sse"), 405),
        (head("PUT", "/sse", {"Host": "localhost", "Content-Length": "0"}), 405),
        (get({"Host": "evil.example.com"}, target="/sse"), 421),
        (get({"Origin": "http://evil.example.com"}, target="/sse"), 403),
        (get({"Accept": "application/json"}, target="/sse"), 406),
        (get(target="/nothing"), 404),
        (delete(), 400),
    ],
)
def test_other_requests_to_its_paths_are_refused(request_bytes: bytes, status: int) -> None:
    async def main() -> None:
        async with http(make_house(sse_transport=True).server) as listener:
            assert (await ask_once(listener.port, request_bytes)).status == status

    asyncio.run(main())


def test_bad_messages_are_refused_and_the_stream_goes_on(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house(sse_transport=True).server) as listener, dial_sse(listener.port) as peer:
            for body in (b"{", b"7", b""):
                assert await peer.post(body) == 400
            assert (await peer.call(initialize(OLD)))["id"] == 0

    drive(main())


def test_streams_are_kept_alive_and_bounded_in_number(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"sse_keepalive_s": 0.02, "session_count_max": 1}, sse_transport=True)
        async with http(house.server) as listener, dial_sse(listener.port) as peer:
            event = await peer.stream.event(comments=True)
            assert event is not None
            assert event.comment
            found = await ask_once(listener.port, get(target="/sse"))
            assert (found.status, b"session_count_max" in found.body) == (503, True)

    drive(main())


def test_the_server_ends_the_streams_when_it_stops(drive: Drive) -> None:
    async def main() -> None:
        serving = http(make_house(sse_transport=True).server)
        listener = await serving.__aenter__()
        async with dial_sse(listener.port) as peer:
            await serving.__aexit__(None, None, None)
            assert await peer.hear() is None

    drive(main())


def test_it_is_served_only_where_it_is_asked_for() -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            assert (await ask_once(listener.port, get(target="/sse"))).status == 404

    asyncio.run(main())


# ---- in memory -------------------------------------------------------------------------------------------------------


def line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


def test_an_in_memory_connection_carries_the_same_bytes(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with house.server.memory() as wire:
            data = line(modern(1, "tools/call", tool("echo", text="a\nb")))
            for start in range(0, len(data), 13):
                wire.send(data[start : start + 13])
            assert text_of(json.loads(await wire.receive())) == "a\nb"
            wire.send(b"{\n" + line(modern(2, "server/discover")))
            await asyncio.sleep(0)
            assert wire.pending() == 2
            assert json.loads(await wire.receive())["id"] == 2  # which is critical
            assert json.loads(await wire.receive())["error"]["code"] == -32700
            with pytest.raises(TimeoutError):
                await wire.receive(0.01)

    drive(main())


def test_closing_an_in_memory_connection_cancels_what_runs(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with house.server.memory() as wire:
            wire.send(line(modern(1, "tools/call", tool("wait"))))
            await house.begun.wait()
            wire.close()
            with pytest.raises(ConnectionClosedError):
                wire.send(b"\n")
            await asyncio.wait_for(house.cancelled.wait(), 10)
            assert wire.pending() == 0

    drive(main())
