"""Subscriptions that their program drops without closing them: found, told of and ended."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest
from ways import RUDE, Peer

import erlmcp.sync
from erlmcp import Client

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


def modern(ended: asyncio.Event) -> Callable[[Peer], Any]:
    async def script(peer: Peer) -> None:
        await peer.discover()
        asked = await peer.expect("subscriptions/listen")
        meta = {"io.modelcontextprotocol/subscriptionId": asked["id"]}
        params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
        peer.send({"jsonrpc": "2.0", "method": ACKNOWLEDGED, "params": params})
        told = await peer.expect("notifications/cancelled")
        assert told["params"]["requestId"] == asked["id"]
        ended.set()
        peer.text(await peer.expect("tools/call"), "called")

    return script


def legacy(ended: asyncio.Event) -> Callable[[Peer], Any]:
    async def script(peer: Peer) -> None:
        await peer.initialize(capabilities={"resources": {"subscribe": True}})
        peer.answer(await peer.expect("resources/subscribe"), {})
        told = await peer.expect("resources/unsubscribe")
        assert told["params"]["uri"] == "r://a"
        peer.answer(told, {})
        ended.set()
        peer.text(await peer.expect("tools/call"), "called")

    return script


@pytest.mark.parametrize("kind", [modern, legacy])
async def test_a_subscription_that_was_dropped_is_ended_and_told_of(
    peer: Callable[..., Any], caplog: pytest.LogCaptureFixture, kind: Callable[[asyncio.Event], Any]
) -> None:
    ended = asyncio.Event()
    async with peer(kind(ended)) as target, Client(target, mode="auto" if kind is modern else "legacy") as client:
        wanted: dict[str, Any] = {"tools": True} if kind is modern else {"uris": ["r://a"]}
        events = await client.listen(**wanted).open()
        assert not events.is_over
        del events
        gc.collect()
        async with asyncio.timeout(10):
            await ended.wait()
        conversation: Any = client._conversation
        assert len(conversation.subscriptions) == 0
        assert (await client.call_tool("tool")).text == "called"
    said = caplog.text
    assert "was dropped and never closed; it ends after 0 s" in said
    assert "test_leak.py:" in said, "who opened it"
    assert ("notifications/tools/list_changed" if kind is modern else "r://a") in said


def test_a_subscription_of_the_client_without_a_loop_names_its_program_too() -> None:
    target = {"command": sys.executable, "args": [RUDE]}
    with erlmcp.sync.Client(target) as client:
        assert client.listen(tools=True)._subscription.place.startswith(__file__)


@pytest.mark.parametrize("how", ["closed", "with the client"])
async def test_a_subscription_that_was_ended_is_not_told_of(
    memory: Callable[[], Any], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async with memory() as found:
        client = Client(found.target)
        async with client:
            events: Any = await client.listen(tools=True).open()
            if how == "closed":
                await events.aclose()
        del events
        gc.collect()
        await asyncio.sleep(0)
    assert "never closed" not in caplog.text


async def test_a_reader_that_waits_keeps_its_subscription(memory: Callable[[], Any]) -> None:
    async with memory() as found, Client(found.target) as client:

        async def read() -> Any:
            async for event in await client.listen(tools=True).open():
                return event

        task = asyncio.ensure_future(read())
        conversation: Any = client._conversation
        async with asyncio.timeout(10):
            while not any(each._wake is not None for each in conversation.subscriptions.values()):
                await asyncio.sleep(0)
            gc.collect()
            await client.call_tool("grow")
            assert (await task).method == "notifications/tools/list_changed"
