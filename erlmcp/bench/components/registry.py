"""Rows of the registry: name -> entry."""

from __future__ import annotations

import threading
from functools import partial
from types import ModuleType
from typing import Any

from erlmcp.bench import room
from erlmcp.bench.components.row import BATCH, Mark, Row, Ways, asked, chunks, marks, names
from erlmcp.bench.timing import Timed, stepping, timed


def _getitem(mapping: Any, keys: list[Any]) -> None:
    for key in keys:
        mapping[key]


def _get(get: Any, keys: list[Any]) -> None:
    for key in keys:
        get(key)


def _locked(mapping: Any, lock: Any, keys: list[Any]) -> None:
    for key in keys:
        with lock:
            mapping[key]


def many(get_many: Any, parts: list[list[Any]]) -> None:
    for part in parts:
        get_many(part)


def _list_of_map(getitem: Any, parts: list[list[Any]]) -> None:
    for part in parts:
        list(map(getitem, part))


class Names:
    """Known names and those asked for: a pass over the latter touches the whole of a large structure."""

    def __init__(self, count: int) -> None:
        self.known = names(count)
        self.asked = asked(self.known, BATCH if count <= BATCH else min(1 << 18, 1 << count.bit_length()))
        self.parts = chunks(self.asked)

    def filled(self, made: Any) -> Any:
        for name in self.known:
            made[name] = name
        return made

    def registry(self, kind: Any) -> Any:
        return self.filled(kind(len(self.known) + 1))


def by_getitem(given: Names, made: Any) -> Timed:
    single = stepping(made.__getitem__, given.asked)
    return timed(len(given.asked), _getitem, made, given.asked, single=single)


def by_get(given: Names, made: Any) -> Timed:
    return timed(len(given.asked), _get, made.get, given.asked, single=stepping(made.get, given.asked))


def batched(given: Names, run: Any, function: Any) -> Timed:
    return timed(len(given.parts) * BATCH, run, function, given.parts)


def _cykhash(given: Names, module: ModuleType) -> Timed:
    made = module.PyObjectMap()
    return by_getitem(given, given.filled(made))


def _rlock(given: Names) -> Timed:
    made, lock = given.filled({}), threading.RLock()

    def one(key: str) -> object:
        with lock:
            return made[key]

    return timed(len(given.asked), _locked, made, lock, given.asked, single=stepping(one, given.asked))


def lookups(ways: Ways, count: int) -> None:
    given = Names(count)
    ways.both("call", "registry", "Registry", lambda kind: by_getitem(given, given.registry(kind)))
    ways.own("call", "dict", lambda: by_getitem(given, given.filled({})))
    ways.peer("call", "cykhash", "cykhash", partial(_cykhash, given))
    if count <= 100_000:
        ways.peer("call", "lru-dict", "lru", lambda lib: by_getitem(given, given.filled(lib.LRU(count))))
        ways.peer("call", "cachebox", "cachebox", lambda lib: by_getitem(given, given.filled(lib.LRUCache(count))))
        ways.peer("call", "cachetools", "cachetools", lambda lib: by_getitem(given, given.filled(lib.LRUCache(count))))
        ways.own("call", "dict+RLock", partial(_rlock, given))
    ways.both("batch", "registry", "Registry", lambda kind: batched(given, many, given.registry(kind).get_many))
    ways.own("batch", "dict+map", lambda: batched(given, _list_of_map, given.filled({}).__getitem__))
    ways.core("registry_find" if count <= 1000 else "registry_find_many", partial(_found, given))


def _found(given: Names, find: Any) -> Timed:
    registry = given.registry(room.part("core", "registry", "Registry"))
    keys = room.loop("Keys")(given.asked)
    return timed(len(given.asked), find, registry, keys, 1)


def gets(ways: Ways, count: int) -> None:
    given = Names(count)
    ways.both("call", "registry", "Registry", lambda kind: by_get(given, given.registry(kind)))
    ways.own("call", "dict.get", lambda: by_get(given, given.filled({})))


def _row(key: str, how: str, size: str, count: int, collect: Any, given: dict[str, Mark], slow: bool = False) -> Row:
    words = (
        f"{how}: name -> entry, {size} str names of 21 characters, asked evenly at random with equal but not identical"
        f" str (batch: get_many of {BATCH:,}; core: UTF-8 bytes of a read buffer, from 100,000 on 64 at a time, memory"
        " asked for ahead)"
    )
    return Row(key, "registry", words, partial(collect, count=count), given, entries=count, is_slow=slow)


ROWS = [
    _row("registry-1k", "registry[name]", "1,000", 1000, lookups, marks(call=50, batch=130, core=150)),
    _row("registry-1k-get", "registry.get(name)", "1,000", 1000, gets, marks(call=30)),
    _row("registry-100k", "registry[name]", "100,000", 100_000, lookups, marks(call=20, batch=45, core=80)),
    _row("registry-1m", "registry[name]", "1,000,000", 1_000_000, lookups, marks(call=4, batch=15, core=25), slow=True),
]
