"""Time of operations: what is compared is measured alternately, round after round, in one run.

A measurement runs the operation in a plain loop for a slice of time, as long for each candidate; the loop's own cost
is in it and is stated beside (``loop_ns``). The collector of cycles is off within a slice. A ratio is the median of
the ratios of single rounds, so that a drift of the machine meets both sides alike. Single calls are timed one by one
for their percentiles; ``clock_ns`` is what an empty call costs there.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from types import FunctionType
from typing import Any

SINGLES = 10_000
REPEATS_MAX = 1 << 40
Elapsed = Callable[[int], int]


@dataclass
class Timed:
    """A candidate: ``elapsed(repeats)`` nanoseconds for as many times ``count`` operations.

    ``single`` does exactly one operation; None where there is no such thing.
    """

    count: int
    elapsed: Elapsed
    single: Callable[[], object] | None = None
    rounds: list[float] = field(default_factory=list)  # ns per operation
    repeats: int = 1

    @property
    def ns(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)

    @property
    def best_ns(self) -> float:
        return min(self.rounds)

    @property
    def spread(self) -> float:
        """The noise: the distance of the quartiles, relative to the median; 0 for a single round."""
        if len(self.rounds) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return (high - low) / middle

    def calibrate(self, slice_s: float) -> None:
        """Find how many repeats fill a slice. This warms up, too."""
        self.elapsed(1)
        self.repeats = 1
        while self.repeats < REPEATS_MAX:
            took = max(self.elapsed(self.repeats), 1)
            if took >= slice_s * 0.5e9:
                self.repeats = max(1, int(self.repeats * slice_s * 1e9 / took))
                return
            self.repeats *= 2 if took * 20 > slice_s * 1e9 else 10

    def measure(self) -> None:
        """One round."""
        enabled = gc.isenabled()
        gc.disable()
        try:
            self.rounds.append(self.elapsed(self.repeats) / (self.repeats * self.count))
        finally:
            if enabled:
                gc.enable()


def fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy with code of its own: the interpreter specialises a loop for the types it sees, and two candidates that
    shared one loop would spoil it for each other."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def timed(count: int, run: Callable[..., object], *given: object, single: Callable[[], object] | None = None) -> Timed:
    """A candidate whose ``run(*given)`` does ``count`` operations."""
    own = fresh(run) if isinstance(run, FunctionType) else run

    def elapsed(repeats: int) -> int:
        began = perf_counter_ns()
        for _ in itertools.repeat(None, repeats):
            own(*given)
        return perf_counter_ns() - began

    return Timed(count, elapsed, single)


def closing(made: Timed, close: Callable[[], object]) -> Timed:
    """Let ``close`` be called when the candidate is dropped."""
    weakref.finalize(made, close)
    return made


def stepping(function: Callable[[Any], object], given: Iterable[object]) -> Callable[[], object]:
    """A call without arguments that gives ``function`` the next of these each time, round and round."""
    step = itertools.cycle(given).__next__
    return lambda: function(step())


def go_round(candidates: Sequence[Timed], rounds: int, slice_s: float) -> None:
    """Measure them alternately; each round begins with another one."""
    for one in candidates:
        one.calibrate(slice_s)
    for turn in range(rounds):
        start = turn % len(candidates)
        for one in (*candidates[start:], *candidates[:start]):
            one.measure()


def ratio(slow: Timed, quick: Timed) -> float:
    """How many times the time of ``quick`` an operation of ``slow`` takes: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(slow.rounds, quick.rounds, strict=True))


def percentiles(single: Callable[[], object], count: int = SINGLES) -> dict[str, float]:
    """p50, p95 and p99 of calls timed one by one, in ns; the clock and an empty call (``clock_ns``) are in them."""
    taken = sorted(_singles(single, count))
    return {f"p{percent}_ns": float(taken[min(count - 1, count * percent // 100)]) for percent in (50, 95, 99)}


def _singles(single: Callable[[], object], count: int) -> list[int]:
    for _ in range(min(count, 100)):
        single()
    taken = []
    for _ in range(count):
        began = perf_counter_ns()
        single()
        taken.append(perf_counter_ns() - began)
    return taken


def clock_ns(count: int = SINGLES) -> float:
    """What a timed single call shows where the call does nothing: the median."""
    return float(statistics.median(_singles(stepping(_nothing, [None]), count)))


def loop_ns(count: int = 1024) -> float:
    """What one turn of the empty loop costs: best of many."""
    keys = list(range(count))
    empty = timed(count, _loop, keys)
    go_round([empty], 9, 0.001)
    return empty.best_ns


def _nothing(_: object) -> None:
    pass


def _loop(keys: list[int]) -> None:
    for _ in keys:
        pass
