"""A light check of a JSON value against a JSON Schema that an author wrote by hand.

It knows type, const, enum, required, properties, additionalProperties, propertyNames, items, prefixItems, the bounds
of numbers, strings, arrays and objects, pattern, allOf, anyOf, oneOf, not, and references within the schema. Other
keywords are passed over, and no reference is ever fetched: what it refuses is wrong, what it lets pass may still be.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from erlmcp.server.bound import is_multiple
from erlmcp.server.scalar import describe, join_path

_PROBLEMS_MAX = 10
_DEPTH_MAX = 64
Path = tuple[str | int, ...]
_BOUNDS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("minimum", ">=", operator.ge),
    ("exclusiveMinimum", ">", operator.gt),
    ("maximum", "<=", operator.le),
    ("exclusiveMaximum", "<", operator.lt),
)


def check_value(schema: Mapping[str, Any] | bool, value: Any) -> list[str]:
    """What is wrong with ``value``, at most ten things; empty where nothing is."""
    found: list[tuple[Path, str]] = []
    _Checker(schema).check(schema, value, (), found, 0)
    return [f"{join_path(path)}: {text}" if path else text for path, text in found[:_PROBLEMS_MAX]]


def _is_type(value: Any, name: Any) -> bool:
    match name:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            if isinstance(value, float):
                return value.is_integer()
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list | tuple)
        case "object":
            return isinstance(value, dict)
    return True


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0 and does not equal true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(each, right[key]) for key, each in left.items())
    return bool(left == right)


class _Checker:
    def __init__(self, root: Mapping[str, Any] | bool) -> None:
        self.root = root

    def check(self, schema: Any, value: Any, path: Path, found: list[tuple[Path, str]], depth: int) -> None:
        if schema is False:
            found.append((path, "not allowed"))
        if not isinstance(schema, Mapping) or depth > _DEPTH_MAX or len(found) >= _PROBLEMS_MAX:
            return
        if "$ref" in schema:
            self.check(self._target(schema["$ref"]), value, path, found, depth + 1)
        names = schema.get("type")
        if names is not None:
            wanted = names if isinstance(names, list) else [names]
            if not any(_is_type(value, name) for name in wanted):
                found.append((path, f"expected {' or '.join(map(str, wanted))}, got {describe(value)}"))
                return
        if "const" in schema and not same(schema["const"], value):
            found.append((path, f"expected {schema['const']!r}, got {describe(value)}"))
        if "enum" in schema and not any(same(each, value) for each in schema["enum"]):
            found.append((path, f"expected one of {schema['enum']!r}, got {describe(value)}"))
        if isinstance(value, dict):
            self._check_object(schema, value, path, found, depth)
        elif isinstance(value, list | tuple):
            self._check_array(schema, value, path, found, depth)
        elif isinstance(value, str):
            self._check_string(schema, value, path, found)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self._check_number(schema, value, path, found)
        self._check_mixes(schema, value, path, found, depth)

    def _target(self, ref: Any) -> Any:
        if not isinstance(ref, str) or not ref.startswith("#"):
            return True
        node: Any = self.root
        for part in ref[1:].split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or part not in node:
                return True
            node = node[part]
        return node

    def _check_object(
        self, schema: Mapping[str, Any], value: Any, path: Path, found: list[tuple[Path, str]], depth: int
    ) -> None:
        for key in schema.get("required", ()):
            if key not in value:
                found.append(((*path, key), "missing"))
        properties = schema.get("properties", {})
        patterns = schema.get("patternProperties", {})
        rest = schema.get("additionalProperties", True)
        names = schema.get("propertyNames", True)
        for key, each in value.items():
            at = (*path, key)
            if key in properties:
                self.check(properties[key], each, at, found, depth + 1)
            elif rest is False and not patterns:
                found.append((at, "unknown property"))
            elif not patterns:
                self.check(rest, each, at, found, depth + 1)
            if names is not True:
                self.check(names, key, at, found, depth + 1)
        _check_size(schema, len(value), "Properties", path, found)

    def _check_array(
        self, schema: Mapping[str, Any], value: Any, path: Path, found: list[tuple[Path, str]], depth: int
    ) -> None:
        first = schema.get("prefixItems", ())
        rest = schema.get("items", True)
        for index, each in enumerate(value):
            self.check(first[index] if index < len(first) else rest, each, (*path, index), found, depth + 1)
        _check_size(schema, len(value), "Items", path, found)

    def _check_string(self, schema: Mapping[str, Any], value: str, path: Path, found: list[tuple[Path, str]]) -> None:
        _check_size(schema, len(value), "Length", path, found)
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            try:
                fits = re.search(pattern, value) is not None
            except re.error:  # a dialect that Python does not read
                return
            if not fits:
                found.append((path, f"expected a match of {pattern!r}, got {describe(value)}"))

    def _check_number(self, schema: Mapping[str, Any], value: Any, path: Path, found: list[tuple[Path, str]]) -> None:
        for keyword, sign, fits in _BOUNDS:
            bound = schema.get(keyword)
            if bound is not None and not fits(value, bound):
                found.append((path, f"expected a number {sign} {bound}, got {describe(value)}"))
        step = schema.get("multipleOf")
        if step is not None and not is_multiple(value, step):
            found.append((path, f"expected a multiple of {step}, got {describe(value)}"))

    def _check_mixes(
        self, schema: Mapping[str, Any], value: Any, path: Path, found: list[tuple[Path, str]], depth: int
    ) -> None:
        for each in schema.get("allOf", ()):
            self.check(each, value, path, found, depth + 1)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                fits = sum(1 for each in schema[keyword] if self._fits(each, value, depth))
                if fits == 0 or (keyword == "oneOf" and fits > 1):
                    found.append((path, f"fits {fits or 'none'} of the schemas of {keyword}, got {describe(value)}"))
        if "not" in schema and self._fits(schema["not"], value, depth):
            found.append((path, f"fits the schema of not, got {describe(value)}"))

    def _fits(self, schema: Any, value: Any, depth: int) -> bool:
        found: list[tuple[Path, str]] = []
        self.check(schema, value, (), found, depth + 1)
        return not found


def _check_size(schema: Mapping[str, Any], size: int, unit: str, path: Path, found: list[tuple[Path, str]]) -> None:
    least, most = schema.get(f"min{unit}"), schema.get(f"max{unit}")
    if least is not None and size < least:
        found.append((path, f"expected at least {least} {unit.lower()}, got {size}"))
    if most is not None and size > most:
        found.append((path, f"expected at most {most} {unit.lower()}, got {size}"))
