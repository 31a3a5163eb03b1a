"""Who is here: things that come and go, walked page by page while they do.

A set would have to be copied to be walked while it changes; a roll is a ``core.Slab``, whose scan needs the memory of
one page however many there are. Each thing keeps the handle of its place in its attribute ``place``, 0 while it has
none, and is in one roll at a time.

Pages of many rolls, one after the other, have one cursor: text that names the roll and the place in it, safe to be
handed to clients and taken back from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from erlmcp import core

T = TypeVar("T")

COUNT_MAX = 0xFFFFFFFE
INDEX_MASK = 0xFFFFFFFF


class Source(Protocol):
    """What is walked: a roll, or a room of the core by way of one that has its shape."""

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[Any]]: ...


class Roll(Generic[T]):
    """A set of things with an attribute ``place``."""

    __slots__ = ("_slab",)

    def __init__(self) -> None:
        self._slab: core.Slab[T] = core.Slab(COUNT_MAX)

    def __len__(self) -> int:
        return len(self._slab)

    def __contains__(self, thing: Any) -> bool:
        return thing.place in self._slab and self._slab.get(thing.place) is thing

    def __iter__(self) -> Iterator[T]:
        """What is here throughout comes exactly once, whatever comes and goes meanwhile."""
        return core.walk(self.scan)

    def add(self, thing: Any) -> None:
        """Nothing where it is here already."""
        if thing not in self:
            thing.place = self._slab.put(thing)

    def discard(self, thing: Any) -> None:
        """Nothing where it is not here."""
        if thing in self:
            self._slab.take(thing.place)
            thing.place = 0

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[T]]:
        """Up to ``count`` of them, and the cursor to go on with, 0 at the end."""
        cursor, found = self._slab.scan(cursor, count)
        return cursor, [thing for _place, thing in found]


class Rolls:
    """Sources one after the other, each of which may come and go as well."""

    __slots__ = ("_sources",)

    def __init__(self) -> None:
        self._sources: core.Slab[Source] = core.Slab()

    def put(self, source: Source) -> int:
        """The handle to take it out by."""
        return self._sources.put(source)

    def take(self, handle: int) -> None:
        self._sources.take(handle)

    def __iter__(self) -> Iterator[Any]:
        for _handle, source in core.walk(self._sources.scan):
            yield from core.walk(source.scan)

    def page(self, cursor: str | None = None, count: int = 100) -> tuple[str | None, list[Any]]:
        """Up to ``count``, and the cursor to go on with, None at the end. ValueError for a cursor that is none."""
        handle, inner = read_cursor(cursor, 2) if cursor is not None else (0, 0)
        found: list[Any] = []
        while True:
            after, first = self._sources.scan(handle & INDEX_MASK, 1)
            if not first:
                return None, found
            if first[0][0] != handle:  # the first one, or that of the cursor has gone
                handle, inner = first[0][0], 0
            inner, some = first[0][1].scan(inner, count - len(found))
            found += some
            if not inner:
                if not after:
                    return None, found
                handle = after
            if len(found) >= count:
                return write_cursor(handle, inner), found


def write_cursor(*numbers: int) -> str:
    return ".".join(f"{number:x}" for number in numbers)


def read_cursor(text: str, count: int) -> list[int]:
    """The numbers of a cursor. ValueError where it is none."""
    try:
        numbers = [int(part, 16) for part in text.split(".")]
    except (ValueError, AttributeError):
        numbers = []
    if len(numbers) != count or not all(0 <= number < 1 << 63 for number in numbers):
        raise ValueError(f"{text!r} is not a cursor of these pages")
    return numbers
