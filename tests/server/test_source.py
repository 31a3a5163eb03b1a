"""The generated ``invoke``: the same outcome as the slow way, and a source that tracebacks can show."""

from __future__ import annotations

import gc
import linecache
import traceback
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.errors import ArgumentError
from erlmcp.server.param import Param
from erlmcp.server.plan import compile_tool


@dataclass
class Item:
    name: str
    count: int = 1
    tags: list[str] = field(default_factory=list)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["5", "[1]", "null"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "count", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def everything(
    a: int,
    b: str,
    c: float = 1.5,
    d: bool = False,
    e: list[int] | None = None,
    f: Item | None = None,
    g: Literal["x", 2] = "x",
    h: dict[str, Any] = {},  # noqa: B006
    i: Annotated[int, Param(ge=0, le=10)] = 3,
    j: str | int | list[str] = "s",
) -> Any:
    return {"a": a, "b": b, "c": c, "d": d, "e": e, "f": f, "g": g, "h": h, "i": i, "j": j}


PLAN = compile_tool(everything)


@given(st.dictionaries(st.sampled_from("abcdefghij"), VALUES, max_size=10))
def test_invoke_and_decode_agree_on_any_arguments(arguments: dict[str, Any]) -> None:
    def outcome(call: Any) -> str:
        try:
            return repr(call())
        except ArgumentError as error:
            return f"refused: {error}"

    assert outcome(lambda: PLAN.invoke(arguments, None)) == outcome(lambda: PLAN.decode(arguments))


def test_a_traceback_shows_the_generated_source_while_the_plan_lives() -> None:
    def tool(n: int) -> None:
        raise ValueError("mine")

    plan = compile_tool(tool)
    with pytest.raises(ValueError) as caught:
        plan.invoke({"n": 1}, None)
    assert "return fn(v0)" in "".join(traceback.format_exception(caught.value))
    names = [name for name in linecache.cache if name.startswith("<erlmcp plan") and "'tool'" in name]
    assert names
    filename = plan.invoke.__code__.co_filename  # type: ignore[attr-defined]
    del plan, caught
    gc.collect()
    assert filename not in linecache.cache
