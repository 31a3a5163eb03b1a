"""Guards before upstreams and their tools: refused calls go nowhere, and what may be repeated is."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from stage import Scripted, error, result, scripted_gateway, until

from erlmcp import Client, ConnectionClosedError, Guards, McpError
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import GatewayConfig, UpstreamConfig, shown
from erlmcp.gateway.load import load
from erlmcp.gateway.problem import ConfigError
from erlmcp.policy.breaker import BreakerRule
from erlmcp.policy.bulkhead import BulkheadRule
from erlmcp.policy.limiter import RateRule
from erlmcp.policy.retry import RetryRule

DONE = b'{"resultType":"complete","content":[]}'
FAILED = b'{"resultType":"complete","content":[],"isError":true}'


async def refusal(client: Client, tool: str) -> McpError:
    with pytest.raises(McpError) as caught:
        await client.call_tool(tool)
    return caught.value


async def test_a_breaker_opens_for_one_tool_and_not_for_its_neighbour(talk: Any) -> None:
    upstream = Scripted("bad", "good")
    broken = error({"id": 0}, -32603, "broken")

    def answer(request: dict[str, Any]) -> bytes:
        if request["params"]["name"] == "good":
            return result(request, FAILED)  # An answer, if no good one.
        return broken.replace(b'"id": 0', b'"id": %d' % request["id"])

    upstream.answers["tools/call"] = answer
    rule = BreakerRule(failures_in_row=3, open_s=60, outcomes_min=3)
    async with Client(scripted_gateway(upstream, tool_guards=Guards(breaker=rule))) as client:
        for _ in range(3):
            assert (await refusal(client, "bad")).code == -32603
        open_now = await refusal(client, "bad")
        assert (open_now.code, open_now.data["reason"]) == (-32000, "breaker_open")
        assert open_now.data["retryAfterMs"] > 0
        assert len([each for each in upstream.of("tools/call") if each["params"]["name"] == "bad"]) == 3
        for _ in range(20):
            await client.call_tool("good", raise_on_error=False)


async def test_a_rate_is_kept_for_the_upstream_as_a_whole() -> None:
    upstream = Scripted("a", "b")
    upstream.answers["tools/call"] = DONE
    gateway = scripted_gateway(upstream, guards=Guards(rate_limit=RateRule(0.01, burst=2)))
    async with Client(gateway) as client:
        await client.call_tool("a")
        await client.call_tool("b")
        found = await refusal(client, "a")
        assert found.data["reason"] == "rate_limited"
        assert len(upstream.of("tools/call")) == 2
        assert gateway.status()[0]["guards"]["a"]["rate"]["refused"] == 1


async def test_places_are_waited_for_in_line_and_given_back() -> None:
    upstream = Scripted("t")
    gateway = scripted_gateway(upstream, guards=Guards(bulkhead=BulkheadRule(1, queue_max=1, wait_s=10)))
    async with Client(gateway) as client:
        first = asyncio.create_task(client.call_tool("t"))
        await until(lambda: len(upstream.waiting) == 1)
        second = asyncio.create_task(client.call_tool("t"))
        bulkhead: Any = gateway.upstreams["a"].protection._whole.bulkhead  # type: ignore[union-attr]
        await until(lambda: bulkhead.waiting_count == 1)
        assert (await refusal(client, "t")).data["reason"] == "bulkhead_full"
        upstream.waiting[0]["link"].say(result(upstream.waiting[0], DONE))
        await first
        await until(lambda: len(upstream.waiting) == 2)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await until(lambda: bulkhead.count == 0)


async def test_a_call_of_several_guards_gives_back_what_it_got_where_one_refuses() -> None:
    upstream = Scripted("t")
    guards = {"guards": Guards(bulkhead=5), "tool_guards": Guards(bulkhead=1)}
    gateway = scripted_gateway(upstream, **guards)
    async with Client(gateway) as client:
        first = asyncio.create_task(client.call_tool("t"))
        await until(lambda: len(upstream.waiting) == 1)
        assert (await refusal(client, "t")).data["reason"] == "bulkhead_full"
        whole: Any = gateway.upstreams["a"].protection._whole
        assert whole.bulkhead.count == 1
        upstream.waiting[0]["link"].say(result(upstream.waiting[0], DONE))
        await first
        assert whole.bulkhead.count == 0


QUICK = RetryRule(attempt_max=3, backoff_s=0.001, backoff_s_max=0.002, reserve=10)


def listed(read_only: bool) -> bytes:
    tool = {"name": "t", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": read_only}}
    return json.dumps({"tools": [tool]}).encode()


@pytest.mark.parametrize(("read_only", "attempts"), [(True, 3), (False, 1)])
async def test_a_lost_call_is_made_again_only_where_that_does_no_harm(read_only: bool, attempts: int) -> None:
    upstream = Scripted()
    upstream.answers["tools/list"] = listed(read_only)
    rule = RetryRule(attempt_max=50, backoff_s=0.005, backoff_s_max=0.01, reserve=100)
    gateway = scripted_gateway(upstream, guards=Guards(retry=rule), restart_s=0.005, restart_max_s=0.01)
    async with Client(gateway) as client:
        call = asyncio.create_task(client.call_tool("t"))
        for number in range(1, attempts + 1):
            await until(lambda: len(upstream.waiting) == number)  # noqa: B023
            line: Any = gateway.upstreams["a"].quick()
            if number < 3:
                line.conversation.channel._lose(lambda: ConnectionClosedError("gone"))
            else:
                line.conversation.channel.feed(result(upstream.waiting[-1], DONE) + b"\n")
        if read_only:
            assert (await call).content == []
        else:
            with pytest.raises(McpError, match="gone"):
                await call
        assert len(upstream.waiting) == attempts


@pytest.mark.parametrize("read_only", [True, False])
async def test_what_an_upstream_refused_as_busy_is_made_again_whatever_it_is(read_only: bool) -> None:
    upstream = Scripted()
    upstream.answers["tools/list"] = listed(read_only)
    left = [2]

    def answer(request: dict[str, Any]) -> bytes:
        left[0] -= 1
        return result(request, DONE) if left[0] < 0 else error(request, -32000, "busy")

    upstream.answers["tools/call"] = answer
    async with Client(scripted_gateway(upstream, guards=Guards(retry=QUICK))) as client:
        await client.call_tool("t")
        assert len(upstream.of("tools/call")) == 3


BUSY_FOR_LONG = RetryRule(attempt_max=9, backoff_s=0.001, backoff_s_max=0.002, reserve=100)


@pytest.mark.parametrize("change", ["replaced", "renamed", "gone"])
async def test_a_call_that_is_made_again_goes_where_its_name_leads_by_then(change: str) -> None:
    """The configuration is another one before the pause has begun, and the old upstream would still answer."""
    old, new = Scripted("t"), Scripted("t" if change == "replaced" else "u")
    new.answers["tools/call"] = DONE
    rename = {"u": "a_t"} if change == "renamed" else {}

    def config_of(target: Scripted, **options: Any) -> GatewayConfig:
        made = UpstreamConfig(
            "a", "server", target=target, prefix="a_", guards=Guards(retry=BUSY_FOR_LONG), restart_s=0.01, **options
        )
        return GatewayConfig((made,))

    def answer(request: dict[str, Any]) -> bytes:
        gateway.reload(config_of(new, rename=rename))
        gateway.upstreams["a"].catalog = {"tool": [{"name": new_name, "inputSchema": {"type": "object"}}]}
        gateway.rebuild()
        return error(request, -32000, "busy")

    new_name = "t" if change == "replaced" else "u"
    old.answers["tools/call"] = answer
    gateway = Gateway(config_of(old))
    async with Client(gateway) as client:
        if change == "gone":
            with pytest.raises(McpError, match="Unknown tool: a_t"):
                await client.call_tool("a_t")
        else:
            assert (await client.call_tool("a_t")).content == []
            assert new.of("tools/call")[0]["params"]["name"] == new_name
        assert len(old.of("tools/call")) == 1


async def test_a_completion_that_is_made_again_names_what_its_upstream_knows() -> None:
    upstream, left = Scripted("t"), [2]

    def answer(request: dict[str, Any]) -> bytes:
        left[0] -= 1
        if left[0] >= 0:
            return error(request, -32000, "busy")
        return result(request, b'{"resultType":"complete","completion":{"values":["v"]}}')

    upstream.answers["completion/complete"] = answer
    made = UpstreamConfig("a", "server", target=upstream, prefix="a_", guards=Guards(retry=QUICK))
    async with Client(Gateway(GatewayConfig((made,)))) as client:
        assert (await client.complete("name", "A", prompt="a_ask")).values == ["v"]
    assert [each["params"]["ref"]["name"] for each in upstream.of("completion/complete")] == ["ask"] * 3


async def test_an_error_of_the_tools_own_is_not_made_again() -> None:
    upstream = Scripted()
    upstream.answers["tools/list"] = listed(True)
    upstream.answers["tools/call"] = lambda request: error(request, -32602, "wrong")
    async with Client(scripted_gateway(upstream, guards=Guards(retry=QUICK))) as client:
        assert (await refusal(client, "t")).message == "wrong"
        assert len(upstream.of("tools/call")) == 1


async def test_a_question_to_the_user_holds_no_place(talk: Any, everything: Any) -> None:
    upstream = Scripted("ask", modern=False)
    gateway = scripted_gateway(upstream, guards=Guards(bulkhead=1))
    async with talk(gateway, capabilities=everything) as client:
        id = client.post("tools/call", {"name": "ask"})
        await until(lambda: len(upstream.waiting) == 1)
        (request,) = upstream.waiting
        whole: Any = gateway.upstreams["a"].protection._whole
        assert whole.bulkhead.count == 1
        request["link"].say(b'{"jsonrpc":"2.0","id":1,"method":"roots/list"}')
        await client.answer(id)
        assert whole.bulkhead.count == 0


def test_guards_are_read_for_one_server_or_for_all(tmp_path: Path) -> None:
    path = tmp_path / "erlmcp.toml"
    path.write_text(
        '[gateway.tool_guards]\nbreaker = true\n[servers.a]\nurl = "http://h/mcp"\n'
        '[servers.b]\nurl = "http://i/mcp"\n'
        "[servers.b.guards]\nrate_limit = 50\nbulkhead = { count_max = 9, queue_max = 3 }\n"
        'timeout = "adaptive"\nretry = { attempt_max = 2 }\n'
        '[servers.b.tool_guards]\nrate_limit = { rate_per_s = 5, per = "caller" }\n'
    )
    a, b = load([path], {}).upstreams
    assert (a.guards, a.tool_guards) == (None, Guards(breaker=True))
    assert b.guards == Guards(
        rate_limit=50, bulkhead=BulkheadRule(9, 3), timeout="adaptive", retry=RetryRule(attempt_max=2)
    )
    assert b.tool_guards == Guards(rate_limit=RateRule(5, per="caller"))
    assert json.dumps(shown(b))


@pytest.mark.parametrize(
    ("text", "key", "wrong", "mend"),
    [
        ("braker = true", "guards.braker", "is no key", "did you mean breaker"),
        ('breaker = "yes"', "guards.breaker", "expected a BreakerRule", "true, or a table"),
        ("bulkhead = { count = 1 }", "guards.bulkhead.count", "is no key", "did you mean count_max"),
        ("retry = { attempt_max = 0 }", "guards.retry", "attempt_max is at least 1", "docs/gateway.md"),
        ("bulkhead = { count_max = [1] }", "guards.bulkhead.count_max", "is no number", "write a number"),
        ('rate_limit = { rate_per_s = 1, per = "server" }', "guards.rate_limit.per", "is unknown", "caller"),
        ("rate_limit = true", "guards.rate_limit", "expected a RateRule", "calls a second"),
    ],
)
def test_a_mistake_in_a_guard_is_told(tmp_path: Path, text: str, key: str, wrong: str, mend: str) -> None:
    path = tmp_path / "erlmcp.toml"
    path.write_text(f'[servers.a]\ncommand = "{sys.executable}"\n[servers.a.guards]\n{text}\n')
    with pytest.raises(ConfigError) as caught:
        load([path], {})
    problem = caught.value.problems[0]
    assert problem.key == f"servers.a.{key}"
    assert wrong in problem.text
    assert mend in problem.mend


async def test_flags_that_are_switched_reach_the_guards_and_the_lines_of_upstreams() -> None:
    upstream = Scripted("a")
    upstream.answers["tools/call"] = DONE
    gateway = scripted_gateway(upstream, guards=Guards(rate_limit=RateRule(0.01, burst=1)))
    async with Client(gateway) as client:
        await client.call_tool("a")
        assert (await refusal(client, "a")).data["reason"] == "rate_limited"
        gateway.set_flags(rate_limit=False, pipelining=False)
        await client.call_tool("a")
        line: Any = gateway.upstreams["a"].quick()
        assert line.conversation.channel.flags.pipelining is False


@pytest.mark.parametrize("queue_max", [0, 1])
async def test_a_call_that_is_refused_gives_back_the_line_that_it_was_lent(
    talk: Any, everything: Any, queue_max: int
) -> None:
    upstream = Scripted("t", modern=False)
    guards = Guards(bulkhead=BulkheadRule(1, queue_max=queue_max, wait_s=0.01))
    gateway = scripted_gateway(upstream, guards=guards, line_count_max=2)
    async with talk(gateway, capabilities=everything) as client:
        first = client.post("tools/call", {"name": "t"})
        await until(lambda: len(upstream.waiting) == 1)
        for _ in range(4):
            found = await client.error("tools/call", {"name": "t"})
            assert found["data"]["reason"] == "bulkhead_full"
        upstream.waiting[0]["link"].say(result(upstream.waiting[0], b'{"content":[]}'))
        await client.answer(first)
        assert not gateway.upstreams["a"]._lent


async def test_a_call_whose_meta_cannot_be_written_again_leaves_nothing_behind() -> None:
    upstream = Scripted("t")
    gateway = scripted_gateway(upstream, guards=Guards(bulkhead=1))
    meta = '{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},'
    meta += '"progressToken":1,"x/huge":1e400}'
    async with gateway.memory() as wire:
        for _ in range(2):
            text = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","_meta":' + meta + "}}"
            wire.send(text.encode() + b"\n")
            assert "error" in json.loads(await wire.receive())
        line: Any = gateway.upstreams["a"].quick()
        whole: Any = gateway.upstreams["a"].protection._whole
        assert (line.forwards, line.tokens, whole.bulkhead.count) == ({}, {}, 0)
