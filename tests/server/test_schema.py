"""Input schemas: what each hint becomes, and that schema and decoder accept and refuse the same values."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import re
import sys
import typing
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
)

import annotated_types
import jsonschema
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import Doc, ReadOnly, TypeAliasType

from erlmcp.errors import ConfigurationError
from erlmcp.server.decode import Builder
from erlmcp.server.param import Param
from erlmcp.server.plan import compile_tool
from erlmcp.server.scalar import Mismatch
from erlmcp.server.schema import SchemaBuilder
from erlmcp.server.shape import Reader

T = TypeVar("T")
Number = TypeVar("Number", int, float)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass
class Address:
    """Where somebody lives."""

    street: str
    number: int = dataclasses.field(metadata={"description": "house number"})
    lines: list[str] = dataclasses.field(default_factory=list)
    zip: str | None = None
    seen: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Tree:
    value: int
    children: list[Tree] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


class Movie(TypedDict):
    title: Annotated[str, "its name"]
    year: NotRequired[int]
    id: ReadOnly[int]


class Loose(TypedDict, total=False):
    a: typing.Required[int]
    b: str


class Child(Loose, total=False):
    c: int


class User(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(0, ge=0, description="years")
    user_id: str = pydantic.Field("u", alias="userId")


class Team(pydantic.BaseModel):
    lead: User
    members: list[User] = []
    parent: Team | None = None


UserId = NewType("UserId", int)
Json = TypeAliasType("Json", "int | list[Json]")
Pair = TypeAliasType("Pair", tuple[T, T], type_params=(T,))


class Case(typing.NamedTuple):
    hint: Any
    schema: Any  # the expected schema, or None
    valid: list[Any]
    invalid: list[Any]
    lax: Sequence[Any] = ()  # the schema refuses them, the decoder is kinder


FORMATS = {"format", "contentEncoding"}  # of which a schema says less than the decoder asks for
BY_FORMAT = {"date-time", "date", "time", "uuid", "duration"}
CASES: dict[str, Case] = {
    "any": Case(Any, {}, [1, "a", None, [], {}], []),
    "str": Case(str, {"type": "string"}, ["", "a", "5"], [5, None, True, [], {}]),
    "int": Case(int, {"type": "integer"}, [1, -1, 0, 5.0, 10**40], [5.5, None, True, [], "x", "5.5"], ["5", "-1"]),
    "float": Case(float, {"type": "number"}, [1, 1.5], [None, False, "x", [], "NaN"], ["1.5"]),
    "bool": Case(bool, {"type": "boolean"}, [True, False], [1, 0, None, "yes", []], ["true", "False"]),
    "none": Case(None, {"type": "null"}, [None], [0, "", False], ["null"]),
    "bytes": Case(bytes, {"type": "string", "contentEncoding": "base64"}, ["aGk=", ""], [5, None]),
    "datetime": Case(dt.datetime, {"type": "string", "format": "date-time"}, ["2026-07-28T12:00:00Z"], [5, "x", None]),
    "date": Case(dt.date, {"type": "string", "format": "date"}, ["2026-07-28"], ["2026-13-01", "x", 5]),
    "time": Case(dt.time, {"type": "string", "format": "time"}, ["12:00:00Z"], ["25:00:00Z", 5]),
    "timedelta": Case(
        dt.timedelta, {"type": "string", "format": "duration"}, ["PT5M", "P1DT2H"], ["5", None], [5, 1.5]
    ),
    "uuid": Case(uuid.UUID, {"type": "string", "format": "uuid"}, [str(uuid.UUID(int=5))], ["x", 5]),
    "decimal": Case(decimal.Decimal, None, ["1.50", 1, 2.5, "-3", "1e5"], ["x", "", None, "NaN", True]),
    "path": Case(pathlib.Path, {"type": "string", "format": "path"}, ["/a", "b/c"], [5, None]),
    "literal": Case(Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}, ["a", "b"], ["c", 1, None]),
    "one literal": Case(Literal["a"], {"const": "a", "type": "string"}, ["a"], ["b", None]),
    "integer literal": Case(Literal[1, 2], {"enum": [1, 2], "type": "integer"}, [1, 2, 2.0], [3, True, "x"], ["1"]),
    "mixed literal": Case(Literal["a", 1, True], {"enum": ["a", 1, True]}, ["a", 1, True], ["b", 2, False]),
    "enum": Case(Color, {"enum": ["red", "blue"], "type": "string"}, ["red"], ["RED", "green", 1]),
    "int enum": Case(Level, {"enum": [1, 2], "type": "integer"}, [1, 2], [3, "x", True], ["1"]),
    "optional": Case(
        Optional[int],  # noqa: UP045
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        [1, None],
        ["x", [], True],
        ["1", "null"],
    ),
    "union": Case(
        int | str | list[int],
        {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "array", "items": {"type": "integer"}}]},
        [1, "x", "1", [1, 2]],
        [None, True, ["x"], {}],
        [["1"]],
    ),
    "nested union": Case(typing.Union[int, typing.Optional[str]], None, [1, "a", None], [[], {}]),  # noqa: UP007, UP045
    "list": Case(
        list[int], {"type": "array", "items": {"type": "integer"}}, [[], [1, 2]], [[None], {}, 1], ["[1]", ["1"]]
    ),
    "bare list": Case(list, {"type": "array"}, [[], [1, "a"]], [{}, 1, None], ["[]"]),
    "sequence": Case(Sequence[str], {"type": "array", "items": {"type": "string"}}, [["a"]], [[1], {}, "a"]),
    "iterable": Case(Iterable[str], {"type": "array", "items": {"type": "string"}}, [["a"]], [[1], {}]),
    "set": Case(
        set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, [[1, 2]], [["x"], {}], [[1, 1]]
    ),
    "frozenset": Case(frozenset[str], None, [["a"], []], [[1], "x"]),
    "tuple": Case(
        tuple[int, str],
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        [[1, "a"]],
        [[1], [1, "a", 2], ["x", "a"], {}, "a"],
    ),
    "variadic tuple": Case(tuple[int, ...], {"type": "array", "items": {"type": "integer"}}, [[], [1, 2]], [["x"], {}]),
    "empty tuple": Case(tuple[()], {"type": "array", "minItems": 0, "maxItems": 0}, [[]], [[1], {}]),
    "bare tuple": Case(tuple, {"type": "array"}, [[], [1]], [{}]),
    "dict": Case(
        dict[str, int],
        {"type": "object", "additionalProperties": {"type": "integer"}},
        [{}, {"a": 1}],
        [{"a": "x"}, []],
    ),
    "bare dict": Case(dict, {"type": "object", "additionalProperties": True}, [{}, {"a": []}], [[], 1, "a"], ["{}"]),
    "mapping": Case(Mapping[str, Any], {"type": "object", "additionalProperties": True}, [{"a": None}], [[]]),
    "dict of enum keys": Case(dict[Color, int], None, [{"red": 1}], [{"green": 1}, {"red": "x"}]),
    "dict of integer keys": Case(dict[int, int], None, [{"1": 1}], [{"a": 1}]),
    "typed dict": Case(
        Movie,
        {
            "type": "object",
            "title": "Movie",
            "properties": {
                "title": {"type": "string", "description": "its name"},
                "year": {"type": "integer"},
                "id": {"type": "integer"},
            },
            "required": ["title", "id"],
        },
        [{"title": "a", "id": 1}, {"title": "a", "id": 1, "year": 2000}, {"title": "a", "id": 1, "more": 1}],
        [{"title": "a"}, {"title": 1, "id": 1}, [], {"title": "a", "id": 1, "year": None}],
    ),
    "loose typed dict": Case(Loose, None, [{"a": 1}, {"a": 1, "b": "x"}], [{}, {"a": 1, "b": 2}]),
    "derived typed dict": Case(Child, None, [{"a": 1}, {"a": 1, "c": 2}], [{"c": 1}, {"a": 1, "c": "x"}]),
    "named tuple": Case(Point, None, [[1, 2], [1]], [[], ["x", 1], [1, 2, 3], 5], [{"x": 1}]),
    "dataclass": Case(
        Address,
        {
            "type": "object",
            "title": "Address",
            "description": "Where somebody lives.",
            "properties": {
                "street": {"type": "string"},
                "number": {"type": "integer", "description": "house number"},
                "lines": {"type": "array", "items": {"type": "string"}},
                "zip": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            },
            "required": ["street", "number"],
        },
        [{"street": "a", "number": 1}, {"street": "a", "number": 1, "zip": None, "lines": ["x"]}],
        [{}, {"street": "a"}, {"street": 1, "number": 1}, {"street": "a", "number": 1, "lines": [1]}, "a"],
    ),
    "recursive dataclass": Case(
        Tree, None, [{"value": 1, "children": [{"value": 2}]}], [{"value": 1, "children": [{"value": "x"}]}, {}]
    ),
    "generic dataclass": Case(Box[int], None, [{"item": 1}], [{"item": "x"}, {}]),
    "nested generic": Case(Box[list[Box[str]]], None, [{"item": [{"item": "a"}]}], [{"item": [{"item": 1}]}]),
    "pydantic model": Case(
        User,
        None,
        [{"name": "a"}, {"name": "a", "age": 3, "userId": "x"}],
        [{}, {"name": "a", "age": -1}, [], {"name": 1}],
    ),
    "nested pydantic": Case(
        Team,
        None,
        [{"lead": {"name": "a"}, "parent": {"lead": {"name": "b"}}}],
        [{}, {"lead": {}}, {"lead": {"name": "a"}, "members": [{}]}],
    ),
    "list of pydantic": Case(list[User], None, [[{"name": "a"}], []], [[{}], {}]),
    "dataclass with pydantic": Case(Box[User], None, [{"item": {"name": "a"}}], [{"item": {}}]),
    "pydantic url": Case(pydantic.AnyUrl, None, ["https://a.b/c"], [5, None]),
    "new type": Case(UserId, {"type": "integer"}, [1], ["x"]),
    "type variable": Case(Number, None, [1, 1.5], ["x", None]),
    "described": Case(Annotated[int, "how many"], {"type": "integer", "description": "how many"}, [1], ["x"]),
    "doc": Case(Annotated[int, Doc("how many")], {"type": "integer", "description": "how many"}, [1], ["x"]),
    "param": Case(
        Annotated[int, Param("n", title="N", ge=1, lt=10, multiple_of=3, examples=[3], schema_extra={"x-a": 1})],
        {
            "type": "integer",
            "minimum": 1,
            "exclusiveMaximum": 10,
            "multipleOf": 3,
            "title": "N",
            "description": "n",
            "examples": [3],
            "x-a": 1,
        },
        [3, 9],
        [0, 12, 4, "x"],
    ),
    "field": Case(
        Annotated[str, pydantic.Field(description="s", min_length=2, max_length=4, pattern="^a", examples=["ab"])],
        {
            "type": "string",
            "minLength": 2,
            "maxLength": 4,
            "pattern": "^a",
            "description": "s",
            "examples": ["ab"],
        },
        ["ab", "abcd"],
        ["a", "abcde", "bb", 5],
    ),
    "json_schema_extra": Case(
        Annotated[str, pydantic.Field(json_schema_extra={"x-mcp-header": "Region"})],
        {"type": "string", "x-mcp-header": "Region"},
        ["a"],
        [1],
    ),
    "annotated_types": Case(
        Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)],
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        [0.5, 1],
        [0, 1.5],
    ),
    "interval and length": Case(
        Annotated[list[Annotated[int, annotated_types.Interval(ge=0, le=5)]], annotated_types.Len(1, 2)],
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 5}, "minItems": 1, "maxItems": 2},
        [[1], [1, 5]],
        [[], [1, 2, 3], [6]],
    ),
    "bounded optional": Case(
        Annotated[int | None, Param(ge=0)],
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
        [None, 0],
        [-1, "x"],
    ),
    "tenths": Case(Annotated[float, Param(multiple_of=0.5)], None, [0.5, 2], [0.3]),
    "dict lengths": Case(Annotated[dict[str, int], Param(min_length=1)], None, [{"a": 1}], [{}]),
    "validator": Case(
        Annotated[int, pydantic.Field(ge=1), pydantic.AfterValidator(lambda v: v)],
        {"type": "integer", "minimum": 1},
        [1],
        [0, "x"],
    ),
    "discriminated": Case(
        Annotated[User | Team, pydantic.Field(union_mode="left_to_right")],
        None,
        [{"name": "a"}, {"lead": {"name": "a"}}],
        [{}],
    ),
    "recursive alias": Case(Json, None, [1, [1, [2]]], ["x", [["x"]]]),
    "generic alias": Case(Pair[int], None, [[1, 2]], [[1], ["x", 1]]),
}


def schema_of(hint: Any, *, output: bool = False) -> dict[str, Any]:
    builder = SchemaBuilder(output=output)
    return builder.finish(builder.build(Reader().read(hint)))


def decode(hint: Any, value: Any) -> Any:
    call = Builder().build(Reader().read(hint)).call
    return value if call is None else call(value)


def accepts(hint: Any, value: Any) -> bool:
    try:
        decode(hint, value)
    except Mismatch:
        return False
    return True


def fits(schema: dict[str, Any], value: Any) -> bool:
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    return checker.is_valid(value)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("output", [False, True], ids=["input", "output"])
def test_every_hint_gives_a_schema_that_the_metaschema_allows(case: Case, output: bool) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of(case.hint, output=output))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_schema_is_the_expected_one(case: Case) -> None:
    if case.schema is not None:
        assert schema_of(case.hint) == case.schema


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_schema_and_decoder_agree_on_samples(case: Case) -> None:
    schema = schema_of(case.hint)
    for value in case.valid:
        assert fits(schema, value), (schema, value)
        assert accepts(case.hint, value), value
    for value in case.invalid:
        assert not accepts(case.hint, value), value
        if not isinstance(value, str) or schema.get("format") not in BY_FORMAT:
            assert not fits(schema, value), (schema, value)
    for value in case.lax:
        assert not fits(schema, value), (schema, value)
        assert accepts(case.hint, value), value


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from([0.5, 2.0, "a", "red", "abc", "5", "1", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "title", "id", "name", "age", "value", "item", "red", "1"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@settings(max_examples=40, deadline=None)
@given(value=JSON_VALUES)
def test_what_the_schema_allows_the_decoder_takes(case: Case, value: Any) -> None:
    schema = schema_of(case.hint)
    if fits(schema, value) and not FORMATS & set(re.findall(r"\w+", str(schema))):
        assert accepts(case.hint, value)


def test_a_structure_used_twice_is_written_once() -> None:
    @dataclasses.dataclass
    class Both:
        a: Address
        b: Address

    schema = schema_of(Both)
    assert schema["properties"]["a"] == {"$ref": "#/$defs/Address"}
    assert list(schema["$defs"]) == ["Address"]


def test_a_structure_used_once_is_written_in_place() -> None:
    schema = schema_of(Box[Box[Address]])
    assert "$defs" not in schema
    assert schema["properties"]["item"]["properties"]["item"]["title"] == "Address"


def test_two_structures_of_one_name_do_not_mix() -> None:
    def make(kind: type) -> type:
        return dataclasses.make_dataclass("Same", [("x", kind), ("y", kind)])

    one, two = make(int), make(str)
    schema = schema_of(tuple[one, two, one, two])  # type: ignore[valid-type]
    assert set(schema["$defs"]) == {"Same", "Same_2"}
    assert fits(schema, [{"x": 1, "y": 1}, {"x": "a", "y": "a"}] * 2)
    assert not fits(schema, [{"x": "a", "y": 1}, {"x": "a", "y": "a"}] * 2)


def test_a_recursive_root_is_an_object_and_not_a_bare_reference() -> None:
    schema = schema_of(Tree)
    assert schema["type"] == "object"
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


def test_types_local_to_a_function_are_found() -> None:
    @dataclasses.dataclass
    class Local:
        again: list[Local]

    assert schema_of(Local)["properties"]["again"]["items"] == {"$ref": "#/$defs/Local"}


@pytest.mark.parametrize(
    "hint", [complex, lambda: None, "Nowhere", object()], ids=["complex", "call", "text", "object"]
)
def test_a_type_without_meaning_in_json_is_refused_at_registration(hint: Any) -> None:
    def tool(x: int) -> None: ...

    tool.__annotations__["x"] = hint
    if hint is complex:  # pydantic reads it as a string
        compile_tool(tool)
        return
    with pytest.raises(ConfigurationError):
        compile_tool(tool)


def test_defaults_are_listed_where_json_can_hold_them() -> None:
    def tool(
        a: int = 1,
        b: Color = Color.RED,
        c: object = object(),
        d: Annotated[int, pydantic.Field(default=4)] = 5,
        e: int = pydantic.Field(6, description="six"),
        f: list[int] = pydantic.Field(default_factory=list),  # noqa: B008
        g: float = float("nan"),
        h: int = None,  # type: ignore[assignment]  # noqa: RUF013
    ) -> None: ...

    plan = compile_tool(tool)
    schema = plan.descriptor["inputSchema"]
    assert "required" not in schema
    defaults = {name: part["default"] for name, part in schema["properties"].items() if "default" in part}
    assert defaults == {"a": 1, "b": "red", "d": 5, "e": 6, "h": None}
    assert schema["properties"]["e"]["description"] == "six"
    assert fits(schema, {"h": None})


def test_docstring_descriptions_reach_the_schema_but_annotations_win() -> None:
    def tool(a: int, b: Annotated[int, "from the hint"], c: Address) -> None:
        """Do something.

        Args:
            a: from the docstring
            b: never seen
            c: where
        """

    properties = compile_tool(tool).descriptor["inputSchema"]["properties"]
    assert properties["a"]["description"] == "from the docstring"
    assert properties["b"]["description"] == "from the hint"
    assert properties["c"]["description"] == "where"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with Python 3.12")
def test_pep_695_aliases_and_generics_are_read() -> None:
    scope: dict[str, Any] = {}
    exec(
        "type Many[T] = list[T]\ntype Tree = int | list[Tree]\nclass Cell[T]:\n    item: T\n"
        "import dataclasses\nCell = dataclasses.dataclass(Cell)",
        scope,
    )
    assert schema_of(scope["Many"][int]) == {"type": "array", "items": {"type": "integer"}}
    assert accepts(scope["Tree"], [1, [2]])
    assert not accepts(scope["Tree"], [["x"]])
    assert schema_of(scope["Cell"][int])["properties"] == {"item": {"type": "integer"}}
