"""Two versions of an upstream: a share of the calls for the new one, more of them, or back to nobody."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stage import Scripted, error, until

from erlmcp import Client
from erlmcp.gateway import canary as room
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import CanaryConfig, GatewayConfig, UpstreamConfig, shown
from erlmcp.gateway.load import load
from erlmcp.gateway.problem import ConfigError

DONE = b'{"resultType":"complete","content":[]}'


def answering(text: bytes = DONE) -> Scripted:
    made = Scripted("find", "other")
    made.answers["tools/call"] = text
    return made


def on_trial(old: Scripted, new: Any, **options: Any) -> Gateway:
    canary = CanaryConfig({"kind": "server", "target": new}, **{"stage_s_min": 0.000001, **options})
    config = UpstreamConfig("a", "server", target=old, canary=canary, restart_s=0.01)
    return Gateway(GatewayConfig((config,)))


def calls(upstream: Scripted) -> int:
    return len(upstream.of("tools/call"))


async def call(client: Client, count: int, tool: str = "find") -> None:
    for _ in range(count):
        await client.call_tool(tool)


async def test_a_new_version_gets_its_share_of_the_calls(quiet: None) -> None:
    old, new = answering(), answering()
    async with Client(on_trial(old, new, shares=(0.25, 1.0))) as client:
        await call(client, 40)
        assert (calls(old), calls(new)) == (30, 10)


@pytest.mark.parametrize(
    ("options", "mode", "tool", "takes"),
    [
        ({"tools": ("find*",)}, "auto", "find", True),
        ({"tools": ("find*",)}, "auto", "other", False),
        ({"era": "modern"}, "auto", "find", True),
        ({"era": "modern"}, "legacy", "find", False),
        ({"era": "legacy"}, "legacy", "find", True),
    ],
)
async def test_only_the_calls_that_are_named_take_part(
    options: dict[str, Any], mode: str, tool: str, takes: bool, quiet: None
) -> None:
    old, new = answering(), answering()
    async with Client(on_trial(old, new, shares=(0.5, 1.0), **options), mode=mode) as client:
        await call(client, 10, tool)
        assert (calls(new) > 0) is takes


async def test_a_version_that_fails_is_taken_back_and_nobody_is_sent_there_any_more(quiet: None) -> None:
    old, new = answering(), Scripted("find")
    new.answers["tools/call"] = lambda request: error(request, -32603, "broken")
    gateway = on_trial(old, new, shares=(0.5, 1.0))
    async with Client(gateway) as client:
        for _ in range(400):
            try:
                await client.call_tool("find")
            except Exception:
                continue
            if gateway.upstreams["a"].trial.rollout.state == "back":  # type: ignore[union-attr]
                break
        assert gateway.status()[0]["canary"]["state"] == "back"
        before = calls(new)
        await call(client, 20)
        assert calls(new) == before


async def test_results_that_say_is_error_do_not_speak_against_a_version(quiet: None) -> None:
    old, new = answering(), answering(b'{"resultType":"complete","content":[],"isError":true}')
    gateway = on_trial(old, new, shares=(0.5, 1.0))
    async with Client(gateway) as client:
        for _ in range(20):
            await client.call_tool("find", raise_on_error=False)
        trial: Any = gateway.upstreams["a"].trial
        assert (trial.rollout.new.count, trial.rollout.new.error_count) == (10, 0)


async def test_a_version_that_does_not_start_is_taken_back_and_costs_nobody_a_call(quiet: None) -> None:
    old = answering()
    gateway = on_trial(old, None, shares=(0.5, 1.0))
    config = gateway.config.upstreams[0]
    canary = replace(config.canary, way={"kind": "tcp", "address": "127.0.0.1:9"})  # type: ignore[type-var]
    gateway = Gateway(GatewayConfig((replace(config, canary=canary, restart_s=60, restart_max_s=60),)))
    async with Client(gateway) as client:
        trial: Any = gateway.upstreams["a"].trial
        await until(lambda: trial.new.state == "down")
        await call(client, 150)
        assert trial.rollout.state == "back"
        assert calls(old) == 150


async def test_a_caller_stays_with_its_version(monkeypatch: pytest.MonkeyPatch, quiet: None) -> None:
    old, new = answering(), answering()
    gateway = on_trial(old, new, shares=(0.5, 1.0))
    asked: list[bytes | None] = []
    async with Client(gateway):
        trial: Any = gateway.upstreams["a"].trial
        monkeypatch.setattr(trial.rollout, "is_new", lambda key: asked.append(key) or False)
        trial.pick(Exchanged(), gateway.mounts.tables["tool"]["find"], "alice")
        trial.pick(Exchanged(), gateway.mounts.tables["tool"]["find"], "")
    assert asked == [b"alice", None]


class Exchanged:
    """As much of an exchange as decides who takes part."""

    class peer:
        modern = True


async def test_both_versions_end_with_the_gateway_and_with_a_reload(quiet: None) -> None:
    old, new = answering(), answering()
    gateway = on_trial(old, new)
    async with Client(gateway) as client:
        await call(client, 1)
        plain = replace(gateway.config.upstreams[0], canary=None)
        assert gateway.reload(GatewayConfig((plain,))) == ["a"]
        await until(lambda: new.links[0].closed and old.links[0].closed)
        await call(client, 1)
        assert gateway.upstreams["a"].trial is None


def test_a_canary_is_read_with_its_way_and_who_takes_part(tmp_path: Path) -> None:
    path = tmp_path / "erlmcp.toml"
    path.write_text(
        f'[servers.a]\ncommand = "{sys.executable}"\nenv = {{ A = "1" }}\n[servers.a.canary]\nurl = "http://h/mcp"\n'
        'headers = { T = "secret" }\ntools = ["find*"]\nera = "modern"\nshares = [0.2, 1.0]\nstage_s_min = 5\n'
    )
    (made,) = load([path], {}).upstreams
    canary: Any = made.canary
    assert (canary.tools, canary.era, canary.shares, canary.stage_s_min) == (("find*",), "modern", (0.2, 1.0), 5.0)
    new = room.replace(made, **canary.way)
    assert (new.kind, new.url, new.headers) == ("http", "http://h/mcp", {"T": "secret"})
    assert "secret" not in json.dumps(shown(made))
    assert made.kind == "stdio"


@pytest.mark.parametrize(
    ("text", "key", "wrong"),
    [
        ("tools = []", "", "neither what to start"),
        ('url = "h"', "url", "is no http"),
        ('url = "http://h/"\nera = "new"', "era", "is unknown"),
        ('url = "http://h/"\nshares = [0.5]', "shares", "cannot be"),
        ('url = "http://h/"\nshare = 1', "share", "is no key"),
    ],
)
def test_a_mistake_in_a_canary_is_told(tmp_path: Path, text: str, key: str, wrong: str) -> None:
    path = tmp_path / "erlmcp.toml"
    path.write_text(f'[servers.a]\nurl = "http://h/mcp"\n[servers.a.canary]\n{text}\n')
    with pytest.raises(ConfigError) as caught:
        load([path], {})
    problem = caught.value.problems[0]
    assert problem.key == f"servers.a.canary{'.' + key if key else ''}"
    assert wrong in problem.text
