"""What the flags of the wire change over HTTP, as the server sees it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scripted import Asked, Line, Peer, nothing_left, once, scripted

from erlmcp import Client, Flags
from erlmcp.client.http import HttpChannel
from erlmcp.client.http_endpoint import make_endpoint
from erlmcp.client.http_limit import HttpLimits
from erlmcp.client.http_pool import HttpPool
from erlmcp.client.tls import Tls

DISCOVERED = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}


def answer(line: Line, asked: Asked) -> None:
    if asked.json["method"] == "server/discover":
        line.result(asked, DISCOVERED)
    else:
        line.result(asked, {"resultType": "complete", "content": [{"type": "text", "text": str(line.number)}]})


async def ask_in_turn(peer: Peer, count: int, flags: Flags) -> None:
    async with Client(peer.url, flags=flags) as client:
        for _ in range(count):
            await client.call_tool("tool")


@pytest.mark.parametrize(
    ("off", "lines"), [({}, 1), ({"pooling": False}, 5), ({"keepalive": False}, 5), ({"prewarm": False}, 1)]
)
async def test_a_connection_carries_one_request_without_pooling_or_keepalive(off: dict[str, bool], lines: int) -> None:
    async with nothing_left(), scripted(once(answer)) as peer:
        await ask_in_turn(peer, 4, Flags(**off))
        used = {asked.headers.get("connection") for asked in peer.requests}
    # Without both, prewarm has opened one before the first request: it is the first one's, and none is wasted.
    assert peer.line_count == lines
    assert used == ({"close"} if "keepalive" in off else {None})


async def test_without_pooling_requests_at_the_same_time_have_connections_of_their_own() -> None:
    async with nothing_left(), scripted(once(answer)) as peer:
        async with Client(peer.url, flags=Flags(pooling=False)) as client:
            found = await client.call_many([("tool", None)] * 6)
        assert len({result.text for result in found}) == 6


@pytest.mark.parametrize("prewarm", [True, False])
async def test_with_prewarm_connections_are_open_before_the_first_request(prewarm: bool) -> None:
    class Nobody:
        def received(self, call: Any) -> None: ...

        def lost(self, error: Exception) -> None: ...

    async with nothing_left(), scripted(once(answer)) as peer:
        limits = HttpLimits(connection_count_min=3)
        channel = HttpChannel(peer.url, limits=limits, flags=Flags(prewarm=prewarm))
        await channel.open(Nobody())
        assert channel.stats()["count"] == (3 if prewarm else 0)
        assert peer.requests == []
        await channel.aclose()


@pytest.mark.parametrize(
    ("off", "found"), [({}, 3), ({"prewarm": False}, 0), ({"pooling": False}, 0), ({"keepalive": False}, 0)], ids=str
)
def test_connections_that_nobody_asked_for_are_wanted_only_where_they_are_kept(
    off: dict[str, bool], found: int
) -> None:
    endpoint = make_endpoint("http://127.0.0.1/mcp")
    pool = HttpPool(endpoint, HttpLimits(connection_count_min=3), Flags(**off))
    pool.size.observe(0, 1)
    assert pool.size.shortage(0, 0) == found


@pytest.mark.parametrize(("http2", "given"), [(True, None), (False, None), (False, True)])
def test_without_http2_it_is_never_offered(http2: bool, given: bool | None) -> None:
    pytest.importorskip("h2")
    channel = HttpChannel("https://127.0.0.1/mcp", tls=Tls(), http2=given, flags=Flags(http2=http2))
    assert channel.endpoint.http2 is http2


async def test_a_phase_of_the_environment_reaches_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLMCP_PHASE", "1")
    async with nothing_left(), scripted(once(answer)) as peer, Client(peer.url) as client, asyncio.timeout(10):
        await client.call_tool("tool")
        await client.call_tool("tool")
    assert peer.line_count == 3
    assert {asked.headers.get("connection") for asked in peer.requests} == {"close"}
