"""Whose turn it is: how much is handled before the loop looks again for what came, and who goes on after that.

Operations wanted: handle what a read brought at once, as long as that does not hold up other connections; keep the
rest, and go on with it in the next turn of the loop, every connection in its turn; and let what is critical pass.

Plan: all connections of a loop spend one *budget*. Whoever finds it spent (or spends it) keeps what is left in its own
order and stands in line here. A callback of the next turn begins a new budget and gives it to those in line, a quantum
each time, until it is spent again. Where the budget is never spent, nothing of this runs.

No callback tells that a turn has ended (one a turn would cost more than a message does). So a budget also begins anew
after a pause that is too long to lie within a turn; and where many short pauses add up to one budget, one message waits
a turn for nothing, once in hundreds.

Invariant: whoever has something left stands in line exactly once; a connection whose backlog is large is not read from.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from erlmcp.runtime.load import Load
from erlmcp.runtime.quick import Budget

if TYPE_CHECKING:
    from erlmcp.runtime.session import Host

QUANTUM = 32  # messages of one connection in a row, while others stand in line


class Arrivals:
    """When what waits on a connection came: one entry for each time that it became more."""

    __slots__ = ("_count", "_reads")

    def __init__(self) -> None:
        self._reads: deque[tuple[int, int]] = deque()  # (messages, when)
        self._count = 0

    def settle(self, count: int) -> None:
        """So many wait now: the last that came, and before them those that waited; the others had their turn, or were
        taken back."""
        reads, gone = self._reads, self._count - count
        self._count = count
        if gone < 0:
            reads.append((-gone, time.monotonic_ns()))
            return
        while gone:
            held, came_ns = reads.popleft()
            if held > gone:  # Counted down, or what comes in its stead would pass for as old as it.
                reads.appendleft((held - gone, came_ns))
                return
            gone -= held

    @property
    def since_ns(self) -> int:
        """When the oldest came; 0 where nothing waits."""
        return self._reads[0][1] if self._reads else 0


class Worker(Protocol):
    """A connection with work left."""

    arrivals: Arrivals

    def work(self) -> None:
        """Do a part of it, and stand in line again where something is left."""


class Pacer(Protocol):
    """The reading side of a connection."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Turn:
    """The turns of one loop, which all connections of a server share."""

    __slots__ = ("_host", "_is_due", "_ready", "budget", "load")

    def __init__(self, host: Host) -> None:
        self.budget = Budget(int(host.limits.turn_count_max), host.limits.turn_time_s)
        self.load = Load(host, self)
        self._host = host
        self._ready: deque[Worker] = deque()
        self._is_due = False

    def __len__(self) -> int:
        """How many connections stand in line."""
        return len(self._ready)

    @property
    def is_priority(self) -> bool:
        """Whether critical messages need not stand in line."""
        return self._host.flags.priority_messages

    @property
    def is_guarded(self) -> bool:
        """Whether clients that do not read are given up after a while."""
        return self._host.flags.backpressure

    def waited_ns(self, now_ns: int) -> int:
        """For how long the first in line has had something waiting."""
        since_ns = self._ready[0].arrivals.since_ns if self._ready else 0
        return now_ns - since_ns if since_ns else 0

    @property
    def quantum(self) -> int | None:
        """How many messages whose turn it is may handle; None: as many as the budget lets it."""
        return QUANTUM if self._ready else None

    def join(self, worker: Worker) -> None:
        """Stand in line for the next turn. Who stands there already must not join again."""
        self._ready.append(worker)
        if not self._is_due:
            self._is_due = True
            self._host.loop.call_soon(self._begin)

    def _begin(self) -> None:
        ready, budget = self._ready, self.budget
        budget.reset()
        self.load.look()
        try:
            while ready and not budget.is_spent:
                ready.popleft().work()
        finally:
            self._is_due = bool(ready)
            if ready:
                self._host.loop.call_soon(self._begin)
