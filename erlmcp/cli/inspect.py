"""``erlmcp inspect``: what a server offers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from erlmcp.cli.load import load_server
from erlmcp.cli.paint import columns, paint

# The descriptors' group -> its title, and the key of what names an entry.
KINDS = {
    "tools": ("tools", "name"),
    "resources": ("resources", "uri"),
    "resourceTemplates": ("resource templates", "uriTemplate"),
    "prompts": ("prompts", "name"),
}


def signature(item: dict[str, Any]) -> str:
    """A tool's or a prompt's arguments: ``(a: integer, b?: integer)``; nothing for a resource."""
    if "inputSchema" in item:
        schema = {"properties": {}, **item["inputSchema"]}
        required = schema.get("required", [])
        shown = [f"{name}{_mark(name in required)}: {type_name(value)}" for name, value in schema["properties"].items()]
        return f"({', '.join(shown)})"
    if "arguments" in item:
        known = [(argument["name"], argument.get("required", False)) for argument in item["arguments"]]
        return f"({', '.join(name + _mark(is_required) for name, is_required in known)})"
    return ""


def _mark(is_required: bool) -> str:
    return "" if is_required else "?"


def type_name(schema: object) -> str:
    """The few words that fit a column for a JSON Schema."""
    if not isinstance(schema, dict):
        return "any"
    if "enum" in schema or "const" in schema:
        return "|".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return "|".join(type_name(part) for part in schema[key])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"{type_name(schema.get('items', True))}[]"
    return "|".join(kind) if isinstance(kind, list) else str(kind)


def first_line(item: dict[str, Any]) -> str:
    return (item.get("description") or item.get("title") or "").strip().partition("\n")[0]


def run(options: argparse.Namespace) -> int:
    server = load_server(options.target, options.module, keep_traceback=options.traceback)
    offered = server.describe()
    if options.json:
        print(json.dumps(offered, indent=2, ensure_ascii=False, default=str))
        return 0
    show_offer(f"{server.name} {server.version}", offered)
    return 0


def show_offer(head: str, offered: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Print the descriptors of each kind in ``KINDS``, those that there are."""
    print(paint(head, "bold"))
    for kind, (title, key) in KINDS.items():
        rows = [(str(item.get(key)) + signature(item), first_line(item)) for item in offered.get(kind, [])]
        if rows:
            print(f"\n{paint(title, 'bold')} ({len(rows)})")
            print("\n".join(columns(rows)))
