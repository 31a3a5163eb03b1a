"""Bindings, groups and watches in plain Python: the specification of ``erlmcp._core.bonds``."""

from __future__ import annotations

from erlmcp.errors import LimitError


def text_of(text: str | bytes) -> str:
    """An exact str. UnicodeDecodeError for bytes that are no UTF-8."""
    if isinstance(text, str):
        return str.__str__(text)
    if isinstance(text, bytes):
        return text.decode()
    raise TypeError(f"a name is a str or bytes, not {type(text).__name__}")


class Bonds:
    """A dict from key to name, and one of the pairs (group, name), each in the order of its making."""

    def __init__(self, count_max: int = 1_000_000, event_count_max: int = 65_536) -> None:
        if count_max < 1 or event_count_max < 1:
            raise ValueError(f"count_max and event_count_max are 1 or more, got {count_max} and {event_count_max}")
        self.count_max = count_max
        self.event_count_max = event_count_max
        self.lost_event_count = 0
        self._name_of: dict[str, str] = {}
        self._memberships: dict[tuple[str, str], None] = {}
        self._watches: dict[int, tuple[str, bool, object]] = {}
        self._watch_number = 0
        self._events: list[tuple[object, str, str, object]] = []

    def __len__(self) -> int:
        return len(self._name_of) + len(self._memberships) + len(self._watches)

    def _check_room(self) -> None:
        if len(self) >= self.count_max:
            raise LimitError("bond_count_max", self.count_max, "no room for another binding, membership or watch")

    def bind(self, key: str | bytes, name: str | bytes) -> None:
        key, name = text_of(key), text_of(name)
        if self._name_of.get(key) == name:
            return
        if key not in self._name_of:
            self._check_room()
        self._name_of.pop(key, None)
        self._name_of[key] = name

    def binding(self, key: str | bytes) -> str | None:
        return self._name_of.get(text_of(key))

    def bindings(self, name: str | bytes) -> list[str]:
        name = text_of(name)
        return [key for key, bound in self._name_of.items() if bound == name]

    def unbind(self, key: str | bytes) -> bool:
        return self._name_of.pop(text_of(key), None) is not None

    def join(self, group: str | bytes, name: str | bytes) -> bool:
        pair = text_of(group), text_of(name)
        if pair in self._memberships:
            return False
        self._check_room()
        self._memberships[pair] = None
        return True

    def leave(self, group: str | bytes, name: str | bytes) -> bool:
        pair = text_of(group), text_of(name)
        if pair not in self._memberships:
            return False
        del self._memberships[pair]
        return True

    def members(self, group: str | bytes) -> list[str]:
        group = text_of(group)
        return [name for one, name in self._memberships if one == group]

    def groups(self, name: str | bytes | None = None) -> list[str]:
        if name is None:
            return list(dict.fromkeys(group for group, _ in self._memberships))
        name = text_of(name)
        return [group for group, one in self._memberships if one == name]

    def watch(self, name: str | bytes, callback: object, is_prefix: bool = False) -> int:
        watch = text_of(name), bool(is_prefix), callback
        self._check_room()
        self._watch_number += 1
        self._watches[self._watch_number] = watch
        return self._watch_number

    def unwatch(self, number: int) -> bool:
        if not isinstance(number, int):
            raise TypeError(f"a watch has a number, not a {type(number).__name__}")
        return self._watches.pop(number, None) is not None

    def tell(self, kind: str | bytes, name: str | bytes, entry: object = None) -> None:
        kind, name = text_of(kind), text_of(name)
        for text, is_prefix, callback in self._watches.values():
            if not (name.startswith(text) if is_prefix else name == text):
                continue
            if len(self._events) >= self.event_count_max:
                self.lost_event_count += 1
            else:
                self._events.append((callback, kind, name, entry))

    def take_events(self) -> list[tuple[object, str, str, object]]:
        taken, self._events = self._events, []
        return taken

    def forget(self, name: str | bytes) -> None:
        name = text_of(name)
        self._name_of = {key: bound for key, bound in self._name_of.items() if name not in (key, bound)}
        self._memberships = {pair: None for pair in self._memberships if pair[1] != name}

    def clear(self) -> None:
        self._name_of, self._memberships = {}, {}

    def check(self) -> None:
        assert len(self) <= self.count_max, "more bonds than count_max"
        assert len(self._events) <= self.event_count_max, "more events than event_count_max"
