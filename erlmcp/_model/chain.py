"""Keys in an order that can be changed in O(1), in plain Python."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any


class Chain:
    def __init__(self) -> None:
        self._keys: OrderedDict[Any, Any] = OrderedDict()
        self._changes = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[Any]:
        return self._walk(self._changes)

    def add(self, key: Any) -> bool:
        if key in self._keys:
            return False
        self._keys[key] = key
        self._changes += 1
        return True

    def move_to_end(self, key: Any, last: bool = True) -> None:
        self._keys.move_to_end(key, last)
        self._changes += 1

    def remove(self, key: Hashable) -> bool:
        if key not in self._keys:
            return False
        del self._keys[key]
        self._changes += 1
        return True

    def oldest(self, default: Any = None) -> Any:
        return next(iter(self._keys.values()), default)

    def newest(self, default: Any = None) -> Any:
        return next(reversed(self._keys.values()), default)

    def pop_oldest(self, default: Any = None) -> Any:
        return self._pop(False, default)

    def pop_newest(self, default: Any = None) -> Any:
        return self._pop(True, default)

    def clear(self) -> None:
        old, self._keys = self._keys, OrderedDict()
        self._changes += 1
        old.clear()

    def check(self) -> None:
        pass

    def _pop(self, last: bool, default: Any) -> Any:
        if not self._keys:
            return default
        self._changes += 1
        return self._keys.popitem(last)[1]

    def _walk(self, changes: int) -> Iterator[Any]:
        for key in list(self._keys):
            if changes != self._changes:
                break
            yield key
        if changes != self._changes:
            raise RuntimeError("the chain changed during iteration")
