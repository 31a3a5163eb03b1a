"""JSON Schemas as the SDK's clients know them: with pydantic's titles, and every named type in ``$defs``.

They are written by our own builder, so they come without pydantic; where a type belongs to pydantic, it writes it.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Mapping
from typing import Any

from erlmcp.server.bind import Argument, Binding
from erlmcp.server.foreign import foreign_schema
from erlmcp.server.schema import Json, SchemaBuilder, _refs, _rename_refs, apply_facts
from erlmcp.server.shape import Field, Reader, Shape, or_none

_NAMED = ("struct", "record", "alias")


def title_of(name: str) -> str:
    """What pydantic makes of a field's name: ``first_name`` -> ``First Name``."""
    return name.title().replace("_", " ").strip()


def is_model(shape: Shape) -> bool:
    """A class of pydantic's, whose schema has a name of its own."""
    return shape.kind == "foreign" and hasattr(shape.hint, "model_fields")


def has_title(shape: Shape) -> bool:
    """Does a field of this type get a title from its name? One of a named type has that type's."""
    if shape.kind == "bounded":
        return has_title(shape.items[0])
    if shape.kind == "union":
        rest = [each for each in shape.items if each.kind != "none"]
        return len(rest) != 1 or len(rest) == len(shape.items) or has_title(rest[0])
    return shape.kind not in _NAMED and shape.kind != "enum" and not is_model(shape)


class TitledBuilder(SchemaBuilder):
    """``SchemaBuilder`` with titles, and without writing definitions where they are used."""

    def finish(self, root: Json) -> Json:
        """Add ``$defs``; a root that is a bare ``$ref`` is written out."""
        name = str(root.get("$ref", "")).removeprefix("#/$defs/")
        if name in self._defs:
            root = {**self._defs[name], **{key: value for key, value in root.items() if key != "$ref"}}
        needed: dict[str, Json] = {}
        todo = [root]
        while todo:
            for found in _refs(todo.pop()):
                if found not in needed and found in self._defs:
                    needed[found] = self._defs[found]
                    todo.append(self._defs[found])
        return {**root, "$defs": needed} if needed else root

    def titled(self, name: str, shape: Shape, made: Json) -> Json:
        """A field's schema with its title."""
        return made if "title" in made or not has_title(shape) else {**made, "title": title_of(name)}

    def _field_schema(self, field: Field) -> Json:
        return self.titled(field.key, field.shape, super()._field_schema(field))

    def build(self, shape: Shape) -> Json:
        return {"type": "string", "format": "binary"} if shape.kind == "bytes" else super().build(shape)

    def _build_array(self, shape: Shape) -> Json:
        return {"items": self.build(shape.items[0]), **super()._build_array(shape)}

    def _build_map(self, shape: Shape) -> Json:
        made = super()._build_map(shape)
        if shape.items[0].kind == "int":
            del made["propertyNames"]
        return made

    def _build_enum(self, shape: Shape) -> Json:
        return self._named(shape, self._enum_body)

    def _enum_body(self, shape: Shape) -> Json:
        made = {**self._build_literal(shape), "title": shape.name or shape.hint.__name__}
        doc = shape.hint.__dict__.get("__doc__")
        if doc and doc != "An enumeration." and not issubclass(shape.hint, enum.Flag):
            made["description"] = inspect.cleandoc(doc)
        return made

    def _build_foreign(self, shape: Shape) -> Json:
        made = foreign_schema(shape.hint, output=False)
        found = made.pop("$defs", {})
        renamed: dict[str, str] = {}
        for name, body in found.items():
            if self._defs.get(name) != body:
                renamed[name] = name if name not in self._defs else self._free_name(name)
        for old, new in renamed.items():
            self._defs[new] = _rename_refs(found[old], renamed)
        result: Json = _rename_refs(made, renamed)
        if not is_model(shape) or "$ref" in result:
            return result
        name = shape.hint.__name__
        if self._defs.get(name) != result:
            name = self._free_name(name)
            self._defs[name] = result
        return {"$ref": f"#/$defs/{name}"}


def input_schema(binding: Binding, fn_name: str, raw_hints: Mapping[str, Any]) -> Json:
    """The input schema of a function's own parameters. ``raw_hints``: as they stand in the signature."""
    builder = TitledBuilder()
    properties = {each.key: argument_schema(builder, each, raw_hints) for each in binding.arguments}
    root: Json = {"type": "object", "properties": properties, "title": f"{fn_name}Arguments"}
    required = [each.key for each in binding.arguments if each.required]
    if required:
        root["required"] = required
    return builder.finish(root)


def argument_schema(builder: TitledBuilder, each: Argument, raw_hints: Mapping[str, Any]) -> Json:
    """One property."""
    if each.name not in raw_hints:
        return builder.with_default({"title": each.key, "type": "string"}, each.default)
    shape, raw = each.shape, raw_hints[each.name]
    if each.default is None and or_none(raw) is not raw:  # ``x: int = None`` says that it is an integer
        shape = Reader().read(raw)
    made = builder.build(shape)
    if shape.kind not in ("bounded", "foreign") or is_model(shape):
        made = apply_facts(made, each.facts)
    return builder.with_default(builder.titled(each.key, shape, made), each.default)


def output_schema(shape: Shape, fn_name: str, *, wraps: bool, title: str | None = None) -> Json:
    """The schema of a result: of the value, or of ``{"result": value}``."""
    builder = TitledBuilder()
    made = builder.build(shape)
    if not wraps:
        found = builder.finish(made)
        return found if title is None else {**found, "title": title}
    properties = {"result": builder.titled("result", shape, made)}
    root: Json = {"type": "object", "properties": properties, "required": ["result"], "title": f"{fn_name}Output"}
    return builder.finish(root)


def form_schema(shape: Shape) -> Json:
    """The schema of an elicitation's form: ``T | None`` as ``T``, and no default of None."""
    made = TitledBuilder()
    root = made.finish(made.build(shape))
    properties = {name: _flat(part, root.get("$defs", {})) for name, part in root.get("properties", {}).items()}
    found = {key: value for key, value in root.items() if key != "$defs"}
    return {**found, "properties": properties}


def _flat(part: Json, defs: Mapping[str, Json]) -> Json:
    made = dict(part)
    choices = made.pop("anyOf", None)
    if choices is not None:
        rest = [each for each in choices if each.get("type") != "null"]
        made = {**rest[0], **made} if len(rest) == 1 else {**made, "anyOf": rest}
    name = str(made.pop("$ref", "")).removeprefix("#/$defs/")
    if name:
        made = {**defs.get(name, {}), **made}
    if made.get("default", 0) is None:
        del made["default"]
    return made
