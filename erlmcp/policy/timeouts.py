"""How long to wait for an answer: a little longer than the slow ones take, between bounds.

A tool's durations are kept in two windows, the current and the one before. Its timeout is ``factor`` times their p99,
or times twice their p95 while too few calls are known for a p99 that does not hang on a single one.

A call that was given up is known to have taken at least the timeout, so it counts with that: where a tool becomes
slower the timeout follows, by ``factor`` a window at most. Where most calls of a window were given up, the tool does
not answer at all, and there is nothing to learn: that is a breaker's business, and waiting longer would make it worse.

Progress extends: each sign of life gives the call its timeout anew, up to ``hard_max_s`` from its beginning. A nested
call gets what is left of the outer one's time, less a margin to answer with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from erlmcp import core

SECOND_NS: Final = 1_000_000_000
P99_COUNT_MIN: Final = 100


@dataclass(frozen=True, slots=True)
class TimeoutRule:
    """Between ``min_s`` and ``max_s``: ``factor`` times what slow calls take. ``start_s`` until ``outcomes_min`` calls
    are known. ``hard_max_s`` (None: four times ``max_s``) bounds what progress may extend."""

    min_s: float = 0.25
    max_s: float = 60.0
    start_s: float = 30.0
    factor: float = 1.5
    window_s: float = 30.0
    outcomes_min: int = 20
    hard_max_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.min_s <= self.start_s <= self.max_s <= self.hard_s:
            raise ValueError(
                "0 < min_s <= start_s <= max_s <= hard_max_s wanted: "
                f"{self.min_s}, {self.start_s}, {self.max_s}, {self.hard_max_s}"
            )
        if self.factor <= 1 or self.window_s <= 0 or self.outcomes_min < 1:
            raise ValueError("factor is above 1, window_s positive, outcomes_min at least 1")

    @property
    def hard_s(self) -> float:
        return 4 * self.max_s if self.hard_max_s is None else self.hard_max_s


@dataclass(slots=True)
class AdaptiveTimeout:
    """The timeout of one tool: ``rule.min_s`` <= ``timeout_s`` <= ``rule.max_s``."""

    rule: TimeoutRule
    timeout_s: float = field(init=False)
    _before: core.Histogram | None = field(default=None, init=False)
    _from_ns: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.timeout_s = self.rule.start_s

    def adapt(self, now_ns: int, recent: core.Histogram, expired_count: int) -> bool:
        """``recent``: the durations (ns) of this window, those given up among them with what they had taken, of which
        there were ``expired_count``. True where the window is over: ``recent`` is kept as the one before, and the
        caller begins a new one."""
        rule = self.rule
        count = recent.count
        is_over = now_ns - self._from_ns >= rule.window_s * SECOND_NS
        if count and 2 * expired_count > count:
            if is_over:
                self._from_ns = now_ns  # nothing of it is kept
            return is_over
        known: core.Histogram = recent
        if self._before is not None and self._before.count:
            known = recent.copy()
            known.merge(self._before)
        if known.count >= rule.outcomes_min:
            p95, p99 = known.percentiles([95.0, 99.0])
            wanted_s = rule.factor * (p99 if known.count >= P99_COUNT_MIN else 2 * p95) / SECOND_NS
            self.timeout_s = min(rule.max_s, max(rule.min_s, wanted_s))
        if is_over:
            self._before = recent
            self._from_ns = now_ns
        return is_over


def extended_ns(now_ns: int, started_ns: int, timeout_ns: int, hard_ns: int) -> int:
    """The deadline of a call that gave a sign of life just now."""
    return min(now_ns + timeout_ns, started_ns + hard_ns)


def nested_s(wanted_s: float, left_s: float, margin_s: float) -> float:
    """The timeout of a call made within another one that has ``left_s``; 0.0 where there is no time for it."""
    return max(0.0, min(wanted_s, left_s - margin_s))
