"""Values as the SDK takes them: by pydantic's rules, which are more lenient than ours, and bytes as text.

What our decoders take is taken by them, so that a good argument costs nothing more; only what they refuse is looked at
again: ``true`` for a number, ``1`` or ``"yes"`` for a boolean, a midnight or seconds since 1970 for a date.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from erlmcp.server.bind import Binding
from erlmcp.server.decode import Builder
from erlmcp.server.scalar import TEXT, Decoder, Mismatch, wrong
from erlmcp.server.shape import Shape

_YES = frozenset({"1", "true", "t", "yes", "y", "on"})
_NO = frozenset({"0", "false", "f", "no", "n", "off"})
_MILLISECONDS_FROM = 2e10  # greater numbers are milliseconds, as pydantic reads them
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY_S = 86400


def _number(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if isinstance(value, bool):
            return make(value)
        raise ValueError

    return read


def _boolean(value: Any) -> bool:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
    elif isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise ValueError


def _moment(value: Any) -> dt.datetime:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    seconds = value / 1000 if abs(value) > _MILLISECONDS_FROM else value
    return _EPOCH + dt.timedelta(seconds=seconds)


def _date(value: Any) -> dt.date:
    found = dt.datetime.fromisoformat(value) if isinstance(value, str) else _moment(value)
    if (found.hour, found.minute, found.second, found.microsecond) != (0, 0, 0, 0):
        raise ValueError
    return found.date()


_AGAIN: dict[str, Callable[[Any], Any]] = {
    "int": _number(int),
    "float": _number(float),
    "bool": _boolean,
    "datetime": _moment,
    "date": _date,
}


def _twice(first: Callable[[Any], Any], again: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decode(value: Any) -> Any:
        try:
            return first(value)
        except Mismatch as mismatch:
            try:
                return again(value)
            except (ValueError, OverflowError):
                raise mismatch from None

    return decode


def _read_bytes(shape: Shape) -> Decoder:
    make = bytearray if shape.hint is bytearray else bytes

    def decode(value: Any) -> Any:
        if not isinstance(value, str):
            raise wrong("string", value)
        return make(value.encode())

    return Decoder(decode, "string", "", TEXT)


class LenientBuilder(Builder):
    """Builds decoders that look again at what they refuse."""

    def build(self, shape: Shape) -> Decoder:
        if shape.kind == "bytes":
            return _read_bytes(shape)
        found = super().build(shape)
        again = _AGAIN.get(shape.kind)
        if again is None or found.call is None or not self.lax:
            return found
        return Decoder(_twice(found.call, again), found.expected, found.fast, found.classes)


def make_lenient(binding: Binding) -> None:
    """Give all arguments such decoders."""
    builder = LenientBuilder()
    for each in binding.arguments:
        each.decoder = builder.build(each.shape)


def holds_bytes(shape: Shape, seen: set[int] | None = None) -> bool:
    """Are there bytes somewhere in a type?"""
    seen = set() if seen is None else seen
    if id(shape) in seen:
        return False
    seen.add(id(shape))
    inner = (*shape.items, *(each.shape for each in shape.fields))
    return shape.kind == "bytes" or any(holds_bytes(each, seen) for each in inner)


def bytes_as_text(value: Any) -> Any:
    """A value with its bytes as strings. Raises UnicodeDecodeError for those that are no text."""
    if isinstance(value, bytes | bytearray):
        return value.decode()
    if isinstance(value, dict):
        return {bytes_as_text(key): bytes_as_text(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [bytes_as_text(each) for each in value]
    return value
