"""What the flags of the wire change on a byte stream: writes, requests in flight, and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ways import MODERN_RESULT, Peer

from erlmcp import Client, ConfigurationError, Flags, Server
from erlmcp.client.bound import ClientLimits
from erlmcp.client.stream import StreamChannel
from erlmcp.transports.stream import listen_tcp

COUNT = 20


class Recording(StreamChannel):
    """Keeps what is written."""

    def __init__(self, target: str, **options: Any) -> None:
        super().__init__(path=target.removeprefix("unix:"), **options)
        self.written: list[bytes] = []

    def _write(self, data: bytes) -> None:
        self.written.append(data)
        super()._write(data)


async def answering(peer: Peer) -> None:
    """Answer each call by its name, as it comes."""
    await peer.discover()
    while True:
        request = await peer.expect("tools/call")
        peer.text(request, request["params"]["name"])


@pytest.mark.parametrize("batching", [True, False])
async def test_the_calls_of_a_turn_leave_in_one_write_or_each_in_its_own(
    peer: Callable[..., Any], batching: bool
) -> None:
    async with peer(answering) as target:
        channel = Recording(target, flags=Flags(batching=batching))
        async with Client(channel) as client:
            channel.written.clear()
            found = await client.call_many([(f"tool{number}", None) for number in range(COUNT)])
            assert [result.text for result in found] == [f"tool{number}" for number in range(COUNT)]
            counts = [data.count(b"\n") for data in channel.written]
            assert counts == ([COUNT] if batching else [1] * COUNT)
            assert b"".join(channel.written).count(b'"method":"tools/call"') == COUNT


@pytest.mark.parametrize("pipelining", [True, False])
async def test_without_pipelining_a_call_leaves_when_the_one_before_it_is_answered(
    peer: Callable[..., Any], pipelining: bool
) -> None:
    inflight: list[int] = []

    async def watching(peer: Peer) -> None:
        await peer.discover()
        while True:
            request = await peer.expect("tools/call")
            inflight.append(channel.inflight_count)
            peer.text(request, "answered")

    async with peer(watching) as target, Client(target, flags=Flags(pipelining=pipelining)) as client:
        channel: Any = client.channel
        await client.call_many([("tool", None)] * COUNT)
    assert len(inflight) == COUNT
    assert max(inflight) == (COUNT if pipelining else 1)


async def test_without_pipelining_a_stream_of_changes_takes_nobodys_place(peer: Callable[..., Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.discover()
        asked = await peer.expect("subscriptions/listen")
        meta = {"io.modelcontextprotocol/subscriptionId": asked["id"]}
        params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
        peer.send({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params})
        while True:
            request = await peer.expect("tools/call")
            peer.text(request, "called")

    flags = Flags(pipelining=False)
    async with peer(script) as target, Client(target, flags=flags) as client, client.listen(tools=True):
        found = await client.call_many([("tool", None)] * 3)
        assert [result.text for result in found] == ["called"] * 3
        channel: Any = client.channel
        assert channel.inflight_count == 1


@pytest.mark.parametrize("caching", [True, False])
async def test_without_caching_a_list_is_asked_for_each_time(peer: Callable[..., Any], caching: bool) -> None:
    asked_count = 0

    async def script(peer: Peer) -> None:
        nonlocal asked_count
        await peer.discover()
        while True:
            request = await peer.expect("tools/list")
            asked_count += 1
            peer.answer(request, {**MODERN_RESULT, "tools": [], "ttlMs": 60_000, "cacheScope": "private"})

    async with peer(script) as target, Client(target, flags=Flags(caching=caching)) as client:
        for _ in range(3):
            assert await client.list_tools() == []
    assert asked_count == (1 if caching else 3)


async def test_a_clients_flags_come_from_the_environment_where_none_are_given(
    peer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERLMCP_PHASE", "baseline")
    async with peer(answering) as target, Client(target) as client:
        channel: Any = client.channel
        count = channel.write_count
        await client.call_many([("tool", None)] * 3)
        assert channel.write_count == count + 3
        assert client.flags == Flags.load()


# -- arrays of JSON-RPC, 2025-03-26 ------------------------------------------------------------------------------------


async def in_arrays(peer: Peer) -> None:
    """Answer each array of calls by one, the last call first; and what is no array by itself."""
    await peer.initialize("2025-03-26")
    while True:
        found: Any = await peer.receive()
        calls = found if isinstance(found, list) else [found] if found["method"] == "tools/call" else []
        answers = [
            {
                "jsonrpc": "2.0",
                "id": call["id"],
                "result": {"content": [{"type": "text", "text": call["params"]["name"]}]},
            }
            for call in reversed(calls)
        ]
        if answers:
            peer.send(answers if isinstance(found, list) else answers[0])


async def messages_of_a_turn(peer: Callable[..., Any], **options: Any) -> list[Any]:
    """What the server reads of five calls, and two notifications in the midst of them."""
    seen: list[Any] = []

    async def script(peer: Peer) -> None:
        peer.seen = seen
        await in_arrays(peer)

    async with peer(script) as target, Client(target, **options) as client:
        names = [f"tool{number}" for number in range(5)]
        calls = [client.call_tool(name) for name in names]
        found = await asyncio.gather(*calls[:3], client.roots_changed(), client.roots_changed(), *calls[3:])
        assert [result.text for result in found if result is not None] == names
    assert [message["method"] for message in seen[:2]] == ["initialize", "notifications/initialized"]
    return seen[2:]


def names_in(messages: list[Any]) -> list[Any]:
    return [
        [call["params"]["name"] for call in message]
        if isinstance(message, list)
        else message.get("params", {}).get("name", message["method"])
        for message in messages
    ]


async def test_where_it_is_asked_for_the_requests_of_a_turn_are_one_array_and_answered_in_any_order(
    peer: Callable[..., Any],
) -> None:
    found = await messages_of_a_turn(peer, mode="2025-03-26", json_rpc_batch=True)
    notified = "notifications/roots/list_changed"
    assert names_in(found) == [["tool0", "tool1", "tool2"], notified, notified, ["tool3", "tool4"]]


async def test_an_array_has_no_more_than_batch_count_max_requests(peer: Callable[..., Any]) -> None:
    limits = ClientLimits(batch_count_max=2)
    found = await messages_of_a_turn(peer, mode="2025-03-26", json_rpc_batch=True, limits=limits)
    notified = "notifications/roots/list_changed"
    assert names_in(found) == [["tool0", "tool1"], "tool2", notified, notified, ["tool3", "tool4"]]


@pytest.mark.parametrize(
    "options", [{}, {"json_rpc_batch": True, "flags": Flags(aggregation=False)}], ids=["not asked for", "switched off"]
)
async def test_without_being_asked_for_there_are_no_arrays(peer: Callable[..., Any], options: dict[str, Any]) -> None:
    found = await messages_of_a_turn(peer, mode="2025-03-26", **options)
    assert [type(message) for message in found] == [dict] * 7


async def test_other_revisions_have_no_arrays(peer: Callable[..., Any]) -> None:
    seen: list[Any] = []

    async def script(peer: Peer) -> None:
        peer.seen = seen
        await answering(peer)

    async with peer(script) as target, Client(target, json_rpc_batch=True) as client:
        await client.call_many([("tool", None)] * 3)
    assert [message["method"] for message in seen] == ["server/discover", *["tools/call"] * 3]


async def test_our_own_server_answers_arrays() -> None:
    server = Server("s")

    @server.tool
    async def double(number: int) -> int:
        return 2 * number

    async with server.running():
        listener = await listen_tcp(server.link, "127.0.0.1", 0, connection_count_max=9, outbox_bytes_max=1 << 20)
        target = f"tcp://127.0.0.1:{listener.port}"
        try:
            async with Client(target, mode="2025-03-26", json_rpc_batch=True) as client:
                found = await client.call_many([("double", {"number": number}) for number in range(250)])
                assert [result.text for result in found] == [str(2 * number) for number in range(250)]
        finally:
            await listener.close()


def test_arrays_are_not_for_a_channel_that_was_made_already() -> None:
    with pytest.raises(ConfigurationError, match="json_rpc_batch"):
        Client(StreamChannel(), json_rpc_batch=True)
