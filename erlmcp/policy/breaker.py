"""When to stop calling what fails, for how long, and when to try again.

What is counted is the core's (``BreakerWindow``: consecutive failures, the share of failures and of slow calls among
recent ones, probes while half-open). Decided here is the time that it stays open, which is drawn before it is needed:
the next opening, by whatever call, finds it in the window. So a call through a closed breaker is the window's alone,
and this module is asked only where the state changes.

The open time grows by ``growth`` with each probe that failed, up to ``open_s_max``, and is shortened by a random share
of up to ``jitter``, so that those who lost the same upstream do not come back together. It adapts to recovery: the
first open time of an outage is a little less than the shortest of the last outages, as far as they are remembered. A
probe that succeeds at once makes the next guess shorter, one that fails makes it longer, so the guess settles just
below what recovery takes.

An answer that says ``isError`` is an exchange that went well: whoever records decides what a failure is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from erlmcp import core

SECOND_NS: Final = 1_000_000_000
NEVER_NS: Final = (1 << 62) - 1
CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"
OUTAGES_KEPT: Final = 3
GUESS: Final = 0.8  # of the shortest outage


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """Opens after ``failures_in_row`` failures one after the other, or when of at least ``outcomes_min`` outcomes
    within ``window_s`` a share of ``failure_rate`` failed, or of ``slow_rate`` took ``slow_s`` or longer (0: not by
    that).

    Stays open for ``open_s`` at first, then ``growth`` times as long after each failed probe, at most ``open_s_max``,
    less a random share of up to ``jitter``. With ``adapts`` the first time goes by the last outages, which are
    remembered for ``memory_s``. Half-open, up to ``probe_max`` calls at a time are let through, and ``probe_successes``
    good ones close it.
    """

    failure_rate: float = 0.5
    slow_rate: float = 0.0
    slow_s: float = 0.0
    failures_in_row: int = 10
    outcomes_min: int = 10
    window_s: float = 10.0
    open_s: float = 1.0
    open_s_max: float = 60.0
    growth: float = 2.0
    jitter: float = 0.2
    probe_max: int = 1
    probe_successes: int = 2
    adapts: bool = True
    memory_s: float = 600.0

    def __post_init__(self) -> None:
        if not 0 < self.open_s <= self.open_s_max or self.growth < 1 or not 0 <= self.jitter < 1:
            raise ValueError(
                "0 < open_s <= open_s_max, growth >= 1 and 0 <= jitter < 1 wanted: "
                f"{self.open_s}, {self.open_s_max}, {self.growth}, {self.jitter}"
            )
        if bool(self.slow_rate) != bool(self.slow_s):
            raise ValueError(f"slow_rate and slow_s go together: {self.slow_rate}, {self.slow_s}")
        if not (self.failure_rate or self.slow_rate or self.failures_in_row):
            raise ValueError("a breaker opens by failure_rate, slow_rate or failures_in_row: give one of them")


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """A breaker changed its state. ``open_s`` is how long it stays open, where that is what it does now; the rates are
    those of its window."""

    name: str
    before: str
    after: str
    now_ns: int
    open_s: float
    failure_rate: float
    slow_rate: float


class Breaker:
    """One breaker. ``chance()`` is a random number from 0 to 1, ``listener(event)`` is told of each change of state.

    ``allow`` gives a ticket, 0 where the call must not be made; ``record`` takes it back with the outcome, ``cancel``
    where there was none. Whoever uses ``window`` directly calls ``turned`` where the state may have changed.
    """

    __slots__ = ("_from_ns", "_outages", "_seen", "_streak", "chance", "forced", "listener", "name", "rule", "window")

    def __init__(
        self,
        name: str,
        rule: BreakerRule | None = None,
        *,
        chance: Callable[[], float],
        clock: core.Clock | None = None,
        listener: Callable[[BreakerEvent], object] | None = None,
    ) -> None:
        self.name = name
        self.rule = rule = rule or BreakerRule()
        self.chance = chance
        self.listener = listener
        self.forced: str | None = None
        self._seen = CLOSED
        self._streak = 0  # openings of this outage
        self._from_ns = 0  # when it began
        self._outages: deque[tuple[int, int]] = deque(maxlen=OUTAGES_KEPT)  # (end, how long)
        self.window = core.BreakerWindow(
            int(rule.window_s * SECOND_NS),
            outcomes_min=rule.outcomes_min,
            open_failure_rate=float(rule.failure_rate),
            open_slow_rate=float(rule.slow_rate),
            open_failures_in_row=rule.failures_in_row,
            slow_ns=int(rule.slow_s * SECOND_NS),
            open_ns=self._draw(0),
            probe_max=rule.probe_max,
            probe_successes=rule.probe_successes,
            clock=clock,
        )

    @property
    def state(self) -> str:
        """ "closed", "open" or "half-open"."""
        return self.window.state

    # -- calls ---------------------------------------------------------------------------------------------------------

    def allow(self, now_ns: int) -> int:
        """A ticket from 1 to 255, or 0."""
        window = self.window
        window.now_ns = now_ns
        ticket = window.allow()
        if window.state != self._seen:
            self.turned(now_ns)
        return ticket

    def record(self, now_ns: int, is_ok: bool, duration_ns: int = 0, ticket: int = 0) -> None:
        window = self.window
        window.now_ns = now_ns
        if window.record(is_ok, duration_ns, ticket):
            self.turned(now_ns)

    def cancel(self, ticket: int = 0) -> None:
        """The call came to no outcome: it was not made after all, or nobody wanted it any more."""
        self.window.cancel(ticket)

    def wait_ns(self, now_ns: int) -> int:
        """How long until a call may be let through, as far as that is known."""
        window = self.window
        if window.state == CLOSED:
            return 0
        if window.state == OPEN:
            return max(0, window.open_until_ns - now_ns)
        return int(self.rule.open_s * SECOND_NS)

    # -- by hand -------------------------------------------------------------------------------------------------------

    def force_open(self, now_ns: int) -> None:
        """Let nothing through until ``release``."""
        self._force(OPEN, now_ns)
        self.window.trip()
        self.window.open_until_ns = NEVER_NS
        self.turned(now_ns)

    def force_closed(self, now_ns: int) -> None:
        """Let everything through until ``release``, whatever fails."""
        self._force(CLOSED, now_ns)
        self.window.change(open_failure_rate=0.0, open_slow_rate=0.0, open_failures_in_row=0)
        self.window.reset()
        self.turned(now_ns)

    def release(self, now_ns: int) -> None:
        """Go by the outcomes again, from a closed breaker with an empty window on."""
        self._force(None, now_ns)
        self.window.reset()
        self.turned(now_ns)

    def _force(self, state: str | None, now_ns: int) -> None:
        rule = self.rule
        self.forced = state
        self._streak = 0  # what is ended by hand says nothing of how long an outage takes
        self.window.now_ns = now_ns
        self.window.change(
            open_failure_rate=float(rule.failure_rate),
            open_slow_rate=float(rule.slow_rate),
            open_failures_in_row=rule.failures_in_row,
        )

    # -- changes of state ----------------------------------------------------------------------------------------------

    def turned(self, now_ns: int) -> None:
        """The state may be another one: draw the next open time, and tell it."""
        before, after = self._seen, self.window.state
        if after == before:
            return
        self._seen = after
        open_ns = self.window.open_until_ns - now_ns if after == OPEN else 0
        if after == OPEN:
            if before == CLOSED:
                self._from_ns, self._streak = now_ns, 0
            self._streak += 1
        elif after == CLOSED:
            if self.forced is None and self._streak:
                self._outages.append((now_ns, now_ns - self._from_ns))
            self._streak = 0
        if after != HALF_OPEN:
            self.window.change(open_ns=self._draw(now_ns))
        if self.listener is not None:
            window = self.window
            self.listener(
                BreakerEvent(
                    self.name, before, after, now_ns, open_ns / SECOND_NS, window.failure_rate, window.slow_rate
                )
            )

    def _draw(self, now_ns: int) -> int:
        """The open time of the next opening."""
        rule = self.rule
        learned_s = self._learned_s(now_ns)
        if not self._streak:
            wanted_s = max(rule.open_s, learned_s)
        else:
            failed = self._streak - (1 if learned_s > rule.open_s else 0)
            wanted_s = rule.open_s * min(rule.growth**failed, rule.open_s_max / rule.open_s)
        wanted_s = min(wanted_s, rule.open_s_max) * (1 - rule.jitter * self.chance())
        return max(1, int(wanted_s * SECOND_NS))

    def _learned_s(self, now_ns: int) -> float:
        oldest_ns = now_ns - int(self.rule.memory_s * SECOND_NS)
        known = [length_ns for end_ns, length_ns in self._outages if end_ns >= oldest_ns] if self.rule.adapts else []
        return GUESS * min(known) / SECOND_NS if known else 0.0
