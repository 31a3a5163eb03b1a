"""A gradual roll-out: how many calls the new of two sides gets, and when that changes.

Plan: first *in the shadow*, where there is something to compare: the new side answers copies of calls, and nobody gets
these answers. Then a share of the callers after the other, 10 %, 50 %, all. A caller's key decides, by its hash: who
had the new side at 10 % has it at 50 % too, and who asks twice is answered by the same side. At each look the evidence
of this stage says one of three things: the new side is worse, so step back, to nobody; it is no worse, so step forward;
or neither, so go on counting. A wrong answer steps back at once, whatever the counts say.

Worse is: more errors than chance explains, or a p50 or p95 that is more than ``slower_max`` above the old one's. No
worse is: at most ``error_margin`` more errors, and a p50 and p95 of at most ``margin`` above. Both with the error
probability ``alpha`` for the whole roll-out, however often it is looked at: it is divided by the stages, the three
tests and, within a test, by the looks (``erlmcp.policy.evidence``). Between the two lies a side that is a little worse:
it stays where it is, for an operator to decide.

What is not known: whether both sides are asked the same kind of calls. The keys are hashed, so with many callers they
are; with few callers of different habits, roll out by tool or by call.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from erlmcp.core import Histogram
from erlmcp.policy.evidence import bounds, chance_of_errors, difference_upper, spent

SHADOW, RUNNING, DONE, BACK = "shadow", "running", "done", "back"
QUANTILES: Final = (0.5, 0.95)
TEST_COUNT: Final = 1 + len(QUANTILES)
EVENT_COUNT_MAX: Final = 64
WHOLE: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Rules:
    """``shares`` of the calls, stage by stage; the last one is 1.0. ``first_look``: calls of the new side before the
    first judgement, each later look has ``look_growth`` times as many. ``shadow_count``: equal answers in the shadow
    before the first stage; ``shadow_share``: of the calls that may be copied; ``wrong_max``: different answers that are
    borne. ``stage_s_min``: how long a stage lasts at least."""

    shares: tuple[float, ...] = (0.1, 0.5, 1.0)
    alpha: float = 0.05
    margin: float = 0.15
    slower_max: float = 0.05
    error_margin: float = 0.01
    first_look: int = 50
    look_growth: float = 1.5
    shadow_count: int = 100
    shadow_share: float = 0.1
    wrong_max: int = 0
    stage_s_min: float = 0.0

    def __post_init__(self) -> None:
        if (
            list(self.shares) != sorted({*self.shares})
            or not self.shares
            or self.shares[-1] != 1
            or self.shares[0] <= 0
        ):
            raise ValueError(f"shares ascend from above 0 to 1: {self.shares}")
        if not (0 < self.alpha < 0.5 and 0 <= self.slower_max < self.margin and 0 < self.error_margin < 1):
            raise ValueError("0 < alpha < 0.5, 0 <= slower_max < margin and 0 < error_margin < 1 wanted")
        if self.first_look < 1 or self.look_growth <= 1 or self.shadow_count < 1 or not 0 < self.shadow_share <= 1:
            raise ValueError("first_look and shadow_count are at least 1, look_growth above 1, shadow_share up to 1")
        if self.wrong_max < 0 or self.stage_s_min < 0:
            raise ValueError("wrong_max and stage_s_min are not negative")


@dataclass(slots=True)
class Side:
    """What was seen of one side in the present stage. Times are nanoseconds."""

    count: int = 0
    error_count: int = 0
    times: Histogram = field(default_factory=Histogram)

    def told(self) -> dict[str, Any]:
        p50, p95 = self.times.percentiles((50, 95))
        rate = self.error_count / self.count if self.count else 0.0
        return {"calls": self.count, "errors": self.error_count, "error_rate": rate, "p50_ns": p50, "p95_ns": p95}


class Rollout:
    """One roll-out. ``key`` of a caller -> side, evidence in, stage out. The clock is an argument, in nanoseconds."""

    def __init__(
        self, rules: Rules | None = None, *, name: str = "", has_shadow: bool = False, now_ns: int = 0
    ) -> None:
        self.rules = rules = rules or Rules()
        self.name = name
        self._has_shadow = has_shadow
        self._salt = hashlib.blake2b(name.encode(), digest_size=16).digest()
        self._stage_alpha = rules.alpha / max(1, len(rules.shares) - 1)
        self.state = SHADOW
        self.stage = -1
        self.share = 0.0
        self._bar = 0  # keys whose hash is below get the new side
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENT_COUNT_MAX)
        self.old, self.new = Side(), Side()
        self.compared_count = self.wrong_count = 0
        self.first_wrong: str | None = None
        self.judged: dict[str, Any] = {}
        self._turn = self._shadow_turn = 0.0
        self._since_ns = now_ns
        self._look = 0
        self._next_look = 0
        if has_shadow:
            self._tell(now_ns, "begin", "in the shadow")
        else:
            self._enter(0, now_ns, "begin", "there is nothing to compare in a shadow")

    # -- which side ----------------------------------------------------------------------------------------------------

    def is_new(self, key: bytes | None) -> bool:
        """Whether the new side answers the caller of this key; without a key each call counts for itself."""
        if self._bar == 0 or self._bar == WHOLE:
            return self._bar == WHOLE
        if key is None:
            self._turn += self.share
            if self._turn < 1:
                return False
            self._turn -= 1
            return True
        return int.from_bytes(hashlib.blake2b(key, digest_size=8, key=self._salt).digest()) < self._bar

    def wants_copy(self) -> bool:
        """Whether this call of the old side is one of those to be copied to the new one."""
        if self.state not in (SHADOW, RUNNING):
            return False
        self._shadow_turn += self.rules.shadow_share
        if self._shadow_turn < 1:
            return False
        self._shadow_turn -= 1
        return True

    # -- evidence ------------------------------------------------------------------------------------------------------

    def record(self, is_new: bool, time_ns: int, is_error: bool, now_ns: int) -> None:
        """A call was answered by a side."""
        side = self.new if is_new else self.old
        side.count += 1
        side.error_count += is_error
        side.times.record(time_ns)
        if is_new and side.count >= self._next_look:
            self.look(now_ns)

    def record_many(self, is_new: bool, count: int, error_count: int, time_ns: int | None, now_ns: int) -> None:
        """Calls that were answered together, of which one time is known."""
        side = self.new if is_new else self.old
        side.count += count
        side.error_count += error_count
        if time_ns is not None:
            side.times.record(time_ns)
        if is_new and side.count >= self._next_look:
            self.look(now_ns)

    def compared(self, is_equal: bool, detail: str, now_ns: int) -> None:
        """The two sides' answers to one call were compared."""
        if self.state not in (SHADOW, RUNNING):
            return
        self.compared_count += 1
        if not is_equal:
            self.wrong_count += 1
            self.first_wrong = self.first_wrong or detail
            if self.wrong_count > self.rules.wrong_max:
                said = f"{self.wrong_count} of {self.compared_count} answers compared are not the old side's: {detail}"
                self._retreat(now_ns, "back", said)
        elif self.state == SHADOW and self.compared_count - self.wrong_count >= self.rules.shadow_count:
            self._enter(0, now_ns, "forward", f"{self.compared_count} answers compared, {self.wrong_count} different")

    def look(self, now_ns: int) -> None:
        """Judge the evidence of this stage."""
        if self.state != RUNNING:
            return
        self._look += 1
        self._next_look = max(self.new.count + 1, int(self.new.count * self.rules.look_growth))
        if self.old.count == 0:
            return
        alpha = spent(self._stage_alpha / TEST_COUNT, self._look)
        is_worse, is_fine = self._judge(alpha)
        self.judged["look"], self.judged["alpha"] = self._look, alpha
        if is_worse:
            self._retreat(now_ns, "back", "; ".join(is_worse))
        elif is_fine and now_ns - self._since_ns >= self.rules.stage_s_min * 1e9:
            said = f"{self.new.count} calls of the new side and {self.old.count} of the old one: no worse"
            self._enter(self.stage + 1, now_ns, "forward", said)

    def _judge(self, alpha: float) -> tuple[list[str], bool]:
        """(what is worse, whether all is well) at this ``alpha`` of each test."""
        rules, old, new = self.rules, self.old, self.new
        counts = new.error_count, new.count, old.error_count, old.count
        chance, above = chance_of_errors(*counts), difference_upper(*counts, alpha)
        self.judged = {"error_chance": chance, "error_difference_max": above}
        worse = []
        if chance <= alpha:
            rates = (
                f"{new.error_count / new.count:.2%} of calls fail, {old.error_count / old.count:.2%} on the old side"
            )
            worse.append(f"{rates} (chance {chance:.2g} <= {alpha:.2g})")
        is_fine = above <= rules.error_margin
        for quantile in QUANTILES:
            low, high = bounds(new.times, quantile, alpha / 2)
            old_low, old_high = bounds(old.times, quantile, alpha / 2)
            name = f"p{round(quantile * 100)}"
            self.judged[name] = {"new_ns": [low, high], "old_ns": [old_low, old_high]}
            if low > old_high * (1 + rules.slower_max):
                said = f"{name} is at least {low / 1e6:.3g} ms, on the old side at most {old_high / 1e6:.3g} ms"
                worse.append(f"{said}: more than {rules.slower_max:.0%} above (alpha {alpha:.2g})")
            is_fine = is_fine and high <= old_low * (1 + rules.margin)
        return worse, is_fine

    # -- steps ---------------------------------------------------------------------------------------------------------

    def advance(self, now_ns: int, why: str = "the operator") -> None:
        """One stage on, whatever the evidence; from nobody to the first stage. Nothing where all have the new side."""
        if self.state != DONE:
            self._enter(0 if self.state in (SHADOW, BACK) else self.stage + 1, now_ns, "forward", why)

    def back(self, now_ns: int, why: str = "the operator") -> None:
        """To nobody."""
        if self.state != BACK:
            self._retreat(now_ns, "back", why)

    def _enter(self, stage: int, now_ns: int, word: str, why: str) -> None:
        self._set(RUNNING if self.rules.shares[stage] < 1 else DONE, stage, self.rules.shares[stage])
        self._tell(now_ns, word, why)
        self._restart(now_ns)

    def _retreat(self, now_ns: int, word: str, why: str) -> None:
        self._set(BACK, -1, 0.0)
        self._tell(now_ns, word, why)
        self._restart(now_ns)

    def _set(self, state: str, stage: int, share: float) -> None:
        self.state, self.stage, self.share = state, stage, share
        self._bar = WHOLE if share >= 1 else int(share * WHOLE)

    def _restart(self, now_ns: int) -> None:
        """Evidence is of one stage: the next one begins with none."""
        self.old, self.new = Side(), Side()
        self.judged = {}
        self._look = 0
        self._next_look = self.rules.first_look
        self._since_ns = now_ns
        if self.state == RUNNING and self.stage == 0:
            self.compared_count = self.wrong_count = 0
            self.first_wrong = None

    def _tell(self, now_ns: int, word: str, why: str) -> None:
        old, new = self.old.told(), self.new.told()
        seen = {"compared": self.compared_count, "wrong": self.wrong_count, "old": old, "new": new}
        self.events.append({"at_ns": now_ns, "event": word, "share": self.share, "why": why, **seen, **self.judged})

    def status(self) -> dict[str, Any]:
        """All that an operator wants to know, as JSON has it."""
        return {
            "name": self.name,
            "state": self.state,
            "share": self.share,
            "stage": self.stage,
            "shares": list(self.rules.shares),
            "alpha": self.rules.alpha,
            "compared": self.compared_count,
            "wrong": self.wrong_count,
            "first_wrong": self.first_wrong,
            "old": self.old.told(),
            "new": self.new.told(),
            "judged": {key: _finite(value) for key, value in self.judged.items()},
            "next_look": self._next_look,
            "events": [{key: _finite(value) for key, value in event.items()} for event in self.events],
        }


def _finite(value: Any) -> Any:
    """Infinity has no JSON form: a bound that is none is None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if value == float("inf") else value
