"""Limits and flags: defaults, environment, arguments, and what is refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields

import pytest

from erlmcp import ConfigurationError, Flags, Limits, Server
from erlmcp.flags import PHASE_OF

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


def test_an_argument_beats_the_environment_and_the_environment_beats_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Limits.load().depth_max == Limits().depth_max
    monkeypatch.setenv("ERLMCP_DEPTH_MAX", "17")
    monkeypatch.setenv("ERLMCP_HEAD_TIMEOUT_S", "0.5")
    assert (Limits.load().depth_max, Limits.load().head_timeout_s) == (17, 0.5)
    assert Limits.load(depth_max=9, body_bytes_max=None).depth_max == 9


@pytest.mark.parametrize("text", ["many", "0", "-3", "1.5"])
def test_a_limit_in_the_environment_that_is_no_positive_whole_number_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("ERLMCP_DEPTH_MAX", text)
    with pytest.raises(ConfigurationError, match=r"(?i)depth_max"):
        Limits.load()


def test_a_limit_that_does_not_exist_is_refused_with_the_names_of_those_that_do() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown limit 'depth'.*depth_max"):
        Limits.load(depth=3)


def test_a_phase_switches_on_its_flags_and_those_of_the_phases_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(PHASE_OF) == {field.name for field in fields(Flags)}
    monkeypatch.setenv("ERLMCP_PHASE", "baseline")
    assert Flags.load() == Flags(**dict.fromkeys(PHASE_OF, False))
    monkeypatch.setenv("ERLMCP_PHASE", "3")
    assert (Flags.load().async_execution, Flags.load().native_json) == (True, False)
    monkeypatch.setenv("ERLMCP_FLAGS", "+native_json,-async_execution")
    assert (Flags.load().async_execution, Flags.load().native_json) == (False, True)
    assert Flags.load(native_json=False, zero_copy=None).native_json is False


@pytest.mark.parametrize(
    ("name", "text"),
    [("ERLMCP_PHASE", "6"), ("ERLMCP_PHASE", ""), ("ERLMCP_FLAGS", "native_json"), ("ERLMCP_FLAGS", "+x")],
)
def test_a_flag_or_phase_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigurationError, match=name):
        Flags.load()
    monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match="unknown flag"):
        Flags.load(speed=True)


def call_of(number: int, name: str, **arguments: object) -> bytes:
    params = {"name": name, "arguments": arguments, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode() + b"\n"


@pytest.mark.parametrize("flag", sorted(PHASE_OF))
def test_switching_a_flag_off_changes_the_way_and_not_the_answer(flag: str) -> None:
    async def answers(flags: Flags) -> tuple[list[object], list[bool]]:
        server = Server("flags", flags=flags)
        inline: list[bool] = []
        reading = False

        @server.tool
        async def echo(text: str, count: int = 1) -> dict[str, list[str]]:
            inline.append(reading)
            return {"said": [text] * count}

        async with server.memory() as wire:
            reading = True
            wire.send(call_of(1, "echo", text='h\u00e9"\n\u2603', count=2) + call_of(2, "echo", text=3))
            reading = False
            found = [json.loads(await wire.receive()) for _ in range(2)]
        return sorted(found, key=lambda message: message["id"]), inline

    on, inline_on = asyncio.run(answers(Flags()))
    off, inline_off = asyncio.run(answers(Flags(**{flag: False})))
    assert on == off
    assert inline_on == [True]
    assert inline_off == [flag != "async_execution"]
