"""What handlers return: results of tools, messages of prompts, contents of resources."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import uuid
from collections import OrderedDict, UserDict, deque
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import jsonschema
import mcp_types
import numpy
import pydantic
import pytest

from erlmcp.errors import ConfigurationError, ToolError
from erlmcp.server.content import Audio, File, Image, ToolResult
from erlmcp.server.convert import Conversion, plan_conversion
from erlmcp.server.jsonable import to_jsonable
from erlmcp.server.param import Param
from erlmcp.server.plan import compile_tool

PNG = b"\x89PNG"


class Color(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


class Weather(TypedDict):
    city: str
    degrees: float


@dataclasses.dataclass
class Item:
    name: str
    when: dt.date
    tags: set[str] = dataclasses.field(default_factory=set)


class User(pydantic.BaseModel):
    name: str
    user_id: int = pydantic.Field(0, alias="userId")


def planned(hint: Any, **options: Any) -> Conversion:
    return plan_conversion("tool 't'", hint, **options)


def text_of(result: dict[str, Any]) -> str:
    (block,) = result["content"]
    assert block["type"] == "text"
    text: str = block["text"]
    return text


# -- kinds --------------------------------------------------------------------------------------------------------

KINDS: list[tuple[Any, str, type | None, bool]] = [
    (str, "text", str, True),
    (int, "value", int, True),
    (float, "value", float, True),
    (bool, "value", bool, True),
    (list[int], "value", list, True),
    (list[Weather], "value", list, True),
    (dict[str, Any], "value", dict, False),
    (dict, "value", dict, False),
    (Weather, "value", dict, False),
    (None, "none", None, False),
    (Any, "convert", None, False),
    (int | None, "convert", None, True),
    (Literal["a"], "convert", None, True),
    (dict[str, dt.date], "convert", None, False),
    (Item, "convert", None, False),
    (User, "convert", None, False),
    (list[User], "convert", None, True),
    (set[int], "convert", None, True),
    (Point, "convert", None, True),
    (Annotated[str, "described"], "text", str, True),
    (Annotated[str, Param(max_length=3)], "convert", None, True),
    (Image, "convert", None, False),
    (list[Image | str], "convert", None, False),
    (mcp_types.TextContent, "convert", None, False),
    (list[mcp_types.TextContent], "convert", None, False),
    (mcp_types.CallToolResult, "convert", None, False),
    (ToolResult, "convert", None, False),
]


@pytest.mark.parametrize(("hint", "kind", "cls", "wraps"), KINDS, ids=[str(each[0]) for each in KINDS])
def test_the_annotation_decides_the_kind(hint: Any, kind: str, cls: type | None, wraps: bool) -> None:
    made = planned(hint)
    assert (made.kind, made.result_class, made.wraps) == (kind, cls, wraps)


@pytest.mark.parametrize("hint", [each[0] for each in KINDS], ids=[str(each[0]) for each in KINDS])
def test_an_output_schema_is_an_object_or_absent(hint: Any) -> None:
    schema = planned(hint).output_schema
    if schema is not None:
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"


def test_structured_output_can_be_switched_off_and_demanded() -> None:
    off = planned(str, structured=False)
    assert (off.kind, off.output_schema) == ("text_only", None)
    assert off.result("x") == {"content": [{"type": "text", "text": "x"}]}
    off = planned(dict, structured=False)
    assert off.result({"a": 1}) == {"content": [{"type": "text", "text": '{"a":1}'}]}
    for hint in (Any, Image, None):
        with pytest.raises(ConfigurationError, match="structured_output=True"):
            planned(hint, structured=True)


def test_a_return_type_without_a_schema_is_sent_as_text_unless_structure_was_demanded() -> None:
    class Strange:
        def __str__(self) -> str:
            return "strange"

    assert planned(Strange).result(Strange()) == {"content": [{"type": "text", "text": "strange"}]}
    with pytest.raises(ConfigurationError):
        planned(Strange, structured=True)


# -- values -------------------------------------------------------------------------------------------------------


def test_typed_values_become_text_and_structured_content() -> None:
    when = dt.date(2026, 7, 28)
    cases: list[tuple[Any, Any, Any]] = [
        (str, "ä", {"result": "ä"}),
        (int, 5, {"result": 5}),
        (list[int], [1, 2], {"result": [1, 2]}),
        (Weather, {"city": "Köln", "degrees": 3}, {"city": "Köln", "degrees": 3}),
        (Item, Item("a", when, {"y", "x"}), {"name": "a", "when": "2026-07-28", "tags": ["x", "y"]}),
        (list[Item], [Item("a", when)], {"result": [{"name": "a", "when": "2026-07-28", "tags": []}]}),
        (User, User(name="a", userId=1), {"name": "a", "userId": 1}),
        (dict[str, User], {"a": User(name="a")}, {"a": {"name": "a", "userId": 0}}),
        (Color, Color.RED, {"result": "red"}),
        (Point, Point(1, 2), {"result": [1, 2]}),
        (int | None, None, {"result": None}),
        (bytes, b"hi", {"result": "aGk="}),
        (dt.timedelta, dt.timedelta(minutes=1), {"result": "PT1M"}),
        (decimal.Decimal, decimal.Decimal("1.50"), {"result": "1.50"}),
        (pydantic.AnyUrl, pydantic.AnyUrl("https://a.b/"), {"result": "https://a.b/"}),
        (tuple[int, str], (1, "a"), {"result": [1, "a"]}),
    ]
    for hint, value, structured in cases:
        made = planned(hint)
        result = made.result(value)
        assert result["structuredContent"] == structured, hint
        assert made.output_schema is not None
        jsonschema.validate(structured, made.output_schema)
        plain = structured["result"] if made.wraps else structured
        if value is not None:
            text = text_of(result)
            assert text == plain or json.loads(text) == plain


def test_text_is_compact_and_keeps_its_letters() -> None:
    assert text_of(planned(dict).result({"ä": [1, 2.5, None]})) == '{"ä":[1,2.5,null]}'


def test_a_value_that_breaks_its_own_schema_is_a_tool_error() -> None:
    with pytest.raises(ToolError, match="schema: expected integer, got string 'x'"):
        planned(int).result("x")
    with pytest.raises(ToolError, match="degrees: missing"):
        planned(Weather).result({"city": "x"})
    with pytest.raises(ToolError, match="no JSON form"):
        planned(float).result(float("nan"))
    with pytest.raises(ToolError, match="no JSON form"):
        planned(dict[str, Any]).result({"a": object()})


def test_a_value_that_contains_itself_is_a_tool_error() -> None:
    ring: list[Any] = []
    ring.append(ring)
    for hint in (list, Any):
        with pytest.raises(ToolError):
            planned(hint).result(ring)


def test_without_an_annotation_values_become_text() -> None:
    made = compile_tool(lambda: None, name="t")
    assert "outputSchema" not in made.descriptor
    assert made.convert(None) == {"content": []}
    assert made.convert("x") == {"content": [{"type": "text", "text": "x"}]}
    assert made.convert({"type": "text", "text": "x"}) == {
        "content": [{"type": "text", "text": '{"type":"text","text":"x"}'}]
    }
    assert made.convert([1, 2]) == {"content": [{"type": "text", "text": "[1,2]"}]}
    assert made.convert(5) == {"content": [{"type": "text", "text": "5"}]}
    assert made.convert(User(name="a")) == {"content": [{"type": "text", "text": '{"name":"a","userId":0}'}]}
    (block,) = made.convert(b"\x00")["content"]
    assert block["resource"]["blob"] == "AA=="
    assert block["resource"]["mimeType"] == "application/octet-stream"


def test_content_objects_become_blocks_and_mix_with_strings() -> None:
    made = planned(Any)
    assert made.result(Image(data=PNG))["content"] == [
        {"type": "image", "data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
    ]
    content = made.result(["a", Image(data=PNG, format="jpeg"), mcp_types.TextContent(text="b"), {"n": 1}])["content"]
    assert [block["type"] for block in content] == ["text", "image", "text", "text"]
    assert content[1]["mimeType"] == "image/jpeg"
    assert content[2] == {"type": "text", "text": "b"}
    assert content[3]["text"] == '{"n":1}'


def test_media_are_read_from_files(tmp_path: pathlib.Path) -> None:
    for name, data in (("a.png", PNG), ("b.wav", b"RIFF"), ("c.txt", "ä".encode()), ("d.bin", b"\xff")):
        (tmp_path / name).write_bytes(data)
    assert Image(path=tmp_path / "a.png").to_content()["mimeType"] == "image/png"
    assert Audio(path=str(tmp_path / "b.wav")).to_content()["type"] == "audio"
    text = File(path=tmp_path / "c.txt").to_content()
    assert text["type"] == "resource"
    assert text["resource"]["text"] == "ä"
    assert text["resource"]["uri"] == (tmp_path / "c.txt").resolve().as_uri()
    assert "blob" in File(path=tmp_path / "d.bin").to_content()["resource"]
    named = File(data=b"{}", name="x.json", annotations={"audience": ["user"]}, meta={"a.b/c": 1}).to_content()
    assert named["resource"] == {"uri": "file:///x.json", "mimeType": "application/json", "text": "{}"}
    assert named["annotations"] == {"audience": ["user"]}
    assert named["_meta"] == {"a.b/c": 1}
    assert "4 bytes" in repr(Image(data=PNG))
    for options in ({}, {"data": b"", "path": "x"}):
        with pytest.raises(ConfigurationError, match="either data or path"):
            Image(**options)  # type: ignore[arg-type]
    with pytest.raises(ToolError, match="cannot be sent"):
        planned(Any).result(Image(path=tmp_path / "none.png"))


def test_whole_results_are_taken_as_they_are() -> None:
    made = planned(Any)
    theirs = mcp_types.CallToolResult(content=[mcp_types.TextContent(text="x")], is_error=True)
    result = made.result(theirs)
    assert result["content"] == [{"type": "text", "text": "x"}]
    assert result["isError"] is True
    ours = ToolResult("x", structured={"a": dt.date(2026, 1, 1)}, is_error=True, meta={"a.b/c": 1})
    assert made.result(ours) == {
        "content": [{"type": "text", "text": "x"}],
        "structuredContent": {"a": "2026-01-01"},
        "isError": True,
        "_meta": {"a.b/c": 1},
    }
    assert made.result(ToolResult(structured=[1]))["content"] == [{"type": "text", "text": "[1]"}]
    assert made.result(ToolResult()) == {"content": []}


def test_a_whole_result_must_keep_the_output_schema_unless_it_is_an_error() -> None:
    def tool() -> Any: ...

    plan = compile_tool(tool, output_schema={"type": "object", "required": ["a"]})
    assert plan.descriptor["outputSchema"] == {"type": "object", "required": ["a"]}
    assert plan.convert({"a": 1})["structuredContent"] == {"a": 1}
    assert plan.convert(ToolResult("failed", is_error=True)) == {
        "content": [{"type": "text", "text": "failed"}],
        "isError": True,
    }
    for bad in ({"b": 1}, ToolResult("x"), ToolResult(structured={})):
        with pytest.raises(ToolError):
            plan.convert(bad)


def test_arguments_and_results_meet_in_one_plan() -> None:
    def forecast(city: str, days: Annotated[int, "how many"] = 1) -> list[Weather]:
        return [{"city": city, "degrees": 1.0}] * days

    plan = compile_tool(forecast)
    assert plan.result_kind == "value"
    assert plan.wraps_result
    value = plan.invoke({"city": "x", "days": "2"}, None)
    assert plan.convert(value)["structuredContent"] == {"result": [{"city": "x", "degrees": 1.0}] * 2}


# -- to_jsonable --------------------------------------------------------------------------------------------------


class Text(str):
    pass


JSONABLE: list[tuple[Any, Any]] = [
    (None, None),
    (Text("a"), "a"),
    (True, True),
    (b"hi", "aGk="),
    (bytearray(b"hi"), "aGk="),
    (memoryview(b"hi"), "aGk="),
    (dt.datetime(2026, 7, 28, 12, tzinfo=dt.UTC), "2026-07-28T12:00:00+00:00"),
    (dt.time(12), "12:00:00"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (pathlib.PurePosixPath("/a"), "/a"),
    ({Color.RED: {1, 2}}, {"red": [1, 2]}),
    ({2: "a", None: "b", True: "c", 1.5: "d"}, {"2": "a", "null": "b", "true": "c", "1.5": "d"}),
    (OrderedDict(a=deque([1])), {"a": [1]}),
    (UserDict(a=1), {"a": 1}),
    (frozenset(["b", "a"]), ["a", "b"]),
    (range(3), [0, 1, 2]),
    ({"a": 1}.keys(), ["a"]),
    (numpy.int64(5), 5),
    (numpy.array([[1, 2]]), [[1, 2]]),
    (User(name="a", userId=2), {"name": "a", "userId": 2}),
    (pydantic.SecretStr("hidden"), "**********"),
    ((Point(1, 2), Item("a", dt.date(2026, 1, 1))), [[1, 2], {"name": "a", "when": "2026-01-01", "tags": []}]),
]


@pytest.mark.parametrize(("value", "expected"), JSONABLE, ids=[str(type(each[0])) for each in JSONABLE])
def test_values_become_json_native(value: Any, expected: Any) -> None:
    made = to_jsonable(value)
    assert made == expected
    assert json.loads(json.dumps(made)) == expected


def test_numpy_values_lose_their_class() -> None:
    assert to_jsonable({"a": numpy.float64(1.5)})["a"].__class__ is float
    assert to_jsonable(Text("a")).__class__ is str


@pytest.mark.parametrize(
    "value", [object(), iter([1]), {(1, 2): 3}, [object()], int], ids=["object", "iter", "key", "in", "type"]
)
def test_what_has_no_json_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        to_jsonable(value)
