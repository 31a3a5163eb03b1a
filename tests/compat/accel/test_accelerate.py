"""What decides the level of a tool, what changes it, and what an accelerated app is besides its answers."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import httpx2 as httpx
import pytest
from mcp.server.lowlevel import Server as LowLevel
from mcp.server.mcpserver import Context, MCPServer, Resolve
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import ElicitRequest, ElicitRequestFormParams, EmptyResult, InputRequiredResult, PingRequest
from pydantic import Field
from stocktalk import MODERN, OurTalk

import erlmcp
from erlmcp import Client, ConfigurationError, accelerate
from erlmcp.client.memory import MemoryChannel
from erlmcp.compat.accel import adapter, tested
from erlmcp.compat.accel.watch import WatchedDict, WatchedList, watch
from erlmcp.server.serve import http

SAYINGS = ("word", "wait", "fail", "number")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERLMCP_ACCEL", raising=False)


def make_app(**options: Any) -> MCPServer[Any]:
    app = MCPServer("app", version="1", log_level="ERROR", **options)

    @app.tool()
    async def add(a: int, b: int = 2) -> int:
        return a + b

    return app


def call(**arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": "add", "arguments": arguments}


async def text_of(talk: OurTalk, method: str, params: Any) -> str:
    found = (await talk.ask(method, params))[-1]
    text: str = found["result"]["content"][0]["text"] if "result" in found else found["error"]["message"]
    return text


# -- levels ------------------------------------------------------------------------------------------------------------


def test_it_is_at_the_front_door_and_imports_no_sdk_before_it_is_used() -> None:
    assert erlmcp.accelerate is accelerate
    from erlmcp.compat.accel.known import is_app

    assert is_app(make_app())
    assert is_app(LowLevel("low"))
    assert not is_app(erlmcp.Server("own"))


@pytest.mark.parametrize(("level", "found"), [("auto", "l3"), ("l3", "l3"), ("l1", "l1"), ("off", "l1")])
def test_the_level_says_how_far_to_go_at_most(level: str, found: str) -> None:
    assert accelerate(make_app(), level).verdict("add").level == found


def test_the_variable_comes_before_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLMCP_ACCEL", "l1")
    verdict = accelerate(make_app(), "l3").verdict("add")
    assert (verdict.level, verdict.why) == ("l1", "level l1")


@pytest.mark.parametrize("where", ["variable", "argument"])
def test_another_word_is_refused_by_name(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "variable":
        monkeypatch.setenv("ERLMCP_ACCEL", "fast")
    expected = "ERLMCP_ACCEL='fast'" if where == "variable" else "level='fast'"
    with pytest.raises(ConfigurationError, match=expected):
        accelerate(make_app(), "auto" if where == "variable" else "fast")


def test_what_is_no_app_is_refused_with_what_would_be() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot accelerate a builtins\.object: expected a FastMCP"):
        accelerate(object())


async def test_a_version_that_was_not_tested_is_warned_of_and_goes_by_the_kernel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(tested.TESTED, "mcp", ("9.9",))
    with caplog.at_level(logging.WARNING, "erlmcp.accelerate"):
        server = accelerate(make_app())
    assert "mcp 2.3.0 was not tested with (tested: 9.9)" in caplog.text
    assert server.verdict("add").level == "l1"
    async with OurTalk(MODERN).opened(make_app()) as talk:
        await talk.open()
        assert await text_of(talk, *call(a=1)) == "3"


def test_an_exporter_of_spans_keeps_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "exports_spans", lambda: True)
    assert "OpenTelemetry" in accelerate(make_app()).verdict("add").why


# -- what stands in the way --------------------------------------------------------------------------------------------


class Odd(MCPServer[Any]):
    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        return await super().call_tool(name, arguments, context)


class OddTool(Tool):
    pass


def hidden_deep() -> Any:
    from mcp.server.auth.middleware.auth_context import get_access_token

    return get_access_token()


async def uses_ambient(a: int) -> str:
    return str(hidden_deep())


async def wants(ctx: Context) -> int:
    return 3


async def observer(ctx: Any, call_next: Any) -> Any:
    return await call_next(ctx)


def with_middleware(app: MCPServer[Any]) -> None:
    app.middleware.append(observer)


def with_handler(app: MCPServer[Any]) -> None:
    entry = app._lowlevel_server.get_request_handler("tools/call")
    assert entry is not None

    async def handler(ctx: Any, params: Any) -> Any:
        return await entry.handler(ctx, params)

    app._lowlevel_server.add_request_handler("tools/call", entry.params_type, handler)


def with_patched(app: MCPServer[Any]) -> None:
    app.call_tool = functools.partial(MCPServer.call_tool, app)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (with_middleware, "middleware observer"),
        (with_handler, "a handler of its own"),
        (with_patched, "MCPServer.call_tool is overridden"),
    ],
)
def test_what_is_put_before_all_tools_takes_their_plans(change: Any, why: str) -> None:
    app = make_app()
    change(app)
    server = accelerate(app)
    assert server.verdict("add").level == "l1"
    assert why in server.verdict("add").why


def test_a_subclass_that_overrides_the_call_keeps_the_kernel() -> None:
    app = Odd("odd", log_level="ERROR")
    app.add_tool(lambda a: a, name="add")
    assert accelerate(app).verdict("add").why == "Odd.call_tool is overridden"


async def takes_context(a: int, ctx: Context) -> int:
    return a


async def takes_resolved(n: Annotated[int, Resolve(wants)]) -> int:
    return n


async def takes_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    return region


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (takes_resolved, "it has Resolve parameters"),
        (takes_header, "an argument is mirrored in a header"),
        (uses_ambient, "it calls get_access_token()"),
    ],
)
def test_a_tool_that_is_not_plain_keeps_the_kernel_alone(function: Any, why: str) -> None:
    app = make_app()
    app.add_tool(function)
    server = accelerate(app)
    assert server.verdict(function.__name__).why == why
    assert server.verdict("add").level == "l3"


def test_a_tool_of_another_class_keeps_the_kernel() -> None:
    app = make_app()
    app._tool_manager._tools["odd"] = OddTool(**dict(Tool.from_function(takes_context)))
    assert "OddTool" in accelerate(app).verdict("odd").why


# -- changes -----------------------------------------------------------------------------------------------------------


async def test_a_tool_that_comes_or_goes_while_it_serves_is_there_or_gone_at_once() -> None:
    app = make_app()
    async with OurTalk(MODERN).opened(app) as talk:
        await talk.open()
        assert await text_of(talk, *call(a=1)) == "3"
        app.remove_tool("add")
        assert await text_of(talk, *call(a=1)) == "Unknown tool: add"

        async def add(a: int) -> str:
            return f"another {a}"

        app.add_tool(add)
        assert talk.server.verdict("add").level == "l3"
        assert await text_of(talk, *call(a=1)) == "another 1"


async def test_a_middleware_that_is_added_while_it_serves_sees_the_next_call() -> None:
    app, seen = make_app(), []
    async with OurTalk(MODERN).opened(app) as talk:
        await talk.open()
        assert await text_of(talk, *call(a=1)) == "3"

        async def sees(ctx: Any, call_next: Any) -> Any:
            seen.append(ctx.method)
            return await call_next(ctx)

        app.middleware.append(sees)
        assert talk.server.verdict("add").why == "middleware sees"
        assert await text_of(talk, *call(a=1)) == "3"
        assert seen == ["tools/call"]
        app.middleware.remove(sees)
        assert talk.server.verdict("add").level == "l3"
        assert await text_of(talk, *call(a=1)) == "3"
        assert seen == ["tools/call"]


async def test_a_change_in_another_thread_is_followed_on_the_loop() -> None:
    app = make_app()
    async with OurTalk(MODERN).opened(app) as talk:
        await talk.open()
        thread = threading.Thread(target=app.remove_tool, args=("add",))
        thread.start()
        await asyncio.to_thread(thread.join)
        assert await text_of(talk, *call(a=1)) == "Unknown tool: add"


def test_a_tool_that_is_changed_in_place_is_judged_anew_when_it_is_said() -> None:
    app = make_app()
    server = accelerate(app)
    tool = app._tool_manager.get_tool("add")
    assert tool is not None
    tool.fn = takes_context
    tool.context_kwarg = "ctx"
    app.add_tool(takes_header)
    assert server.verdict("add").level == "l3"  # Nobody told.
    server.decide()
    assert server.verdict("add").note == "compiled arguments, a ready answer, with the Context"


async def test_many_tools_that_come_while_it_serves_are_judged_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from erlmcp.compat.accel import sdk

    judged: list[str] = []
    plain = sdk.why_not
    monkeypatch.setattr(sdk, "why_not", lambda tool: judged.append(tool.name) or plain(tool))
    app = make_app()
    async with accelerate(app).running():
        for number in range(50):
            app.add_tool(lambda a: a, name=f"tool{number}")
    assert sorted(judged) == sorted({*judged})
    assert len(judged) == 51


def test_a_plan_is_kept_where_its_tool_is_the_same() -> None:
    app = make_app()
    server = accelerate(app)
    before = server.tools["add"]
    app.add_tool(takes_context)
    assert server.tools["add"] is before


def test_the_server_itself_takes_no_registrations() -> None:
    server = accelerate(make_app())
    for register in (server.add_tool, server.add_prompt, server.add_middleware):
        with pytest.raises(ConfigurationError, match="to the app"):
            register(takes_context)
    with pytest.raises(ConfigurationError, match="to the app"):
        server.add_resource(takes_context, "a://b")
    with pytest.raises(ConfigurationError, match="to the app"):
        server.completion(prompt="p")
    for method in ("rollout", "candidate"):
        with pytest.raises(ConfigurationError, match="one side"):
            getattr(server, method)("name")


def test_what_is_the_apps_own_business_is_no_option_here() -> None:
    with pytest.raises(ConfigurationError, match=r"guards, middleware: the app's own business; here: limits, flags"):
        accelerate(make_app(), middleware=[], guards=None)
    assert accelerate(make_app(), metrics=False).recorder is None


def test_it_describes_what_a_client_is_shown() -> None:
    app = make_app()

    @app.resource("a://{b}")
    def template(b: str) -> str:
        return b

    found = accelerate(app).describe()
    assert [each["name"] for each in found["tools"]] == ["add"]
    assert [each["uriTemplate"] for each in found["resourceTemplates"]] == ["a://{b}"]
    assert found["resources"] == found["prompts"] == []


# -- while it serves ---------------------------------------------------------------------------------------------------


async def test_a_lifespan_is_entered_and_left_once_in_one_task() -> None:
    tasks: list[Any] = []

    @asynccontextmanager
    async def life(_: Any) -> AsyncIterator[str]:
        async with anyio.create_task_group():  # which only its own task may leave
            tasks.append(asyncio.current_task())
            yield "value"
            tasks.append(asyncio.current_task())

    server = accelerate(make_app(lifespan=life))
    await server.start()
    await asyncio.create_task(server.stop())
    assert len(tasks) == 2
    assert tasks[0] is tasks[1]


async def test_what_a_lifespan_raises_is_what_starting_raises() -> None:
    @asynccontextmanager
    async def life(_: Any) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    with pytest.raises(ValueError, match="no database"):
        await accelerate(make_app(lifespan=life)).start()


async def test_a_call_that_is_taken_back_is_cancelled_in_its_handler() -> None:
    app, ended = make_app(), asyncio.Event()

    @app.tool()
    async def waits(ctx: Context) -> str:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            ended.set()
            raise

    async with OurTalk("2025-11-25").opened(app) as talk:
        await talk.open()
        asked = {"jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": {"name": "waits", "arguments": {}}}
        await talk.send(asked)
        await talk.ask("ping", None)
        await talk.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}})
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_listen_stream_hears_what_it_asked_for_and_ends_with_the_server() -> None:
    app = make_app()

    @app.tool()
    async def tells(ctx: Context) -> str:
        await ctx.notify_tools_changed()
        await ctx.notify_prompts_changed()
        return "told"

    talk = OurTalk(MODERN)
    async with talk.opened(app):
        await talk.open()
        params = talk.enveloped({"notifications": {"toolsListChanged": True}})
        await talk.send({"jsonrpc": "2.0", "id": "l", "method": "subscriptions/listen", "params": params})
        acknowledged = await talk.inbox.get()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == {"toolsListChanged": True}
        heard = [each.get("method") for each in await talk.ask("tools/call", {"name": "tells", "arguments": {}})]
        while not talk.inbox.empty() or "notifications/tools/list_changed" not in heard:
            heard.append((await talk.inbox.get()).get("method"))
        assert "notifications/prompts/list_changed" not in heard
        talk.server.hub.close()
        async with asyncio.timeout(5):
            last = await talk.inbox.get()
        assert last["id"] == "l"
        assert last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "l"


async def test_what_a_conversation_holds_is_given_back_at_its_end() -> None:
    low: LowLevel[Any] = LowLevel("low")
    freed = asyncio.Event()

    async def handler(ctx: Any, params: Any) -> Any:
        ctx.session._connection.exit_stack.callback(freed.set)
        return {}

    from mcp_types import RequestParams

    low.add_request_handler("org.example/hold", RequestParams, handler)
    async with OurTalk("2025-11-25").opened(low) as talk:
        await talk.open()
        await talk.ask("org.example/hold", {})
        assert not freed.is_set()
        talk.link.close()
        async with asyncio.timeout(5):
            await freed.wait()


async def test_what_a_client_reports_of_a_question_reaches_who_asked() -> None:
    app, heard = make_app(), []

    @app.tool()
    async def asks(ctx: Context) -> str:
        async def follow(progress: float, total: float | None, message: str | None) -> None:
            heard.append((progress, total, message))

        found = await ctx.session.send_request(PingRequest(), EmptyResult, progress_callback=follow)
        return type(found).__name__

    async with OurTalk("2025-11-25").opened(app) as talk:
        await talk.open()
        asked = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "asks", "arguments": {}}}
        await talk.send(asked)
        question = await talk.inbox.get()
        token = question["params"]["_meta"]["progressToken"]
        for told in (token, "of nobody"):
            params = {"progressToken": told, "progress": 1, "total": 2, "message": "half"}
            await talk.send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        await talk.send({"jsonrpc": "2.0", "id": question["id"], "result": {}})
        assert (await talk.inbox.get())["result"]["content"][0]["text"] == "EmptyResult"
    assert heard == [(1, 2, "half")]


async def test_a_middleware_may_refuse_the_handshake() -> None:
    async def veto(ctx: Any, call_next: Any) -> Any:
        from mcp.shared.exceptions import MCPError

        if ctx.method == "initialize":
            raise MCPError(code=-32001, message="not you")
        return await call_next(ctx)

    async with OurTalk("2025-11-25").opened(make_app(middleware=[veto])) as talk:
        found = await talk.open()
        assert found[-1]["error"]["message"] == "not you"
        refused = await talk.ask("tools/list", None)
        assert "error" in refused[-1]


async def test_a_page_of_the_app_is_served_beside_the_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    from starlette.responses import JSONResponse

    app = make_app()

    @app.custom_route("/health", methods=["GET"])
    async def health(request: Any) -> Any:
        await asyncio.sleep(0)
        said = {"asked": request.query_params.get("q"), "by": request.headers["x-who"]}
        return JSONResponse(said, status_code=207, headers={"X-Own": "yes"})

    @app.custom_route("/broken", methods=["GET"])
    async def broken(request: Any) -> Any:
        raise ValueError("a secret")

    async with http(accelerate(app), port=0) as listener, httpx.AsyncClient() as client:
        base = f"http://127.0.0.1:{listener.port}"
        for _ in range(2):  # on one connection, whose head is known the second time
            answer = await client.get(f"{base}/health?q=how%20are%20you", headers={"X-Who": "me"})
            assert (answer.status_code, answer.json()) == (207, {"asked": "how are you", "by": "me"})
            assert answer.headers["x-own"] == "yes"
        assert (await client.post(f"{base}/health")).status_code == 405
        failed = await client.get(f"{base}/broken")
        assert (failed.status_code, failed.text) == (500, "Internal Server Error")
        assert (await client.get(f"{base}/health/live")).status_code == 200
    assert "the route /broken of the app raised" in caplog.text


@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_a_client_of_this_process_is_answered_as_one_over_bytes(mode: str) -> None:
    app = make_app()

    @app.tool()
    async def says(what: str) -> str:
        if what == "fail":
            raise ToolError("no")
        if what == "wait":
            await asyncio.sleep(0)
        return 3 if what == "number" else what  # type: ignore[return-value]

    found = []
    for objects in (True, False):
        async with Client(MemoryChannel(accelerate(app), objects=objects), mode=mode) as client:
            answers = [await client.call_tool("says", {"what": what}, raise_on_error=False) for what in SAYINGS]
            answers.append(await client.call_tool("add", {"a": "x"}, raise_on_error=False))
            answers.append(await client.call_tool("gone", {}, raise_on_error=False))
            found.append([answer.raw for answer in answers])
    assert found[0] == found[1]
    assert [bool(answer["isError"]) for answer in found[0]] == [False, False, True, True, True, True]


async def test_a_plain_tool_that_asks_after_all_has_its_state_sealed() -> None:
    app = make_app()

    @app.tool()
    async def asks(a: int):  # type: ignore[no-untyped-def]
        question = ElicitRequestFormParams(message="?", requested_schema={"type": "object", "properties": {}})
        return InputRequiredResult(input_requests={"q": ElicitRequest(params=question)}, request_state="secret")

    async with OurTalk(MODERN).opened(app) as talk:
        await talk.open()
        assert talk.server.verdict("asks").level == "l3"
        found = (await talk.ask("tools/call", {"name": "asks", "arguments": {"a": 1}}))[-1]["result"]
        assert found["resultType"] == "input_required"
        assert found["requestState"] not in (None, "secret")


# -- the containers ----------------------------------------------------------------------------------------------------


class Owner:
    def __init__(self, value: Any) -> None:
        self.value = value


@pytest.fixture
def told() -> list[int]:
    return []


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.__setitem__("a", 1),
        lambda d: d.update(a=1),
        lambda d: d.pop("k"),
        lambda d: d.clear(),
        lambda d: d.setdefault("a", 1),
        lambda d: d.popitem(),
        lambda d: d.__delitem__("k"),
        lambda d: d.__ior__({"a": 1}),
    ],
)
def test_a_watched_dict_tells_of_each_change(change: Any, told: list[int]) -> None:
    owner = Owner({"k": 0})
    watch(owner, "value", lambda: told.append(1))
    assert isinstance(owner.value, WatchedDict)
    plain = {"k": 0}
    change(plain)
    change(owner.value)
    assert owner.value == plain
    assert told == [1]


def test_a_watched_list_tells_of_each_change_and_all_who_watch(told: list[int]) -> None:
    owner = Owner([3, 1])
    watch(owner, "value", lambda: told.append(1))
    watch(owner, "value", lambda: told.append(2))
    assert isinstance(owner.value, WatchedList)
    owner.value.append(2)
    owner.value.sort()
    owner.value += [4]
    assert owner.value == [1, 2, 3, 4]
    assert told == [1, 2] * 3
    assert json.dumps(owner.value) == "[1, 2, 3, 4]"
