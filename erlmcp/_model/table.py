"""A mapping from byte strings to objects, in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from erlmcp.errors import LimitError

TABLE_COUNT_MAX = 0x40000000


def _octets(key: str | bytes) -> bytes:
    if isinstance(key, str):
        return key.encode("utf-8")
    if isinstance(key, bytes):
        return bytes(key)
    raise TypeError(f"a key must be bytes or str, got {type(key).__name__}")


class Table:
    def __init__(self, *, count_max: int = TABLE_COUNT_MAX, seed: int | None = None) -> None:
        if not 1 <= count_max <= TABLE_COUNT_MAX:
            raise ValueError(f"count_max must be 1 to {TABLE_COUNT_MAX}, got {count_max}")
        if seed is not None and not 0 <= seed < 1 << 64:
            raise OverflowError("seed does not fit into 64 bits")
        self.count_max = count_max
        self._pairs: dict[bytes, tuple[Any, Any]] = {}
        self._additions = 0

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, key: str | bytes) -> bool:
        return _octets(key) in self._pairs

    def __getitem__(self, key: str | bytes) -> Any:
        pair = self._pairs.get(_octets(key))
        if pair is None:
            raise KeyError(key)
        return pair[1]

    def __setitem__(self, key: str | bytes, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: str | bytes) -> None:
        if not self.remove(key):
            raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return self.keys()

    def keys(self) -> Iterator[Any]:
        return self._walk(lambda pair: pair[0])

    def values(self) -> Iterator[Any]:
        return self._walk(lambda pair: pair[1])

    def items(self) -> Iterator[tuple[Any, Any]]:
        return self._walk(lambda pair: pair)

    def get(self, key: str | bytes, default: Any = None, /) -> Any:
        pair = self._pairs.get(_octets(key))
        return default if pair is None else pair[1]

    def put(self, key: str | bytes, value: Any) -> bool:
        octets = _octets(key)
        pair = self._pairs.get(octets)
        if pair is not None:
            self._pairs[octets] = (pair[0], value)
            return False
        if len(self._pairs) >= self.count_max:
            raise LimitError("count_max", self.count_max, "the table is full")
        self._pairs[octets] = (key, value)
        self._additions += 1
        return True

    def remove(self, key: str | bytes) -> bool:
        return self._pairs.pop(_octets(key), None) is not None

    def pop(self, key: str | bytes, *default: Any) -> Any:
        if len(default) > 1:
            raise TypeError(f"pop takes a key and at most one default, got {len(default)}")
        pair = self._pairs.pop(_octets(key), None)
        if pair is not None:
            return pair[1]
        if default:
            return default[0]
        raise KeyError(key)

    def clear(self) -> None:
        old, self._pairs = self._pairs, {}
        old.clear()

    def probe_max(self) -> int:
        return min(1, len(self._pairs))

    def check(self) -> None:
        if len(self._pairs) > self.count_max:
            raise AssertionError("table: more entries than count_max")

    def _walk(self, give: Callable[[tuple[Any, Any]], Any]) -> Iterator[Any]:
        return _Cursor(self, give)


class _Cursor:
    def __init__(self, table: Table, give: Callable[[tuple[Any, Any]], Any]) -> None:
        self._table = table
        self._give = give
        self._additions = table._additions
        self._keys = iter(list(table._pairs))

    def __iter__(self) -> _Cursor:
        return self

    def __next__(self) -> Any:
        if self._additions != self._table._additions:
            raise RuntimeError("a key was added to the table during iteration")
        for octets in self._keys:
            pair = self._table._pairs.get(octets)
            if pair is not None:
                return self._give(pair)
        raise StopIteration
