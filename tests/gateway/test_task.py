"""Tasks: what is asked of one goes to the upstream that has it, for who made it, and for nobody else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from stage import Scripted, error, gateway_http, posted, result, scripted_gateway, until

from erlmcp import Guards
from erlmcp.gateway import task as room
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import CanaryConfig, GatewayConfig, KeyConfig, UpstreamConfig
from erlmcp.policy.retry import RetryRule

KEYS = tuple(KeyConfig(name, hashlib.sha256(name.encode() * 5).digest()) for name in ("alice", "bobby"))
LEGACY, MODERN = "2025-11-25", "2026-07-28"


def with_tasks(id: str, *, modern: bool, name: str = "t") -> Scripted:
    """An upstream whose tool makes a task of this id."""
    upstream = Scripted(name, modern=modern)
    fields = b'"taskId":"%b","status":"working","createdAt":"2026-11-28T08:00:00Z","x":1.50' % id.encode()
    if modern:
        offered = b'"capabilities":{"tools":{},"extensions":{"%b":{}}}' % room.EXTENSION.encode()
        upstream.answers["server/discover"] = (
            b'{"resultType":"complete","supportedVersions":["2026-07-28"],%b}' % offered
        )
        upstream.answers["tools/call"] = b'{"resultType":"task",%b}' % fields
        upstream.answers["tasks/get"] = b'{"resultType":"complete",%b}' % fields
        upstream.answers["tasks/update"] = upstream.answers["tasks/cancel"] = b'{"resultType":"complete"}'
    else:
        offered = b'"capabilities":{"tools":{},"tasks":{"cancel":{},"list":{},"requests":{"tools":{"call":{}}}}}'
        upstream.answers["initialize"] = (
            b'{"protocolVersion":"2025-11-25","serverInfo":{"name":"s","version":"1"},%b}' % offered
        )
        upstream.answers["tools/call"] = b'{"task":{%b}}' % fields
        upstream.answers["tasks/get"] = upstream.answers["tasks/cancel"] = b"{%b}" % fields
        upstream.answers["tasks/result"] = b'{"content":[{"type":"text","text":"%b"}]}' % id.encode()
    return upstream


@pytest.mark.parametrize("modern", [False, True])
async def test_what_is_asked_of_a_task_goes_to_who_has_it_as_it_is(talk: Any, modern: bool) -> None:
    first, second = with_tasks("one", modern=modern), with_tasks("two", modern=modern)
    async with talk(scripted_gateway(first, second), MODERN if modern else LEGACY) as client:
        for name, id in (("a_t", "one"), ("b_t", "two")):
            params = {"name": name} if modern else {"name": name, "task": {"ttl": 60000}}
            made = await client.result("tools/call", params)
            assert (made if modern else made["task"])["taskId"] == id
        for method in ("tasks/get", "tasks/update" if modern else "tasks/result", "tasks/cancel"):
            for upstream, id in ((first, "one"), (second, "two")):
                found = await client.ask(method, {"taskId": id, "more": [1.50]})
                assert found["result"] == json.loads(upstream.answers[method])
                sent = upstream.of(method)[-1]["params"]
                assert (sent["taskId"], sent["more"]) == (id, [1.5])
    assert len(first.of("tasks/get")) == len(second.of("tasks/get")) == 1
    if not modern:
        assert first.of("tools/call")[0]["params"]["task"] == {"ttl": 60000}


async def test_tasks_are_offered_where_an_upstream_has_them(talk: Any) -> None:
    old, new, none = with_tasks("one", modern=False), with_tasks("two", modern=True), Scripted("t")
    gateway = scripted_gateway(old, new)
    async with gateway.running(), talk(gateway, LEGACY) as client, talk(gateway) as modern:
        assert client.hello["capabilities"]["tasks"] == {"cancel": {}, "requests": {"tools": {"call": {}}}}
        found = (await modern.result("server/discover"))["capabilities"]
        assert found["extensions"] == {room.EXTENSION: {}}
        assert "tasks" not in found
    gateway = scripted_gateway(old)
    async with gateway.running(), talk(gateway, "2025-06-18") as client, talk(gateway) as modern:
        assert "tasks" not in client.hello["capabilities"]
        assert "extensions" not in (await modern.result("server/discover"))["capabilities"]
    async with talk(scripted_gateway(none), LEGACY) as client:
        assert "tasks" not in client.hello["capabilities"]


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_task_that_nobody_made_here_is_unknown(talk: Any, version: str) -> None:
    upstream = with_tasks("one", modern=version == MODERN)
    gateway = scripted_gateway(upstream)
    async with talk(gateway, version) as client:
        for params in ({"taskId": "one"}, {}, {"taskId": 7}):
            assert (await client.error("tasks/get", params))["code"] == -32602
        await client.result("tools/call", {"name": "t"})
        assert "taskId" in await client.result("tasks/get", {"taskId": "one"})
    assert len(upstream.of("tasks/get")) == 1
    assert len(gateway.service.tasks) == 0


async def test_a_task_is_its_callers_alone() -> None:
    upstream = with_tasks("secret", modern=True)
    gateway = scripted_gateway(upstream, config={"keys": KEYS, "anonymous": True})
    async with gateway_http(gateway, port=0) as front:
        heads: list[dict[str, str]] = [{"X-API-Key": "alice" * 5}, {"X-API-Key": "bobby" * 5}, {}]

        async def ask(who: int, method: str, params: dict[str, Any], name: str) -> Any:
            return await posted(front.port, method, params, name, heads[who])

        await ask(0, "tools/call", {"name": "t"}, "t")
        task = {"taskId": "secret"}
        assert (await ask(0, "tasks/get", task, "secret"))["result"]["taskId"] == "secret"
        for who in (1, 2):
            found = await ask(who, "tasks/get", task, "secret")
            assert (found["error"]["code"], found["error"]["message"]) == (-32602, "Unknown task: secret")
        assert (await ask(0, "tasks/get", task, "another"))["error"]["code"] == -32020  # the header says otherwise
    assert len(upstream.of("tasks/get")) == 1


async def test_a_task_of_one_of_several_replicas_is_asked_there_and_again(talk: Any) -> None:
    upstream = with_tasks("one", modern=True)
    del upstream.answers["tools/call"], upstream.answers["tasks/get"]
    rule = RetryRule(attempt_max=3, backoff_s=0.001, backoff_s_max=0.002, reserve=20)
    async with talk(scripted_gateway(upstream, instances=3, guards=Guards(retry=rule))) as client:
        homes = {}
        for number in range(3):
            id = client.post("tools/call", {"name": "t"})
            await until(lambda: len(upstream.waiting) == 1)
            request = upstream.waiting.pop()
            homes[f"t{number}"] = request["link"]
            request["link"].say(result(request, b'{"resultType":"task","taskId":"t%d","status":"working"}' % number))
            await client.answer(id)
        for name, link in homes.items():
            for _ in range(3):
                id = client.post("tasks/get", {"taskId": name})
                for is_last in (False, True):
                    await until(lambda: len(upstream.waiting) == 1)
                    request = upstream.waiting.pop()
                    assert request["link"] is link
                    answer = result(request, b'{"resultType":"complete"}')
                    link.say(answer if is_last else error(request, -32000, "busy"))
                assert "result" in await client.answer(id)


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_tasks_go_through_two_gateways_over_http(talk: Any, version: str) -> None:
    """The inner one checks that Mcp-Name is the id."""
    inner = scripted_gateway(with_tasks("one", modern=version == MODERN))
    async with gateway_http(inner, port=0) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        mode = "legacy" if version == LEGACY else MODERN
        outer = Gateway(GatewayConfig((UpstreamConfig("i", "http", url=url, mode=mode),)))
        async with talk(outer, version) as client:
            await client.result("tools/call", {"name": "t"})
            for method in ("tasks/get", "tasks/cancel"):
                assert "error" not in await client.ask(method, {"taskId": "one"})
            assert (await client.error("tasks/get", {"taskId": "none"}))["message"] == "Unknown task: none"


async def test_a_task_is_asked_for_after_its_upstream_was_configured_anew(talk: Any) -> None:
    upstream = with_tasks("one", modern=True)
    gateway = scripted_gateway(upstream)
    async with talk(gateway) as client:
        await client.result("tools/call", {"name": "t"})
        (config,) = gateway.config.upstreams
        gateway.reload(replace(gateway.config, upstreams=(replace(config, timeout_s=5.0),)))
        await until(lambda: gateway.upstreams["a"].state == "up")
        assert (await client.result("tasks/get", {"taskId": "one"}))["taskId"] == "one"
        assert len(upstream.links) == 2
        gateway.reload(replace(gateway.config, upstreams=()))
        assert (await client.error("tasks/get", {"taskId": "one"}))["message"] == "Unknown task: one"


async def test_a_task_of_a_version_on_trial_is_asked_there(talk: Any) -> None:
    old, new = with_tasks("one", modern=True), with_tasks("two", modern=True)
    canary = CanaryConfig({"kind": "server", "target": new}, shares=(1.0,))
    gateway = scripted_gateway(old, canary=canary)
    async with talk(gateway) as client:
        trial: Any = gateway.upstreams["a"].trial
        await until(lambda: trial.new.state == "up")
        assert (await client.result("tools/call", {"name": "t"}))["taskId"] == "two"
        assert (await client.result("tasks/get", {"taskId": "two"}))["taskId"] == "two"
        assert (len(old.of("tasks/get")), len(new.of("tasks/get"))) == (0, 1)


async def test_how_a_task_is_getting_on_is_told_to_the_session_that_made_it(talk: Any) -> None:
    upstream = with_tasks("one", modern=False)
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway, LEGACY) as other:
        note = {"taskId": "one", "status": "completed"}
        message = json.dumps({"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": note}).encode()
        async with talk(gateway, LEGACY) as client:
            await client.result("tools/call", {"name": "t", "task": {}})
            upstream.links[0].say(message)
            await client.settle()
            assert [each["params"] for each in client.notes if "method" in each] == [note]
        upstream.links[0].say(message)
        await other.settle()
        assert not other.notes
        assert "taskId" in await other.result("tasks/get", {"taskId": "one"})  # Nobody has a credential here.


async def test_of_too_many_tasks_the_oldest_is_forgotten(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TASK_COUNT_MAX", 2)
    upstream = with_tasks("one", modern=False)
    gateway = scripted_gateway(upstream)
    async with talk(gateway, LEGACY) as client:
        for id in ("one", "two", "three"):
            upstream.answers["tools/call"] = b'{"task":{"taskId":"%b","status":"working"}}' % id.encode()
            await client.result("tools/call", {"name": "t", "task": {}})
        assert len(gateway.service.tasks) == 2
        assert (await client.error("tasks/get", {"taskId": "one"}))["message"] == "Unknown task: one"
        await client.result("tasks/get", {"taskId": "three"})
