"""What a run with faults is judged by, beside one without: goodput, tails and answers of the healthy tools."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

CALM, FAULTS, BARE = "fault-free", "faults", "unprotected"
GOODPUT_MARK, P99_MARK, ANSWERED_MARK, SUFFERS_MARK = 0.9, 1.1, 0.9999, 2.0
OUTSIDE_MAX = 0.1  # how often an interval may miss what it is of


@dataclass
class Row:
    """One tool in one run."""

    run: str
    tool: str
    is_healthy: bool
    offered: float  # calls a second
    goodput: float  # right answers within the deadline, a second
    p50_us: float  # medians over the rounds, as the next; of right answers
    p99_us: float
    sent: int
    right: int
    refused: int  # another HTTP status than 200
    failed: int  # an answer of status 200 that is not the right one
    unanswered: int
    unsent: int  # due, but no connection had room
    rss_peak_mb: float  # of the server
    p99s_us: list[float] = field(default_factory=list)  # of the rounds
    first_error: str = ""

    @property
    def answered(self) -> float:
        return 1 - self.unanswered / self.sent if self.sent else 1.0


@dataclass
class Mark:
    """What was asked for, what came, and whether that is enough."""

    name: str
    wanted: str
    found: str
    is_met: bool
    is_open: bool = False  # what was found does not exclude the other verdict

    @property
    def verdict(self) -> str:
        return "met" if self.is_met else "undecided" if self.is_open else "missed"


def marks(rows: Sequence[Row]) -> list[Mark]:
    """The verdicts."""
    by = {(row.run, row.tool): row for row in rows}
    healthy = [row.tool for row in rows if row.is_healthy and row.run == CALM]
    found = []
    suffers = []
    for tool in healthy:
        calm, faults, bare = (by[run, tool] for run in (CALM, FAULTS, BARE))
        goodput = share(faults.goodput, calm.goodput)
        found.append(Mark(f"goodput of {tool}", f">= {GOODPUT_MARK:.0%}", f"{goodput:.1%}", goodput >= GOODPUT_MARK))
        found.append(tail_mark(tool, faults.p99s_us, calm.p99s_us))
        suffers.append((tool, share(bare.goodput, calm.goodput), times(bare.p99s_us, calm.p99s_us)))
    sent = sum(row.sent for row in rows if row.run == FAULTS)
    lost = sum(row.unanswered for row in rows if row.run == FAULTS)
    answered = 1 - lost / sent if sent else 0.0
    found.append(
        Mark("answered calls", f">= {ANSWERED_MARK:.2%}", f"{answered:.4%} of {sent:,}", answered >= ANSWERED_MARK)
    )
    shown = ", ".join(f"{tool} {goodput:.0%} of the goodput, {p99:,.1f} x the p99" for tool, goodput, p99 in suffers)
    visible = any(goodput < GOODPUT_MARK or p99 >= SUFFERS_MARK for _, goodput, p99 in suffers)
    wanted = f"< {GOODPUT_MARK:.0%} or {SUFFERS_MARK:g} x"
    found.append(Mark("unprotected, a healthy tool suffers", wanted, shown, visible))
    return found


def share(one: float, of: float) -> float:
    return one / of if of else 0.0


def tail_mark(tool: str, some: Sequence[float], others: Sequence[float]) -> Mark:
    """Whether the p99 stayed below its mark: met or missed only where the interval lies on one side of it."""
    low, high = interval(ratios(some, others))
    shown = f"{times(some, others):.1%} ({low:.0%} to {high:.0%})"
    is_met = high <= P99_MARK
    return Mark(f"p99 of {tool}", f"<= {P99_MARK:.0%}", shown, is_met, not is_met and low <= P99_MARK)


def ratios(some: Sequence[float], others: Sequence[float]) -> list[float]:
    return [share(one, other) for one, other in zip(some, others, strict=True)]


def times(some: Sequence[float], others: Sequence[float]) -> float:
    """How many times the others: the median of the rounds' ratios."""
    return statistics.median(ratios(some, others))


def interval(found: Sequence[float]) -> tuple[float, float]:
    """From the k-th smallest to the k-th largest, which holds the median of all that might have been found in at least
    nine of ten such samples: either end lies beyond it as often as fewer than k of n coins show heads."""
    ordered, count = sorted(found), len(found)
    place, tail = 0, 1 / 2**count
    while place + 1 < count - 1 - place and 2 * (tail + math.comb(count, place + 1) / 2**count) <= OUTSIDE_MAX:
        place += 1
        tail += math.comb(count, place) / 2**count
    return ordered[place], ordered[-1 - place]
