"""The benchmark of faults behind a gateway: what is killed comes back, others notice nothing, marks tell apart."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from erlmcp.bench import gateway, outage
from erlmcp.bench.outage import CALM, KILLED, STEADY, VICTIM, Row


def row(run: str, upstream: str, *, failed: int = 0, p99s_us: tuple[float, ...] = (100.0,)) -> Row:
    p99 = sorted(p99s_us)[len(p99s_us) // 2]
    return Row("stdio", run, upstream, 50.0, 1000, 1000 - failed, failed, 0, 10.0, p99, [*p99s_us], {"wrong": failed})


@pytest.mark.parametrize("way", ["http", "stdio"])
def test_no_call_of_an_upstream_fails_while_another_one_is_killed_twice(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a load that is far from what the gateway refuses, and however long its machine lets calls wait."""
    monkeypatch.setenv("ERLMCP_QUEUE_DELAY_MAX_S", "600")
    file = tmp_path / "faults.json"
    gateway.main(["--faults", "--ways", way, "--seconds", "2", "--share", "0.1", "--json", str(file)])
    assert "An upstream is killed twice" in capsys.readouterr().out
    rows = {(each["run"], each["upstream"]): each for each in json.loads(file.read_text())["rows"]}
    for place in ((CALM, STEADY), (CALM, VICTIM), (KILLED, STEADY)):
        assert rows[place]["sent"] > 0, place
        assert (rows[place]["failed"], rows[place]["kinds"]) == (0, {}), rows[place]
    assert rows[KILLED, VICTIM]["failed"] > 0
    assert rows[KILLED, VICTIM]["right"] > 0


def test_a_failed_call_of_the_steady_upstream_or_twice_its_p99_misses_a_mark() -> None:
    others = [row(CALM, VICTIM), row(KILLED, VICTIM, failed=500)]

    def verdicts(calm: Row, killed: Row) -> list[bool]:
        return [mark.is_met for mark in outage.marks_of([calm, killed, *others])]

    calm = row(CALM, STEADY, p99s_us=(100.0, 100.0, 300.0))
    assert verdicts(calm, row(KILLED, STEADY, p99s_us=(900.0, 199.0, 300.0))) == [True, True]
    assert verdicts(calm, row(KILLED, STEADY, p99s_us=(200.0, 200.0, 300.0))) == [True, False]
    assert verdicts(calm, row(KILLED, STEADY, failed=1, p99s_us=(100.0, 100.0, 300.0))) == [False, True]


def test_the_report_tells_why_calls_failed() -> None:
    rows = [row(CALM, STEADY), row(KILLED, STEADY), row(CALM, VICTIM), row(KILLED, VICTIM, failed=3)]
    out = io.StringIO()
    outage.report(rows, outage.marks_of(rows), out)
    text = out.getvalue()
    assert "stdio, killed, victim: {'wrong': 3}" in text
    assert text.count("met") == 2
