"""Pools and caches of a program, shown beside what erlmcp records: how full they are, and how often they help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.metrics.recorder import Recorder
    from erlmcp.metrics.series import Labels


class Holds:
    """``pools`` and ``caches`` by name: their stats, as a mapping."""

    def __init__(self, recorder: Recorder) -> None:
        self.pools: dict[str, Callable[[], Mapping[str, float]]] = {}
        self.caches: dict[str, Callable[[], Mapping[str, float]]] = {}
        pool, cache = self.pools, self.caches
        shown = (
            ("erlmcp_pool_members", "Members of a pool that are open.", "gauge", pool, "count"),
            ("erlmcp_pool_idle", "Members of a pool that are not lent.", "gauge", pool, "idle_count"),
            ("erlmcp_pool_waiting", "Who waits for a member of a pool.", "gauge", pool, "waiting_count"),
            ("erlmcp_pool_opened_total", "Members of a pool that were opened.", "counter", pool, "opened_total"),
            ("erlmcp_cache_entries", "Entries of a cache.", "gauge", cache, "entry_count"),
            ("erlmcp_cache_hits_total", "Lookups that a cache answered.", "counter", cache, "hit_count"),
            ("erlmcp_cache_misses_total", "Lookups that a cache did not answer.", "counter", cache, "miss_count"),
            ("erlmcp_cache_evictions_total", "Entries that made room for others.", "counter", cache, "eviction_count"),
        )
        for name, help, kind, table, field in shown:
            label = "pool" if table is pool else "cache"
            recorder.gauge(name, help, _reader(table, label, field), kind)

    def watch_pool(self, name: str, pool: Any) -> None:
        """Show a pool: an erlmcp.aio.Pool, erlmcp.sync.Pool, or whatever has their ``stats()``."""
        self.pools[name] = lambda: _as_mapping(pool.stats())

    def watch_cache(self, name: str, cache: Any) -> None:
        """Show a cache: an erlmcp.aio.Cache, a core.Cache, or whatever has ``stats()`` or those attributes."""
        self.caches[name] = lambda: _as_mapping(cache.stats() if hasattr(cache, "stats") else cache)


def _reader(table: Mapping[str, Callable[[], Mapping[str, float]]], label: str, field: str) -> Any:
    def values() -> dict[Labels, float]:
        found = {((label, name),): stats().get(field) for name, stats in table.items()}
        return {labels: value for labels, value in found.items() if value is not None}

    return values


class _Attributes(dict[str, float]):
    """The counts of a cache that has them as attributes."""

    def __init__(self, found: Any) -> None:
        names = ("hit_count", "miss_count", "eviction_count", "entry_count", "bytes_held")
        super().__init__({name: getattr(found, name) for name in names if hasattr(found, name)})
        if hasattr(found, "__len__"):
            self.setdefault("entry_count", len(found))


def _as_mapping(stats: Any) -> Mapping[str, float]:
    return stats if isinstance(stats, Mapping) else _Attributes(stats)
