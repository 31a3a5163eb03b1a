"""Answers that are kept: for as long as they hold, for whom they are, and not after what they speak of changed."""

from __future__ import annotations

import hashlib
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from stage import Scripted, scripted_gateway, until

from erlmcp import Client, ConnectionClosedError
from erlmcp.gateway import cache as room
from erlmcp.gateway.config import KeyConfig
from erlmcp.gateway.serve import http as gateway_http

KEYS = tuple(KeyConfig(name, hashlib.sha256(name.encode() * 5).digest()) for name in ("alice", "bobby"))


def readable(scope: str = "public", ttl_ms: Any = 60_000) -> Scripted:
    upstream = Scripted()
    hints = b'"ttlMs":%b,"cacheScope":"%b"' % (json.dumps(ttl_ms).encode(), scope.encode())
    upstream.answers["resources/read"] = b'{"resultType":"complete",%b,"contents":[],"z":1}' % hints
    return upstream


async def read(client: Any, **more: Any) -> Any:
    return await client.result("resources/read", {"uri": "x://y", **more})


def reads(upstream: Scripted) -> int:
    return len(upstream.of("resources/read"))


async def test_what_was_read_is_given_again_for_as_long_as_it_holds(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [room.time.monotonic_ns()]

    class Clock:
        monotonic_ns = staticmethod(lambda: now[0])

    monkeypatch.setattr(room, "time", Clock)
    upstream = readable(ttl_ms=1000)
    async with talk(scripted_gateway(upstream)) as client:
        first = await read(client)
        now[0] += 400 * room.MS_NS
        second = await read(client)
        assert (first["ttlMs"], second["ttlMs"], reads(upstream)) == (1000, 600, 1)
        assert {**second, "ttlMs": 1000} == first
        now[0] += 600 * room.MS_NS
        await read(client)
        assert reads(upstream) == 2


@pytest.mark.parametrize("ttl_ms", [0, -5, "soon", None, True])
async def test_what_does_not_say_for_how_long_it_holds_is_not_kept(talk: Any, ttl_ms: Any) -> None:
    upstream = readable(ttl_ms=ttl_ms)
    gateway = scripted_gateway(upstream)
    async with talk(gateway) as client:
        await read(client)
        await read(client)
        assert (reads(upstream), len(gateway.answers)) == (2, 0)


async def test_a_server_whose_answers_are_not_to_be_kept_is_asked_each_time(talk: Any) -> None:
    upstream = readable()
    async with talk(scripted_gateway(upstream, cache=False)) as client:
        await read(client)
        await read(client)
        assert reads(upstream) == 2


async def test_rounds_of_a_longer_call_are_neither_kept_nor_answered_from_what_was(talk: Any) -> None:
    upstream = readable()
    async with talk(scripted_gateway(upstream)) as client:
        await read(client, inputResponses={})
        await read(client, requestState="s")
        await read(client)
        await read(client, requestState="s")
        assert reads(upstream) == 4


async def test_a_handshake_client_gets_what_was_kept_in_its_own_words(talk: Any) -> None:
    upstream = readable()
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway, "2025-11-25") as old, talk(gateway) as new:
        assert await read(old) == {"contents": [], "z": 1}
        assert await read(old) == {"contents": [], "z": 1}
        assert (await read(new))["resultType"] == "complete"
        assert reads(upstream) == 1


async def test_a_change_that_is_told_takes_away_what_it_speaks_of(talk: Any) -> None:
    upstream = readable()
    gateway = scripted_gateway(upstream)
    async with talk(gateway) as client:
        notes: list[dict[str, Any]] = [
            {"method": "notifications/resources/updated", "params": {"uri": "x://y"}},
            {"method": "notifications/resources/list_changed"},
        ]
        for expected, note in enumerate(notes, 1):
            await read(client)
            await read(client)
            assert reads(upstream) == expected
            upstream.links[0].say(json.dumps({"jsonrpc": "2.0", **note}).encode())
        await read(client)
        assert reads(upstream) == 3
        other = {"method": "notifications/resources/updated", "params": {"uri": "x://other"}}
        upstream.links[0].say(json.dumps({"jsonrpc": "2.0", **other}).encode())
        await read(client)
        assert reads(upstream) == 3


async def test_another_connection_to_the_upstream_begins_with_nothing_kept(talk: Any) -> None:
    upstream = readable()
    gateway = scripted_gateway(upstream, restart_s=0.005, restart_max_s=0.01)
    async with talk(gateway) as client:
        await read(client)
        line: Any = gateway.upstreams["a"].quick()
        line.conversation.channel._lose(lambda: ConnectionClosedError("gone"))
        await until(lambda: gateway.upstreams["a"].quick() not in (None, line))
        await read(client)
        assert reads(upstream) == 2


@pytest.mark.parametrize(("scope", "count"), [("public", 1), ("private", 3)])
async def test_a_private_answer_is_its_callers_alone(scope: str, count: int) -> None:
    upstream = readable(scope)
    gateway = scripted_gateway(upstream, config={"keys": KEYS, "anonymous": True})
    async with gateway_http(gateway, port=0) as front, AsyncExitStack() as stack:
        for headers in ({}, {"X-API-Key": "alice" * 5}, {"X-API-Key": "bobby" * 5}):
            client = Client(f"http://127.0.0.1:{front.port}/mcp", headers=headers, cache=False)
            await stack.enter_async_context(client)
            for _ in range(2):
                await client.read_resource("x://y")
    assert reads(upstream) == count
