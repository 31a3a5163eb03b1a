"""``x-mcp-header`` (2026-07-28, Streamable HTTP): arguments that travel as headers too, so that proxies can route."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Final

HEADER_KEY: Final = "x-mcp-header"
PROPERTY_DEPTH_MAX: Final = 32
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PRIMITIVE = {"string", "integer", "boolean"}

Paths = dict[str, tuple[str, ...]]


def mirrored(schema: Any) -> Paths:
    """Header name (``Mcp-Param-Region``) -> the keys down to the argument that it mirrors.

    Raises ValueError, saying why, for a schema whose annotations break the rules: the client must not offer its tool.
    """
    found: Paths = {}
    _collect(schema, (), found)
    if _count(schema) != len(found):
        raise ValueError(f"{HEADER_KEY} stands where no chain of properties leads")
    return found


def _collect(schema: Any, path: tuple[str, ...], found: Paths) -> None:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or len(path) >= PROPERTY_DEPTH_MAX:
        return
    for name, item in properties.items():
        if not isinstance(item, dict):
            continue
        if HEADER_KEY in item:
            header = item[HEADER_KEY]
            if not isinstance(header, str) or not _TOKEN.fullmatch(header):
                raise ValueError(f"{HEADER_KEY} {header!r} is no header name")
            if item.get("type") not in _PRIMITIVE:
                raise ValueError(f"{HEADER_KEY} {header!r} is on a property that is no string, integer or boolean")
            full = f"Mcp-Param-{header}"
            if full.lower() in (other.lower() for other in found):
                raise ValueError(f"{HEADER_KEY} {header!r} is there twice")
            found[full] = (*path, name)
        _collect(item, (*path, name), found)


def _count(schema: Any, *, is_schema: bool = True, depth: int = 0) -> int:
    """How many annotations there are, wherever they stand; a property may be called like the keyword."""
    if depth > 2 * PROPERTY_DEPTH_MAX:
        return 0
    if isinstance(schema, list):
        return sum(_count(item, depth=depth + 1) for item in schema)
    if not isinstance(schema, dict):
        return 0
    own = 1 if is_schema and HEADER_KEY in schema else 0
    for key, item in schema.items():
        if key in ("const", "enum", "default", "examples") and is_schema:
            continue  # values, not schemas
        is_map = is_schema and key in ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
        own += _count(item, is_schema=not is_map, depth=depth + 1)
    return own


def headers_of(paths: Paths, arguments: Mapping[str, Any]) -> dict[str, str]:
    """The headers of a call with these arguments; what is absent or null has none."""
    found: dict[str, str] = {}
    for header, path in paths.items():
        value: Any = arguments
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, bool | int):
            found[header] = json.dumps(value)
        elif isinstance(value, str):
            found[header] = header_value(value)
    return found


def header_value(text: str) -> str:
    """``text`` as it may stand in Mcp-Name or Mcp-Param-*: itself, or in the base64 form."""
    is_plain = text.isascii() and text.isprintable() and text == text.strip() and text != ""
    looks_encoded = text.startswith("=?base64?") and text.endswith("?=")
    if is_plain and not looks_encoded:
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?=" if text else ""
