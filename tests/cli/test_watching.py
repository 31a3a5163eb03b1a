"""``erlmcp top`` and ``erlmcp trace`` beside a server in a process of its own, and the form of its logs."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from erlmcp.bench.process import free_port
from erlmcp.cli import main, top, trace, watch
from erlmcp.cli.fault import CommandError

SERVER = """
import logging, time
from erlmcp import Server, ToolError
server = Server("shop\\x1b[31m")

@server.tool
async def add(a: int, b: int) -> int:
    logging.getLogger("shop").info("adding")
    return a + b

@server.tool(name="evil\\x1b[2J")
async def fails() -> str: raise ToolError("no such order")

@server.tool
def slow() -> str:
    time.sleep(0.15)
    return "x"
"""


class Shop:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.file = folder / "shop.py"
        self.file.write_text(SERVER)
        self.log = folder / "log"
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = ["serve", str(self.file), "--port", str(self.port), "--log-format", "json"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "erlmcp", *words], stderr=subprocess.PIPE, stdout=log, text=True
            )
        assert self.process.stderr is not None
        self.said: list[str] = []
        for line in self.process.stderr:
            if "serving" in line:
                return
        raise AssertionError(f"the server ended with code {self.process.wait()}")

    def stop(self) -> str:
        """What it logged."""
        self.process.terminate()
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        assert self.process.wait(30) == 0
        self.process.stderr.close()
        return said

    def call(self, tool: str, *words: str) -> None:
        main(["call", f"{self.url}/mcp", tool, *words])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"))
    yield made
    if made.process.poll() is None:
        made.stop()


@pytest.fixture
def busy(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Shop:
    shop.call("add", "a=1", "b=2")
    shop.call("evil\x1b[2J")
    shop.call("slow")
    capsys.readouterr()
    return shop


def test_top_shows_the_numbers_and_the_tools(busy: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(500):  # the last second's calls come with the next tick
        assert main(["top", busy.url, "--once", "--sort", "p99"]) == 0
        said = capsys.readouterr().out
        if re.search(r"slow .* 1[5-9]\d\.\d\d ms", said):
            break
    rows = [line.split() for line in said.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("slow", "add")] == ["slow", "add"]
    assert "live" in said
    assert "requests a second" in said
    assert "\x1b[2J" not in said
    assert "evil?[2J" in said


def test_trace_shows_what_was_kept(busy: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", busy.url, "--once", "--errors"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"tools/call evil\?\[2J  tool_error  id \S+  http 2026-07-28  \(handler", said)
    assert "\x1b[2J" not in said
    assert main(["trace", busy.url, "--once", "--slower-ms", "100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["reason"]) == ("slow", "slow")
    assert set(found["rooms"]) == {"queue", "handler", "encode"}
    assert found["us"] >= 150_000
    assert main(["trace", busy.url, "--once", "--tool", "slow"]) == 0
    assert "tools/call slow" in capsys.readouterr().out


def test_a_server_that_is_not_there_or_says_no_is_told_with_the_mend(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", f"127.0.0.1:{free_port()}"]) == 4
    assert "cannot reach" in capsys.readouterr().err
    assert main(["trace", "ftp://x"]) == 2
    assert main(["top", f"http://localhost.evil:{shop.port}", "--once"]) == 4
    capsys.readouterr()


def test_a_token_is_sent_and_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    class Connection:
        def request(self, verb: str, path: str, headers: dict[str, str]) -> None:
            asked.append(headers)

        def getresponse(self) -> Any:
            class Answer:
                status = 401

                @staticmethod
                def read(size: int) -> bytes:
                    return b"no"

            return Answer

        def close(self) -> None:
            asked.append({})

    monkeypatch.setattr(watch, "_connect", lambda url: Connection())
    options = argparse.Namespace(url="x", token="t0ken", once=True)
    with pytest.raises(CommandError, match="answered 401: no; --token"):
        next(watch.events(options, "/p", {}))
    assert asked == [{"Accept": "text/event-stream", "Authorization": "Bearer t0ken"}, {}]


def test_a_stream_is_lost_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Any] = [[("first", "7", 1)], OSError("gone"), [("tick", "", 2)]]
    ids: list[str] = []

    def read(options: Any, path: str, query: Any, last_id: str) -> Iterator[Any]:
        ids.append(last_id)
        found = reads.pop(0)
        if isinstance(found, OSError):
            raise found
        yield from found

    monkeypatch.setattr(watch, "_read", read)
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)
    heard = watch.events(argparse.Namespace(url="x", once=False), "/p", {})
    found = [next(heard) for _ in range(4)]
    assert found == [("first", 1), ("lost", 0.0), ("lost", 1.0), ("tick", 2)]
    assert ids == ["", "7", "7"]


def test_the_screen_starts_anew_with_a_new_server_and_says_that_one_is_lost() -> None:
    def row(name: str) -> dict[str, Any]:
        return {"name": name, "rate": 1.0, "calls": 2, "errors": 1, "p50": 5.0, "p95": 1500.0, "p99": 2e6, "p999": 0.0}

    numbers = {
        "erlmcp_thread_calls": 1,
        "erlmcp_thread_count_max": 2,
        "erlmcp_inflight_requests": 3,
        "erlmcp_sessions": 4,
    }
    data = {
        "facts": {"name": "n", "version": "v"},
        "span": "1m",
        "spans": {"1m": row("")},
        "numbers": numbers,
        "connections": {"http": 5},
        "tools": [row("a"), row("b")],
        "gone": [],
        "history": [[1, 5, 0, 0, 0, 0], [2, 10, 0, 0, 0, 0]],
    }
    screen = top.Screen("u", "calls")
    screen.take("first", data)
    screen.take("tick", {**data, "tools": [], "gone": ["a"]})
    assert list(screen.tools) == ["b"]
    screen.take("lost", 3.0)
    lines = screen._lines()
    assert "lost for 3 s" in lines[0]
    assert "50.00 % errors" in lines[1]
    assert "p95 1.50 ms, p99 2.00 s" in lines[1]
    assert lines[-1] == "requests  \u2584\u2588\u2584\u2588"
    screen.take("first", data)
    assert list(screen.tools) == ["a", "b"]
    assert screen.history == data["history"]
    assert top.spark([]) == ""
    assert top.spark([0, 0]) == "  "


def test_a_trace_is_let_through_where_all_options_agree() -> None:
    found = {"error": "", "name": "a", "us": 2000.0}
    options = argparse.Namespace(errors=False, tool=None, slower_ms=2.0)
    assert trace.wants(options, found)
    for name, value in (("errors", True), ("tool", "b"), ("slower_ms", 2.1)):
        assert not trace.wants(argparse.Namespace(**{**vars(options), name: value}), found)


def test_the_logs_of_a_server_are_json_with_the_request_in_each_record_of_a_handler(shop: Shop) -> None:
    shop.call("add", "a=1", "b=2")
    said = shop.stop()
    records = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    adding = [record for record in records if record["message"] == "adding"]
    assert adding
    assert all(record["logger"] == "shop" and record["level"] == "info" for record in adding)
    assert all(record.get("request") for record in adding), adding
    assert os.path.getsize(shop.log) == 0  # stdout is nobody's
