"""Legacy sessions over Streamable HTTP: who gets one, whose it is, how it ends, and what its streams carry."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from rawpeer import (
    INITIALIZED,
    LATEST,
    LEGACY,
    HttpPeer,
    ask_once,
    delete,
    dial,
    get,
    initialize,
    legacy,
    make_house,
    note,
    post,
    text_of,
    tool,
)

from erlmcp.server.serve import http
from erlmcp.transports.listener import HttpListener

Drive = Callable[[Any], None]
ASKS = {"elicitation": {}}


async def open_session(
    where: int, version: str = LATEST, capabilities: dict[str, Any] | None = None, **headers: str
) -> dict[str, str]:
    """The headers that the requests of a new session carry."""
    found = await ask_once(where, post(initialize(version, capabilities), headers))
    assert found.json["result"]["protocolVersion"] == version
    mine = {"Mcp-Session-Id": found.headers["mcp-session-id"], "MCP-Protocol-Version": version, **headers}
    assert (await ask_once(where, post(INITIALIZED, mine))).status == 202
    return mine


def count(listener: HttpListener) -> int:
    return len(listener.handler.sessions)  # type: ignore[attr-defined]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def call(id: int, name: str, mine: dict[str, str], /, **arguments: Any) -> bytes:
    return post(legacy(id, "tools/call", tool(name, **arguments)), mine)


def progressing(id: int, name: str, mine: dict[str, str], /, **arguments: Any) -> bytes:
    return post(legacy(id, "tools/call", {**tool(name, **arguments), "_meta": {"progressToken": "p"}}), mine)


@contextlib.asynccontextmanager
async def streaming(where: int, request: bytes) -> AsyncIterator[HttpPeer]:
    """A request that is answered with a stream, its head read."""
    async with dial(where) as peer:
        peer.send(request)
        found = await peer.head()
        assert (found.status, found.is_stream) == (200, True), found
        assert found.headers["cache-control"].startswith("no-cache")
        assert found.headers["x-accel-buffering"] == "no"
        yield peer


# ---- the life of a session -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", LEGACY)
def test_a_session_serves_calls_until_its_client_deletes_it(version: str, drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            mine = await open_session(listener.port, version)
            assert count(listener) == 1
            found = await ask_once(listener.port, call(1, "echo", mine, text="hello"))
            assert (found.status, text_of(found.json)) == (200, "hello")
            assert "resultType" not in found.json["result"]
            assert (await ask_once(listener.port, post(legacy("p", "ping"), mine))).json["result"] == {}
            assert (await ask_once(listener.port, delete(mine))).status == 200
            assert count(listener) == 0
            for request in (call(2, "echo", mine, text="x"), post(INITIALIZED, mine), get(mine), delete(mine)):
                assert (await ask_once(listener.port, request)).status == 404

    drive(main())


def test_only_a_valid_initialize_opens_a_session(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            for params in (None, {}, {"protocolVersion": 1}, {**initialize()["params"], "clientInfo": {"name": 1}}):
                found = await ask_once(listener.port, post(legacy(1, "initialize", params)))
                assert found.code == -32602
                assert "mcp-session-id" not in found.headers
            assert (await ask_once(listener.port, post({**initialize(), "id": None}))).code == -32600
            assert (await ask_once(listener.port, post(note("initialize", initialize()["params"])))).status == 400
            assert (await ask_once(listener.port, post([initialize()]))).status == 400
            assert count(listener) == 0

    drive(main())


def test_session_ids_differ_and_the_header_name_may_be_spelled_either_way(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            ids = {(await open_session(listener.port))["Mcp-Session-Id"] for _ in range(10)}
            assert len(ids) == 10
            headers = {"MCP-Session-Id": ids.pop(), "MCP-Protocol-Version": LATEST}
            assert (await ask_once(listener.port, post(legacy(1, "ping"), headers))).status == 200

    drive(main())


def test_a_request_must_speak_the_revision_of_its_session(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            mine = await open_session(listener.port, "2025-06-18")
            other = {**mine, "MCP-Protocol-Version": "2025-03-26"}
            assert (await ask_once(listener.port, post(legacy(1, "ping"), other))).status == 400
            silent = {"Mcp-Session-Id": mine["Mcp-Session-Id"]}
            assert (await ask_once(listener.port, post(legacy(1, "ping"), silent))).status == 200

    drive(main())


def test_an_idle_session_ends(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"session_idle_s": 0.1, "sse_keepalive_s": 0.02})
        async with http(house.server) as listener:
            mine = await open_session(listener.port)
            await until(lambda: count(listener) == 0)
            assert (await ask_once(listener.port, post(legacy(1, "ping"), mine))).status == 404

    drive(main())


def test_a_session_with_an_open_stream_or_a_call_under_way_is_not_idle(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"session_idle_s": 0.1, "sse_keepalive_s": 0.02})
        async with http(house.server) as listener:
            reads, works = await open_session(listener.port), await open_session(listener.port)
            async with streaming(listener.port, get(reads)), dial(listener.port) as peer:
                peer.send(call(1, "wait", works))
                await open_session(listener.port)
                await until(lambda: count(listener) == 2)
                await asyncio.sleep(0.2)
                assert count(listener) == 2
                house.go.set()
            await until(lambda: count(listener) == 0)

    drive(main())


def test_the_longest_idle_session_makes_room_for_a_new_one(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house({"session_count_max": 3}).server) as listener:
            one, two, three = [await open_session(listener.port) for _ in range(3)]
            assert (await ask_once(listener.port, post(legacy(1, "ping"), one))).status == 200
            four = await open_session(listener.port)
            assert count(listener) == 3
            for session, status in [(two, 404), (one, 200), (three, 200), (four, 200)]:
                assert (await ask_once(listener.port, post(legacy(1, "ping"), session))).status == status

    drive(main())


def test_a_session_belongs_to_the_credential_that_opened_it(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            mine = await open_session(listener.port, Authorization="Bearer mine")
            for stolen in ({**mine, "Authorization": "Bearer other"}, {**mine, "Authorization": None}):
                for request in (post(legacy(1, "ping"), stolen), get(stolen), delete(stolen)):
                    assert (await ask_once(listener.port, request)).status == 404
            assert (await ask_once(listener.port, post(legacy(1, "ping"), mine))).status == 200

    drive(main())


# ---- the end of calls ------------------------------------------------------------------------------------------------


def test_a_client_that_disconnects_does_not_cancel_its_call(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener:
            mine = await open_session(listener.port)
            async with dial(listener.port) as peer:
                peer.send(call(1, "wait", mine))
                await house.begun.wait()
                peer.abort()
            await until(lambda: len(listener.connections) == 0)
            house.go.set()
            await house.ended.wait()
            assert not house.cancelled.is_set()

    drive(main())


@pytest.mark.parametrize("name", ["wait", "count_and_wait"], ids=["before a stream began", "on a stream"])
def test_a_cancelled_call_ends_its_http_answer_and_frees_the_connection(name: str, drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener, dial(listener.port) as peer:
            mine = await open_session(listener.port, "2025-06-18")
            peer.send(progressing(7, name, mine))
            await house.begun.wait()
            cancel = note("notifications/cancelled", {"requestId": 7, "reason": "no longer needed"})
            assert (await ask_once(listener.port, post(cancel, mine))).status == 202
            await house.cancelled.wait()
            found = await peer.head()
            if found.is_stream:
                assert [event.json["method"] for event in await peer.events()] == ["notifications/progress"]
            else:
                assert (found.status, found.headers["content-length"]) == (202, "0")
            assert (await peer.ask(call(8, "echo", mine, text="free"))).status == 200

    drive(main())


def test_the_end_of_a_session_ends_its_calls_and_its_streams(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener, dial(listener.port) as peer:
            mine = await open_session(listener.port)
            async with streaming(listener.port, get(mine)) as reading:
                peer.send(call(1, "wait", mine))
                await house.begun.wait()
                assert (await ask_once(listener.port, delete(mine))).status == 200
                await house.cancelled.wait()
                assert (await peer.answer()).status == 202
                assert [event.data for event in await reading.events()] == [""]

    drive(main())


def test_an_id_that_is_in_use_is_refused(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener, dial(listener.port) as peer:
            mine = await open_session(listener.port)
            peer.send(call(1, "wait", mine))
            await house.begun.wait()
            found = await ask_once(listener.port, call(1, "echo", mine, text="x"))
            assert (found.status, found.code) == (400, -32600)
            house.go.set()
            assert text_of((await peer.answer()).json) == "waited"

    drive(main())


# ---- streams of a session --------------------------------------------------------------------------------------------


def test_a_second_get_stream_is_refused_and_a_later_one_is_not(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            mine = await open_session(listener.port)
            async with streaming(listener.port, get(mine)) as first:
                assert (await ask_once(listener.port, get(mine))).status == 409
                first.abort()
            await until(lambda: not listener.connections)
            async with streaming(listener.port, get(mine)):
                pass

    drive(main())


@pytest.mark.parametrize(("version", "primes"), [("2025-03-26", False), ("2025-06-18", False), (LATEST, True)])
def test_streams_begin_with_a_priming_event_from_2025_11_25_on(version: str, primes: bool, drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            mine = await open_session(listener.port, version)
            async with streaming(listener.port, progressing(1, "count", mine, steps=1)) as peer:
                events = await peer.events()
            if primes:
                first = events.pop(0)
                assert (first.data, first.retry) == ("", "500")
                assert first.id is not None
            assert [event.json.get("method") for event in events] == ["notifications/progress", None]
            assert len({event.id for event in events}) == 2

    drive(main())


async def read(peer: HttpPeer, number: int) -> list[Any]:
    """So many events that are messages."""
    found: list[Any] = []
    while len(found) < number:
        event = await peer.event()
        assert event is not None
        if event.data:
            found.append(event)
    return found


def test_a_lost_get_stream_is_resumed_with_what_was_missed(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener:
            mine = await open_session(listener.port)
            async with streaming(listener.port, get(mine)) as peer:
                house.server.add_tool(stand_in, name="first")
                (event,) = await read(peer, 1)
                assert event.json == {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
                peer.abort()
            await until(lambda: not listener.connections)
            house.server.add_tool(stand_in, name="second")
            house.server.add_resource(stand_in, "house://second")
            async with streaming(listener.port, get({**mine, "Last-Event-ID": event.id})) as peer:
                missed = await read(peer, 2)
                assert [event.json["method"] for event in missed] == [
                    "notifications/tools/list_changed",
                    "notifications/resources/list_changed",
                ]
                house.server.remove_tool("second")
                assert len(await read(peer, 1)) == 1

    drive(main())


def stand_in() -> str:
    """Stands for a tool or a resource."""
    return ""


def test_a_lost_call_stream_is_resumed_and_brings_the_result(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener:
            mine = await open_session(listener.port)
            async with streaming(listener.port, progressing(1, "count_and_wait", mine)) as peer:
                (event,) = await read(peer, 1)
                peer.abort()
            await until(lambda: not listener.connections)
            house.server.add_tool(stand_in, name="more")  # goes to no stream: none is open
            house.go.set()
            await house.ended.wait()
            async with streaming(listener.port, get({**mine, "Last-Event-ID": event.id})) as peer:
                events = await peer.events()
            assert [text_of(event.json) for event in events] == ["counted and waited"]
            async with streaming(listener.port, get({**mine, "Last-Event-ID": events[0].id})) as peer:
                assert await peer.events() == []

    drive(main())


def test_a_stream_that_the_server_closes_is_resumed_by_its_priming_event(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener:
            mine = await open_session(listener.port)
            async with streaming(listener.port, call(1, "leave", mine)) as peer:
                (priming,) = await peer.events()
                assert (await peer.ask(post(legacy(2, "ping"), mine))).status == 200
            async with streaming(listener.port, get({**mine, "Last-Event-ID": priming.id})) as peer:
                house.go.set()
                assert [text_of(event.json) for event in await peer.events()] == ["left and came back"]

    drive(main())


def test_a_stream_cannot_be_resumed_from_another_session(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener:
            mine, other = await open_session(listener.port), await open_session(listener.port)
            async with streaming(listener.port, progressing(1, "count", mine, steps=3)) as peer:
                events = await peer.events()
            for id in (events[0].id, events[1].id, "s1", "s1-", "-1", "s1--1", "s1-9" + "9" * 50, "nonsense"):
                found = await ask_once(listener.port, get({**other, "Last-Event-ID": id}))
                assert found.status == 400, id

    drive(main())


def test_only_the_newest_events_are_kept(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"event_count_max": 4})
        async with http(house.server) as listener:
            mine = await open_session(listener.port)
            async with streaming(listener.port, progressing(1, "count", mine, steps=20)) as peer:
                events = await peer.events()
            async with streaming(listener.port, get({**mine, "Last-Event-ID": events[0].id})) as peer:
                assert [event.id for event in await peer.events()] == [event.id for event in events[-4:]]

    drive(main())


def test_without_an_event_store_events_have_no_ids(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house(event_store=False).server) as listener:
            mine = await open_session(listener.port)
            async with streaming(listener.port, progressing(1, "count", mine, steps=1)) as peer:
                assert [event.id for event in await peer.events()] == [None, None]
            assert (await ask_once(listener.port, get({**mine, "Last-Event-ID": "s1-0"}))).status == 400

    drive(main())


# ---- questions of the server -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2025-06-18", LATEST])
def test_a_question_travels_on_the_stream_of_its_call_and_its_answer_is_posted(version: str, drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            mine = await open_session(listener.port, version, ASKS)
            async with streaming(listener.port, get(mine)), streaming(listener.port, call(1, "name", mine)) as peer:
                (question,) = await read(peer, 1)
                assert question.json["method"] == "elicitation/create"
                answer = {
                    "jsonrpc": "2.0",
                    "id": question.json["id"],
                    "result": {"action": "accept", "content": {"name": "Ada"}},
                }
                strange = {**answer, "id": 12345}
                for message in (strange, answer, answer):
                    found = await ask_once(listener.port, post(message, mine))
                    assert (found.status, found.body) == (202, b"")
                (last,) = await peer.events()
                assert text_of(last.json) == "Hello, Ada!"

    drive(main())


def test_an_answer_posted_to_another_session_changes_nothing(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            mine = await open_session(listener.port, LATEST, ASKS)
            other = await open_session(listener.port, LATEST, ASKS)
            async with streaming(listener.port, call(1, "name", mine)) as peer:
                (question,) = await read(peer, 1)
                answer = {"jsonrpc": "2.0", "id": question.json["id"], "result": {"action": "cancel"}}
                assert (await ask_once(listener.port, post(answer, other))).status == 202
                refusal = {"jsonrpc": "2.0", "id": question.json["id"], "result": {"action": "decline"}}
                assert (await ask_once(listener.port, post(refusal, mine))).status == 202
                (last,) = await peer.events()
                assert text_of(last.json) == "decline"

    drive(main())


def test_a_client_that_accepts_no_stream_gets_an_error_instead_of_a_question(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            mine = await open_session(listener.port, LATEST, ASKS)
            found = await ask_once(listener.port, call(1, "name", {**mine, "Accept": "application/json"}))
            assert found.status == 200
            assert "error" in found.json or found.json["result"]["isError"]

    drive(main())


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_in_one_array_on_2025_03_26_alone(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener:
            batch = [
                legacy(1, "tools/call", tool("echo", text="a")),
                note("notifications/x"),
                {"jsonrpc": "2.0"},
                legacy("b", "ping"),
            ]
            mine = await open_session(listener.port, "2025-03-26")
            found = await ask_once(listener.port, post(batch, mine))
            assert found.status == 200
            assert [item["id"] for item in found.json] == [1, None, "b"]
            assert found.json[1]["error"]["code"] == -32600
            found = await ask_once(listener.port, post([note("notifications/x")] * 3, mine))
            assert (found.status, found.body) == (202, b"")
            assert (await ask_once(listener.port, post([], mine))).code == -32600
            assert (await ask_once(listener.port, post([legacy(1, "ping")] * 101, mine))).code == -32600
            for version in ("2024-11-05", "2025-06-18", LATEST):
                mine = await open_session(listener.port, version)
                found = await ask_once(listener.port, post(batch, mine))
                assert (found.status, found.code) == (400, -32600)

    drive(main())


def test_a_batch_with_a_cancelled_request_is_answered_without_it(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener, dial(listener.port) as peer:
            mine = await open_session(listener.port, "2025-03-26")
            peer.send(post([legacy(1, "tools/call", tool("wait")), legacy(2, "ping")], mine))
            await house.begun.wait()
            cancel = note("notifications/cancelled", {"requestId": 1})
            assert (await ask_once(listener.port, post(cancel, mine))).status == 202
            found = await peer.answer()
            assert [item["id"] for item in found.json] == [2]

    drive(main())
