"""Parameters that are mirrored into HTTP headers: the x-mcp-header keyword."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import pytest

from erlmcp.errors import ConfigurationError
from erlmcp.server.param import Param
from erlmcp.server.plan import compile_tool
from erlmcp.server.schema import param_headers


def test_mirrored_parameters_are_found_by_header_name() -> None:
    @dataclasses.dataclass
    class Where:
        zone: Annotated[int, Param(header="Zone")]

    def tool(
        region: Annotated[str, Param(header="Region")], where: Where, on: Annotated[bool, Param(header="On")]
    ) -> str:
        return region

    plan = compile_tool(tool)
    assert plan.param_headers == {
        "mcp-param-region": (("region",), "string", "Region"),
        "mcp-param-zone": (("where", "zone"), "integer", "Zone"),
        "mcp-param-on": (("on",), "boolean", "On"),
    }
    assert plan.descriptor["inputSchema"]["properties"]["region"]["x-mcp-header"] == "Region"


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"a": {"type": "string", "x-mcp-header": ""}}, "token"),
        ({"a": {"type": "string", "x-mcp-header": "A B"}}, "token"),
        ({"a": {"type": "string", "x-mcp-header": "Ä"}}, "token"),
        ({"a": {"type": "string", "x-mcp-header": 5}}, "token"),
        ({"a": {"type": "number", "x-mcp-header": "A"}}, "only a str, int or bool"),
        ({"a": {"type": ["string", "null"], "x-mcp-header": "A"}}, "only a str, int or bool"),
        ({"a": {"anyOf": [{"type": "string"}], "x-mcp-header": "A"}}, "union"),
        ({"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}, "twice"),
        ({"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}}, "stands where"),
        ({"a": {"allOf": [{"properties": {"b": {"type": "string", "x-mcp-header": "A"}}}]}}, "stands where"),
    ],
)
def test_a_header_that_breaks_the_rules_is_refused(properties: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        param_headers({"type": "object", "properties": properties}, "tool 'x'")


def test_a_property_that_is_named_like_the_keyword_is_no_header() -> None:
    assert param_headers({"type": "object", "properties": {"x-mcp-header": {"type": "string"}}}, "tool") == {}
