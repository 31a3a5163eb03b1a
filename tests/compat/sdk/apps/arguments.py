"""Arguments as clients and models send them: which are taken, and as what."""

import datetime
import decimal
import uuid
from typing import Any, Literal

from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

mcp = MCPServer("arguments")


class Point(BaseModel):
    x: int
    y: float = 0.5


def _tool(hint: Any, name: str) -> None:
    def take(value: Any) -> str:
        return f"{type(value).__name__} {value!r}"

    take.__annotations__ = {"value": hint, "return": str}
    take.__name__ = name
    mcp.add_tool(take)


HINTS = {
    "an_int": int,
    "a_float": float,
    "a_bool": bool,
    "a_str": str,
    "a_list": list[int],
    "strings": list[str],
    "a_dict": dict[str, int],
    "any_dict": dict[str, Any],
    "optional_int": int | None,
    "optional_str": str | None,
    "int_or_str": int | str,
    "choice": Literal["a", "b"],
    "numbers": Literal[1, 2],
    "point": Point,
    "points": list[Point],
    "a_date": datetime.date,
    "a_uuid": uuid.UUID,
    "a_decimal": decimal.Decimal,
    "a_set": set[int],
    "a_tuple": tuple[int, str],
}
for _name, _hint in HINTS.items():
    _tool(_hint, _name)

VALUES = {
    "an_int": [1, "1", 1.0, 1.5, "1.5", True, None, "x", [], 10**20],
    "a_float": [1, 1.5, "2", "2.5", True, None, "x"],
    "a_bool": [True, False, 1, 0, 2, "true", "False", "yes", "off", "maybe", None, 1.0],
    "a_str": ["a", "", 1, True, None, ["a"], "[1]", '"quoted"', "5"],
    "a_list": [[1, 2], ["1", 2.0], "[1, 2]", "1", 1, {}, {"a": 1}, None, [1.5]],
    "strings": [["a"], '["a", "b"]', "a", [1], [None]],
    "a_dict": [{"a": 1}, '{"a": 1}', {"a": "1"}, [], {"a": "x"}],
    "any_dict": [{"a": [1]}, '{"a": {"b": null}}', "x"],
    "optional_int": [1, None, "1", "null", "x"],
    "optional_str": ["a", None, "null", 1],
    "int_or_str": [1, "1", "x", 1.0, True],
    "choice": ["a", "c", 1],
    "numbers": [1, 3, True, 1.0],
    "point": [{"x": 1}, '{"x": 1}', {"x": "1", "y": 2}, {}, {"x": 1, "z": 3}, "x", [1]],
    "points": [[{"x": 1}], '[{"x": 1}]', [], {"x": 1}],
    "a_date": ["2026-01-02", "2026-13-02", "2026-01-02T00:00:00", 0],
    "a_uuid": ["12345678-1234-5678-1234-567812345678", "x"],
    "a_decimal": ["1.50", 1.5, 2, "x"],
    "a_set": [[1, 2, 2], "[3]", "x"],
    "a_tuple": [[1, "a"], [1], '[1, "a"]'],
}
TALK = [
    ("tools/call", {"name": name, "arguments": {"value": value}}) for name, values in VALUES.items() for value in values
]
TALK += [
    ("tools/call", {"name": "an_int", "arguments": {}}),
    ("tools/call", {"name": "an_int", "arguments": {"value": 1, "other": 2}}),
    ("tools/call", {"name": "an_int"}),
]
