"""How much a server has in hand, and what it refuses for that: the policies of overload with a clock and counters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from erlmcp.errors import SERVER_BUSY, ConfigurationError, McpError
from erlmcp.policy.gradient import GradientSize
from erlmcp.policy.inflight import InflightSize
from erlmcp.policy.overload import BULK, DELAY, INFLIGHT, NORMAL, QUEUE, Overload

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from erlmcp.core import Call
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.session import Host
    from erlmcp.runtime.turn import Turn

LOOK_NS = 5_000_000  # between two looks at the pressure, at least
TICK_S = 0.1  # between two looks while calls are in flight and nothing stands in line
SAMPLE_NS_MAX = 10_000_000_000  # a timed call that takes longer waits for something else than this server
SAMPLE_COUNT = 16  # calls that are timed at a time, by the gradient; one by steps, each of which is a round trip
SHARE = 1_000_000  # a call that took what is usual for its tool
FORGET_NS = 60_000_000_000  # in which the quickest of a tool is taken to be twice as slow, unless it is seen again
TOOL_COUNT_MAX = 4096  # tools whose usual latency is kept
RETRY_MS = 1000
NOBODY = BULK + 1  # the first lane that is refused, where none is
ADMISSIONS = ("gradient", "aimd", "fixed")


def busy(text: str) -> McpError:
    """The error that refuses a request for now, with when to come back (over HTTP: status 503 and Retry-After)."""
    return McpError(SERVER_BUSY, f"Server busy: {text}", {"retryAfterMs": RETRY_MS})


def admission_of(kind: str) -> str:
    """The name of a policy of the in-flight limit, checked; raises ConfigurationError."""
    if kind not in ADMISSIONS:
        raise ConfigurationError(f"admission must be one of {', '.join(ADMISSIONS)}, got {kind!r}")
    return kind


def make_size(kind: str, count_min: int, count_max: int) -> Any:
    """The policy of the in-flight limit."""
    if kind == "aimd":
        return InflightSize(min(count_min, count_max), count_max)
    return GradientSize(count_max if kind == "fixed" else min(count_min, count_max), count_max)


class Load:
    """The work in progress of a running server: calls whose handlers wait, and connections that stand in line.

    ``level`` is 0 (none) to 3 (shedding), see ``erlmcp.policy.overload``.
    """

    __slots__ = (
        "_clock_ns",
        "_full",
        "_host",
        "_is_refusing",
        "_looked_ns",
        "_near",
        "_overload",
        "_sample_count",
        "_sample_left",
        "_sampled",
        "_size",
        "_timer",
        "_turn",
        "_usual",
        "half_count_min",
        "inflight",
        "shed_count",
    )

    def __init__(self, host: Host, turn: Turn, clock_ns: Callable[[], int] | None = None) -> None:
        limits = host.limits
        self._clock_ns = clock_ns or time.monotonic_ns
        self._host = host
        self._turn = turn
        # Made once, as they are never raised: thousands a second are given.
        self._full = busy(f"total_inflight_count_max={limits.total_inflight_count_max:g} or fewer may be in flight")
        self._near = {
            DELAY: busy(f"queue_delay_max_s={limits.queue_delay_max_s:g} is near, or passed"),
            INFLIGHT: busy(f"total_inflight_count_max={limits.total_inflight_count_max:g} in flight is near"),
            QUEUE: busy(f"thread_queue_max={limits.thread_queue_max:g} that wait for a thread is near"),
        }
        self._overload = Overload(int(limits.queue_delay_max_s * 1e9) or 1)
        self._size = make_size(
            host.admission, int(limits.total_inflight_count_min), int(limits.total_inflight_count_max)
        )
        # How many calls have to be in flight, at least, for half of all that may be: what may be is never less.
        self.half_count_min = self._size.limit / 2
        self.inflight = 0  # calls whose handlers wait
        self.shed_count = 0  # requests refused so far
        self._is_refusing = False
        self._looked_ns = 0
        self._sampled: dict[Exchange, int] = {}  # the calls that are timed, and since when
        self._sample_count = 1 if host.admission == "aimd" else SAMPLE_COUNT
        self._sample_left = self._sample_count  # that may be begun until the next look, as timing is not for nothing
        self._usual: dict[str, tuple[float, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def level(self) -> int:
        return self._overload.level

    @property
    def inflight_max(self) -> int:
        """How many calls may be in flight now."""
        return int(self._size.limit)

    @property
    def is_half_full(self) -> bool:
        """Whether half of the calls are in flight that may be."""
        return self.inflight * 2 >= self._size.limit  # type: ignore[no-any-return]

    # -- calls that wait -----------------------------------------------------------------------------------------------

    def enter(self, exchange: Exchange) -> None:
        """The handler of this call waits."""
        self.inflight += 1
        if self._sample_left and exchange.call.entry is not None:
            self._sample_left -= 1
            self._sampled[exchange] = self._clock_ns()
        if self._timer is None:
            self._arm()
        if self.inflight >= self._size.limit:
            self._settle()

    def pass_over(self, exchange: Exchange) -> None:
        """It was given up: how long that took says nothing of this server."""
        self._sampled.pop(exchange, None)

    def leave(self, exchange: Exchange) -> None:
        """It was answered, or will not be."""
        if exchange in self._sampled:
            self._learn(exchange, self._clock_ns(), self._sampled.pop(exchange))
        self.inflight -= 1
        if self._is_refusing:
            self.look()  # Not only at the next tick: by then what is refused for may be over, and its room be empty.
            self._settle()

    def _learn(self, exchange: Exchange, now_ns: int, since_ns: int) -> None:
        passed_ns = float(max(1, now_ns - since_ns))
        name = exchange.call.name or ""
        usual_ns, usual_at_ns = self._usual.get(name, (0.0, 0))
        if passed_ns > SAMPLE_NS_MAX or (not usual_ns and len(self._usual) >= TOOL_COUNT_MAX):
            return
        # Tools differ, so each is compared with its own quickest, which is forgotten slowly.
        usual_ns = min(passed_ns, usual_ns * (1 + (now_ns - usual_at_ns) / FORGET_NS) or passed_ns)
        self._usual[name] = (usual_ns, now_ns)
        is_full = self.inflight >= self._size.limit // 2
        self._size.answered(now_ns, int(SHARE * passed_ns / usual_ns), is_full=is_full, inflight=self.inflight)

    def _look_for_overdue(self, now_ns: int) -> None:
        """Count timed calls that take much too long as answered now, and time others."""
        overdue = self._size.overdue_ns / SHARE
        for exchange, since_ns in list(self._sampled.items()) if overdue else ():
            usual_ns, _ = self._usual.get(exchange.call.name or "", (0.0, 0))
            if 0 < overdue * usual_ns < now_ns - since_ns:
                del self._sampled[exchange]
                self._learn(exchange, now_ns, since_ns)

    # -- what is refused -----------------------------------------------------------------------------------------------

    def refusal(self, call: Call) -> McpError | None:
        """Why a request is not taken on now; None where it is."""
        if call.is_critical or not self._host.flags.backpressure:
            return None
        if self.inflight >= self._size.limit:
            self.shed_count += 1
            return self._full
        if getattr(call.entry, "lane", NORMAL) < self._overload.refused_from:
            return None
        self.shed_count += 1
        return self._near[self._overload.cause]

    def _settle(self) -> None:
        """Tell the short way, which sees none of this, from which lane on it has to ask."""
        is_on = self._host.flags.backpressure
        lane = NORMAL if self.inflight >= self._size.limit else self._overload.refused_from
        self._is_refusing = lane != NOBODY
        self._turn.budget.refused_from = lane if is_on else NOBODY

    # -- looking -------------------------------------------------------------------------------------------------------

    def look(self, lag_s: float = 0.0) -> None:
        """See how long the oldest that stands in line has waited, or the loop was held up."""
        now_ns = self._clock_ns()
        if now_ns - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = now_ns
        limits = self._host.limits
        delay_ns = max(int(lag_s * 1e9), self._turn.waited_ns(now_ns))
        threads = len(self._host.lanes) / (limits.thread_count_max + limits.thread_queue_max)
        before = self._overload.refused_from
        self._overload.observe(now_ns, delay_ns, self.inflight / limits.total_inflight_count_max, threads)
        self._look_for_overdue(now_ns)
        self._sample_left = self._sample_count - len(self._sampled)
        if self._overload.refused_from != before:
            self._settle()
        if self._timer is None and self._overload.pressure > 0:
            self._arm()

    def _arm(self) -> None:
        loop = self._host.loop
        self._timer = loop.call_later(TICK_S, self._tick, loop.time() + TICK_S)

    def _tick(self, due_s: float) -> None:
        self._timer = None
        self.look(max(0.0, self._host.loop.time() - due_s))
        if self._timer is None and (self.inflight or self.level or self._overload.pressure > 0):
            self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
