"""Tools that take the Context and are called straight: what is the kernel's all the same, and how a call ends."""

from __future__ import annotations

import asyncio
import logging
from importlib.util import find_spec
from typing import Any

import anyio
import anyio.from_thread
import pytest
from mcp.server.mcpserver import Context, MCPServer
from stocktalk import MODERN, ROOT, OurTalk, StockTalk, Talk

from erlmcp import accelerate
from erlmcp.compat.accel.context import is_plain, taker
from erlmcp.runtime.executor import Executor
from erlmcp.server.param import MISSING

pytestmark = pytest.mark.filterwarnings("ignore")
WAIT_S = 5
ERAS = ("2025-11-25", MODERN)
KINDS = ("mcp", "fastmcp")


@pytest.fixture(autouse=True)
def no_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERLMCP_ACCEL", raising=False)
    logging.disable(logging.NOTSET)


def fastmcp_context() -> Any:
    import fastmcp

    return fastmcp.Context


class Seen:
    """What a tool of ``make_app`` did."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.freed = asyncio.Event()
        self.how = ""


def make_app(kind: str, seen: Seen) -> Any:
    """One of either SDK, with a tool that waits, one that asks, and one that leaves something to be done at the end."""
    app: Any
    taken: Any = Context
    if kind == "mcp":
        app = MCPServer("app", version="1", log_level="ERROR")
        add = app.add_tool
    else:
        if find_spec("fastmcp") is None:
            pytest.skip("fastmcp is not installed; .ci/run compat installs it")
        import fastmcp

        app = fastmcp.FastMCP("app", version="1")
        taken, add = fastmcp_context(), app.tool

    async def waits(ctx: Any) -> str:
        seen.begun.set()
        await ctx.info("waiting")
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            seen.how = "cancelled"
            raise
        finally:
            seen.ended.set()

    async def asks(ctx: Any) -> str:
        try:
            found = await ctx.session.list_roots()
        except asyncio.CancelledError:
            seen.how = "cancelled"
            raise
        finally:
            seen.ended.set()
        return f"{len(found.roots)} roots"

    async def leaves(ctx: Any) -> str:
        ctx.session._connection.exit_stack.callback(seen.freed.set)
        return f"freed: {seen.freed.is_set()}"

    for tool in (waits, asks, leaves):
        tool.__annotations__["ctx"] = taken
        add(tool)
    return app


def asked(talk: Talk, name: str, id: Any, **more: Any) -> dict[str, Any]:
    params = talk.enveloped({"name": name, "arguments": {}, **more})
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def talk_of(who: str, era: str) -> Talk:
    return StockTalk(era) if who == "stock" else OurTalk(era)


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(WAIT_S):
        await event.wait()


async def came(talk: Talk) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_S):
        found: dict[str, Any] = await talk.inbox.get()
        return found


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_is_taken_back_while_it_waits_ends_as_by_the_sdk(kind: str, era: str) -> None:
    ends = []
    for who in ("stock", "ours"):
        seen = Seen()
        talk: Any = talk_of(who, era)
        async with talk.opened(make_app(kind, seen)):
            await talk.open()
            assert who == "stock" or talk.server.verdict("waits").level == "l3"
            await talk.send(asked(talk, "waits", 77))
            await until(seen.begun)
            params = talk.enveloped({"requestId": 77})
            await talk.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
            await until(seen.ended)
            method = "ping" if era != MODERN else "tools/list"
            heard = [each.get("method", each.get("id")) for each in await talk.ask(method, None)]
            ends.append((seen.how, [each for each in heard if each != 77]))
    assert ends[0] == ends[1]
    assert ends[1][0] == "cancelled"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_is_taken_back_while_its_client_is_asked_ends(kind: str) -> None:
    seen = Seen()
    talk = OurTalk("2025-11-25")
    async with talk.opened(make_app(kind, seen)):
        await talk.open()
        await talk.send(asked(talk, "asks", 78))
        question = await came(talk)
        assert question["method"] == "roots/list"
        await talk.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 78}})
        await until(seen.ended)
        assert seen.how == "cancelled"
        await talk.send({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}})  # too late
        assert [each["id"] for each in await talk.ask("ping", None) if "result" in each] == [2]


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_one_conversation_that_ask_at_once_have_each_its_own_answer(kind: str) -> None:
    talk = OurTalk("2025-11-25")
    async with talk.opened(make_app(kind, Seen())):
        await talk.open()
        for id in ("a", "b"):
            await talk.send(asked(talk, "asks", id))
        questions = [await came(talk), await came(talk)]
        for count, question in reversed([*enumerate(questions)]):
            roots = [{"uri": f"file:///{n}"} for n in range(count)]
            await talk.send({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": roots}})
        answers = [await came(talk), await came(talk)]
        said = {each["id"]: each["result"]["content"][0]["text"] for each in answers}
        assert said == {"a": "0 roots", "b": "1 roots"}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_call_leaves_to_be_done_is_done_at_the_end_of_its_connection(kind: str, era: str) -> None:
    """After each request of 2026-07-28; with the conversation before."""
    seen = Seen()
    talk = OurTalk(era)
    async with talk.opened(make_app(kind, seen)):
        await talk.open()
        found = await talk.ask("tools/call", {"name": "leaves", "arguments": {}})
        assert found[-1]["result"]["content"][0]["text"] == "freed: False"
        assert seen.freed.is_set() == (era == MODERN)
        talk.link.close()
        await until(seen.freed)


async def test_a_call_leaves_the_variables_of_its_carrier_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastmcp")
    replaced: list[Executor] = []
    monkeypatch.setattr(Executor, "replace", replaced.append)
    app, talk = make_app("fastmcp", Seen()), OurTalk(MODERN)

    async def at_once(ctx: Any) -> str:
        return f"{ctx.transport} {ctx.fastmcp.name}"

    at_once.__annotations__["ctx"] = fastmcp_context()
    app.tool(at_once)
    async with talk.opened(app):
        assert talk.server.verdict("at_once").level == "l3"
        found = await talk.ask("tools/call", {"name": "at_once", "arguments": {}})
        assert found[-1]["result"]["content"][0]["text"] == "stdio app"
        assert replaced == []


async def test_a_call_before_the_handshake_is_the_kernels_business() -> None:
    talk = OurTalk("2025-11-25")
    async with talk.opened(make_app("mcp", Seen())):
        found = await talk.ask("tools/call", {"name": "leaves", "arguments": {}})
        assert "error" in found[-1]


async def test_an_ordinary_function_reaches_the_loop_from_its_thread() -> None:
    app, told = MCPServer("app", log_level="ERROR"), []

    @app.tool()
    def sync(ctx: Context) -> str:
        anyio.from_thread.run(ctx.report_progress, 1)
        told.append(anyio.from_thread.run_sync(asyncio.get_running_loop))
        return "told"

    async with OurTalk(MODERN).opened(app) as talk:
        await talk.open()
        assert talk.server.verdict("sync").note == ("compiled arguments, a ready answer, in a thread, with the Context")
        found = await talk.ask("tools/call", {"name": "sync", "arguments": {}, "_meta": {"progressToken": 1}})
        assert [each.get("method", each.get("id")) for each in found] == ["notifications/progress", 2]
        assert told == [asyncio.get_running_loop()]


@pytest.mark.parametrize(
    "params",
    [
        None,
        {"name": "a", "arguments": [1]},
        {"name": "a", "inputResponses": {}},
        {"name": "a", "requestState": "s"},
        {"name": "a", "_meta": None},
        {"name": "a", "_meta": {"traceparent": "00-1-2-01"}},
        {"name": "a", "_meta": {"fastmcp": {"version": "1"}}},
        {"name": "a", "_meta": {"progressToken": 1.5}},
        {"name": "a", "_meta": {"progressToken": True}},
        {"name": "a", "_meta": {ROOT + "logLevel": "loud"}},
    ],
)
def test_what_says_more_than_a_tool_and_its_arguments_is_the_kernels_business(params: Any) -> None:
    assert not is_plain(params)
    assert is_plain({"name": "a", "arguments": None, "_meta": {"progressToken": 1, ROOT + "logLevel": "alert"}})
    assert is_plain({"name": "a"})


@pytest.mark.parametrize(("is_strict", "more"), [(False, {"a": 1, "b": "b"}), (True, None)])
def test_arguments_are_taken_as_they_are_or_left_to_the_validator(is_strict: bool, more: Any) -> None:
    take = taker((("a", "b"), (int, str), (MISSING, "b")), is_strict=is_strict)
    assert take({"a": 1}) == {"a": 1, "b": "b"}
    assert take({"a": 1, "b": "c"}) == {"a": 1, "b": "c"}
    assert take({"b": "c"}) is None
    assert take({"a": True}) is None
    assert take({"a": 1, "b": None}) is None
    assert take({"a": 1, "other": 2}) == more


async def test_a_client_whose_description_the_sdk_would_refuse_is_the_kernels_business() -> None:
    talk = OurTalk(MODERN)
    async with talk.opened(make_app("mcp", Seen())):
        await talk.open()
        meta = {ROOT + "clientCapabilities": {"sampling": 5}}
        found = await talk.ask("tools/call", {"name": "leaves", "arguments": {}, "_meta": meta})
        assert found[-1]["error"]["code"] == -32602


def test_functions_that_look_for_more_than_a_context_gives_keep_the_kernel() -> None:
    app = MCPServer("app", log_level="ERROR")

    @app.tool()
    async def who(ctx: Context) -> str:
        from mcp.server.auth.middleware.auth_context import get_access_token

        return str(get_access_token())

    assert accelerate(app).verdict("who").why == "it calls get_access_token()"
