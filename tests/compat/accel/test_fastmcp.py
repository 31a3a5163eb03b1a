"""What decides the level of a FastMCP's tools, and what changes it."""

from __future__ import annotations

from typing import Any

import pytest
from stocktalk import MODERN, OurTalk

from erlmcp import accelerate

try:
    import fastmcp
    from fastmcp.server.middleware import Middleware
    from fastmcp.server.middleware.timing import TimingMiddleware
    from fastmcp.server.transforms import Namespace
except ImportError:
    pytest.skip("fastmcp is not installed; .ci/run compat installs it", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERLMCP_ACCEL", raising=False)


def make_app(**options: Any) -> Any:
    app = fastmcp.FastMCP("app", version="1", **options)

    @app.tool(tags={"sums"})
    async def add(a: int, b: int = 2) -> int:
        return a + b

    return app


class ListsOnly(Middleware):
    async def on_list_tools(self, context: Any, call_next: Any) -> Any:
        return await call_next(context)


class Odd(fastmcp.FastMCP):
    async def get_tool(self, name: str, version: Any = None) -> Any:
        return await super().get_tool(name, version)


def mounted(app: Any) -> None:
    app.mount(fastmcp.FastMCP("child"), namespace="c")


def by_session(app: Any) -> None:
    @app.tool
    async def hides(ctx: fastmcp.Context) -> str:
        await ctx.disable_components(names={"add"})
        return "hidden"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda app: app.add_middleware(TimingMiddleware()), "middleware TimingMiddleware"),
        (lambda app: app.add_transform(Namespace("n")), "transform Namespace"),
        (mounted, "a mounted server or another provider"),
        (by_session, "hides calls disable_components(), which is for one session"),
        (lambda app: app.disable(tags={"sums"}), "it is disabled"),
    ],
)
def test_what_comes_before_a_call_takes_the_plans_whenever_it_is_added(change: Any, why: str) -> None:
    app = make_app()
    change(app)
    assert why in accelerate(app).verdict("add").why
    later = make_app()
    server = accelerate(later)
    assert server.verdict("add").level == "l3"
    change(later)
    assert why in server.verdict("add").why
    assert "add" not in server.tools


def test_what_is_shown_again_has_its_plan_again() -> None:
    app = make_app()
    server = accelerate(app)
    app.disable(tags={"sums"})
    assert server.verdict("add").level == "l1"
    app.enable(tags={"sums"})
    assert server.verdict("add").level == "l3"


def test_a_middleware_that_sees_no_calls_is_in_no_ones_way() -> None:
    assert accelerate(make_app(middleware=[ListsOnly()])).verdict("add").level == "l3"


def test_a_subclass_that_looks_tools_up_by_itself_keeps_the_kernel() -> None:
    app = Odd("odd")
    app.tool(lambda a: a, name="add")
    assert accelerate(app).verdict("add").why == "Odd.get_tool is overridden"


def test_a_tool_that_is_more_than_a_function_keeps_the_kernel() -> None:
    app = make_app()

    @app.tool(timeout=3)
    async def hasty(a: int) -> int:
        return a

    @app.tool(version="2")
    async def versioned(a: int) -> int:
        return a

    @app.tool(auth=lambda ctx: True)
    async def guarded(a: int) -> int:
        return a

    server = accelerate(app)
    assert {name: server.verdict(name).why for name in ("hasty", "versioned", "guarded")} == {
        "hasty": "it has a timeout",
        "versioned": "it has a version",
        "guarded": "it has auth of its own",
    }
    assert server.verdict("add").level == "l3"


async def test_a_mounted_server_answers_through_the_kernel() -> None:
    app, child = make_app(), fastmcp.FastMCP("child")

    @child.tool
    async def inner(text: str) -> str:
        return text

    async with OurTalk(MODERN).opened(app) as talk:
        await talk.open()
        app.mount(child, namespace="c")
        found = await talk.ask("tools/call", {"name": "c_inner", "arguments": {"text": "in"}})
        assert found[-1]["result"]["structuredContent"] == {"result": "in"}
