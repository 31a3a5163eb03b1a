"""``erlmcp bench flags``: what each single flag buys, on work where it shows: all on beside all on but that one.

The two variants of a row run in processes of their own, alternately, so that a drift of the machine meets both. A ratio
below 1 is a flag that costs on this work. A flag that is on no row is named.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from erlmcp import flags
from erlmcp.bench import option, result, screen, table, timing
from erlmcp.bench.components.row import BATCH
from erlmcp.bench.room import MissingError
from erlmcp.bench.timing import Timed, closing
from erlmcp.bench.worker import Worker

GUARDING = "erlmcp.bench.guarding"
BUYING = "erlmcp.bench.buying"
CROWDED = "erlmcp.bench.crowded"
JOURNEY = "erlmcp.bench.journey"
TIME_S = 1.0  # of each variant, over all rounds


@dataclass(frozen=True)
class Row:
    """A flag, the work in words, and the ``module:function`` that makes it in a worker, with what it is given.
    ``others`` are flags that are off on both sides, as they would hide what this one does."""

    flag: str
    words: str
    make: str
    given: tuple[Any, ...] = ()
    others: tuple[str, ...] = ()


# A new flag is a row here.
ROWS = (
    Row("batching", "calls over stdio, 16 in flight", f"{BUYING}:over_stdio", (16,)),
    Row("aggregation", "calls over stdio on 2025-03-26, 16 in flight, as arrays", f"{BUYING}:over_stdio", (16, True)),
    Row("caching", "a client's list of 50 tools, which may be kept", f"{BUYING}:kept_list", (50,)),
    Row("prewarm", "8 calls at once over HTTP, a moment after connecting", f"{BUYING}:first_calls", (8,)),
    Row("pooling", "calls over HTTP, one after the other", f"{BUYING}:over_http", (1,)),
    Row("pipelining", "calls over stdio, 16 in flight", f"{BUYING}:over_stdio", (16,)),
    Row("http2", "calls over HTTP/2 beside HTTP/1.1, 16 in flight", f"{BUYING}:over_http", (16, True)),
    Row("keepalive", "calls over HTTP, one after the other", f"{BUYING}:over_http", (1,)),
    Row(
        "async_execution",
        f"tools/call of an async handler, {BATCH:,} a read, no socket",
        f"{JOURNEY}:made",
        ("echo", BATCH),
    ),
    Row(
        "native_json",
        f"tools/call of an async handler, {BATCH:,} a read, no socket",
        f"{JOURNEY}:made",
        ("echo", BATCH),
    ),
    Row("work_stealing", "64 calls at once of an ordinary function, no socket", f"{CROWDED}:burst", (64,)),
    Row("priority_queues", "a critical call behind 1,000 bulk ones that run in threads", f"{CROWDED}:urgent"),
    Row("priority_messages", "server/discover while 16 connections asked for 256 things each", f"{CROWDED}:probe"),
    Row("iterators", "the first of 10,000 conversations that are walked", f"{BUYING}:first_session", (10_000,)),
    Row("zero_copy", "tools/list of 1,000 tools, no socket", f"{BUYING}:server_list", (1000,)),
    Row("circuit_breaker", "calls of a tool that fails after a millisecond", f"{GUARDING}:failing"),
    Row("adaptive_timeouts", "calls of a tool that does not answer; the limit is 50 ms", f"{GUARDING}:silent"),
    Row("backpressure", "calls at 3x the rate that can be served, each answered in time", f"{CROWDED}:overloaded"),
    Row("rate_limit", "calls of a tool that takes half a millisecond, above its rate", f"{GUARDING}:costly"),
)


def remote(row: Row, changes: Sequence[str]) -> Timed:
    """The row's work in a process with these changes of flags. Raises MissingError."""
    off = [f"-{name}" for name in row.others]
    worker = Worker(environment={"ERLMCP_PHASE": "5", "ERLMCP_FLAGS": ",".join([*off, *changes])})
    try:
        return closing(worker.timed(row.make, *row.given), worker.close)
    except BaseException:
        worker.close()
        raise


def measure(row: Row, rounds: int, slice_s: float) -> dict[str, Any]:
    """Both variants alternately; the ratio is the time without the flag over the time with it."""
    cell: dict[str, Any] = {"flag": row.flag, "phase": flags.PHASE_OF[row.flag], "words": row.words}
    try:
        on, off = remote(row, [f"+{row.flag}"]), remote(row, [f"-{row.flag}"])
        timing.go_round([on, off], rounds, slice_s)
    except MissingError as error:
        return {**cell, "status": str(error)}
    ratios = sorted(b / a for a, b in zip(on.rounds, off.rounds, strict=True))
    return {
        **cell,
        "status": "measured",
        "on_ns": on.ns,
        "off_ns": off.ns,
        "ratio": timing.ratio(off, on),
        "ratio_least": ratios[0],
        "ratio_most": ratios[-1],
        "rounds": {"on": on.rounds, "off": off.rounds},
    }


def without_row() -> list[str]:
    """Flags that nothing here shows."""
    return [name for name in flags.names() if name not in {row.flag for row in ROWS}]


def report(cells: Sequence[dict[str, Any]], out: TextIO) -> None:
    """One line for each flag."""
    lines = []
    for cell in cells:
        if "ratio" in cell:
            figures = [table.number(cell["on_ns"] / 1e3), table.number(cell["off_ns"] / 1e3)]
            buys = f"{table.number(cell['ratio'])}x"
            spread = f"{table.number(cell['ratio_least'])}-{table.number(cell['ratio_most'])}"
        else:
            figures, buys, spread = ["-", "-"], cell["status"].split(":")[0], "-"
        lines.append([cell["flag"], str(cell["phase"]), *figures, buys, spread])
    notes = [f"{cell['flag']}: {cell['words']}" for cell in cells]
    notes += [f"{cell['flag']}: {cell['status']}" for cell in cells if cell["status"] != "measured"]
    if missing := without_row():
        notes.append(f"without a row: {', '.join(missing)}")
    heads = ["flag", "phase", "us, on", "us, off", "it buys", "in single rounds"]
    table.write(out, "each flag off beside all on, alternately", heads, lines, notes)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="erlmcp bench flags", description="Measure what each single flag buys.")
    option.add_to(made, "flags", (row.flag for row in ROWS), "variant", TIME_S)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 130 where it was interrupted: what was measured until then is printed and written."""
    made = parser()
    options = made.parse_args(argv)
    wanted = option.settle(made, options, (row.flag for row in ROWS), TIME_S, TIME_S / 10)
    rows = [row for row in ROWS if row.flag in wanted]
    print(result.title("flags"), flush=True)
    cells: list[dict[str, Any]] = []
    was_interrupted = False
    with screen.progress(len(rows), sys.stderr) as tell:
        try:
            for row in rows:
                tell(row.flag)
                cells.append(measure(row, options.rounds, options.time_s / options.rounds))
                gc.collect()
        except KeyboardInterrupt:
            was_interrupted = True
    report(cells, sys.stdout)
    print("\nit buys: time without the flag over the time with it, median over the rounds")
    if was_interrupted:
        print("interrupted")
    if options.json:
        more = {"without_row": without_row(), "interrupted": was_interrupted, "versions": result.versions()}
        result.write(options.json, result.document("flags", vars(options), cells, **more))
    return 130 if was_interrupted else 0
