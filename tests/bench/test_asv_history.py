"""The history that comes with the project: it is there, says nothing of the machine's insides, and asv shows it."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMITS_MIN = 5
COMMAND = (
    "python3 -m venv .venv && .venv/bin/pip install 'asv>=0.6.4' && .venv/bin/asv publish && .venv/bin/asv preview"
)
DECIDING = [
    ("journey.Instructions.track_instructions_100_calls_in_one_read", ("core", "baseline")),
    ("journey.Instructions.track_instructions_100_calls_in_one_read", ("core", "5")),
    ("journey.Instructions.track_instructions_100_pings_in_one_read", ("core", "5")),
    ("corridor.Instructions.track_instructions_100_calls_in_one_read", ("core",)),
    ("json.InstructionsDecode.track_instructions_a_call_100_times", ("core",)),
    ("registry.InstructionsLookup.track_instructions_getitem_1024_times", ("core",)),
]

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
history = importlib.import_module("asv_benchmarks.history")
FILES = list(history.files(history.RESULTS))


def stored(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def git(*arguments: str) -> str | None:
    """What git says; None where this is no clone with its history."""
    if not (ROOT / ".git").exists():
        return None
    ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return ran.stdout.strip() if ran.returncode == 0 else None


def has_history() -> bool:
    return git("rev-parse", "--is-shallow-repository") == "false"


@pytest.mark.parametrize(("name", "parameters"), DECIDING)
def test_a_deciding_series_has_points_of_five_commits(name: str, parameters: tuple[str, ...]) -> None:
    commits = {
        read["commit_hash"]: history.points(read)[name][parameters]
        for read in map(stored, FILES)
        if parameters in history.points(read).get(name, {})
    }
    assert len(commits) >= COMMITS_MIN, commits


def test_each_series_names_a_benchmark_of_today_in_its_version() -> None:
    described = stored(history.RESULTS / "benchmarks.json")
    for read in map(stored, FILES):
        version = read["result_columns"].index("version")
        for name, row in read["results"].items():
            module, kind, method = name.split(".")
            found = getattr(importlib.import_module(f"asv_benchmarks.{module}"), kind)
            assert callable(getattr(found, method))
            assert row[version] == found.version == described[name]["version"]


def test_a_commit_has_one_file_for_each_environment_named_after_it() -> None:
    kept = [(read["commit_hash"], read["env_name"]) for read in map(stored, FILES)]
    assert Counter(kept).most_common(1)[0][1] == 1
    assert [path.name for path in FILES] == [f"{commit[:8]}-{environment}.json" for commit, environment in kept]


def test_nothing_stored_tells_of_paths_or_people() -> None:
    for path in history.RESULTS.glob("*/*.json"):
        text = path.read_text(encoding="utf-8")
        assert "/" not in text, f"{path.name} holds a path"
        assert "\\" not in text, f"{path.name} holds a path"
        assert "@" not in text, f"{path.name} holds an address"
    for path in FILES:
        assert stored(path)["env_vars"] == {}
        assert stored(path)["params"]["machine"] == path.parent.name


def test_what_is_stored_is_tidy(tmp_path: Path) -> None:
    for path in [history.RESULTS / "benchmarks.json", *FILES]:
        copy = tmp_path / path.relative_to(history.RESULTS)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    history.tidy(tmp_path)
    for path in [history.RESULTS / "benchmarks.json", *FILES]:
        assert (tmp_path / path.relative_to(history.RESULTS)).read_bytes() == path.read_bytes(), path.name


def pretend(results: Path, commits: dict[str, dict[str, Any]]) -> None:
    """Results of a machine as asv writes them: commit -> benchmark -> its values for core and model."""
    params = [["'core'", "'model'"]]
    (results / "reference-x").mkdir()
    for commit, values in commits.items():
        read = {
            "result_columns": ["result", "params", "version"],
            "results": {name: [value, params, "1"] for name, value in values.items()},
            "durations": {"<build>": 12.5},
        }
        (results / f"reference-x/{commit}.json").write_text(json.dumps(read), encoding="utf-8")
    described = {name: {"name": name} for values in commits.values() for name in values}
    (results / "benchmarks.json").write_text(json.dumps({**described, "version": 2}), encoding="utf-8")


def test_tidying_drops_seconds_and_failures_and_keeps_counts(tmp_path: Path) -> None:
    counted, failed = "room.Some.track_instructions_a", "room.Some.track_instructions_b"
    pretend(tmp_path, {"one": {counted: [12.0, math.nan], failed: None, "room.Some.time_a": [0.1, 0.2]}})
    assert history.tidy(tmp_path) == 1
    kept = stored(tmp_path / "reference-x/one.json")
    assert history.points(kept) == {counted: {("core",): 12.0}}
    assert list(kept["results"]) == [counted]
    assert kept["durations"] == {}
    assert set(stored(tmp_path / "benchmarks.json")) == {counted, "version"}


def test_tidying_keeps_the_parameters_that_all_commits_of_a_series_have(tmp_path: Path) -> None:
    old, young, torn = (f"room.Some.track_instructions_{name}" for name in ("old", "young", "torn"))
    first = {old: [1.0, math.nan], torn: [1.0, math.nan]}
    second = {old: [2.0, 20.0], young: [3.0, 30.0], torn: [math.nan, 2.0]}
    pretend(tmp_path, {"first": first, "second": second})
    assert history.tidy(tmp_path) == 2
    assert history.points(stored(tmp_path / "reference-x/first.json")) == {old: {("core",): 1.0}}
    kept = history.points(stored(tmp_path / "reference-x/second.json"))
    assert kept == {old: {("core",): 2.0}, young: {("core",): 3.0, ("model",): 30.0}}
    assert set(stored(tmp_path / "benchmarks.json")) == {old, young, "version"}


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md"])
def test_the_pages_have_the_one_command_that_shows_it(page: str) -> None:
    assert f"\n    {COMMAND}\n" in (ROOT / page).read_text(encoding="utf-8")


def test_the_page_describes_the_machine_as_the_results_do() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    described = json.loads(text.partition("```json\n")[2].partition("```")[0])
    name = described["reference-2cpu"]["machine"]
    kept = stored(history.RESULTS / name / "machine.json")
    assert described == {name: {key: value for key, value in kept.items() if key != "version"}, "version": 1}


@pytest.mark.skipif(not has_history(), reason="not a clone with its history")
def test_each_stored_commit_is_in_the_history_with_its_date() -> None:
    for read in map(stored, FILES):
        assert git("show", "--no-patch", "--format=%ct", read["commit_hash"]) == str(read["date"] // 1000)
        assert git("merge-base", "--is-ancestor", read["commit_hash"], "HEAD") is not None


@pytest.mark.skipif(not has_history(), reason="not a clone with its history")
def test_asv_publishes_it(tmp_path: Path) -> None:
    pytest.importorskip("asv")
    ran = subprocess.run(
        [sys.executable, "-m", "asv", "publish", "--no-pull", "--html-dir", str(tmp_path / "html")],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Couldn't find" not in ran.stdout + ran.stderr
    index = stored(tmp_path / "html/index.json")
    assert len(index["revision_to_hash"]) >= COMMITS_MIN
    for name in {name for name, _ in DECIDING}:
        graph = json.loads((tmp_path / f"html/graphs/summary/{name}.json").read_text(encoding="utf-8"))
        assert len([value for _, value in graph if value is not None]) >= COMMITS_MIN, name
