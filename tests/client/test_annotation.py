"""Arguments that travel as headers: which schemas may, and what the headers say."""

from __future__ import annotations

from typing import Any

import pytest

from erlmcp.client.annotation import HEADER_KEY, header_value, headers_of, mirrored


def tool(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def mark(header: Any, kind: Any = "string") -> dict[str, Any]:
    return {"type": kind, HEADER_KEY: header}


def test_marked_arguments_are_found_down_the_properties() -> None:
    inner = {"type": "object", "properties": {"zone": mark("Zone", "integer")}}
    schema = tool(region=mark("Region"), place=inner, **{HEADER_KEY: {"type": "string"}})
    paths = mirrored(schema)
    assert paths == {"Mcp-Param-Region": ("region",), "Mcp-Param-Zone": ("place", "zone")}
    arguments = {"region": "Malmö", "place": {"zone": 7}, "other": "x"}
    assert headers_of(paths, arguments) == {"Mcp-Param-Region": "=?base64?TWFsbcO2?=", "Mcp-Param-Zone": "7"}
    assert headers_of(paths, {"region": None}) == {}
    assert headers_of(paths, {"region": "", "place": 3}) == {"Mcp-Param-Region": ""}
    assert headers_of({"Mcp-Param-On": ("on",)}, {"on": True}) == {"Mcp-Param-On": "true"}
    assert mirrored(tool(a={"type": "string"})) == mirrored(None) == {}


@pytest.mark.parametrize(
    "schema",
    [
        tool(a=mark("")),
        tool(a=mark("two words")),
        tool(a=mark("a:b")),
        tool(a=mark(7)),
        tool(a=mark("Number", "number")),
        tool(a=mark("Thing", "object")),
        tool(a=mark("List", "array")),
        tool(a=mark("Same"), b=mark("same")),
        tool(a={"type": "array", "items": mark("Item")}),
        tool(a={"anyOf": [mark("Any")]}),
        {**tool(), "$defs": {"x": mark("Def")}},
        {**tool(), HEADER_KEY: "Root"},
    ],
)
def test_a_tool_whose_marks_break_the_rules_is_not_to_be_offered(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=HEADER_KEY):
        mirrored(schema)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain text", "plain text"),
        ("", ""),
        (" edge", "=?base64?IGVkZ2U=?="),
        ("a\r\nb", "=?base64?YQ0KYg==?="),
        ("=?base64?eA==?=", "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
    ],
)
def test_values_that_headers_cannot_hold_are_encoded(text: str, value: str) -> None:
    assert header_value(text) == value
