"""What nobody closed: found, told of and taken back."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from scripted import Line, nothing_left, once, scripted, talking

import erlmcp.client.http_pool
from erlmcp import Client
from erlmcp.client.http_connection import Answer, Exchange
from erlmcp.client.http_head import Heads

DISCOVERED = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}


class Forgotten(Exchange):
    """A streamed answer whose user does not want it any more, and does not say so."""

    def answered(self, answer: Answer) -> None:
        assert answer.body is None

    def part(self, data: bytes) -> None:
        self.is_over = True

    def lost(self, error: Exception, **_: Any) -> None:
        raise AssertionError("it was abandoned, which ends it without a word")


async def endless(line: Line) -> None:
    while (asked := await line.asked()) is not None:
        if asked.verb == "GET":
            line.begin_stream()
            line.event("something")
            await line.until_closed()
        else:
            line.result(asked)


async def test_what_is_over_and_holds_a_connection_is_told_of_and_taken_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, loop_kind: str
) -> None:
    monkeypatch.setattr(erlmcp.client.http_pool, "BEAT_S", 0.02)
    async with nothing_left(), scripted(endless) as peer, talking(peer.url, limits={"leak_s": 0.1}) as talk:
        pool = talk.channel.pool
        heads = Heads(peer.url, "127.0.0.1", {})
        kept = Forgotten(heads.of_stream(""), None)
        pool.send(kept)
        async with asyncio.timeout(10):
            while not pool.leaked_total:
                await asyncio.sleep(0.01)
        assert "Forgotten (GET /mcp) was over and held a connection for 0 s more" in caplog.text
        assert kept.connection is None
        assert talk.channel.stats()["leaked_total"] == 1
        assert (await talk.call()).kind == 3


async def test_a_stream_that_is_wanted_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wanted(Forgotten):
        def part(self, data: bytes) -> None:
            seen.set()

    seen = asyncio.Event()
    monkeypatch.setattr(erlmcp.client.http_pool, "BEAT_S", 0.005)
    async with nothing_left(), scripted(endless) as peer, talking(peer.url, limits={"leak_s": 0.005}) as talk:
        pool = talk.channel.pool
        kept = Wanted(Heads(peer.url, "127.0.0.1", {}).of_stream(""), None)
        pool.send(kept)
        await seen.wait()
        tick = pool._tick
        async with asyncio.timeout(10):
            while pool._tick < tick + 5:
                await asyncio.sleep(0.005)
        assert pool.leaked_total == 0
        kept.is_over = True
        kept.connection.abandon(kept)


async def test_a_client_that_was_dropped_and_never_closed_leaves_nothing_open(
    caplog: pytest.LogCaptureFixture, loop_kind: str
) -> None:
    def answer(line: Line, asked: Any) -> None:
        found = DISCOVERED if asked.json["method"] == "server/discover" else {"resultType": "complete", "content": []}
        line.result(asked, found)

    async with nothing_left(), scripted(once(answer)) as peer:
        client: Any = Client(peer.url)
        await client.connect()
        await client.call_tool("tool")
        del client
        async with asyncio.timeout(10):
            while peer.tasks:
                await asyncio.sleep(0)  # The turn that woke us holds its answer.
                gc.collect()
        assert "a channel was dropped and never closed" in caplog.text
        assert "1 connections are taken back" in caplog.text


async def test_a_client_that_was_closed_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted(once(lambda line, asked: line.result(asked, DISCOVERED))) as peer:
        client: Any = Client(peer.url)
        async with client:
            pass
        del client
        gc.collect()
        await asyncio.sleep(0)
    assert "never closed" not in caplog.text
