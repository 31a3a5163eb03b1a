"""An MCPServer whose tools use all that the Context has: within, at the ends of what it allows, and where it raises."""

# mypy: ignore-errors
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import anyio.from_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult, PingRequest
from pydantic import BaseModel, Field


class Books:
    def __init__(self) -> None:
        self.lent = 0


@asynccontextmanager
async def life(_: MCPServer) -> AsyncIterator[Books]:
    yield Books()


app = MCPServer("told", lifespan=life, log_level="ERROR")


class Choice(BaseModel):
    size: int
    why: str = "no reason"


@app.tool()
async def logs(text: str, ctx: Context) -> str:
    for level in ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"):
        await ctx.log(level, {"said": text}, logger_name=level[0])
    await ctx.session.send_log_message("info", "of nobody", logger="alone")
    return text


@app.tool()
async def goes_on(ctx: Context, steps: int = 2) -> int:
    for step in range(steps):
        await ctx.report_progress(step)
        await ctx.info(f"step {step}")
        await ctx.report_progress(step + 0.5, steps, "half")
    return steps


@app.tool()
async def knows(ctx: Context) -> dict:
    request = ctx.request_context
    return {
        "id": ctx.request_id,
        "client": ctx.client_id,
        "version": ctx.protocol_version,
        "meta": sorted(request.meta or {}),
        "token": (request.meta or {}).get("progress_token"),
        "method": request.method,
        "params": sorted(request.params or {}),
        "capabilities": None if ctx.client_capabilities is None else ctx.client_capabilities.model_dump(mode="json"),
        "info": None if ctx.session.client_params is None else ctx.session.client_params.client_info.name,
        "can_ask": ctx.session.can_send_request,
        "headers": ctx.headers is not None,
        "responses": ctx.input_responses,
        "state": ctx.request_state,
        "server": ctx.mcp_server.name,
    }


@app.tool()
async def lends(ctx: Context[Books]) -> int:
    books = ctx.request_context.lifespan_context
    books.lent += 1
    return books.lent


@app.tool()
async def validated(count: Annotated[int, Field(gt=0)], ctx: Context, names: list[str] | None = None) -> list[str]:
    return [f"{name} {ctx.mcp_server.name}" for name in names or ["nobody"]] * count


@app.tool()
async def asks(ctx: Context) -> str:
    found = await ctx.elicit("Which size?", schema=Choice)
    await ctx.info(found.action)
    return f"{found.action} {getattr(found, 'data', None)}"


@app.tool()
async def leads(ctx: Context) -> str:
    return (await ctx.elicit_url("Go there", "https://example.org", "e1")).action


@app.tool()
async def pings(ctx: Context) -> str:
    from mcp_types import EmptyResult

    return type(await ctx.session.send_request(PingRequest(), EmptyResult)).__name__


@app.tool()
async def rounds(ctx: Context):  # it does not say that it may ask
    if not ctx.input_responses:
        question = ElicitRequestFormParams(
            message="Size?", requested_schema={"type": "object", "properties": {"size": {"type": "integer"}}}
        )
        return InputRequiredResult(input_requests={"size": ElicitRequest(params=question)}, request_state="asked")
    return f"{ctx.request_state} {sorted(ctx.input_responses)}"


@app.tool()
async def reads(uri: str, ctx: Context) -> str:
    return "|".join([str(each.content) for each in await ctx.read_resource(uri)])


@app.tool()
async def nests(text: str, ctx: Context) -> str:
    found = await app.call_tool("sync", {"text": text}, ctx)
    return found.content[0].text


@app.tool()
async def tells(ctx: Context) -> str:
    await ctx.session.send_tool_list_changed()
    await ctx.session.send_resource_updated("data://one")
    await ctx.notify_resource_updated("data://one")
    await ctx.notify_tools_changed()
    return "told"


@app.tool()
def sync(text: str, ctx: Context) -> str:
    anyio.from_thread.run(ctx.info, text)
    return f"{text} {ctx.mcp_server.name}"


@app.tool()
async def raises(what: str, ctx: Context) -> str:
    await ctx.warning(what)
    if what == "tool":
        raise ToolError("deliberate")
    if what == "resource":
        raise ResourceError("not there")
    if what == "protocol":
        raise MCPError(code=-32042, message="go there", data={"k": 1})
    if what == "timeout":
        with anyio.fail_after(0):
            await anyio.sleep(1)
    if what == "model":
        Choice.model_validate({})
    if what == "number":
        return 3
    raise ValueError("a secret")


class Holder:
    async def holds(self, ctx: Context, *, text: str = "held") -> str:
        await ctx.debug(text)
        return text


app.add_tool(Holder().holds)


@app.resource("data://one")
def one() -> str:
    return "first"


@app.resource("data://broken")
def broken() -> str:
    raise ValueError("a secret")


@app.resource("who://{name}")
async def who(name: str, ctx: Context) -> str:
    await ctx.info(name)
    return f"{name} {ctx.input_responses}"


def call(name: str, /, **arguments: object) -> tuple[str, dict]:
    return "tools/call", {"name": name, "arguments": arguments}


def call_with(meta: dict, name: str, /, **arguments: object) -> tuple[str, dict]:
    return "tools/call", {"name": name, "arguments": arguments, "_meta": meta}


LEVEL = "io.modelcontextprotocol/logLevel"
REQUESTS = [
    call("logs", text="none"),
    *[call_with({LEVEL: level}, "logs", text=level) for level in ("debug", "notice", "error", "emergency")],
    call_with({LEVEL: "loud"}, "logs", text="no level"),
    call_with({LEVEL: 5}, "logs", text="no level"),
    call("goes_on"),
    call_with({"progressToken": "p", LEVEL: "debug"}, "goes_on"),
    call_with({"progressToken": 7}, "goes_on", steps=1),
    call_with({"progressToken": 1.5}, "goes_on", steps=1),
    call_with({"progressToken": None}, "goes_on", steps=1),
    call_with({"progressToken": "p"}, "goes_on", steps="1"),
    call("knows"),
    call_with({"progressToken": "t", "own": {"k": 1}}, "knows"),
    call_with({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "knows"),
    ("tools/call", {"name": "knows"}),
    ("tools/call", {"name": "knows", "arguments": None}),
    ("tools/call", {"name": "knows", "arguments": [1]}),
    ("tools/call", {"name": "knows", "arguments": {}, "more": 1}),
    ("tools/call", {"name": "knows", "arguments": {"ctx": 1, "other": 2}}),
    call("lends"),
    call("lends"),
    call("validated", count=1),
    call("validated", count=2, names='["a"]'),
    call("validated", count=0),
    call("validated"),
    call("asks"),
    call_with({LEVEL: "debug"}, "asks"),
    call("leads"),
    call("pings"),
    call("rounds"),
    ("tools/call", {"name": "rounds", "arguments": {}, "requestState": "forged", "inputResponses": {}}),
    ("tools/call", {"name": "knows", "arguments": {}, "inputResponses": {}}),
    *[
        call_with({LEVEL: "info"}, "reads", uri=uri)
        for uri in ("data://one", "data://none", "data://broken", "who://a")
    ],
    call_with({LEVEL: "info"}, "nests", text="within"),
    call("tells"),
    call_with({LEVEL: "info"}, "sync", text="ordinary"),
    call("sync", text=1),
    *[
        call_with({LEVEL: "info"}, "raises", what=what)
        for what in ("tool", "resource", "protocol", "timeout", "model", "number", "else")
    ],
    call("holds"),
    call_with({LEVEL: "debug"}, "holds", text="up"),
    call("holds", text=None),
]
PLAIN = {"logs", "goes_on", "knows", "lends", "validated", "asks", "leads", "rounds", "reads", "nests", "sync", "holds"}
KERNEL = set()
