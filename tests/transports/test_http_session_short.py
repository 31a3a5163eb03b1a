"""The short way of calls within an HTTP session: the same answers as on the general way, and the same rules."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref
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
    initialize,
    legacy,
    make_house,
    meta,
    note,
    post,
    text_of,
    tool,
)

from erlmcp import Guards, Limits, core
from erlmcp.flags import Flags
from erlmcp.metrics import family as f
from erlmcp.policy.limiter import RateRule
from erlmcp.runtime.session import Session
from erlmcp.server.app import Server
from erlmcp.server.serve import http
from erlmcp.transports.listener import HttpListener

Mine = dict[str, str]
compiled = pytest.mark.skipif(core.IMPLEMENTATION != "core", reason="the twins have the general way alone")


def call(id: Any, name: str, mine: Mine, /, **arguments: Any) -> bytes:
    return post(legacy(id, "tools/call", tool(name, **arguments)), mine)


async def begin(where: int, version: str = LATEST, **headers: str) -> Mine:
    """Open a session; the headers of its requests."""
    found = await ask_once(where, post(initialize(version), headers))
    mine = {"Mcp-Session-Id": found.headers["mcp-session-id"], "MCP-Protocol-Version": version, **headers}
    assert (await ask_once(where, post(INITIALIZED, mine))).status == 202
    return mine


@contextlib.asynccontextmanager
async def warm(listener: HttpListener, version: str = LATEST, **headers: str) -> AsyncIterator[tuple[HttpPeer, Mine]]:
    """A connection whose head was seen before, so that the next call goes the short way."""
    mine = await begin(listener.port, version, **headers)
    async with dial(listener.port) as peer:
        assert text_of((await peer.ask(call("first", "echo", mine, text="a"))).json) == "a"
        yield peer, mine


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of the messages that went the general way of a session."""
    seen: list[str] = []
    receive = Session.receive

    def watched(self: Session, message: Any, *given: Any) -> None:
        seen.append(message.method)
        receive(self, message, *given)

    monkeypatch.setattr(Session, "receive", watched)
    return seen


@compiled
@pytest.mark.parametrize("version", LEGACY)
async def test_calls_and_ready_answers_after_the_first_take_the_short_way(version: str, general: list[str]) -> None:
    async with http(make_house().server) as listener, warm(listener, version) as (peer, mine):
        general.clear()
        for id in range(3):
            found = await peer.ask(call(id, "echo", mine, text="hello"))
            assert (found.status, found.json["id"], text_of(found.json)) == (200, id, "hello")
            assert ("structuredContent" in found.json["result"]) is (version >= "2025-06-18")
            assert (await peer.ask(post(legacy("p", "ping"), mine))).json == {"jsonrpc": "2.0", "id": "p", "result": {}}
            assert "tools" in (await peer.ask(post(legacy("l", "tools/list"), mine))).json["result"]
        assert general == []


@compiled
async def test_a_progress_token_of_its_own_for_each_call_does_not_leave_the_short_way(general: list[str]) -> None:
    async with http(make_house().server) as listener, warm(listener) as (peer, mine):
        general.clear()
        for number in range(3):
            params = {**tool("echo", text="a"), "_meta": {"progressToken": number}}
            assert text_of((await peer.ask(post(legacy(number, "tools/call", params), mine))).json) == "a"
        assert general == []


async def answers(server: Server, version: str) -> list[tuple[int, dict[str, str], Any]]:
    asked = [
        legacy(1, "tools/call", tool("echo", text="é\u2028")),
        legacy("two", "tools/call", tool("echo", text=1)),
        legacy(3, "tools/call", tool("echo")),
        legacy(4, "tools/call", tool("none")),
        legacy(5, "tools/call", {"name": "echo", "arguments": [1]}),
        legacy(6, "tools/call", {**tool("echo", text="a"), "_meta": meta()}),
        legacy(7, "tools/call", {**tool("echo", text="a"), "_meta": {"a": 1}}),
        legacy(8, "tools/call", tool("big", size=100_000)),
        legacy(9, "tools/call", tool("count", steps=0)),
        legacy(10, "ping"),
        legacy(11, "server/discover"),
        legacy(12, "initialize", {}),
        legacy(13, "tools/list"),
        legacy(14, "none/such"),
    ]
    found = []
    async with http(server) as listener, warm(listener, version) as (peer, mine):
        for message in asked:
            answer = await peer.ask(post(message, mine))
            answer.headers.pop("date")
            found.append((answer.status, answer.headers, answer.json))
    return found


@pytest.mark.parametrize("version", LEGACY)
async def test_the_answers_are_those_of_the_general_way(version: str) -> None:
    short = await answers(make_house().server, version)
    assert short == await answers(make_house(flags=Flags(async_execution=False, zero_copy=False)).server, version)
    assert [status for status, _, _ in short[:2]] == [200, 200]
    assert "error" in short[5][2]  # a modern _meta within a session


async def test_heads_that_may_not_be_answered_with_json_get_what_they_ask_for() -> None:
    async with http(make_house().server) as listener:
        mine = await begin(listener.port)
        for _ in range(2):
            async with dial(listener.port) as peer:
                peer.send(call(1, "echo", {**mine, "Accept": "text/event-stream"}, text="a"))
                assert (await peer.head()).is_stream
                assert text_of((await peer.events())[-1].json) == "a"
            async with dial(listener.port) as peer:
                found = await peer.ask(call(1, "echo", {**mine, "Connection": "close"}, text="a"))
                assert (text_of(found.json), found.headers["connection"]) == ("a", "close")
                assert await peer.is_closed()


async def test_a_head_is_no_longer_good_when_its_session_has_ended() -> None:
    async with http(make_house().server) as listener, warm(listener) as (peer, mine):
        assert (await ask_once(listener.port, delete(mine))).status == 200
        found = await peer.ask(call(1, "echo", mine, text="a"))
        assert (found.status, found.json["error"]["message"]) == (404, "Session not found; send initialize again")


async def test_a_head_is_good_for_the_credential_that_opened_the_session_alone() -> None:
    async with http(make_house().server) as listener, warm(listener, Authorization="Bearer a") as (peer, mine):
        for _ in range(2):
            assert (await peer.ask(call(1, "echo", {**mine, "Authorization": "Bearer b"}, text="a"))).status == 404
            assert (await peer.ask(call(2, "echo", mine, text="a"))).status == 200


@compiled
async def test_a_session_that_ended_is_let_go_of_while_its_connection_stays() -> None:
    async with http(make_house().server) as listener, warm(listener) as (peer, mine):
        await peer.ask(call(1, "echo", mine, text="a"))
        endpoint: Any = listener.handler
        session = weakref.ref(endpoint.sessions.peek(mine["Mcp-Session-Id"]))
        await ask_once(listener.port, delete(mine))
        gc.collect()
        assert session() is None


@compiled
async def test_calls_the_short_way_keep_a_session_from_being_idle(general: list[str]) -> None:
    async with http(make_house().server) as listener, warm(listener) as (peer, mine):
        endpoint: Any = listener.handler
        store = endpoint.sessions
        idle_ns = int(endpoint.host.limits.session_idle_s * 1e9)
        before_ns = store.now_ns
        general.clear()
        await peer.ask(call(1, "echo", mine, text="a"))
        assert general == []
        assert store.now_ns > before_ns
        assert store.expire(before_ns + idle_ns) == []


async def test_a_session_that_was_idle_too_long_is_gone() -> None:
    async with http(make_house().server) as listener, warm(listener) as (peer, mine):
        endpoint: Any = listener.handler
        store = endpoint.sessions
        later_ns = store.now_ns + int(endpoint.host.limits.session_idle_s * 1e9) + 10**9
        store.now_ns = later_ns  # no clock goes back
        assert (await peer.ask(call(1, "echo", mine, text="a"))).status == 404


def make_waiting(**options: Any) -> tuple[Server, asyncio.Event, list[str]]:
    server = Server("waiting", **options)
    go, seen = asyncio.Event(), []

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def wait() -> str:
        seen.append("begun")
        try:
            await go.wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        seen.append("ended")
        return "waited"

    @server.tool
    async def fail() -> str:
        raise ValueError("out of order")

    return server, go, seen


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_handler_that_waits_is_answered_later_and_its_id_is_in_use_meanwhile(general: list[str]) -> None:
    server, go, seen = make_waiting()
    async with http(server) as listener, warm(listener) as (peer, mine):
        peer.send(call(1, "wait", mine))
        await until(lambda: seen == ["begun"])
        async with dial(listener.port) as other:
            assert "already in use" in (await other.ask(call(1, "echo", mine, text="a"))).json["error"]["message"]
            general.clear()
            assert text_of((await other.ask(call(2, "echo", mine, text="b"))).json) == "b"
            assert not general or core.IMPLEMENTATION != "core"  # what waits is in nobody's way
        go.set()
        assert text_of((await peer.answer()).json) == "waited"
        assert text_of((await peer.ask(call(1, "echo", mine, text="a"))).json) == "a"


async def test_no_more_calls_of_a_session_are_in_flight_than_may_be() -> None:
    server, go, seen = make_waiting(limits=Limits.load(inflight_count_max=1, turn_time_s=60.0))
    async with http(server) as listener, warm(listener) as (peer, mine):
        peer.send(call(1, "wait", mine))
        await until(lambda: seen == ["begun"])
        async with dial(listener.port) as other:
            refused = await other.ask(call(2, "echo", mine, text="b"))
            assert (refused.status, "inflight_count_max=1" in refused.json["error"]["message"]) == (503, True)
            assert (await other.ask(post(legacy(3, "ping"), mine))).json["result"] == {}
        go.set()
        assert text_of((await peer.answer()).json) == "waited"


async def test_a_handler_that_waits_can_be_cancelled_by_its_client_and_not_by_a_lost_connection() -> None:
    server, go, seen = make_waiting()
    async with http(server) as listener, warm(listener) as (peer, mine):
        peer.send(call(1, "wait", mine))
        await until(lambda: seen == ["begun"])
        cancel = post(note("notifications/cancelled", {"requestId": 1}), mine)
        assert (await ask_once(listener.port, cancel)).status == 202
        assert (await peer.answer()).status == 202
        assert seen == ["begun", "cancelled"]
        peer.send(call(2, "wait", mine))
        await until(lambda: len(seen) == 3)
        peer.abort()
        go.set()
        await until(lambda: seen[-1] == "ended")


async def test_a_handler_that_fails_gives_a_tool_error_and_the_connection_goes_on() -> None:
    server, _go, _seen = make_waiting()
    async with http(server) as listener, warm(listener) as (peer, mine):
        found = (await peer.ask(call(1, "fail", mine))).json["result"]
        assert (found["isError"], found["content"][0]["text"]) == (True, "Error executing tool fail")
        assert text_of((await peer.ask(call(2, "echo", mine, text="a"))).json) == "a"


async def test_pipelined_calls_of_two_sessions_and_of_none_keep_their_order() -> None:
    async with http(make_house().server) as listener, warm(listener) as (peer, mine):
        other = await begin(listener.port, "2025-03-26")
        for _ in range(2):
            peer.send(
                call(1, "echo", mine, text="a")
                + call(2, "echo", other, text="b")
                + call(3, "echo", {**mine, "Mcp-Session-Id": "none"}, text="c")
                + call(4, "echo", mine, text="d")
            )
            found = [await peer.answer() for _ in range(4)]
            assert [answer.status for answer in found] == [200, 200, 404, 200]
            assert [json.loads(answer.body).get("id") for answer in found] == [1, 2, 3, 4]
            assert ["structuredContent" in answer.json.get("result", {}) for answer in found] == [
                True,
                False,
                False,
                True,
            ]


async def test_the_rate_of_a_caller_is_that_of_its_session_on_both_ways() -> None:
    server = Server("guarded", guards=Guards(rate_limit=RateRule(0.001, burst=2, per="caller")))

    @server.tool
    async def echo(text: str) -> str:
        return text

    async with http(server) as listener:
        for _ in range(2):  # each session has a bucket of its own
            async with warm(listener) as (peer, mine):
                assert text_of((await peer.ask(call(1, "echo", mine, text="a"))).json) == "a"
                found = (await peer.ask(call(2, "echo", mine, text="a"))).json
                assert "error" in found or found["result"]["isError"]


async def test_calls_are_counted_under_the_revision_of_their_session() -> None:
    server = make_house().server
    async with http(server) as listener:
        async with warm(listener, "2025-06-18") as (peer, mine):
            for id in range(200):
                await peer.ask(call(id, "echo", mine, text="a"))
        found = {
            (series.label(f.VERSION), series.label(f.TOOL)): series.whole().count
            for series in server.metrics.operations()
            if series.label(f.METHOD) == "tools/call"
        }
        assert found == {("2025-06-18", "echo"): 201}
