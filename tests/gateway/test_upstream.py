"""Upstreams: started side by side, watched, restarted, and never in each other's way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stage import Scripted, build_shop, error, result, scripted_gateway, shop_config, until

from erlmcp import Client, Context, McpError, Server
from erlmcp.gateway import upstream as room
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import GatewayConfig, UpstreamConfig
from erlmcp.server.serve import http as server_http

RUDE = str(Path(__file__).parents[1] / "client/rude.py")
QUICK: dict[str, Any] = {"restart_s": 0.01, "restart_max_s": 0.05}


def gateway_of(*upstreams: UpstreamConfig, **options: Any) -> Gateway:
    return Gateway(GatewayConfig(tuple(upstreams), **options))


def rude(name: str, *manners: str, **options: Any) -> UpstreamConfig:
    return UpstreamConfig(name, "stdio", command=(sys.executable, RUDE, *manners), prefix=f"{name}_", **options)


def pid_of(gateway: Gateway, name: str) -> int:
    line: Any = gateway.upstreams[name].quick()
    found: int = line.conversation.channel.pid
    return found


async def test_one_that_does_not_start_is_told_and_harms_nobody(quiet: None) -> None:
    gateway = gateway_of(
        rude("broken", "dies-at-start"),
        UpstreamConfig("gone", "tcp", address="127.0.0.1:9", prefix="gone_"),
        UpstreamConfig("shop", "server", target=build_shop(), prefix="shop_"),
    )
    async with Client(gateway) as client:
        assert (await client.call_tool("shop_echo", {"text": "here"})).data == "here"
        broken, gone, shop = gateway.status()
        assert (broken["state"], gone["state"], shop["state"]) == ("down", "down", "up")
        assert "no licence found" in broken["why"]
        assert "nothing listens there" in gone["why"]
        assert broken["next_try"] > broken["since"]
        assert shop["version"] == "2026-07-28"
        assert [shop["tool"], shop["prompt"], shop["resource"], shop["template"]] == [14, 1, 1, 1]
        assert all(tool.name.startswith("shop_") for tool in await client.list_tools())


async def test_calls_to_one_that_went_down_are_told_why_and_when_it_is_tried_again(quiet: None) -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream, restart_s=60, restart_max_s=60)
    async with Client(gateway) as client:
        assert len(await client.list_tools()) == 1
        line: Any = gateway.upstreams["a"].quick()
        call = asyncio.create_task(client.call_tool("echo"))
        await until(lambda: len(upstream.waiting) == 1)
        line.conversation.channel._lose(lambda: room_closed("the plug was pulled"))
        with pytest.raises(McpError, match=r"a: the plug was pulled") as cut:
            await call
        assert cut.value.code == -32000
        await until(lambda: gateway.upstreams["a"].state == "down")
        with pytest.raises(McpError, match=r"a is down: the plug was pulled; the next try is in [\d.]+ s"):
            await client.call_tool("echo")
        assert len(await client.list_tools()) == 1  # It is expected back.


def room_closed(text: str) -> Any:
    from erlmcp import ConnectionClosedError

    return ConnectionClosedError(text)


async def test_a_program_that_is_killed_comes_back_and_the_others_never_notice() -> None:
    gateway = gateway_of(
        shop_config(prefix="a_", **QUICK), UpstreamConfig("b", "server", target=build_shop(), prefix="b_")
    )
    async with Client(gateway) as client:
        for _ in range(2):
            before, line = pid_of(gateway, "shop"), gateway.upstreams["shop"].quick()
            os.kill(before, signal.SIGKILL)
            await until(lambda: gateway.upstreams["shop"].quick() is not line)  # noqa: B023
            assert (await client.call_tool("b_echo", {"text": "still"})).data == "still"
            await until(lambda: gateway.upstreams["shop"].quick() not in (None, line))  # noqa: B023
            assert pid_of(gateway, "shop") != before
            assert (await client.call_tool("a_echo", {"text": "again"})).data == "again"
        assert gateway.upstreams["shop"].start_count == 3


async def test_the_wait_before_another_try_doubles_up_to_its_limit(
    monkeypatch: pytest.MonkeyPatch, quiet: None
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    class Clock:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def sleep(self, wait_s: float) -> None:
            waits.append(wait_s)
            await sleep(0)

    monkeypatch.setattr(room, "asyncio", Clock())
    monkeypatch.setattr(room.random, "uniform", lambda low, high: 1.0)
    gateway = gateway_of(UpstreamConfig("a", "unix", address="/no/such/socket", restart_s=1, restart_max_s=6))
    async with gateway.running():
        await until(lambda: len(waits) >= 5)
    assert waits[:5] == [1, 2, 4, 6, 6]


async def test_one_that_is_silent_keeps_the_gateway_no_longer_than_its_deadline(quiet: None) -> None:
    silent = Scripted("echo")
    del silent.answers["server/discover"], silent.answers["initialize"]
    config = UpstreamConfig("silent", "server", target=silent, start_timeout_s=0.05)
    gateway = gateway_of(config, UpstreamConfig("shop", "server", target=build_shop()))
    async with Client(gateway) as client:
        assert (await client.call_tool("echo", {"text": "x"})).data == "x"
        assert gateway.status()[0]["state"] == "down"
        assert "start_timeout_s=0.05" in gateway.status()[0]["why"]


async def test_a_lazy_one_starts_when_it_is_asked_for() -> None:
    for ask in ("list", "call", "legacy list"):
        gateway = gateway_of(UpstreamConfig("shop", "server", target=build_shop(), lazy=True))
        async with Client(gateway, mode="legacy" if ask.startswith("legacy") else "auto") as client:
            assert gateway.status()[0]["state"] == "idle"
            if ask == "call":
                gateway.upstreams["shop"].start()
                await until(lambda: gateway.upstreams["shop"].state == "up")  # noqa: B023
                assert (await client.call_tool("echo", {"text": "up"})).data == "up"
            else:
                assert "echo" in [tool.name for tool in await client.list_tools()]
            assert gateway.status()[0]["state"] == "up"


async def test_one_that_answers_no_probe_is_replaced(monkeypatch: pytest.MonkeyPatch, quiet: None) -> None:
    monkeypatch.setattr(room, "PROBE_S", 0.01)
    upstream = Scripted("echo", modern=False)
    gateway = scripted_gateway(upstream, health_s=0.01, **QUICK)
    async with gateway.running():
        await until(lambda: len(upstream.of("ping")) >= 3)
        assert (gateway.upstreams["a"].start_count, len(upstream.links)) == (1, 1)
        pong = upstream.answers.pop("ping")
        await until(lambda: gateway.upstreams["a"].state == "down" or len(upstream.links) > 1)
        upstream.answers["ping"] = pong
        await until(lambda: gateway.upstreams["a"].state == "up" and len(upstream.links) > 1)
        assert upstream.links[0].closed


async def test_calls_are_a_probe_too() -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream, health_s=0.02)
    upstream.answers["tools/call"] = b'{"resultType":"complete","content":[]}'
    async with Client(gateway) as client:
        probes = len(upstream.of("server/discover"))
        for _ in range(20):
            await client.call_tool("echo")
            await asyncio.sleep(0.005)
        assert len(upstream.of("server/discover")) - probes <= 2


async def test_calls_go_to_the_instance_that_has_the_fewest() -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream, instances=3)
    async with Client(gateway) as client:
        assert len(upstream.links) == 3
        calls = [asyncio.create_task(client.call_tool("echo")) for _ in range(6)]
        await until(lambda: len(upstream.waiting) == 6)
        assert sorted(upstream.links.index(request["link"]) for request in upstream.waiting) == [0, 0, 1, 1, 2, 2]
        for request in upstream.waiting:
            request["link"].say(result(request, b'{"resultType":"complete","content":[]}'))
        await asyncio.gather(*calls)


async def test_the_loss_of_one_instance_leaves_the_upstream_up() -> None:
    upstream = Scripted("echo")
    upstream.answers["tools/call"] = b'{"resultType":"complete","content":[]}'
    gateway = scripted_gateway(upstream, instances=2, restart_s=60, restart_max_s=60)
    async with Client(gateway) as client:
        line: Any = gateway.upstreams["a"].quick()
        line.conversation.channel._lose(lambda: room_closed("gone"))
        await until(lambda: gateway.upstreams["a"].quick() is not line)
        assert gateway.upstreams["a"].state == "up"
        await client.call_tool("echo")


async def test_a_session_that_can_be_asked_has_a_line_of_its_own_until_its_end(talk: Any, everything: Any) -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = b'{"content":[]}'
    gateway = scripted_gateway(upstream)
    async with gateway.running():
        async with talk(gateway, "2025-11-25", everything) as asked, talk(gateway, "2025-11-25") as plain:
            for client in (asked, plain, asked, plain):
                await client.call("echo")
            assert len(upstream.links) == 2
            hello = upstream.of("initialize")
            assert [each["params"]["capabilities"] for each in hello] == [{}, everything]
            assert hello[1]["params"]["clientInfo"] == {"name": "test", "version": "1"}
            assert not upstream.links[1].closed
        await until(lambda: upstream.links[1].closed)
        assert not upstream.links[0].closed


@pytest.mark.parametrize(("session", "links"), [("own", 3), ("shared", 1), ("auto", 1)])
async def test_whether_sessions_share_a_line_can_be_said(talk: Any, session: str, links: int) -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = b'{"content":[]}'
    gateway = scripted_gateway(upstream, session=session)
    async with gateway.running(), talk(gateway, "2025-11-25") as one, talk(gateway, "2025-11-25") as two:
        await one.call("echo")
        await two.call("echo")
        assert len(upstream.links) == links


async def test_a_level_of_logs_gives_a_session_a_line_of_its_own_that_is_told_the_level(talk: Any) -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = b'{"content":[]}'
    async with talk(scripted_gateway(upstream), "2025-11-25") as client:
        await client.result("logging/setLevel", {"level": "error"})
        await client.call("echo")
        await client.result("logging/setLevel", {"level": "debug"})
        assert [each["params"]["level"] for each in upstream.of("logging/setLevel")] == ["error", "debug"]


async def test_a_line_that_was_lent_to_a_call_rests_for_the_next_of_its_kind(
    talk: Any, everything: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = b'{"content":[]}'
    gateway = scripted_gateway(upstream)
    monkeypatch.setattr(room, "REST_S", 0.02)
    async with talk(gateway, capabilities=everything) as client:
        await client.call("echo")
        await client.call("echo")
        assert len(upstream.links) == 2  # The shared one, and that.
        await until(lambda: upstream.links[1].closed)
        await client.call("echo")
        assert len(upstream.links) == 3


async def test_no_more_lines_than_the_limit_are_opened(talk: Any, everything: Any) -> None:
    upstream = Scripted("echo", modern=False)
    gateway = scripted_gateway(upstream, line_count_max=2)
    async with talk(gateway, capabilities=everything) as client:
        ids = [client.post("tools/call", {"name": "echo"}) for _ in range(2)]
        await until(lambda: len(upstream.waiting) == 2)
        busy = await client.error("tools/call", {"name": "echo"})
        assert (busy["code"], "line_count_max=2" in busy["message"]) == (-32000, True)
        for request in upstream.waiting:
            request["link"].say(result(request, b'{"content":[]}'))
        for id in ids:
            await client.answer(id)


async def test_roots_that_changed_are_told_to_the_sessions_own_line(talk: Any, everything: Any) -> None:
    upstream = Scripted("echo", modern=False)
    upstream.answers["tools/call"] = b'{"content":[]}'
    async with talk(scripted_gateway(upstream), "2025-11-25", everything) as client:
        await client.call("echo")
        client.notify("notifications/roots/list_changed")
        await until(lambda: b"roots/list_changed" in upstream.seen[-1])


@pytest.mark.parametrize("up", ["legacy", "modern"])
@pytest.mark.parametrize("down", ["legacy", "modern"])
async def test_everything_goes_through_to_a_program(through: Any, down: str, up: str) -> None:
    logs: list[Any] = []
    steps: list[Any] = []
    handlers: dict[str, Any] = {"elicitation": lambda params: {"count": 2}, "roots": ["file:///r"]}
    async with through(down, up, "stdio", "http", on_log=logs.append, **handlers) as setting:
        client = setting.client
        await client.call_tool("shop_steps", {"count": 2}, on_progress=lambda *each: steps.append(each))
        await until(lambda: len(steps) == 2 and len(logs) == 1)
        assert (await client.call_tool("shop_order", {"item": "figs"})).data == "2 figs"
        assert (await client.call_tool("shop_places")).data == ["file:///r"]
        assert (await client.get_prompt("shop_greet", {"name": "Ada"})).messages


async def test_a_server_that_ends_at_a_question_it_does_not_know_is_started_once_more() -> None:
    script = (
        "import json,sys\nfor line in sys.stdin:\n  r=json.loads(line)\n"
        "  if r['method']=='server/discover': sys.exit(1)\n"
        "  v={'protocolVersion':'2025-06-18','capabilities':{},'serverInfo':{'name':'x','version':'1'}}\n"
        "  if 'id' in r: print(json.dumps({'jsonrpc':'2.0','id':r['id'],'result':v}),flush=True)\n"
    )
    gateway = gateway_of(UpstreamConfig("old", "stdio", command=(sys.executable, "-c", script)))
    async with gateway.running():
        assert gateway.status()[0]["state"] == "up"
        assert gateway.status()[0]["version"] == "2025-06-18"


async def test_a_list_that_an_upstream_refuses_is_empty() -> None:
    upstream = Scripted("echo")
    upstream.answers["resources/templates/list"] = lambda request: error(request, -32601, "what?")
    async with Client(scripted_gateway(upstream)) as client:
        assert await client.list_resource_templates() == []
        assert len(await client.list_resources()) == 1
        assert len(await client.list_tools()) == 1


async def test_a_line_that_lasted_is_opened_again_at_once() -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream, restart_s=0.001, restart_max_s=0.001)
    began = time.monotonic()
    async with gateway.running():
        line: Any = gateway.upstreams["a"].quick()
        await until(lambda: time.monotonic() - began > 0.001)
        gateway.upstreams["a"].config = replace(gateway.upstreams["a"].config, restart_s=60)
        line.conversation.channel._lose(lambda: room_closed("gone"))
        await until(lambda: gateway.upstreams["a"].quick() not in (None, line))


async def test_replicas_share_the_calls_and_one_that_is_gone_is_left_out(quiet: None) -> None:
    servers = [Server(f"r{number}") for number in range(2)]
    for server in servers:

        @server.tool
        async def who(ctx: Context, wait: bool = False) -> str:
            if wait:
                await asyncio.get_running_loop().create_future()
            return ctx.server.name

    async with server_http(servers[0]) as kept:
        async with server_http(servers[1]) as lost:
            urls = tuple(f"http://127.0.0.1:{each.port}/mcp" for each in (kept, lost))
            options = {"restart_s": 0.01, "health_s": 0.02, "instances": 2}
            gateway = gateway_of(UpstreamConfig("r", "http", url=urls[0], urls=urls, **options))
            client = Client(gateway)
            await client.connect()
            held = [asyncio.create_task(client.call_tool("who", {"wait": True})) for _ in range(2)]
            await until(lambda: all(server.executor.running for server in servers))
            assert gateway.status()[0]["inflight"] == 2
        upstream = gateway.upstreams["r"]
        await until(lambda: sum(line is not None for line in upstream._main) == 1)
        assert upstream.state == "up"
        assert [(await client.call_tool("who")).data for _ in range(3)] == ["r0"] * 3
        for each in held:
            each.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await client.aclose()


async def test_a_gateway_that_stops_while_an_upstream_is_read_closes_it() -> None:
    upstream = Scripted("echo")
    del upstream.answers["tools/list"]
    gateway = scripted_gateway(upstream, config={"start_timeout_s": 0.02})
    async with gateway.running():
        assert not upstream.links[0].closed
    assert upstream.links[0].closed


async def test_no_message_holds_a_secret_of_the_upstream(caplog: pytest.LogCaptureFixture) -> None:
    secret = "hunter2hunter2"
    script = f"import os,sys; sys.stderr.write('bad key ' + os.environ['KEY'] + ' {secret}'); sys.exit(2)"
    program = UpstreamConfig(
        "p",
        "stdio",
        command=(sys.executable, "-c", script, "--api-key", secret, f"--token={secret}"),
        env={"KEY": secret},
    )
    web = UpstreamConfig("w", "http", url=f"http://127.0.0.1:9/mcp?key={secret}", headers={"A": f"Bearer {secret}"})
    gateway = gateway_of(program, web)
    with caplog.at_level("DEBUG"):
        async with Client(gateway):
            assert [each["state"] for each in gateway.status()] == ["down", "down"]
            told = json.dumps(gateway.status())
            for upstream in gateway.upstreams.values():
                told += str(upstream.is_down())
    assert "bad key ***" in told
    assert secret not in told
    assert secret not in caplog.text


async def test_a_call_that_fails_tells_its_client_no_secret() -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream, env={"KEY": "hunter2hunter2"}, restart_s=60, restart_max_s=60)
    async with Client(gateway) as client:
        call = asyncio.create_task(client.call_tool("echo"))
        await until(lambda: len(upstream.waiting) == 1)
        line: Any = gateway.upstreams["a"].quick()
        line.conversation.channel._lose(lambda: room_closed("died with hunter2hunter2"))
        with pytest.raises(McpError, match=r"a: died with \*\*\*"):
            await call


async def test_a_line_that_cannot_be_opened_is_told_without_secrets(talk: Any, everything: Any) -> None:
    secret = "hunter2hunter2"
    script = (
        "import json,sys\nif len(open(sys.argv[1]).read()): sys.exit(sys.argv[2])\nopen(sys.argv[1],'w').write('x')\n"
        "for line in sys.stdin:\n  r=json.loads(line)\n"
        "  v={'protocolVersion':'2025-06-18','capabilities':{'tools':{}},'serverInfo':{'name':'x','version':'1'}}\n"
        "  v['tools']=[{'name':'t','inputSchema':{'type':'object'}}]\n"
        "  if 'id' in r: print(json.dumps({'jsonrpc':'2.0','id':r['id'],'result':v}),flush=True)\n"
    )
    with tempfile.NamedTemporaryFile() as mark:
        command = (sys.executable, "-c", script, mark.name, f"--token={secret}")
        gateway = gateway_of(UpstreamConfig("once", "stdio", command=command, mode="legacy"))
        async with talk(gateway, capabilities=everything) as client:
            found = await client.error("tools/call", {"name": "t"})
    assert found["code"] == -32000
    assert found["message"].startswith("once: ")
    assert "***" in found["message"]
    assert secret not in found["message"]
