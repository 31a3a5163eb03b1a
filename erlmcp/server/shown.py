"""The tables of a server's dashboard that are no table of tools: pools and queues, caches, guards, roll-outs,
and what is asked of others.

A section is a title, its columns (key, label, kind of value) and a function that gives its rows; the function is handed
what adds durations up over the span that a reader looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from erlmcp.metrics import family as f

if TYPE_CHECKING:
    from erlmcp.metrics.series import Row, Series
    from erlmcp.server.app import Server

Columns = list[tuple[str, str, str]]
Section = tuple[str, Columns, Callable[[Any], "list[Row]"]]

POOLS: Final = [
    ("name", "Pool or queue", "text"), ("used", "In use", "count"), ("most", "Of", "count"),
    ("full", "Use", "share"), ("waiting", "Waiting", "count"),
]  # fmt: skip
CACHES: Final = [
    ("name", "Cache", "text"), ("share", "Hit rate", "share"), ("hits", "Hits", "count"),
    ("misses", "Misses", "count"), ("entries", "Entries", "count"), ("evictions", "Evicted", "count"),
]  # fmt: skip
GUARDS: Final = [
    ("name", "Tool", "text"), ("breaker", "Breaker", "state"), ("rate", "Refused by rate", "count"),
    ("open", "By the breaker", "count"), ("full", "By the bulkhead", "count"), ("running", "Running", "count"),
    ("waiting", "Waiting", "count"), ("timeout", "Timeout", "time"),
]  # fmt: skip
ROLLOUTS: Final = [
    ("name", "Roll-out", "text"), ("state", "State", "state"), ("share", "Share of the new", "share"),
    ("old", "Calls, old", "count"), ("old_errors", "Errors, old", "count"), ("new", "Calls, new", "count"),
    ("new_errors", "Errors, new", "count"), ("wrong", "Answers that differ", "count"),
]  # fmt: skip
ASKED: Final = [
    ("name", "Server or client", "text"), ("rate", "A second", "count"), ("calls", "Calls", "count"),
    ("errors", "Errors", "count"), ("p50", "p50", "time"), ("p95", "p95", "time"), ("p99", "p99", "time"),
]  # fmt: skip


def sections_of(server: Server) -> dict[str, Section]:
    """What each server shows; what has no rows takes no room."""
    return {
        "pools": ("Pools and queues", POOLS, lambda _: list(_pools(server))),
        "caches": ("Caches", CACHES, lambda _: list(_caches(server))),
        "guards": ("Breakers and limits", GUARDS, lambda _: list(_guards(server))),
        "rollouts": ("Roll-outs", ROLLOUTS, lambda _: list(_rollouts(server))),
        "asked": ("Asked of others", ASKED, lambda add_up: list(_asked(server, add_up))),
    }


def _pool(name: str, used: float, most: float | None, waiting: float = 0) -> Row:
    return {"name": name, "used": used, "most": most, "full": used / most if most else None, "waiting": waiting}


def _pools(server: Server) -> Iterator[Row]:
    if server._users:  # it runs
        load, lanes, turn = server.turn.load, server.lanes, server.turn
        waiting = lanes.waiting
        yield _pool("requests in flight", load.inflight, load.inflight_max)
        running = max(0, len(lanes) - sum(waiting.values()))
        yield _pool("threads", running, lanes.thread_count_max, sum(waiting.values()))
        for lane, lane_count in waiting.items():
            yield _pool(f"threads, {lane} lane", lane_count, lanes.queue_max)
        yield _pool("connections in line for their turn", len(turn), None)
    for name, stats in server.metrics.holds.pools.items():
        told = stats()
        count = told.get("count", 0)
        yield _pool(name, count - told.get("idle_count", 0), count or None, told.get("waiting_count", 0))


def _caches(server: Server) -> Iterator[Row]:
    for name, stats in server.metrics.holds.caches.items():
        told = stats()
        hits, misses = told.get("hit_count", 0), told.get("miss_count", 0)
        yield {
            "name": name,
            "share": hits / (hits + misses) if hits + misses else None,
            "hits": hits,
            "misses": misses,
            "entries": told.get("entry_count"),
            "evictions": told.get("eviction_count"),
        }


def _guards(server: Server) -> Iterator[Row]:
    for tool, told in server.guarding.report().items():
        breaker, rate, bulkhead = (told.get(part) or {} for part in ("breaker", "rate", "bulkhead"))
        yield {
            "name": tool,
            "breaker": breaker.get("state", ""),
            "rate": rate.get("refused"),
            "open": breaker.get("refused"),
            "full": bulkhead.get("refused"),
            "running": bulkhead.get("running"),
            "waiting": bulkhead.get("waiting"),
            "timeout": told["timeout_s"] * 1e6 if told.get("timeout_s") else None,
        }


def _rollouts(server: Server) -> Iterator[Row]:
    for name, trial in server.trials.items():
        told = trial.status()
        yield {
            "name": name,
            "state": str(told["state"]),
            "share": told["share"],
            "old": told["old"]["calls"],
            "old_errors": told["old"]["errors"],
            "new": told["new"]["calls"],
            "new_errors": told["new"]["errors"],
            "wrong": told["wrong"],
        }


def _asked(server: Server, add_up: Any) -> Iterator[Row]:
    """What clients that record here asked of their servers, and this server of its clients."""
    groups: dict[str, list[Series]] = {}
    for series in server.metrics.series(f.CLIENT_OPERATION):
        address, port = series.label(f.SERVER_ADDRESS), series.label(f.SERVER_PORT)
        name = ":".join(filter(None, (address, port))) or series.label(f.METHOD)
        groups.setdefault(name, []).append(series)
    for name, found in sorted(groups.items()):
        yield {"name": name, **add_up(found)}
