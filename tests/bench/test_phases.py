"""The phase table: every row of the plan, every phase and gate, and ratios of one run. Shape only: never speed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from erlmcp import flags
from erlmcp.bench import phases, result
from erlmcp.bench.phases import BASELINE, GATES, Step, Track
from erlmcp.bench.room import MissingError
from erlmcp.bench.timing import Timed

ROWS = ["registry", "queue", "pool", "session", "network", "end-to-end"]
ALL = ["baseline", 1, 2, 3, 4, 5]


def fixed(ns: float) -> Timed:
    return Timed(10, lambda repeats: int(ns * 10 * repeats))


def track(*steps: Step) -> Track:
    return Track("made-up", "an operation", steps)


def test_the_table_has_all_rows_phases_and_gates_of_the_plan(tmp_path: Path) -> None:
    file = tmp_path / "phases.json"
    assert phases.main(["--rounds", "2", "--time-s", "0.001", "--quick", "--json", str(file)]) == 0
    read = json.loads(file.read_text())
    assert read["kind"] == "phases"
    assert set(read["flags_not_built"]) == {"1", "2", "3", "4", "5"}
    assert read["flags"] == {name: {"value": True, "origin": "default"} for name in flags.PHASE_OF}
    assert [(row["row"], row["phase"]) for row in read["rows"]] == [(key, phase) for key in ROWS for phase in ALL]
    for row in read["rows"]:
        assert row["status"] == "measured", row
        assert row["words"]
        assert row["ratio"] > 0
        assert row["ns"] > 0
        assert row["gate"] == (None if row["phase"] == "baseline" else GATES[row["phase"]])
        assert ("over_twin" in row) is (row["phase"] != "baseline")
        assert row["met"] is (None if row["gate"] is None else row["ratio"] >= row["gate"])


def test_each_phase_is_defined_in_words_or_refers_to_an_earlier_one() -> None:
    for one in phases.tracks():
        assert [step.phase for step in one.steps] == [BASELINE, 1, 2, 3, 4, 5]
        for step in one.steps:
            assert step.words
            if step.make is None:
                assert step.like < step.phase
                assert one.steps[step.like].make is not None


def test_flags_of_the_plan_are_built_or_named_as_not_built() -> None:
    planned = {name: phase for phase, names in phases.PLAN.items() for name in names}
    for name, phase in flags.PHASE_OF.items():
        assert planned[name] == phase
    missing = phases.not_built()
    assert {name for names in missing.values() for name in names} == set(planned) - set(flags.PHASE_OF)


def test_ratios_are_to_the_baseline_of_the_same_run() -> None:
    cells = phases.measure(
        track(
            Step(BASELINE, "slow", lambda: fixed(9000)),
            Step(1, "better", lambda: fixed(1000)),
            Step(2, "as phase 1", like=1),
            Step(3, "best", lambda: fixed(100)),
        ),
        3,
        0.0001,
    )
    assert [round(cell["ratio"]) for cell in cells] == [1, 9, 9, 90]
    assert [cell["met"] for cell in cells] == [None, True, False, True]
    assert [cell["as_phase"] for cell in cells] == [None, None, 1, None]


def test_a_phase_may_use_the_better_way_of_an_earlier_one_and_says_so() -> None:
    cells = phases.measure(
        track(
            Step(BASELINE, "slow", lambda: fixed(9000)),
            Step(1, "best", lambda: fixed(100)),
            Step(2, "worse", lambda: fixed(300)),
        ),
        3,
        0.0001,
    )
    assert round(cells[2]["ratio"]) == 90
    assert cells[2]["as_phase"] == 1
    assert "phase 1's way" in cells[2]["words"]


def test_what_is_missing_has_a_cell_that_says_so() -> None:
    def missing() -> Timed:
        raise MissingError("not built")

    cells = phases.measure(
        track(Step(BASELINE, "slow", lambda: fixed(9)), Step(1, "none", missing), Step(2, "as phase 1", like=1)),
        2,
        1e-5,
    )
    assert [cell["status"] for cell in cells] == ["measured", "not built", "not built"]
    assert "ratio" not in cells[2]
    out = io.StringIO()
    phases.report(cells, out)
    assert "not built" in out.getvalue()


def test_the_line_above_every_report_names_the_flags_that_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert result.title("phases").endswith("flags: all on")
    monkeypatch.setenv("ERLMCP_FLAGS", "-caching,-http2")
    assert result.title("phases").endswith("flags: all on but caching, http2")
    assert result.document("phases", {}, [])["flags"]["http2"] == {"value": False, "origin": "environment"}


@pytest.mark.parametrize("arguments", [["--only", "attic"], ["--rounds", "x"]])
def test_arguments_that_make_no_sense_end_with_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        phases.main(arguments)
    assert ended.value.code == 2


def test_an_interrupted_run_prints_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [track(Step(BASELINE, "slow", lambda: fixed(9))), track(Step(BASELINE, "never", lambda: fixed(9)))]
    seen: list[str] = []
    measure = phases.measure

    def once(one: Track, rounds: int, slice_s: float) -> list[dict[str, object]]:
        if seen:
            raise KeyboardInterrupt
        seen.append(one.key)
        return measure(one, 2, 1e-5)

    monkeypatch.setattr(phases, "tracks", lambda: given)
    monkeypatch.setattr(phases, "measure", once)
    assert phases.main(["--quick"]) == 130
    assert "phase baseline: slow" in capsys.readouterr().out
