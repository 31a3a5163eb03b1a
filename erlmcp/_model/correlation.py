"""Correlation in plain Python: the specification of ``erlmcp._core.correlation``."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

from erlmcp.errors import LimitError

COUNT_LIMIT = 2**31 - 1
WHITE = (b"", b" ", b"\t", b"\n", b"\r")
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


def _key(id: object) -> str | int | None:
    """The id as a dictionary key, or None where it cannot be one. A str and an int are never equal, but True and 1
    are.
    """
    if isinstance(id, str):
        return "".join(id)
    if isinstance(id, int) and not isinstance(id, bool):
        return int(id)
    return None


def _time(time_ns: int) -> int:
    if not INT_MIN <= time_ns <= INT_MAX:
        raise OverflowError("a time has at most 64 bits")
    return time_ns


def _deadline(deadline_ns: int | None) -> int | None:
    if deadline_ns is not None and _time(deadline_ns) < 0:
        raise ValueError(f"deadline_ns is 0 or more, got {deadline_ns}")
    return deadline_ns


class Correlation:
    """Ids and what waits under them, in the order of put. Threads may share it: what they race for is decided by single
    steps of a dict.
    """

    def __init__(self, count_max: int = 1_000_000) -> None:
        if not 1 <= count_max <= COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        self._count_max = count_max
        self._waiting: dict[str | int, tuple[object, int | None, int]] = {}  # with its place: the later, the higher
        self._places = itertools.count(1)
        self._ids = itertools.count(1)
        self._now_ns = 0

    @property
    def count_max(self) -> int:
        return self._count_max

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, id: object) -> bool:
        return _key(id) in self._waiting

    def next_id(self) -> int:
        return next(id for id in self._ids if id not in self._waiting)

    def put(self, id: str | int, pending: object, deadline_ns: int | None = None) -> None:
        _deadline(deadline_ns)
        key = _key(id)
        if key is None:
            raise TypeError(f"an id is a str or an int, not {type(id).__name__}")
        if isinstance(key, str):
            key.encode()
        elif not INT_MIN <= key <= INT_MAX:
            raise OverflowError("an int id has at most 64 bits")
        if key in self._waiting:
            raise KeyError(id)
        if len(self) >= self._count_max:
            raise LimitError("count_max", self._count_max)
        entry = (pending, deadline_ns, next(self._places))
        if self._waiting.setdefault(key, entry) is not entry:
            raise KeyError(id)

    def put_next(self, pending: object, deadline_ns: int | None = None) -> int:
        _deadline(deadline_ns)
        id = self.next_id()
        self.put(id, pending, deadline_ns)
        return id

    def put_many(self, ids: Iterable[str | int], pendings: Iterable[object], deadline_ns: int | None = None) -> None:
        _deadline(deadline_ns)
        each, waiting = list(ids), list(pendings)
        if len(each) != len(waiting):
            raise ValueError(f"there is one pending for each id, got {len(each)} ids and {len(waiting)} pendings")
        done: list[str | int] = []
        try:
            for id, pending in zip(each, waiting, strict=True):
                self.put(id, pending, deadline_ns)
                done.append(id)
        except BaseException:
            self.take_many(done)
            raise

    def take(self, id: object) -> object | None:
        key = _key(id)
        return None if key is None else self._waiting.pop(key, (None,))[0]

    def take_many(self, ids: Iterable[object]) -> list[object | None]:
        return [self.take(id) for id in list(ids)]

    def take_token(self, token: bytes) -> object | None:
        if not isinstance(token, bytes):
            raise TypeError(f"a token is bytes, not {type(token).__name__}")
        if token[:1] in WHITE or token[-1:] in WHITE:
            return None
        try:
            return self.take(json.loads(token.decode(), strict=False))
        except ValueError:
            return None

    def expire(self, now_ns: int) -> list[tuple[str | int, object]]:
        self._now_ns = now_ns = max(self._now_ns, _time(now_ns))
        late = sorted(
            (deadline_ns, order, id)
            for order, (id, (_, deadline_ns, _)) in enumerate(list(self._waiting.items()))
            if deadline_ns is not None and deadline_ns <= now_ns
        )
        taken = [(id, self._waiting.pop(id, None)) for _, _, id in late]
        return [(id, entry[0]) for id, entry in taken if entry is not None]

    def drain(self) -> list[tuple[str | int, object]]:
        all_waiting, self._waiting = self._waiting, {}
        return [(id, pending) for id, (pending, _, _) in all_waiting.items()]

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str | int, object]]]:
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        waiting = [(place, id, pending) for id, (pending, _, place) in list(self._waiting.items())]
        left = sorted((each for each in waiting if not cursor or each[0] < cursor), key=lambda each: -each[0])
        page = [(id, pending) for _, id, pending in left[:count]]
        return (left[count - 1][0] if len(left) > count else 0), page

    def next_deadline_ns(self) -> int | None:
        deadlines = [deadline_ns for _, deadline_ns, _ in list(self._waiting.values())]
        return min((deadline_ns for deadline_ns in deadlines if deadline_ns is not None), default=None)

    def check(self) -> None:
        assert len(self) <= self._count_max, "more ids than count_max"
