"""A gateway's lines and what is held on them: made-up clients, ends in the midst, files that cannot be opened."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stage import Scripted, build_shop, error, result, scripted_gateway, until

from erlmcp import Client
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.audit import Audit
from erlmcp.gateway.config import GatewayConfig, UpstreamConfig
from erlmcp.server.serve import http as server_http

DONE = b'{"content":[]}'


async def test_clients_that_make_up_capabilities_take_no_lines_from_others(talk: Any) -> None:
    """Over a pipe: a line for each call, which rests."""
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = DONE
    gateway = scripted_gateway(upstream, line_count_max=4)
    async with gateway.running():
        for number in range(10):
            async with talk(gateway, "2026-07-28", {"elicitation": {f"made_up_{number}": {}}}) as client:
                assert await client.call("echo")
    assert sum(not link.closed for link in upstream.links) == 0


async def test_clients_that_make_up_capabilities_take_no_connections_from_others(talk: Any) -> None:
    """Over HTTP: a line for all who declare the same."""
    async with server_http(build_shop()) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        config = UpstreamConfig("shop", "http", url=url, mode="legacy", line_count_max=4)
        gateway = Gateway(GatewayConfig((config,)))
        async with gateway.running():
            for number in range(10):
                async with talk(gateway, "2026-07-28", {"elicitation": {f"made_up_{number}": {}}}) as client:
                    assert await client.text("echo", {"text": "in"}) == "in"


async def test_a_call_whose_line_opens_while_the_configuration_is_reloaded_is_answered_and_leaves_no_line() -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = DONE
    gateway = scripted_gateway(upstream)

    async def elicit(*_: Any) -> Any:
        return {"action": "decline"}

    async with Client(gateway, mode="2026-07-28", elicitation=elicit) as client:
        await client.list_tools()
        held = upstream.answers.pop("initialize")
        upstream.waiting.clear()
        call = asyncio.create_task(client.call_tool("echo", {}))
        await until(lambda: any(each["method"] == "initialize" for each in upstream.waiting))
        upstream.answers["initialize"] = held
        (changed,) = gateway.config.upstreams
        gateway.reload(replace(gateway.config, upstreams=(replace(changed, timeout_s=59.0),)))
        await until(lambda: gateway.upstreams["a"].state == "up")
        (waiting,) = upstream.waiting
        waiting["link"].say(result(waiting, held))
        await call
    assert all(link.closed for link in upstream.links)


def test_an_audit_log_that_cannot_be_opened_anew_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    audit = Audit(str(folder / "audit"))
    folder.rename(tmp_path / "moved")
    with pytest.raises(OSError, match="No such file"):
        audit.reopen()
    audit._lines.append(b"{}\n")
    others = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
    audit.close()
    for each in others:
        os.close(each)
    assert json.loads((tmp_path / "moved/audit").read_text()) == {}


@pytest.mark.parametrize("turn_count", range(3))
async def test_a_call_that_is_cancelled_as_its_line_opens_is_not_sent(talk: Any, turn_count: int) -> None:
    upstream = Scripted("echo", modern=False)
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway, "2026-07-28", {"elicitation": {}}) as client:
        held = upstream.answers.pop("initialize")
        upstream.waiting.clear()
        id = client.post("tools/call", {"name": "echo", "arguments": {}})
        await until(lambda: bool(upstream.waiting))
        (waiting,) = upstream.waiting
        waiting["link"].say(result(waiting, held))
        for _ in range(turn_count):
            await asyncio.sleep(0)
        client.wire._link.session.inflight[id].cancel()
        await client.settle()
        await client.settle()
        assert len(upstream.of("tools/call")) == len(upstream.of("notifications/cancelled"))
        assert gateway.turn.load.inflight == 0


URI = "x://y"


def acknowledge(upstream: Scripted) -> None:
    """Agree to what is listened to."""
    for request in [each for each in upstream.waiting if each["method"] == "subscriptions/listen"]:
        meta = {"io.modelcontextprotocol/subscriptionId": request["id"]}
        told = {"_meta": meta, "notifications": request["params"]["notifications"]}
        method = "notifications/subscriptions/acknowledged"
        request["link"].say(json.dumps({"jsonrpc": "2.0", "method": method, "params": told}).encode())


async def test_a_client_that_subscribes_twice_at_once_has_one_subscription_and_none_after_it_left(talk: Any) -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway, "2025-11-25") as client:
        ids = [client.post("resources/subscribe", {"uri": URI}) for _ in range(2)]
        await until(lambda: bool(upstream.of("subscriptions/listen")))
        acknowledge(upstream)
        answers = [await client.receive() for _ in ids]
        assert sorted(each["id"] for each in answers if "result" in each) == ids
        await client.result("resources/unsubscribe", {"uri": URI})
        await until(lambda: bool(upstream.of("notifications/cancelled")))
        assert not gateway.upstreams["a"].hearing._held


async def test_a_subscription_that_nobody_wants_any_more_as_it_is_granted_is_ended_and_not_left_to_the_collector(
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream)
    async with gateway.running():
        hearing = gateway.upstreams["a"].hearing
        await gateway.upstreams["a"].shared()

        async def hold_and_drop() -> None:
            await hearing.hold(URI)
            hearing.drop(URI)

        holding = asyncio.create_task(hold_and_drop())
        await until(lambda: bool(upstream.of("subscriptions/listen")))
        acknowledge(upstream)
        await holding
        await until(lambda: bool(upstream.of("notifications/cancelled")))
    assert "never closed" not in caplog.text


async def test_no_more_resources_are_subscribed_to_at_once_than_one_by_one(talk: Any) -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream, config={"limits": {"subscription_count_max": 2}})
    async with gateway.running(), talk(gateway, "2025-11-25") as client:
        ids = [client.post("resources/subscribe", {"uri": f"{URI}/{number}"}) for number in range(5)]
        refused = [await client.answer(each) for each in ids[2:]]
        assert all("subscription_count_max=2" in each["error"]["message"] for each in refused)


async def test_a_listen_request_that_is_cancelled_before_it_is_answered_follows_nothing(talk: Any) -> None:
    first, second = Scripted("echo"), Scripted("echo")
    second.answers["resources/list"] = b'{"resources":[{"uri":"x://z","name":"z"}]}'
    gateway = scripted_gateway(first, second)
    async with gateway.running(), talk(gateway, "2026-07-28") as client:
        uris = [URI, "x://z"]
        id = client.post("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris}})
        await until(lambda: bool(first.of("subscriptions/listen")))
        acknowledge(first)
        await until(lambda: bool(second.of("subscriptions/listen")))
        client.notify("notifications/cancelled", {"requestId": id})
        await client.settle()
        assert not len(gateway.followers)


async def test_who_is_subscribed_hears_of_a_resource_after_its_upstream_was_reloaded(talk: Any) -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway, "2025-11-25") as client:
        id = client.post("resources/subscribe", {"uri": URI})
        await until(lambda: bool(upstream.of("subscriptions/listen")))
        acknowledge(upstream)
        await client.answer(id)
        (changed,) = gateway.config.upstreams
        gateway.reload(replace(gateway.config, upstreams=(replace(changed, timeout_s=59.0),)))
        await until(lambda: len(upstream.of("subscriptions/listen")) == 2)


async def test_a_call_that_waits_for_a_start_gets_to_the_upstream_that_took_the_place() -> None:
    upstream = Scripted("echo")
    upstream.answers["tools/call"] = b'{"resultType":"complete","content":[]}'
    gateway = scripted_gateway(upstream, restart_s=60.0)
    async with Client(gateway, mode="2026-07-28") as client:
        await client.list_tools()
        held = upstream.answers.pop("server/discover")
        (changed,) = gateway.config.upstreams
        gateway.reload(replace(gateway.config, upstreams=(replace(changed, timeout_s=59.0),)))
        call = asyncio.create_task(client.call_tool("echo", {}))
        await until(lambda: bool(upstream.waiting) and gateway.turn.load.inflight > 0)
        upstream.answers["server/discover"] = held
        gateway.reload(replace(gateway.config, upstreams=(replace(changed, timeout_s=58.0),)))
        await call


async def test_an_upstream_that_does_not_answer_holds_up_no_level_of_logs(talk: Any) -> None:
    silent, other = Scripted("echo", modern=False), Scripted("echo", modern=False)
    for each in (silent, other):
        each.answers["tools/call"] = DONE
    gateway = scripted_gateway(silent, other)
    async with gateway.running(), talk(gateway, "2025-11-25", {"elicitation": {}}) as client:
        for name in ("a_echo", "b_echo"):
            await client.call(name)
        del silent.answers["logging/setLevel"]
        other.answers["logging/setLevel"] = lambda request: error(request, -32603, "not here")
        id = client.post("logging/setLevel", {"level": "error"})
        await until(lambda: bool(other.of("logging/setLevel")))
        assert "result" in await client.answer(id)


async def test_a_tool_without_a_schema_is_left_out_and_those_of_others_can_be_listed() -> None:
    broken, other = Scripted("echo"), Scripted("echo")
    listed = [
        {"name": "bare"},
        {"name": "null", "inputSchema": None},
        {"name": "good", "inputSchema": {"type": "object"}},
    ]
    broken.answers["tools/list"] = json.dumps({"tools": listed}).encode()
    gateway = scripted_gateway(broken, other)
    async with Client(gateway, mode="2026-07-28") as client:
        assert [tool.name for tool in await client.list_tools()] == ["a_good", "b_echo"]


async def test_a_line_that_is_being_closed_is_closed_when_the_gateway_stops(talk: Any) -> None:
    begun = asyncio.Event()
    ended = 0

    class Slow(Scripted):
        async def stop(self) -> None:
            nonlocal ended
            begun.set()
            for _ in range(1000):
                await asyncio.sleep(0)
            ended += 1

    upstream = Slow("echo", modern=False)
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway, "2026-07-28", {"elicitation": {}}) as client:
        id = client.post("tools/call", {"name": "echo", "arguments": {}})
        await until(lambda: bool(upstream.waiting))
        client.notify("notifications/cancelled", {"requestId": id})
        await begun.wait()
    assert ended == len(upstream.links)
