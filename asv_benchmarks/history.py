"""The history that comes with the project: what ``asv publish`` shows from a fresh clone.

asv writes everything it measures below ``results/``. Kept in the repository are the counts of instructions on the
reference machines (their folders begin with ``reference-``); seconds of a machine that does other work meanwhile would
only be noise there. After a run for a new point, ``python -m asv_benchmarks.history`` drops the rest: the other series,
what failed because a commit had no such room yet, how long the runs took, and benchmarks without any point. Of a
series' parameters those are kept that all its commits have: asv's grid draws the mean over what a commit has, and a
combination that comes and goes would look like a step.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
KEPT = ".track_instructions_"


def files(results: Path) -> Iterator[Path]:
    """The files of kept results, one for each commit."""
    yield from sorted(path for path in results.glob("reference-*/*.json") if path.name != "machine.json")


def points(read: dict[str, Any]) -> dict[str, dict[tuple[str, ...], float]]:
    """The counts of one commit: benchmark -> parameters -> instructions, without those that are missing."""
    value, given = (read["result_columns"].index(name) for name in ("result", "params"))
    found = {}
    for name, row in read["results"].items():
        counted = {
            parameters: number
            for parameters, number in zip(_products(row[given]), row[value] or [], strict=False)
            if number is not None and not math.isnan(number)
        }
        if counted:
            found[name] = counted
    return found


def _products(params: list[list[str]]) -> list[tuple[str, ...]]:
    """All combinations in asv's order, without the quotes of its ``repr``."""
    made: list[tuple[str, ...]] = [()]
    for axis in params:
        made = [(*known, value.strip("'")) for known in made for value in axis]
    return made


def tidy(results: Path) -> int:
    """Drop what is not kept. Returns how many commits have points."""
    read = {path: json.loads(path.read_text(encoding="utf-8")) for path in files(results)}
    shared: dict[str, set[tuple[str, ...]]] = {}
    for one in read.values():
        for name, counted in points(one).items():
            if KEPT in name:
                shared[name] = shared.get(name, set(counted)) & set(counted)
    for path, one in read.items():
        one["results"] = {name: _only(one, name, shared[name]) for name in sorted(points(one)) if shared.get(name)}
        one["durations"] = {}
        _write(path, one)
    described = results / "benchmarks.json"
    known = json.loads(described.read_text(encoding="utf-8"))
    _write(described, {name: value for name, value in known.items() if shared.get(name) or name == "version"})
    return sum(bool(one["results"]) for one in read.values())


def _only(read: dict[str, Any], name: str, kept: set[tuple[str, ...]]) -> list[Any]:
    """The row of a benchmark with the results of these parameters; the others are missing."""
    value, given = (read["result_columns"].index(column) for column in ("result", "params"))
    row = list(read["results"][name])
    pairs = zip(_products(row[given]), row[value], strict=True)
    row[value] = [number if parameters in kept else math.nan for parameters, number in pairs]
    return row


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> int:
    """The command. Returns its exit code."""
    count = tidy(RESULTS)
    print(f"{count} commits have points")
    return 0


if __name__ == "__main__":
    sys.exit(main())
