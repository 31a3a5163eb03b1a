"""Containers that say when they change: put in the place of an app's own, so that its plans follow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_DICT = ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update")
_LIST = (
    "__setitem__",
    "__delitem__",
    "__iadd__",
    "__imul__",
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
)


class WatchedDict(dict[Any, Any]):
    """A dict that calls ``changed`` after each change."""

    changed: Callable[[], None]


class WatchedList(list[Any]):
    """A list that calls ``changed`` after each change."""

    changed: Callable[[], None]


def _told(base: type, name: str) -> Callable[..., Any]:
    plain = getattr(base, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return plain(self, *args, **kwargs)
        finally:
            self.changed()

    method.__name__ = name
    return method


for _name in _DICT:
    setattr(WatchedDict, _name, _told(dict, _name))
for _name in _LIST:
    setattr(WatchedList, _name, _told(list, _name))


def watch(owner: Any, attribute: str, changed: Callable[[], None]) -> None:
    """Put a container that tells into the place of ``owner.attribute``, with what that holds."""
    found = getattr(owner, attribute)
    made: WatchedDict | WatchedList
    if isinstance(found, WatchedDict | WatchedList):
        before = found.changed

        def both() -> None:
            before()
            changed()

        found.changed = both
        return
    made = WatchedDict(found) if isinstance(found, dict) else WatchedList(found)
    made.changed = changed
    setattr(owner, attribute, made)
