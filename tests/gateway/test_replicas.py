"""Several replicas of an upstream, and upstreams beside each other: who gets a call, who is left out, who waits."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stage import Scripted, error, gateway_http, result, scripted_gateway, server_http, until

from erlmcp import Client, ConnectionClosedError, Context, McpError, Server
from erlmcp.gateway import replicas as replicas_room
from erlmcp.gateway import upstream as room
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import GatewayConfig, UpstreamConfig
from erlmcp.gateway.load import load
from erlmcp.gateway.problem import ConfigError
from erlmcp.policy.balance import BalanceRule

DONE = b'{"resultType":"complete","content":[]}'


def ended(request: dict[str, Any], text: bytes = DONE) -> None:
    request["link"].say(result(request, text))


def who(name: str) -> Server:
    """A server that says who it is; ``hold`` waits for ``let_go``."""
    server = Server(name)
    let_go = asyncio.Event()

    @server.tool
    async def who(ctx: Context, hold: bool = False) -> str:
        if hold:
            await let_go.wait()
        return ctx.server.name

    server.let_go = let_go  # type: ignore[attr-defined]
    return server


async def test_calls_go_to_the_replica_with_the_fewest_under_way(talk: Any) -> None:
    upstream = Scripted("t")
    async with talk(scripted_gateway(upstream, instances=3)) as client:
        ids = [client.post("tools/call", {"name": "t"}) for _ in range(9)]
        await until(lambda: len(upstream.waiting) == 9)
        counts = [sum(each["link"] is link for each in upstream.waiting) for link in upstream.links]
        assert counts == [3, 3, 3]
        for request in upstream.waiting:
            ended(request)
        for id in ids:
            await client.answer(id)


async def test_a_replica_that_fails_fast_gets_few_calls_is_ejected_and_comes_back(
    talk: Any, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of the balance, which goes on where the test says so; a failure costs more than any call took."""
    now_ns = time.monotonic_ns()
    monkeypatch.setattr(replicas_room, "time", SimpleNamespace(monotonic_ns=lambda: now_ns))
    upstream = Scripted("t")
    rule = BalanceRule(failure_max=3, eject_s=5, eject_s_max=5, decay_s=1, failure_s=3600)
    gateway = scripted_gateway(upstream, instances=2, balance=rule)
    is_bad = True

    def answer(request: dict[str, Any]) -> bytes:
        if is_bad and request["link"] is upstream.links[0]:
            return error(request, -32603, "the disk is gone")
        return result(request, DONE)

    async with talk(gateway) as client:
        ids = [client.post("tools/call", {"name": "t"}) for _ in range(8)]
        await until(lambda: len(upstream.waiting) == 8)
        for request in upstream.waiting:
            request["link"].say(answer(request))
        found = [await client.answer(id) for id in ids]
        assert sum("error" in each for each in found) == 4
        replicas = gateway.status()[0]["replicas"]
        assert [each["ejected"] for each in replicas] == [True, False]
        assert [each["up"] for each in replicas] == [True, True]
        assert replicas[0]["latency_ms"] > replicas[1]["latency_ms"]
        is_bad = False
        upstream.waiting.clear()

        async def called() -> int:
            """The replica that gets the next call."""
            id = client.post("tools/call", {"name": "t"})
            await until(lambda: len(upstream.waiting) == 1)
            request = upstream.waiting.pop()
            ended(request)
            await client.answer(id)
            return upstream.links.index(request["link"])

        assert {await called() for _ in range(20)} == {1}
        now_ns += 5_000_000_000
        assert not gateway.status()[0]["replicas"][0]["ejected"]
        assert {await called() for _ in range(20)} == {1}  # it may be asked, and what it cost is not forgotten yet
        now_ns += 60_000_000_000
        assert {await called() for _ in range(2)} == {0, 1}


async def test_a_session_with_a_line_of_its_own_stays_with_one_replica(talk: Any) -> None:
    servers = [who(f"r{number}") for number in range(3)]
    async with server_http(servers[0]) as a, server_http(servers[1]) as b, server_http(servers[2]) as c:
        urls = tuple(f"http://127.0.0.1:{each.port}/mcp" for each in (a, b, c))
        options = {"urls": urls, "instances": 3, "mode": "legacy", "session": "own"}
        gateway = Gateway(GatewayConfig((UpstreamConfig("r", "http", url=urls[0], **options),)))
        async with gateway.running():
            upstream = gateway.upstreams["r"]
            homes = []
            for _ in range(3):
                async with talk(gateway, "2025-11-25") as client:
                    found = {await client.text("who") for _ in range(4)}
                    assert len(found) == 1
                    homes += found
                    session = client.wire._link.session
                    line: Any = upstream.line_of(session)
                    await line.aclose()  # It is lost; the next one leads to the same replica.
                    assert {await client.text("who") for _ in range(2)} == found
                    assert upstream.line_of(session) is not line
            assert sorted(homes) == ["r0", "r1", "r2"]
            assert not upstream.replicas._homes  # type: ignore[union-attr]


async def test_a_round_of_a_call_goes_to_the_replica_that_asked(talk: Any) -> None:
    upstream = Scripted("t")
    question = b'{"resultType":"input_required","inputRequests":{},"requestState":"sealed-%d"}'
    async with talk(scripted_gateway(upstream, instances=3)) as client:
        given = {}
        for number in range(3):
            id = client.post("tools/call", {"name": "t"})
            await until(lambda: len(upstream.waiting) == 1)
            request = upstream.waiting.pop()
            given[f"sealed-{number}"] = request["link"]
            ended(request, question % number)
            assert (await client.answer(id))["result"]["requestState"] == f"sealed-{number}"
        for state, link in given.items():
            ids = [client.post("tools/call", {"name": "t", "requestState": state}) for _ in range(4)]
            await until(lambda: len(upstream.waiting) == 4)
            assert all(each["link"] is link for each in upstream.waiting)
            for request in upstream.waiting:
                ended(request)
            upstream.waiting.clear()
            for id in ids:
                await client.answer(id)


async def test_a_server_that_takes_no_connections_is_down_after_a_few_calls(quiet: None) -> None:
    async with server_http(who("only")) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        gateway = Gateway(GatewayConfig((UpstreamConfig("r", "http", url=url, restart_s=60, restart_max_s=60),)))
        client = Client(gateway)
        await client.connect()
        assert (await client.call_tool("who")).data == "only"
    line: Any = gateway.upstreams["r"].quick()
    pool = line.conversation.channel.pool
    await until(lambda: not pool.stats()["count"])
    said = []
    for _ in range(6):
        with pytest.raises(McpError) as caught:
            await client.call_tool("who")
        said.append(caught.value.message)
        await until(lambda: len(said) < room.UNREACHED_COUNT_MAX or gateway.status()[0]["state"] == "down")
    assert all(each.startswith("r: cannot reach") for each in said[: room.UNREACHED_COUNT_MAX])
    assert all(each.startswith("r is down: cannot reach") for each in said[room.UNREACHED_COUNT_MAX :])
    assert pool.stats()["failed_total"] == room.UNREACHED_COUNT_MAX
    await client.aclose()


async def test_an_answer_in_between_says_that_a_server_is_there(quiet: None) -> None:
    async with server_http(who("only")) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        gateway = Gateway(GatewayConfig((UpstreamConfig("r", "http", url=url),)))
        async with Client(gateway) as client:
            upstream = gateway.upstreams["r"]
            line: Any = upstream.quick()
            for _ in range(3):
                for _ in range(room.UNREACHED_COUNT_MAX - 1):
                    upstream.unreached(line, ConnectionClosedError("refused"))
                await client.call_tool("who")
            assert not line.gone.done()
            for _ in range(room.UNREACHED_COUNT_MAX):
                upstream.unreached(line, ConnectionClosedError("refused"))
            assert line.gone.result() == "refused"
            await until(lambda: upstream.quick() not in (None, line))


async def test_calls_that_wait_for_a_start_are_limited_and_go_on_a_few_at_a_time(talk: Any) -> None:
    slow, other = Scripted("t"), Scripted("t")
    started = slow.answers.pop("server/discover")
    gateway = scripted_gateway(slow, other, start_queue_max=40, config={"start_timeout_s": 0.02})
    async with talk(gateway) as client:
        gateway.upstreams["a"].catalog["tool"] = [{"name": "t", "inputSchema": {}}]
        gateway.rebuild()
        ids = [client.post("tools/call", {"name": "a_t"}) for _ in range(41)]
        refused = await client.answer(ids.pop())
        assert "start_queue_max=40" in refused["error"]["message"]
        steps = []
        await until(lambda: len(slow.waiting) == 1)
        slow.answers["server/discover"] = started
        ended(slow.waiting.pop(), started)
        async with asyncio.timeout(10):
            while len(slow.waiting) < 40:
                before = len(slow.waiting)
                await asyncio.sleep(0)
                steps.append(len(slow.waiting) - before)
        assert max(steps) <= room.RELEASE_COUNT
        for request in slow.waiting:
            ended(request)
        for id in ids:
            await client.answer(id)


async def test_a_call_that_is_cancelled_while_it_waits_for_a_start_leaves_its_place(talk: Any) -> None:
    slow = Scripted("t")
    started = slow.answers.pop("server/discover")
    gateway = scripted_gateway(slow, start_queue_max=1, config={"start_timeout_s": 0.02})
    async with talk(gateway) as client:
        gateway.upstreams["a"].catalog["tool"] = [{"name": "t", "inputSchema": {}}]
        gateway.rebuild()
        first = client.post("tools/call", {"name": "t"})
        await until(lambda: len(slow.waiting) == 1)
        client.notify("notifications/cancelled", {"requestId": first})
        await until(lambda: not gateway.upstreams["a"]._waiters)
        second = client.post("tools/call", {"name": "t"})
        await client.settle()
        ended(slow.waiting.pop(), started)
        await until(lambda: len(slow.waiting) == 1)
        ended(slow.waiting.pop())
        assert "result" in await client.answer(second)


async def test_a_slow_upstream_takes_neither_the_time_nor_the_places_of_others(talk: Any) -> None:
    slow, other = Scripted("t"), Scripted("t")
    limits = {"total_inflight_count_min": 8, "total_inflight_count_max": 8}
    gateway = scripted_gateway(slow, other, config={"limits": limits})
    async with talk(gateway) as client:
        ids = [client.post("tools/call", {"name": "a_t"}) for _ in range(20)]
        for id in ids[6:]:
            fault = (await client.answer(id))["error"]
            assert fault["message"] == "Server busy: a has its share of total_inflight_count_max=8 in flight"
            assert fault["data"]["retryAfterMs"] > 0
        assert len(slow.waiting) == 6
        others = [client.post("tools/call", {"name": "b_t"}) for _ in range(2)]
        await until(lambda: len(other.waiting) == 2)
        for request in other.waiting:
            ended(request)
        assert [("result" in await client.answer(id)) for id in others] == [True, True]
        for request in slow.waiting:
            ended(request)
        for id in ids[:6]:
            assert "result" in await client.answer(id)


async def test_one_upstream_alone_may_have_all_places(talk: Any) -> None:
    upstream = Scripted("t")
    limits = {"total_inflight_count_min": 8, "total_inflight_count_max": 8}
    async with talk(scripted_gateway(upstream, config={"limits": limits})) as client:
        ids = [client.post("tools/call", {"name": "t"}) for _ in range(9)]
        await until(lambda: len(upstream.waiting) == 8)
        assert "error" in await client.answer(ids.pop())
        for request in upstream.waiting:
            ended(request)
        for id in ids:
            assert "result" in await client.answer(id)


@pytest.mark.parametrize(
    ("line", "key", "text"),
    [
        ("balance = { eject_s = 9, eject_s_max = 3 }", "balance", "eject_s_max is the largest wait"),
        ("balance = { failure_max = 0 }", "balance.failure_max", "is 0"),
        ('balance = { eject_s = "soon" }', "balance.eject_s", "is a text"),
        ("balance = { patience = 1 }", "balance.patience", "no key that is known here"),
        ("balance = 3", "balance", "is a number"),
        ("start_queue_max = 0", "start_queue_max", "is 0"),
    ],
)
def test_a_mistake_in_how_calls_are_shared_is_told(tmp_path: Path, line: str, key: str, text: str) -> None:
    file = tmp_path / "erlmcp.toml"
    file.write_text(f'[servers.r]\nurls = ["http://127.0.0.1:1/mcp", "http://127.0.0.1:2/mcp"]\n{line}\n')
    with pytest.raises(ConfigError) as caught:
        load([file], {})
    (problem,) = caught.value.problems
    assert (problem.key, text in problem.text, problem.line) == (f"servers.r.{key}", True, 3), problem


def test_a_rule_of_sharing_is_read(tmp_path: Path) -> None:
    file = tmp_path / "erlmcp.toml"
    file.write_text('[servers.r]\nurl = "http://127.0.0.1:1/mcp"\ninstances = 2\nbalance = { eject_s = 3.5 }\n')
    assert load([file], {}).upstreams[0].balance == BalanceRule(eject_s=3.5)


async def test_a_probe_of_health_waits_behind_no_call(talk: Any) -> None:
    upstream = Scripted("t")
    gateway = scripted_gateway(upstream, health_s=0.01)
    async with talk(gateway) as client:
        gateway.set_flags(pipelining=False)  # One at a time on its line.
        ids = [client.post("tools/call", {"name": "t"}) for _ in range(3)]
        await until(lambda: len(upstream.of("server/discover")) >= 4)
        assert (len(upstream.waiting), len(upstream.links)) == (1, 1)
        for id in ids:
            await until(lambda: len(upstream.waiting) == 1)
            ended(upstream.waiting.pop())
            await client.answer(id)


async def test_a_probe_of_health_waits_for_no_connection_that_calls_have(quiet: None) -> None:
    server = who("only")
    async with server_http(server) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        gateway = Gateway(GatewayConfig((UpstreamConfig("r", "http", url=url, health_s=0.01),)))
        async with gateway_http(gateway, port=0) as front, Client(f"http://127.0.0.1:{front.port}/mcp") as client:
            line: Any = gateway.upstreams["r"].quick()
            object.__setattr__(line.conversation.channel.pool.limits, "connection_count_max", 2)
            line.conversation.channel.pool.size.count_max = 2
            held = [asyncio.create_task(client.call_tool("who", {"hold": True})) for _ in range(4)]
            await until(lambda: len(server.executor.running) >= 2)
            probes: list[Any] = []
            ask = line.conversation.ask

            async def noted(*words: Any, **options: Any) -> Any:
                found = await ask(*words, **options)
                probes.append(found)
                return found

            line.conversation.ask = noted
            await until(lambda: len(probes) >= 3)
            assert gateway.upstreams["r"].quick() is line
            server.let_go.set()  # type: ignore[attr-defined]
            assert {(await each).data for each in held} == {"only"}
