"""The short way of a plain call: that it is taken, that it says and gives what the general way does, and when not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import shop
from hypothesis import given
from hypothesis import strategies as st
from ways import MODERN_RESULT, Peer

from erlmcp import Client, LimitError, ToolError, core
from erlmcp.client.bound import ClientLimits
from erlmcp.client.flow import Ask, Flow
from erlmcp.client.memory import MemoryChannel
from erlmcp.client.result import AnswerResult, CallResult
from erlmcp.errors import CallTimeoutError, ConnectionClosedError, JsonError, McpError

pytestmark = pytest.mark.skipif(Ask is None, reason="the twins have no short way")


class Nothing(Flow):
    """As much of a flow as judging needs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.close()


def judge(result: str) -> AnswerResult | None:
    calls = core.Inbound(None, None).feed(b'{"jsonrpc":"2.0","id":1,"result":%b}\n' % result.encode())
    assert [call.kind for call in calls] == [3]
    return Ask(Nothing(), None, 1.0, AnswerResult).result(calls[0])


@pytest.mark.parametrize(
    "result",
    [
        "{}",
        '{"content":[]}',
        '{"content":[],"isError":false,"resultType":"complete"}',
        '{ "isError" : false , "resultType" :\t"complete" }',
        '{"structuredContent":{"isError":true,"resultType":"input_required"}}',
        '{"content":[{"type":"text","text":"\\"isError\\":true,"}]}',
        '{"content":[{"type":"text","text":"a\\\\"}],"isError":false}',
        '{"content":["\\\\\\"","isError"],"a":[[{"isError":true}]]}',
    ],
)
def test_a_final_result_without_an_error_is_not_decoded_at_once(result: str) -> None:
    found = judge(result)
    assert found is not None
    assert found.raw == json.loads(result)
    assert found.raw is found.raw
    assert not found.is_error


@pytest.mark.parametrize(
    "result",
    [
        '{"isError":true}',
        '{"isError": true}',
        '{"isError" :true}',
        '{"isError":0}',
        '{"\\u0069sError":true}',
        '{"content":[],"is\\u0045rror":true}',
        '{"resultType":"input_required"}',
        '{"resultType":"complete2"}',
        '{"resultType":null}',
        '{"a":{"b":[1,{"c":"}"}]},"isError":true}',
        "[]",
        "7",
        "null",
        '"isError"',
    ],
)
def test_what_is_an_error_or_not_final_or_not_surely_neither_is_decoded(result: str) -> None:
    assert judge(result) is None


NAMES = st.sampled_from(["isError", "resultType", "content", 'a"', "\\", "é", "structuredContent"])
VALUES = st.recursive(
    st.sampled_from([True, False, None, 1, "complete", "isError", "resultType", '"isError":true', "\\", "{", "}]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.booleans(), st.booleans())
def test_nothing_that_a_caller_must_know_of_is_taken_for_plain(result: Any, is_ascii: bool, is_tight: bool) -> None:
    separators = (",", ":") if is_tight else None
    found = judge(json.dumps(result, ensure_ascii=is_ascii, separators=separators))
    if found is not None:
        assert result.get("isError", False) is False
        assert result.get("resultType", "complete") == "complete"
        assert found.raw == result


def test_a_result_lets_go_of_what_was_read_when_it_is_looked_at() -> None:
    found = judge('{"structuredContent":{"result":7}}')
    assert found is not None
    assert (found.data, found.structured_content, found.meta, found.text) == (7, {"result": 7}, {}, "")
    assert found._call is None
    assert found.content == []
    assert found.content is found.content
    assert repr(found) == "CallResult(data=7)"


async def answering(peer: Peer) -> None:
    await peer.discover()
    while True:
        request = await peer.expect("tools/call")
        peer.answer(request, {**MODERN_RESULT, "content": [], "structuredContent": request["params"]})


async def test_both_ways_say_the_same(peer: Callable[..., Any]) -> None:
    async with peer(answering) as target, Client(target) as client:
        for name, arguments in (("tool", {"a": [1, "é\n", None]}), ('quo"te', {}), ("tool", None)):
            short = await client.call_tool(name, arguments)
            general = await client.call_tool(name, arguments, meta={})
            assert type(short) is AnswerResult
            assert type(general) is CallResult
            assert short.raw == general.raw
            assert short.raw["structuredContent"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"


async def test_a_handshake_era_gets_no_meta(peer: Callable[..., Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.initialize()
        request = await peer.expect("tools/call")
        peer.answer(request, {"content": [], "structuredContent": request["params"]})

    async with peer(script) as target, Client(target, mode="legacy") as client:
        found = await client.call_tool("tool", {"a": 1})
        assert found.structured_content == {"name": "tool", "arguments": {"a": 1}}


async def test_another_log_level_is_said_with_the_next_call(peer: Callable[..., Any]) -> None:
    async with peer(answering) as target, Client(target) as client:
        await client.call_tool("tool")
        await client.set_log_level("error")
        found = await client.call_tool("tool")
        assert found.structured_content["_meta"]["io.modelcontextprotocol/logLevel"] == "error"


@pytest.mark.parametrize("kind", ["tool error", "error", "no object"])
async def test_what_is_no_plain_result_ends_as_it_does_the_general_way(peer: Callable[..., Any], kind: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.discover()
        while True:
            request = await peer.expect("tools/call")
            if kind == "tool error":
                peer.answer(request, {**MODERN_RESULT, "content": [{"type": "text", "text": "no"}], "isError": True})
            elif kind == "error":
                peer.refuse(request, -32602, "unknown")
            else:
                peer.answer(request, 7)  # type: ignore[arg-type]

    async with peer(script) as target, Client(target) as client:
        errors = []
        for meta in (None, {}):
            with pytest.raises(Exception) as caught:
                await client.call_tool("tool", meta=meta)
            errors.append((type(caught.value), str(caught.value)))
        assert errors[0] == errors[1]
        if kind == "tool error":
            assert errors[0][0] is ToolError
            assert (await client.call_tool("tool", raise_on_error=False)).is_error


async def test_arguments_that_are_no_json_are_refused_and_nothing_is_left(peer: Callable[..., Any]) -> None:
    async with peer(answering) as target, Client(target, limits=ClientLimits(outbox_bytes_max=4096)) as client:
        channel: Any = client.channel
        for arguments, error in (({"a": object()}, JsonError), ({"a": "x" * 5000}, LimitError)):
            with pytest.raises(error):
                await client.call_tool("tool", arguments)
        assert (channel.inflight_count, len(channel._correlation)) == (0, 0)
        assert (await client.call_tool("tool", {"a": 1})).structured_content["arguments"] == {"a": 1}


async def test_a_turn_that_fills_the_buffer_is_written_in_pieces(peer: Callable[..., Any]) -> None:
    async with peer(answering) as target, Client(target, limits=ClientLimits(outbox_bytes_max=4096)) as client:
        found = await client.call_many([("tool", {"a": "x" * 1000, "n": number}) for number in range(20)])
        assert [result.structured_content["arguments"]["n"] for result in found] == [*range(20)]


async def test_a_call_beyond_what_may_be_in_flight_stands_in_line(peer: Callable[..., Any]) -> None:
    limits = ClientLimits(inflight_count_max=3, inflight_count_min=3, queue_count_max=4)
    async with peer(answering) as target, Client(target, limits=limits) as client:
        found = await client.call_many([("tool", {"n": n}) for n in range(9)], raise_on_error=False)
        kinds = [type(each) for each in found]
        assert kinds.count(LimitError) == 2
        assert kinds.index(LimitError) == 7
        assert [each.structured_content["arguments"]["n"] for each in found[:7]] == [*range(7)]


async def test_a_call_ends_at_its_own_deadline_and_the_server_is_told(peer: Callable[..., Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.discover()
        request = await peer.expect("tools/call")
        told = await peer.expect("notifications/cancelled")
        assert told["params"] == {"requestId": request["id"], "reason": "timed out"}
        peer.text(request, "late")
        peer.text(await peer.expect("tools/call"), "in time")

    async with peer(script) as target, Client(target) as client:
        with pytest.raises(CallTimeoutError):
            await client.call_tool("tool", timeout_s=0.01)
        assert (await client.call_tool("tool")).text == "in time"
        channel: Any = client.channel
        assert (channel.stray_count, channel.inflight_count) == (1, 0)


async def test_a_cancelled_call_is_taken_back(peer: Callable[..., Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.discover()
        request = await peer.expect("tools/call")
        waiting.set()
        told = await peer.expect("notifications/cancelled")
        assert told["params"]["requestId"] == request["id"]
        ended.set()

    waiting, ended = asyncio.Event(), asyncio.Event()
    async with peer(script) as target, Client(target) as client:
        task = asyncio.ensure_future(client.call_tool("tool"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()


async def test_a_loss_fails_each_call_with_an_error_of_its_own(peer: Callable[..., Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.discover()
        for _ in range(3):
            await peer.expect("tools/call")
        peer.abort()

    async with peer(script, answering) as target, Client(target) as client:
        calls = [("tool", None)] * 3
        found = await client.call_many(calls, raise_on_error=False)
        assert [type(each) for each in found] == [ConnectionClosedError] * 3
        assert len({id(each) for each in found}) == 3
        assert (await client.call_tool("tool")).structured_content["name"] == "tool"


async def test_a_call_of_a_server_of_this_process_that_fails_at_once_raises_at_once() -> None:
    channel = MemoryChannel(shop.build(), objects=False)
    async with Client(channel, reconnect=False) as client:
        with pytest.raises((McpError, ToolError)):
            await client.call_tool("nothing")
        channel._link.close("gone")
        with pytest.raises(ConnectionClosedError):
            await client.call_tool("nothing")
        assert channel.inflight_count == 0
