"""``erlmcp bench components``: the parts, each against its mark, its twin and the best library of its kind."""

from __future__ import annotations

import os

from erlmcp.bench.components import (
    cache,
    calling,
    ground,
    json,
    network,
    order,
    pool,
    protect,
    queue,
    registry,
    session,
    threads,
)
from erlmcp.bench.components.row import COLUMNS, Row, Way
from erlmcp.bench.timing import Timed

ROWS: list[Row] = [
    *registry.ROWS,
    *queue.ROWS,
    *pool.ROWS,
    *session.ROWS,
    *cache.ROWS,
    *ground.ROWS,
    *order.ROWS,
    *threads.ROWS,
    *protect.ROWS,
    *json.ROWS,
    *network.ROWS,
    *calling.ROWS,
]
MEMORY_FROM = 100_000  # entries: from there on a structure is big enough for its memory to be read off the process
FAMILIES = list(dict.fromkeys(row.family for row in ROWS))


def chosen(names: str | None, is_quick: bool) -> list[Row]:
    """The rows of these families, or with these keys. Raises ValueError for a name that is neither."""
    kept = [row for row in ROWS if not (is_quick and row.is_slow)]
    if names is None:
        return kept
    wanted = set(names.split(","))
    unknown = wanted - {row.key for row in ROWS} - set(FAMILIES)
    if unknown:
        known = ", ".join(FAMILIES)
        raise ValueError(f"unknown row {', '.join(sorted(unknown))}; expected a row's key or one of {known}")
    return [row for row in ROWS if row.key in wanted or (row.family in wanted and row in kept)]


def way(key: str, column: str, who: str) -> Way:
    """One way of one row. Raises ValueError where there is none."""
    for row in ROWS:
        if row.key == key:
            for one in row.ways():
                if (one.column, one.who) == (column, who):
                    return one
    raise ValueError(f"no way {key} {column} {who}")


def made(key: str, column: str, who: str = "core") -> Timed:
    """That way, ready to be measured: what a worker of another build is asked for."""
    return way(key, column, who).make()


def memory_mb(key: str) -> float:
    """What the structure of a row adds to this process, which must be a fresh one, with its names made before."""
    one = way(key, "call", "core")
    before = _resident_mb()
    kept = one.make()
    return _resident_mb() - before if kept.count else 0.0


def _resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(argv: list[str] | None = None) -> int:
    """The command. Returns its exit code."""
    from erlmcp.bench.components.command import main as run

    return run(argv)


__all__ = ["COLUMNS", "FAMILIES", "MEMORY_FROM", "ROWS", "chosen", "made", "main", "memory_mb", "way"]
