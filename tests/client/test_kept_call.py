"""Answers of tools that are kept: which, for whom, and until when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ways import MODERN_RESULT, Peer

from erlmcp import Client, Flags, ToolError
from erlmcp.client.client import KEY_CHARS_MAX
from erlmcp.errors import JsonError

HINTS = {
    "read": {"readOnlyHint": True},
    "repeat": {"idempotentHint": True},
    "write": {"readOnlyHint": False},
    "plain": None,
}
TTL = {"ttlMs": 60_000, "cacheScope": "private"}


class House:
    """A server that counts its calls, and says how long an answer lasts."""

    def __init__(self, lasts: dict[str, Any] = TTL) -> None:
        self.calls: list[dict[str, Any]] = []
        self.lasts = lasts
        self.more: dict[str, Any] = {}
        self.peer: Peer | None = None

    async def __call__(self, peer: Peer) -> None:
        self.peer = peer
        await peer.discover()
        while True:
            request = await peer.receive()
            if request["method"] == "tools/list":
                tools = [{"name": name, "inputSchema": {"type": "object"}, **self._hints(name)} for name in HINTS]
                peer.answer(request, {**MODERN_RESULT, "tools": tools, "ttlMs": 0, "cacheScope": "private"})
            elif request["method"] == "tools/call":
                self.calls.append(request["params"])
                result = {"structuredContent": {"number": len(self.calls)}, "content": [], **self.lasts, **self.more}
                peer.answer(request, {**MODERN_RESULT, **result})

    def _hints(self, name: str) -> dict[str, Any]:
        return {} if HINTS[name] is None else {"annotations": HINTS[name]}


async def numbers(client: Client, name: str, *arguments: dict[str, Any]) -> list[int]:
    return [(await client.call_tool(name, each)).data["number"] for each in arguments]


@pytest.mark.parametrize(("name", "found"), [("read", 2), ("repeat", 2), ("write", 5), ("plain", 5)])
async def test_only_answers_of_tools_that_may_be_called_again_are_kept(
    peer: Callable[..., Any], name: str, found: int
) -> None:
    house = House()
    async with peer(house) as target, Client(target) as client:
        await client.list_tools()
        await numbers(client, name, *[{"a": 1}] * 5)
    # The first answer tells that they last, the second one is kept.
    assert len(house.calls) == found


@pytest.mark.parametrize("lasts", [{}, {"ttlMs": 0}, {"ttlMs": "long"}, {"ttlMs": True}], ids=str)
async def test_an_answer_without_a_time_to_live_is_not_kept(peer: Callable[..., Any], lasts: dict[str, Any]) -> None:
    house = House(lasts)
    async with peer(house) as target, Client(target) as client:
        await client.list_tools()
        assert await numbers(client, "read", *[{}] * 4) == [1, 2, 3, 4]


@pytest.mark.parametrize("options", [{"cache": False}, {"flags": Flags(caching=False)}], ids=["cache", "flag"])
async def test_nothing_is_kept_where_caching_is_off(peer: Callable[..., Any], options: dict[str, Any]) -> None:
    house = House()
    async with peer(house) as target, Client(target, **options) as client:
        await client.list_tools()
        assert await numbers(client, "read", *[{}] * 4) == [1, 2, 3, 4]


async def test_a_tool_that_was_not_listed_is_called_each_time(peer: Callable[..., Any]) -> None:
    house = House()
    async with peer(house) as target, Client(target) as client:
        assert await numbers(client, "read", *[{}] * 4) == [1, 2, 3, 4]


async def test_the_same_arguments_in_another_order_are_the_same_call_and_other_ones_are_not(
    peer: Callable[..., Any],
) -> None:
    house = House()
    async with peer(house) as target, Client(target) as client:
        await client.list_tools()
        given = [
            {},
            {"a": 1, "b": {"c": 2, "d": 3}},
            {"b": {"d": 3, "c": 2}, "a": 1},
            {"a": 1.0},
            {"a": "1"},
            {"a": True},
        ]
        assert await numbers(client, "read", *given) == [1, 2, 2, 3, 4, 5]


async def test_those_who_ask_at_once_share_a_call_and_each_has_a_result_of_its_own(peer: Callable[..., Any]) -> None:
    house = House()
    async with peer(house) as target, Client(target) as client:
        await client.list_tools()
        await client.call_tool("read")
        found = await asyncio.gather(*(client.call_tool("read") for _ in range(10)))
        assert len(house.calls) == 2
        found[0].data["number"] = "spoiled"
        assert [result.data["number"] for result in found[1:]] == [2] * 9
        assert (await client.call_tool("read")).data == {"number": 2}


async def test_a_call_with_a_meta_or_progress_of_its_own_is_made(peer: Callable[..., Any]) -> None:
    house = House()
    async with peer(house) as target, Client(target) as client:
        await client.list_tools()
        await numbers(client, "read", {}, {}, {})
        await client.call_tool("read", meta={"trace": 1})
        await client.call_tool("read", on_progress=lambda progress, total, message: None)
        assert len(house.calls) == 4
        assert house.calls[2]["_meta"]["trace"] == 1


async def test_a_change_of_the_tools_drops_what_was_kept(peer: Callable[..., Any]) -> None:
    house = House()
    heard = asyncio.Event()
    async with peer(house) as target, Client(target, on_notification=lambda method, params: heard.set()) as client:
        await client.list_tools()
        assert await numbers(client, "read", {}, {}, {}) == [1, 2, 2]
        assert house.peer is not None
        house.peer.send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        await heard.wait()
        assert await numbers(client, "read", {}, {}, {}) == [3, 4, 4]


async def test_a_failure_is_not_kept_and_is_raised_where_it_is_wanted(peer: Callable[..., Any]) -> None:
    house = House()
    async with peer(house) as target, Client(target) as client:
        await client.list_tools()
        await client.call_tool("read")
        house.more = {"isError": True}
        with pytest.raises(ToolError):
            await client.call_tool("read")
        assert (await client.call_tool("read", raise_on_error=False)).is_error
        house.more = {}
        assert await numbers(client, "read", {}, {}) == [4, 4]


async def test_arguments_that_are_long_are_not_kept_and_those_that_are_no_json_are_refused(
    peer: Callable[..., Any],
) -> None:
    house = House()
    async with peer(house) as target, Client(target) as client:
        await client.list_tools()
        await client.call_tool("read")
        assert await numbers(client, "read", *[{"text": "x" * KEY_CHARS_MAX}] * 2) == [2, 3]
        with pytest.raises(JsonError):
            await client.call_tool("read", {"text": {1, 2}})
        assert await numbers(client, "read", {}, {}) == [4, 4]
