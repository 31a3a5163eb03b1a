"""Rows of meter, gate and guards: what is counted and what is let through."""

from __future__ import annotations

import asyncio
import itertools
import time
from types import ModuleType
from typing import Any

from erlmcp.bench.components.network import remote
from erlmcp.bench.components.row import BATCH, Mark, Row, Ways, asked, names
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


CALLERS = 1000


def _buckets_of(kind: Any) -> Timed:
    made = kind(10**9, 10**6, CALLERS)
    keys = asked(names(CALLERS), BATCH)
    clock = itertools.count(0, 10_000_000)

    def work() -> None:
        made.now_ns = next(clock)
        for key in keys:
            made.allow(key)

    return timed(BATCH, work, single=lambda: made.allow(keys[0]))


def _buckets_by_hand() -> Timed:
    known = {name: _Bucket(1e9, 1e9) for name in names(CALLERS)}
    keys = asked(names(CALLERS), BATCH)
    return timed(BATCH, _each, lambda key: known[key].take(), keys, single=lambda: known[keys[0]].take())


def _buckets_of_library(lib: ModuleType) -> Timed:
    made = lib.Limiter(10**9, 10**9, lib.MemoryStorage())
    keys = [key.encode() for key in asked(names(CALLERS), BATCH)]
    return timed(BATCH, _each, made.consume, keys, single=lambda: made.consume(keys[0]))


def limiting_callers(ways: Ways) -> None:
    ways.both("call", "gate", "TokenBuckets", _buckets_of)
    ways.own("call", "by hand", _buckets_by_hand)
    ways.peer("call", "token-bucket", "token_bucket", _buckets_of_library)


def _nothing() -> None:
    pass


async def _nothing_async() -> None:
    pass


def _breaker_of(kind: Any) -> Timed:
    made = kind()
    allow, record = made.allow, made.record

    def guarded() -> None:
        if allow():
            _nothing()
            record(True)

    return _calls(guarded)


def _guarded(function: Any, **rules: Any) -> Any:
    from erlmcp import protect
    from erlmcp.policy.protection import Guards

    return protect.guard(Guards(**rules))(function)


def _roomy() -> Any:
    """A rate that never runs dry."""
    from erlmcp.policy.limiter import RateRule

    return RateRule(10**9, burst=10**6)


def breaking(ways: Ways) -> None:
    ways.both("call", "gate", "BreakerWindow", _breaker_of)
    ways.core("breaker_cycle", lambda loop: timed(BATCH * 16, loop, BATCH, 16))
    ways.own("call", "erlmcp.protect", lambda: _calls(_guarded(_nothing, breaker=True)))
    ways.limit("call", "the bare call", lambda: _calls(_nothing))
    ways.peer("call", "circuitbreaker", "circuitbreaker", lambda lib: _calls(lib.circuit(_nothing)))
    ways.peer(
        "call",
        "purgatory",
        "purgatory",
        lambda lib: _calls(lib.SyncCircuitBreakerFactory()("one")(_nothing)),
    )
    ways.peer("call", "pybreaker", "pybreaker", lambda lib: _calls(lib.CircuitBreaker()(_nothing)))


def breaking_async(ways: Ways) -> None:
    ways.own("call", "core", lambda: _aio(lambda: _guarded(_nothing_async, breaker=True)))
    ways.limit("call", "the bare call", lambda: _aio(lambda: _nothing_async))
    ways.peer("call", "circuitbreaker", "circuitbreaker", lambda lib: _aio(lambda: lib.circuit(_nothing_async)))
    ways.peer(
        "call",
        "purgatory",
        "purgatory",
        lambda lib: _aio(lambda: lib.AsyncCircuitBreakerFactory()("one")(_nothing_async)),
    )


def guarding(ways: Ways) -> None:
    ways.own("call", "core", lambda: _calls(_guarded(_nothing, breaker=True, rate_limit=_roomy(), bulkhead=10)))
    ways.limit("call", "the bare call", lambda: _calls(_nothing))


def guarding_a_tool(ways: Ways) -> None:
    ways.own("batch", "core", remote("guarded", BATCH))
    ways.own("batch", "with an adaptive timeout", remote("timed", BATCH))
    ways.limit("batch", "the bare tool", remote("echo", BATCH))


def bounding(ways: Ways) -> None:
    ways.own("call", "core", lambda: _aio(lambda: _guarded(_nothing_async, bulkhead=10)))
    ways.limit("call", "the bare call", lambda: _aio(lambda: _nothing_async))
    ways.own("call", "asyncio.Semaphore", lambda: _aio(_with_semaphore))


def _with_semaphore() -> Any:
    places = asyncio.Semaphore(10)

    async def bounded() -> None:
        async with places:
            await _nothing_async()

    return bounded


def _with_asyncio_timeout() -> Any:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await _nothing_async()

    return limited


def _with_wait_for() -> Any:
    async def limited() -> None:
        await asyncio.wait_for(_nothing_async(), 30)

    return limited


def timing_out(ways: Ways) -> None:
    ways.own("call", "core", lambda: _aio(lambda: _guarded(_nothing_async, timeout="adaptive")))
    ways.limit("call", "the bare call", lambda: _aio(lambda: _nothing_async))
    ways.own("call", "asyncio.timeout", lambda: _aio(_with_asyncio_timeout))
    ways.own("call", "asyncio.wait_for", lambda: _aio(_with_wait_for))


def retrying(ways: Ways) -> None:
    ways.own("call", "core", lambda: _calls(_guarded(_nothing, retry=True)))
    ways.limit("call", "the bare call", lambda: _calls(_nothing))
    ways.peer("call", "tenacity", "tenacity", lambda lib: _calls(lib.retry(_nothing)))


ROWS = [
    Row("meter-count", "meter", "a counter raised by one", counting),
    Row(
        "meter-record",
        "meter",
        f"a value between 1,000 and 51,000 recorded in a histogram of <= 1 % error (batch: record_many of {BATCH:,})",
        recording,
    ),
    Row("gate-rate", "gate", "a token taken from a bucket that never runs dry", limiting),
    Row("gate-callers", "gate", f"a token for one of {CALLERS:,} callers, drawn at random", limiting_callers),
    Row(
        "gate-breaker",
        "gate",
        "a call of an empty function through a closed breaker",
        breaking,
        marks={"call": Mark(peer="circuitbreaker")},
    ),
    Row(
        "guard-breaker-async",
        "guard",
        "an empty coroutine function awaited through a closed breaker",
        breaking_async,
        marks={"call": Mark(peer="circuitbreaker")},
    ),
    Row("guard-all", "guard", "a call of an empty function through breaker, rate and bulkhead", guarding),
    Row(
        "guard-tool",
        "guard",
        f"tools/call, bytes to bytes, behind breaker, rate and bulkhead; {BATCH:,} of them in one read",
        guarding_a_tool,
    ),
    Row(
        "guard-bulkhead",
        "guard",
        "an empty coroutine function awaited, at most ten at a time",
        bounding,
        marks={"call": Mark(peer="asyncio.Semaphore")},
    ),
    Row(
        "guard-timeout",
        "guard",
        "an empty coroutine function awaited with a timeout that does not pass; ours adapts, and hands its deadline on",
        timing_out,
        marks={"call": Mark(peer="asyncio.timeout")},
    ),
    Row(
        "guard-retry",
        "guard",
        "a call that succeeds at once, of what would be tried again",
        retrying,
        marks={"call": Mark(peer="tenacity")},
    ),
]
