"""A server in simulated time, whose load is that of ``erlmcp.runtime.load``: what it takes on, and what it refuses.

Its calls wait for something with a fixed number of places, or they cost time of the event loop: then they stand in line
for their turn, and whoever is refused is so when it comes. Those who were refused do not come again.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

from erlmcp.bench.simulate.world import HEALTHY, Attempt, Clockwork, Ledger, Second, Upstream
from erlmcp.bench.simulate.world import Load as Callers
from erlmcp.flags import Flags
from erlmcp.limits import Limits
from erlmcp.policy.breaker import SECOND_NS
from erlmcp.policy.overload import BULK, CRITICAL, NORMAL
from erlmcp.runtime.load import NOBODY, Load

REFUSAL_NS: Final = 20_000  # of the loop, for saying no
SAMPLE_NS: Final = SECOND_NS // 4
ENTRIES: Final = tuple(SimpleNamespace(lane=lane) for lane in (CRITICAL, NORMAL, BULK))
BULK_SHARE, CRITICAL_SHARE = 0.2, 0.01


@dataclass(eq=False)
class Exchange(Attempt):
    """A call, which is its own ``call``, as ``Load`` asks for it."""

    lane: int = NORMAL
    name: str = "work"

    @property
    def call(self) -> Exchange:
        return self

    @property
    def entry(self) -> SimpleNamespace:
        return ENTRIES[self.lane]

    @property
    def is_critical(self) -> bool:
        return self.lane == CRITICAL


class Loop:
    """What ``Load`` asks of an event loop, in simulated time."""

    def __init__(self, clockwork: Clockwork) -> None:
        self.clockwork = clockwork

    def time(self) -> float:
        return self.clockwork.now_ns / SECOND_NS

    def call_later(self, delay_s: float, act: Callable[..., None], *args: Any) -> object:
        self.clockwork.after(int(delay_s * SECOND_NS), act, *args)
        return self  # something that is there until ``act`` is called


@dataclass(eq=False)
class House(Ledger):
    """Callers, a server with ``backpressure`` or without it, and what its calls wait for: ``server_count`` places, or
    with ``is_on_loop`` the event loop."""

    callers: Callers
    server_count: int
    service_s: Callable[[float], float]
    is_guarded: bool
    admission: str = "gradient"
    is_on_loop: bool = False
    seed: int = 7
    refused: dict[int, int] = field(default_factory=lambda: {CRITICAL: 0, NORMAL: 0, BULK: 0}, init=False)
    levels: list[int] = field(default_factory=list, init=False)
    limits: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.clockwork = Clockwork(self.seed)
        self.arrivals = random.Random(self.seed)
        self.seconds = [Second() for _ in range(self.callers.seconds + 1)]
        self.upstream = Upstream(self.clockwork, self.server_count, _healthy, self.service_s, self._answered)
        self.line: deque[Exchange] = deque()
        self.is_busy = False
        limits = Limits(queue_delay_max_s=0.1, total_inflight_count_min=10, total_inflight_count_max=1000)
        self.budget = SimpleNamespace(refused_from=NOBODY)
        host: Any = SimpleNamespace(
            limits=limits,
            admission=self.admission,
            flags=Flags(backpressure=self.is_guarded),
            lanes=(),
            loop=Loop(self.clockwork),
        )
        turn: Any = SimpleNamespace(budget=self.budget, waited_ns=self._waited_ns)
        self.load = Load(host, turn, lambda: self.clockwork.now_ns)

    def run(self) -> House:
        self.clockwork.at(0, self._arrive)
        for number in range(self.callers.seconds * SECOND_NS // SAMPLE_NS):
            self.clockwork.at(number * SAMPLE_NS, self._sample)
        self.clockwork.run(self.callers.seconds * SECOND_NS)
        return self

    def _sample(self) -> None:
        self.limits.append(self.load.inflight_max)
        self.levels.append(self.load.level)

    def _waited_ns(self, now_ns: int) -> int:
        return now_ns - self.line[0].first_ns if self.line else 0

    def _arrive(self) -> None:
        now_ns = self.clockwork.now_ns
        self.second.offered += 1
        drawn = self.arrivals.random()
        lane = BULK if drawn < BULK_SHARE else CRITICAL if drawn > 1 - CRITICAL_SHARE else NORMAL
        exchange: Any = Exchange(now_ns, 1, now_ns, lane=lane)
        if self.is_on_loop:
            self.line.append(exchange)
            if not self.is_busy:
                self._turn()
        elif self._is_taken(exchange):
            self.load.enter(exchange)
            self.upstream.send(exchange)
        rate = self.callers.rate(now_ns / SECOND_NS)
        self.clockwork.after(int(self.arrivals.expovariate(rate) * SECOND_NS), self._arrive)

    def _is_taken(self, exchange: Any) -> bool:
        if exchange.lane >= self.budget.refused_from and self.load.refusal(exchange) is not None:
            self.second.refused += 1
            self.refused[exchange.lane] += 1
            return False
        self.second.sent += 1
        return True

    def _turn(self) -> None:
        """The loop has its next turn, of one call."""
        self.load.look()
        self.is_busy = bool(self.line)
        if not self.is_busy:
            return
        exchange = self.line.popleft()
        if not self._is_taken(exchange):
            self.clockwork.after(REFUSAL_NS, self._turn)
            return
        took_ns = int(self.service_s(self.clockwork.now_ns / SECOND_NS) * SECOND_NS)
        self.clockwork.after(took_ns, self._worked, exchange, took_ns)

    def _worked(self, exchange: Exchange, took_ns: int) -> None:
        self._count(exchange, took_ns)
        self._turn()

    def _answered(self, attempt: Any, worked_ns: int) -> None:
        self.load.leave(attempt)
        self._count(attempt, worked_ns)

    def _count(self, exchange: Exchange, worked_ns: int) -> None:
        if self.clockwork.now_ns - exchange.first_ns <= self.callers.patience_s * SECOND_NS:
            self.second.good += 1
        else:
            self.second.too_late += 1
            self.second.in_vain_ns += worked_ns


def _healthy(_second: float) -> str:
    return HEALTHY
