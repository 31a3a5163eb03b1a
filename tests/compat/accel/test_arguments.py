"""Compiled arguments against the tool's own validator: whatever comes, both say the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.server.mcpserver import Context, MCPServer
from stocktalk import MODERN, OurTalk, settled

pytestmark = pytest.mark.filterwarnings("ignore")
KEYS = ("a", "b", "c", "d", "e", "f", "g", "h")


async def everything(
    a: int,
    b: float,
    c: str,
    d: bool = False,
    e: dict = {"k": 1},  # noqa: B006
    f: list = [],  # noqa: B006
    g: int = 3,
    h: str = "h",
) -> str:
    return repr((a, b, c, d, e, f, g, h, type(a), type(b), type(d)))


async def plain(a: int, b: float = 1.5, c: str = "c", d: bool = True) -> str:
    return repr((a, b, c, d, type(a), type(b), type(d)))


def fitted(context: Any) -> Any:
    """The same as ``plain``, with the Context among its parameters."""

    async def within(a: int, ctx: Any, b: float = 1.5, c: str = "c", d: bool = True) -> str:
        return repr((a, b, c, d, type(a), type(b), type(d), type(ctx).__name__))

    within.__annotations__["ctx"] = context
    return within


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["1", "1.0", "true", "null", "[1]", '{"a": 1}', "yes", "-0", "1e3", " 2 ", "0x10", "1_000"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda deep: st.lists(deep, max_size=3) | st.dictionaries(st.text(max_size=2), deep, max_size=3),
    max_leaves=5,
)
FITTING = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(-9, 9) | SCALARS,
        "b": st.floats(-9, 9) | SCALARS,
        "c": st.text(max_size=3) | SCALARS,
        "d": st.booleans() | SCALARS,
    },
)
ARGUMENTS = FITTING | st.dictionaries(st.sampled_from([*KEYS, "other"]), VALUES, max_size=8)


class Pair:
    """The same tools at both levels."""

    def __init__(self, kind: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.talks: list[OurTalk] = []
        self.open: list[Any] = []
        for level in ("l3", "l1"):
            talk = OurTalk(MODERN)
            context = talk.opened(make_app(kind), level)
            self.loop.run_until_complete(context.__aenter__())
            self.loop.run_until_complete(talk.open())
            self.talks.append(talk)
            self.open.append(context)

    def answers(self, name: str, arguments: dict[str, Any]) -> list[Any]:
        async def ask(talk: OurTalk) -> list[Any]:
            return [each.get("result") for each in settled(await talk.ask("tools/call", asked))]

        asked = {"name": name, "arguments": arguments}
        return [self.loop.run_until_complete(ask(talk)) for talk in self.talks]

    def close(self) -> None:
        for context in self.open:
            self.loop.run_until_complete(context.__aexit__(None, None, None))
        self.loop.close()


def make_app(kind: str) -> Any:
    if kind == "mcp":
        app = MCPServer("app", log_level="ERROR")
        app.add_tool(everything)
        app.add_tool(plain)
        app.add_tool(fitted(Context))
        return app
    import fastmcp

    made = fastmcp.FastMCP("app")
    made.tool(everything)
    made.tool(plain)
    made.tool(fitted(fastmcp.Context))
    return made


@pytest.fixture(scope="module", params=["mcp", "fastmcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    if find_spec(request.param) is None:
        pytest.skip("fastmcp is not installed; .ci/run compat installs it")
    logging.disable(logging.CRITICAL)
    made = Pair(request.param)
    yield made
    made.close()
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", ["plain", "within", "everything"])
@settings(max_examples=150)
@given(arguments=ARGUMENTS)
def test_both_levels_say_the_same_of_any_arguments(pair: Pair, name: str, arguments: dict[str, Any]) -> None:
    straight, kernel = pair.answers(name, arguments)
    assert straight == kernel


def test_the_short_way_is_what_is_compared(pair: Pair) -> None:
    verdicts = [talk.server.verdict("plain") for talk in pair.talks]
    assert [verdict.level for verdict in verdicts] == ["l3", "l1"]
    assert verdicts[0].note == "compiled arguments, a ready answer"
    assert pair.talks[0].server.verdict("within").note == "compiled arguments, a ready answer, with the Context"
