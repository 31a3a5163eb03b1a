"""What the flags of the wire change on a byte stream: writes, requests in flight, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import MODERN_RESULT, Peer

from erlmcp import Client, Flags
from erlmcp.client.stream import StreamChannel

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
