"""``erlmcp bench metrics``: what recording costs. A server with metrics and two without, under load by turns.

Throughput on a shared machine swings by more than is to be measured, so that beside it stands the CPU time of the
server for each request, as the scheduler counts it (Linux). Changes are medians over the rounds; how far the two
servers without metrics differ from each other is what no change below can be told from.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from erlmcp import core
from erlmcp.bench import message
from erlmcp.bench.load import http_load, lines_load
from erlmcp.bench.process import PEERS, Running
from erlmcp.metrics.series import SUB_BITS, VALUE_MAX

INFLIGHT: Final = 64
RECORDS: Final = 10_000  # of a run, which is short so that some of them have the core to themselves
RUNS: Final = 200
ROWS: Final = {"http": "stateless", "stdio": "stdio"}


def load(server: Running, kind: str, seconds: float) -> tuple[float, float]:
    """Right answers a second, and nanoseconds of the server's CPU for each. RuntimeError for a wrong answer."""
    body = message.call("echo", {"text": message.TEXT})
    before = cpu_ns(server.process.pid)
    if kind == "http":
        request = message.http(server.port, body)
        found = http_load(
            "127.0.0.1", server.port, request, connections=INFLIGHT, seconds=seconds, expect=message.EXPECT
        )
    else:
        assert server.process.stdin is not None
        assert server.process.stdout is not None
        fds = server.process.stdout.fileno(), server.process.stdin.fileno()
        found = lines_load(body, fds=fds, inflight=INFLIGHT, seconds=seconds, expect=message.EXPECT)
    if found["errors"] or not found["count"]:
        raise RuntimeError(f"{found['errors']} wrong answers: {found['first_error']!r}")
    return found["rate"], (cpu_ns(server.process.pid) - before) / found["count"]


def cpu_ns(pid: int) -> int:
    """What the main thread of a process has run so far; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except OSError:
        return 0


def compare(kind: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Off, on and off by turns, each the first in its time."""
    cpus = sorted(os.sched_getaffinity(0))
    pinned = cpus[0] if len(cpus) > 1 else None
    own = next(peer for peer in PEERS if peer.name == "erlmcp")
    servers = [
        Running(own, ROWS[kind], sys.executable, {"ERLMCP_METRICS": on}, cpu=pinned) for on in ("off", "on", "off")
    ]
    seen: list[list[tuple[float, float]]] = [[], [], []]
    try:
        for server in servers:
            server.start()
        if pinned is not None:
            os.sched_setaffinity(0, cpus[1:])
        for server in servers:
            load(server, kind, seconds / 2)
        for number in range(rounds):
            for turn in range(len(servers)):
                which = (number + turn) % len(servers)
                seen[which].append(load(servers[which], kind, seconds))
    finally:
        os.sched_setaffinity(0, cpus)
        for server in servers:
            if hasattr(server, "process"):
                server.stop()
    off, on, again = seen
    has_cpu = all(cpu > 0 for side in seen for _, cpu in side)  # of a very short turn it may not be told yet
    return {
        "row": f"{kind}, {INFLIGHT} " + ("connections" if kind == "http" else "in flight"),
        "rate_off": median(rate for rate, _ in off),
        "rate_on": median(rate for rate, _ in on),
        "rate_change": _change(off, on, 0),
        "rate_noise": _change(off, again, 0),
        "cpu_ns_off": median(cpu for _, cpu in off),
        "cpu_ns_on": median(cpu for _, cpu in on),
        "cpu_change": _change(off, on, 1) if has_cpu else None,
        "cpu_noise": _change(off, again, 1) if has_cpu else None,
    }


def _change(before: list[tuple[float, float]], after: list[tuple[float, float]], part: int) -> float:
    return median(b[part] / a[part] - 1 for a, b in zip(before, after, strict=True))


def record_ns() -> float:
    """One record from C, by a loop without the GIL: the best of ``RUNS``."""
    histogram = core.Histogram(VALUE_MAX, SUB_BITS)
    histogram.record_range(1000, RECORDS)
    found = []
    for _ in range(RUNS):
        began = time.perf_counter_ns()
        histogram.record_range(1000, RECORDS)
        found.append((time.perf_counter_ns() - began) / RECORDS)
    return min(found)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="erlmcp bench metrics", description="What recording costs.")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each server (default: 12)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (default: 2)")
    parser.add_argument("--only", choices=list(ROWS), help="one of the rows")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    options = parser.parse_args(arguments)
    rows = [compare(kind, options.rounds, options.seconds) for kind in ROWS if options.only in (None, kind)]
    found = {"record_ns": round(record_ns(), 1), "rows": rows}
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"one record from C: {found['record_ns']} ns\n")
    print(
        f"{'':28}{'off /s':>10}{'on /s':>10}{'change':>9}{'noise':>9}{'CPU off':>11}{'on':>11}{'change':>9}{'noise':>9}"
    )
    for row in rows:
        cpu = "".join(f"{'-' if row[key] is None else f'{row[key]:+.1%}':>9}" for key in ("cpu_change", "cpu_noise"))
        print(
            f"{row['row']:28}{row['rate_off']:10,.0f}{row['rate_on']:10,.0f}{row['rate_change']:+9.1%}"
            f"{row['rate_noise']:+9.1%}{row['cpu_ns_off']:8,.0f} ns{row['cpu_ns_on']:8,.0f} ns{cpu}"
        )
    return 0
