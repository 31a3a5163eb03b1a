"""The guard of one tool, endpoint or function: what a call passes before it is made, and what its end teaches.

Operations wanted: let a call in and out for less than 100 ns where all is well; be exact where it is not.

Plan: a *fence* asks the core's numbers in C (is the breaker closed, is there a place, is there a token) and reads the
clock; it goes up to the policies only where a state changes, and once in a period, to adapt. ``Fence`` is compiled
where the core is (``erlmcp.runtime.fence``); the twin below says the same in plain Python.

What holds:

- of what was let in, each call ends once: by ``leave``, by ``cancel`` where it came to no outcome, or by ``failed``,
  which judges the exception and does one of the two;
- a call that is refused by one part gives back what it got of the parts before it; a token of a rate alone is never
  given back, and is the last to be asked for;
- what is switched off lets everything pass, and forgets: switched on again, a breaker finds its window as it was.

A guard may be used by several threads; a policy's own steps run under the GIL, the line of a bulkhead under a lock.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.errors import (
    INTERNAL_ERROR,
    REQUEST_TIMEOUT,
    BreakerOpenError,
    BulkheadFullError,
    CallTimeoutError,
    McpError,
    RateLimitedError,
    RefusedError,
    ToolError,
)
from erlmcp.policy.breaker import OPEN, SECOND_NS, Breaker, BreakerEvent, BreakerRule
from erlmcp.policy.bulkhead import Bulkhead, BulkheadRule
from erlmcp.policy.limiter import Limiter, caller_buckets
from erlmcp.policy.protection import Guards
from erlmcp.policy.timeouts import AdaptiveTimeout, TimeoutRule
from erlmcp.runtime.place import Lining
from erlmcp.runtime.rest import PlainRest, awaiting
from erlmcp.runtime.within import DEADLINE, until_after

if TYPE_CHECKING:
    from erlmcp.flags import Flags

log = logging.getLogger("erlmcp.guard")

TICKET_MASK: Final = 255
BY_BREAKER, BY_BULKHEAD, BY_RATE, BY_TOTAL_RATE, BY_CALLER = 0, -1, -2, -3, -4
PERIOD_NS: Final = SECOND_NS // 4  # the soonest that anything adapts again
COARSE_NS: Final = 20_000_000  # whoever goes by shorter times needs the precise clock
DURATION_BITS: Final = 5  # of the histograms: off by at most 1.6 %
_HUGE: Final = (1 << 62) - 1
FAILURES: Final = (INTERNAL_ERROR, REQUEST_TIMEOUT)


class PlainFence:
    """The hot part of a ``Guard``, in plain Python."""

    def __init__(self) -> None:
        self.ok_count = self.failure_count = self.span_ns = 0
        self.asks_callers = False
        self._breaker: Breaker | None = None
        self._bulkhead: Bulkhead | None = None
        self._buckets: tuple[tuple[int, core.TokenBucket], ...] = ()
        self._durations: core.Histogram | None = None
        self._due_ns = _HUGE

    def set_fence(
        self,
        *,
        breaker: Breaker | None,
        bulkhead: Bulkhead | None,
        bucket: core.TokenBucket | None,
        total: core.TokenBucket | None,
        durations: core.Histogram | None,
        is_precise: bool,
        due_ns: int | None,
    ) -> None:
        """What a call has to pass; None: nothing of the kind. ``adapt`` is called with the first call that ends at
        ``due_ns`` or later."""
        self._breaker, self._bulkhead, self._durations = breaker, bulkhead, durations
        asked = ((BY_RATE, bucket), (BY_TOTAL_RATE, total))
        self._buckets = tuple((by, each) for by, each in asked if each is not None)
        self._due_ns = _HUGE if due_ns is None else due_ns

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def enter(self) -> int:
        """A token above zero, or (0 and below) which part did not let the call in."""
        now_ns = self.now_ns()
        ticket = 1
        if self._breaker is not None:
            ticket = self._breaker.allow(now_ns)
            if not ticket:
                return BY_BREAKER
        verdict = 1
        if self._bulkhead is not None and not self._bulkhead.places.enter():
            verdict = BY_BULKHEAD
        else:
            verdict = next((by for by, each in self._buckets if not each.allow_at(now_ns)), 1)
            if verdict != 1:
                self._leave_place()
        if verdict != 1:
            if self._breaker is not None:
                self._breaker.cancel(ticket)
            return verdict
        return now_ns & ~TICKET_MASK | ticket

    def leave(self, token: int, is_ok: bool) -> None:
        self._leave_place()
        self.settle(token, is_ok)

    def settle(self, token: int, is_ok: bool) -> None:
        """``leave`` without giving the place of the bulkhead back: the call was given up, and goes on."""
        now_ns = self.now_ns()
        took_ns = now_ns - (token & ~TICKET_MASK)
        self.ok_count += is_ok
        self.failure_count += not is_ok
        if self._durations is not None:
            self._durations.record(took_ns)
        if self._breaker is not None:
            self._breaker.record(now_ns, is_ok, took_ns, token & TICKET_MASK)
        if now_ns >= self._due_ns:
            self.adapt(now_ns)

    def cancel(self, token: int) -> None:
        """The call came to no outcome."""
        self._leave_place()
        if self._breaker is not None:
            self._breaker.cancel(token & TICKET_MASK)

    def _leave_place(self) -> None:
        if self._bulkhead is not None:
            self.hand_over()

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """An ordinary function, guarded."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            token = self.enter()
            if token <= 0:
                return self.otherwise(token, function, args, kwargs)
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                self.failed(token, error)
                raise
            self.leave(token, True)
            return value

        return guarded

    def first_step(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a coroutine function gives, where it does not wait; else a rest that is to be awaited. What a call that
        ended teaches is learned; who awaits the rest sees to the rest."""
        token = self.enter()
        if token <= 0:
            return PlainRest(token)
        began_ns, before = 0, None
        if self.span_ns:
            began_ns = time.monotonic_ns()
            before = DEADLINE.set(until_after(self.span_ns))
        try:
            coroutine = function(*args, **kwargs)
            if not isinstance(coroutine, CoroutineType):
                coroutine = awaiting(coroutine)
            first = coroutine.send(None)
        except StopIteration as end:
            self.leave(token, True)
            return end.value
        except BaseException as error:
            self.failed_in_time(token, error, before is not None)
            raise
        finally:
            if before is not None:
                DEADLINE.reset(before)
        return PlainRest(token, began_ns, coroutine, first)

    def failed_in_time(self, token: int, error: BaseException, is_timed: bool) -> None:
        raise NotImplementedError

    def hand_over(self) -> None:
        raise NotImplementedError

    def adapt(self, now_ns: int) -> None:
        raise NotImplementedError

    def failed(self, token: int, error: BaseException) -> None:
        raise NotImplementedError

    def otherwise(self, token: int, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        raise NotImplementedError


if TYPE_CHECKING:
    _Fence = PlainFence
else:
    _Fence = object


def is_failure(error: BaseException) -> bool:
    """Whether an exception speaks against what was called: not where it is an answer, such as a tool's own error (what
    becomes ``isError``) or a refusal of the arguments."""
    if isinstance(error, McpError):
        return error.code in FAILURES
    return not isinstance(error, ToolError)


def new_durations() -> core.Histogram:
    return core.Histogram(sub_bits=DURATION_BITS)


class Guarding(Lining, _Fence):
    """All that ``rules`` ask for, before one tool or function.

    ``total`` is a rate that several guards share. ``is_failure(error)`` judges exceptions, ``fallback`` is called with
    the arguments of a call that was refused, ``listener(event)`` is told of the breaker. ``flags`` say what is switched
    on (None: everything), until ``switch`` is called with others.
    """

    def __init__(
        self,
        name: str,
        rules: Guards,
        *,
        total: Limiter | None = None,
        flags: Flags | None = None,
        is_failure: Callable[[BaseException], bool] = is_failure,
        fallback: Callable[..., Any] | None = None,
        listener: Callable[[BreakerEvent], object] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self.name = name
        self.rules = rules
        self.is_failure = is_failure
        self.fallback = fallback
        self.listener = listener
        self.total = total
        breaks, places, waits = rules.breaker, rules.bulkhead, rules.timeout
        self.breaker = (
            Breaker(name, breaks, chance=chance, listener=self._tell) if isinstance(breaks, BreakerRule) else None
        )
        self.bulkhead = Bulkhead(places) if isinstance(places, BulkheadRule) else None
        self.timeout = AdaptiveTimeout(waits) if isinstance(waits, TimeoutRule) else None
        rates = {rule.per: rule for rule in rules.rates}
        self.limiter = Limiter(rates["tool"]) if "tool" in rates else None
        self._caller_buckets = caller_buckets(rates["caller"]) if "caller" in rates else None
        self.callers: core.TokenBuckets | None = None
        self.is_timing = False
        self.expired_count = 0
        self._expired_seen = self._oks_seen = self._failures_seen = 0
        self._recent: core.Histogram | None = None  # made when they are needed: 10 KiB each
        self._window: core.Histogram | None = None
        self.switch(flags)

    # -- what is switched on -------------------------------------------------------------------------------------------

    def switch(self, flags: Flags | None) -> None:
        """Let pass what is switched off."""
        self._flags = flags
        breaks = flags is None or flags.circuit_breaker
        limits = flags is None or flags.rate_limit
        self.is_timing = self.timeout is not None and (flags is None or flags.adaptive_timeouts)
        self.is_breaking = self.breaker is not None and breaks
        self.callers = self._caller_buckets if limits else None
        self.asks_callers = self.callers is not None
        self._limiters = [each for each in (self.limiter, self.total) if each is not None] if limits else []
        self._set_fence(self.now_ns())

    def _set_fence(self, now_ns: int) -> None:
        adapts_rate = any(each.rate is not None for each in self._limiters)
        is_timed = self.is_timing or adapts_rate or (self.bulkhead is not None and bool(self.bulkhead.rule.queue_max))
        if is_timed and self._recent is None:
            self._recent, self._window = new_durations(), new_durations()
        self.span_ns = int((self.timeout_s or 0) * SECOND_NS)
        slow_s = self.breaker.rule.slow_s if self.is_breaking and self.breaker else 0.0
        self.set_fence(
            breaker=self.breaker if self.is_breaking else None,
            bulkhead=self.bulkhead,
            bucket=self.limiter.bucket if self.limiter in self._limiters and self.limiter else None,
            total=self.total.bucket if self.total in self._limiters and self.total else None,
            durations=self._recent if is_timed else None,
            is_precise=adapts_rate or 0 < slow_s * SECOND_NS < COARSE_NS,
            due_ns=now_ns + PERIOD_NS if self.is_timing or adapts_rate else None,
        )

    def _tell(self, event: BreakerEvent) -> None:
        level = logging.WARNING if event.after == OPEN else logging.INFO
        log.log(level, "the breaker of %s is %s", event.name, event.after)
        if self.listener is not None:
            try:
                self.listener(event)
            except Exception:
                log.exception("a listener of the breaker of %s failed", event.name)

    # -- refused -------------------------------------------------------------------------------------------------------

    def may_wait(self, token: int) -> bool:
        """Whether ``turn`` may lead to something for who was refused so."""
        return token == BY_BULKHEAD and self.bulkhead is not None and self.bulkhead.rule.queue_max > 0

    def enter_for(self, caller: str) -> int:
        """``enter``, where each caller has a rate of its own."""
        callers = self.callers
        if callers is not None and not callers.take(caller, 1, self.now_ns()):
            return BY_CALLER
        return self.enter()

    def refusal(self, token: int, caller: str = "") -> RefusedError:
        """Why ``enter`` did not let a call in."""
        now_ns = self.now_ns()
        name = self.name
        if token == BY_BREAKER and self.breaker is not None:
            forced = self.breaker.forced is not None
            wait_s = None if forced else self.breaker.wait_ns(now_ns) / SECOND_NS
            return BreakerOpenError(f"{name} is not called: its circuit breaker is {self.breaker.state}", wait_s)
        if token == BY_BULKHEAD and self.bulkhead is not None:
            typical_ns = int(self._recent.percentile(50)) if self._recent is not None else 0
            text = f"{name} is busy: {self.bulkhead.rule.count_max} calls are running"
            return BulkheadFullError(text, self.bulkhead.wait_ns(typical_ns) / SECOND_NS)
        if token == BY_CALLER and self.callers is not None:
            wait_ns = self.callers.wait_ns(caller, 1, now_ns)
            return RateLimitedError(f"too many calls of {name} by this caller", wait_ns / SECOND_NS)
        limiter = self.total if token == BY_TOTAL_RATE else self.limiter
        wait_s = limiter.wait_ns(now_ns) / SECOND_NS if limiter is not None else None
        return RateLimitedError(f"too many calls of {'all tools' if token == BY_TOTAL_RATE else name}", wait_s)

    def enter_placed(self) -> int:
        """``enter`` for who has a place of the bulkhead already; refused, the place is given back."""
        now_ns = self.now_ns()
        ticket = 1
        if self.is_breaking and self.breaker is not None:
            ticket = self.breaker.allow(now_ns)
            if not ticket:
                self.hand_over()
                return BY_BREAKER
        for limiter in self._limiters:
            if not limiter.allow(now_ns):
                self.hand_over()
                if self.is_breaking and self.breaker is not None:
                    self.breaker.cancel(ticket)
                return BY_TOTAL_RATE if limiter is self.total else BY_RATE
        return now_ns & ~TICKET_MASK | ticket

    def otherwise(self, token: int, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A call that was not let in: in line for a place, else by the fallback, else not at all."""
        if token == BY_BULKHEAD and self.wait():
            token = self.enter_placed()
        if token > 0:
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                self.failed(token, error)
                raise
            self.leave(token, True)
            return value
        if self.fallback is not None:
            return self.fallback(*args, **kwargs)
        raise self.refusal(token)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def failed(self, token: int, error: BaseException) -> None:
        """The call ended in an exception."""
        if not isinstance(error, Exception):  # cancelled, or the program ends: it says nothing of what was called
            self.cancel(token)
        else:
            self.leave(token, not self.is_failure(error))

    def failed_in_time(self, token: int, error: BaseException, is_timed: bool) -> None:
        """``failed``, where it may have been given up."""
        if is_timed and isinstance(error, CallTimeoutError):
            self.expired(token)
        else:
            self.failed(token, error)

    def expired(self, token: int) -> None:
        """The call was given up, and has ended."""
        self.expired_count += 1
        self.leave(token, False)

    def gave_up(self, token: int) -> None:
        """The call was given up, and goes on: its place is given back by ``hand_over`` when it ends."""
        self.expired_count += 1
        self.settle(token, False)

    def withdraw(self, token: int) -> None:
        """``cancel`` without giving the place back: who holds that gives it back itself."""
        if self.breaker is not None:
            self.breaker.cancel(token & TICKET_MASK)

    @property
    def timeout_s(self) -> float | None:
        """How long a call may take, where that adapts and is switched on."""
        return self.timeout.timeout_s if self.is_timing and self.timeout is not None else None

    def adapt(self, now_ns: int) -> None:
        """Once in a period: what ended since teaches the policies."""
        oks, failures = self.ok_count - self._oks_seen, self.failure_count - self._failures_seen
        self._oks_seen, self._failures_seen = self.ok_count, self.failure_count
        assert self._recent is not None
        assert self._window is not None
        recent = self._recent.take()
        median_ns = int(recent.percentile(50)) if self._limiters else 0
        for limiter in self._limiters:
            limiter.note(now_ns, oks, failures, median_ns)
        if self.is_timing and self.timeout is not None:
            self._window.merge(recent)
            if self.timeout.adapt(now_ns, self._window, self.expired_count - self._expired_seen):
                self._window = new_durations()
                self._expired_seen = self.expired_count
        self._set_fence(now_ns)

    def report(self) -> dict[str, Any]:
        """The state of all parts, for metrics and people."""
        now_ns = self.now_ns()
        found: dict[str, Any] = {"ok": self.ok_count, "failed": self.failure_count, "expired": self.expired_count}
        if self.breaker is not None:
            window = self.breaker.window
            window.now_ns = now_ns
            found["breaker"] = {
                "state": self.breaker.state,
                "forced": self.breaker.forced,
                "failure_rate": window.failure_rate,
                "slow_rate": window.slow_rate,
                "opened": window.opened_count,
                "refused": window.refused_count,
            }
        if self.limiter is not None:
            bucket = self.limiter.bucket
            found["rate"] = {"per_s": bucket.rate_per_s, "burst": bucket.burst, "refused": bucket.refused_count}
        if self.bulkhead is not None:
            found["bulkhead"] = {
                "running": self.bulkhead.count,
                "waiting": self.bulkhead.waiting_count,
                "refused": self.bulkhead.places.refused_count,
            }
        if self.timeout is not None:
            found["timeout_s"] = self.timeout.timeout_s
        return found

    # -- coroutine functions -------------------------------------------------------------------------------------------

    async def enter_in_turn(self, caller: str = "") -> int:
        """``enter`` for who may wait for a place."""
        return await self.turn(self.enter_for(caller) if self.callers is not None else self.enter())

    async def turn(self, token: int) -> int:
        """What ``enter`` gave, after the line where that is what it takes."""
        if token == BY_BULKHEAD and await self.wait_on_loop(asyncio.get_running_loop()):
            return self.enter_placed()
        return token


class PlainGuard(Guarding, PlainFence):
    """The twin."""


if TYPE_CHECKING or core.IMPLEMENTATION != "core":
    Guard = PlainGuard
else:
    from erlmcp.runtime.fence import Fence

    class Guard(Guarding, Fence):
        """A guard with a compiled fence."""
