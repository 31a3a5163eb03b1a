"""The table of single flags: a row for each, both variants in one run, and that the flag is what differs."""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from erlmcp import Flags
from erlmcp.bench import buying, crowded
from erlmcp.bench import flags as suite
from erlmcp.bench.flags import ROWS, Row
from erlmcp.bench.room import MissingError
from erlmcp.bench.timing import Timed
from erlmcp.flags import PHASE_OF
from erlmcp.runtime import load


def fixed(ns: float) -> Timed:
    return Timed(10, lambda repeats: int(ns * 10 * repeats))


def test_every_flag_has_one_row() -> None:
    assert sorted(row.flag for row in ROWS) == sorted(PHASE_OF)
    assert suite.without_row() == []
    assert all(row.words for row in ROWS)


def test_a_flag_without_a_row_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "ROWS", [row for row in ROWS if row.flag != "backpressure"])
    out = io.StringIO()
    suite.report([], out)
    assert "without a row: backpressure" in out.getvalue()


def test_an_overload_counts_what_was_answered_in_time() -> None:
    made = crowded.overloaded()
    assert made.elapsed(1) / made.count >= 1e9 * crowded.PLACE_S / crowded.PLACES / 2


@pytest.mark.parametrize(("make", "crowd_count"), [(crowded.probe, 4096), (crowded.urgent, 1000)])
def test_what_passes_a_crowd_is_timed_until_its_own_answer_and_not_the_crowds(
    make: Callable[[], Timed], crowd_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[tuple[int, int]] = []  # for how many answers, and how many were there on all desks when they came

    class Watched(crowded.Desk):
        made: ClassVar[list[Any]] = []

        def __init__(self, server: Any) -> None:
            super().__init__(server)
            self.made.append(self)

        async def wait(self, count: int) -> None:
            await super().wait(count)
            waited.append((count, sum(desk.answers for desk in self.made)))

    monkeypatch.setattr(crowded, "Desk", Watched)
    assert make().elapsed(1) > 0
    (count, there), *_, last = waited
    assert (count, last[1]) == (1, crowd_count + 1)
    assert there <= crowd_count


@pytest.mark.parametrize("make", [crowded.probe, crowded.urgent])
def test_a_slow_machine_is_no_reason_to_refuse_what_is_timed(
    make: Callable[[], Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = itertools.count(time.monotonic_ns(), 10**8)
    monkeypatch.setattr(load, "time", SimpleNamespace(monotonic_ns=lambda: next(now_ns)))
    assert make().elapsed(1) > 0


def test_a_crowd_that_is_answered_wrongly_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowded, "lines", lambda _kind, count: [b'{"jsonrpc":"2.0","id":1,"method":"no"}\n'] * count)
    for made in (crowded.probe(), crowded.burst(2)):
        with pytest.raises(RuntimeError, match="refused, or failed"):
            made.elapsed(1)


def test_the_variants_differ_in_the_flag_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    class Recorder:
        def __init__(self, environment: dict[str, str]) -> None:
            asked.append(environment)

        def timed(self, make: str, *given: Any) -> Timed:
            assert (make, given) == ("module:make", (1, 2))
            return fixed(50 if "+caching" in asked[-1]["ERLMCP_FLAGS"] else 200)

        def close(self) -> None: ...

    monkeypatch.setattr(suite, "Worker", Recorder)
    monkeypatch.setenv("ERLMCP_FLAGS", "-batching")
    cell = suite.measure(Row("caching", "words", "module:make", (1, 2), ("http2",)), 3, 1e-4)
    loaded = []
    for environment in asked:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        loaded.append(Flags.load())
    assert loaded == [Flags(http2=False), Flags(http2=False, caching=False)]
    assert round(cell["ratio"], 3) == 4
    assert (cell["on_ns"], cell["off_ns"], cell["phase"], cell["status"]) == (50, 200, 1, "measured")


def test_every_row_runs_and_the_file_holds_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flags.json"
    assert suite.main(["--rounds", "2", "--time-s", "0.001", "--json", str(file)]) == 0
    read = json.loads(file.read_text())
    assert read["kind"] == "flags"
    assert read["without_row"] == suite.without_row()
    assert [row["flag"] for row in read["rows"]] == [row.flag for row in ROWS]
    for row in read["rows"]:
        assert row["status"] in ("measured", "not installed"), row
        if row["status"] == "measured":
            assert row["ratio_least"] <= row["ratio"] <= row["ratio_most"]
            assert len(row["rounds"]["on"]) == len(row["rounds"]["off"]) == 2
    out = capsys.readouterr().out
    assert "each flag off beside all on, alternately" in out
    assert out.splitlines()[0].endswith("flags: all on")


def test_what_cannot_be_measured_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_row: Row, _changes: object) -> Timed:
        raise MissingError("not installed: h2")

    monkeypatch.setattr(suite, "remote", missing)
    cell = suite.measure(ROWS[0], 2, 1e-4)
    out = io.StringIO()
    suite.report([cell], out)
    assert "not installed" in out.getvalue()
    assert f"{ROWS[0].flag}: not installed: h2" in out.getvalue()


def test_an_unknown_flag_ends_with_usage() -> None:
    with pytest.raises(SystemExit) as ended:
        suite.main(["--only", "speed"])
    assert ended.value.code == 2


def test_an_interrupted_run_prints_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def once(row: Row, _rounds: int, _slice_s: float) -> dict[str, Any]:
        if seen:
            raise KeyboardInterrupt
        seen.append(row.flag)
        return {"flag": row.flag, "phase": 1, "words": row.words, "status": "not built"}

    monkeypatch.setattr(suite, "measure", once)
    assert suite.main(["--quick"]) == 130
    assert "interrupted" in capsys.readouterr().out


def test_work_that_is_answered_wrongly_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buying, "GIVEN", {"text": "another text"})
    made = buying.over_http(2)
    with pytest.raises(RuntimeError, match="the server answered"):
        made.elapsed(1)
