"""The session store in plain Python: the specification of ``erlmcp._core.sessions``."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from erlmcp.errors import LimitError

COUNT_LIMIT = 2**31 - 1
TIME_LIMIT = 2**62


@dataclass(eq=False, slots=True)
class _Session:
    id: str
    record: object
    owner: Hashable
    born_ns: int
    touched_ns: int
    serial: int  # of its birth: decides between equal times
    place: int = -1  # what a cursor counts through


def _text(id: str) -> str:
    if not isinstance(id, str):
        raise TypeError(f"an id is a str, not {type(id).__name__}")
    return "".join(id)


def _loadable(item: tuple[str, object, Hashable, int, int], shift_ns: int, now_ns: int) -> _Session:
    """A session in no store yet, of one item of ``load``."""
    if not isinstance(item, tuple) or len(item) != 5:
        raise TypeError("an item is a tuple: id, record, owner, born_ns, touched_ns")
    id, record, owner, born_ns, touched_ns = item
    text = _text(id)
    text.encode()
    hash(owner)
    if not all(isinstance(time_ns, int) for time_ns in (born_ns, touched_ns, shift_ns)):
        raise TypeError("born_ns, touched_ns and shift_ns are int")
    born_ns, touched_ns = born_ns + shift_ns, touched_ns + shift_ns
    if not -TIME_LIMIT <= born_ns <= touched_ns <= now_ns:
        raise ValueError(f"born_ns <= touched_ns <= now_ns={now_ns} wanted, got {born_ns} and {touched_ns}")
    return _Session(text, record, owner, born_ns, touched_ns, 0)


class SessionStore:
    """Records by id. Both orders, of recency and of birth, are sorted when they are asked for."""

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
        self._held: dict[str, _Session] = {}
        self._counts: dict[Hashable, int] = {}
        self._places: list[_Session | None] = []
        self._free: list[int] = []
        self._serial = 0

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

    @property
    def memory_bytes(self) -> int:
        return 0

    def __len__(self) -> int:
        return len(self._held)

    def _is_idle(self, session: _Session) -> bool:
        return self._idle_ns > 0 and session.touched_ns + self._idle_ns <= self._now_ns

    def _is_old(self, session: _Session) -> bool:
        return self._age_ns > 0 and session.born_ns + self._age_ns <= self._now_ns

    def _find(self, id: str) -> _Session | None:
        session = self._held.get(_text(id))
        return None if session is None or self._is_idle(session) or self._is_old(session) else session

    def _longest_idle(self) -> _Session:
        return min(self._held.values(), key=lambda session: (session.touched_ns, session.serial))

    def _by_recency(self) -> list[_Session]:
        return sorted(self._held.values(), key=lambda session: (session.touched_ns, session.serial))

    def _by_birth(self) -> list[_Session]:
        return sorted(self._held.values(), key=lambda session: (session.born_ns, session.serial))

    def _count(self, owner: Hashable, more: int) -> None:
        if owner is not None:
            self._counts[owner] = self._counts.get(owner, 0) + more
            if not self._counts[owner]:
                del self._counts[owner]

    def _add(self, session: _Session) -> None:
        if not self._free:
            self._free.append(len(self._places))
            self._places.append(None)
        self._serial += 1
        session.serial, session.place = self._serial, self._free.pop()
        self._held[session.id] = self._places[session.place] = session
        self._count(session.owner, 1)

    def _take(self, session: _Session) -> tuple[str, object]:
        del self._held[session.id]
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
        session.touched_ns = self._now_ns
        return session.record

    def get(self, id: str, default: object = None) -> object:
        return self[id] if self.touch(id) else default

    def get_many(self, ids: Sequence[str], default: object = None) -> list[object]:
        if not isinstance(ids, list | tuple):
            raise TypeError(f"get_many takes a list or a tuple, not {type(ids).__name__}")
        return [self.get(id, default) for id in ids]

    def peek(self, id: str, default: object = None) -> object:
        session = self._find(id)
        return default if session is None else session.record

    def touch(self, id: str) -> bool:
        session = self._find(id)
        if session is not None:
            session.touched_ns = self._now_ns
        return session is not None

    def put(
        self, id: str, record: object, owner: Hashable = None, now_ns: int | None = None
    ) -> Sequence[tuple[str, object]]:
        text = _text(id)
        text.encode()
        if now_ns is not None:
            self.now_ns = now_ns
        held = self._held.get(text)
        others = self.owner_count(owner) - (held is not None and held.owner == owner)
        if owner is not None and 0 < self._owner_count_max <= others:
            raise LimitError("owner_count_max", self._owner_count_max)
        live = self._find(text)
        if live is not None:
            self._count(live.owner, -1)
            self._count(owner, 1)
            live.record, live.owner, live.touched_ns = record, owner, self._now_ns
            return ()
        left = []
        if held is not None:
            left.append(self._take(held))
        elif len(self) >= self._count_max:
            left.append(self._take(self._longest_idle()))
        self._add(_Session(text, record, owner, self._now_ns, self._now_ns, 0))
        return left

    def pop(self, id: str, default: object = None) -> object:
        session = self._find(id)
        return default if session is None else self._take(session)[1]

    def owner_count(self, owner: Hashable) -> int:
        return self._counts.get(owner, 0)

    def expire(self, now_ns: int | None = None) -> list[tuple[str, object]]:
        if now_ns is not None:
            self.now_ns = now_ns
        idle = [self._take(session) for session in self._by_recency() if self._is_idle(session)]
        old = [self._take(session) for session in self._by_birth() if self._is_old(session)]
        return idle + old

    def next_deadline_ns(self) -> int | None:
        deadlines = [session.touched_ns + self._idle_ns for session in self._by_recency()[:1] if self._idle_ns]
        deadlines += [session.born_ns + self._age_ns for session in self._by_birth()[:1] if self._age_ns]
        return min(deadlines, default=None)

    def _walk(self, cursor: int, count: int) -> tuple[int, list[_Session]]:
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        found: list[_Session] = []
        for place in range(cursor, len(self._places)):
            session = self._places[place]
            if session is not None and not self._is_idle(session) and not self._is_old(session):
                if len(found) == count:
                    return place, found
                found.append(session)
        return 0, found

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str, object]]]:
        cursor, found = self._walk(cursor, count)
        return cursor, [(session.id, session.record) for session in found]

    def dump(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str, object, Hashable, int, int]]]:
        cursor, found = self._walk(cursor, count)
        return cursor, [(s.id, s.record, s.owner, s.born_ns, s.touched_ns) for s in found]

    def load(self, items: Sequence[tuple[str, object, Hashable, int, int]], shift_ns: int = 0) -> int:
        if not isinstance(items, list | tuple):
            raise TypeError(f"load takes a list or a tuple, not {type(items).__name__}")
        done: list[_Session] = []
        try:
            for item in items:
                session = _loadable(item, shift_ns, self._now_ns)
                if session.id in self._held:
                    raise ValueError(f"a session of this id is there already: {session.id!r}")
                if len(self) >= self._count_max:
                    raise LimitError("count_max", self._count_max)
                if session.owner is not None and 0 < self._owner_count_max <= self.owner_count(session.owner):
                    raise LimitError("owner_count_max", self._owner_count_max)
                self._add(session)
                done.append(session)
        except BaseException:
            for session in done:
                self._take(session)
            raise
        return len(done)

    def drain(self) -> list[tuple[str, object]]:
        return [self._take(session) for session in self._by_recency()]

    def check(self) -> None:
        held = list(self._held.values())
        assert len(held) <= self._count_max, "more records than count_max"
        assert all(-TIME_LIMIT <= s.born_ns <= s.touched_ns <= self._now_ns for s in held), "a wrong time"
        assert len({s.serial for s in held}) == len(held), "two births with one number"
        assert all(self._places[s.place] is s for s in held), "a wrong place"
        assert len(held) + len(self._free) == len(self._places), "a place is lost"
        assert sum(self._counts.values()) == sum(s.owner is not None for s in held), "a wrong owner count"
