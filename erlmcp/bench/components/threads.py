"""Rows of the pool of threads: what a call costs, and how busy the threads are kept."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any

from erlmcp import core
from erlmcp.bench.components.row import BATCH, SEED, Mark, Row, Ways
from erlmcp.bench.room import MissingError
from erlmcp.bench.timing import Timed, closing, timed

THREADS = 4
TRIPS = 64
OWNERS = [f"caller {number % 16}" for number in range(BATCH)]
ITEMS = list(range(BATCH))
NAPS_S = random.Random(SEED).sample([0.001] * 180 + [0.01] * 20, 200)
Standard = "ThreadPoolExecutor"


def _nothing(*_: object) -> None:
    pass


def _ours(count: int = THREADS) -> Any:
    if core.IMPLEMENTATION != "core":
        raise MissingError("not built")
    from erlmcp.sync import ThreadPool

    return ThreadPool(count)


def _ours_awaited() -> Any:
    if core.IMPLEMENTATION != "core":
        raise MissingError("not built")
    from erlmcp.aio import ThreadPool

    return ThreadPool(THREADS)


def _burst(submit: Any, count: int) -> None:
    for future in [submit(_nothing) for _ in range(count)]:
        future.result()


def _burst_of_owners(submit: Any, owners: Iterable[Any]) -> None:
    for future in [submit(_nothing, owner=owner) for owner in owners]:
        future.result()


def _many(submit_many: Any, items: list[Any]) -> None:
    for future in submit_many(_nothing, items):
        future.result()


def _one_by_one(submit: Any, items: list[Any]) -> None:
    for future in [submit(_nothing, item) for item in items]:
        future.result()


def _trips(submit: Any, count: int) -> None:
    for _ in range(count):
        submit(_nothing).result()


def _timed(pool: Executor, run: Callable[..., object], count: int, *given: Any) -> Timed:
    return closing(timed(count, run, *given), pool.shutdown)


def burst(ways: Ways) -> None:
    def make(open: Callable[[], Any]) -> Timed:
        pool = open()
        return _timed(pool, _burst, BATCH, pool.submit, BATCH)

    def make_many() -> Timed:
        pool = _ours()
        return _timed(pool, _many, BATCH, pool.submit_many, ITEMS)

    def make_standard_many() -> Timed:
        pool = ThreadPoolExecutor(THREADS)
        return _timed(pool, _one_by_one, BATCH, pool.submit, ITEMS)

    ways.own("call", "core", lambda: make(_ours))
    ways.own("call", Standard, lambda: make(lambda: ThreadPoolExecutor(THREADS)))
    ways.own("batch", "core", make_many)
    ways.own("batch", Standard, make_standard_many)


def owners(ways: Ways) -> None:
    def make() -> Timed:
        pool = _ours()
        return _timed(pool, _burst_of_owners, BATCH, pool.submit, OWNERS)

    def make_standard() -> Timed:
        pool = ThreadPoolExecutor(THREADS)
        return _timed(pool, _burst, BATCH, pool.submit, BATCH)

    ways.own("call", "core", make)
    ways.own("call", f"{Standard}, in turn", make_standard)


def trip(ways: Ways) -> None:
    def make(open: Callable[[], Any]) -> Timed:
        pool = open()
        made = timed(TRIPS, _trips, pool.submit, TRIPS, single=lambda: pool.submit(_nothing).result())
        return closing(made, pool.shutdown)

    ways.own("call", "core", lambda: make(_ours))
    ways.own("call", Standard, lambda: make(lambda: ThreadPoolExecutor(THREADS)))


# ---------------------------------------------------------------------------------------------------- from a loop
def _on_a_loop(count: int, act: Callable[[], Coroutine[Any, Any, object]], close: Callable[[], object]) -> Timed:
    """``act`` is a coroutine function that does ``count`` operations on an event loop of its own."""
    loop = asyncio.new_event_loop()

    def end() -> None:
        close()
        loop.close()

    return closing(timed(count, lambda: loop.run_until_complete(act())), end)


async def _awaited(run: Any, count: int) -> None:
    for _ in range(count):
        await run(_nothing)


async def _gathered(run: Any, count: int) -> None:
    await asyncio.gather(*[run(_nothing) for _ in range(count)])


def _run_in(pool: Executor, fn: Callable[..., Any]) -> Any:
    return asyncio.get_running_loop().run_in_executor(pool, fn)


def _standard_on_a_loop(act: Any, count: int) -> Timed:
    pool = ThreadPoolExecutor(THREADS)
    return _on_a_loop(count, lambda: act(partial(_run_in, pool), count), pool.shutdown)


def loop_trip(ways: Ways) -> None:
    def make() -> Timed:
        pool = _ours_awaited()
        return _on_a_loop(TRIPS, lambda: _awaited(pool.run, TRIPS), pool.core.shutdown)

    ways.own("call", "core", make)
    ways.own("call", f"run_in_executor, {Standard}", lambda: _standard_on_a_loop(_awaited, TRIPS))


def loop_burst(ways: Ways) -> None:
    def make(act: Callable[[Any], Coroutine[Any, Any, object]]) -> Timed:
        pool = _ours_awaited()
        return _on_a_loop(BATCH, lambda: act(pool), pool.core.shutdown)

    ways.own("call", "core", lambda: make(lambda pool: _gathered(pool.run, BATCH)))
    ways.own("call", f"run_in_executor, {Standard}", lambda: _standard_on_a_loop(_gathered, BATCH))
    ways.own("batch", "core", lambda: make(lambda pool: pool.run_many(_nothing, ITEMS)))
    ways.own("batch", f"run_in_executor, {Standard}", lambda: _standard_on_a_loop(_gathered, BATCH))


# ---------------------------------------------------------------------------------------------------- a skewed load
def _nap_in(pool: Executor) -> None:
    """One job submits them all: they stand before its thread, and others have to come for them."""
    for future in pool.submit(lambda: [pool.submit(time.sleep, nap_s) for nap_s in NAPS_S]).result():
        future.result()


def _nap_each(naps_s: list[float]) -> None:
    for nap_s in naps_s:
        time.sleep(nap_s)


def _nap_by_shares() -> None:
    """What no pool can beat: each thread knows its share beforehand, and the shares are even."""
    shares: list[list[float]] = [[] for _ in range(THREADS)]
    for nap_s in sorted(NAPS_S, reverse=True):
        min(shares, key=sum).append(nap_s)
    threads = [threading.Thread(target=_nap_each, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def skew(ways: Ways) -> None:
    def make(pool: Any) -> Timed:
        return _timed(pool, _nap_in, len(NAPS_S), pool)

    ways.own("call", "core", lambda: make(_ours()))
    ways.own("call", Standard, lambda: make(ThreadPoolExecutor(THREADS)))
    ways.own("call", "even shares", lambda: timed(len(NAPS_S), _nap_by_shares))


SOME = f"{BATCH:,} calls of an empty function"
ROWS = [
    Row(
        "threads-burst",
        "threads",
        f"{SOME} submitted to {THREADS} threads one by one, and waited for (batch: submit_many)",
        burst,
        {"call": Mark(peer=Standard, factor=0.2), "batch": Mark(peer=Standard, factor=0.2)},
        threads=THREADS,
    ),
    Row("threads-owners", "threads", f"{SOME} of 16 owners, who take turns", owners, threads=THREADS),
    Row(
        "threads-trip",
        "threads",
        "an empty function called in a thread and waited for, one at a time",
        trip,
        {"call": Mark(peer=Standard, factor=1.05)},
        threads=THREADS,
    ),
    Row(
        "threads-loop-trip",
        "threads",
        "the same from an event loop (asyncio's)",
        loop_trip,
        {"call": Mark(peer=f"run_in_executor, {Standard}", factor=1.05)},
        threads=THREADS,
    ),
    Row(
        "threads-loop-burst",
        "threads",
        f"{SOME} gathered on an event loop (batch: run_many)",
        loop_burst,
        threads=THREADS,
    ),
    Row(
        "threads-skew",
        "threads",
        f"{len(NAPS_S)} sleeps, nine in ten of 1 ms and one of 10, submitted by one of the calls: {THREADS} threads"
        " are 90 % busy where it takes 1.11 of what even shares take",
        skew,
        {"call": Mark(peer="even shares", factor=1 / 0.9)},
        threads=THREADS,
    ),
]
