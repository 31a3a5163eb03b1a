"""Forms of an elicitation: from a type to the flat JSON Schema that clients can draw, and from the answer to the
type."""

from __future__ import annotations

from typing import Any

from erlmcp.errors import ConfigurationError, ToolError
from erlmcp.server.decode import Builder
from erlmcp.server.scalar import Mismatch
from erlmcp.server.schema import SchemaBuilder
from erlmcp.server.shape import Reader

_FLAT = ("string", "number", "integer", "boolean", "array")


def form_schema(wanted: Any) -> dict[str, Any]:
    """The ``requestedSchema``; raises ConfigurationError for a type that is no flat form (spec: client/elicitation)."""
    if wanted is None:
        return {"type": "object", "properties": {}}
    if isinstance(wanted, dict):
        return wanted
    builder = SchemaBuilder()
    schema = builder.finish(builder.build(Reader().read(wanted)))
    if schema.get("type") != "object":
        schema = {"type": "object", "properties": {"value": schema}, "required": ["value"]}
    if isinstance(schema.get("additionalProperties"), dict):
        raise ConfigurationError(f"{wanted!r} has fields without names; elicitation forms are flat and name each one")
    for name, part in schema.get("properties", {}).items():
        if part.get("type") not in _FLAT and "enum" not in part and "const" not in part:
            raise ConfigurationError(
                f"the form field {name!r} is not a string, number, boolean or choice; elicitation forms are flat"
            )
    return schema


def form_data(wanted: Any, content: dict[str, Any]) -> Any:
    """The filled form as the type that was asked for (the content itself for a JSON Schema); raises ToolError where
    the client's answer does not fit it."""
    if wanted is None or isinstance(wanted, dict):
        return content
    shape = Reader().read(wanted)
    schema = SchemaBuilder()
    is_object = schema.finish(schema.build(shape)).get("type") == "object"
    decode = Builder().build(shape).call
    value = content if is_object else content.get("value")
    try:
        return value if decode is None else decode(value)
    except Mismatch as error:
        raise ToolError(f"the client's answer does not fit the form: {error}") from None
