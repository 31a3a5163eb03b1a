"""The pool in plain Python: the specification of ``erlmcp._core.pool``."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from erlmcp.errors import LimitError, StaleHandleError

COUNT_LIMIT = 2**31 - 1
NS_LIMIT = 2**62 - 1


@dataclass(eq=False, slots=True)
class _Place:
    """Where a member lies. ``generation`` is odd while the member is lent, and grows with each lend and return."""

    state: str = "free"
    generation: int = 0
    member: object = None
    who: object = None
    since_ns: int = 0
    old_at_ns: int | None = None
    lease: weakref.ref[Lease] | None = None


class Lease:
    """A member on loan."""

    __slots__ = ("__weakref__", "_handle", "_pool")
    _pool: Pool
    _handle: int

    def __init__(self) -> None:
        raise TypeError("a Lease comes from Pool.lend")

    @property
    def handle(self) -> int:
        return self._handle

    @property
    def member(self) -> object:
        return self._pool._lent(self._handle).member

    def __enter__(self) -> object:
        return self.member

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.take_back(self)


@dataclass(frozen=True, slots=True)
class Leak:
    handle: int
    member: object
    who: object
    age_ns: int
    is_lost: bool


def _ns(**values: int) -> None:
    for name, value in values.items():
        if not 0 <= value <= NS_LIMIT:
            raise ValueError(f"{name} is from 0 to {NS_LIMIT}, got {value}")


class Pool:
    """Members in numbered places: ``_idle`` is the stack of those that may be lent, ``_leaving`` the line of those to
    be handed over.
    """

    def __init__(
        self, count_max: int = 64, *, count_min: int = 0, idle_ns: int = 0, age_ns: int = 0, now_ns: int = 0
    ) -> None:
        if not 1 <= count_max <= COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        if not 0 <= count_min <= count_max:
            raise ValueError(f"count_min is from 0 to count_max={count_max}, got {count_min}")
        _ns(idle_ns=idle_ns, age_ns=age_ns, now_ns=now_ns)
        self.count_max = count_max
        self.count_min = count_min
        self.idle_ns = idle_ns
        self.age_ns = age_ns
        self._now_ns = now_ns
        self._places: list[_Place] = []
        self._free: list[int] = []
        self._idle: list[int] = []
        self._leaving: deque[int] = deque()
        self._opening_count = 0
        self._added_total = self._lent_total = self._retired_total = self._reclaimed_total = 0

    @property
    def now_ns(self) -> int:
        return self._now_ns

    @now_ns.setter
    def now_ns(self, now_ns: int) -> None:
        _ns(now_ns=now_ns)
        self._now_ns = max(self._now_ns, now_ns)

    def __len__(self) -> int:
        return len(self._places) - len(self._free)

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    @property
    def lent_count(self) -> int:
        return len(self) - len(self._idle) - len(self._leaving)

    @property
    def room(self) -> int:
        return self.count_max - len(self) - self._opening_count

    @property
    def shortage(self) -> int:
        return min(self.room, max(0, self.count_min - len(self) + len(self._leaving) - self._opening_count))

    def stats(self) -> dict[str, int]:
        return {
            "count": len(self),
            "idle_count": self.idle_count,
            "lent_count": self.lent_count,
            "leaving_count": len(self._leaving),
            "opening_count": self._opening_count,
            "added_total": self._added_total,
            "lent_total": self._lent_total,
            "retired_total": self._retired_total,
            "reclaimed_total": self._reclaimed_total,
        }

    def reserve(self) -> bool:
        if not self.room:
            return False
        self._opening_count += 1
        return True

    def unreserve(self) -> None:
        if not self._opening_count:
            raise ValueError("nothing is reserved")
        self._opening_count -= 1

    def _place(self, member: object) -> int:
        if not self._free:
            old = len(self._places)
            new = min(max(2 * old, 16), self.count_max)
            self._places.extend(_Place() for _ in range(old, new))
            self._free.extend(reversed(range(old, new)))
        index = self._free.pop()
        place = self._places[index]
        place.member, place.since_ns = member, self._now_ns
        place.old_at_ns = self._now_ns + self.age_ns if self.age_ns else None
        self._added_total += 1
        return index

    def add(self, member: object, *, is_reserved: bool = False) -> None:
        if is_reserved:
            self.unreserve()
        elif not self.room:
            raise LimitError("count_max", self.count_max, "the pool is full")
        index = self._place(member)
        self._places[index].state = "idle"
        self._idle.append(index)

    def lend_new(self, member: object, who: object = None) -> Lease:
        self.unreserve()
        return self._lend(self._place(member), who)

    def _lend(self, index: int, who: object) -> Lease:
        place = self._places[index]
        place.state, place.who, place.since_ns = "lent", who, self._now_ns
        place.generation = (place.generation + 1) % (1 << 32)
        self._lent_total += 1
        lease = Lease.__new__(Lease)
        lease._pool, lease._handle = self, place.generation << 32 | index
        place.lease = weakref.ref(lease)
        return lease

    def _is_old(self, place: _Place) -> bool:
        return place.old_at_ns is not None and place.old_at_ns <= self._now_ns

    def _leave(self, index: int) -> None:
        self._places[index].state, self._places[index].since_ns = "leaving", self._now_ns
        self._leaving.append(index)

    def lend(self) -> Lease | None:
        return self.lend_to(None)

    def lend_to(self, who: object) -> Lease | None:
        while self._idle:
            index = self._idle.pop()
            if not self._is_old(self._places[index]):
                return self._lend(index, who)
            self._leave(index)
        return None

    def lend_many(self, count: int, who: object = None) -> list[Lease]:
        if count < 0:
            raise ValueError(f"count is 0 or more, got {count}")
        leases: list[Lease] = []
        while len(leases) < count and (lease := self.lend_to(who)) is not None:
            leases.append(lease)
        return leases

    def _lent(self, handle: int) -> _Place:
        index, generation = handle & 0xFFFFFFFF, handle >> 32
        if not 0 <= handle < 1 << 64:
            raise OverflowError(f"a handle has 64 bits, got {handle}")
        if index >= len(self._places) or generation % 2 == 0 or self._places[index].generation != generation:
            raise StaleHandleError(f"nothing is lent under the handle {handle:#x}; it was taken back or reclaimed")
        return self._places[index]

    def _handle(self, lease: Lease) -> int:
        if not isinstance(lease, Lease):
            raise TypeError(f"a Lease is wanted, not {type(lease).__name__}")
        if lease._pool is not self:
            raise StaleHandleError("the lease is of another pool")
        return lease._handle

    def _end(self, handle: int) -> _Place:
        place = self._lent(handle)
        place.generation = (place.generation + 1) % (1 << 32)
        place.lease, place.since_ns = None, self._now_ns
        return place

    def take_back(self, lease: Lease) -> bool:
        handle = self._handle(lease)
        place, index = self._end(handle), handle & 0xFFFFFFFF
        is_idle = not self._is_old(place)
        if is_idle:
            place.state = "idle"
            self._idle.append(index)
        else:
            self._leave(index)
        place.who = None  # last: it may run foreign code
        return is_idle

    def take_back_many(self, leases: Sequence[Lease]) -> int:
        if not isinstance(leases, list | tuple):
            raise TypeError(f"a list or a tuple of leases is wanted, not {type(leases).__name__}")
        return sum(self.take_back(lease) for lease in leases)

    def _vacate(self, index: int) -> object:
        place = self._places[index]
        member = place.member
        place.state, place.member = "free", None
        self._free.append(index)
        place.who = None  # last: it may run foreign code
        return member

    def retire(self, lease: Lease) -> object:
        handle = self._handle(lease)
        self._end(handle)
        self._retired_total += 1
        return self._vacate(handle & 0xFFFFFFFF)

    def reclaim(self, handle: Lease | int) -> object:
        if isinstance(handle, Lease):
            handle = self._handle(handle)
        self._end(handle)
        self._reclaimed_total += 1
        return self._vacate(handle & 0xFFFFFFFF)

    def retire_all(self) -> None:
        for place in self._places:
            if place.state != "free":
                place.old_at_ns = -1

    def expire(self, now_ns: int | None = None) -> list[object]:
        if now_ns is not None:
            self.now_ns = now_ns
        for index in list(self._idle):
            if self._is_old(self._places[index]):
                self._idle.remove(index)
                self._leave(index)
        while self._idle and len(self) - len(self._leaving) > self.count_min and self.idle_ns:
            if self._places[self._idle[0]].since_ns + self.idle_ns > self._now_ns:
                break
            self._leave(self._idle.pop(0))
        left = []
        while self._leaving:
            left.append(self._vacate(self._leaving.popleft()))
            self._retired_total += 1
        return left

    def leaks(self, older_than_ns: int = 0) -> list[Leak]:
        found = []
        for index, place in enumerate(self._places):
            age_ns = self._now_ns - place.since_ns
            if place.state == "lent" and age_ns >= older_than_ns:
                is_lost = place.lease is not None and place.lease() is None
                found.append(Leak(place.generation << 32 | index, place.member, place.who, age_ns, is_lost))
        return sorted(found, key=lambda leak: -leak.age_ns)

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[object, str, object, int]]]:
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        found: list[tuple[object, str, object, int]] = []
        for index in range(cursor, len(self._places)):
            place = self._places[index]
            if place.state != "free":
                if len(found) == count:
                    return index, found
                found.append((place.member, place.state, place.who, self._now_ns - place.since_ns))
        return 0, found

    def check(self) -> None:
        states = [place.state for place in self._places]
        assert len(self) + self._opening_count <= self.count_max, "more members than count_max"
        assert all(states[index] == "idle" for index in self._idle), "a wrong state of an idle member"
        assert all(states[index] == "leaving" for index in self._leaving), "a wrong state of a leaving member"
        assert all(states[index] == "free" for index in self._free), "a wrong state of a free place"
        assert states.count("lent") == self.lent_count, "a wrong number of lent members"
        assert all((place.state == "lent") == (place.generation % 2 == 1) for place in self._places), "a wrong parity"
