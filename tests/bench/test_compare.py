"""The regression gate: which change fails, that its row is named, and that two builds are run alternately."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from erlmcp.bench import compare, result
from erlmcp.bench.compare import GONE, NOISE, SAME, WORSE, Figures, change_of, compared, figures, judge, paired

ROOT = Path(__file__).resolve().parents[2]


def cell(row: str, ns: float, p95: float | None = None, memory: float | None = None, spread: float = 0.0) -> Any:
    made = {"row": row, "column": "call", "ns": ns, "spread": spread, "p95_ns": p95, "memory_mb": memory}
    return {name: value for name, value in made.items() if value is not None}


def file(path: Path, *rows: Any, kind: str = "components", **machine: str) -> str:
    found = result.document(kind, {}, list(rows))
    found["machine"].update(machine)
    result.write(str(path), found)
    return str(path)


def run(tmp_path: Path, before: Any, after: Any) -> int:
    return compare.main([file(tmp_path / "a.json", before), file(tmp_path / "b.json", after)])


# ---------------------------------------------------------------------------------------------------- verdicts
@pytest.mark.parametrize(
    ("before", "after", "failed"),
    [
        (cell("one", 100), cell("one", 100), None),
        (cell("one", 100), cell("one", 109), None),
        (cell("one", 100), cell("one", 115), "throughput"),
        (cell("one", 100), cell("one", 50), None),
        (cell("one", 100, p95=100), cell("one", 100, p95=119), None),
        (cell("one", 100, p95=100), cell("one", 100, p95=121), "p95"),
        (cell("one", 100, memory=100), cell("one", 100, memory=114), None),
        (cell("one", 100, memory=100), cell("one", 100, memory=116), "memory"),
    ],
)
def test_the_gate_fails_at_its_bounds_and_names_row_and_figure(
    before: Any, after: Any, failed: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, before, after) == (1 if failed else 0)
    out = capsys.readouterr().out
    assert ("FAILED" in out) == bool(failed)
    if failed:
        assert f"FAILED one call: {failed}" in out


def test_a_row_that_is_gone_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, cell("one", 100), cell("other", 100)) == 1
    assert "FAILED one call" in capsys.readouterr().out


def test_nothing_to_compare_is_no_success(tmp_path: Path) -> None:
    nothing = {"row": "one", "column": "call", "status": "not built"}
    assert run(tmp_path, nothing, nothing) == 1


def test_differences_within_the_noise_are_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, cell("one", 100, spread=0.06), cell("one", 105, spread=0.02)) == 0
    assert "within the noise" in capsys.readouterr().out
    assert run(tmp_path, cell("one", 100, spread=0.3), cell("one", 120)) == 1
    assert "which the noise of the rounds exceeds" in capsys.readouterr().out


def test_noise_spares_only_where_it_was_measured_in_the_same_run() -> None:
    before, after = Figures(100, noise=0.3), Figures(80, noise=0.1)
    assert [one.verdict for one in judge("x", before, after, is_noise_spared=True)] == [NOISE]
    assert [one.verdict for one in judge("x", before, after, is_noise_spared=False)] == [WORSE]
    steady = Figures(80, noise=0.01)
    assert [one.verdict for one in judge("x", Figures(100), steady, is_noise_spared=True)] == [WORSE]
    assert [one.verdict for one in judge("x", Figures(100), Figures(98), is_noise_spared=True)] == [SAME]
    assert [one.verdict for one in compared({"x": before}, {}, is_noise_spared=True)] == [GONE]


# ---------------------------------------------------------------------------------------------------- files
def test_files_of_servers_are_read_too() -> None:
    row = {"server": "erlmcp", "case": "echo", "error": "", "rate": 10.0, "p95_us": 2.0, "rss_mb": 30.0}
    row["rounds"] = [{"rate": 9.0}, {"rate": 10.0}, {"rate": 11.0}]
    gone = {"server": "other", "case": "echo", "error": "not installed"}
    read = figures({"kind": "peers", "rows": [row, gone]})
    assert read == {"erlmcp: echo": Figures(10.0, 2000.0, 30.0, pytest.approx(0.1))}
    idle = {"server": "erlmcp", "version": "1", "open_us": 20.0, "session_kb": 4.0}
    assert figures({"kind": "peers", "rows": [idle]}) == {"erlmcp: sessions": Figures(50_000.0, None, 0.004)}
    phase = {"row": "queue", "phase": 1, "ns": 10.0, "spread": 0.1}
    assert figures({"kind": "phases", "rows": [phase]}) == {"queue 1": Figures(1e8, None, None, 0.1)}


def test_files_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    one = file(tmp_path / "one.json", cell("one", 1))
    broken = tmp_path / "broken.json"
    broken.write_text('{"rows": 3}')
    others = [
        str(tmp_path / "missing.json"),
        str(broken),
        file(tmp_path / "kind.json", cell("one", 1), kind="phases"),
        file(tmp_path / "cpu.json", cell("one", 1), cpu="64 x other"),
    ]
    for other in others:
        with pytest.raises(SystemExit) as ended:
            compare.main([one, other])
        assert ended.value.code == 2


@pytest.mark.parametrize("arguments", [[], ["one.json"], ["a", "b", "--builds", "c", "d"], ["--builds", "a", "/dev"]])
def test_arguments_that_make_no_sense_end_with_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        compare.main(arguments)
    assert ended.value.code == 2


# ---------------------------------------------------------------------------------------------------- builds
def test_a_change_is_the_milder_one_of_two_readings() -> None:
    assert change_of([100, 100, 100], [200, 200, 200]) == pytest.approx(-0.5)
    assert change_of([100, 100, 100], [50, 50, 50]) == pytest.approx(1.0)
    # Other work spoilt most rounds of the second, and its best one is as good.
    assert change_of([100, 100, 100], [150, 100, 150]) == pytest.approx(0.0)
    # One lucky round of the first.
    assert change_of([50, 100, 100], [100, 101, 99]) == pytest.approx(0.0, abs=0.02)


def test_figures_of_two_builds_are_relative_and_their_noise_is_that_of_the_ratios() -> None:
    drift = [100.0, 200.0, 300.0, 400.0]
    old = {"row": "one", "column": "call", "ns": 250.0, "rounds": drift, "p95_ns": 7.0}
    new = {"row": "one", "column": "call", "ns": 125.0, "rounds": [one / 2 for one in drift], "p95_ns": 6.0}
    before, after = paired([[old], [new]])
    assert before["one call"].throughput == pytest.approx(4e6)
    assert after["one call"].throughput == pytest.approx(8e6)
    assert after["one call"].noise == pytest.approx(0)


def test_two_builds_are_run_alternately_and_a_build_does_not_lose_to_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.json"
    arguments = ["--builds", str(ROOT), str(ROOT), "--only", "slab", "--rounds", "3", "--time-s", "0.01"]
    assert compare.main([*arguments, "--json", str(file)]) in (0, 1)  # a shape, and never a speed
    read = json.loads(file.read_text())
    assert read["kind"] == "builds"
    assert [(row["row"], row["column"]) for row in read["rows"]] == [("slab", "call"), ("slab", "core")] * 2
    assert {one["row"] for one in read["verdicts"]} == {"slab call", "slab core"}
    assert {one["what"] for one in read["verdicts"]} == {"throughput", "p95"}
    assert "figures compared" in capsys.readouterr().out


def test_a_build_that_is_slower_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = [100.0, 101.0, 100.0, 102.0, 100.0]
    old = {"row": "one", "column": "core", "ns": 100.0, "rounds": rounds}
    new = {"row": "one", "column": "core", "ns": 120.0, "rounds": [1.2 * one for one in rounds]}
    monkeypatch.setattr(compare, "run_builds", lambda *_: [[old], [new]])
    assert compare.main(["--builds", "old", "new"]) == 1
    assert "FAILED one core: throughput -16.7 %" in capsys.readouterr().out


def test_a_build_is_a_checkout_or_an_interpreter(tmp_path: Path) -> None:
    worker = compare.worker_of(str(ROOT))
    try:
        assert worker.timed(compare.MAKE, "slab", "call").count > 0
    finally:
        worker.close()
    with pytest.raises(ValueError, match="expected a checkout"):
        compare.worker_of(str(tmp_path / "nothing"))
    other = compare.worker_of(sys.executable)
    assert other.like == (sys.executable, None, None)
    other.close()
