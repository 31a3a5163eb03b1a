"""``erlmcp bench accel``: every server is measured, and the file holds what was found."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from erlmcp.bench import accel

pytestmark = pytest.mark.filterwarnings("ignore")


def test_all_three_of_a_package_are_measured_in_each_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if missing := [name for name in ("uvloop", "uvicorn", "httptools") if find_spec(name) is None]:
        pytest.skip(f"the stock servers need {', '.join(missing)}, of the extra bench")
    file = tmp_path / "accel.json"
    words = ["--only", "mcp", "--connections", "4", "--inflight", "4", "--seconds", "0.2", "--rounds", "1"]
    assert accel.main([*words, "--calls", "20", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    for tool in ("echo", "tells"):  # plain, and one that takes the Context
        assert f"{tool} over HTTP, 2026-07-28, 4 connections" in said
        assert f"{tool} over HTTP, 2025-11-25 with sessions, 4 connections" in said
        assert f"{tool} over stdio, 2026-07-28, 4 in flight" in said
        assert f"{tool} in process, one at a time" in said
    found = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert {row["server"] for row in found} == {"mcp", "mcp l1", "mcp l3"}
    assert all(row["rate"] > 0 for row in found if "rate" in row)
    assert all(row["cpu_us"] > 0 for row in found if "cpu_us" in row)


def test_with_auth_the_servers_ask_for_a_token_that_the_load_brings(capsys: pytest.CaptureFixture[str]) -> None:
    if missing := [name for name in ("uvloop", "uvicorn", "httptools") if find_spec(name) is None]:
        pytest.skip(f"the stock servers need {', '.join(missing)}, of the extra bench")
    words = ["--auth", "--only", "mcp", "--connections", "2", "--seconds", "0.1", "--rounds", "1"]
    assert accel.main(words) == 0
    said = capsys.readouterr().out
    assert "echo over HTTP, 2026-07-28 with a bearer token, 2 connections" in said
    assert "stdio" not in said
    assert accel.TOKEN not in os.environ


def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accel.importlib.util, "find_spec", lambda name: None)
    assert accel.main(["--only", "fastmcp"]) == 2
    assert "fastmcp is not installed" in capsys.readouterr().err
