"""The cache in plain Python: the specification of ``erlmcp._core.cache``."""

from __future__ import annotations

from collections.abc import Sequence

from erlmcp._model.sieve import Sieve, refuse, shown, text_of, text_to_put
from erlmcp.errors import LimitError, StaleHandleError

TAGS_MAX = 64
MARKS_MAX = 1024


class Ticket:
    """A load under way."""

    def __init__(self, key: str | bytes = "", began: int = 0) -> None:
        self.key = key
        self.is_stale = False
        self.is_done = False
        self.is_stored = False
        self._began = began
        self._waiters: dict[int, object] = {}

    @property
    def waiter_count(self) -> int:
        return len(self._waiters)


def _read_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(tags, list | tuple):
        raise TypeError(f"tags are a list or a tuple, not {type(tags).__name__}")
    if len(tags) > TAGS_MAX:
        raise LimitError("tags_max", TAGS_MAX, f"{len(tags)} tags for one entry")
    for tag in tags:
        if not isinstance(tag, str):
            raise TypeError(f"a tag is a str, not {type(tag).__name__}")
    return tuple("".join(tag) for tag in tags)


def _refuse_ttl(ttl_ns: int | None) -> None:
    if ttl_ns is not None and ttl_ns < 0:
        raise ValueError(f"ttl_ns is 0 or more, got {ttl_ns}")


class Cache(Sieve):
    HIT = 0
    NEGATIVE = 1
    LOAD = 2
    WAIT = 3

    def __init__(
        self,
        count_max: int = 10_000,
        *,
        bytes_max: int = 0,
        ttl_ns: int = 5_000_000_000,
        negative_ttl_ns: int = 0,
        stale_ns: int = 0,
        load_count_max: int = 65_536,
        now_ns: int = 0,
    ) -> None:
        super().__init__(count_max, bytes_max=bytes_max, ttl_ns=ttl_ns, stale_ns=stale_ns, now_ns=now_ns)
        if negative_ttl_ns < 0:
            raise ValueError(f"negative_ttl_ns is 0 or more, got {negative_ttl_ns}")
        if load_count_max < 1:
            raise ValueError(f"load_count_max is 1 or more, got {load_count_max}")
        self.negative_ttl_ns = negative_ttl_ns
        self.load_count_max = load_count_max
        self._loads: dict[bytes, Ticket] = {}
        self._changes = 0
        self._marks: dict[str, int] = {}
        self._marks_floor = 0

    @property
    def load_count(self) -> int:
        return len(self._loads)

    def __setitem__(self, key: str | bytes, value: object) -> None:
        self.put(key, value)

    def put(
        self,
        key: str | bytes,
        value: object,
        size_bytes: int = 0,
        ttl_ns: int | None = None,
        tags: Sequence[str] = (),
    ) -> int:
        refuse(size_bytes)
        _refuse_ttl(ttl_ns)
        text, tags = text_to_put(key), _read_tags(tags)
        self._retire(text)
        return self._store(key, value, False, size_bytes, self.ttl_ns if ttl_ns is None else ttl_ns, tags)

    def put_negative(
        self, key: str | bytes, error: object = None, ttl_ns: int | None = None, tags: Sequence[str] = ()
    ) -> int:
        _refuse_ttl(ttl_ns)
        ttl = self.negative_ttl_ns if ttl_ns is None else ttl_ns
        text, tags = text_to_put(key), _read_tags(tags)
        self._retire(text)
        if ttl:
            return self._store(key, error, True, 0, ttl, tags)
        self._drop([text] if text in self._entries else [])
        return 0

    def _retire(self, text: bytes) -> None:
        """The load of this key goes on for those who wait, but what it brings is not stored any more."""
        ticket = self._loads.pop(text, None)
        if ticket is not None:
            ticket.is_stale = True
            self._forget_marks()

    def _forget_marks(self) -> None:
        if not self._loads:
            self._marks = {}

    def remove(self, key: str | bytes) -> bool:
        text = text_of(key)
        if text is not None:
            self._retire(text)
        return super().remove(key)

    def invalidate_tag(self, tag: str) -> int:
        tag = _read_tags((tag,))[0]
        self._changes += 1
        if self._loads:
            self._marks[tag] = self._changes
            if len(self._marks) > MARKS_MAX:
                self._marks, self._marks_floor = {}, self._changes
        return self._drop([text for text, entry in self._entries.items() if tag in entry.tags])

    def invalidate_prefix(self, prefix: str | bytes) -> int:
        text = text_of(prefix)
        if text is None:
            return 0
        for loaded in [loaded for loaded in self._loads if loaded.startswith(text)]:
            self._retire(loaded)
        return self._drop([held for held in self._entries if held.startswith(text)])

    def clear(self) -> None:
        self.invalidate_prefix(b"")
        super().clear()

    def claim(self, key: str | bytes, waiter: object = None) -> tuple[int, object]:
        text = text_to_put(key)
        entry = self._live(key)
        if entry is not None:
            self.hit_count += 1
            entry.is_used = True
            return (self.NEGATIVE if entry.is_negative else self.HIT), entry.value
        ticket = self._loads.get(text)
        verdict = self.WAIT
        if ticket is None:
            if len(self._loads) >= self.load_count_max:
                raise LimitError("load_count_max", self.load_count_max, "too many loads under way")
            verdict, ticket = self.LOAD, Ticket(shown(key), self._changes)
            self._loads[text] = ticket
        self.miss_count += 1
        self.join(ticket, waiter)
        return verdict, ticket

    def _open(self, ticket: Ticket) -> Ticket:
        if not isinstance(ticket, Ticket):
            raise TypeError(f"expected a Ticket, got {type(ticket).__name__}")
        if ticket.is_done:
            raise StaleHandleError(f"the load of {ticket.key!r} has ended already")
        return ticket

    def join(self, ticket: Ticket, waiter: object) -> int:
        waiters = self._open(ticket)._waiters
        if waiter is not None:
            waiters[id(waiter)] = waiter
        return len(waiters)

    def leave(self, ticket: Ticket, waiter: object) -> int:
        waiters = self._open(ticket)._waiters
        waiters.pop(id(waiter), None)
        return len(waiters)

    def finish(
        self, ticket: Ticket, value: object, size_bytes: int = 0, ttl_ns: int | None = None, tags: Sequence[str] = ()
    ) -> list[object]:
        self._open(ticket)
        refuse(size_bytes)
        _refuse_ttl(ttl_ns)
        return self._end(ticket, value, False, size_bytes, self.ttl_ns if ttl_ns is None else ttl_ns, _read_tags(tags))

    def fail(
        self, ticket: Ticket, error: object = None, ttl_ns: int | None = None, tags: Sequence[str] = ()
    ) -> list[object]:
        self._open(ticket)
        _refuse_ttl(ttl_ns)
        ttl = self.negative_ttl_ns if ttl_ns is None else ttl_ns
        held = self._live(ticket.key, self.stale_ns)
        if error is None or not ttl or (held is not None and not held.is_negative):
            ttl = -1
        return self._end(ticket, error, True, 0, ttl, _read_tags(tags))

    def _end(
        self, ticket: Ticket, value: object, is_negative: bool, size_bytes: int, ttl_ns: int, tags: tuple[str, ...]
    ) -> list[object]:
        text = text_to_put(ticket.key)
        is_marked = any(max(self._marks.get(tag, 0), self._marks_floor) > ticket._began for tag in tags)
        if self._loads.get(text) is ticket:
            if not is_marked and ttl_ns >= 0:
                stored = self._store(ticket.key, value, is_negative, size_bytes, ttl_ns, tags)
                ticket.is_stored = stored >= 0
            self._loads.pop(text, None)
        ticket.is_stale = ticket.is_stale or is_marked
        ticket.is_done = True
        self._forget_marks()
        waiters = list(ticket._waiters.values())
        ticket._waiters = {}
        return waiters

    def check(self) -> None:
        super().check()
        assert not any(ticket.is_done or ticket.is_stale for ticket in self._loads.values()), "an ended load is kept"
        assert self._loads or not self._marks, "tags are noted for no load"
