"""``erlmcp bench phases``: what each phase of the plan buys, row by row, over the baseline measured in the same run.

The baseline of a row is our own stack in plain Python (``_model``) with every flag off: one call an item, one message a
write, the json module. A phase does the row's operation in the best way that the flags up to that phase allow; where a
phase adds nothing to a row, its figure is that of the phase before it. Beside each phase stands the twin stack, which
does the same with the same flags: what the compiled core is worth there. What is not built is named, not pretended.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from erlmcp import flags
from erlmcp.bench import option, result, screen, table, timing
from erlmcp.bench.components import way
from erlmcp.bench.components.calling import remote as call
from erlmcp.bench.components.network import remote
from erlmcp.bench.components.row import BATCH
from erlmcp.bench.room import MissingError
from erlmcp.bench.timing import Timed

# The plan's gates: how many times the baseline each phase must reach.
GATES = {1: 5.0, 2: 10.0, 3: 45.0, 4: 72.0, 5: 90.0}
# The flags that the plan has for each phase.
PLAN = {
    1: ("batching", "aggregation", "caching", "prewarm"),
    2: ("pooling", "pipelining", "http2", "keepalive"),
    3: ("async_execution", "work_stealing", "priority_queues"),
    4: ("native_json", "priority_messages", "iterators", "zero_copy"),
    5: ("circuit_breaker", "backpressure", "adaptive_timeouts", "rate_limit"),
}
BASELINE = 0
TIME_S, QUICK_TIME_S = 0.5, 0.03  # of each phase, over all rounds


@dataclass(frozen=True)
class Step:
    """How a phase does the row's operation. ``make`` None: as phase ``like`` does it (0: as the baseline). ``twin``
    does the same on the twins, one call for many where ours is a loop in C."""

    phase: int
    words: str
    make: Callable[[], Timed] | None = None
    like: int = BASELINE
    twin: Callable[[], Timed] | None = None


@dataclass(frozen=True)
class Track:
    """A row of the plan: the operation in words, and its steps from the baseline on."""

    key: str
    operation: str
    steps: tuple[Step, ...]


def _way(key: str, column: str, who: str = "core") -> Callable[[], Timed]:
    return lambda: way(key, column, who).make()


def _same(phase: int, like: int, why: str) -> Step:
    return Step(phase, f"as {f'phase {like}' if like else 'the baseline'}: {why}", like=like)


WIRE_ONLY = "its flags are about the wire, not about this operation"
GUARDS = "its flags guard calls, and take nothing off this operation"


def _structure(key: str, operation: str, row: str, words: dict[int, str]) -> Track:
    """A row in memory: the twin one by one, the compiled room in batches, the C face without the GIL."""
    return Track(
        key,
        operation,
        (
            Step(BASELINE, words[0], _way(row, "call", "model")),
            Step(1, words[1], _way(row, "batch"), twin=_way(row, "batch", "model")),
            _same(2, 1, WIRE_ONLY),
            Step(3, words[3], _way(row, "core"), twin=_way(row, "batch", "model")),
            _same(4, 3, words[4]),
            _same(5, 3, GUARDS),
        ),
    )


def _network() -> Track:
    def variant(phase: str, batch: int, core: str = "core") -> Callable[[], Timed]:
        is_baseline = phase == "baseline"
        return remote("echo", batch, is_plain_json=is_baseline, ERLMCP_CORE=core, ERLMCP_PHASE=phase)

    def step(phase: int, words: str) -> Step:
        return Step(phase, words, variant(str(phase), BATCH), twin=variant(str(phase), BATCH, "model"))

    return Track(
        "network",
        "a tools/call of an async Python handler: framed, parsed, dispatched, answered, written; bytes in -> bytes"
        " out, no socket",
        (
            Step(
                BASELINE,
                "_model, ERLMCP_PHASE=baseline, the json module; one message a read, one answer a write, a task a call",
                variant("baseline", 1, "model"),
            ),
            step(1, f"the compiled core, ERLMCP_PHASE=1; {BATCH:,} messages a read, their answers in one write"),
            _same(2, 1, "its flags are the client's, the pool's and HTTP/2's"),
            step(3, "ERLMCP_PHASE=3: the handler's first step inline, no task where it does not wait"),
            step(4, "ERLMCP_PHASE=4: native JSON, compiled from the bytes to the answer"),
            step(5, "ERLMCP_PHASE=5"),
        ),
    )


def _end_to_end() -> Track:
    """A client's call of a server in its process, by the client's own choice of the way."""

    def variant(phase: str, core: str = "core") -> Callable[[], Timed]:
        is_baseline = phase == "baseline"
        return call(
            "bytes" if is_baseline else "objects",
            is_plain_json=is_baseline,
            ERLMCP_CORE=core,
            ERLMCP_PHASE=phase,
        )

    def step(phase: int, words: str) -> Step:
        return Step(phase, words, variant(str(phase)), twin=variant(str(phase), "model"))

    return Track(
        "end-to-end",
        "await client.call_tool(...) to its result, an async handler of a server in the same process, 1 in flight",
        (
            Step(
                BASELINE, "_model, ERLMCP_PHASE=baseline, the json module, through bytes", variant("baseline", "model")
            ),
            step(1, "the compiled core, ERLMCP_PHASE=1, through bytes"),
            step(2, "ERLMCP_PHASE=2"),
            step(3, "ERLMCP_PHASE=3: no task for the handler"),
            step(4, "ERLMCP_PHASE=4: values that are the same on both sides go as objects, without bytes"),
            step(5, "ERLMCP_PHASE=5"),
        ),
    )


def tracks() -> list[Track]:
    """The rows of the plan."""
    return [
        _structure(
            "registry",
            "name -> entry among 1,000, equal but not identical names",
            "registry-1k",
            {
                0: "the twin in Python, registry[name]",
                1: f"the compiled registry, get_many of {BATCH:,} names",
                3: "the C face without the GIL, as a thread of the executor uses it: names as bytes of a read buffer",
                4: "zero_copy has no more to take away: the names are looked up where they lie",
            },
        ),
        _structure(
            "queue",
            "one item pushed and popped again, FIFO, bounded to 1,024",
            "queue",
            {
                0: "the twin in Python, push and pop",
                1: f"the compiled queue, push_many and pop_many of {BATCH:,}",
                3: "the C face without the GIL, as a thread of the executor uses it: pointers, one by one",
                4: "pointers move, nothing is copied",
            },
        ),
        _structure(
            "pool",
            "a member lent and returned, with limit, order and leak bookkeeping",
            "pool",
            {
                0: "the twin in Python, lend and take_back",
                1: f"the compiled pool, pre-warmed; lend_many and take_back_many of {BATCH:,}",
                3: "the C face without the GIL, with its lock",
                4: "nothing is copied",
            },
        ),
        _structure(
            "session",
            "id -> live record among 1,000, touched",
            "session-1k",
            {
                0: "the twin in Python, store[id]",
                1: f"the compiled store, get_many of {BATCH:,} ids",
                3: "the C face without the GIL: ids as bytes of a read buffer",
                4: "zero_copy has no more to take away: the ids are looked up where they lie",
            },
        ),
        _network(),
        _end_to_end(),
    ]


def not_built() -> dict[int, list[str]]:
    """The plan's flags by phase for which there is no switch yet."""
    return {phase: [name for name in names if name not in flags.PHASE_OF] for phase, names in PLAN.items()}


def _cell(
    track: Track, step: Step, made: dict[int, Timed], twins: dict[int, Timed], errors: dict[int, str]
) -> dict[str, Any]:
    phase = step.phase
    source = phase if step.make is not None else step.like
    cell: dict[str, Any] = {
        "row": track.key,
        "operation": track.operation,
        "phase": "baseline" if phase == BASELINE else phase,
        "words": step.words,
        "as_phase": None if step.make is not None else source,
        "gate": GATES.get(phase),
        "status": errors.get(source, "measured"),
        "met": None,
    }
    if source in made and BASELINE in made:
        one = made[source]
        cell.update(ns=one.ns, best_ns=one.best_ns, rate=1e9 / one.ns, spread=one.spread, rounds=one.rounds)
        cell["ratio"] = timing.ratio(made[BASELINE], one)
        if phase != BASELINE:
            cell["met"] = cell["ratio"] >= GATES[phase]
    if source in made and source in twins:
        cell["twin_ns"] = twins[source].ns
        cell["over_twin"] = timing.ratio(twins[source], made[source])
    return cell


def _raise_floor(cells: list[dict[str, Any]]) -> None:
    """A phase has all flags of those before it, and need not use the newest way: where an earlier one was better, its
    figure stands, and the words say so."""
    best: dict[str, Any] | None = None
    for cell in cells:
        if "ratio" not in cell or cell["phase"] == "baseline":
            continue
        if best is not None and best["ratio"] > cell["ratio"]:
            for name in ("ns", "best_ns", "rate", "spread", "rounds", "ratio", "twin_ns", "over_twin"):
                if name in best:
                    cell[name] = best[name]
            cell["as_phase"] = best["phase"] if best["as_phase"] is None else best["as_phase"]
            cell["words"] += f" (phase {cell['as_phase']}'s way is the better one)"
            cell["met"] = cell["ratio"] >= cell["gate"]
        else:
            best = cell


def measure(track: Track, rounds: int, slice_s: float) -> list[dict[str, Any]]:
    """All phases of one row, alternately."""
    made: dict[int, Timed] = {}
    twins: dict[int, Timed] = {}
    errors: dict[int, str] = {}
    for step in track.steps:
        if step.make is None:
            continue
        try:
            made[step.phase] = _tried(step.make)
            if step.twin is not None:
                twins[step.phase] = _tried(step.twin)
        except MissingError as error:
            errors[step.phase] = str(error)
        except Exception as error:
            errors[step.phase] = f"{type(error).__name__}: {error}"
    if made:
        timing.go_round([*made.values(), *twins.values()], rounds, slice_s)
    cells = [_cell(track, step, made, twins, errors) for step in track.steps]
    _raise_floor(cells)
    return cells


def _tried(make: Callable[[], Timed]) -> Timed:
    one = make()
    one.elapsed(1)
    return one


def report(cells: Sequence[dict[str, Any]], out: TextIO) -> None:
    """One table for each row, and one of the gates."""
    for row in dict.fromkeys(cell["row"] for cell in cells):
        here = [cell for cell in cells if cell["row"] == row]
        lines = [
            [
                str(cell["phase"]),
                table.number(cell["ns"]) if "ns" in cell else cell["status"].split(":")[0],
                table.number(cell["rate"] / 1e6 if "rate" in cell else None),
                f"{table.number(cell.get('ratio'))}x" if "ratio" in cell else "-",
                table.number(cell.get("twin_ns")),
                f"{table.number(cell.get('over_twin'))}x" if "over_twin" in cell else "-",
                f">= {cell['gate']:g}x" if cell["gate"] else "-",
                {None: "-", True: "met", False: "missed"}[cell["met"]],
            ]
            for cell in here
        ]
        notes = [f"phase {cell['phase']}: {cell['words']}" for cell in here]
        notes += dict.fromkeys(cell["status"] for cell in here if cell["status"] != "measured")
        heads = ["phase", "ns", "M/s", "over baseline", "twin, ns", "over twin", "gate", "is"]
        table.write(out, f"{row}: {here[0]['operation']}", heads, lines, notes)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="erlmcp bench phases", description="Measure what each phase of the plan buys over the baseline."
    )
    option.add_to(made, "rows", (track.key for track in tracks()), "phase", TIME_S)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 130 where it was interrupted: what was measured until then is printed and written."""
    made = parser()
    options = made.parse_args(argv)
    known = tracks()
    wanted = option.settle(made, options, (track.key for track in known), TIME_S, QUICK_TIME_S)
    found = [track for track in known if track.key in wanted]
    out = sys.stdout
    print(result.title("phases"), file=out, flush=True)
    cells: list[dict[str, Any]] = []
    was_interrupted = False
    with screen.progress(len(found), sys.stderr) as tell:
        try:
            for track in found:
                tell(track.key)
                cells += measure(track, options.rounds, options.time_s / options.rounds)
                gc.collect()
        except KeyboardInterrupt:
            was_interrupted = True
    report(cells, out)
    print("\nover baseline: median over the rounds of the ratios of single rounds, all phases alternately", file=out)
    print("over twin: the twin stack with the same flags, in batches where ours is a loop in C", file=out)
    for phase, names in not_built().items():
        if names:
            print(f"phase {phase}, no switch for it yet: {', '.join(names)}", file=out)
    if was_interrupted:
        print("interrupted", file=out)
    if options.json:
        more = {"flags_not_built": not_built(), "interrupted": was_interrupted, "versions": result.versions()}
        result.write(options.json, result.document("phases", vars(options), cells, **more))
    return 130 if was_interrupted else 0
