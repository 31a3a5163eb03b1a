"""What a tool returns -> its result on the wire, planned from the return annotation.

``kind`` tells a caller who writes results himself how far he can go without this module:

- "text": annotated ``str``; one text block, and ``{"result": text}`` as structured content;
- "text_only": annotated ``str``, structured output switched off;
- "value": annotated with a type whose Python values are JSON already; the text is the JSON of the value, structured
  content is the value, or ``{"result": value}`` where the value is no object (``wraps``);
- "none": annotated ``None``; no content;
- "convert": everything else, through ``Conversion.result``.

The shortcut holds while ``value.__class__ is result_class``; what came with another class goes through
``Conversion.result``, which checks it against the output schema.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from erlmcp.errors import ConfigurationError, ToolError
from erlmcp.server.check import check_value
from erlmcp.server.content import (
    ToolResult,
    _Media,
    block_like,
    blocks_of,
    dump_model,
    is_protocol_class,
    is_protocol_model,
    write_json,
)
from erlmcp.server.decode import Builder
from erlmcp.server.foreign import foreign_dump
from erlmcp.server.jsonable import to_jsonable
from erlmcp.server.param import MISSING
from erlmcp.server.scalar import Mismatch
from erlmcp.server.schema import SchemaBuilder
from erlmcp.server.shape import Reader, Shape, unwrap

Json = dict[str, Any]
TEXT, TEXT_ONLY, VALUE, NONE, CONVERT = "text", "text_only", "value", "none", "convert"
_NATIVE_CLASS: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}


@dataclass(slots=True, eq=False)
class Conversion:
    """How one tool's values become results."""

    label: str
    kind: str = CONVERT
    wraps: bool = False
    result_class: type | None = None
    output_schema: Json | None = None
    dump: Callable[[Any], Any] = to_jsonable
    check: Callable[[Any], list[str]] | None = None

    def result(self, value: Any) -> Json:
        """``{"content": [...], "structuredContent": ..., "isError": True, "_meta": {...}}``, absent keys left out.

        A result of ``mcp_types`` is taken as it is (with its ``resultType``), a ``ToolResult`` as it says. Raises
        ToolError where the value does not fit the output schema, or has no JSON form.
        """
        if isinstance(value, ToolResult):
            return self._whole(value)
        if is_protocol_model(value) and not block_like(value):
            made: Json = dump_model(value)
            return made
        if self.output_schema is None:
            return {"content": self._blocks(value)}
        try:
            plain = self.dump(value)
            problems = self.check(plain) if self.check is not None else None
            text = plain if plain.__class__ is str else write_json(plain)
        except Mismatch as error:
            problems = [str(error)]
        except (TypeError, ValueError, RecursionError) as error:
            raise ToolError(f"{self.label} returned what has no JSON form: {error}") from error
        if problems:
            self._refuse(problems)
        content = [] if value is None else [{"type": "text", "text": text}]
        return {"content": content, "structuredContent": {"result": plain} if self.wraps else plain}

    def _blocks(self, value: Any) -> list[Json]:
        try:
            return blocks_of(value)
        except (TypeError, ValueError, RecursionError, OSError) as error:
            raise ToolError(f"{self.label} returned what cannot be sent: {error}") from error

    def _whole(self, value: ToolResult) -> Json:
        made: Json = {}
        structured = value.structured
        if structured is not MISSING:
            structured = to_jsonable(structured)
            if self.output_schema is not None and not value.is_error:
                self._refuse(check_value(self.output_schema, structured))
        elif self.output_schema is not None and not value.is_error:
            raise ToolError(f"{self.label} has an output schema, but its ToolResult has no structured value")
        content = value.content
        if content is None and structured is not MISSING:
            content = structured
        made["content"] = self._blocks(content)
        if structured is not MISSING:
            made["structuredContent"] = structured
        if value.is_error:
            made["isError"] = True
        if value.meta is not None:
            made["_meta"] = dict(value.meta)
        return made

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            raise ToolError(f"{self.label} returned what does not fit its output schema: {'; '.join(problems)}")


def plan_conversion(
    label: str, hint: Any, *, structured: bool | None = None, output_schema: Mapping[str, Any] | None = None
) -> Conversion:
    """Plan from the return annotation (``inspect.Parameter.empty`` where there is none).

    ``structured`` None: an output schema where the annotation gives one; True: ConfigurationError where it does not;
    False: never. An ``output_schema`` by the author stands as it is: values are dumped and checked against it.
    """
    if output_schema is not None:
        schema = dict(output_schema)
        return Conversion(label, output_schema=schema, check=lambda plain: check_value(schema, plain))
    if _gives_content(hint):
        if structured:
            raise ConfigurationError(f"{label}: structured_output=True needs a return annotation that has a schema")
        return Conversion(label, kind=NONE if hint is None or hint is type(None) else CONVERT)
    shape = Reader().read(hint)
    if structured is False:
        return Conversion(label, kind=TEXT_ONLY, result_class=str) if shape.kind == "str" else Conversion(label)
    builder = SchemaBuilder(output=True)
    try:
        schema = builder.finish(builder.build(shape))
    except ConfigurationError:
        if structured:
            raise
        return Conversion(label)  # nothing was asked for: the value is sent as text
    wraps = schema.get("type") != "object"
    if wraps:
        defs = schema.pop("$defs", None)
        schema = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
        if defs:
            schema["$defs"] = defs
    made = Conversion(label, CONVERT, wraps, None, schema)
    while shape.kind == "bounded" and not (shape.facts and shape.facts.bounds):
        shape = shape.items[0]
    if shape.kind == "str":
        made.kind, made.result_class = TEXT, str
    elif shape.kind != "bounded" and _is_native(shape, set()):
        made.kind, made.result_class = VALUE, _class_of(shape)
    if shape.kind == "foreign":
        made.dump = foreign_dump(shape.hint)
    else:
        made.check = _output_check(shape)
    if made.result_class is None:
        made.kind = CONVERT
    return made


def _output_check(shape: Shape) -> Callable[[Any], list[str]] | None:
    """A check of dumped values by the decoders of their type, which are far quicker than a walk along the schema."""
    call = Builder(lax=False, plain=True).build(shape).call
    if call is None:
        return None

    def check(plain: Any) -> list[str]:
        try:
            call(plain)
        except Mismatch as mismatch:
            return [str(mismatch)]
        return []

    return check


def _gives_content(hint: Any) -> bool:
    """Annotations without a schema: none, ``None``, ``Any``, content objects, whole results, containers of them."""
    bare, _ = unwrap(hint)
    if bare in (inspect.Parameter.empty, None, type(None), Any, object):
        return True
    return _holds_content(bare)


def _holds_content(hint: Any) -> bool:
    bare, _ = unwrap(hint)
    if hasattr(bare, "__value__"):
        return False
    if isinstance(bare, type) and not typing.get_args(bare):
        return issubclass(bare, _Media | ToolResult) or hasattr(bare, "to_content") or is_protocol_class(bare)
    return any(_holds_content(each) for each in typing.get_args(bare) if not isinstance(each, str))


def _is_native(shape: Shape, seen: set[int]) -> bool:
    """Are the Python values of this type JSON as they are?"""
    if id(shape) in seen:
        return True
    seen.add(id(shape))
    if shape.kind in ("any", "none", "str", "int", "float", "bool"):
        return True
    if shape.kind == "literal":
        return all(value is member for value, member in shape.values)
    if shape.kind == "array":
        return shape.make is list and _is_native(shape.items[0], seen)
    if shape.kind == "map":
        return shape.items[0].kind == "str" and _is_native(shape.items[1], seen)
    if shape.kind == "struct":
        return typing.is_typeddict(shape.hint) and all(_is_native(each.shape, seen) for each in shape.fields)
    if shape.kind in ("union", "bounded", "alias"):
        return all(_is_native(each, seen) for each in shape.items)
    return False


def _class_of(shape: Shape) -> type | None:
    if shape.kind == "array":
        return list
    if shape.kind in ("map", "struct"):
        return dict
    return _NATIVE_CLASS.get(shape.kind)
