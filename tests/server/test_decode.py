"""Decoders: what values become, and what is said of those that do not fit."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import typing
from typing import Any, NamedTuple, TypedDict

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.server.decode import Builder
from erlmcp.server.scalar import Mismatch, read_duration, write_duration
from erlmcp.server.shape import Reader


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass
class Tree:
    value: int
    children: list[Tree] = dataclasses.field(default_factory=list)


class Movie(TypedDict):
    title: str
    year: typing.NotRequired[int]
    id: int


class User(pydantic.BaseModel):
    name: str
    user_id: str = pydantic.Field("u", alias="userId")


def decode(hint: Any, value: Any) -> Any:
    call = Builder().build(Reader().read(hint)).call
    return value if call is None else call(value)


def accepts(hint: Any, value: Any) -> bool:
    try:
        decode(hint, value)
    except Mismatch:
        return False
    return True


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
    assert decode(Level, "1") is Level.LOW


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


def test_a_set_of_what_cannot_be_hashed_is_a_mismatch() -> None:
    assert decode(set[Any], [1, "a"]) == {1, "a"}
    for hint in (set[Any], frozenset[list[int]]):
        with pytest.raises(Mismatch, match="hashable"):
            decode(hint, [[1]])


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


@dataclasses.dataclass
class Mixed:
    a: int
    b: str = "b"
    c: list[int] = dataclasses.field(default_factory=list)
    d: int = None  # type: ignore[assignment]


ITEMS = st.sampled_from([None, True, 0, 1.0, 1.5, "", "5", "x", [], [1], ["1"], {}, {"a": 1}])


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d", "title", "year", "id", "z"]), ITEMS))
def test_the_quick_way_through_a_structure_gives_what_the_slow_one_gives(value: dict[str, Any]) -> None:
    """A dict of another class is left to the slow way."""

    class Slow(dict[str, Any]):
        pass

    def outcome(hint: Any, given: Any) -> str:
        try:
            made = decode(hint, given)
            return repr(sorted(made.items()) if isinstance(made, dict) else made)
        except Mismatch as mismatch:
            return f"refused: {mismatch}"

    for hint in (Mixed, Movie):
        assert outcome(hint, value) == outcome(hint, Slow(value))


def test_absent_fields_take_their_defaults_anew() -> None:
    one, two = decode(Mixed, {"a": 1}), decode(Mixed, {"a": 1, "d": None})
    assert one == two == Mixed(1)
    assert one.c is not two.c
    assert decode(Movie, {"title": "a", "id": 1}) == {"title": "a", "id": 1}
    assert decode(Movie, {"title": "a", "id": 1, "year": "5"}) == {"title": "a", "id": 1, "year": 5}


@pytest.mark.parametrize("seconds", [0, 1, 59.5, 60, 3600, 86400, 90061.000001, -5, -86400.5])
def test_a_duration_is_read_back_as_it_was_written(seconds: float) -> None:
    span = dt.timedelta(seconds=seconds)
    assert read_duration(write_duration(span)) == span


@pytest.mark.parametrize("text", ["", "P", "PT", "1D", "P1Y", "P1DT", "PT1", "P-1D"])
def test_a_bad_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_duration(text)
