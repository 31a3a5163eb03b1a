"""Rows of the cache: values with a time to live, in a bounded number of places."""

from __future__ import annotations

from functools import partial
from typing import Any

from erlmcp.bench import room
from erlmcp.bench.components.registry import Names, batched, by_get, many
from erlmcp.bench.components.row import BATCH, Row, Ways, names
from erlmcp.bench.timing import Timed, stepping, timed

TTL_S = 5.0
PLACES = 1000


def _setitem(made: Any, keys: list[Any]) -> None:
    for key in keys:
        made[key] = key


def _cache(kind: Any) -> Any:
    return kind(PLACES)


def _got(given: Names, made: Any) -> Timed:
    return by_get(given, given.filled(made))


def gets(ways: Ways) -> None:
    given = Names(PLACES)
    ways.both("call", "cache", "Cache", lambda kind: _got(given, _cache(kind)))
    ways.peer("call", "lru-dict", "lru", lambda lib: _got(given, lib.LRU(PLACES)))
    ways.peer("call", "cachebox LRU", "cachebox", lambda lib: _got(given, lib.LRUCache(PLACES)))
    ways.peer("call", "cachebox TTL", "cachebox", lambda lib: _got(given, lib.TTLCache(PLACES, 3600)))
    ways.peer("call", "cachetools LRU", "cachetools", lambda lib: _got(given, lib.LRUCache(PLACES)))
    ways.peer("call", "cachetools TTL", "cachetools", lambda lib: _got(given, lib.TTLCache(PLACES, 3600)))
    ways.peer("call", "moka-py", "moka_py", lambda lib: _moka(given, lib.Moka(PLACES)))
    ways.both("batch", "cache", "Cache", lambda kind: batched(given, many, given.filled(_cache(kind)).get_many))
    ways.core("cache_find", partial(_found, given))


def _found(given: Names, find: Any) -> Timed:
    made = given.filled(_cache(room.part("core", "cache", "Cache")))
    return timed(len(given.asked), find, made, room.loop("Keys")(given.asked), 1)


def _moka(given: Names, made: Any) -> Timed:
    for name in given.known:
        made.set(name, name)
    return by_get(given, made)


def _put(made: Any) -> Timed:
    """Twice as many names as places, round and round: each put evicts."""
    keys = names(2 * PLACES)
    set_item = made.__setitem__
    one = stepping(lambda key: set_item(key, key), keys)
    return timed(len(keys), _setitem, made, keys, single=one)


def puts(ways: Ways) -> None:
    ways.both("call", "cache", "Cache", lambda kind: _put(_cache(kind)))
    ways.peer("call", "lru-dict", "lru", lambda lib: _put(lib.LRU(PLACES)))
    ways.peer("call", "cachebox LRU", "cachebox", lambda lib: _put(lib.LRUCache(PLACES)))
    ways.peer("call", "cachebox TTL", "cachebox", lambda lib: _put(lib.TTLCache(PLACES, TTL_S)))
    ways.peer("call", "cachetools LRU", "cachetools", lambda lib: _put(lib.LRUCache(PLACES)))
    ways.peer("call", "cachetools TTL", "cachetools", lambda lib: _put(lib.TTLCache(PLACES, TTL_S)))


ROWS = [
    Row(
        "cache",
        "cache",
        f"a hit among {PLACES:,} live values, str names, equal but not identical (batch: get_many of {BATCH:,})",
        gets,
    ),
    Row("cache-put", "cache", f"a value put into a full cache of {PLACES:,} places, which evicts another", puts),
]
