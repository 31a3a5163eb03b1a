"""JSON Schema 2020-12 from shapes.

Structures that contain themselves, or that are used more than once, live in ``$defs``; all others are written where
they are used, since many clients read ``$ref`` badly. No ``additionalProperties: false`` unless the author asked to
be strict.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from erlmcp.errors import ConfigurationError
from erlmcp.server.foreign import foreign_schema
from erlmcp.server.jsonable import to_jsonable
from erlmcp.server.param import HEADER_KEY, MISSING, NUMBER_KEYWORDS, Facts
from erlmcp.server.shape import Field, Shape

Json = dict[str, Any]

_SIMPLE: dict[str, Json] = {
    "any": {},
    "none": {"type": "null"},
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "datetime": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "timedelta": {"type": "string", "format": "duration"},
    "uuid": {"type": "string", "format": "uuid"},
    "path": {"type": "string", "format": "path"},
}
_DECIMAL_TEXT = {"type": "string", "pattern": r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"}
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_LENGTHS = {"string": "Length", "array": "Items", "object": "Properties"}


class SchemaBuilder:
    """Builds the schemas of one root; ``output`` says that values of the types are written, not read."""

    def __init__(self, *, output: bool = False) -> None:
        self.output = output
        self._defs: dict[str, Json] = {}
        self._names: dict[Any, str] = {}
        self._keep: list[Shape] = []

    def build(self, shape: Shape) -> Json:
        """The schema of one shape; what it refers to is kept for ``finish``. Raises ConfigurationError."""
        if shape.kind in _SIMPLE:
            return dict(_SIMPLE[shape.kind])
        made: Json = getattr(self, f"_build_{shape.kind}")(shape)
        return made

    def finish(self, root: Json) -> Json:
        """Add ``$defs``, without those that are used once. The root is always written out, never a bare ``$ref``."""
        ref = root.get("$ref")
        if isinstance(ref, str) and ref.removeprefix("#/$defs/") in self._defs:
            rest = {key: value for key, value in root.items() if key != "$ref"}
            root = {**copy.deepcopy(self._defs[ref.removeprefix("#/$defs/")]), **rest}
        return inline_defs(root, self._defs)

    def _build_decimal(self, shape: Shape) -> Json:
        return dict(_DECIMAL_TEXT) if self.output else {"anyOf": [{"type": "number"}, dict(_DECIMAL_TEXT)]}

    def _build_literal(self, shape: Shape) -> Json:
        return _choice(to_jsonable(value) for value, _ in shape.values)

    _build_enum = _build_literal

    def _build_union(self, shape: Shape) -> Json:
        members: list[Json] = []
        for each in shape.items:
            made = self.build(each)
            for part in made["anyOf"] if set(made) == {"anyOf"} else [made]:
                if part not in members:
                    members.append(part)
        if {} in members:
            return {}
        return members[0] if len(members) == 1 else {"anyOf": members}

    def _build_array(self, shape: Shape) -> Json:
        made: Json = {"type": "array"}
        item = self.build(shape.items[0])
        if item:
            made["items"] = item
        if shape.make in (set, frozenset):
            made["uniqueItems"] = True
        return made

    def _build_tuple(self, shape: Shape) -> Json:
        made: Json = {"type": "array"}
        if shape.items:
            made["prefixItems"] = [self.build(each) for each in shape.items]
        return {**made, "minItems": len(shape.items), "maxItems": len(shape.items)}

    def _build_map(self, shape: Shape) -> Json:
        made: Json = {"type": "object"}
        keys = _key_schema(self.build(shape.items[0]))
        if keys:
            made["propertyNames"] = keys
        values = self.build(shape.items[1])
        made["additionalProperties"] = values or True
        return made

    def _build_struct(self, shape: Shape) -> Json:
        return self._named(shape, self._struct_body)

    def _build_record(self, shape: Shape) -> Json:
        return self._named(shape, self._record_body)

    def _build_alias(self, shape: Shape) -> Json:
        return self._named(shape, lambda alias: self.build(alias.items[0]))

    def _named(self, shape: Shape, body: Callable[[Shape], Json]) -> Json:
        name = self._names.get(id(shape))
        if name is None:
            name = self._names[id(shape)] = self._free_name(_type_name(shape))
            self._keep.append(shape)
            self._defs[name] = {}
            self._defs[name] = body(shape)
        return {"$ref": f"#/$defs/{name}"}

    def _free_name(self, wanted: str) -> str:
        name, serial = wanted, 1
        while name in self._defs:
            serial += 1
            name = f"{wanted}_{serial}"
        return name

    def _struct_body(self, shape: Shape) -> Json:
        made: Json = {"type": "object", "title": shape.name}
        if shape.description:
            made["description"] = shape.description
        made["properties"] = {each.key: self._field_schema(each) for each in shape.fields}
        required = [each.key for each in shape.fields if each.required or (self.output and shape.make is shape.hint)]
        if required:
            made["required"] = required
        return made

    def _record_body(self, shape: Shape) -> Json:
        parts = [{"title": each.name, **self._field_schema(each)} for each in shape.fields]
        least = len(parts) if self.output else sum(1 for each in shape.fields if each.required)
        return {
            "type": "array",
            "title": shape.name,
            "prefixItems": parts,
            "minItems": least,
            "maxItems": len(parts),
        }

    def _field_schema(self, field: Field) -> Json:
        made = self.build(field.shape)
        if field.description and "description" not in made:
            made["description"] = field.description
        return self.with_default(made, field.default)

    def with_default(self, made: Json, default: object) -> Json:
        """Add ``default`` where there is one that JSON can hold."""
        if default is not MISSING and not self.output:
            try:
                value = to_jsonable(default)
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError):
                return made
            made["default"] = value
        return made

    def _build_bounded(self, shape: Shape) -> Json:
        return apply_facts(self.build(shape.items[0]), shape.facts or Facts())

    def _build_foreign(self, shape: Shape) -> Json:
        made = foreign_schema(shape.hint, output=self.output)
        prune_titles(made)
        defs = made.pop("$defs", {})
        renamed: dict[str, str] = {}
        for name, body in defs.items():
            if self._defs.get(name) != body:
                renamed[name] = name if name not in self._defs else self._free_name(name)
        for old, new in renamed.items():
            self._defs[new] = _rename_refs(defs[old], renamed)
        result: Json = _rename_refs(made, renamed)
        return result


def _choice(values: Iterable[Any]) -> Json:
    options = list(values)
    types = list(dict.fromkeys(_JSON_TYPES.get(type(value), "") for value in options))
    made: Json = {"const": options[0]} if len(options) == 1 else {"enum": options}
    if len(types) == 1 and types[0]:
        made["type"] = types[0]
    return made


def _key_schema(schema: Json) -> Json:
    if schema.get("type") == "integer":
        return {"pattern": r"^-?\d+$"}
    if schema in ({}, {"type": "string"}) or schema.get("type") != "string":
        return {}
    return schema


def _type_name(shape: Shape) -> str:
    args = getattr(shape.hint, "__args__", ())
    parts = [shape.name, *(getattr(each, "__name__", str(each)) for each in args)]
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "_".join(parts)).strip("_")


def apply_facts(schema: Json, facts: Facts) -> Json:
    """Write what was said beside the type into its schema."""
    targets = [part for part in schema.get("anyOf", [schema]) if isinstance(part, dict)]
    for target in targets:
        kind = target.get("type")
        if kind in ("integer", "number"):
            for name, keyword in NUMBER_KEYWORDS.items():
                if (bound := getattr(facts, name)) is not None:
                    target[keyword] = bound
        elif kind in _LENGTHS:
            if facts.min_length is not None:
                target[f"min{_LENGTHS[kind]}"] = facts.min_length
            if facts.max_length is not None:
                target[f"max{_LENGTHS[kind]}"] = facts.max_length
        if kind == "string" and facts.pattern is not None:
            target["pattern"] = facts.pattern
    if facts.title is not None:
        schema["title"] = facts.title
    if facts.description is not None:
        schema["description"] = facts.description
    if facts.examples is not None:
        schema["examples"] = to_jsonable(facts.examples)
    if facts.deprecated:
        schema["deprecated"] = True
    schema.update(facts.extra)
    if facts.extra_call is not None:
        facts.extra_call(schema)
    return schema


def _rename_refs(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        made = {key: _rename_refs(value, names) for key, value in node.items()}
        ref = made.get("$ref")
        if isinstance(ref, str) and ref.startswith("#/$defs/"):
            name = ref.removeprefix("#/$defs/")
            made["$ref"] = f"#/$defs/{names.get(name, name)}"
        return made
    if isinstance(node, list):
        return [_rename_refs(each, names) for each in node]
    return node


def prune_titles(node: Any) -> None:
    """Take off the titles that pydantic makes from property names: they cost a model's tokens and say nothing new."""
    if isinstance(node, dict):
        properties = node.get("properties")
        if isinstance(properties, dict):
            for name, each in properties.items():
                if isinstance(each, dict) and each.get("title") == name.replace("_", " ").title():
                    del each["title"]
        for each in node.values():
            prune_titles(each)
    elif isinstance(node, list):
        for each in node:
            prune_titles(each)


def _refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        ref = node.get("$ref")
        own = [ref.removeprefix("#/$defs/")] if isinstance(ref, str) and ref.startswith("#/$defs/") else []
        return own + [name for each in node.values() for name in _refs(each)]
    if isinstance(node, list):
        return [name for each in node for name in _refs(each)]
    return []


def inline_defs(root: Json, defs: Mapping[str, Json]) -> Json:
    """``root`` with the ``$defs`` it needs; a definition used once, and not by itself, is written where it is used."""
    reach: dict[str, set[str]] = {}
    count: dict[str, int] = {}
    todo = [root]
    while todo:
        for name in _refs(todo.pop()):
            count[name] = count.get(name, 0) + 1
            if count[name] == 1 and name in defs:
                todo.append(defs[name])
    for name in count:
        reach[name] = _reachable(name, defs)
    once = {name for name, uses in count.items() if uses == 1 and name not in reach[name] and name in defs}

    def put(node: Any) -> Any:
        if isinstance(node, list):
            return [put(each) for each in node]
        if not isinstance(node, dict):
            return node
        name = str(node.get("$ref", "")).removeprefix("#/$defs/")
        if name in once:
            rest = {key: value for key, value in node.items() if key != "$ref"}
            return put({**defs[name], **rest})
        return {key: put(value) for key, value in node.items()}

    made: Json = put(root)
    kept = {name: put(defs[name]) for name in defs if name in count and name not in once}
    if kept:
        made["$defs"] = kept
    return made


def _reachable(name: str, defs: Mapping[str, Json]) -> set[str]:
    seen: set[str] = set()
    todo = [name]
    while todo:
        for each in _refs(defs.get(todo.pop(), {})):
            if each not in seen:
                seen.add(each)
                todo.append(each)
    return seen


class ParamHeader(NamedTuple):
    """One argument that is mirrored into an HTTP header: where it is in ``arguments``, and its JSON type."""

    path: tuple[str, ...]
    type: str
    name: str


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def param_headers(schema: Json, label: str) -> dict[str, ParamHeader]:
    """The ``x-mcp-header`` properties of an input schema by lower-case header name (``mcp-param-region``).

    Raises ConfigurationError where one breaks the rules of 2026-07-28 (Streamable HTTP): a token, unique without
    regard to case, on a string, integer or boolean, reachable through ``properties`` alone.
    """
    found: dict[str, ParamHeader] = {}
    legal: set[int] = set()

    def walk(node: Json, path: tuple[str, ...]) -> None:
        properties = node.get("properties")
        for key, each in (properties if isinstance(properties, dict) else {}).items():
            if not isinstance(each, dict):
                continue
            if HEADER_KEY in each:
                legal.add(id(each))
                _add_header(found, each, (*path, key), label)
            walk(each, (*path, key))

    walk(schema, ())
    _refuse_strays(schema, legal, label)
    return found


def _add_header(found: dict[str, ParamHeader], node: Json, path: tuple[str, ...], label: str) -> None:
    name, kind = node[HEADER_KEY], node.get("type")
    where = f"{label}, argument {'.'.join(path)!r}"
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ConfigurationError(f"{where}: header {name!r} is not a token of RFC 9110, such as 'Region'")
    if kind not in ("string", "integer", "boolean"):
        raise ConfigurationError(
            f"{where}: only a str, int or bool can be mirrored into header {name!r}, not {kind or 'a union'}; "
            "give an optional one a default of its own type"
        )
    key = f"mcp-param-{name.lower()}"
    if key in found:
        raise ConfigurationError(f"{where}: header {name!r} is used twice")
    found[key] = ParamHeader(path, kind, name)


def _refuse_strays(node: Any, legal: set[int], label: str, is_schema: bool = True) -> None:
    if isinstance(node, list):
        for each in node:
            _refuse_strays(each, legal, label)
    elif isinstance(node, dict):
        if is_schema and HEADER_KEY in node and id(node) not in legal:
            raise ConfigurationError(
                f"{label}: {HEADER_KEY} {node[HEADER_KEY]!r} stands where only properties of objects may carry it"
            )
        for key, each in node.items():
            if key in ("properties", "$defs", "patternProperties", "dependentSchemas") and is_schema:
                for inner in each.values() if isinstance(each, dict) else ():
                    _refuse_strays(inner, legal, label)
            elif key not in ("default", "examples", "const", "enum"):
                _refuse_strays(each, legal, label)
