"""``erlmcp bench iterators``: what walking needs beside what is walked, for a thousand things and for a million.

Each structure is filled, then walked to its end: page by page (flag ``iterators``), and by a list made first (without
it). The memory is the peak of what Python allocates during the walk (``tracemalloc``); the time is that of another
walk, per thing, without it.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from erlmcp import core
from erlmcp.bench import table
from erlmcp.runtime.roll import Roll
from erlmcp.runtime.scheduler import Scheduler

COUNTS = (1_000, 10_000, 100_000, 1_000_000)
Walk = Callable[[], Iterator[Any]]


class Connection:
    """What has a place in a roll."""

    __slots__ = ("place",)

    def __init__(self) -> None:
        self.place = 0


def sessions(count: int) -> Walk:
    store = core.SessionStore(count)
    for number in range(count):
        store.put(f"session-{number}", number)
    return lambda: core.walk(store.scan)


def connections(count: int) -> Walk:
    roll: Roll[Connection] = Roll()
    for _ in range(count):
        roll.add(Connection())
    return lambda: iter(roll)


def pending(count: int) -> Walk:
    correlation = core.Correlation(count)
    for number in range(count):
        correlation.put_next(number)
    return lambda: core.walk(correlation.scan)


def members(count: int) -> Walk:
    pool = core.Pool(count)
    for number in range(count):
        pool.add(number)
    return lambda: core.walk(pool.scan)


def jobs(count: int) -> Walk:
    scheduler = Scheduler(count)
    for _ in range(count):
        scheduler.add(len, every_s=60)
    return scheduler.jobs


KINDS: dict[str, Callable[[int], Walk]] = {
    "sessions": sessions,
    "connections": connections,
    "pending calls": pending,
    "pool members": members,
    "jobs": jobs,
}


@dataclass
class WalkRow:
    """One structure of one size."""

    kind: str
    count: int
    paged_bytes: int
    listed_bytes: int
    paged_ns: float
    listed_ns: float


def drain(things: Iterator[Any]) -> int:
    count = 0
    for _thing in things:
        count += 1
    return count


def listed(walk: Walk) -> Walk:
    return lambda: iter(list(walk()))


def peak_bytes(walk: Walk) -> int:
    """The most that a walk has allocated at a time. A short one comes first, for what is made once."""
    next(walk())
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        drain(walk())
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def each_ns(walk: Walk, count: int) -> float:
    start = time.perf_counter_ns()
    drain(walk())
    return (time.perf_counter_ns() - start) / count


def measure(kind: str, count: int) -> WalkRow:
    walk = KINDS[kind](count)
    copied = listed(walk)
    return WalkRow(kind, count, peak_bytes(walk), peak_bytes(copied), each_ns(walk, count), each_ns(copied, count))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("erlmcp bench iterators", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="up to 10,000 things")
    options = parser.parse_args(arguments)
    counts = COUNTS[:2] if options.quick else COUNTS
    rows = [measure(kind, count) for kind in KINDS for count in counts]
    heads = ["walked", "count", "paged KiB", "listed KiB", "paged ns each", "listed ns each"]
    cells = [
        [
            row.kind,
            f"{row.count:,}",
            table.number(row.paged_bytes / 1024),
            table.number(row.listed_bytes / 1024),
            table.number(row.paged_ns),
            table.number(row.listed_ns),
        ]
        for row in rows
    ]
    title = f"extra memory of a walk ({core.IMPLEMENTATION}); paged: flag iterators, listed: without it"
    table.write(sys.stdout, title, heads, cells)
    return 0
