"""The sieve in plain Python: the specification of ``erlmcp._core.sieve``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

COUNT_LIMIT = 2**28
SWEEP_MAX = 256
NEVER = 2**63 - 1


@dataclass(eq=False, slots=True)
class Entry:
    key: str | bytes
    place: int
    value: object = None
    is_negative: bool = False
    is_used: bool = False
    size_bytes: int = 0
    deadline_ns: int = NEVER
    tags: tuple[str, ...] = ()


def text_of(key: object) -> bytes | None:
    """The UTF-8 bytes of a key; None where it has none, so that it cannot be there."""
    if isinstance(key, str):
        try:
            return str.encode(key)
        except UnicodeEncodeError:
            return None
    if isinstance(key, bytes):
        return bytes(key)
    raise TypeError(f"a key is a str or bytes, not {type(key).__name__}")


def text_to_put(key: str | bytes) -> bytes:
    text = text_of(key)
    return str.encode(key) if text is None and isinstance(key, str) else text or b""


def shown(key: str | bytes) -> str | bytes:
    return "".join(key) if isinstance(key, str) else bytes(key)


def refuse(size_bytes: int) -> None:
    if size_bytes < 0:
        raise ValueError(f"size_bytes is 0 or more, got {size_bytes}")
    if size_bytes > NEVER:
        raise OverflowError(f"size_bytes has 63 bits, got {size_bytes}")


class Sieve:
    """``_entries`` is the queue of SIEVE, the oldest first; ``_hand`` is where its next search starts, None for the
    oldest. ``_births`` has the entries of the default TTL in the order of their deadlines, ``_timed`` those of another
    one, which only a cache has.
    """

    def __init__(
        self,
        count_max: int = 10_000,
        *,
        bytes_max: int = 0,
        ttl_ns: int = 5_000_000_000,
        stale_ns: int = 0,
        now_ns: int = 0,
    ) -> None:
        if not 1 <= count_max <= COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        if min(bytes_max, ttl_ns, stale_ns, now_ns) < 0:
            raise ValueError("bytes_max, ttl_ns, stale_ns and now_ns are 0 or more")
        self.count_max = count_max
        self.bytes_max = bytes_max
        self.ttl_ns = ttl_ns
        self.stale_ns = stale_ns
        self._now_ns = min(now_ns, NEVER - 1)
        self.hit_count = self.miss_count = self.eviction_count = self.expired_count = self.bytes_held = 0
        self._entries: dict[bytes, Entry] = {}
        self._births: dict[bytes, Entry] = {}
        self._timed: dict[bytes, Entry] = {}
        self._places: list[Entry | None] = []
        self._free: list[int] = []
        self._hand: Entry | None = None

    @property
    def now_ns(self) -> int:
        return self._now_ns

    @now_ns.setter
    def now_ns(self, now_ns: int) -> None:
        if now_ns < 0:
            raise ValueError(f"now_ns is 0 or more, got {now_ns}")
        self._now_ns = max(self._now_ns, min(now_ns, NEVER - 1))

    @property
    def hit_rate(self) -> float:
        asked = self.hit_count + self.miss_count
        return self.hit_count / asked if asked else 0.0

    @property
    def memory_bytes(self) -> int:
        return 64 * len(self._places)

    def __len__(self) -> int:
        return len(self._entries)

    def _live(self, key: object, grace_ns: int = 0) -> Entry | None:
        text = text_of(key)
        entry = None if text is None else self._entries.get(text)
        return entry if entry is not None and entry.deadline_ns > self._now_ns - grace_ns else None

    def _count(self, entry: Entry | None) -> Entry | None:
        """The entry where it is an answer, counted and marked as used."""
        if entry is None or entry.is_negative:
            self.miss_count += 1
            return None
        self.hit_count += 1
        entry.is_used = True
        return entry

    def __contains__(self, key: object) -> bool:
        entry = self._live(key) if isinstance(key, str | bytes) else None
        return entry is not None and not entry.is_negative

    def __getitem__(self, key: str | bytes) -> object:
        entry = self._count(self._live(key))
        if entry is None:
            raise KeyError(key)
        return entry.value

    def get(self, key: str | bytes, default: object = None) -> object:
        entry = self._count(self._live(key))
        return default if entry is None else entry.value

    def get_many(self, keys: Sequence[str | bytes], default: object = None) -> list[object]:
        if not isinstance(keys, list | tuple):
            raise TypeError(f"get_many takes a list or a tuple, not {type(keys).__name__}")
        for key in keys:
            text_of(key)
        return [self.get(key, default) for key in keys]

    def peek(self, key: str | bytes, default: object = None) -> object:
        entry = self._live(key)
        return default if entry is None or entry.is_negative else entry.value

    def get_stale(self, key: str | bytes, default: object = None) -> object:
        entry = self._live(key, self.stale_ns)
        return default if entry is None or entry.is_negative else entry.value

    def __setitem__(self, key: str | bytes, value: object) -> None:
        self.put(key, value)

    def put(self, key: str | bytes, value: object, size_bytes: int = 0) -> int:
        refuse(size_bytes)
        return self._store(key, value, False, size_bytes, self.ttl_ns, ())

    def _store(
        self, key: str | bytes, value: object, is_negative: bool, size_bytes: int, ttl_ns: int, tags: tuple[str, ...]
    ) -> int:
        text = text_to_put(key)
        if size_bytes > (self.bytes_max or NEVER):
            self._drop([text] if text in self._entries else [])
            return -1
        left: list[object] = []
        entry = self._entries.get(text)
        if entry is not None and entry.deadline_ns <= self._now_ns:
            self.expired_count += 1
            left.append(self._take(text))
            entry = None
        if entry is None:
            room = self._make_room(1, size_bytes, None, left)
            entry = Entry(shown(key), self._free_place())
            self._entries[text] = self._places[entry.place] = entry
        else:
            left.append(entry.value)
            self._births.pop(text, None)
            self._timed.pop(text, None)
            self.bytes_held -= entry.size_bytes
            entry.size_bytes = 0
            entry.is_used = True
            entry.deadline_ns = NEVER
            room = self._make_room(0, size_bytes, entry, left)
        self.bytes_held += size_bytes
        entry.value, entry.is_negative, entry.size_bytes, entry.tags = value, is_negative, size_bytes, tags
        entry.deadline_ns = min(self._now_ns + ttl_ns, NEVER) if ttl_ns else NEVER
        if entry.deadline_ns < NEVER:
            (self._births if ttl_ns == self.ttl_ns else self._timed)[text] = entry
        return room

    def _free_place(self) -> int:
        if not self._free:
            self._free.append(len(self._places))
            self._places.append(None)
        return self._free.pop()

    def _is_over(self, more: int, more_bytes: int) -> bool:
        bytes_over = self.bytes_held + more_bytes > (self.bytes_max or NEVER)
        return len(self._entries) + more > self.count_max or bytes_over

    def _make_room(self, more: int, more_bytes: int, spared: Entry | None, left: list[object]) -> int:
        """Takes out first what has expired and may not be given out stale either, then what SIEVE picks."""
        if not self._is_over(more, more_bytes):
            return 0
        before = len(self._entries)
        limit_ns = self._now_ns - self.stale_ns
        for text in [text for text, entry in self._births.items() if entry.deadline_ns <= limit_ns]:
            if self._is_over(more, more_bytes):
                left.append(self._take(text))
        if self._is_over(more, more_bytes):
            for text in [text for text, entry in self._timed.items() if entry.deadline_ns <= limit_ns]:
                left.append(self._take(text))
        self.expired_count += before - len(self._entries)
        while self._is_over(more, more_bytes):
            left.append(self._take(self._victim(spared)))
            self.eviction_count += 1
        return before - len(self._entries)

    def _victim(self, spared: Entry | None) -> bytes:
        """SIEVE, with a bound on the entries that are given a second chance in one search."""
        queue = list(self._entries.items())
        at = next((i for i, (_, entry) in enumerate(queue) if entry is self._hand), 0)
        passed = 0
        while queue[at][1] is spared or (queue[at][1].is_used and passed < SWEEP_MAX):
            if queue[at][1] is not spared:
                queue[at][1].is_used = False
            passed += 1
            at = (at + 1) % len(queue)
        self._hand = queue[at][1]
        return queue[at][0]

    def _take(self, text: bytes) -> Entry:
        entry = self._entries[text]
        if entry is self._hand:
            queue = list(self._entries.values())
            self._hand = [*queue, None][queue.index(entry) + 1]
        del self._entries[text]
        self._births.pop(text, None)
        self._timed.pop(text, None)
        self._places[entry.place] = None
        self._free.append(entry.place)
        self.bytes_held -= entry.size_bytes
        return entry

    def _drop(self, texts: list[bytes]) -> int:
        left = [self._take(text) for text in texts]
        return len(left)

    def remove(self, key: str | bytes) -> bool:
        text = text_of(key)
        return text in self._entries and self._drop([text]) == 1

    def __delitem__(self, key: str | bytes) -> None:
        if not self.remove(key):
            raise KeyError(key)

    def clear(self) -> None:
        self._drop(list(self._entries))

    def expire(self, now_ns: int | None = None) -> int:
        if now_ns is not None:
            self.now_ns = now_ns
        limit_ns = self._now_ns - self.stale_ns
        count = self._drop([text for text, entry in self._entries.items() if entry.deadline_ns <= limit_ns])
        self.expired_count += count
        return count

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str | bytes, object]]]:
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        found: list[tuple[str | bytes, object]] = []
        for place in range(cursor, len(self._places)):
            entry = self._places[place]
            if entry is not None and not entry.is_negative and entry.deadline_ns > self._now_ns:
                if len(found) == count:
                    return place, found
                found.append((entry.key, entry.value))
        return 0, found

    def check(self) -> None:
        entries = self._entries
        assert len(entries) <= self.count_max, "more entries than count_max"
        assert self.bytes_held == sum(entry.size_bytes for entry in entries.values()), "the bytes are others"
        assert not self.bytes_max or self.bytes_held <= self.bytes_max, "more bytes than bytes_max"
        assert set(self._births) | set(self._timed) <= set(entries), "a deadline of an entry that is gone"
        assert self._hand is None or self._hand in entries.values(), "the hand points to an entry that is gone"
