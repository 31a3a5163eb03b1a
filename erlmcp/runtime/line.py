"""The line in which jobs wait for a thread: three lanes, in the middle one of which owners take turns.

Plan: ``core.Lanes`` keeps the order between lanes. For a job of an owner the normal lane holds a *turn* in its stead;
who draws a turn takes the next job of the owner that has waited longest for one. So a hundred calls of one session and
one of another leave in the order first, other, and then the rest. A job without an owner keeps its own place. Jobs
that were cancelled stay until they are drawn, which costs nothing at the time of cancelling; for these the lane has
places beyond those that the pool allows, and where it is full all the same, the pool fills a new line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final

from erlmcp import core

CRITICAL, NORMAL, BULK = 0, 1, 2
LEVELS: Final = {"critical": CRITICAL, "normal": NORMAL, "bulk": BULK}
TURN: Final = object()


class Line:
    """Not for several threads at once: who uses it holds the pool's lock."""

    __slots__ = ("_lanes", "_queues", "_turns", "put")

    def __init__(self, capacity: int) -> None:
        self._lanes: Any = core.Lanes(capacity)
        self.put: Callable[[Any, int], bool] = self._lanes.push  # a job without an owner, in a lane; False where full
        self._queues: dict[Hashable, deque[Any]] = {}
        self._turns: deque[Hashable] = deque()

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Jobs in the critical, the normal and the bulk lane, cancelled ones counted too."""
        counts: tuple[int, int, int] = self._lanes.counts
        return counts

    def push(self, job: Any) -> bool:
        """False where the lane is full."""
        owner = job.owner
        if owner is None or job.level != NORMAL:
            return self.put(job, job.level)
        if not self.put(TURN, NORMAL):
            return False
        queue = self._queues.get(owner)
        if queue is None:
            queue = self._queues[owner] = deque()
            self._turns.append(owner)
        queue.append(job)
        return True

    def push_many(self, jobs: list[Any]) -> bool:
        """Jobs of one level and one owner. False where the lane had no place for all of them."""
        if jobs[0].owner is None or jobs[0].level != NORMAL:
            return bool(self._lanes.push_many(jobs, jobs[0].level) == len(jobs))
        return all(self.push(job) for job in jobs)

    def take(self, count: int) -> list[Any]:
        """The next jobs, in the order in which they are to be run."""
        found: list[Any] = self._lanes.pop_many(count)
        if TURN in found:
            found = [job for item in found if (job := self._drawn() if item is TURN else item) is not None]
        return found

    def _drawn(self) -> Any:
        if not self._turns:
            return None  # Who wanted to push its job was killed before it did.
        owner = self._turns.popleft()
        queue = self._queues[owner]
        job = queue.popleft()
        if queue:
            self._turns.append(owner)
        else:
            del self._queues[owner]
        return job
