"""Rows of the session store: id -> live record, touched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from erlmcp.bench import room
from erlmcp.bench.components.registry import Names, batched, by_get, by_getitem, many
from erlmcp.bench.components.row import BATCH, Row, Ways, marks
from erlmcp.bench.timing import Timed, stepping, timed

TTL_S = 1800.0


@dataclass(slots=True)
class Record:
    """What a session is in a dict of one's own."""

    data: object
    deadline: float


class Guarded:
    """What is written by hand: a dict of records with a deadline that moves, with a lock or without."""

    def __init__(self, lock: Any = None) -> None:
        self.records: dict[str, Record] = {}
        self.lock = lock

    def get(self, id: str) -> object:
        """The data of a live record, touched."""
        now = time.monotonic()
        record = self.records.get(id)
        if record is None or record.deadline < now:
            return None
        record.deadline = now + TTL_S
        return record.data

    def put(self, id: str, data: object) -> None:
        self.records[id] = Record(data, time.monotonic() + TTL_S)

    def locked_get(self, id: str) -> object:
        with self.lock:
            return self.get(id)

    def locked_put(self, id: str, data: object) -> None:
        with self.lock:
            self.put(id, data)


def _put(put: Callable[[Any, Any], object], keys: list[Any]) -> None:
    for key in keys:
        put(key, key)


def _setitem(made: Any, keys: list[Any]) -> None:
    for key in keys:
        made[key] = key


def _store(given: Names, kind: Any) -> Any:
    made = kind(len(given.known) + 1)
    for name in given.known:
        made.put(name, name)
    return made


def _guarded(given: Names, is_locked: bool) -> Timed:
    made = Guarded(threading.Lock() if is_locked else None)
    for name in given.known:
        made.put(name, name)
    get = made.locked_get if is_locked else made.get
    return timed(len(given.asked), _calls, get, given.asked, single=stepping(get, given.asked))


def _calls(function: Any, keys: list[Any]) -> None:
    for key in keys:
        function(key)


def _ttl(given: Names, made: Any) -> Timed:
    return by_get(given, given.filled(made))


def gets(ways: Ways, count: int) -> None:
    given = Names(count)
    ways.both("call", "sessions", "SessionStore", lambda kind: by_getitem(given, _store(given, kind)))
    ways.own("call", "dict with TTL", partial(_guarded, given, False))
    ways.own("call", "dict with TTL+Lock", partial(_guarded, given, True))
    ways.peer("call", "cachetools TTL", "cachetools", lambda lib: _ttl(given, lib.TTLCache(count + 1, TTL_S)))
    ways.peer("call", "cachebox TTL", "cachebox", lambda lib: _ttl(given, lib.TTLCache(count + 1, TTL_S)))
    ways.both("batch", "sessions", "SessionStore", lambda kind: batched(given, many, _store(given, kind).get_many))
    ways.core("session_find" if count <= 1000 else "session_find_many", partial(_found, given))


def _found(given: Names, find: Any) -> Timed:
    store = _store(given, room.part("core", "sessions", "SessionStore"))
    return timed(len(given.asked), find, store, room.loop("Keys")(given.asked), 1)


def _putting(given: Names, put: Any) -> Timed:
    return timed(len(given.asked), _put, put, given.asked, single=stepping(lambda key: put(key, key), given.asked))


def _setting(given: Names, made: Any) -> Timed:
    given.filled(made)
    set_item = made.__setitem__
    one = stepping(lambda key: set_item(key, key), given.asked)
    return timed(len(given.asked), _setitem, made, given.asked, single=one)


def puts(ways: Ways) -> None:
    given = Names(1000)
    ways.both("call", "sessions", "SessionStore", lambda kind: _putting(given, _store(given, kind).put))
    ways.own("call", "dict with TTL", lambda: _putting(given, Guarded().put))
    ways.own("call", "dict with TTL+Lock", lambda: _putting(given, Guarded(threading.Lock()).locked_put))
    ways.peer("call", "cachetools TTL", "cachetools", lambda lib: _setting(given, lib.TTLCache(1001, TTL_S)))
    ways.peer("call", "cachebox TTL", "cachebox", lambda lib: _setting(given, lib.TTLCache(1001, TTL_S)))


def _words(what: str, size: str) -> str:
    return (
        f"{what}, {size} live sessions, ids of 21 characters, evenly at random, equal but not identical"
        f" (batch: get_many of {BATCH:,}; core: borrowed bytes, from 100,000 on 64 at a time, memory asked for ahead)"
    )


GET = "store[id]: id -> live record, touched"
ROWS = [
    Row("session-1k", "session", _words(GET, "1,000"), partial(gets, count=1000), marks(call=30, batch=130, core=150)),
    Row(
        "session-1k-put",
        "session",
        _words("store.put(id, record): a live record replaced and touched", "1,000"),
        puts,
        marks(call=18),
    ),
    Row(
        "session-100k",
        "session",
        _words(GET, "100,000"),
        partial(gets, count=100_000),
        marks(call=6, batch=45, core=60),
        entries=100_000,
    ),
]
