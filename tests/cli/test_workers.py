"""Several processes behind one port: sessions that meet their worker, numbers that never go backwards, and ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mcp_types import ElicitResult

from erlmcp import Client
from erlmcp.bench.process import free_port
from erlmcp.cli.workers import LASTED_S, PAUSE_S, Supervisor, reserve

SERVER = """
import asyncio, os
from erlmcp import Context, Server

server = Server("x")

@server.tool
async def pid() -> int: return os.getpid()

@server.tool
async def waits(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()

@server.tool
async def asks(context: Context) -> str:
    return str((await context.elicit("name?", {"type": "object", "properties": {}})).action)
"""
WAIT_S = 30
COUNT = 3


class Workers:
    """A supervisor with its workers."""

    def __init__(self, file: Path, *words: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        command = [sys.executable, "-m", "erlmcp", "serve", str(file), "--port", str(self.port)]
        self.process = subprocess.Popen([*command, "--workers", str(COUNT), *words], stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        for _ in range(COUNT):
            self.wait("serving")

    def wait(self, word: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if word in line:
                return line
        raise AssertionError(f"it ended with code {self.process.wait()}: {''.join(self.said)}")

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=WAIT_S) as answer:
            return answer.read().decode()  # type: ignore[no-any-return]

    def calls(self, tool: str) -> float:
        """How many calls of a tool all workers together counted."""
        pattern = rf'^mcp_server_operation_duration_seconds_count\{{gen_ai_tool_name="{tool}".*\}} (\d+)$'
        return sum(map(float, re.findall(pattern, self.metrics(), re.MULTILINE)))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(WAIT_S)
        assert self.process.stderr is not None
        self.said += self.process.stderr.readlines()
        self.process.stderr.close()
        return code


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("workers") / "server.py"
    made.write_text(SERVER, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def workers(file: Path) -> Iterator[Workers]:
    made = Workers(file)
    yield made
    assert made.stop() == 0


async def pids(url: str, mode: str, count: int = 8, **options: Any) -> list[set[int]]:
    """The processes that answered each of several clients, which ask over many connections at once."""
    found = []
    for _ in range(count):
        async with Client(url, mode=mode, **options) as client:
            answers = await asyncio.gather(*(client.call_tool("pid") for _ in range(12)))
            found.append({answer.data for answer in answers})
    return found


async def test_requests_of_2026_07_28_go_to_any_worker(workers: Workers) -> None:
    found = await pids(workers.url, "2026-07-28")
    assert len(set().union(*found)) == COUNT


async def test_all_requests_of_a_handshake_session_meet_its_worker(workers: Workers) -> None:
    found = await pids(workers.url, "legacy")
    assert all(len(each) == 1 for each in found)
    assert len(set().union(*found)) > 1


async def test_questions_of_the_server_find_their_session_too(workers: Workers) -> None:
    async def answer(params: Any) -> ElicitResult:
        return ElicitResult(action="decline")

    for _ in range(6):
        async with Client(workers.url, mode="legacy", elicitation=answer) as client:
            answers = await asyncio.gather(*(client.call_tool("asks") for _ in range(6)))
            assert {each.data for each in answers} == {"decline"}


async def test_a_session_of_nobody_is_not_found(workers: Workers) -> None:
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    for id in ("0.x", f"{COUNT - 1}.x", "999.x", "x", ".", "1e3.x"):
        request = urllib.request.Request(
            workers.url, b'{"jsonrpc":"2.0","id":1,"method":"ping"}', {**headers, "Mcp-Session-Id": id}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.to_thread(urllib.request.urlopen, request, timeout=WAIT_S)
        assert caught.value.code == 404
        caught.value.close()


async def test_any_worker_tells_the_numbers_of_all(workers: Workers) -> None:
    before = workers.calls("pid")
    await pids(workers.url, "2026-07-28", 5)
    assert {workers.calls("pid") - before for _ in range(6)} == {60}
    gauges = re.findall(r'^process_resident_memory_bytes\{worker="(\d)"\} \d+$', workers.metrics(), re.MULTILINE)
    assert sorted(gauges) == [str(index) for index in range(COUNT)]


async def test_a_worker_that_is_killed_is_replaced_and_what_it_counted_stays(file: Path) -> None:
    workers = Workers(file, "--log-level", "warning")
    try:
        (victims,) = await pids(workers.url, "legacy", 1)
        counted = workers.calls("pid")
        assert counted == 12
        os.kill(victims.pop(), signal.SIGKILL)
        workers.wait("another starts in")
        assert workers.calls("pid") == counted
        workers.wait("serving")
        assert workers.calls("pid") == counted
        await pids(workers.url, "2026-07-28", 1)
        assert workers.calls("pid") == counted + 12
    finally:
        assert workers.stop() == 0


async def test_calls_under_way_end_before_the_workers_do(file: Path) -> None:
    workers = Workers(file)
    async with Client(workers.url, mode="2026-07-28", reconnect=False) as client:
        calls = [asyncio.ensure_future(client.call_tool("waits", {"seconds": 1})) for _ in range(6)]
        while _inflight(workers) != 6:
            await asyncio.sleep(0.02)
        assert await asyncio.to_thread(workers.stop) == 0
        assert len(await asyncio.gather(*calls)) == 6


def _inflight(workers: Workers) -> int:
    return sum(map(int, re.findall(r"^erlmcp_inflight_requests\{.*\} (\d+)$", workers.metrics(), re.MULTILINE)))


def test_workers_end_when_their_supervisor_is_killed(file: Path) -> None:
    workers = Workers(file)
    workers.process.kill()
    workers.process.wait(WAIT_S)
    assert workers.process.stderr is not None
    assert workers.process.stderr.read() is not None  # ends when the last of them has closed it
    workers.process.stderr.close()


def test_a_file_that_cannot_be_served_ends_the_supervisor(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("raise ValueError('no')\n", encoding="utf-8")
    words = [sys.executable, "-m", "erlmcp", "serve", str(file), "--port", "0", "--workers", "2"]
    found = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert found.returncode not in (0, 1)
    assert "ValueError: no" in found.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--reload"], "goes without --reload"),
        (["--unix", "/tmp/x", "--control", "auto"], "goes without --unix, --control"),
        (["--metrics-port", "0"], "goes without --metrics-port 0"),
        (["--workers", "0"], "expected 1 to"),
    ],
)
def test_what_does_not_go_with_workers_is_told(file: Path, words: list[str], said: str) -> None:
    command = [sys.executable, "-m", "erlmcp", "serve", str(file), "--workers", "2", *words]
    found = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert found.returncode == 2
    assert said in found.stderr


def test_a_port_is_reserved_for_workers_alone() -> None:
    with closing(reserve("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        reserve("127.0.0.1", taken.getsockname()[1])


def test_pauses_double_until_a_worker_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    supervisor = Supervisor([sys.executable, "-c", "raise SystemExit(7)"], 1, 1, clock=lambda: now[0])
    (child,) = supervisor.children
    Path(child.place.socket(0)).touch()  # it has served once
    pauses = []
    for _ in range(4):
        assert supervisor.look() is None
        assert child.process is not None
        child.process.wait(WAIT_S)
        if len(pauses) == 3:
            now[0] += LASTED_S
        assert supervisor.look() is None
        pauses.append(round(child.due_s - now[0], 6))
        assert supervisor.look() is None  # too early, but for the one that lasted
        now[0] = child.due_s
    assert pauses == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S, 0]
    assert "ended with code 7; another starts in 0.4 s" in capsys.readouterr().err
    supervisor._end()
    assert time.monotonic() > 0
