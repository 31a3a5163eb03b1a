"""``erlmcp bench metrics``: both servers answer, and what it prints has all that it promises."""

from __future__ import annotations

import json
import os

import pytest

from erlmcp.bench import metrics


def test_both_servers_are_measured_by_turns_and_the_cpus_are_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = os.sched_getaffinity(0)
    assert metrics.main(["--rounds", "2", "--seconds", "0.2", "--only", "http", "--json"]) == 0
    assert os.sched_getaffinity(0) == before
    found = json.loads(capsys.readouterr().out)
    (row,) = found["rows"]
    assert row["row"] == "http, 64 connections"
    assert min(row["rate_off"], row["rate_on"], row["cpu_ns_off"], row["cpu_ns_on"]) > 0
    assert found["record_ns"] > 0


def test_the_table_names_each_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "rate_off": 2e5,
        "rate_on": 1.98e5,
        "rate_change": -0.01,
        "rate_noise": 0.002,
        "cpu_noise": -0.004,
        "cpu_ns_off": 5000.0,
        "cpu_ns_on": 5050.0,
    }
    monkeypatch.setattr(
        metrics,
        "compare",
        lambda kind, rounds, seconds: {**row, "row": kind, "cpu_change": 0.01 if kind == "http" else None},
    )
    monkeypatch.setattr(metrics, "record_ns", lambda: 4.0)
    assert metrics.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "one record from C: 4.0 ns"
    assert lines[-2].split() == [
        "http",
        "200,000",
        "198,000",
        "-1.0%",
        "+0.2%",
        "5,000",
        "ns",
        "5,050",
        "ns",
        "+1.0%",
        "-0.4%",
    ]
    assert lines[-1].split()[-2:] == ["-", "-0.4%"]


def test_a_process_that_is_not_there_has_used_nothing() -> None:
    assert metrics.cpu_ns(0) == 0
