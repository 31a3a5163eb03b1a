"""Streams of 2026-07-28 over HTTP: delayed commit, keep-alive comments, cancellation by leaving, listening, bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from rawpeer import (
    KEY,
    LATEST,
    House,
    HttpPeer,
    ask_once,
    dial,
    initialize,
    legacy,
    make_house,
    modern,
    modern_post,
    post,
    text_of,
    tool,
)

from erlmcp import Context
from erlmcp.server.serve import http
from erlmcp.transports.listener import HttpListener

Drive = Callable[[Any], None]
JSON_ONLY, STREAM_ONLY = {"Accept": "application/json"}, {"Accept": "text/event-stream"}


def call(name: str, headers: dict[str, str] | None = None, /, progress: Any = None, **arguments: Any) -> bytes:
    of_meta = {} if progress is None else {"progressToken": progress}
    return modern_post(modern(1, "tools/call", tool(name, **arguments), **of_meta), headers)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


# ---- one answer, in the form that suits it ---------------------------------------------------------------------------


def test_the_answer_becomes_a_stream_with_the_first_notification_and_not_before(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            assert (await peer.ask(call("echo", text="x"))).headers["content-type"] == "application/json"
            # No token, no progress, no stream.
            assert (await peer.ask(call("count", steps=2))).headers["content-type"] == "application/json"
            peer.send(call("count", progress="p", steps=2))
            found = await peer.head()
            assert found.is_stream
            assert found.headers["x-accel-buffering"] == "no"
            events = await peer.events()
            assert all(event.id is None and event.retry is None for event in events)
            first, second, last = [event.json for event in events]
            assert (first["params"]["progressToken"], first["params"]["progress"]) == ("p", 1)
            assert second["params"]["progress"] == 2
            assert text_of(last) == "counted to 2"
            assert (await peer.ask(call("echo", text="x"))).status == 200

    drive(main())


def test_a_client_that_accepts_json_alone_gets_json_without_the_notifications(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            found = await ask_once(listener.port, call("count", JSON_ONLY, progress=1, steps=2))
            assert text_of(found.json) == "counted to 2"

    drive(main())


@pytest.mark.parametrize("name", ["echo", "no such tool"])
def test_a_client_that_accepts_a_stream_alone_gets_one(name: str, drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            peer.send(call(name, STREAM_ONLY, text="x"))
            assert (await peer.head()).is_stream
            (event,) = await peer.events()
            assert event.json["id"] == 1
            assert (await peer.ask(call("echo", text="x"))).status == 200

    drive(main())


def test_an_error_after_the_stream_has_begun_is_its_last_message(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()

        @house.server.tool
        async def fail_late(ctx: Context) -> str:
            await ctx.progress(1, 2)
            schema = {"type": "object", "properties": {}}
            await ctx.elicit("?", schema, key="k")
            return ""

        async with http(house.server) as listener, dial(listener.port) as peer:
            peer.send(call("fail_late", progress=1))
            found = await peer.head()
            assert (found.status, found.is_stream) == (200, True)
            events = await peer.events()
            assert events[-1].json["error"]["code"] == -32021

    drive(main())


def test_messages_with_line_breaks_and_any_character_stay_one_event(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            text = "a\nb\r\nc\rd  \x85 å 中 😀 \x00 data: x\n\n: y"
            peer.send(call("echo", STREAM_ONLY, text=text))
            await peer.head()
            (event,) = await peer.events()
            assert text_of(event.json) == text

    drive(main())


def test_a_request_that_takes_long_is_kept_alive_by_comments(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"sse_keepalive_s": 0.02})
        async with http(house.server) as listener, dial(listener.port) as peer, dial(listener.port) as plain:
            plain.send(call("wait", JSON_ONLY))
            peer.send(call("wait"))
            assert (await peer.head()).is_stream
            for _ in range(3):
                event = await peer.event(comments=True)
                assert event is not None
                assert event.comment
            house.go.set()
            (event,) = await peer.events()
            assert text_of(event.json) == "waited"
            assert text_of((await plain.answer()).json) == "waited"

    drive(main())


# ---- leaving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["abort", "close", "shut down"])
@pytest.mark.parametrize("name", ["wait", "count_and_wait"])
def test_a_client_that_leaves_cancels_its_call(name: str, how: str, drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener, dial(listener.port) as neighbour:
            async with dial(listener.port) as peer:
                peer.send(call(name, progress=1))
                await house.begun.wait()
                if how == "abort":
                    peer.abort()
                elif how == "close":
                    await peer.close()
                else:
                    peer.writer.write_eof()
                await asyncio.wait_for(house.cancelled.wait(), 10)
            await until(lambda: len(listener.connections) == 1)
            assert not listener.handler.requests.inflight  # type: ignore[attr-defined]
            assert (await neighbour.ask(call("echo", text="x"))).status == 200

    drive(main())


def test_a_call_without_a_notification_over_http_is_not_cancelled_by_a_posted_one(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener, dial(listener.port) as peer:
            peer.send(call("wait"))
            await house.begun.wait()
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
            assert (await ask_once(listener.port, modern_post(cancel))).status == 202
            house.go.set()
            assert text_of((await peer.answer()).json) == "waited"

    drive(main())


# ---- listening -------------------------------------------------------------------------------------------------------


def listen(id: Any, **wanted: Any) -> bytes:
    return modern_post(modern(id, "subscriptions/listen", {"notifications": wanted}))


def stand_in() -> str:
    """Stands for a tool or a resource."""
    return ""


async def next_of(peer: HttpPeer) -> Any:
    event = await peer.event()
    assert event is not None
    return event.json


@pytest.mark.parametrize("id", [7, "seven"])
def test_a_listen_stream_begins_with_its_acknowledgement_and_carries_only_what_was_asked_for(
    id: Any, drive: Drive
) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener, dial(listener.port) as peer:
            peer.send(
                listen(id, toolsListChanged=True, promptsListChanged=True, resourceSubscriptions=["house://door"])
            )
            assert (await peer.head()).is_stream
            tag = {KEY + "subscriptionId": id}
            granted = {"toolsListChanged": True, "resourceSubscriptions": ["house://door"]}  # it has no prompts
            first = await next_of(peer)
            assert first["method"] == "notifications/subscriptions/acknowledged"
            assert first["params"] == {"notifications": granted, "_meta": tag}
            house.server.add_resource(stand_in, "house://window")
            house.server.hub.publish("notifications/resources/updated", "house://window")
            house.server.hub.publish("notifications/resources/updated", "house://door")
            assert (await next_of(peer))["params"] == {"uri": "house://door", "_meta": tag}
            house.server.add_tool(stand_in, name="more")
            assert await next_of(peer) == {
                "jsonrpc": "2.0",
                "method": "notifications/tools/list_changed",
                "params": {"_meta": tag},
            }
            assert len(house.server.hub) == 1
        assert len(house.server.hub) == 0

    drive(main())


def test_a_listener_that_leaves_is_forgotten_and_listeners_are_bounded(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"subscription_count_max": 2})
        async with http(house.server) as listener, dial(listener.port) as one:
            one.send(listen(1, toolsListChanged=True))
            await one.head()
            async with dial(listener.port) as two:
                two.send(listen(1, toolsListChanged=True))
                await two.head()
                found = await ask_once(listener.port, listen(1, toolsListChanged=True))
                assert found.code == -32000
                assert "subscription_count_max" in found.json["error"]["message"]
            await until(lambda: len(house.server.hub) == 1)
            assert (await one.event()) is not None

    drive(main())


# ---- bounds ----------------------------------------------------------------------------------------------------------


def buffered(listener: HttpListener) -> int:
    return sum(c.transport.get_write_buffer_size() for c in listener.connections if c.transport is not None)


async def make_deaf(peer: HttpPeer) -> None:
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]


def test_a_stream_whose_client_does_not_read_is_cut_when_the_outbox_is_full(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"outbox_bytes_max": 1_000_000})

        @house.server.tool
        async def flood(ctx: Context) -> str:
            house.begun.set()
            try:
                while True:
                    await ctx.progress(1, 2, "x" * 10_000)
                    assert buffered(listener) < 3_000_000
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                house.cancelled.set()
                raise

        async with http(house.server) as listener, dial(listener.port) as peer, dial(listener.port) as neighbour:
            await make_deaf(peer)
            peer.send(call("flood", progress=1))
            await asyncio.wait_for(house.cancelled.wait(), 20)
            await until(lambda: len(listener.connections) == 1)
            assert (await neighbour.ask(call("echo", text="x"))).status == 200
            peer.abort()

    drive(main())


def test_an_answer_that_is_larger_than_the_outbox_is_an_error_that_names_the_limit(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house({"outbox_bytes_max": 10_000}).server) as listener, dial(listener.port) as peer:
            found = await peer.ask(call("big", size=20_000))
            assert found.json["id"] == 1
            assert "outbox_bytes_max" in json.dumps(found.json)
            assert (await peer.ask(call("echo", text="x"))).status == 200

    drive(main())


def test_pipelined_answers_that_are_together_larger_than_the_outbox_all_arrive(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house({"outbox_bytes_max": 1_000_000}).server) as listener, dial(listener.port) as peer:
            await peer.ask(call("big", size=1))
            peer.send(b"".join(call("big", size=200_000) for _ in range(40)))
            for _ in range(40):
                assert len(text_of((await peer.answer()).json)) == 200_000

    drive(main())


async def deaf_pipeliner(listener: HttpListener, house: House) -> None:
    async with dial(listener.port) as peer, dial(listener.port) as neighbour:
        await make_deaf(peer)
        for _ in range(200):
            peer.send(call("big", size=100_000))
        for _ in range(50):
            await asyncio.sleep(0.005)
            assert buffered(listener) < 8_000_000
        assert (await neighbour.ask(call("echo", text="x"))).status == 200
        peer.abort()


def test_a_client_that_pipelines_and_does_not_read_is_not_read_from(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"outbox_bytes_max": 1_000_000})
        async with http(house.server) as listener:
            await deaf_pipeliner(listener, house)

    drive(main())


def test_a_legacy_stream_is_bounded_too(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"outbox_bytes_max": 200_000})
        async with http(house.server) as listener, dial(listener.port) as peer:
            found = await ask_once(listener.port, post(initialize()))
            mine = {"Mcp-Session-Id": found.headers["mcp-session-id"], "MCP-Protocol-Version": LATEST}
            params = {**tool("count", steps=2000, size=5000), "_meta": {"progressToken": 1}}
            await make_deaf(peer)
            peer.send(post(legacy(1, "tools/call", params), mine))
            sessions: Any = listener.handler.sessions  # type: ignore[attr-defined]
            await until(lambda: not sessions.get(mine["Mcp-Session-Id"]).inflight)
            assert buffered(listener) < 3_000_000
            peer.abort()

    drive(main())
