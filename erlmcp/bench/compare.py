"""``erlmcp bench compare``: the regression gate, on two result files or on two builds that are run alternately.

    erlmcp bench compare before.json after.json
    erlmcp bench compare --builds ../before . --only registry,queue

A row fails where the second loses more than 10 % of its throughput, more than 20 % of its p95, or needs 15 % more
memory, and its name is printed. A difference that is smaller than the noise of the rounds is said to be so; with
``--builds`` it does not fail, as the noise was measured in the very same run, and a loss is looked at again with twice
as many rounds before it is believed. A file's baseline must be another file,
never a figure in prose, and files of different machines are not compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from erlmcp.bench import components, result, screen, table, timing
from erlmcp.bench.components.row import BATCH, COLUMNS, Row
from erlmcp.bench.room import MissingError
from erlmcp.bench.timing import Timed
from erlmcp.bench.worker import Worker

# What is compared: how much worse the second may be, and which way is worse.
BOUNDS = {"throughput": 0.10, "p95": 0.20, "memory": 0.15}
UNITS = {"throughput": "1/s", "p95": "ns", "memory": "MB"}
P95_SAMPLES = 5
MAKE = "erlmcp.bench.components:made"
BETTER, SAME, NOISE, WORSE, GONE = "better", "same", "within the noise", "WORSE", "missing"


@dataclass(frozen=True)
class Figures:
    """One row of a result, whatever made it. ``noise``: the relative spread of its rounds."""

    throughput: float | None = None
    p95: float | None = None
    memory: float | None = None
    noise: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """One comparison. ``change`` is relative: 0.1 is a tenth more."""

    row: str
    what: str
    before: float | None
    after: float | None
    change: float | None
    noise: float
    verdict: str


def read(path: str) -> dict[str, Any]:
    """A result file. Raises ValueError where it is none."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(found, dict) or found.get("kind") not in READERS or not isinstance(found.get("rows"), list):
        raise ValueError(f"{path}: expected a file that erlmcp bench {'|'.join(READERS)} --json wrote")
    return found


def _cells(rows: list[dict[str, Any]], label: str) -> Iterator[tuple[str, Figures]]:
    for row in rows:
        if "ns" in row:
            yield (
                f"{row['row']} {row[label]}",
                Figures(1e9 / row["ns"], row.get("p95_ns"), row.get("memory_mb"), row.get("spread", 0.0)),
            )


def _servers(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Figures]]:
    for row in rows:
        if row.get("error") or not row.get("rate"):
            continue
        rates = [one["rate"] for one in row.get("rounds", ())]
        noise = Timed(1, int, rounds=rates).spread if rates else 0.0
        p95 = row["p95_us"] * 1e3 if row.get("p95_us") else None
        yield f"{row['server']}: {row['case']}", Figures(row["rate"], p95, row.get("rss_mb"), noise)


def _sessions(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Figures]]:
    for row in rows:
        if row.get("open_us"):
            kb = row.get("session_kb")
            yield f"{row['server']}: sessions", Figures(1e6 / row["open_us"], None, kb / 1e3 if kb else None)


def _peers(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Figures]]:
    return _sessions(rows) if rows and "open_us" in rows[0] else _servers(rows)


READERS: dict[str, Callable[[list[dict[str, Any]]], Iterator[tuple[str, Figures]]]] = {
    "components": lambda rows: _cells(rows, "column"),
    "phases": lambda rows: _cells(rows, "phase"),
    "peers": _peers,
    "server": _servers,
    "builds": lambda rows: _cells(rows, "column"),
}


def figures(found: dict[str, Any]) -> dict[str, Figures]:
    """The rows of a result file by name."""
    return dict(READERS[found["kind"]](found["rows"]))


def judge(row: str, before: Figures, after: Figures, *, is_noise_spared: bool) -> Iterator[Verdict]:
    """One verdict for each figure that both have."""
    noise = max(before.noise, after.noise)
    for what, bound in BOUNDS.items():
        old, new = getattr(before, what), getattr(after, what)
        if not old or not new:
            continue
        change = new / old - 1
        worse = -change if what == "throughput" else change
        if worse > bound:
            is_noise = is_noise_spared and worse <= noise
            verdict = NOISE if is_noise else WORSE
        elif abs(change) <= noise:
            verdict = NOISE
        else:
            verdict = BETTER if worse < -bound else SAME
        yield Verdict(row, what, old, new, change, noise, verdict)


def compared(before: dict[str, Figures], after: dict[str, Figures], *, is_noise_spared: bool) -> list[Verdict]:
    """All verdicts. A row that the second does not have is told: it could hide a loss."""
    found: list[Verdict] = []
    for row, old in before.items():
        if row in after:
            found += judge(row, old, after[row], is_noise_spared=is_noise_spared)
        else:
            found.append(Verdict(row, "throughput", old.throughput, None, None, old.noise, GONE))
    return found


# ---------------------------------------------------------------------------------------------------- two builds
def worker_of(build: str) -> Worker:
    """A process of a build: a checkout (run by this interpreter) or a Python executable that has erlmcp installed.

    Raises ValueError where it is neither.
    """
    path = Path(build).resolve()
    if (path / "erlmcp").is_dir():
        return Worker(path=path)
    if path.is_file():
        return Worker(str(Path(build).absolute()), None)
    raise ValueError(f"{build}: expected a checkout with erlmcp in it, or a Python executable")


def _pair(workers: Sequence[Worker], key: str, column: str) -> list[Timed]:
    """The same way in both builds. Raises MissingError where one of them has it not."""
    return [worker.timed(MAKE, key, column) for worker in workers]


def _cell(worker: Worker, one: Timed, key: str, column: str) -> dict[str, Any]:
    figures = {"ns": one.ns, "best_ns": one.best_ns, "spread": one.spread, "rounds": one.rounds}
    if column == "call" and _row(key).entries >= components.MEMORY_FROM:
        figures["memory_mb"] = worker.tell_afresh("erlmcp.bench.components:memory_mb", key)
    return {"row": key, "column": column, "n": BATCH if column == "batch" else 1, **figures}


def _add_p95(workers: Sequence[Worker], cells: Sequence[dict[str, Any]]) -> None:
    """The least p95 of several samples, taken alternately: what other work on the machine adds is not the build's."""
    for _ in range(P95_SAMPLES):
        for worker, cell in zip(workers, cells, strict=True):
            taken = worker.ask(make=MAKE, given=[cell["row"], cell["column"]], repeats=0)
            for name, value in taken.items():
                cell[name] = min(value, cell.get(name, value))


def change_of(old: Sequence[float], new: Sequence[float]) -> float:
    """How much quicker (positive) or slower the second is, from the rounds of both: the milder one of two readings,
    the median of the ratios of single rounds and the ratio of the best rounds, as other work on the machine can spoil
    either."""
    paired = statistics.median(a / b for a, b in zip(old, new, strict=True)) - 1
    best = min(old) / min(new) - 1
    return min(paired, best, key=abs) if paired * best > 0 else 0.0


def run_builds(builds: Sequence[str], options: argparse.Namespace, say: TextIO) -> list[list[dict[str, Any]]]:
    """The rows of both builds, each measured alternately: first, second, first ... Raises ValueError."""
    cells: list[list[dict[str, Any]]] = [[], []]
    rows = components.chosen(options.only, options.quick)
    asked = [(row.key, column) for row in rows for column in COLUMNS if row.family != "network"]
    asked = [
        (key, column) for key, column in asked if any((w.column, w.who) == (column, "core") for w in _row(key).ways())
    ]
    workers = [worker_of(build) for build in builds]
    try:
        with screen.progress(len(asked), say) as tell:
            for key, column in asked:
                tell(f"{key} {column}")
                try:
                    pair = _pair(workers, key, column)
                except MissingError as error:
                    print(f"  {key} {column}: {error}", file=say)
                    continue
                timing.go_round(pair, options.rounds, options.time_s / options.rounds)
                if change_of(*(one.rounds for one in pair)) < -BOUNDS["throughput"]:  # a second look, before it is said
                    timing.go_round(pair, 2 * options.rounds, 2 * options.time_s / options.rounds)
                found = [_cell(worker, one, key, column) for worker, one in zip(workers, pair, strict=True)]
                if column == "call":
                    _add_p95(workers, found)
                for index, one in enumerate(found):
                    cells[index].append(one)
    except KeyboardInterrupt:
        pass
    finally:
        for worker in workers:
            worker.close()
    return cells


def _row(key: str) -> Row:
    return next(row for row in components.ROWS if row.key == key)


def paired(cells: Sequence[Sequence[dict[str, Any]]]) -> tuple[dict[str, Figures], dict[str, Figures]]:
    """Figures of both builds, the second's relative to the first's by the ratios of single rounds, whose spread is the
    noise: a drift of the machine is in neither."""
    before, after = {}, {}
    for old, new in zip(*cells, strict=True):
        name = f"{old['row']} {old['column']}"
        ratios = [a / b for a, b in zip(old["rounds"], new["rounds"], strict=True)]
        noise = Timed(1, int, rounds=ratios).spread
        rate = 1e9 / old["ns"]
        before[name] = Figures(rate, old.get("p95_ns"), old.get("memory_mb"), noise)
        after[name] = Figures(
            rate * (1 + change_of(old["rounds"], new["rounds"])), new.get("p95_ns"), new.get("memory_mb"), noise
        )
    return before, after


# ---------------------------------------------------------------------------------------------------- report
def report(verdicts: Sequence[Verdict], out: TextIO) -> None:
    lines = [
        [
            one.row,
            one.what,
            table.number(one.before),
            table.number(one.after),
            f"{100 * one.change:+.1f} %" if one.change is not None else "-",
            f"{100 * one.noise:.1f} %",
            one.verdict,
        ]
        for one in verdicts
    ]
    bounds = ", ".join(f"{what} {bound:.0%}" for what, bound in BOUNDS.items())
    units = ", ".join(f"{what} in {unit}" for what, unit in UNITS.items())
    heads = ["row", "what", "before", "after", "change", "noise", "is"]
    table.write(out, f"fails where it is worse by more than: {bounds} ({units})", heads, lines)


def conclude(verdicts: Sequence[Verdict], out: TextIO) -> int:
    """Say what failed; the exit code."""
    failed = [one for one in verdicts if one.verdict in (WORSE, GONE)]
    for one in failed:
        change = f"{100 * one.change:+.1f} %, at most {100 * BOUNDS[one.what]:g} % worse" if one.change else "no figure"
        within = ", which the noise of the rounds exceeds" if one.change and abs(one.change) <= one.noise else ""
        out.write(f"FAILED {one.row}: {one.what} {change}{within}\n")
    noisy = sum(one.verdict == NOISE for one in verdicts)
    out.write(f"{len(verdicts)} figures compared, {noisy} of them within the noise, {len(failed)} failed\n")
    return 1 if failed or not verdicts else 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="erlmcp bench compare",
        description="Compare two result files, or two builds run alternately; exit code 1 where the second is worse.",
    )
    made.add_argument("files", nargs="*", metavar="FILE", help="the result before, and the one after")
    made.add_argument("--builds", nargs=2, metavar="BUILD", help="two checkouts or Python executables instead of files")
    made.add_argument("--only", metavar="NAMES", help="--builds: families or rows, with commas between")
    made.add_argument("--rounds", type=int, default=15, help="--builds: default 15")
    made.add_argument("--time-s", type=float, default=0.5, metavar="S", help="--builds: of each row; default 0.5")
    made.add_argument("--quick", action="store_true", help="--builds: not the rows of a million entries")
    made.add_argument("--json", metavar="FILE", help="write all verdicts there")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 where a row is worse, is missing, or nothing could be compared."""
    made = parser()
    options = made.parse_args(argv)
    if (len(options.files) != 2) == (options.builds is None):
        made.error("expected two result files, or --builds and two builds")
    out = sys.stdout
    rows: list[dict[str, Any]] = []
    try:
        if options.builds:
            print(result.title("compare"), file=out, flush=True)
            cells = run_builds(options.builds, options, sys.stderr)
            before, after = paired(cells)
            rows = [
                {**cell, "build": build} for build, some in zip(options.builds, cells, strict=True) for cell in some
            ]
        else:
            old, new = (read(path) for path in options.files)
            _same_kind(old, new)
            before, after = figures(old), figures(new)
    except (ValueError, MissingError) as error:
        made.error(str(error))
    verdicts = compared(before, after, is_noise_spared=bool(options.builds))
    report(verdicts, out)
    if options.json:
        more = {"verdicts": [asdict(one) for one in verdicts]}
        result.write(options.json, result.document("builds", vars(options), rows, **more))
    return conclude(verdicts, out)


def _same_kind(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raises ValueError where the files cannot be compared."""
    if old["kind"] != new["kind"]:
        raise ValueError(f"the first file is of {old['kind']}, the second of {new['kind']}")
    for what in ("cpu", "python"):
        first, second = old["machine"].get(what), new["machine"].get(what)
        if first != second:
            raise ValueError(f"measured on different machines ({what}: {first} and {second}); run both on one")
