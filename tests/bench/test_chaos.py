"""``erlmcp bench chaos``: it breaks what it says, counts what comes of it, and fails where a mark is missed."""

from __future__ import annotations

import argparse
import io
import json
import socket
from pathlib import Path

import pytest

from erlmcp.bench import chaos, process
from erlmcp.bench.chaos import Upstream, fault_names
from erlmcp.bench.mark import BARE, CALM, FAULTS, Mark, Row, interval, marks, tail_mark, times

RUNS = (CALM, FAULTS, BARE)


def row(run: str, tool: str, goodput: float, p99_us: float, *, sent: int = 100_000, unanswered: int = 0) -> Row:
    return Row(
        run,
        tool,
        is_healthy=tool == "echo",
        offered=1000.0,
        goodput=goodput,
        p50_us=100.0,
        p99_us=p99_us,
        sent=sent,
        right=sent - unanswered,
        refused=0,
        failed=0,
        unanswered=unanswered,
        unsent=0,
        rss_peak_mb=40.0,
        p99s_us=[p99_us],
    )


def verdicts(rows: list[Row]) -> list[bool]:
    return [mark.is_met for mark in marks(rows)]


def test_three_runs_measure_every_tool_and_the_faults_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    words = ["--seconds", "1.5", "--rounds", "1", "--share", "0.05", "--timeout-s", "20", "--json", str(file)]
    code = chaos.main(words)
    shown = capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found["kind"] == "chaos"
    assert found["killed"] > 0
    rows = {(each["run"], each["tool"]): each for each in found["rows"]}
    assert list(rows) == [(run, tool.name) for run in RUNS for tool in chaos.TOOLS]
    assert all(each["sent"] > 0 and each["rss_peak_mb"] > 0 for each in rows.values())
    assert all(rows[run, tool]["right"] > 0 for run in RUNS for tool in ("echo", "digest", "flaky", "large"))
    assert all(not each["failed"] and not each["unanswered"] for key, each in rows.items() if key[0] == CALM)
    assert 0.15 < rows[FAULTS, "flaky"]["failed"] / rows[FAULTS, "flaky"]["sent"] < 0.25
    assert rows[FAULTS, "upstream"]["right"] < rows[CALM, "upstream"]["right"]
    assert all(not rows[FAULTS, tool.name]["unanswered"] for tool in chaos.TOOLS)
    assert code == (0 if all(mark["is_met"] for mark in found["marks"]) else 1)
    for said in ("fault-free, echo", "faults, upstream *", "unprotected, digest", "verdict", "threads killed"):
        assert said in shown


def test_each_mark_has_its_verdict() -> None:
    good = [row(CALM, "echo", 1000, 1000), row(FAULTS, "echo", 900, 1100), row(BARE, "echo", 500, 9000)]
    assert [mark.name for mark in marks(good)] == [
        "goodput of echo",
        "p99 of echo",
        "answered calls",
        "unprotected, a healthy tool suffers",
    ]
    assert verdicts(good) == [True, True, True, True]
    assert verdicts([good[0], row(FAULTS, "echo", 899, 1100), good[2]]) == [False, True, True, True]
    assert verdicts([good[0], row(FAULTS, "echo", 900, 1101), good[2]]) == [True, False, True, True]
    assert verdicts([good[0], row(FAULTS, "echo", 900, 1100, unanswered=11), good[2]]) == [True, True, False, True]
    assert verdicts([good[0], good[1], row(BARE, "echo", 990, 1000)]) == [True, True, True, False]
    assert verdicts([good[0], good[1], row(BARE, "echo", 990, 2000)]) == [True, True, True, True]


def test_calls_of_faulty_tools_count_among_the_answered_and_not_among_the_healthy() -> None:
    rows = [row(run, tool, 1000, 1000) for run in RUNS for tool in ("echo", "flaky")]
    assert {mark.name for mark in marks(rows)} == {
        "goodput of echo",
        "p99 of echo",
        "answered calls",
        "unprotected, a healthy tool suffers",
    }
    rows[3] = row(FAULTS, "flaky", 100, 90_000, unanswered=21)
    assert next(mark for mark in marks(rows) if mark.name == "answered calls").found == "99.9895% of 200,000"


def test_tails_are_compared_round_by_round() -> None:
    assert times([10.0, 300.0, 22.0], [10.0, 100.0, 20.0]) == pytest.approx(1.1)


@pytest.mark.parametrize(("count", "place"), [(1, 0), (2, 0), (4, 0), (5, 0), (7, 0), (8, 1), (12, 2), (24, 7)])
def test_the_interval_of_a_median_misses_it_at_most_once_in_ten(count: int, place: int) -> None:
    assert interval([float(one) for one in reversed(range(count))]) == (place, count - 1 - place)


@pytest.mark.parametrize(
    ("ratio", "spread", "verdict"),
    [(1.0, 0.0, "met"), (1.05, 0.02, "met"), (1.05, 0.2, "undecided"), (1.2, 0.2, "undecided"), (1.2, 0.02, "missed")],
)
def test_a_mark_within_the_interval_of_a_tail_is_neither_met_nor_missed(
    ratio: float, spread: float, verdict: str
) -> None:
    some = [1000 * (ratio + spread * (turn % 2 - 0.5) * 2) for turn in range(12)]
    mark = tail_mark("echo", some, [1000.0] * 12)
    assert mark.verdict == verdict
    assert mark.is_met is (verdict == "met")


def test_a_stalled_upstream_says_nothing_and_drops_whoever_waits_when_it_ends() -> None:
    upstream = Upstream()
    try:
        with socket.create_connection(("127.0.0.1", upstream.port), 10) as made:
            made.sendall(b"hello\n")
            assert made.recv(100) == b"hello\n"
        upstream.stall(True)
        with socket.create_connection(("127.0.0.1", upstream.port), 10) as made:
            made.sendall(b"hello\n")
            made.settimeout(0.05)
            with pytest.raises(TimeoutError):
                made.recv(100)
            upstream.stall(False)
            made.settimeout(10)
            with pytest.raises(ConnectionResetError):
                made.recv(100)
    finally:
        upstream.close()


def test_the_verdicts_stand_below_the_table() -> None:
    out = io.StringIO()
    chaos.report([row(CALM, "echo", 1000, 2000)], [Mark("p99 of echo", "<= 110%", "150.0%", False)], out)
    lines = [line.split() for line in out.getvalue().splitlines()]
    cells = "fault-free, echo 1,000 1,000 0.100 2.00 100.000% 0 0 0 0 40.0"
    assert cells.split() in lines
    assert ["p99", "of", "echo", "<=", "110%", "150.0%", "missed"] in lines


def test_a_mark_that_is_missed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(CALM, "echo", 1000, 1000), row(FAULTS, "echo", 900, 1100), row(BARE, "echo", 500, 9000)]
    monkeypatch.setattr(chaos, "measure", lambda options, say: (rows, 3))
    assert chaos.main([]) == 0
    rows[1].goodput = 10.0
    assert chaos.main([]) == 1


def test_a_server_that_does_not_start_is_said_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "SERVERS", tmp_path)
    assert chaos.main([]) == 1
    assert "erlmcp bench chaos: died with status" in capsys.readouterr().err


def test_faults_are_chosen_by_name() -> None:
    assert fault_names("kill,deaf") == {"kill", "deaf"}
    with pytest.raises(argparse.ArgumentTypeError, match="expected of fail, stall, deaf, memory, kill"):
        fault_names("kill,fire")


def test_no_seconds_and_no_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--seconds", "0"], ["--rounds", "0"], ["--share", "0"]):
        with pytest.raises(SystemExit):
            chaos.main(words)
    assert "expected seconds and share above 0" in capsys.readouterr().err
