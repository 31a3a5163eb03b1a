"""Whether to ask again, and after how long.

Three rules, and each of them has to agree. *Idempotency*: what may have been acted on is asked again only where that
does no harm; what was refused before anybody acted on it may always be asked again. *Budget*: retries are at most a
share of the requests, so that an upstream in trouble gets a little more load than usual and not a multiple of it (a
retry storm keeps an outage alive). *Time*: exponential backoff with full jitter (Brooker, 2015), no sooner than the
other side said (Retry-After), and not at all where the deadline comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RetryRule:
    """At most ``attempt_max`` attempts, the first among them; before the n-th retry a pause of up to
    ``backoff_s * 2**(n-1)``, at most ``backoff_s_max``. Retries are at most ``budget`` of the requests of the last
    ``window_s``, besides ``reserve`` of them that a quiet caller has. Where the other side wants to be left alone for
    longer than ``wait_s_max``, its refusal is final."""

    attempt_max: int = 3
    backoff_s: float = 0.05
    backoff_s_max: float = 5.0
    budget: float = 0.1
    reserve: int = 3
    window_s: float = 10.0
    wait_s_max: float = 30.0

    def __post_init__(self) -> None:
        if self.attempt_max < 1 or not 0 < self.backoff_s <= self.backoff_s_max:
            raise ValueError("attempt_max is at least 1, and 0 < backoff_s <= backoff_s_max")
        if not 0 <= self.budget <= 1 or self.reserve < 0 or self.window_s <= 0 or self.wait_s_max < 0:
            raise ValueError("budget lies between 0 and 1, reserve and wait_s_max are not negative, window_s positive")


@dataclass(slots=True)
class RetryBudget:
    """The retries of one caller towards one endpoint.

    Counted in two half-windows: what was asked for and what was spent in the current one and the one before.
    """

    rule: RetryRule
    _requests: int = field(default=0, init=False)
    _retries: int = field(default=0, init=False)
    _requests_before: int = field(default=0, init=False)
    _retries_before: int = field(default=0, init=False)
    _from_ns: int = field(default=0, init=False)
    refused_count: int = field(default=0, init=False)

    def requested(self, now_ns: int) -> None:
        """A first attempt was made."""
        self._turn(now_ns)
        self._requests += 1

    def spend(self, now_ns: int) -> bool:
        """Whether one more retry is within the budget; it is spent then."""
        self._turn(now_ns)
        allowed = self.rule.reserve + self.rule.budget * (self._requests + self._requests_before)
        if self._retries + self._retries_before + 1 > allowed:
            self.refused_count += 1
            return False
        self._retries += 1
        return True

    def _turn(self, now_ns: int) -> None:
        half_ns = int(self.rule.window_s * SECOND_NS / 2)
        passed = now_ns - self._from_ns
        if passed < half_ns:
            return
        is_next = passed < 2 * half_ns
        self._requests_before = self._requests if is_next else 0
        self._retries_before = self._retries if is_next else 0
        self._requests = self._retries = 0
        self._from_ns = now_ns


def backoff_ns(rule: RetryRule, retry: int, chance: float) -> int:
    """The pause before the ``retry``-th retry (from 1): full jitter, ``chance`` of the whole."""
    whole_s = min(rule.backoff_s_max, rule.backoff_s * 2.0 ** min(retry - 1, 60))
    return int(whole_s * chance * SECOND_NS)


@dataclass(slots=True)
class Retry:
    """The verdicts for one endpoint."""

    rule: RetryRule
    chance: Callable[[], float]
    budget: RetryBudget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = RetryBudget(self.rule)

    def begin(self, now_ns: int) -> None:
        """A request is made for the first time."""
        self.budget.requested(now_ns)

    def pause_ns(
        self,
        now_ns: int,
        attempt: int,
        *,
        may_repeat: bool,
        was_refused: bool = False,
        retry_after_ns: int = 0,
        deadline_ns: int | None = None,
    ) -> int | None:
        """After the ``attempt``-th attempt (from 1) failed: how long to wait before the next; None where there is none.

        ``may_repeat``: doing it twice does no harm. ``was_refused``: nobody acted on it. ``retry_after_ns``: what the
        other side asked for. Nothing of the budget is spent for None.
        """
        rule = self.rule
        if attempt >= rule.attempt_max or not (may_repeat or was_refused):
            return None
        if retry_after_ns > rule.wait_s_max * SECOND_NS:
            return None
        pause = retry_after_ns + backoff_ns(rule, attempt, self.chance())
        if deadline_ns is not None and now_ns + pause >= deadline_ns:
            return None
        return pause if self.budget.spend(now_ns) else None
