"""Schemas as FastMCP lists them: without the titles that only repeat a name, and without references where none is
needed; and what pydantic says of arguments that do not fit, which is what FastMCP says."""

from __future__ import annotations

import collections.abc as abc
import copy
import inspect
import types
import typing
from typing import Any

from erlmcp.server.content import is_protocol_class
from erlmcp.server.convert import plan_conversion
from erlmcp.server.plan import ToolPlan
from erlmcp.server.schema import SchemaBuilder
from erlmcp.server.shape import Reader, Shape

Json = dict[str, Any]
WRAPS = "x-fastmcp-wrap-result"
DEPTH_MAX = 64
# Keywords whose value maps names to schemas: a title in there is a name.
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_SEQUENCES = (list, tuple, abc.Sequence)
_VALUES = frozenset({"default", "const", "enum", "examples"})


def without_titles(node: Any, *, names: bool = False) -> Any:
    """A schema without ``title``; a property of that name stays."""
    if isinstance(node, list):
        return [without_titles(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {}
    for key, each in node.items():
        if not names and key == "title" and isinstance(each, str):
            continue
        made[key] = each if key in _VALUES and not names else without_titles(each, names=not names and key in _NAMED)
    return made


def dereferenced(schema: Json) -> Json:
    """The schema with every reference written out; as it came where one leads back to itself."""
    defs = schema.get("$defs")
    if not isinstance(defs, dict):
        return schema

    def put(node: Any, open: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [put(each, open) for each in node]
        if not isinstance(node, dict):
            return node
        ref = node.get("$ref")
        if isinstance(ref, str) and ref.startswith("#/$defs/"):
            name = ref.removeprefix("#/$defs/")
            if name in open or len(open) > DEPTH_MAX:
                raise RecursionError(name)
            rest = {key: each for key, each in node.items() if key != "$ref"}
            return put({**copy.deepcopy(defs.get(name, {})), **rest}, (*open, name))
        return {key: put(each, open) for key, each in node.items() if key != "$defs"}

    try:
        made: Json = put(schema, ())
    except RecursionError:
        return schema
    return made


def listed_input(plan: ToolPlan) -> Json:
    """The arguments of a tool. Titles that the author wrote for a parameter stay."""
    made: Json = without_titles(plan.descriptor["inputSchema"])
    for each in plan.binding.arguments:
        if each.facts.title is not None and each.key in made["properties"]:
            made["properties"][each.key]["title"] = each.facts.title
    return made


def listed_output(plan: ToolPlan) -> Json | None:
    """What a tool's annotation says of its values; None where that is nothing."""
    hint = _without_questions(plan.binding.return_hint)
    conversion = plan.conversion
    if hint is not plan.binding.return_hint:
        conversion = plan_conversion(plan.conversion.label, hint)
    if conversion.output_schema is None or _says_nothing(hint):
        return None
    builder = _Output()
    made: Json = without_titles(builder.finish(builder.build(Reader().read(hint))))
    if not conversion.wraps:
        return made
    defs = made.pop("$defs", None)
    wrapped: Json = {"type": "object", "properties": {"result": made}, "required": ["result"], WRAPS: True}
    return wrapped if defs is None else {**wrapped, "$defs": defs}


def _without_questions(hint: Any) -> Any:
    """The hint without InputRequiredResult, which is a question and no value."""
    arms = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    kept = [each for each in arms if not (is_protocol_class(each) and each.__name__ == "InputRequiredResult")]
    return hint if len(kept) == len(arms) else typing.Union[tuple(kept)]  # noqa: UP007


class _Output(SchemaBuilder):
    """Schemas of values that are written, where fields with a default keep it and are not required."""

    def _build_decimal(self, shape: Shape) -> Json:
        return SchemaBuilder(output=True).build(shape)

    def _build_foreign(self, shape: Shape) -> Json:
        self.output = True
        try:
            return super()._build_foreign(shape)
        finally:
            self.output = False


def _says_nothing(hint: Any) -> bool:
    bare = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    of_what = [each for each in typing.get_args(bare) if each is not ...]
    if (typing.get_origin(bare) or bare) in _SEQUENCES and all(each in (Any, object) for each in of_what):
        return True
    return _says_bytes(bare)


def _says_bytes(hint: Any) -> bool:
    return hint in (bytes, bytearray) or any(_says_bytes(each) for each in typing.get_args(hint))


def validator(plan: ToolPlan) -> Any:
    """pydantic's view of the tool's arguments: validating gives them by name, and its errors are FastMCP's."""
    from pydantic import TypeAdapter

    target = plan.binding.call
    signature = inspect.signature(target)
    kept = {each.name: each for each in plan.binding.arguments}
    parameters = [
        each.replace(annotation=kept[name].hint) for name, each in signature.parameters.items() if name in kept
    ]

    def collect(**given: Any) -> dict[str, Any]:
        return given

    collect.__name__ = collect.__qualname__ = getattr(target, "__name__", type(target).__name__)
    made: Any = collect
    made.__signature__ = signature.replace(parameters=parameters, return_annotation=dict)
    collect.__annotations__ = {each.name: each.annotation for each in parameters}
    adapter: Any = TypeAdapter
    return adapter(collect)
