"""Rows of the pool: a connection lent and returned."""

from __future__ import annotations

import asyncio
import queue
import threading
from functools import partial
from types import ModuleType
from typing import Any

from erlmcp.bench import room
from erlmcp.bench.components.queue import crossing
from erlmcp.bench.components.row import BATCH, Row, Ways, marks
from erlmcp.bench.timing import Timed, timed

MEMBERS = 10


def _pairs(lend: Any, back: Any, count: int) -> None:
    for _ in range(count):
        back(lend())


def _cycle(lend: Any, back: Any) -> Timed:
    return timed(BATCH, _pairs, lend, back, BATCH, single=lambda: back(lend()))


def _with(lend: Any, count: int) -> None:
    for _ in range(count):
        with lend():
            pass


def _filled(kind: Any, count: int) -> Any:
    made = kind(count)
    for _ in range(count):
        made.add(object())
    return made


def _pool(kind: Any) -> Timed:
    made = _filled(kind, MEMBERS)
    return _cycle(made.lend, made.take_back)


def _pool_with(kind: Any) -> Timed:
    made = _filled(kind, MEMBERS)

    def one() -> None:
        with made.lend():
            pass

    return timed(BATCH, _with, made.lend, BATCH, single=one)


def _many(lend_many: Any, back_many: Any, count: int) -> None:
    back_many(lend_many(count))


def _pool_many(kind: Any) -> Timed:
    made = _filled(kind, BATCH)
    return timed(BATCH, _many, made.lend_many, made.take_back_many, BATCH)


def _locked_list() -> Timed:
    held, lock = [object() for _ in range(MEMBERS)], threading.Lock()

    def lend() -> object:
        with lock:
            return held.pop()

    def back(member: object) -> None:
        with lock:
            held.append(member)

    return _cycle(lend, back)


def _queue(made: Any) -> Timed:
    for _ in range(MEMBERS):
        made.put_nowait(object())
    return _cycle(made.get_nowait, made.put_nowait)


def _list() -> Timed:
    held = [object() for _ in range(MEMBERS)]
    return _cycle(held.pop, held.append)


class _Connection:
    """What SQLAlchemy asks of a connection that does nothing."""

    def rollback(self) -> None:
        pass

    def close(self) -> None:
        pass


def _sqlalchemy(module: ModuleType) -> Timed:
    made = module.pool.QueuePool(_Connection, pool_size=MEMBERS, reset_on_return=None)
    return _cycle(made.connect, lambda lent: lent.close())


def lending(ways: Ways) -> None:
    ways.both("call", "pool", "Pool", _pool)
    ways.own("call", "list", _list)
    ways.own("call", "Lock+list", _locked_list)
    ways.own("call", "SimpleQueue", lambda: _queue(queue.SimpleQueue()))
    ways.own("call", "queue.LifoQueue", lambda: _queue(queue.LifoQueue()))
    ways.own("call", "asyncio.LifoQueue", lambda: _queue(asyncio.LifoQueue()))
    ways.peer("call", "SQLAlchemy QueuePool", "sqlalchemy", _sqlalchemy)
    ways.both("batch", "pool", "Pool", _pool_many)
    ways.core("pool_cycle", lambda loop: timed(BATCH * 16, loop, MEMBERS, BATCH, 16))


def managing(ways: Ways) -> None:
    ways.both("call", "pool", "Pool", _pool_with)


def _shared(share: Any) -> Timed:
    made, count = _filled(room.part("core", "pool", "Pool"), MEMBERS), BATCH * 64
    sides = [partial(share, made, bytearray(8 * MEMBERS), count) for _ in range(2)]
    return crossing(2 * count, *sides)


def two_threads(ways: Ways) -> None:
    ways.core("pool_share", _shared)


ROWS = [
    Row(
        "pool",
        "pool",
        f"one of {MEMBERS} members lent and taken back, with limit, order and leak bookkeeping, which the bare list and"
        f" queues have not (batch: {BATCH:,} lent and taken back; core: with its lock)",
        lending,
        marks(call=22, batch=130, core=75),
    ),
    Row(
        "pool-2-threads",
        "pool",
        f"one of {MEMBERS} members lent and returned by two threads at a time, without the GIL",
        two_threads,
        threads=2,
    ),
    Row("pool-with", "pool", f"the same as a block: with pool.lend(), {MEMBERS} members", managing, marks(call=5)),
]
