"""``erlmcp trace``: the calls of a running server, one line each, as they happen."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from erlmcp.cli.paint import paint
from erlmcp.cli.top import clean
from erlmcp.cli.watch import duration, events


def run(options: argparse.Namespace) -> int:
    for event, data in events(options, "/metrics/trace", {}):
        if event == "lost":
            if not data:
                print(paint("lost, trying again", "dim", sys.stderr), file=sys.stderr)
        elif wants(options, data):
            print(json.dumps(data, ensure_ascii=False) if options.json else line_of(data), flush=True)
            if options.once:
                break
    return 0


def wants(options: argparse.Namespace, trace: dict[str, Any]) -> bool:
    """Whether the options let a trace through."""
    return (
        (not options.errors or bool(trace["error"]))
        and (options.tool is None or trace["name"] == options.tool)
        and trace["us"] >= options.slower_ms * 1000
    )


def line_of(trace: dict[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(trace["at"])) + f".{int(trace['at'] * 1000) % 1000:03}"
    what = f"{clean(trace['method'])} {clean(trace['name'])}".strip()
    rooms = ", ".join(f"{name} {duration(us)}" for name, us in trace["rooms"].items())
    outcome = paint(clean(f"{trace['error']} {trace['message']}".strip()), "red") if trace["error"] else trace["reason"]
    where = f"{trace['transport']} {trace['version']}"
    where += f"  trace {trace['trace']}" if trace.get("trace") else ""
    return f"{at}  {duration(trace['us']):>10}  {what}  {outcome}  id {clean(trace['id'])}  {where}" + (
        f"  ({rooms})" if rooms else ""
    )
