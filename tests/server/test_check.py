"""Input schemas by the author, and the light check of values against them."""

from __future__ import annotations

from typing import Any

import pytest

from erlmcp.errors import ArgumentError, ConfigurationError
from erlmcp.server.check import check_value
from erlmcp.server.plan import compile_tool


def message_of(call: Any, *args: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        call(*args)
    return str(caught.value)


SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}}}},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_a_schema_by_the_author_is_listed_as_it_is_and_checked() -> None:
    def tool(arguments: dict[str, Any]) -> Any:
        return arguments

    plan = compile_tool(tool, input_schema=SCHEMA)
    assert plan.descriptor["inputSchema"] == SCHEMA
    assert plan.invoke({"name": "a", "address": {"street": "x"}}, None) == {"name": "a", "address": {"street": "x"}}
    said = message_of(plan.invoke, {"address": {"street": 1}, "z": 1}, None)
    assert "name: missing" in said
    assert "address.street: expected string, got integer 1" in said
    assert "z: unknown property" in said


def test_with_a_schema_by_the_author_parameters_are_passed_by_name() -> None:
    def tool(name: str, address: dict[str, Any] | None = None) -> Any:
        return name, address

    def rest(name: str, **others: Any) -> Any:
        return name, others

    assert compile_tool(tool, input_schema=SCHEMA).invoke({"name": "a"}, None) == ("a", None)
    assert compile_tool(rest, input_schema=SCHEMA).invoke({"name": "a", "address": {}}, None) == ("a", {"address": {}})

    def strange(other: int, name: str) -> None: ...

    with pytest.raises(ConfigurationError, match="'other' is no property"):
        compile_tool(strange, input_schema=SCHEMA)
    with pytest.raises(ConfigurationError, match="'type': 'object'"):
        compile_tool(tool, input_schema={"type": "array"})


CHECKS: list[tuple[Any, Any, bool]] = [
    (True, 1, True),
    (False, 1, False),
    ({"type": "integer"}, 5.0, True),
    ({"type": "integer"}, True, False),
    ({"type": ["string", "null"]}, None, True),
    ({"const": 1}, True, False),
    ({"const": [1, {"a": 2}]}, [1.0, {"a": 2}], True),
    ({"enum": ["a", 1]}, "b", False),
    ({"minimum": 1, "exclusiveMaximum": 3}, 3, False),
    ({"multipleOf": 0.1}, 0.3, True),
    ({"minLength": 2}, "a", False),
    ({"pattern": "^a"}, "ba", False),
    ({"pattern": "(?<broken"}, "x", True),
    ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["a", 1], True),
    ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["a", "b"], False),
    ({"maxItems": 1}, [1, 2], False),
    ({"propertyNames": {"pattern": "^a"}}, {"b": 1}, False),
    ({"minProperties": 1}, {}, False),
    ({"additionalProperties": {"type": "integer"}}, {"a": "x"}, False),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, None, False),
    ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, 1, False),
    ({"allOf": [{"minimum": 0}, {"maximum": 3}]}, 4, False),
    ({"not": {"type": "string"}}, "a", False),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, 1, False),
    ({"$ref": "#/$defs/none"}, 1, True),
    ({"$ref": "https://example.com/never-fetched"}, 1, True),
    ({"$ref": "#"}, 1, True),
]


@pytest.mark.parametrize(("schema", "value", "fits"), CHECKS)
def test_the_light_check_knows_the_common_keywords(schema: Any, value: Any, fits: bool) -> None:
    assert (check_value(schema, value) == []) is fits
