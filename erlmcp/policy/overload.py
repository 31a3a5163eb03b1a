"""How far a server is from keeping up, in four levels, and what it refuses at each.

One number, the *pressure*, is the worst of three shares: how long work waits for its turn, of the longest that it
should; how many calls are in flight, of those that may be; how full the queue of the threads is. 1 is the limit.

| level | name | from pressure | refused |
|---|---|---|---|
| 0 | none | | nothing |
| 1 | busy | 0.5 | nothing: handlers may see it and do less |
| 2 | shedding bulk | 0.75 | bulk |
| 3 | shedding | 1 | bulk and normal |

What is critical is never refused, and a lane only while the pressure is above the mark that its level is left at: the
work that waits is brought down to there, and no further, so that the server stays busy with what it admitted.

A level is entered when the pressure was at its mark for ``rise_ns`` without a break, so one call that blocks the loop
refuses nobody (the rule of CoDel: Nichols and Jacobson, 2012, act on the minimum of an interval and not on a peak). It
is left, one at a time, when the pressure stayed under ``relief`` of its mark for ``fall_ns``: between the two marks
nothing changes, so the level does not flap.

What is not known: how long the work takes that waits in the kernel's buffers, unread. Connections that are not read
from keep it there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MS_NS: Final = 1_000_000
NONE, BUSY, SHEDDING_BULK, SHEDDING = 0, 1, 2, 3
MARKS: Final = (0.0, 0.5, 0.75, 1.0)
CRITICAL, NORMAL, BULK = 0, 1, 2  # lanes
DELAY, INFLIGHT, QUEUE = 0, 1, 2  # the shares
# The first lane that is refused at a level; lanes from it on are.
REFUSED_FROM: Final = (BULK + 1, BULK + 1, BULK, NORMAL)


@dataclass(slots=True)
class Overload:
    """The level of one server. ``delay_max_ns`` is the longest that work should wait for its turn."""

    delay_max_ns: int
    rise_ns: int = 100 * MS_NS
    fall_ns: int = 500 * MS_NS
    relief: float = 0.8
    level: int = field(default=NONE, init=False)
    pressure: float = field(default=0.0, init=False)
    cause: int = field(default=DELAY, init=False)  # which share the pressure is
    _above_from_ns: int = field(default=-1, init=False)  # since when the next level's mark is passed
    _below_from_ns: int = field(default=-1, init=False)  # since when this level is not needed

    def __post_init__(self) -> None:
        if self.delay_max_ns < 1 or self.rise_ns < 0 or self.fall_ns < 0 or not 0 < self.relief <= 1:
            raise ValueError("delay_max_ns >= 1, rise_ns and fall_ns >= 0, 0 < relief <= 1 wanted")

    def observe(self, now_ns: int, delay_ns: int, inflight_share: float = 0.0, queue_share: float = 0.0) -> int:
        """What is seen now; the level from now on."""
        shares = (delay_ns / self.delay_max_ns, inflight_share, queue_share)
        self.pressure = pressure = max(shares)
        self.cause = shares.index(pressure)
        if self.level < SHEDDING and pressure >= MARKS[self.level + 1]:
            if self._above_from_ns < 0:
                self._above_from_ns = now_ns
            if now_ns - self._above_from_ns >= self.rise_ns:
                self.level += 1
                # What is above the next mark, too, was so all the time as far as is known here: from now on.
                self._above_from_ns = now_ns
        else:
            self._above_from_ns = -1
        if self.level and pressure < MARKS[self.level] * self.relief:
            if self._below_from_ns < 0:
                self._below_from_ns = now_ns
            if now_ns - self._below_from_ns >= self.fall_ns:
                self.level -= 1
                self._below_from_ns = now_ns
        else:
            self._below_from_ns = -1
        return self.level

    @property
    def refused_from(self) -> int:
        """The first lane whose calls are refused now; those of the lanes after it are, too."""
        level = self.level
        while level and self.pressure < MARKS[level] * self.relief:
            level -= 1
        return REFUSED_FROM[level]
