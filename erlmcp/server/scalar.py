"""The scalar types: one function each from JSON value to Python value, and the complaint when it does not fit."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Call = Callable[[Any], Any]
Problem = tuple[tuple[str | int, ...], str]


class Mismatch(ValueError):
    """A value that does not fit; ``problems`` are (path, text) pairs, the path relative to the value."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(f"{join_path(path)}: {text}" if path else text for path, text in self.problems)


def join_path(path: Iterable[str | int]) -> str:
    """``("a", 0, "b")`` -> ``a[0].b``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def describe(value: object) -> str:
    """What came, for a message: its JSON type and its beginning."""
    if value is None:
        return "null"
    names = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
    name = next((name for cls, name in names if isinstance(value, cls)), type(value).__name__)
    if isinstance(value, list | dict):
        return f"{name} of {len(value)}"
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a very large one"
    return f"{name} {text if len(text) <= 60 else text[:57] + '...'}"


def wrong(expected: str, value: object) -> Mismatch:
    """The usual complaint."""
    return Mismatch([((), f"expected {expected}, got {describe(value)}")])


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


read_json = json.JSONDecoder(parse_constant=_refuse_constant).decode


def parsing(strict: Call, expected: str, guard: bool = True) -> Call:
    """Rule 2 around a decoder that takes no strings."""

    def decode(value: Any) -> Any:
        if not isinstance(value, str):
            return strict(value)
        try:
            parsed = read_json(value)
        except (ValueError, RecursionError):
            raise wrong(expected, value) from None
        if guard and isinstance(parsed, str):
            raise wrong(expected, value)
        return strict(parsed)

    return decode


@dataclass(slots=True)
class Decoder:
    """``call`` decodes (None: every value is right as it is). ``fast`` is an expression over ``{v}`` that is true
    only for values which need no call; ``classes`` are the JSON classes it is at home with (None: any); ``expected``
    names it in messages."""

    call: Call | None
    expected: str
    fast: str = ""
    classes: frozenset[type] | None = frozenset()

    @property
    def exact(self) -> type | None:
        """The class whose every instance is right as it is, if there is one."""
        return _EXACT.get(self.fast)


_EXACT: dict[str, type] = {f"{{v}}.__class__ is {cls.__name__}": cls for cls in (str, int, float, bool)}


def _int(value: Any) -> Any:
    if value.__class__ is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    raise wrong("integer", value)


def _float(value: Any) -> Any:
    if value.__class__ is float:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise wrong("number", value)


def _bool(value: Any) -> Any:
    if value is True or value is False:
        return value
    raise wrong("boolean", value)


def bool_word(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    return _bool(value)


def _str(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)
    raise wrong("string", value)


def _none(value: Any) -> Any:
    if value is None:
        return None
    raise wrong("null", value)


def from_text(read: Callable[[str], Any], expected: str) -> Call:
    def decode(value: Any) -> Any:
        if isinstance(value, str):
            try:
                return read(value)
            except (ValueError, ArithmeticError):
                pass
        raise wrong(expected, value)

    return decode


def _read_datetime(text: str) -> dt.datetime:
    if len(text) == 10:
        raise ValueError(text)
    return dt.datetime.fromisoformat(text)


_DURATION = re.compile(
    r"([+-])?P(?=.)(?:(\d+(?:\.\d+)?)W)?(?:(\d+(?:\.\d+)?)D)?"
    r"(?:T(?=.)(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)


def read_duration(text: str) -> dt.timedelta:
    """ISO 8601 without years and months, whose length is not fixed. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(text)
    sign, weeks, days, hours, minutes, seconds = found.groups()
    span = dt.timedelta(
        weeks=float(weeks or 0),
        days=float(days or 0),
        hours=float(hours or 0),
        minutes=float(minutes or 0),
        seconds=float(seconds or 0),
    )
    return -span if sign == "-" else span


def write_duration(span: dt.timedelta) -> str:
    """ISO 8601: ``P1DT2H3M4.5S``; zero is ``PT0S``."""
    sign = "-" if span < dt.timedelta(0) else ""
    span = abs(span)
    minutes, seconds = divmod(span.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{span.microseconds:06d}".rstrip("0") if span.microseconds else ""
    clock = "".join(f"{value}{unit}" for value, unit in ((hours, "H"), (minutes, "M")) if value)
    if seconds or fraction or not (clock or span.days):
        clock += f"{seconds}{fraction}S"
    return f"{sign}P{f'{span.days}D' if span.days else ''}{f'T{clock}' if clock else ''}"


def _timedelta(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return dt.timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise wrong("duration", value) from None
    return from_text(read_duration, "ISO 8601 duration")(value)


def _read_decimal(text: str) -> decimal.Decimal:
    number = decimal.Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    return number


def _decimal(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return decimal.Decimal(str(value))
    return from_text(_read_decimal, "decimal number")(value)


TEXT = frozenset({str})
SCALARS: dict[str, Decoder] = {
    "any": Decoder(None, "any value", "True", None),
    "none": Decoder(_none, "null", "{v} is None", frozenset({type(None)})),
    "str": Decoder(_str, "string", "{v}.__class__ is str", TEXT),
    "int": Decoder(_int, "integer", "{v}.__class__ is int", frozenset({int})),
    "float": Decoder(_float, "number", "{v}.__class__ is float", frozenset({float})),
    "bool": Decoder(_bool, "boolean", "{v}.__class__ is bool", frozenset({bool})),
    "bytes": Decoder(
        from_text(lambda text: base64.b64decode(text, validate=True), "base64 string"), "base64 string", "", TEXT
    ),
    "datetime": Decoder(from_text(_read_datetime, "ISO 8601 date and time"), "ISO 8601 date and time", "", TEXT),
    "date": Decoder(from_text(dt.date.fromisoformat, "ISO 8601 date"), "ISO 8601 date", "", TEXT),
    "time": Decoder(from_text(dt.time.fromisoformat, "ISO 8601 time"), "ISO 8601 time", "", TEXT),
    "timedelta": Decoder(_timedelta, "ISO 8601 duration", "", TEXT),
    "uuid": Decoder(from_text(uuid.UUID, "UUID"), "UUID", "", TEXT),
    "decimal": Decoder(_decimal, "decimal number", "", frozenset({int, float, str})),
}
TAKES_TEXT = frozenset({"any", "str", "bytes", "datetime", "date", "time", "timedelta", "uuid", "decimal", "path"})
