"""Measure the rows, print the table, write the results."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from erlmcp.bench import components, result, room, screen, table, timing
from erlmcp.bench.components.row import COLUMNS, OURS, Mark, Row, Way
from erlmcp.bench.room import MissingError
from erlmcp.bench.timing import Timed
from erlmcp.bench.worker import Worker

QUICK = {"rounds": 5, "time_s": 0.03}
FULL = {"rounds": 9, "time_s": 0.3}

Cell = dict[str, Any]


def _made(ways: Sequence[Way], cell: Cell) -> dict[str, Timed]:
    """The candidates that can be had; what is missing is told in the cell."""
    found = {}
    for way in ways:
        try:
            made = way.make()
            made.elapsed(1)
            found[way.who] = made
        except MissingError as error:
            if way.who == "core":
                cell["status"] = str(error)
            elif way.who not in OURS:
                cell["peers"][way.who] = {"error": str(error)}
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if way.who == "core":
                cell["status"] = text
            else:
                cell["peers"][way.who] = {"error": text}
    return found


def judged(mark: Mark | None, cell: Cell) -> bool | None:
    """Whether the mark is met; None where there is none, or the library that it names is not there."""
    if mark is None:
        return None
    if mark.p99_ns is not None:
        return bool(cell["p99_ns"] <= mark.p99_ns)
    if mark.rate is not None:
        return bool(1e9 / cell["best_ns"] >= mark.rate)
    theirs = cell["peers"].get(mark.peer, {}).get("best_ns")
    return None if theirs is None else bool(cell["best_ns"] <= theirs * mark.factor)


def measure(row: Row, column: str, ways: Sequence[Way], options: argparse.Namespace) -> Cell:
    """One cell of the table: ours, the twin and the peers, alternately."""
    mark = row.marks.get(column)
    cell: Cell = {
        "row": row.key,
        "family": row.family,
        "operation": row.operation,
        "column": column,
        "n": {"call": 1, "batch": row.batch}.get(column),
        "threads": row.threads,
        "status": "measured",
        "mark": str(mark) if mark else None,
        "met": None,
        "peers": {},
    }
    found = _made(ways, cell)
    if not found:
        return cell
    timing.go_round(list(found.values()), options.rounds, options.time_s / options.rounds)
    ours = found.get("core")
    versions = {way.who: room.version(way.module) if way.module else "" for way in ways}
    limits = {way.who for way in ways if way.is_limit}
    for who, one in found.items():
        figures = {"ns": one.ns, "best_ns": one.best_ns, "spread": one.spread}
        if ours is not None and who != "core":
            figures["ratio"] = timing.ratio(one, ours)
        if who == "core":
            cell.update(figures, rate=1e9 / one.ns, best_rate=1e9 / one.best_ns, rounds=one.rounds)
        elif who == "model":
            cell["model"] = figures
        else:
            cell["peers"][who] = {**figures, "version": versions[who]}
    if ours is None:
        return cell
    if ours.single is not None and column == "call":
        cell.update(timing.percentiles(ours.single, 1000 if options.quick else timing.SINGLES))
    if column == "call" and row.entries >= components.MEMORY_FROM:
        cell.update(_memory(row))
    cell["limits"] = {who: cell["peers"].pop(who) for who in limits if who in cell["peers"]}
    measured = {who: one for who, one in cell["peers"].items() if "ratio" in one}
    if measured:
        cell["best_peer"] = min(measured, key=lambda who: measured[who]["ns"])
        cell["peer_ratio"] = measured[cell["best_peer"]]["ratio"]
    cell["met"] = judged(mark, cell)
    return cell


def _memory(row: Row) -> dict[str, float]:
    """Read in a process of its own, as nothing was freed there before."""
    worker = Worker()
    try:
        found = worker.ask(tell="erlmcp.bench.components:memory_mb", given=[row.key])["value"]
    except MissingError:
        return {}
    finally:
        worker.close()
    return {"memory_mb": found, "entry_bytes": found * 1e6 / row.entries}


def kept(ways: Sequence[Way], options: argparse.Namespace) -> list[Way]:
    return [way for way in ways if options.peers or way.who.split()[0] in OURS]


def measure_all(rows: Sequence[Row], options: argparse.Namespace, say: TextIO) -> tuple[list[Cell], bool]:
    """All cells; and whether it was interrupted before the last one."""
    cells: list[Cell] = []
    with screen.progress(len(rows), say) as tell:
        try:
            for row in rows:
                tell(row.key)
                ways = kept(row.ways(), options)
                for column in COLUMNS:
                    here = [way for way in ways if way.column == column]
                    if here:
                        cells.append(measure(row, column, here, options))
                        gc.collect()
        except KeyboardInterrupt:
            return cells, True
    return cells, False


# ---------------------------------------------------------------------------------------------------- report
def _verdict(cell: Cell) -> str:
    return {None: "-", True: "met", False: "missed"}[cell["met"]]


def _line(cell: Cell) -> list[str]:
    model = cell.get("model", {})
    singles = [table.number(cell.get(f"p{percent}_ns")) for percent in (50, 95, 99)]
    best = cell.get("best_peer")
    return [
        f"{cell['row']} {cell['column']}",
        table.number(cell.get("ns")) if "ns" in cell else cell["status"].split(":")[0],
        table.number(cell.get("best_ns")),
        table.number(cell["best_rate"] / 1e6 if "best_rate" in cell else None),
        cell["mark"] or "-",
        _verdict(cell),
        f"{table.number(model['ratio'])}x" if "ratio" in model else "-",
        f"{best} {cell['peers'][best]['version']}".strip() if best else "-",
        f"{table.number(cell['peer_ratio'])}x" if best else "-",
        f"{100 * cell['spread']:.0f} %" if "spread" in cell else "-",
        *singles,
    ]


def report(cells: Sequence[Cell], out: TextIO) -> None:
    """One table for each family, and the operations in words below it."""
    heads = ["row", "ns", "best ns", "M/s", "mark", "is", "twin", "best peer", "peer takes", "noise"]
    heads += ["p50", "p95", "p99"]
    for family in dict.fromkeys(cell["family"] for cell in cells):
        here = [cell for cell in cells if cell["family"] == family]
        words = {f"{cell['row']}: {cell['operation']}": None for cell in here}
        faults = [f"{cell['row']} {cell['column']}: {cell['status']}" for cell in here if cell["status"] != "measured"]
        for cell in here:
            for who, one in cell["peers"].items():
                if "error" in one:
                    faults.append(f"{cell['row']} {cell['column']}: {who}: {one['error']}")
            for who, one in cell.get("limits", {}).items():
                took = f"takes {one['ratio']:.2f}x our time" if "ratio" in one else one["error"]
                faults.append(f"{cell['row']} {cell['column']}: the limit, {who}, {took}")
        faults += [
            f"{cell['row']}: {cell['memory_mb']:.1f} MB, {cell['entry_bytes']:.0f} bytes an entry"
            for cell in here
            if "memory_mb" in cell
        ]
        table.write(out, family, heads, [_line(cell) for cell in here], [*words, *faults])


def report_libraries(cells: Sequence[Cell], out: TextIO) -> None:
    """One table for each cell that has peers, all of them in it."""
    for cell in cells:
        if not cell["peers"]:
            continue
        rows = []
        for who, one in sorted(cell["peers"].items(), key=lambda item: item[1].get("ns", float("inf"))):
            took = f"{table.number(one['ratio'])}x" if "ratio" in one else one.get("error", "-")
            rows.append([who, one.get("version") or "-", table.number(one.get("ns")), took])
        title = f"{cell['row']} {cell['column']}: {cell['operation']}"
        own = ["erlmcp", "-", table.number(cell.get("ns")), "1" if "ns" in cell else cell["status"]]
        table.write(out, title, ["library", "version", "ns", "takes"], [own, *rows])


def summary(cells: Sequence[Cell]) -> str:
    marked = [cell for cell in cells if cell["met"] is not None]
    behind = [cell for cell in cells if cell.get("peer_ratio", 1) < 1]
    missing = [cell for cell in cells if cell["status"] != "measured"]
    return (
        f"{sum(cell['met'] for cell in marked)} of {len(marked)} marks met; behind the best peer in {len(behind)}"
        f" ({', '.join(sorted({cell['row'] for cell in behind})) or 'none'}); {len(missing)} not measured"
    )


EXPLAINED = (
    "ns: median of the rounds; best ns and M/s: the best round, which a mark is judged by (unless it is one of p99);"
    " twin and peer takes: how many times our time, median of the rounds' ratios (over 1: we are faster); noise:"
    " quartile distance of the rounds over their median; p50, p95, p99: single calls in ns, of which the clock and an"
    " empty call are {clock:.0f}; one turn of the empty Python loop is {loop:.1f} ns and is part of call."
)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="erlmcp bench components",
        description="Measure the parts, each against its mark, its twin in Python and the libraries of its kind.",
        epilog=f"families: {', '.join(components.FAMILIES)}; rows: {', '.join(row.key for row in components.ROWS)}",
    )
    made.add_argument("--only", metavar="NAMES", help="families or rows, with commas between")
    made.add_argument("--rounds", type=_positive, help=f"default {FULL['rounds']}, with --quick {QUICK['rounds']}")
    made.add_argument(
        "--time-s",
        type=float,
        metavar="S",
        help=f"of each candidate, over all rounds; default {FULL['time_s']}, with --quick {QUICK['time_s']}",
    )
    made.add_argument("--quick", action="store_true", help="few short rounds, and not the rows of a million entries")
    made.add_argument("--no-peers", dest="peers", action="store_false", help="only ours and the twin")
    made.add_argument("--libraries", action="store_true", help="a table of all libraries for each row")
    made.add_argument("--json", metavar="FILE", help="write all results there")
    return made


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 130 where it was interrupted: what was measured until then is printed and written."""
    made = parser()
    options = made.parse_args(argv)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    try:
        rows = components.chosen(options.only, options.quick)
    except ValueError as error:
        made.error(str(error))
    out = sys.stdout
    print(result.title("components"), file=out)
    print(f"{options.rounds} alternating rounds of {options.time_s / options.rounds:.4f} s", file=out, flush=True)
    clock, loop = timing.clock_ns(), timing.loop_ns()
    cells, was_interrupted = measure_all(rows, options, sys.stderr)
    (report_libraries if options.libraries else report)(cells, out)
    modules = [way.module for row in rows for way in row.ways()] if options.peers else []
    versions = result.versions(modules)
    print("\n" + EXPLAINED.format(clock=clock, loop=loop), file=out)
    print(", ".join(f"{name} {value}" for name, value in versions.items()), file=out)
    print(summary(cells) + ("; interrupted" if was_interrupted else ""), file=out, flush=True)
    if options.json:
        more = {"versions": versions, "clock_ns": clock, "loop_ns": loop, "interrupted": was_interrupted}
        result.write(options.json, result.document("components", vars(options), cells, **more))
    return 130 if was_interrupted else 0
