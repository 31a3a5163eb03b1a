"""A FastMCP whose tools use all that its Context has, and what stands around a call."""

# mypy: ignore-errors
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import anyio.from_thread
from fastmcp import Context, FastMCP
from fastmcp.dependencies import CurrentContext, Shared
from fastmcp.exceptions import DisabledError, NotFoundError, ToolError
from fastmcp.exceptions import ValidationError as ArgumentError
from fastmcp.server.dependencies import (
    OptionalCurrentContext,
    get_access_token,
    get_context,
    get_http_headers,
    get_http_request,
    get_server,
)
from mcp.shared.exceptions import MCPError
from mcp_types import MISSING_REQUIRED_CLIENT_CAPABILITY, ElicitRequest, ElicitRequestFormParams, InputRequiredResult
from pydantic import BaseModel, Field


@asynccontextmanager
async def life(_: FastMCP) -> AsyncIterator[dict]:
    yield {"opened": "once"}


app = FastMCP("told", version="1", lifespan=life)


class Choice(BaseModel):
    size: int


@app.tool
async def logs(text: str, ctx: Context) -> str:
    for level in ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"):
        await ctx.log(text, level=level, logger_name=level[0])
    return text


@app.tool
async def goes_on(ctx: Context, steps: int = 2) -> int:
    for step in range(steps):
        await ctx.report_progress(step)
        await ctx.info(f"step {step}", extra={"step": step})
        await ctx.report_progress(step + 0.5, steps, "half")
    return steps


@app.tool
async def knows(ctx: Context) -> dict:
    request = ctx.request_context
    return {
        "id": ctx.request_id,
        "client": ctx.client_id,
        "origin": ctx.origin_request_id,
        "meta": sorted(request.meta or {}),
        "version": request.protocol_version,
        "lifespan": ctx.lifespan_context,
        "transport": ctx.transport,
        "task": ctx.is_background_task,
        "responses": ctx.input_responses,
        "state": ctx.request_state,
        "same": get_context() is ctx,
        "server": ctx.fastmcp.name,
        "settings": ctx.client_extension_settings("org.example/x"),
        "info": None if ctx.session.client_params is None else ctx.session.client_params.client_info.name,
    }


@app.tool
async def validated(count: Annotated[int, Field(gt=0)], ctx: Context, names: list[str] | None = None) -> list[str]:
    return [f"{name} {ctx.fastmcp.name}" for name in names or ["nobody"]] * count


@app.tool
async def asks(ctx: Context) -> str:
    found = await ctx.elicit("Which size?", response_type=Choice)
    return found.action


@app.tool
async def lists(ctx: Context) -> str:
    tools = await ctx.fastmcp.list_tools()
    resources = await ctx.list_resources()
    prompts = await ctx.list_prompts()
    return f"{len(tools)} {[str(each.uri) for each in resources]} {[each.name for each in prompts]}"


@app.tool
async def reads(uri: str, ctx: Context) -> str:
    return "|".join(str(each.content) for each in (await ctx.read_resource(uri)).contents)


@app.tool
async def nests(text: str, ctx: Context) -> str:
    await ctx.set_state("before", text, serializable=False)
    found = await ctx.fastmcp.call_tool("inner", {"text": text})
    return f"{found.content[0].text} {await ctx.get_state('after')} {get_context() is ctx}"


@app.tool
async def inner(text: str, ctx: Context) -> str:
    await ctx.set_state("after", "later", serializable=False)
    return f"{text} {await ctx.get_state('before')}"


@app.tool
async def remembers(ctx: Context) -> str:
    before = await ctx.get_state("key")
    await ctx.set_state("key", "kept")
    return f"{before} {await ctx.get_state('key')} {len(ctx.session_id) > 0}"


@app.tool
async def tells(ctx: Context) -> str:
    from mcp_types import ResourceListChangedNotification, ToolListChangedNotification

    await ctx.send_notification(ToolListChangedNotification())
    await ctx.send_notification(ResourceListChangedNotification())
    return "told"


@app.tool
def sync(text: str, ctx: Context) -> str:
    anyio.from_thread.run(ctx.info, text)
    return f"{text} {get_context().fastmcp.name}"


@app.tool(run_in_thread=False)
def inline(text: str, ctx: Context) -> str:
    return f"{text} {ctx.request_id}"


@app.tool
def late(ctx: Context) -> str:
    async def later() -> str:
        await ctx.info("late")
        return "later"

    return later()


@app.tool
async def streams(ctx: Context) -> list[str]:
    async def each() -> AsyncIterator[str]:
        yield ctx.fastmcp.name
        yield get_context().fastmcp.name

    return each()


@app.tool
async def injected(
    text: str,
    ctx: Context = CurrentContext(),  # noqa: B008
    other: Context | None = OptionalCurrentContext(),  # noqa: B008
) -> str:
    return f"{text} {ctx is other}"


OPENED = []


def pool() -> dict:
    OPENED.append(1)
    return {"pool": len(OPENED)}


@app.tool
async def shares(ctx: Context, found: dict = Shared(pool)) -> str:  # noqa: B008
    return f"{found} {ctx.fastmcp.name}"


@app.tool
async def reaches(ctx: Context) -> str:
    return (await ctx.fastmcp.call_tool("shares", {})).content[0].text


@app.tool
async def ambient(text: str = "a") -> str:
    await get_context().info(text)
    return f"{text} {get_server().name} {sorted(get_http_headers())}"


@app.tool
def ambient_sync(text: str) -> str:
    return f"{text} {get_context().request_id}"


@app.tool
async def requested() -> str:
    return get_http_request().method


@app.tool
async def token() -> str:
    return str(get_access_token())


@app.tool
async def rounds(ctx: Context):  # it does not say that it may ask
    if not ctx.input_responses:
        question = ElicitRequestFormParams(
            message="Size?", requested_schema={"type": "object", "properties": {"size": {"type": "integer"}}}
        )
        return InputRequiredResult(input_requests={"size": ElicitRequest(params=question)}, request_state="asked")
    return f"{ctx.request_state} {sorted(ctx.input_responses)}"


@app.tool
async def raises(what: str, ctx: Context) -> str:
    await ctx.warning(what)
    if what == "tool":
        raise ToolError("deliberate")
    if what == "gone":
        raise NotFoundError("no such thing")
    if what == "disabled":
        raise DisabledError("no such thing")
    if what == "argument":
        raise ArgumentError("not so")
    if what == "protocol":
        raise MCPError(code=-32042, message="go there", data={"k": 1})
    if what == "capability":
        raise MCPError(code=MISSING_REQUIRED_CLIENT_CAPABILITY, message="sampling")
    if what == "timeout":
        with anyio.fail_after(0):
            await anyio.sleep(1)
    if what == "model":
        Choice.model_validate({})
    if what == "number":
        return 3
    raise ValueError("what is wrong")


@app.resource("data://one")
def one() -> str:
    return "first"


@app.resource("data://broken")
def broken() -> str:
    raise ValueError("what is wrong")


@app.resource("who://{name}")
async def who(name: str, ctx: Context) -> str:
    await ctx.info(name)
    return f"{name} {ctx.input_responses}"


@app.prompt
def greet(name: str) -> str:
    return f"Greet {name}"


def call(name: str, /, **arguments: object) -> tuple[str, dict]:
    return "tools/call", {"name": name, "arguments": arguments}


def call_with(meta: dict, name: str, /, **arguments: object) -> tuple[str, dict]:
    return "tools/call", {"name": name, "arguments": arguments, "_meta": meta}


LEVEL = "io.modelcontextprotocol/logLevel"
REQUESTS = [
    call("logs", text="none"),
    *[call_with({LEVEL: level}, "logs", text=level) for level in ("debug", "notice", "error", "emergency")],
    call_with({LEVEL: "loud"}, "logs", text="no level"),
    ("logging/setLevel", {"level": "error"}),
    call_with({LEVEL: "debug"}, "logs", text="less"),
    ("logging/setLevel", {"level": "debug"}),
    call("goes_on"),
    call_with({"progressToken": "p", LEVEL: "debug"}, "goes_on"),
    call_with({"progressToken": 7}, "goes_on", steps=1),
    call_with({"progressToken": 1.5}, "goes_on", steps=1),
    call_with({"progressToken": "p"}, "goes_on", steps="1"),
    call("knows"),
    call_with({"progressToken": "t", "own": {"k": 1}}, "knows"),
    call_with({"fastmcp": {"version": "2"}}, "knows"),
    ("tools/call", {"name": "knows"}),
    ("tools/call", {"name": "knows", "arguments": {}, "more": 1}),
    ("tools/call", {"name": "knows", "arguments": {"ctx": 1}}),
    call("validated", count=1),
    call("validated", count=2, names='["a"]'),
    call("validated", count=0),
    call("validated", count=1, more=2),
    call("validated"),
    call("asks"),
    call("lists"),
    *[
        call_with({LEVEL: "info"}, "reads", uri=uri)
        for uri in ("data://one", "data://none", "data://broken", "who://a")
    ],
    call("nests", text="within"),
    call("inner", text="alone"),
    call("remembers"),
    call("remembers"),
    call("tells"),
    call_with({LEVEL: "info"}, "sync", text="ordinary"),
    call("sync", text=1),
    call("inline", text="here"),
    call_with({LEVEL: "info"}, "late"),
    call("streams"),
    call("injected", text="t"),
    call("reaches"),
    call("shares"),
    call("reaches"),
    call_with({LEVEL: "info"}, "ambient"),
    call("ambient", text=None),
    call("ambient", text="b", more=1),
    call("ambient_sync", text="b"),
    call("ambient_sync"),
    call("requested"),
    call("token"),
    ("tools/call", {"name": "knows", "arguments": {}, "inputResponses": {}}),
    *[
        call_with({LEVEL: "info"}, "raises", what=what)
        for what in (
            "tool",
            "gone",
            "disabled",
            "argument",
            "protocol",
            "capability",
            "timeout",
            "model",
            "number",
            "else",
        )
    ],
    call("rounds"),
]
PLAIN = {
    "logs",
    "goes_on",
    "knows",
    "validated",
    "asks",
    "nests",
    "reaches",
    "sync",
    "inline",
    "late",
    "injected",
    "ambient",
    "ambient_sync",
    "requested",
}
KERNEL = {"shares", "token"}
