"""Structured results as Python values: what a tool's output schema says of them."""

from __future__ import annotations

import datetime as dt
import keyword
import re
from collections.abc import Mapping
from dataclasses import field, make_dataclass
from typing import Any

_WORD = re.compile(r"\W+")
DEPTH_MAX = 64


def typed_value(schema: Any, value: Any, root: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """Objects with named properties become dataclasses, times times, arrays without doubles sets; all else stays."""
    root = schema if root is None else root
    schema = _resolved(schema, root)
    if not isinstance(schema, Mapping) or depth > DEPTH_MAX:
        return value
    if isinstance(value, dict):
        return _object(schema, value, root, depth)
    if isinstance(value, list):
        return _array(schema, value, root, depth)
    if isinstance(value, str) and schema.get("type") == "string":
        return _text(schema.get("format"), value)
    for part in schema.get("anyOf", ()) if value is not None else ():
        made = typed_value(part, value, root, depth + 1)
        if made is not value:
            return made
    if isinstance(value, int) and not isinstance(value, bool) and schema.get("type") == "number":
        return float(value)
    return value


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    ref = schema.get("$ref") if isinstance(schema, Mapping) else None
    if isinstance(ref, str) and ref.startswith("#/$defs/"):
        return root.get("$defs", {}).get(ref.removeprefix("#/$defs/"), {})
    return schema


def _text(format: Any, value: str) -> Any:
    try:
        if format == "date-time":
            return dt.datetime.fromisoformat(value)
        if format == "date":
            return dt.date.fromisoformat(value)
    except ValueError:
        pass
    return value


def _array(schema: Mapping[str, Any], value: list[Any], root: Mapping[str, Any], depth: int) -> Any:
    if "items" not in schema:
        found = next((part for part in schema.get("anyOf", ()) if _resolved(part, root).get("type") == "array"), None)
        if found is None:
            return value
        schema = _resolved(found, root)
    made = [typed_value(schema.get("items", {}), each, root, depth + 1) for each in value]
    if schema.get("uniqueItems"):
        try:
            return set(made)
        except TypeError:
            return made
    return made


def _object(schema: Mapping[str, Any], value: dict[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    properties = schema.get("properties")
    if not properties:
        found = next((part for part in schema.get("anyOf", ()) if _resolved(part, root).get("properties")), None)
        if found is not None:
            return typed_value(found, value, root, depth + 1)
        rest = schema.get("additionalProperties")
        if isinstance(rest, Mapping):
            return {name: typed_value(rest, each, root, depth + 1) for name, each in value.items()}
        return value
    names = {name: _attribute(name) for name in properties}
    fields = [(names[name], Any, field(default=each.get("default"))) for name, each in properties.items()]
    made = make_dataclass(_attribute(str(schema.get("title") or "Root")), fields, kw_only=True)
    given = {
        names[name]: typed_value(properties[name], each, root, depth + 1)
        for name, each in value.items()
        if name in names
    }
    return made(**given)


def _attribute(name: str) -> str:
    found = _WORD.sub("_", name)
    if not found or found[0].isdigit() or keyword.iskeyword(found):
        return f"field_{found}"
    return found
