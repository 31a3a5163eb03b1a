"""Configurations that cannot be: they are named, and change nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stage import Scripted, scripted_gateway

from erlmcp.gateway.config import KeyConfig
from erlmcp.gateway.load import load
from erlmcp.gateway.problem import ConfigError
from erlmcp.gateway.reload import Watcher
from erlmcp.policy.breaker import BreakerRule
from erlmcp.policy.protection import Guards


@pytest.mark.parametrize(
    "guards",
    [
        {"breaker": {"probe_max": 0}},
        {"breaker": {"window_s": "long"}},
        {"breaker": {"window_s": 1e30}},
        {"bulkhead": {"count_max": 1e30}},
        {"rate_limit": 1e400},
    ],
)
def test_guards_that_cannot_be_made_are_a_mistake_of_their_file(tmp_path: Path, guards: dict[str, Any]) -> None:
    text = json.dumps({"mcpServers": {"a": {"url": "http://127.0.0.1:1/mcp", "guards": guards}}})
    (tmp_path / "mcp.json").write_text(text.replace("Infinity", "1e400"))
    with pytest.raises(ConfigError, match=r"mcp.json:1: mcpServers.a.guards"):
        load([tmp_path / "mcp.json"], {})


async def test_a_configuration_that_cannot_be_made_changes_nothing() -> None:
    gateway = scripted_gateway(Scripted("echo"))
    async with gateway.running():
        before = gateway.config, gateway.access, dict(gateway.upstreams)
        (upstream,) = gateway.config.upstreams
        broken = replace(upstream, guards=Guards(breaker=BreakerRule(probe_max=0)))
        keys = (KeyConfig("alice", hashlib.sha256(b"k").digest()),)
        with pytest.raises(ValueError, match="probe_max"):
            gateway.reload(replace(gateway.config, upstreams=(broken,), keys=keys))
        assert (gateway.config, gateway.access, dict(gateway.upstreams)) == before


async def test_a_configuration_is_reloaded_though_the_audit_log_cannot_be_opened_anew(
    tmp_path: Path, quiet: None
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    gateway = scripted_gateway(Scripted("echo"), config={"audit": str(folder / "audit")})
    async with gateway.running():
        folder.rename(tmp_path / "moved")
        watcher = Watcher(lambda: replace(gateway.config, instructions="new"))
        watcher.start(gateway)
        watcher.reload()
        watcher.stop()
        assert gateway.instructions == "new"
