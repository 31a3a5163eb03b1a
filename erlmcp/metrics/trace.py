"""The rings of traces: calls that failed, calls that were slow, and now and then one that was neither, each with the
time that it spent in the rooms on its way. And those who follow calls live.

A trace holds no arguments, no results and no session ids. While nobody follows, an ordinary call costs nothing here.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

ERROR, SLOW, SAMPLE, FOLLOWED = "error", "slow", "sample", "followed"
ID_CHARS_MAX: Final = 64
SAMPLES_MAX: Final = 60
NAME_CHARS_MAX: Final = 200
FOLLOWED_A_SECOND_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Trace:
    """One call. ``number`` counts up; ``at_s`` is the time of day of its end; ``rooms`` are nanoseconds by point."""

    number: int
    at_s: float
    reason: str
    method: str
    name: str
    id: str
    kind: str
    version: str
    duration_ns: int
    error: str
    message: str
    rooms: Mapping[str, int]
    trace: str = ""  # the id of the distributed trace that it belongs to

    def as_json(self) -> dict[str, Any]:
        """With microseconds, as the dashboard and ``erlmcp trace`` show it."""
        return {
            "number": self.number,
            "at": round(self.at_s, 3),
            "reason": self.reason,
            "method": self.method,
            "name": self.name,
            "id": self.id,
            "transport": self.kind,
            "version": self.version,
            "us": round(self.duration_ns / 1000, 1),
            "error": self.error,
            "message": self.message,
            "trace": self.trace,
            "rooms": {point: round(ns / 1000, 2) for point, ns in self.rooms.items()},
        }


class Traces:
    """The last ``count_max`` traces of each kind but samples, of which there is one a second; and the followers, each a
    function that takes a trace."""

    def __init__(self, count_max: int, slow_ns: int) -> None:
        self.rings: dict[str, deque[Trace]] = {
            ERROR: deque(maxlen=count_max),
            SLOW: deque(maxlen=count_max),
            SAMPLE: deque(maxlen=SAMPLES_MAX),
        }
        self.followers: list[Callable[[Trace], None]] = []
        self.slow_ns = self.floor_ns = slow_ns  # the floor: from how long on a call is of interest
        self._watches: weakref.WeakSet[Any] = weakref.WeakSet()
        self.skipped_count = 0  # that followers were not told of, as there were too many within a second
        self._number = 0
        self._second = 0
        self._in_second = 0
        self._sampled_s = 0

    def follow(self, follower: Callable[[Trace], None]) -> None:
        """Tell ``follower`` of every call from now on, as far as there are not too many."""
        self.followers.append(follower)
        self._tell()

    def leave(self, follower: Callable[[Trace], None]) -> None:
        self.followers.remove(follower)
        self._tell()

    def tell(self, watch: Any) -> None:
        """Keep ``watch.floor_ns`` right, for as long as there is the watch: compiled code reads it there."""
        self._watches.add(watch)
        watch.floor_ns = self.floor_ns

    def _tell(self) -> None:
        self.floor_ns = 0 if self.followers else self.slow_ns  # all are, while somebody follows
        for watch in self._watches:
            watch.floor_ns = self.floor_ns

    def reason_of(self, duration_ns: int, error: str) -> str:
        """Why a call is kept; "" where it is not."""
        if error:
            return ERROR
        if duration_ns >= self.slow_ns:
            return SLOW
        return FOLLOWED if self.followers else ""

    def put(self, reason: str, duration_ns: int, **what: Any) -> None:
        """Keep a trace and tell the followers; ``what`` are the fields of ``Trace``, texts of any length."""
        now_s = time.time()
        if reason == FOLLOWED and not self._may_follow(int(now_s)):
            self.skipped_count += 1
            return
        if reason == SAMPLE:
            if int(now_s) == self._sampled_s:
                return
            self._sampled_s = int(now_s)
        self._number += 1
        trace = Trace(
            number=self._number,
            at_s=now_s,
            reason=reason,
            method=str(what.get("method") or "")[:NAME_CHARS_MAX],
            name=str(what.get("name") or "")[:NAME_CHARS_MAX],
            id=str(what.get("id", ""))[:ID_CHARS_MAX],
            kind=what.get("kind", ""),
            version=what.get("version") or "",
            duration_ns=duration_ns,
            error=what.get("error", ""),
            message=str(what.get("message", ""))[:NAME_CHARS_MAX],
            rooms=what.get("rooms") or {},
            trace=what.get("trace", ""),
        )
        if reason != FOLLOWED:
            self.rings[reason].append(trace)
        for follower in list(self.followers):
            follower(trace)

    def _may_follow(self, second: int) -> bool:
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        return self._in_second <= FOLLOWED_A_SECOND_MAX

    def since(self, number: int) -> list[Trace]:
        """The traces kept that are newer than ``number``, oldest first."""
        found = [trace for ring in self.rings.values() for trace in ring if trace.number > number]
        return sorted(found, key=lambda trace: trace.number)
