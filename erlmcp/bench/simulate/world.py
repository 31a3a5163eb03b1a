"""A small world in simulated time: callers, the policies before them, and an upstream with a fixed number of servers.

Everything that happens is an event in a heap, in order of time; chance is one seeded generator. So a run takes no time
of its own, and comes out the same each time.

*Good* is a request answered well within its caller's patience. *Held in vain* are the seconds that attempts took which
came to nothing: what their callers waited, and what the upstream worked on after nobody wanted it any more.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from erlmcp import core
from erlmcp.policy.breaker import SECOND_NS, Breaker, BreakerEvent, BreakerRule
from erlmcp.policy.bulkhead import Bulkhead, BulkheadRule
from erlmcp.policy.limiter import Limiter
from erlmcp.policy.protection import Guards
from erlmcp.policy.retry import Retry, RetryRule
from erlmcp.policy.timeouts import AdaptiveTimeout, TimeoutRule

ADAPT_NS: Final = SECOND_NS // 4
HEALTHY, HANGING = "healthy", "hanging"


class Clockwork:
    """What happens, in order of time."""

    def __init__(self, seed: int) -> None:
        self.now_ns = 0
        self.chance = random.Random(seed)
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def at(self, time_ns: int, act: Callable[..., None], *args: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (max(time_ns, self.now_ns), self._number, act, args))

    def after(self, delay_ns: int, act: Callable[..., None], *args: Any) -> None:
        self.at(self.now_ns + delay_ns, act, *args)

    def run(self, until_ns: int) -> None:
        while self._events and self._events[0][0] <= until_ns:
            self.now_ns, _, act, args = heapq.heappop(self._events)
            act(*args)
        self.now_ns = until_ns


@dataclass
class Second:
    """What happened in one second."""

    offered: int = 0
    good: int = 0
    refused: int = 0
    too_late: int = 0
    timed_out: int = 0
    sent: int = 0
    in_vain_ns: int = 0


class Ledger:
    """What came of a run, second by second."""

    clockwork: Clockwork
    seconds: list[Second]

    @property
    def second(self) -> Second:
        return self.seconds[self.clockwork.now_ns // SECOND_NS]

    def total(self, name: str, first: int = 0, last: int | None = None) -> int:
        """The sum of a figure over the seconds from ``first`` up to ``last``."""
        return sum(getattr(each, name) for each in self.seconds[first:last])

    def in_vain_s(self) -> float:
        return self.total("in_vain_ns") / SECOND_NS

    def recovery_s(self, end: int, usual: float, share: float = 0.9) -> int | None:
        """How many seconds after ``end`` the goodput is back at ``share`` of the usual, for three seconds on end; None:
        not in the time that was looked at."""
        good = [each.good for each in self.seconds]
        for second in range(end, len(self.seconds) - 4):
            if sum(good[second : second + 3]) >= 3 * share * usual:
                return second - end
        return None


@dataclass(eq=False)
class Attempt:
    """One call on its way."""

    first_ns: int
    number: int
    sent_ns: int
    ticket: int = 1
    is_over: bool = False


class Upstream:
    """``server_count`` servers and a line before them. What came is worked off, whether anybody still waits or not.

    ``mode(second)`` says how it is, ``service_s(second)`` how long a call takes on the average (exponential, after a
    fixed half).
    """

    def __init__(
        self,
        clockwork: Clockwork,
        server_count: int,
        mode: Callable[[float], str],
        service_s: Callable[[float], float],
        answered: Callable[[Attempt, int], None],
    ) -> None:
        self.clockwork, self.mode, self.service_s, self.answered = clockwork, mode, service_s, answered
        self.free = server_count
        self.line: deque[Attempt] = deque()

    def send(self, attempt: Attempt) -> None:
        if self.mode(self.clockwork.now_ns / SECOND_NS) == HEALTHY:  # else nobody hears of it
            self.line.append(attempt)
            self.begin()

    def begin(self) -> None:
        """Take from the line what servers are free for."""
        clockwork = self.clockwork
        second = clockwork.now_ns / SECOND_NS
        while self.free and self.line and self.mode(second) != HANGING:
            attempt = self.line.popleft()
            self.free -= 1
            mean_s = self.service_s(second)
            took_ns = int((mean_s / 2 + clockwork.chance.expovariate(2 / mean_s)) * SECOND_NS)
            clockwork.after(took_ns, self._end, attempt, took_ns)

    def _end(self, attempt: Attempt, took_ns: int) -> None:
        self.free += 1
        self.answered(attempt, took_ns)
        self.begin()


@dataclass
class Load:
    """Who calls: ``rate(second)`` requests a second at random, each patient for ``patience_s``. Without a policy an
    attempt is given up after ``timeout_s``, and made ``attempt_max`` times at once."""

    rate: Callable[[float], float]
    patience_s: float
    timeout_s: float
    attempt_max: int = 1
    seconds: int = 120


@dataclass
class World(Ledger):
    """Callers before one upstream, with the policies of ``guards``."""

    load: Load
    server_count: int
    mode: Callable[[float], str]
    service_s: Callable[[float], float]
    guards: Guards
    seed: int = 7
    seconds: list[Second] = field(init=False)
    events: list[BreakerEvent] = field(default_factory=list, init=False)
    timeouts: list[float] = field(default_factory=list, init=False)
    rates: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        guards = self.guards
        self.clockwork = Clockwork(self.seed)
        self.arrivals = random.Random(self.seed)  # apart, so that they are the same whatever the policies do
        chance = self.clockwork.chance.random
        self.seconds = [Second() for _ in range(self.load.seconds + 1)]
        self.upstream = Upstream(self.clockwork, self.server_count, self.mode, self.service_s, self._answered)
        self.breaker = (
            Breaker("upstream", guards.breaker, chance=chance, listener=self.events.append)
            if isinstance(guards.breaker, BreakerRule)
            else None
        )
        self.limiter = Limiter(guards.rates[0]) if guards.rates else None
        self.bulkhead = Bulkhead(guards.bulkhead) if isinstance(guards.bulkhead, BulkheadRule) else None
        self.timeout = AdaptiveTimeout(guards.timeout) if isinstance(guards.timeout, TimeoutRule) else None
        self.retry = Retry(guards.retry, chance) if isinstance(guards.retry, RetryRule) else None
        self.recent, self.window = core.Histogram(sub_bits=5), core.Histogram(sub_bits=5)
        self.ok_count = self.failure_count = self.expired_count = 0

    def run(self) -> World:
        self.clockwork.at(0, self._arrive)
        for second in range(self.load.seconds):
            self.clockwork.at(second * SECOND_NS, self.upstream.begin)
        for number in range(1, self.load.seconds * SECOND_NS // ADAPT_NS):
            self.clockwork.at(number * ADAPT_NS, self._adapt)
        self.clockwork.run(self.load.seconds * SECOND_NS)
        return self

    # -- callers -------------------------------------------------------------------------------------------------------

    def _arrive(self) -> None:
        now_ns = self.clockwork.now_ns
        self.second.offered += 1
        if self.retry is not None:
            self.retry.begin(now_ns)
        self._attempt(now_ns, 1)
        self.clockwork.after(
            int(self.arrivals.expovariate(self.load.rate(now_ns / SECOND_NS)) * SECOND_NS), self._arrive
        )

    def _attempt(self, first_ns: int, number: int) -> None:
        now_ns = self.clockwork.now_ns
        ticket, wait_ns = self._enter(now_ns)
        if not ticket:
            self.second.refused += 1
            self._again(first_ns, number, was_refused=True, retry_after_ns=wait_ns)
            return
        attempt = Attempt(first_ns, number, now_ns, ticket)
        self.second.sent += 1
        timeout_s = self.load.timeout_s if self.timeout is None else self.timeout.timeout_s
        self.clockwork.after(int(timeout_s * SECOND_NS), self._expire, attempt)
        self.upstream.send(attempt)

    def _enter(self, now_ns: int) -> tuple[int, int]:
        """(a ticket, or 0 and when to come back)."""
        ticket = 1
        if self.breaker is not None:
            ticket = self.breaker.allow(now_ns)
            if not ticket:
                return 0, self.breaker.wait_ns(now_ns)
        wait_ns = 0
        if self.bulkhead is not None and not self.bulkhead.enter():
            wait_ns = self.bulkhead.wait_ns(0)
        elif self.limiter is not None and not self.limiter.allow(now_ns):
            wait_ns = self.limiter.wait_ns(now_ns)
            if self.bulkhead is not None:
                self.bulkhead.leave()
        if wait_ns and self.breaker is not None:
            self.breaker.cancel(ticket)
        return (0, wait_ns) if wait_ns else (ticket, 0)

    def _leave(self, attempt: Attempt, is_ok: bool) -> None:
        now_ns = self.clockwork.now_ns
        took_ns = now_ns - attempt.sent_ns
        attempt.is_over = True
        self.ok_count += is_ok
        self.failure_count += not is_ok
        self.recent.record(took_ns)
        if self.bulkhead is not None:
            self.bulkhead.leave()
        if self.breaker is not None:
            self.breaker.record(now_ns, is_ok, took_ns, attempt.ticket)

    def _answered(self, attempt: Attempt, worked_ns: int) -> None:
        second = self.second
        if attempt.is_over:
            second.in_vain_ns += worked_ns
            return
        now_ns = self.clockwork.now_ns
        self._leave(attempt, True)
        if now_ns - attempt.first_ns <= self.load.patience_s * SECOND_NS:
            second.good += 1
        else:
            second.too_late += 1
            second.in_vain_ns += now_ns - attempt.sent_ns

    def _expire(self, attempt: Attempt) -> None:
        if attempt.is_over:
            return
        self.second.timed_out += 1
        self.second.in_vain_ns += self.clockwork.now_ns - attempt.sent_ns
        self.expired_count += 1
        self._leave(attempt, False)
        self._again(attempt.first_ns, attempt.number)

    def _again(self, first_ns: int, number: int, *, was_refused: bool = False, retry_after_ns: int = 0) -> None:
        now_ns = self.clockwork.now_ns
        deadline_ns = first_ns + int(self.load.patience_s * SECOND_NS)
        if self.retry is None:
            if number < self.load.attempt_max:
                self._attempt(first_ns, number + 1)
            return
        pause_ns = self.retry.pause_ns(
            now_ns,
            number,
            may_repeat=True,
            was_refused=was_refused,
            retry_after_ns=retry_after_ns,
            deadline_ns=deadline_ns,
        )
        if pause_ns is not None:
            self.clockwork.after(pause_ns, self._attempt, first_ns, number + 1)

    # -- what adapts ---------------------------------------------------------------------------------------------------

    def _adapt(self) -> None:
        now_ns = self.clockwork.now_ns
        recent = self.recent.take()
        if self.limiter is not None:
            self.limiter.note(now_ns, self.ok_count, self.failure_count, int(recent.percentile(50)))
            self.rates.append(self.limiter.rate_per_s)
        self.ok_count = self.failure_count = 0
        if self.timeout is not None:
            self.window.merge(recent)
            if self.timeout.adapt(now_ns, self.window, self.expired_count):
                self.window = core.Histogram(sub_bits=5)
                self.expired_count = 0
            self.timeouts.append(self.timeout.timeout_s)
