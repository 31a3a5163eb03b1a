"""Forms of an elicitation: flat schemas out, typed answers in."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import pytest
from pydantic import BaseModel, Field

from erlmcp import ConfigurationError, ToolError
from erlmcp.server.form import form_data, form_schema


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Person:
    name: str
    age: int = 30
    score: float = 95.5
    colour: Literal["red", "blue"] = "red"
    tags: list[str] = field(default_factory=list)
    sure: bool = True


class Typed(TypedDict, total=False):
    name: str


class Model(BaseModel):
    name: str = Field(min_length=2)
    n: int = 0


def test_a_dataclass_is_a_flat_form_with_its_defaults() -> None:
    schema = form_schema(Person)
    assert schema["type"] == "object"
    assert schema["required"] == ["name"]
    kinds = {name: part.get("type") for name, part in schema["properties"].items()}
    assert kinds == {
        "name": "string",
        "age": "integer",
        "score": "number",
        "colour": "string",
        "tags": "array",
        "sure": "boolean",
    }
    assert schema["properties"]["age"]["default"] == 30
    assert schema["properties"]["colour"]["enum"] == ["red", "blue"]


@pytest.mark.parametrize(
    ("wanted", "content", "expected"),
    [
        (str, {"value": "x"}, "x"),
        (int, {"value": 7}, 7),
        (bool, {"value": False}, False),
        (Literal["a", "b"], {"value": "b"}, "b"),
        (Colour, {"value": "blue"}, Colour.BLUE),
        (Typed, {"name": "x"}, {"name": "x"}),
        (Typed, {}, {}),
        (Model, {"name": "xy", "n": 1}, Model(name="xy", n=1)),
        (Person, {"name": "x", "age": 3}, Person("x", 3)),
        (None, {"free": 1}, {"free": 1}),
        ({"type": "object"}, {"free": 1}, {"free": 1}),
    ],
)
def test_an_answer_becomes_the_type_that_was_asked_for(wanted: Any, content: Any, expected: Any) -> None:
    assert form_data(wanted, content) == expected


@pytest.mark.parametrize(
    ("wanted", "content"),
    [
        (str, {"value": 7}),
        (str, {}),
        (int, {"value": "x"}),
        (Literal["a"], {"value": "b"}),
        (Person, {}),
        (Person, {"name": "x", "colour": "green"}),
        (Model, {"name": "x"}),
    ],
)
def test_an_answer_that_does_not_fit_is_a_tool_error(wanted: Any, content: Any) -> None:
    with pytest.raises(ToolError, match="form"):
        form_data(wanted, content)


def test_nothing_asked_for_is_an_empty_form_and_a_schema_stands_as_it_is() -> None:
    assert form_schema(None) == {"type": "object", "properties": {}}
    own = {"type": "object", "properties": {"a": {"type": "string", "enumNames": ["x"]}}}
    assert form_schema(own) is own


@dataclass
class Nested:
    inner: Person


@pytest.mark.parametrize("wanted", [Nested, dict[str, Person]])
def test_a_form_that_is_not_flat_is_refused(wanted: Any) -> None:
    with pytest.raises(ConfigurationError, match="flat"):
        form_schema(wanted)
