"""The registry in plain Python: the specification of ``erlmcp._core.registry``."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from erlmcp._model.bonds import Bonds, text_of
from erlmcp._model.names import find_in, hashes_of, listed, name_bytes, name_hash, words
from erlmcp.errors import ConfigurationError, LimitError

COUNT_LIMIT = 2**31 - 1
_ABSENT = object()


def _text(name: str | bytes) -> str:
    """An exact str that has a UTF-8 form. UnicodeError where there is none."""
    text = text_of(name)
    text.encode()
    return text


class Registry:
    """Names and what they stand for. Each lies in a numbered place while it is there, which is what a scan counts
    through.
    """

    def __init__(
        self, count_max: int = 1_000_000, *, bond_count_max: int = 1_000_000, event_count_max: int = 65_536
    ) -> None:
        if not 1 <= count_max <= COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        if bond_count_max < 1 or event_count_max < 1:
            raise ValueError(
                f"bond_count_max and event_count_max are 1 or more, got {bond_count_max} and {event_count_max}"
            )
        self._count_max = count_max
        self._bonds = Bonds(bond_count_max, event_count_max)
        self._place_of: dict[str, int] = {}
        self._places: list[tuple[str, object, Hashable] | None] = []
        self._free: list[int] = []

    @property
    def count_max(self) -> int:
        return self._count_max

    @property
    def memory_bytes(self) -> int:
        return 64 * len(self._place_of)

    def __len__(self) -> int:
        return len(self._place_of)

    def _find(self, name: str | bytes) -> tuple[str, object, Hashable] | None:
        try:
            place = self._place_of.get(_text(name))
        except UnicodeError:
            return None
        return None if place is None else self._places[place]

    def _take(self, name: str | bytes) -> tuple[str, object, Hashable] | None:
        item = self._find(name)
        if item is not None:
            place = self._place_of.pop(item[0])
            self._places[place] = None
            self._free.append(place)
            self._bonds.forget(item[0])
            self._bonds.tell("removed", item[0], item[1])
        return item

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str | bytes) and self._find(name) is not None

    def __getitem__(self, name: str | bytes) -> object:
        item = self._find(name)
        if item is None:
            raise KeyError(name)
        return item[1]

    def __setitem__(self, name: str | bytes, entry: object) -> None:
        self.put(name, entry)

    def __delitem__(self, name: str | bytes) -> None:
        self.pop(name)

    def get(self, name: str | bytes, default: object = None) -> object:
        item = self._find(name)
        return default if item is None else item[1]

    def get_many(self, names: Sequence[str | bytes], default: object = None) -> list[object]:
        return [self.get(name, default) for name in listed(names, "get_many")]

    def hashes(self, names: Sequence[str | bytes]) -> Any:
        return hashes_of(names, 0)

    def find_hashes(self, hashes: Any, out: Any = None) -> Any:
        places = {name_hash(name.encode(), 0): place for name, place in self._place_of.items()}
        return find_in(places, hashes, out)

    def _at(self, indices: Any, part: int, default: object) -> list[object]:
        found = [self._places[i] if 0 <= i < len(self._places) else None for i in words(indices, True)]
        return [default if item is None else item[part] for item in found]

    def entries_at(self, indices: Any, default: object = None) -> list[object]:
        return self._at(indices, 1, default)

    def names_at(self, indices: Any, default: object = None) -> list[object]:
        return self._at(indices, 0, default)

    def put(self, name: str | bytes, entry: object, owner: Hashable = None) -> None:
        text = _text(name)
        hash(owner)
        place = self._place_of.get(text)
        if place is not None:
            item = self._places[place]
            assert item is not None
            if item[2] != owner:
                raise ConfigurationError(f"the name {text!r} belongs to {item[2]!r}, not to {owner!r}; remove it first")
        else:
            if len(self) >= self._count_max:
                raise LimitError("count_max", self._count_max, "the registry is full")
            if not self._free:
                self._free.append(len(self._places))
                self._places.append(None)
            place = self._free.pop()
        kind = "changed" if text in self._place_of else "added"
        self._place_of[text] = place
        self._places[place] = (text, entry, owner)
        self._bonds.tell(kind, text, entry)

    def owner(self, name: str | bytes) -> Hashable:
        item = self._find(name)
        if item is None:
            raise KeyError(name)
        return item[2]

    def remove(self, name: str | bytes) -> bool:
        return self._take(name) is not None

    def pop(self, name: str | bytes, default: object = _ABSENT) -> object:
        item = self._take(name)
        if item is None:
            if default is _ABSENT:
                raise KeyError(name)
            return default
        return item[1]

    def drop_owner(self, owner: Hashable) -> int:
        if owner is None:
            raise ValueError("None is no owner; remove names without an owner one by one")
        hash(owner)
        held = [(name, self._places[place]) for name, place in self._place_of.items()]
        dropped = [name for name, item in held if item is not None and item[2] == owner]
        for name in dropped:
            self.remove(name)
        return len(dropped)

    def _held(self, name: str | bytes) -> str:
        item = self._find(name)
        if item is None:
            raise KeyError(name)
        return item[0]

    def bind(self, key: str | bytes, name: str | bytes) -> None:
        self._bonds.bind(text_of(key), self._held(name))

    def binding(self, key: str | bytes) -> str | None:
        return self._bonds.binding(key)

    def bindings(self, name: str | bytes) -> list[str]:
        return self._bonds.bindings(name)

    def unbind(self, key: str | bytes) -> bool:
        return self._bonds.unbind(key)

    def join(self, group: str | bytes, name: str | bytes) -> bool:
        return self._bonds.join(text_of(group), self._held(name))

    def leave(self, group: str | bytes, name: str | bytes) -> bool:
        return self._bonds.leave(group, name)

    def members(self, group: str | bytes) -> list[str]:
        return self._bonds.members(group)

    def groups(self, name: str | bytes | None = None) -> list[str]:
        return self._bonds.groups(name)

    def watch(self, name: str | bytes, callback: object, is_prefix: bool = False) -> int:
        return self._bonds.watch(name, callback, is_prefix)

    def unwatch(self, number: int) -> bool:
        return self._bonds.unwatch(number)

    def take_events(self) -> list[tuple[object, str, str, object]]:
        return self._bonds.take_events()

    @property
    def lost_event_count(self) -> int:
        return self._bonds.lost_event_count

    def names(self, prefix: str | bytes = "") -> list[str]:
        start = name_bytes(prefix)
        return [] if start is None else [name for name in self._place_of if name.encode().startswith(start)]

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str, object]]]:
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        found: list[tuple[str, object]] = []
        for place in range(cursor, len(self._places)):
            item = self._places[place]
            if item is not None:
                if len(found) == count:
                    return place, found
                found.append(item[:2])
        return 0, found

    def clear(self) -> None:
        dropped = self._places
        self._place_of, self._places, self._free = {}, [], []
        self._bonds.clear()
        for item in dropped:
            if item is not None:
                self._bonds.tell("removed", item[0], item[1])
        del dropped  # what dies here may come back to this registry

    def check(self) -> None:
        held = {item[0]: place for place, item in enumerate(self._places) if item is not None}
        assert held == self._place_of, "the index and the places differ"
        assert sorted([*held.values(), *self._free]) == list(range(len(self._places))), "a place is lost"
        assert len(held) <= self._count_max, "more names than count_max"
        self._bonds.check()
