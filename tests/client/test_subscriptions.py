"""Hearing of changes, and what is kept until one comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ways import MODERN_RESULT, connected

from erlmcp import McpError
from erlmcp.client.bound import ClientLimits
from erlmcp.client.kept import Kept
from erlmcp.errors import CallTimeoutError, ConnectionClosedError, LimitError


async def test_changes_of_lists_and_of_one_resource_are_heard(way: Any, mode: str, loop_kind: str) -> None:
    async with way() as found, connected(found.target, mode=mode) as client:
        async with client.listen(tools=True, uris=["shop://stock/pear"]) as events:
            assert events.granted == {"toolsListChanged": True, "resourceSubscriptions": ["shop://stock/pear"]}
            await client.call_tool("grow")
            heard = [await anext(events), await anext(events)]
            assert {event.method for event in heard} == {
                "notifications/tools/list_changed",
                "notifications/resources/updated",
            }
            assert [event.uri for event in heard if event.uri] == ["shop://stock/pear"]
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_what_was_not_asked_for_is_not_heard(memory: Any, mode: str) -> None:
    async with (
        memory() as found,
        connected(found.target, mode=mode) as client,
        client.listen(prompts=True, uris=["shop://other"]) as events,
    ):
        await client.call_tool("grow")
        await client.ping()
        assert not events._events


async def test_a_subscription_ends_with_its_connection(memory: Any, mode: str) -> None:
    async with memory() as found, connected(found.target, mode=mode) as client, client.listen(tools=True) as events:
        reader = asyncio.create_task(anext(events))  # type: ignore[arg-type]
        await client.ping()
        await client.aclose()
        with pytest.raises(ConnectionClosedError):
            await reader


async def test_subscribing_to_a_resource_feeds_the_clients_own_callback(way: Any, mode: str) -> None:
    heard: list[Any] = []
    options = {"mode": mode, "on_notification": lambda method, params: heard.append((method, params.get("uri")))}
    async with way() as found, connected(found.target, **options) as client:
        await client.subscribe("shop://stock/pear")
        await client.subscribe("shop://stock/pear")
        await client.call_tool("grow")
        await client.ping()
        assert ("notifications/resources/updated", "shop://stock/pear") in heard
        await client.unsubscribe("shop://stock/pear")
        await client.unsubscribe("shop://stock/pear")
        await client.ping()
        heard.clear()
        await client.call_tool("grow")
        await client.ping()
        assert ("notifications/resources/updated", "shop://stock/pear") not in heard


async def test_a_handshake_resource_is_subscribed_to_once_for_all_who_listen(peer: Any) -> None:
    async def script(server: Any) -> None:
        server.refuse(await server.expect("server/discover"), -32601)
        await server.initialize()
        server.answer(await server.expect("resources/subscribe"), {})
        server.answer(await server.expect("ping"), {})
        server.answer(await server.expect("resources/unsubscribe"), {})
        server.answer(await server.expect("ping"), {})
        assert [m["method"] for m in server.seen].count("resources/subscribe") == 1
        server.refuse(await server.expect("resources/subscribe"), -32602, "no such resource")

    async with peer(script) as target, connected(target) as client:
        async with client.listen(uris=["x://a"]), client.listen(uris=["x://a"]):
            await client.ping()
        await client.ping()
        with pytest.raises(McpError, match="no such resource"):
            await client.listen(uris=["x://b"]).open()


def acknowledge(server: Any, request: dict[str, Any]) -> None:
    meta = {"io.modelcontextprotocol/subscriptionId": request["id"]}
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    server.send({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params})


def changed(server: Any, request: dict[str, Any]) -> None:
    meta = {"io.modelcontextprotocol/subscriptionId": request["id"]}
    server.send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": meta}})


@pytest.mark.parametrize("how", ["answer", "notification"])
async def test_the_server_may_end_a_stream_in_either_way(peer: Any, how: str) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        request = await server.expect("subscriptions/listen")
        acknowledge(server, request)
        changed(server, request)
        if how == "answer":
            server.answer(request, MODERN_RESULT)
        else:
            params = {"requestId": request["id"]}
            server.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})

    async with peer(script) as target, connected(target) as client:
        async with client.listen(tools=True) as events:
            assert [event.method async for event in events] == ["notifications/tools/list_changed"]
        assert client.channel.inflight_count == 0  # type: ignore[union-attr]


async def test_a_server_that_refuses_to_tell_is_an_error_at_once(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        server.refuse(await server.expect("subscriptions/listen"), -32000, "too many")
        await server.expect("subscriptions/listen")  # and is silent about this one
        await server.expect("notifications/cancelled")

    async with peer(script) as target, connected(target, timeout_s=0.2) as client:
        with pytest.raises(McpError, match="too many"):
            await client.listen(tools=True).open()
        with pytest.raises(CallTimeoutError, match="subscriptions/listen"):
            await client.listen(tools=True).open()
        assert client.channel.inflight_count == 0  # type: ignore[union-attr]


async def test_a_reader_that_is_too_slow_gets_a_limit_and_what_came_before(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        request = await server.expect("subscriptions/listen")
        acknowledge(server, request)
        call = await server.expect("tools/call")
        for _ in range(4):
            changed(server, request)
        server.text(call, "there they are")
        await server.expect("notifications/cancelled")

    async with (
        peer(script) as target,
        connected(target, limits=ClientLimits(event_count_max=3)) as client,
        client.listen(tools=True) as events,
    ):
        await client.call_tool("t")
        heard = 0
        with pytest.raises(LimitError, match="event_count_max=3"):
            async for _ in events:
                heard += 1
        assert heard == 3


# -- what is kept ------------------------------------------------------------------------------------------------------


def page(ttl_ms: Any, *names: str, cursor: str | None = None) -> dict[str, Any]:
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
    more = {} if cursor is None else {"nextCursor": cursor}
    return {**MODERN_RESULT, "tools": tools, "ttlMs": ttl_ms, "cacheScope": "private", **more}


async def test_a_list_is_kept_as_long_as_the_server_says_and_until_it_changes(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        server.answer(await server.expect("tools/list"), page(60_000, "a", cursor="2"))
        server.answer(await server.expect("tools/list"), page(60_000, "b"))
        request = await server.expect("subscriptions/listen")
        acknowledge(server, request)
        server.text(await server.expect("tools/call"), "ready")
        changed(server, request)
        server.answer(await server.expect("tools/list"), page(0, "c"))
        server.answer(await server.expect("tools/list"), page(-5, "d"))
        server.answer(await server.expect("tools/list"), page(None, "e"))

    async with peer(script) as target, connected(target) as client:

        async def names() -> str:
            return "".join(tool.name for tool in await client.list_tools())

        assert [await names() for _ in range(3)] == ["ab"] * 3
        async with client.listen(tools=True) as events:
            await client.call_tool("t")
            await anext(events)
            assert [await names() for _ in range(3)] == ["c", "d", "e"]


async def test_those_who_ask_at_once_share_a_load_and_the_one_who_leaves_takes_it_from_nobody(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        request, call = await server.both("tools/list", "tools/call")
        server.text(call, "now")
        server.answer(request, page(0, "a"))

    async with peer(script) as target, connected(target) as client:
        loads = [asyncio.create_task(client.list_tools()) for _ in range(3)]
        await client.call_tool("t")
        loads[0].cancel()
        found = await asyncio.gather(*loads, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert [tool.name for tool in found[1] + found[2]] == ["a", "a"]  # type: ignore[operator]


async def test_the_last_who_leaves_ends_the_load(peer: Any) -> None:
    cancelled: list[Any] = []

    async def script(server: Any) -> None:
        await server.discover()
        _, call = await server.both("tools/list", "tools/call")
        server.text(call, "now")
        cancelled.append(await server.expect("notifications/cancelled"))
        server.answer(await server.expect("tools/list"), page(0, "a"))

    async with peer(script) as target, connected(target) as client:
        load = asyncio.create_task(client.list_tools())
        await client.call_tool("t")
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        assert len(await client.list_tools()) == 1
    assert cancelled


async def test_a_resource_is_kept_until_it_is_updated(memory: Any) -> None:
    async with memory() as found, connected(found.target) as client:
        reads: list[Any] = [await client.read_resource("shop://stock/pear") for _ in range(2)]
        assert reads[0] is reads[1]
        async with client.listen(uris=["shop://stock/pear"]) as events:
            await client.call_tool("grow")
            await anext(events)
            assert await client.read_resource("shop://stock/pear") is not reads[0]


async def test_without_a_cache_each_question_goes_to_the_server(memory: Any) -> None:
    async with memory() as found, connected(found.target, cache=False) as client:
        reads: list[Any] = [await client.read_resource("shop://opening") for _ in range(2)]
        assert reads[0] is not reads[1]


async def test_a_load_that_fails_fails_for_all_who_wait_and_is_not_kept() -> None:
    kept = Kept(10, 100)
    gate = asyncio.Event()

    async def load() -> tuple[Any, Any]:
        await gate.wait()
        raise LimitError("x", 1)

    waiting = [asyncio.create_task(kept.get("k", load)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in found] == [LimitError] * 3

    async def fine() -> tuple[Any, Any]:
        return "v", 1000

    assert await kept.get("k", fine) == "v"
    assert len(kept) == 1


async def test_what_is_kept_has_a_budget_of_bytes() -> None:
    kept = Kept(10, 100)

    def bringing(value: Any) -> Any:
        async def load() -> tuple[Any, Any]:
            return value, 1000

        return load

    assert await kept.get("too large", bringing(bytes(101))) == bytes(101)
    assert len(kept) == 0
    for number in range(4):
        await kept.get(f"{number}", bringing([bytes(20), bytes(20)]))
    assert len(kept) == 2


async def test_resources_that_changed_are_read_anew_and_roots_that_changed_are_told(peer: Any) -> None:
    async def script(server: Any) -> None:
        server.refuse(await server.expect("server/discover"), -32601)
        await server.initialize()
        await server.expect("notifications/roots/list_changed")
        contents = [{"uri": "x://a", "text": "a"}]
        for _ in range(2):
            server.answer(await server.expect("resources/read"), {"contents": contents, "ttlMs": 60_000})
            server.send({"jsonrpc": "2.0", "method": "notifications/resources/list_changed"})

    heard: list[str] = []
    options = {"roots": [], "on_notification": lambda method, params: heard.append(method)}
    async with peer(script) as target, connected(target, **options) as client:
        await client.roots_changed()
        for count in (1, 2):
            assert (await client.read_resource("x://a")).contents[0].text == "a"
            while len(heard) < count:
                await asyncio.sleep(0)
    assert heard == ["notifications/resources/list_changed"] * 2
