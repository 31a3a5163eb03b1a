"""Limits and flags: defaults, environment, arguments, and what is refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from pathlib import Path

import pytest

from erlmcp import ConfigurationError, Flags, Limits, Server
from erlmcp.flags import PHASE_OF, parse_changes, text_of, trace

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


# -- where a flag has its value from ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["erlmcp.toml", "pyproject.toml"])
def test_a_file_stands_above_the_defaults_and_below_the_environment_and_the_arguments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    table = "tool.erlmcp.flags" if name == "pyproject.toml" else "flags"
    file.write_text(f"[{table}]\nphase = 3\nzero_copy = true\nhttp2 = false\nkeepalive = false\n")
    monkeypatch.setenv("ERLMCP_CONFIG", str(file))
    monkeypatch.setenv("ERLMCP_FLAGS", "+http2,-pooling")
    found = trace(keepalive=True, pipelining=None)
    seen = {row["name"]: (row["value"], row["origin"]) for row in found.table()}
    assert seen["native_json"] == (False, "file")
    assert seen["zero_copy"] == (True, "file")
    assert seen["http2"] == (True, "environment")
    assert seen["pooling"] == (False, "environment")
    assert seen["keepalive"] == (True, "argument")
    assert seen["pipelining"] == (True, "file")
    monkeypatch.setenv("ERLMCP_PHASE", "baseline")
    seen = {row["name"]: (row["value"], row["origin"]) for row in trace().table()}
    assert seen["zero_copy"] == (False, "environment")
    monkeypatch.delenv("ERLMCP_CONFIG")
    monkeypatch.delenv("ERLMCP_PHASE")
    monkeypatch.delenv("ERLMCP_FLAGS")
    assert {row["origin"] for row in trace().table()} == {"default"}


def test_a_file_that_was_written_anew_is_read_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "erlmcp.toml"
    monkeypatch.setenv("ERLMCP_CONFIG", str(file))
    file.write_text("[flags]\nbatching = false\n")
    assert Flags.load().batching is False
    file.write_text("[flags]\nbatching = true \n")
    assert Flags.load().batching is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[flags]\nspeed = true", "unknown flag 'speed'"),
        ("[flags]\nbatching = 1", "batching is on or off"),
        ("[flags]\nphase = 9", "phase='9' is unknown"),
        ("flags = 3", r"\[flags\] is to be a table"),
        ("[flags", "erlmcp.toml"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "erlmcp.toml"
    file.write_text(text)
    monkeypatch.setenv("ERLMCP_CONFIG", str(file))
    with pytest.raises(ConfigurationError, match=said) as refused:
        Flags.load()
    assert str(file) in str(refused.value)


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_a_file_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("ERLMCP_CONFIG", str(tmp_path / name))
    with pytest.raises(ConfigurationError, match="ERLMCP_CONFIG="):
        Flags.load()


def test_changes_are_read_as_the_environment_has_them() -> None:
    assert parse_changes("-batching,+caching,") == {"batching": False, "caching": True}
    with pytest.raises(ConfigurationError, match="--set: 'batching' is unknown"):
        parse_changes("batching", "--set")


def test_each_flag_has_a_sentence_of_its_own() -> None:
    texts = [text_of(name) for name in PHASE_OF]
    assert all(len(text) > 20 and text.endswith(".") for text in texts), texts
    assert len(set(texts)) == len(texts)
    assert text_of("no_flag") == ""


# -- flags changed at run time ---------------------------------------------------------------------------------------


def test_flags_are_set_by_name_or_as_a_record_and_say_that_they_were() -> None:
    server = Server("s", flags=Flags(caching=False))
    assert server.set_flags(batching=False, zero_copy=None) == Flags(caching=False, batching=False)
    server.flags = Flags(batching=False, zero_copy=False)
    seen = {row["name"]: (row["value"], row["origin"]) for row in server.flag_table}
    assert seen["caching"] == (True, "run time")
    assert seen["zero_copy"] == (False, "run time")
    assert seen["http2"] == (True, "argument")
    with pytest.raises(ConfigurationError, match="unknown flag 'speed'"):
        server.set_flags(speed=True)
    with pytest.raises(ConfigurationError, match="on or off"):
        server.set_flags(batching="no")  # type: ignore[arg-type]
    assert server.flags == Flags(batching=False, zero_copy=False)


@pytest.mark.parametrize("flag", sorted(PHASE_OF))
def test_a_flag_switched_at_run_time_loses_no_call(flag: str) -> None:
    """Calls before, at and after the switch are answered as ever, the one that was in flight, too."""

    async def talk() -> None:
        server = Server("s", flags=Flags())
        gate = asyncio.Event()

        @server.tool
        async def wait(text: str) -> dict[str, str]:
            await gate.wait()
            return {"said": text}

        @server.tool
        async def echo(text: str) -> dict[str, str]:
            return {"said": text}

        async with server.memory() as wire:
            for value in (False, True, False):
                wire.send(call_of(1, "wait", text="one"))
                wire.send(call_of(2, "echo", text="two"))
                server.set_flags(**{flag: value})
                wire.send(call_of(3, "echo", text="three"))
                gate.set()
                found = [json.loads(await wire.receive()) for _ in range(3)]
                said = {message["id"]: message["result"]["structuredContent"]["said"] for message in found}
                assert said == {1: "one", 2: "two", 3: "three"}
                gate.clear()

    asyncio.run(talk())


def test_async_execution_switched_at_run_time_counts_from_the_next_call() -> None:
    async def talk() -> list[bool]:
        server = Server("s", flags=Flags())
        inline: list[bool] = []
        reading = False

        @server.tool
        async def echo(text: str) -> str:
            inline.append(reading)
            return text

        async with server.memory() as wire:
            for value in (True, False, True):
                server.set_flags(async_execution=value)
                reading = True
                wire.send(call_of(1, "echo", text="x"))
                reading = False
                await wire.receive()
        return inline

    assert asyncio.run(talk()) == [True, False, True]


def test_native_json_switched_at_run_time_counts_from_the_next_call_of_an_open_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ujson

    read: list[bytes] = []
    loads = ujson.loads
    monkeypatch.setattr(ujson, "loads", lambda data: read.append(data) or loads(data))

    async def talk() -> list[int]:
        server = Server("s", flags=Flags())
        counts = []

        @server.tool
        async def echo(text: str) -> str:
            return text

        async with server.memory() as wire:
            for value in (True, False, True):
                server.set_flags(native_json=value)
                wire.send(call_of(1, "echo", text="x"))
                await wire.receive()
                counts.append(len(read))
        return counts

    assert asyncio.run(talk()) == [0, 1, 1]


def test_batching_switched_at_run_time_counts_from_the_next_connection() -> None:
    async def talk() -> list[int]:
        server = Server("s", flags=Flags())

        @server.tool
        async def echo(text: str) -> str:
            return text

        async with server.running():
            writes: list[list[bytes]] = [[], []]
            before = server.link(writes[0].append)
            server.set_flags(batching=False)
            after = server.link(writes[1].append)
            for link in (before, after):
                link.feed(call_of(1, "echo", text="x") + call_of(2, "echo", text="y"))
                link.close()
        return [len(each) for each in writes]

    assert asyncio.run(talk()) == [1, 2]


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
