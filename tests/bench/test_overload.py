"""``erlmcp bench overload``: its rows say what was measured, and it fails where an answer is broken."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from erlmcp.bench import overload, process
from erlmcp.bench.overload import OFF, ON, OverloadRow, SaturatedRow


def test_both_suites_measure_the_server_with_and_without_its_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    words = ["--seconds", "0.2", "--rounds", "1", "--multiples", "3", "--work-us", "200", "--json", str(file)]
    assert overload.main(words) == 0
    shown = capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found["kind"] == "overload"
    rows = found["rows"]
    saturated = [row for row in rows if "way" in row]
    loads = [row for row in rows if "multiple" in row]
    assert [(row["way"], row["flags"]) for row in saturated] == [
        (way, flags) for way in ("tcp", "unix", "http") for flags in (ON, OFF)
    ]
    assert [(row["flags"], row["multiple"]) for row in loads] == [(ON, 0), (ON, 3), (OFF, 0), (OFF, 3)]
    assert all(row["rate"] > 0 and row["answered"] > 0 and not row["errors"] for row in saturated)
    assert all(row["goodput"] > 0 and not row["broken"] and row["rss_mb"] > 0 for row in loads)
    assert all(row["refused"] == 0 for row in loads if row["flags"] == OFF)
    for words_shown in ("priority_messages", "3 x peak", "goodput/s"):
        assert words_shown in shown


def test_one_suite_alone_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert overload.main(["--suite", "saturated", "--ways", "unix", "--seconds", "0.2", "--rounds", "1"]) == 0
    shown = capsys.readouterr().out
    assert "unix" in shown
    assert "tcp" not in shown
    assert "goodput" not in shown


def test_ratios_stand_beside_what_they_are_of() -> None:
    out = io.StringIO()
    rows = [
        SaturatedRow("tcp", ON, 990.0, 100.0, 300.0, 10, 0),
        SaturatedRow("tcp", OFF, 1000.0, 900.0, 1500.0, 10, 0),
    ]
    loads = [
        OverloadRow(ON, 0, 1000.0, 1000.0, 0, 0, 0, 0, 200.0, 400.0, 30.0),
        OverloadRow(ON, 2, 2000.0, 950.0, 10.0, 1040.0, 0, 0, 250.0, 450.0, 31.0),
    ]
    overload.report(rows, loads, out)
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["tcp", "on", "990", "0.990x", "0.100", "0.300", "0"] in lines
    assert ["2", "x", "peak", "on", "2,000", "950", "95%", "10.0", "1,040", "0", "0.250", "0.450", "31.0", "0"] in lines


def test_a_server_that_does_not_start_is_said_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "SERVERS", tmp_path)
    assert overload.main(["--suite", "overload"]) == 1
    assert "erlmcp bench overload: died with status" in capsys.readouterr().err


def test_an_answer_that_is_neither_right_nor_a_refusal_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = OverloadRow(ON, 0, 1.0, 1.0, 0, 0, 0, 1, 1.0, 1.0, 1.0)
    monkeypatch.setattr(overload, "saturated", lambda options, say: [])
    monkeypatch.setattr(overload, "overload", lambda options, say: [broken])
    assert overload.main([]) == 1
