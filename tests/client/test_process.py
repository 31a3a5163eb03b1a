"""Servers that are processes: how they begin, how they end, and what they leave (nothing)."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import psutil
import pytest
from ways import RUDE, WAIT_S, connected, nothing_left, rude

from erlmcp import Client, ConnectionClosedError, ServerExitedError
from erlmcp.client.bound import ClientLimits
from erlmcp.client.process import ProcessChannel

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)

QUICK = ClientLimits(close_timeout_s=0.1, term_timeout_s=0.1)


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_a_server_that_dies_at_its_start_says_why(loop_kind: str) -> None:
    with pytest.raises(ServerExitedError, match="exited with status 3") as raised:
        await Client(rude("dies-at-start")).connect()
    assert raised.value.returncode == 3
    assert "rude: no licence found" in str(raised.value)
    assert isinstance(raised.value, ConnectionClosedError)


@pytest.mark.parametrize("manners", [("noise",), ("noise", "legacy")])
async def test_noise_is_passed_over_and_reported(manners: tuple[str, ...], loop_kind: str) -> None:
    noise: list[str] = []
    async with connected(rude(*manners), on_noise=noise.append) as client:
        assert (await client.call_tool("hello")).data == "hello"
    assert noise == ["Server listening on stdio!", "[1, 2"]


@pytest.mark.parametrize(("tool", "how"), [("die", "SIGKILL"), ("half", "status 9")])
async def test_a_death_under_a_call_fails_it_and_the_next_one_has_a_new_server(
    tool: str, how: str, loop_kind: str
) -> None:
    async with connected(rude()) as client:
        first = client.channel.pid  # type: ignore[union-attr]
        with pytest.raises(ServerExitedError, match=how):
            await client.call_tool(tool)
        assert (await client.call_tool("hello")).data == "hello"
        assert client.channel.pid != first  # type: ignore[union-attr]


async def test_an_answer_that_was_written_before_the_death_counts(loop_kind: str) -> None:
    async with connected(rude()) as client:
        assert (await client.call_tool("answer_and_die")).data == "last words"
        while client.is_connected:
            await asyncio.sleep(0)
        assert (await client.call_tool("hello")).data == "hello"


async def test_a_server_that_lives_and_is_mute_is_a_loss(monkeypatch: pytest.MonkeyPatch, loop_kind: str) -> None:
    monkeypatch.setattr("erlmcp.client.process.EXIT_WAIT_S", 0.05)
    async with connected(rude(), limits=QUICK) as client:
        with pytest.raises(ConnectionClosedError, match="closed its standard output"):
            await client.call_tool("close")
        assert (await client.call_tool("hello")).data == "hello"


async def test_a_server_that_does_not_listen_is_a_loss(monkeypatch: pytest.MonkeyPatch, loop_kind: str) -> None:
    monkeypatch.setattr("erlmcp.client.process.EXIT_WAIT_S", 0.05)
    async with connected(rude(), limits=QUICK) as client:
        assert (await client.call_tool("deaf")).data == "I hear nothing any more"
        with pytest.raises(ConnectionClosedError, match="closed its standard input"):
            await client.call_tool("hello")
        assert (await client.call_tool("hello")).data == "hello"


async def test_what_is_told_a_process_that_does_not_read_has_an_end(loop_kind: str) -> None:
    limits = ClientLimits(outbox_bytes_max=1 << 20, close_timeout_s=0.1, term_timeout_s=0.1)
    async with connected(rude(), limits=limits, reconnect=False) as client:
        await client.call_tool("slow_reader")
        while client.is_connected:
            await client.notify("notifications/whatever", {"blob": "x" * 100_000})
            await asyncio.sleep(0)
        with pytest.raises(ConnectionClosedError, match="outbox_bytes_max=1048576"):
            await client.call_tool("hello")


async def test_a_server_that_dies_before_it_has_read_everything(loop_kind: str) -> None:
    async with connected(rude()) as client:
        calls: list[Any] = [("die", {"blob": "x" * 100_000}) for _ in range(30)]
        found = await client.call_many(calls, raise_on_error=False)
        assert {type(each) for each in found} <= {ServerExitedError, ConnectionClosedError}
        assert (await client.call_tool("hello")).data == "hello"


@pytest.mark.parametrize("manners", [("hangs-on-exit",), ("ignores-term",)])
async def test_a_server_that_does_not_go_is_made_to(manners: tuple[str, ...], loop_kind: str) -> None:
    async with connected(rude(*manners), limits=QUICK) as client:
        process = psutil.Process(client.channel.pid)  # type: ignore[union-attr]
        await client.call_tool("hello")
    assert not process.is_running()


async def test_a_close_that_is_cancelled_still_ends_the_server(loop_kind: str) -> None:
    client = await Client(rude("ignores-term"), limits=ClientLimits(close_timeout_s=30)).connect()
    channel: Any = client.channel
    process = psutil.Process(channel.pid)
    closing = asyncio.create_task(channel.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    async with asyncio.timeout(WAIT_S):
        await channel._exited
    assert not process.is_running()
    await client.aclose()


async def test_what_the_server_started_ends_with_it(loop_kind: str) -> None:
    async with connected(rude("child")) as client:
        await client.call_tool("hello")
        child = psutil.Process(int(client.channel.stderr.split("child ")[1].split()[0]))  # type: ignore[union-attr]
        assert child.is_running()
    async with asyncio.timeout(WAIT_S):
        while lives(child):
            await asyncio.sleep(0)


async def test_a_server_leads_a_session_of_its_own() -> None:
    async with connected(rude()) as client:
        pid = client.channel.pid  # type: ignore[union-attr]
        assert os.getsid(pid) == os.getpgid(pid) == pid != os.getsid(0)


async def test_it_is_given_the_harmless_part_of_the_environment_and_what_its_entry_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    async with connected({**rude(), "env": {"OWN": "1"}}) as client:
        names = (await client.call_tool("environment")).data.split(",")
    assert "OWN" in names
    assert "PATH" in names
    assert "SECRET_TOKEN" not in names
    async with connected(ProcessChannel([sys.executable, RUDE], inherit_env=True)) as client:
        assert "SECRET_TOKEN" in (await client.call_tool("environment")).data


async def test_only_the_end_of_a_long_standard_error_is_kept() -> None:
    program = "import sys; sys.stderr.write('x' * 300_000 + 'the end\\n'); sys.exit(1)"
    with pytest.raises(ServerExitedError, match="the end") as raised:
        await Client([sys.executable, "-c", program]).connect()
    assert len(raised.value.stderr) == 64 * 1024


async def test_without_a_pidfd_the_death_is_known_as_well(monkeypatch: pytest.MonkeyPatch, loop_kind: str) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    async with connected(rude()) as client:
        with pytest.raises(ServerExitedError, match="SIGKILL"):
            await client.call_tool("die")
        assert (await client.call_tool("hello")).data == "hello"


async def test_more_than_the_pipe_holds_is_written_as_it_is_read(loop_kind: str) -> None:
    async with connected(rude()) as client:
        calls: list[Any] = [("hello", {"blob": "x" * 100_000}) for _ in range(30)]
        assert [result.data for result in await client.call_many(calls)] == ["hello"] * 30


async def test_a_command_line_is_split_into_words() -> None:
    import shlex

    async with connected(shlex.join([sys.executable, RUDE])) as client:
        assert (await client.call_tool("hello")).data == "hello"


async def test_an_entry_of_a_configuration_file_is_a_target() -> None:
    async with connected({"mcpServers": {"rude": rude()}}) as client:
        assert (await client.call_tool("hello")).data == "hello"
