"""Rows of meter and gate: what is counted and what is let through."""

from __future__ import annotations

import asyncio
import itertools
import time
from types import ModuleType
from typing import Any

from erlmcp.bench.components.row import BATCH, Row, Ways
from erlmcp.bench.timing import Timed, closing, timed

VALUES = [1000 + 977 * i % 50_000 for i in range(BATCH)]


def _times(function: Any, count: int) -> None:
    for _ in range(count):
        function()


def _each(function: Any, values: list[Any]) -> None:
    for value in values:
        function(value)


def _calls(function: Any) -> Timed:
    return timed(BATCH, _times, function, BATCH, single=function)


def _records(function: Any) -> Timed:
    return timed(BATCH, _each, function, VALUES, single=lambda: function(1234))


# ---------------------------------------------------------------------------------------------------- meter
def _bare_int() -> Timed:
    held = [0]

    def inc() -> None:
        held[0] += 1

    return _calls(inc)


def _prometheus(lib: ModuleType) -> Any:
    return lib.CollectorRegistry()


def counting(ways: Ways) -> None:
    ways.both("call", "meter", "Counter", lambda kind: _calls(kind().inc))
    ways.own("call", "int in a list", _bare_int)
    ways.peer(
        "call",
        "prometheus_client",
        "prometheus_client",
        lambda lib: _calls(lib.Counter("a", "b", registry=_prometheus(lib)).inc),
    )


def recording(ways: Ways) -> None:
    ways.both("call", "meter", "Histogram", lambda kind: _records(kind().record))
    ways.peer(
        "call", "hdrhistogram", "hdrh.histogram", lambda lib: _records(lib.HdrHistogram(1, 1 << 40, 2).record_value)
    )
    ways.peer(
        "call",
        "prometheus_client",
        "prometheus_client",
        lambda lib: _records(lib.Histogram("a", "b", registry=_prometheus(lib)).observe),
    )
    ways.both("batch", "meter", "Histogram", lambda kind: timed(BATCH, kind().record_many, VALUES))
    ways.core("histogram_record", lambda loop: timed(BATCH * 16, loop, BATCH, 16))


# ---------------------------------------------------------------------------------------------------- gate
class _Bucket:
    """What is written by hand."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.level, self.last = rate, burst, burst, time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self.level = min(self.burst, self.level + (now - self.last) * self.rate)
        self.last = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


def _token_bucket(lib: ModuleType) -> Timed:
    made = lib.Limiter(10**9, 10**9, lib.MemoryStorage())
    return timed(BATCH, _each, made.consume, [b"key"] * BATCH, single=lambda: made.consume(b"key"))


def _awaits(acquire: Any, count: int) -> Any:
    async def run() -> None:
        for _ in range(count):
            await acquire()

    return run


def _aio(make: Any) -> Timed:
    loop = asyncio.new_event_loop()
    acquire: Any = None

    async def prepare() -> Any:
        return make()

    acquire = loop.run_until_complete(prepare())
    run = _awaits(acquire, BATCH)
    return closing(timed(BATCH, lambda: loop.run_until_complete(run())), loop.close)


def _limits(lib: ModuleType) -> Timed:
    storage = lib.storage.MemoryStorage()
    made = lib.strategies.FixedWindowRateLimiter(storage)
    item = lib.RateLimitItemPerSecond(10**9)
    storage.timer.cancel() if getattr(storage, "timer", None) else None
    return timed(BATCH, _each, made.hit, [item] * BATCH, single=lambda: made.hit(item))


def _allows(bucket: Any, allow: Any, clock: Any, count: int) -> None:
    bucket.now_ns = next(clock)
    for _ in range(count):
        allow()


def _bucket_of(kind: Any) -> Timed:
    """The clock is pushed once for each round of work, as it is meant to be."""
    made = kind(10**9, 10**6)
    clock = itertools.count(0, 10_000_000)
    single = kind(10**9, 10**6)
    return timed(BATCH, _allows, made, made.allow, clock, BATCH, single=single.allow)


def limiting(ways: Ways) -> None:
    ways.both("call", "gate", "TokenBucket", _bucket_of)
    ways.core("bucket_take", lambda loop: timed(BATCH * 16, loop, BATCH, 16))
    ways.own("call", "by hand", lambda: _calls(_Bucket(1e9, 1e9).take))
    ways.peer("call", "token-bucket", "token_bucket", _token_bucket)
    ways.peer("call", "aiolimiter", "aiolimiter", lambda lib: _aio(lambda: lib.AsyncLimiter(10**9, 1).acquire))
    ways.peer("call", "limits", "limits", _limits)


def _nothing() -> None:
    pass


def _breaker_of(kind: Any) -> Timed:
    made = kind()
    allow, record = made.allow, made.record

    def guarded() -> None:
        if allow():
            _nothing()
            record(True)

    return _calls(guarded)


def breaking(ways: Ways) -> None:
    ways.both("call", "gate", "BreakerWindow", _breaker_of)
    ways.core("breaker_cycle", lambda loop: timed(BATCH * 16, loop, BATCH, 16))
    ways.peer("call", "circuitbreaker", "circuitbreaker", lambda lib: _calls(lib.circuit(_nothing)))
    ways.peer(
        "call",
        "purgatory",
        "purgatory",
        lambda lib: _calls(lib.SyncCircuitBreakerFactory()("one")(_nothing)),
    )
    ways.peer("call", "pybreaker", "pybreaker", lambda lib: _calls(lib.CircuitBreaker()(_nothing)))


ROWS = [
    Row("meter-count", "meter", "a counter raised by one", counting),
    Row(
        "meter-record",
        "meter",
        f"a value between 1,000 and 51,000 recorded in a histogram of <= 1 % error (batch: record_many of {BATCH:,})",
        recording,
    ),
    Row("gate-rate", "gate", "a token taken from a bucket that never runs dry", limiting),
    Row("gate-breaker", "gate", "a call of an empty function through a closed breaker", breaking),
]
