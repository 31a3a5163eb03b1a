"""Input schemas: what each hint becomes, and that schema and decoder accept and refuse the same values."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
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
from typing_extensions import Doc, ReadOnly, TypeAliasType

from erlmcp.errors import ConfigurationError
from erlmcp.server.decode import Builder
from erlmcp.server.docstring import parse_docstring
from erlmcp.server.param import Param
from erlmcp.server.plan import compile_tool
from erlmcp.server.scalar import Mismatch, read_duration, write_duration
from erlmcp.server.schema import SchemaBuilder, param_headers
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
    "set of unhashables": Case(set[Any], None, [[1]], [{}], []),
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


def test_decoded_values_have_the_python_types_of_their_hints() -> None:
    tree = decode(Tree, {"value": "1", "children": [{"value": 2.0}]})
    assert tree == Tree(1, [Tree(2)])
    assert decode(float, 1).__class__ is float
    assert decode(int, 5.0).__class__ is int
    assert decode(set[int], [1, 1]) == {1}
    assert decode(tuple[int, str], '[1, "a"]') == (1, "a")
    assert decode(Point, [1]) == Point(1, 0)
    assert decode(Point, {"x": 1, "y": 2}) == Point(1, 2)
    assert decode(dict[Color, dt.date], {"red": "2026-07-28"}) == {Color.RED: dt.date(2026, 7, 28)}
    assert decode(bytes, "aGk=") == b"hi"
    assert decode(dt.timedelta, "PT1M") == dt.timedelta(minutes=1)
    assert decode(decimal.Decimal, 2.5) == decimal.Decimal("2.5")
    assert decode(User, {"name": "a", "userId": "x"}) == User(name="a", userId="x")
    assert decode(Movie, {"title": "a", "id": 1, "unknown": 2}) == {"title": "a", "id": 1}
    assert decode(Level, "1") is Level.HIGH or decode(Level, "1") is Level.LOW


def test_a_string_stays_a_string_where_the_hint_takes_one() -> None:
    assert decode(str | None, "null") == "null"
    assert decode(str | int, "5") == "5"
    assert decode(int | str, "5") == "5"
    assert decode(list[int] | str, "[1]") == "[1]"
    assert decode(Any, "[1]") == "[1]"
    assert decode(list[int] | list[str], ["1"]) == ["1"]


def test_a_union_prefers_the_member_whose_json_type_came() -> None:
    assert decode(float | int, 5).__class__ is int
    assert decode(int | float, 5.0).__class__ is float
    assert decode(bool | int, 1) == 1
    assert decode(bool | int, 1) is not True
    assert decode(int | None, "7") == 7
    assert decode(dt.date | str, "2026-07-28") == dt.date(2026, 7, 28)
    assert decode(dt.date | str, "soon") == "soon"


def test_a_mismatch_names_the_place_what_was_expected_and_what_came() -> None:
    with pytest.raises(Mismatch) as caught:
        decode(Tree, {"value": "x", "children": [{"value": 1}, {}]})
    assert str(caught.value) == "value: expected integer, got string 'x'; children[1].value: missing, expected integer"
    with pytest.raises(Mismatch, match=r"\[0\]: expected integer, got string 'a'; \[2\]: expected integer, got null"):
        decode(list[int], ["a", 1, None])


def test_a_refusal_by_post_init_is_a_mismatch() -> None:
    @dataclasses.dataclass
    class Even:
        n: int

        def __post_init__(self) -> None:
            if self.n % 2:
                raise ValueError("odd")

    assert decode(Even, {"n": 2}) == Even(2)
    with pytest.raises(Mismatch, match="odd"):
        decode(Even, {"n": 1})


def test_deeply_nested_json_in_a_string_is_refused_and_does_not_crash() -> None:
    assert not accepts(list[int], "[" * 100_000)
    assert not accepts(int, "1" * 10_000)


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


# -- x-mcp-header ------------------------------------------------------------------------------------------------------


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


# -- durations and docstrings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 1, 59.5, 60, 3600, 86400, 90061.000001, -5, -86400.5])
def test_a_duration_is_read_back_as_it_was_written(seconds: float) -> None:
    span = dt.timedelta(seconds=seconds)
    assert read_duration(write_duration(span)) == span


@pytest.mark.parametrize("text", ["", "P", "PT", "1D", "P1Y", "P1DT", "PT1", "P-1D"])
def test_a_bad_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_duration(text)


GOOGLE = """Search the index.

    Longer text.

    Args:
        query (str): what to look for,
            over two lines
        limit: how many
        **rest: ignored

    Returns:
        The hits.
    """
NUMPY = """Search the index.

    Longer text.

    Parameters
    ----------
    query : str
        what to look for,
        over two lines
    limit : int, optional
        how many

    Returns
    -------
    list
        The hits.
    """
SPHINX = """Search the index.

    Longer text.

    :param str query: what to look for,
        over two lines
    :type query: str
    :param limit: how many
    :returns: The hits.
    """


@pytest.mark.parametrize("doc", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_three_docstring_styles_say_the_same(doc: str) -> None:
    found = parse_docstring(doc)
    assert found.params["query"] == "what to look for, over two lines"
    assert found.params["limit"] == "how many"
    assert found.text.startswith("Search the index.\n\nLonger text.\n\n")
    assert "The hits." in found.text
    assert "what to look for" not in found.text


@pytest.mark.parametrize(
    "doc", [None, "", "   ", "Args:", "Args:\nnot indented", ":param", "Parameters\n---", "Args:\n  ???"]
)
def test_an_odd_docstring_does_no_harm(doc: str | None) -> None:
    parse_docstring(doc)
