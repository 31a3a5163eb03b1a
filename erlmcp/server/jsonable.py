"""Python values -> JSON-native ones: str, int, float, bool, None, list, dict with str keys."""

from __future__ import annotations

import base64
import collections.abc as abc
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

from erlmcp.server.scalar import write_duration

_NATIVE = frozenset({str, int, float, bool, type(None)})


def to_jsonable(value: Any, fallback: Callable[[Any], Any] | None = None) -> Any:
    """Dataclasses and pydantic models become objects; enums their values; bytes base64; dates ISO 8601; sets lists
    (sorted where that is possible); numpy scalars and arrays what they hold.

    Raises TypeError for what has no JSON form, unless ``fallback`` gives one.
    """
    cls = value.__class__
    if cls in _NATIVE:
        return value
    if cls is dict:
        return {_key(key): to_jsonable(each, fallback) for key, each in value.items()}
    if cls is list or cls is tuple:
        return [to_jsonable(each, fallback) for each in value]
    return _convert(value, fallback)


def _key(key: Any) -> str:
    if key.__class__ is str:
        return str(key)
    made = to_jsonable(key)
    if isinstance(made, str):
        return made
    if made is None or isinstance(made, bool):
        return {None: "null", True: "true", False: "false"}[made]
    if isinstance(made, int | float):
        return str(made)
    raise TypeError(f"a {type(key).__name__} cannot be a key of a JSON object")


def _convert(value: Any, fallback: Callable[[Any], Any] | None) -> Any:
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {
            each.metadata.get("alias") or each.name: to_jsonable(getattr(value, each.name), fallback)
            for each in dataclasses.fields(value)
        }
    if isinstance(value, enum.Enum):
        return to_jsonable(value.value, fallback)
    for cls, make in _BY_CLASS:
        if isinstance(value, cls):
            return make(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, abc.Mapping):
        return {_key(key): to_jsonable(each, fallback) for key, each in value.items()}
    if isinstance(value, abc.Set):
        return _sorted([to_jsonable(each, fallback) for each in value])
    module = type(value).__module__
    if module == "numpy" or module.startswith("numpy."):
        return to_jsonable(value.tolist(), fallback)
    if isinstance(value, abc.Iterable) and not isinstance(value, abc.Iterator):
        return [to_jsonable(each, fallback) for each in value]
    if module.startswith("pydantic"):  # its URLs, secrets (which stay masked) and the like
        return str(value)
    if fallback is not None:
        return fallback(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def _sorted(values: list[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return values


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode("ascii")


_BY_CLASS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (bool, bool),
    (str, str),
    (int, int),
    (float, float),
    ((bytes, bytearray, memoryview), _base64),
    ((dt.datetime, dt.date, dt.time), lambda value: value.isoformat()),
    (dt.timedelta, write_duration),
    ((uuid.UUID, decimal.Decimal, pathlib.PurePath), str),
)
