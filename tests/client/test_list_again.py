"""After a loss: what was listed before is listed again, and who listens hears of what changed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ways import MODERN_RESULT, Peer

from erlmcp import Client
from erlmcp.errors import ConnectionClosedError

KEPT = {**MODERN_RESULT, "ttlMs": 60_000, "cacheScope": "private"}
LISTS = {
    "tools/list": ("tools", [{"name": "a", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}]),
    "prompts/list": ("prompts", [{"name": "p"}]),
    "resources/list": ("resources", [{"uri": "r://a", "name": "a"}]),
    "resources/templates/list": ("resourceTemplates", [{"uriTemplate": "r://{a}", "name": "t"}]),
}


def serving(seen: list[str], *changed: str, ends: bool = False) -> Callable[[Peer], Awaitable[None]]:
    """A connection that lists, with one thing more in what ``changed``; with ``ends`` it breaks off under a call."""

    async def script(peer: Peer) -> None:
        await peer.discover()
        while True:
            request = await peer.receive()
            method = request.get("method", "")
            seen.append(method)
            if method in LISTS:
                field, items = LISTS[method]
                more = [{**items[0], "title": "changed"}] if method in changed else items
                peer.answer(request, {**KEPT, field: more})
            elif ends and request["params"]["name"] == "end":
                peer.abort()
            else:
                peer.text(request, "called")

    return script


async def list_all(client: Client) -> None:
    await client.list_tools()
    await client.list_prompts()
    await client.list_resources()
    await client.list_resource_templates()


async def lose(client: Client) -> None:
    with pytest.raises(ConnectionClosedError):
        await client.call_tool("end")


async def until_listed(client: Client) -> None:
    conversation: Any = client._conversation
    async with asyncio.timeout(10):
        while conversation.tasks:
            await asyncio.wait([*conversation.tasks])


async def test_what_was_listed_is_listed_again_and_a_change_is_told(peer: Callable[..., Any]) -> None:
    first: list[str] = []
    second: list[str] = []
    heard: list[str] = []
    changed = ("prompts/list", "resources/templates/list")
    scripts = serving(first, ends=True), serving(second, *changed)
    async with (
        peer(*scripts) as target,
        Client(target, on_notification=lambda method, _: heard.append(method)) as client,
    ):
        await list_all(client)
        await lose(client)
        assert (await client.call_tool("a")).text == "called"
        await until_listed(client)
        assert sorted(second) == sorted([*LISTS, "tools/call"])
        assert heard == ["notifications/prompts/list_changed", "notifications/resources/list_changed"]
        assert (await client.list_prompts())[0].title == "changed"
        assert len(second) == 5, "it is kept, as the first one was"


async def test_what_was_never_listed_is_not_listed(peer: Callable[..., Any]) -> None:
    second: list[str] = []
    async with peer(serving([], ends=True), serving(second)) as target, Client(target) as client:
        await lose(client)
        await client.call_tool("a")
        await until_listed(client)
        assert second == ["tools/call"]


async def test_what_is_kept_is_dropped_with_the_connection(peer: Callable[..., Any]) -> None:
    second: list[str] = []
    async with peer(serving([], ends=True), serving(second, "tools/list")) as target, Client(target) as client:
        assert (await client.list_tools())[0].title is None
        await lose(client)
        assert (await client.list_tools())[0].title == "changed"


async def test_what_may_be_called_again_is_known_again_after_a_loss(peer: Callable[..., Any]) -> None:
    """Its hints are learnt from the list, so a call under which the second connection breaks off is made a third
    time."""

    async def breaking(peer: Peer) -> None:
        await peer.discover()
        while True:
            request = await peer.receive()
            if request["method"] == "tools/list":
                peer.answer(request, {**KEPT, "tools": LISTS["tools/list"][1]})
            elif request["params"]["name"] == "first":
                peer.text(request, "called")
            else:
                peer.abort()

    async with peer(serving([], ends=True), breaking, serving([])) as target, Client(target) as client:
        await client.list_tools()
        await lose(client)
        await client.call_tool("first")
        await until_listed(client)
        assert (await client.call_tool("a")).text == "called"


async def test_a_list_that_is_refused_harms_nothing(peer: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    async def refusing(peer: Peer) -> None:
        await peer.discover()
        while True:
            request = await peer.receive()
            if request["method"] == "tools/list":
                peer.refuse(request, -32603, "not today")
            else:
                peer.text(request, "called")

    async with peer(serving([], ends=True), refusing) as target, Client(target) as client:
        await client.list_tools()
        await lose(client)
        assert (await client.call_tool("a")).text == "called"
        await until_listed(client)
        assert "not today" in caplog.text


async def test_a_client_that_was_closed_begins_with_nothing(peer: Callable[..., Any]) -> None:
    second: list[str] = []
    async with peer(serving([]), serving(second)) as target:
        client = Client(target)
        async with client:
            await client.list_tools()
        async with client:
            await client.call_tool("a")
            await until_listed(client)
    assert second == ["tools/call"]
