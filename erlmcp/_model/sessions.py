"""The session store in plain Python: the specification of ``erlmcp._core.sessions``."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from erlmcp.errors import LimitError

COUNT_LIMIT = 2**31 - 1


@dataclass(eq=False, slots=True)
class _Session:
    id: str
    record: object
    owner: Hashable
    born_ns: int
    touched_ns: int
    place: int


def _text(id: str) -> str:
    if not isinstance(id, str):
        raise TypeError(f"an id is a str, not {type(id).__name__}")
    return "".join(id)


class SessionStore:
    """Records by id, held in order of recency and in order of birth.

    ``_recent`` has the longest idle first. A touch counts once at a time of the clock: of two records touched at one
    time, the one whose first touch came first is the longer idle.
    """

    def __init__(
        self,
        count_max: int = 10_000,
        *,
        idle_ns: int = 1_800_000_000_000,
        age_ns: int = 0,
        owner_count_max: int = 0,
        now_ns: int = 0,
    ) -> None:
        if not 1 <= count_max <= COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        if min(idle_ns, age_ns, owner_count_max, now_ns) < 0:
            raise ValueError("idle_ns, age_ns, owner_count_max and now_ns are 0 or more")
        self._count_max = count_max
        self._idle_ns = idle_ns
        self._age_ns = age_ns
        self._owner_count_max = owner_count_max
        self._now_ns = now_ns
        self._recent: dict[str, _Session] = {}
        self._births: dict[str, _Session] = {}
        self._counts: dict[Hashable, int] = {}
        self._places: list[_Session | None] = []
        self._free: list[int] = []

    @property
    def count_max(self) -> int:
        return self._count_max

    @property
    def idle_ns(self) -> int:
        return self._idle_ns

    @property
    def age_ns(self) -> int:
        return self._age_ns

    @property
    def owner_count_max(self) -> int:
        return self._owner_count_max

    @property
    def now_ns(self) -> int:
        return self._now_ns

    @now_ns.setter
    def now_ns(self, now_ns: int) -> None:
        if now_ns < 0:
            raise ValueError(f"now_ns is 0 or more, got {now_ns}")
        self._now_ns = max(self._now_ns, now_ns)

    def __len__(self) -> int:
        return len(self._recent)

    def _is_idle(self, session: _Session) -> bool:
        return self._idle_ns > 0 and session.touched_ns + self._idle_ns <= self._now_ns

    def _is_old(self, session: _Session) -> bool:
        return self._age_ns > 0 and session.born_ns + self._age_ns <= self._now_ns

    def _find(self, id: str) -> _Session | None:
        session = self._recent.get(_text(id))
        return None if session is None or self._is_idle(session) or self._is_old(session) else session

    def _touch(self, session: _Session) -> None:
        if session.touched_ns < self._now_ns:
            session.touched_ns = self._now_ns
            self._recent[session.id] = self._recent.pop(session.id)

    def _count(self, owner: Hashable, more: int) -> None:
        if owner is not None:
            self._counts[owner] = self._counts.get(owner, 0) + more
            if not self._counts[owner]:
                del self._counts[owner]

    def _add(self, id: str, record: object, owner: Hashable) -> None:
        if not self._free:
            self._free.append(len(self._places))
            self._places.append(None)
        session = _Session(id, record, owner, self._now_ns, self._now_ns, self._free.pop())
        self._recent[id] = self._births[id] = self._places[session.place] = session
        self._count(owner, 1)

    def _take(self, session: _Session) -> tuple[str, object]:
        del self._recent[session.id], self._births[session.id]
        self._places[session.place] = None
        self._free.append(session.place)
        self._count(session.owner, -1)
        return session.id, session.record

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self._find(id) is not None

    def __getitem__(self, id: str) -> object:
        session = self._find(id)
        if session is None:
            raise KeyError(id)
        self._touch(session)
        return session.record

    def get(self, id: str, default: object = None) -> object:
        session = self._find(id)
        if session is None:
            return default
        self._touch(session)
        return session.record

    def get_many(self, ids: Sequence[str], default: object = None) -> list[object]:
        if not isinstance(ids, list | tuple):
            raise TypeError(f"get_many takes a list or a tuple, not {type(ids).__name__}")
        return [self.get(id, default) for id in ids]

    def peek(self, id: str, default: object = None) -> object:
        session = self._find(id)
        return default if session is None else session.record

    def put(
        self, id: str, record: object, owner: Hashable = None, now_ns: int | None = None
    ) -> Sequence[tuple[str, object]]:
        text = _text(id)
        text.encode()
        if now_ns is not None:
            self.now_ns = now_ns
        held = self._recent.get(text)
        others = self.owner_count(owner) - (held is not None and held.owner == owner)
        if owner is not None and 0 < self._owner_count_max <= others:
            raise LimitError("owner_count_max", self._owner_count_max)
        live = self._find(text)
        if live is not None:
            self._count(live.owner, -1)
            self._count(owner, 1)
            live.record, live.owner = record, owner
            self._touch(live)
            return ()
        left = []
        if held is not None:
            left.append(self._take(held))
        elif len(self) >= self._count_max:
            left.append(self._take(next(iter(self._recent.values()))))
        self._add(text, record, owner)
        return left

    def pop(self, id: str, default: object = None) -> object:
        session = self._find(id)
        return default if session is None else self._take(session)[1]

    def owner_count(self, owner: Hashable) -> int:
        return self._counts.get(owner, 0)

    def expire(self, now_ns: int | None = None) -> list[tuple[str, object]]:
        if now_ns is not None:
            self.now_ns = now_ns
        idle = [self._take(session) for session in list(self._recent.values()) if self._is_idle(session)]
        old = [self._take(session) for session in list(self._births.values()) if self._is_old(session)]
        return idle + old

    def next_deadline_ns(self) -> int | None:
        deadlines = []
        if self._recent and self._idle_ns:
            deadlines.append(next(iter(self._recent.values())).touched_ns + self._idle_ns)
        if self._births and self._age_ns:
            deadlines.append(next(iter(self._births.values())).born_ns + self._age_ns)
        return min(deadlines, default=None)

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str, object]]]:
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        found: list[tuple[str, object]] = []
        for place in range(cursor, len(self._places)):
            session = self._places[place]
            if session is not None and not self._is_idle(session) and not self._is_old(session):
                if len(found) == count:
                    return place, found
                found.append((session.id, session.record))
        return 0, found

    def drain(self) -> list[tuple[str, object]]:
        return [self._take(session) for session in list(self._recent.values())]

    def check(self) -> None:
        held = list(self._recent.values())
        assert len(held) <= self._count_max, "more records than count_max"
        assert sorted(self._births) == sorted(self._recent), "the two orders hold different records"
        assert all(a.touched_ns <= b.touched_ns for a, b in pairwise(held)), "the order is not that of recency"
        assert all(a.born_ns <= b.born_ns for a, b in pairwise(self._births.values())), "nor the other that of birth"
        assert [s.place for s in self._places if s] == [i for i, s in enumerate(self._places) if s], "a wrong place"
        assert sum(self._counts.values()) == sum(session.owner is not None for session in held), "a wrong owner count"
