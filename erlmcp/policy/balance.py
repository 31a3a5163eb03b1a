"""Which of several replicas gets the next call, and which gets none for a while.

Wanted: the calls go where they end soonest, a replica that became slow is left within a few calls, one that is quick
again is found out, and one that fails fast attracts nobody. Plan: a replica's *cost* is its latency times the calls on
it and the one to come, the latency as a peak-sensitive average (Finagle's peak EWMA): a call that took longer than the
average is believed at once, one that took less counts a tenth, or more where the last one is long ago. Its age, too,
makes a latency less, down to half of the best one's: a replica that nobody asks any more is asked again once its past
has faded, and one that is new is asked a little more than others, and not flooded. The cheapest gets the
call; of many replicas the cheaper of two that chance names (Mitzenmacher, "The power of two choices", 2001), as a full
scan would send all callers of one moment to the same one.

A failure counts as a call that took ``failure_s`` at least. A replica that fails ``failure_max`` times in a row, or
more than ``share_max`` of ``look_count`` calls, is *ejected*: it gets nothing for ``eject_s``, longer each time it
comes back and fails at once. At most ``ejected_share_max`` of all replicas are ejected, so that a fault of all of them
ejects few. After an ejection it is on trial: its next failure ejects it again.

The clock is an argument, and so is chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

SECOND_NS: Final = 1_000_000_000
SCAN_COUNT_MAX: Final = 4  # replicas that are all looked at
GUESS_NS: Final = 1_000_000.0  # the best latency, where nothing is known of any
KEPT_MAX: Final = 0.9  # of the average, where a call took less
DOUBLING_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class BalanceRule:
    """``decay_s``: after so long without news 37 % of a latency are left. The other words: see the module."""

    decay_s: float = 10.0
    failure_s: float = 1.0
    failure_max: int = 5
    share_max: float = 0.5
    look_count: int = 20
    eject_s: float = 5.0
    eject_s_max: float = 60.0
    ejected_share_max: float = 0.5

    def __post_init__(self) -> None:
        if not (self.decay_s > 0 and self.failure_s > 0 and 0 < self.eject_s <= self.eject_s_max):
            raise ValueError("decay_s, failure_s and eject_s are positive, and eject_s_max is the largest wait")
        if self.failure_max < 1 or self.look_count < 1:
            raise ValueError("failure_max and look_count are at least 1")
        if not (0 < self.share_max < 1 and 0 <= self.ejected_share_max < 1):
            raise ValueError("0 < share_max < 1 and 0 <= ejected_share_max < 1 wanted")


class Replica:
    """What is known of one. ``latency_ns`` is the average at ``seen_ns``, when the last call ended; 0: none has."""

    __slots__ = ("count", "eject_count", "ejected_until_ns", "failure_count", "failures", "latency_ns", "seen_ns")

    def __init__(self) -> None:
        self.latency_ns = 0.0
        self.seen_ns = 0
        self.failures = 0  # in a row
        self.count = self.failure_count = 0  # since the last look
        self.eject_count = 0  # in a row
        self.ejected_until_ns = 0


class Balance:
    """The replicas of one upstream, by index. ``chance(n)`` is a whole number from 0 to below n, at random."""

    def __init__(self, count: int, chance: Callable[[int], int], rule: BalanceRule | None = None) -> None:
        self.rule = rule or BalanceRule()
        self.replicas = [Replica() for _ in range(count)]
        self.ejected_total = 0
        self._best_ns = GUESS_NS  # the least latency of all that were asked
        self._chance = chance
        self._decay_ns = self.rule.decay_s * SECOND_NS

    # -- who is next ---------------------------------------------------------------------------------------------------

    def cost(self, index: int, under_way: int, now_ns: int) -> float:
        """What a call is expected to wait for there."""
        replica = self.replicas[index]
        latency_ns = self._best_ns / 2
        if replica.latency_ns:
            faded = math.exp(-max(0, now_ns - replica.seen_ns) / self._decay_ns)
            latency_ns = max(latency_ns, replica.latency_ns * faded)
        return latency_ns * (under_way + 1)

    def pick(self, ready: list[tuple[int, int]], now_ns: int) -> int:
        """The index of who gets the next call, of those that are ``ready``: (index, calls under way). There is one at
        least. Where all of them are ejected, that does not count."""
        if len(ready) == 1:
            return ready[0][0]
        replicas = self.replicas
        allowed = [each for each in ready if replicas[each[0]].ejected_until_ns <= now_ns] or ready
        if len(allowed) > SCAN_COUNT_MAX:
            first = self._chance(len(allowed))
            second = first + 1 + self._chance(len(allowed) - 1)
            allowed = [allowed[first], allowed[second % len(allowed)]]
        return min(allowed, key=lambda each: self.cost(each[0], each[1], now_ns))[0]

    def is_ejected(self, index: int, now_ns: int) -> bool:
        return self.replicas[index].ejected_until_ns > now_ns

    def ejected(self, now_ns: int) -> list[int]:
        return [index for index in range(len(self.replicas)) if self.is_ejected(index, now_ns)]

    # -- what happened -------------------------------------------------------------------------------------------------

    def record(self, index: int, time_ns: int, is_failure: bool, now_ns: int) -> bool:
        """A call has ended. Whether its replica is ejected for it."""
        replica, rule = self.replicas[index], self.rule
        if is_failure:
            time_ns = max(time_ns, int(rule.failure_s * SECOND_NS))
        time_ns = max(1, time_ns)
        if time_ns >= replica.latency_ns:
            replica.latency_ns = float(time_ns)
        else:
            kept = min(KEPT_MAX, math.exp(-max(0, now_ns - replica.seen_ns) / self._decay_ns))
            replica.latency_ns = replica.latency_ns * kept + time_ns * (1 - kept)
        replica.seen_ns = now_ns
        self._best_ns = min(each.latency_ns for each in self.replicas if each.latency_ns)
        return self._judge(index, replica, is_failure, now_ns)

    def _judge(self, index: int, replica: Replica, is_failure: bool, now_ns: int) -> bool:
        rule = self.rule
        if not is_failure:
            replica.failures = 0
        else:
            replica.failures += 1
            replica.failure_count += 1
        replica.count += 1
        is_bad = replica.failures >= rule.failure_max
        if replica.count >= rule.look_count:
            is_bad = is_bad or replica.failure_count > rule.share_max * replica.count
            if not is_bad:
                replica.eject_count = 0
            replica.count = replica.failure_count = 0
        return is_bad and self._eject(index, replica, now_ns)

    def _eject(self, index: int, replica: Replica, now_ns: int) -> bool:
        if replica.ejected_until_ns > now_ns or not self._may_eject(index, now_ns):
            return False
        rule = self.rule
        wait_s = min(rule.eject_s * 2 ** min(replica.eject_count, DOUBLING_MAX), rule.eject_s_max)
        replica.ejected_until_ns = now_ns + int(wait_s * SECOND_NS)
        replica.eject_count += 1
        replica.failures = rule.failure_max - 1  # its next failure ejects it again
        replica.count = replica.failure_count = 0
        self.ejected_total += 1
        return True

    def _may_eject(self, index: int, now_ns: int) -> bool:
        others = sum(self._others_ejected(index, now_ns))
        return others + 1 <= self.rule.ejected_share_max * len(self.replicas)

    def _others_ejected(self, index: int, now_ns: int) -> Iterable[bool]:
        return (self.is_ejected(each, now_ns) for each in range(len(self.replicas)) if each != index)

    def renew(self, index: int) -> None:
        """It was replaced: nothing of the old one holds."""
        self.replicas[index] = Replica()
