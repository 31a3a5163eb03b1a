"""How many calls a second: a bucket for everybody, for a tool or for a caller, at a rate that may adapt.

The decision is the core's ``TokenBucket``: GCRA (ITU-T I.371) counted as a level, so that a token bucket of ``burst``
and GCRA with a tolerance of ``burst - 1`` emission intervals are one and the same, decision for decision. Never more
than ``burst + rate * t`` pass in any span of t seconds.

``AdaptiveRate`` moves the rate: up by a step while the rate is what holds calls back and all is well, down by a factor
when too many calls fail or take too long (AIMD; Chiu and Jain, 1989). What is too long goes by the fastest median of
the last windows, so that a tool that is slow by nature is not throttled for it, and one that became slow is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from erlmcp import core

SECOND_NS: Final = 1_000_000_000
PLACES: Final = ("server", "tool", "caller")


@dataclass(frozen=True, slots=True)
class RateRule:
    """At most ``rate_per_s`` calls a second in the long run, and ``burst`` at once (None: a second's worth).

    ``per``: a bucket for the "server", for each "tool", or for each "caller" of a tool, of which ``count_max`` are
    kept.

    With ``rate_per_s_min`` below ``rate_per_s`` the rate adapts between the two, once in ``period_s``: it falls to
    ``shrink`` of itself where a share above ``error_rate`` failed, or the median call took ``tolerance`` times as long
    as the fastest lately, and rises by ``step`` of ``rate_per_s`` where calls were refused for it or it was used up to
    four fifths.
    """

    rate_per_s: float
    burst: int | None = None
    per: str = "tool"
    count_max: int = 10_000
    rate_per_s_min: float | None = None
    error_rate: float = 0.2
    tolerance: float = 3.0
    shrink: float = 0.7
    step: float = 0.05
    period_s: float = 1.0
    outcomes_min: int = 5
    baseline_periods: int = 60

    def __post_init__(self) -> None:
        if self.per not in PLACES:
            raise ValueError(f"per is one of {', '.join(PLACES)}, got {self.per!r}")
        if not self.rate_per_s > 0 or not 0 < self.lowest <= self.rate_per_s:
            raise ValueError(f"0 < rate_per_s_min <= rate_per_s wanted: {self.rate_per_s_min}, {self.rate_per_s}")
        if self.is_adaptive and self.per == "caller":
            raise ValueError("a rate for each caller does not adapt: one caller's trouble says nothing of the tool's")
        if not 0 < self.shrink < 1 or not 0 < self.step <= 1 or self.tolerance <= 1 or self.period_s <= 0:
            raise ValueError("shrink and step lie between 0 and 1, tolerance above 1, period_s above 0")

    @property
    def lowest(self) -> float:
        return self.rate_per_s if self.rate_per_s_min is None else self.rate_per_s_min

    @property
    def is_adaptive(self) -> bool:
        return self.lowest < self.rate_per_s

    @property
    def size(self) -> int:
        """The burst."""
        return max(1, round(self.rate_per_s)) if self.burst is None else self.burst


def exact(rate_per_s: float) -> float:
    """The rate as a bucket counts it without rounding: whole where it is, else in millionths."""
    return int(rate_per_s) if rate_per_s == int(rate_per_s) else round(rate_per_s, 6)


@dataclass(slots=True)
class AdaptiveRate:
    """The rate of one bucket: ``rule.lowest`` <= ``rate_per_s`` <= ``rule.rate_per_s``."""

    rule: RateRule
    rate_per_s: float = field(init=False)
    _medians: deque[int] = field(init=False)

    def __post_init__(self) -> None:
        self.rate_per_s = self.rule.rate_per_s
        self._medians = deque(maxlen=self.rule.baseline_periods)

    def adapt(self, passed_ns: int, ok_count: int, failure_count: int, refused_count: int, median_ns: int) -> float:
        """What came of the calls of the last ``passed_ns``; the rate from now on."""
        rule = self.rule
        count = ok_count + failure_count
        is_bad = False
        if count >= rule.outcomes_min:
            is_bad = failure_count > rule.error_rate * count
            if not is_bad and median_ns > 0:
                fastest = min(self._medians, default=median_ns)
                is_bad = median_ns > rule.tolerance * fastest
                self._medians.append(median_ns)
        if is_bad:
            self.rate_per_s = max(rule.lowest, self.rate_per_s * rule.shrink)
        elif refused_count or count * SECOND_NS >= 0.8 * self.rate_per_s * passed_ns:
            self.rate_per_s = min(rule.rate_per_s, self.rate_per_s + rule.step * rule.rate_per_s)
        return self.rate_per_s


class Limiter:
    """A rule at work: its bucket, and its rate where that adapts. ``bucket`` may be asked directly."""

    __slots__ = ("_failures", "_from_ns", "_oks", "_refused", "_weight_ns", "bucket", "rate", "rule")

    def __init__(self, rule: RateRule) -> None:
        self.rule = rule
        self.bucket = core.TokenBucket(exact(rule.rate_per_s), rule.size)
        self.rate = AdaptiveRate(rule) if rule.is_adaptive else None
        self._oks = self._failures = self._weight_ns = self._refused = self._from_ns = 0

    @property
    def rate_per_s(self) -> float:
        return self.bucket.rate_per_s

    def allow(self, now_ns: int) -> bool:
        return self.bucket.allow_at(now_ns)

    def wait_ns(self, now_ns: int) -> int:
        """How long until there is a token."""
        return self.bucket.wait_ns(1, now_ns)

    def note(self, now_ns: int, ok_count: int, failure_count: int, median_ns: int) -> None:
        """What came of calls since the last time; once in a period the rate adapts to it. Several may share it: their
        medians count by their calls."""
        rate = self.rate
        if rate is None:
            return
        if not self._from_ns:
            self._from_ns = now_ns
        self._oks += ok_count
        self._failures += failure_count
        self._weight_ns += median_ns * (ok_count + failure_count)
        passed_ns = now_ns - self._from_ns
        if passed_ns < self.rule.period_s * SECOND_NS:
            return
        refused = self.bucket.refused_count
        count = self._oks + self._failures
        before = rate.rate_per_s
        found = rate.adapt(
            passed_ns, self._oks, self._failures, refused - self._refused, self._weight_ns // count if count else 0
        )
        if found != before:
            self.bucket.now_ns = now_ns
            self.bucket.change(exact(found), max(1, round(self.rule.size * found / self.rule.rate_per_s)))
        self._oks = self._failures = self._weight_ns = 0
        self._refused, self._from_ns = refused, now_ns


def caller_buckets(rule: RateRule) -> core.TokenBuckets:
    """A bucket for each caller, by name."""
    return core.TokenBuckets(exact(rule.rate_per_s), rule.size, rule.count_max)
