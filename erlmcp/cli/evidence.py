"""A roll-out as a person reads it: where it stands, what both sides gave, and every step with why it was taken."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from erlmcp.bench import table
from erlmcp.cli.loadtest import time_text
from erlmcp.cli.paint import paint

COLOURS = {"back": "red", "done": "green", "running": "cyan", "shadow": "cyan"}


def show(status: dict[str, Any]) -> None:
    """What both sides got and gave in this stage, and every step until now with its evidence."""
    state = paint(status["state"], COLOURS[status["state"]])
    what = "conversations" if status["conversations"] else f"calls of {', '.join(status['tools'])}"
    stages = " -> ".join(f"{share:.0%}" for share in status["shares"])
    print(f"\n{paint(status['name'], 'bold')}: {state}, the new side has {status['share']:.0%} of {what} ({stages})")
    # Where it is over, what there is to see is what decided it.
    seen = status["events"][-1] if status["state"] in ("back", "done") else {**status, **status["judged"]}
    rows = [_cells(side, seen[side]) for side in ("old", "new")]
    compared = f"{seen['compared']} answers compared in the shadow, {seen['wrong']} different"
    notes = [f"{compared}; {status['copies_refused']} copies not made", *judged(seen)]
    title = "the evidence that decided" if "why" in seen else "this stage"
    table.write(sys.stdout, title, ["side", "calls", "errors", "p50", "p95"], rows, notes)
    print("steps")
    for event in status["events"]:
        show_event(event)


def _cells(name: str, side: dict[str, Any]) -> Sequence[str]:
    times = [time_text(side["p50_ns"]), time_text(side["p95_ns"])] if side["calls"] else ["-", "-"]
    return [name, f"{side['calls']:,}", f"{side['errors']:,} ({side['error_rate']:.2%})", *times]


def judged(found: dict[str, Any]) -> list[str]:
    """The last look at the evidence, in words."""
    if "look" not in found:
        return ["not judged yet"]
    lines = [
        f"look {found['look']} at alpha {found['alpha']:.2g}: errors by chance {found['error_chance']:.3g}, "
        f"at most {found['error_difference_max']:.2%} more"
    ]
    for name in ("p50", "p95"):
        new, old = (_between(found[name][f"{side}_ns"]) for side in ("new", "old"))
        lines.append(f"{name}: new {new}, old {old}")
    return lines


def _between(bounds: Sequence[float | None]) -> str:
    low, high = (None if bound is None else time_text(bound) for bound in bounds)
    return f"from {low}" if high is None else f"{low} to {high}"


def show_event(event: dict[str, Any]) -> None:
    """One step, with its reason."""
    word = {"back": "red", "forward": "green"}.get(event["event"], "dim")
    old, new = event["old"], event["new"]
    print(f"  {paint(event['event'], word)} to {event['share']:.0%}: {event['why']}")
    if old["calls"] or event["compared"]:
        compared = f"{event['compared']} compared, {event['wrong']} different"
        print(paint(f"      old {old['calls']:,} calls, new {new['calls']:,} calls, {compared}", "dim"))
    for line in judged(event) if "look" in event else ():
        print(paint(f"      {line}", "dim"))
