"""JSON-RPC arrays over HTTP (2025-03-26): what leaves in one POST, and how each of its requests ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from rawpeer import make_house
from scripted import Asked, Line, Talk, fault, nothing_left, once, reply, scripted, talking

from erlmcp import Client, Flags
from erlmcp.errors import (
    CallTimeoutError,
    ConnectionClosedError,
    HttpStatusError,
    InvalidAnswerError,
    McpError,
    SessionLostError,
)
from erlmcp.server.serve import http

BATCH = "2025-03-26"


def results(asked: Asked) -> bytes:
    """The answers to an array, the last one first."""
    return b"[%b]" % b",".join(reply(one["id"], {"n": one["id"]}) for one in reversed(asked.json))


def arrays(requests: list[Asked]) -> list[int]:
    """How many requests each POST had: 0 where it was no array."""
    return [len(asked.json) if isinstance(asked.json, list) else 0 for asked in requests if asked.verb == "POST"]


def in_turn(talk: Talk, count: int, **more: Any) -> list[asyncio.Future[Any]]:
    return [talk.begin("tools/call", {"name": "t", "arguments": {}}, **more).future for _ in range(count)]


def batching(url: str, **more: Any) -> Any:
    return talking(url, is_modern=False, json_rpc_batch=True, **more)


@pytest.mark.parametrize(
    ("version", "flags", "is_array"),
    [(BATCH, {}, True), (BATCH, {"aggregation": False}, False), ("2025-06-18", {}, False)],
)
async def test_the_requests_of_a_turn_are_one_array_where_the_revision_has_them(
    version: str, flags: dict[str, bool], is_array: bool
) -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.answer(200, results(asked) if isinstance(asked.json, list) else reply(asked.id, {"n": asked.id}))

    async with nothing_left(), scripted(once(answer)) as peer, batching(peer.url, flags=Flags(**flags)) as talk:
        talk.channel.negotiated("legacy", version)
        found = await asyncio.gather(*in_turn(talk, 3))
        assert [call.result for call in found] == [{"n": call.id} for call in found]
        await asyncio.gather(*in_turn(talk, 1))
        assert arrays(peer.requests) == ([3, 0] if is_array else [0] * 4)


async def test_arrays_begin_and_end_with_their_flag() -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.answer(200, results(asked) if isinstance(asked.json, list) else reply(asked.id, {"n": asked.id}))

    async with nothing_left(), scripted(once(answer)) as peer, batching(peer.url) as talk:
        talk.channel.negotiated("legacy", BATCH)
        shapes = []
        for is_on in (True, False, True):
            talk.channel.use_flags(Flags(aggregation=is_on))
            del peer.requests[:]
            await asyncio.gather(*in_turn(talk, 2))
            shapes.append(arrays(peer.requests))
        assert shapes == [[2], [0, 0], [2]]


async def test_an_array_is_no_longer_than_its_limit() -> None:
    async with (
        nothing_left(),
        scripted(once(lambda line, asked: line.answer(200, results(asked)))) as peer,
        batching(peer.url, limits={"batch_count_max": 4, "connection_count_max": 1}) as talk,
    ):
        talk.channel.negotiated("legacy", BATCH)
        await asyncio.gather(*in_turn(talk, 10))
        assert arrays(peer.requests) == [4, 4, 2]


@pytest.mark.parametrize("is_many", [True, False], ids=["one array", "one by one"])
async def test_the_answers_may_come_on_a_stream(is_many: bool) -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.begin_stream()
        line.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}})
        found = [json.loads(reply(one["id"], {"n": one["id"]})) for one in asked.json]
        for message in [found] if is_many else found:
            line.event(message)
        line.end_stream()

    async with nothing_left(), scripted(once(answer)) as peer, batching(peer.url) as talk:
        talk.channel.negotiated("legacy", BATCH)
        found = await asyncio.gather(*in_turn(talk, 3))
        assert [call.result for call in found] == [{"n": call.id} for call in found]
        assert (await talk.front.call()).method == "notifications/message"
        await asyncio.gather(*in_turn(talk, 2))
        assert peer.line_count == 1, "the stream ended, and its connection carries the next array"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (lambda asked: reply(asked.json[0]["id"]), InvalidAnswerError),
        (lambda asked: b"[" + reply(asked.json[0]["id"]) + b"," + reply(4711) + b"]", InvalidAnswerError),
        (lambda asked: b"not json", InvalidAnswerError),
        (lambda asked: b"[]", InvalidAnswerError),
    ],
    ids=["one of three", "a wrong id", "garbage", "none"],
)
async def test_a_request_that_the_answer_leaves_out_fails(body: Any, error: type[Exception]) -> None:
    async with (
        nothing_left(),
        scripted(once(lambda line, asked: line.answer(200, body(asked)))) as peer,
        batching(peer.url) as talk,
    ):
        talk.channel.negotiated("legacy", BATCH)
        found = await asyncio.gather(*in_turn(talk, 3), return_exceptions=True)
        assert all(isinstance(each, error) for each in found[1:])
        assert talk.channel.stats()["inflight_count"] == 0


@pytest.mark.parametrize("status", [200, 400])
async def test_an_error_that_names_no_request_is_the_answer_to_all(status: int) -> None:
    async with (
        nothing_left(),
        scripted(once(lambda line, asked: line.answer(status, fault(None, -32600)))) as peer,
        batching(peer.url) as talk,
    ):
        talk.channel.negotiated("legacy", BATCH)
        found = await asyncio.gather(*in_turn(talk, 3))
        assert [call.error["code"] for call in found] == [-32600] * 3
        assert talk.channel.stats()["inflight_count"] == 0


async def test_a_refused_array_fails_each_of_its_requests() -> None:
    async with (
        nothing_left(),
        scripted(once(lambda line, asked: line.answer(503, b"busy", "text/plain"))) as peer,
        batching(peer.url) as talk,
    ):
        talk.channel.negotiated("legacy", BATCH)
        found = await asyncio.gather(*in_turn(talk, 3), return_exceptions=True)
        assert [getattr(each, "status", None) for each in found] == [503] * 3
        assert isinstance(found[0], HttpStatusError)


@pytest.mark.parametrize("is_idempotent", [True, False])
async def test_an_array_is_sent_again_over_a_stale_connection_only_where_each_request_may_be(
    is_idempotent: bool,
) -> None:
    async def script(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            if line.number == 1 and len(line.peer.requests) == 2:
                return
            line.answer(200, results(asked))

    async with nothing_left(), scripted(script) as peer, batching(peer.url) as talk:
        talk.channel.negotiated("legacy", BATCH)
        await asyncio.gather(*in_turn(talk, 2))
        futures = in_turn(talk, 1, is_idempotent=True) + in_turn(talk, 1, is_idempotent=is_idempotent)
        found = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(each, ConnectionClosedError) for each in found] == [not is_idempotent] * 2
        assert arrays(peer.requests) == ([2, 2, 2] if is_idempotent else [2, 2])


async def test_one_request_of_an_array_may_time_out_and_the_last_given_up_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def script(line: Line) -> None:
        asked = await line.asked()
        assert asked is not None
        if isinstance(asked.json, list):
            await line.until_closed()
            closed.set()
        else:
            line.answer(202)

    async with nothing_left(), scripted(script) as peer, batching(peer.url) as talk:
        talk.channel.negotiated("legacy", BATCH)
        [late] = in_turn(talk, 1, timeout_s=0.5)
        kept = talk.begin("tools/call", {"name": "t", "arguments": {}})
        with pytest.raises(CallTimeoutError):
            await late
        assert not kept.future.done()
        assert not closed.is_set()
        talk.channel.cancel(kept, "enough")
        async with asyncio.timeout(10):
            await closed.wait()
        words = [await peer.next_asked() for _ in range(3)]
        told = [word.json for word in words if isinstance(word.json, dict)]
        assert {word["method"] for word in told} == {"notifications/cancelled"}
        assert len(told) == 2


async def test_what_is_given_up_in_the_same_turn_does_not_leave() -> None:
    async with (
        nothing_left(),
        scripted(once(lambda line, asked: line.answer(200, results(asked)))) as peer,
        batching(peer.url) as talk,
    ):
        talk.channel.negotiated("legacy", BATCH)
        given_up = talk.begin("tools/call", {"name": "t", "arguments": {}})
        kept = in_turn(talk, 2)
        talk.channel.cancel(given_up, "enough")
        await asyncio.gather(*kept)
        assert arrays(peer.requests) == [2]


async def test_an_array_that_a_lost_session_refused_may_be_sent_again() -> None:
    def answer(line: Line, asked: Asked) -> None:
        if asked.verb == "POST" and isinstance(asked.json, dict) and "id" in asked.json:
            line.result(asked, {"protocolVersion": BATCH, "capabilities": {}}, Mcp_Session_Id="one")
        elif asked.verb == "POST" and isinstance(asked.json, list):
            line.answer(404)
        else:
            line.answer(202 if asked.verb == "POST" else 405)

    async with nothing_left(), scripted(once(answer)) as peer, batching(peer.url) as talk:
        await talk.shake_hands(BATCH)
        requests = [talk.begin("tools/call", {"name": "t", "arguments": {}}) for _ in range(3)]
        found = await asyncio.gather(*[request.future for request in requests], return_exceptions=True)
        assert [type(each) for each in found] == [SessionLostError] * 3
        assert not any(request.is_sent for request in requests)


async def test_closing_the_channel_fails_what_was_gathered_and_what_is_in_flight() -> None:
    async def script(line: Line) -> None:
        await line.asked()
        await line.until_closed()

    async with nothing_left(), scripted(script) as peer, batching(peer.url) as talk:
        talk.channel.negotiated("legacy", BATCH)
        inflight = in_turn(talk, 2)
        await peer.next_asked()
        gathered = in_turn(talk, 2)
        await talk.channel.aclose()
        found = await asyncio.gather(*inflight, *gathered, return_exceptions=True)
        assert [type(each) for each in found] == [ConnectionClosedError] * 4
    assert arrays(peer.requests) == [2]


@pytest.mark.parametrize("http2", [False, True])
async def test_our_own_server_answers_arrays_over_http(http2: bool, loop_kind: str) -> None:
    async with nothing_left(), http(make_house().server, http2=http2) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        async with Client(url, mode=BATCH, json_rpc_batch=True, http2=http2) as client:
            channel: Any = client.channel
            await client.call_tool("echo", {"text": "first"})  # the stream of the session is open by then
            count = channel.stats()["sent_total"]
            found = await client.call_many([("echo", {"text": str(number)}) for number in range(250)])
            assert [result.text for result in found] == [str(number) for number in range(250)]
            assert channel.stats()["sent_total"] == count + 3
            with pytest.raises(McpError):
                await client.get_prompt("nothing")
