"""``erlmcp rollout``: of a running server by its control socket, and the demonstration."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Client
from erlmcp.cli import demo, main
from erlmcp.cli.evidence import judged, show


def test_the_demonstration_catches_the_wrong_and_the_slower_side_and_prints_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["rollout", "demo"]) == 0
    out = capsys.readouterr().out
    price, search, convert = (
        re.search(rf"^{name}: (\w+), the new side has (\d+)% .*?(?=^\S+: \w+, the new|\Z)", out, re.M | re.S)
        for name in ("price", "search", "convert")
    )
    assert price is not None
    assert price[1] == "back"
    assert re.search(r"1 of \d+ answers compared are not the old side's: price: .* instead of ", price[0])
    assert "0 answered wrongly" in price[0]
    assert search is not None
    assert search[1] == "back"
    assert re.search(r"p(50|95) is at least .* ms, on the old side at most .*: more than 5% above \(alpha", search[0])
    assert convert is not None
    assert (convert[1], convert[2]) == ("done", "100")
    assert out.rstrip().endswith("the equal one with everybody")


def test_the_demonstration_as_json_holds_the_evidence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "ACTS", demo.ACTS[:2])
    assert main(["rollout", "demo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["state"] for each in found] == ["back", "back"]
    assert [each["wrong_answers_given"] for each in found] == [0, 0]
    assert found[1]["events"][-1]["look"] >= 1
    assert found[1]["events"][-1]["alpha"] < 0.05


def test_a_demonstration_that_does_not_end_as_it_should_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "CALLS_MAX", 10)
    assert main(["rollout", "demo"]) == 1
    assert "NOT as it should be" in capsys.readouterr().out


def test_a_server_of_two_stacks_is_shown_and_moved_while_it_serves(
    serving: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "control")
    url = serving("--port", "0", "--control", path, "--dual-stack")

    def said(*words: str) -> str:
        assert main(["rollout", *words, "--control", path]) == 0
        return capsys.readouterr().out

    async def call(count: int) -> None:
        async with Client(url) as client:
            for _ in range(count):
                await client.call_tool("test_simple_text")

    asyncio.run(call(3))
    out = said("status")
    assert re.search(
        r"^stack: (shadow|running), the new side has \d+% of conversations \(10% -> 50% -> 100%\)", out, re.M
    )
    assert re.search(r"^old +\d+ +0 \(0\.00%\)", out, re.M)
    shares = [json.loads(said("advance", "stack", "--json"))[0]["share"] for _ in range(4)]
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    asyncio.run(call(2))
    assert "done, the new side has 100%" in said("status", "stack")
    assert "back to 0%: the operator, by the control socket" in said("back")
    asyncio.run(call(2))


def test_without_roll_outs_there_is_none_to_move(
    serving: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "control")
    serving("--port", "0", "--control", path)
    assert main(["rollout", "status", "--control", path]) == 0
    assert capsys.readouterr().out == "no roll-out is under way\n"
    assert main(["rollout", "back", "--control", path]) == 1
    assert "which rollout? there is none" in capsys.readouterr().err


def test_without_a_control_socket_it_says_how_to_have_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "advance"]) == 2
    assert "needs --control PATH" in capsys.readouterr().err


def test_a_bound_that_is_none_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    bound = {"new_ns": [0.0, None], "old_ns": [1000.0, 2_000_000.0]}
    found: dict[str, Any] = {"look": 1, "alpha": 0.01, "error_chance": 1.0, "error_difference_max": 0.1}
    assert judged({}) == ["not judged yet"]
    assert judged({**found, "p50": bound, "p95": bound})[1] == "p50: new from 0 ns, old 1 µs to 2 ms"
    side = {"calls": 0, "errors": 0, "error_rate": 0.0, "p50_ns": 0.0, "p95_ns": 0.0}
    status = {
        "name": "n",
        "state": "running",
        "conversations": False,
        "tools": ["a", "b"],
        "share": 0.1,
        "shares": [1.0],
    }
    show(
        {**status, "old": side, "new": side, "compared": 0, "wrong": 0, "copies_refused": 0, "judged": {}, "events": []}
    )
    assert "calls of a, b" in capsys.readouterr().out
