"""Flags of a client that are switched while it is connected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_wire import Recording, answering
from ways import MODERN_RESULT, Peer

from erlmcp import Client, ConfigurationError, Flags
from erlmcp.client.http import HttpChannel
from erlmcp.sync import Client as SyncClient


async def test_batching_and_pipelining_count_from_the_next_request(peer: Callable[..., Any]) -> None:
    async with peer(answering) as target:
        channel = Recording(target, flags=Flags())
        async with Client(channel) as client:
            counts = []
            for change in ({}, {"batching": False}, {"batching": True, "pipelining": False}, {"pipelining": True}):
                client.set_flags(**change)
                channel.written.clear()
                found = await client.call_many([(f"tool{number}", None) for number in range(4)])
                assert [result.text for result in found] == [f"tool{number}" for number in range(4)]
                counts.append([data.count(b"\n") for data in channel.written])
    assert counts == [[4], [1, 1, 1, 1], [1, 1, 1, 1], [4]]


async def test_calls_in_flight_end_as_they_would_have(peer: Callable[..., Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.discover()
        requests = [await peer.expect("tools/call") for _ in range(4)]
        for request in reversed(requests):
            peer.text(request, request["params"]["name"])
        await answering_only(peer)

    async def answering_only(peer: Peer) -> None:
        while True:
            request = await peer.expect("tools/call")
            peer.text(request, request["params"]["name"])

    async with peer(script) as target, Client(target) as client:
        import asyncio

        calls = [asyncio.ensure_future(client.call_tool(f"tool{number}")) for number in range(4)]
        await asyncio.sleep(0)
        client.set_flags(**dict.fromkeys(["batching", "pipelining", "caching", "aggregation"], False))
        assert [(await call).text for call in calls] == [f"tool{number}" for number in range(4)]
        assert (await client.call_tool("later")).text == "later"


async def test_caching_counts_at_once_and_what_was_kept_is_dropped(peer: Callable[..., Any]) -> None:
    asked_count = 0

    async def script(peer: Peer) -> None:
        nonlocal asked_count
        await peer.discover()
        while True:
            request = await peer.expect("tools/list")
            asked_count += 1
            peer.answer(request, {**MODERN_RESULT, "tools": [], "ttlMs": 60_000, "cacheScope": "private"})

    async with peer(script) as target, Client(target) as client:
        counts = []
        for value in (True, False, True):
            client.flags = Flags(caching=value)
            for _ in range(2):
                await client.list_tools()
            counts.append(asked_count)
    assert counts == [1, 3, 4]


async def test_arrays_count_from_the_next_turn(peer: Callable[..., Any]) -> None:
    from test_wire import in_arrays

    async with peer(in_arrays) as target:
        channel = Recording(target, json_rpc_batch=True)
        async with Client(channel, mode="2025-03-26") as client:
            shapes = []
            for value in (True, False):
                client.set_flags(aggregation=value)
                channel.written.clear()
                await client.call_many([("tool", None)] * 3)
                shapes.append([data[:1] for data in channel.written])
    assert shapes == [[b"["], [b"{"]]


def test_over_http_arrays_count_from_the_next_turn() -> None:
    channel = HttpChannel("http://127.0.0.1:1/mcp", flags=Flags(), json_rpc_batch=True)
    channel.negotiated("legacy", "2025-03-26")
    assert channel._turn is not None
    channel.use_flags(Flags(aggregation=False))
    assert channel._turn is None
    channel.use_flags(Flags())
    assert channel._turn is not None
    channel.negotiated("legacy", "2025-11-25")
    assert channel._turn is None


def test_http_flags_reach_the_pool_and_the_heads_of_an_open_channel() -> None:
    channel = HttpChannel("http://127.0.0.1:1/mcp", flags=Flags())
    assert channel.pool.is_keeping
    channel.use_flags(Flags(keepalive=False))
    assert not channel.pool.is_keeping
    assert b"Connection: close" in channel.heads.of_stream("").start
    channel.use_flags(Flags())
    assert channel.pool.is_keeping
    assert b"Connection: close" not in channel.heads.of_stream("").start


def test_the_blocking_client_switches_too(tmp_path: Any) -> None:
    from shop import build

    client = SyncClient(build())
    assert client.set_flags(batching=False) == Flags.load().changed(batching=False)
    with client:
        assert client.set_flags(pipelining=False).pipelining is False
        assert client.flags.batching is False
        client.ping()


def test_an_unknown_flag_is_refused_and_changes_nothing() -> None:
    client = Client("unix:/nowhere", flags=Flags())
    with pytest.raises(ConfigurationError, match="unknown flag 'speed'"):
        client.set_flags(batching=False, speed=True)
    assert client.flags == Flags()
