"""Middleware: order, changes of requests and answers, refusals, and those that come with FastMCP."""

from typing import Any

from erlmcp.compat.fastmcp import Context, FastMCP
from erlmcp.compat.fastmcp.exceptions import ToolError
from erlmcp.compat.fastmcp.server.middleware import Middleware, MiddlewareContext
from erlmcp.compat.fastmcp.server.middleware.caching import ResponseCachingMiddleware
from erlmcp.compat.fastmcp.server.middleware.error_handling import RetryMiddleware
from erlmcp.compat.fastmcp.server.middleware.logging import LoggingMiddleware, StructuredLoggingMiddleware
from erlmcp.compat.fastmcp.server.middleware.response_limiting import ResponseLimitingMiddleware
from erlmcp.compat.fastmcp.server.middleware.timing import DetailedTimingMiddleware, TimingMiddleware
from erlmcp.compat.fastmcp.tools import Tool, ToolResult

trace: list[str] = []
tries: list[int] = []


class Traced(Middleware):
    def __init__(self, name: str) -> None:
        self.name = name

    async def on_message(self, context: MiddlewareContext, call_next: Any) -> Any:
        trace.append(f"{self.name}:message:{context.type}:{context.method}")
        return await call_next(context)

    async def on_request(self, context: MiddlewareContext, call_next: Any) -> Any:
        trace.append(f"{self.name}:request:{context.source}")
        return await call_next(context)

    async def on_call_tool(self, context: MiddlewareContext, call_next: Any) -> Any:
        trace.append(f"{self.name}:call:{context.message.name}:{context.message.arguments}")
        found = await call_next(context)
        trace.append(f"{self.name}:gave:{[block.text for block in found.content]}:{found.structured_content}")
        return found


class Guarded(Middleware):
    async def on_call_tool(self, context: MiddlewareContext, call_next: Any) -> Any:
        name = context.message.name
        if name == "secret":
            raise ToolError("not for you")
        if name == "answered":
            return ToolResult(content="by the middleware", structured_content={"result": "by the middleware"})
        if name == "doubled":
            message = context.message.model_copy(update={"arguments": {"n": context.message.arguments["n"] * 2}})
            return await call_next(context.copy(message=message))
        if name == "checked":
            tool = await context.fastmcp_context.fastmcp.get_tool(name)
            if "private" in tool.tags:
                raise ToolError("private")
        return await call_next(context)

    async def on_list_tools(self, context: MiddlewareContext, call_next: Any) -> Any:
        return [tool for tool in await call_next(context) if "hidden" not in tool.tags]

    async def on_read_resource(self, context: MiddlewareContext, call_next: Any) -> Any:
        found = await call_next(context)
        found.contents[0].content += f" (of {context.message.uri})"
        return found

    async def on_get_prompt(self, context: MiddlewareContext, call_next: Any) -> Any:
        found = await call_next(context)
        found.description = f"seen: {context.message.name}"
        return found

    async def on_list_prompts(self, context: MiddlewareContext, call_next: Any) -> Any:
        return list(reversed(await call_next(context)))


class Noted(Middleware):
    async def on_call_tool(self, context: MiddlewareContext, call_next: Any) -> Any:
        await context.fastmcp_context.set_state("note", "from the middleware", serializable=False)
        return await call_next(context)


mcp = FastMCP("middleware", version="1", middleware=[Traced("outer"), Guarded()])
mcp.add_middleware(Traced("inner"))
mcp.add_middleware(Noted())
for each in (TimingMiddleware(), DetailedTimingMiddleware(), LoggingMiddleware(include_payloads=True)):
    mcp.add_middleware(each)
mcp.add_middleware(StructuredLoggingMiddleware(include_payload_length=True, estimate_payload_tokens=True))
mcp.add_middleware(RetryMiddleware(max_retries=2, base_delay=0.001))
mcp.add_middleware(ResponseLimitingMiddleware(max_size=400, tools=["long"]))
mcp.add_middleware(ResponseCachingMiddleware(call_tool_settings={"included_tools": ["kept"]}))


@mcp.tool
def plain(n: int) -> int:
    return n


@mcp.tool
async def secret() -> str:
    return "secret"


@mcp.tool
async def answered() -> str:
    return "by the tool"


@mcp.tool
async def doubled(n: int) -> int:
    return n


@mcp.tool(tags={"private"})
async def checked() -> str:
    return "checked"


@mcp.tool(tags={"hidden"})
async def hidden() -> str:
    return "hidden and callable"


@mcp.tool
async def noted(ctx: Context) -> str:
    return await ctx.get_state("note")


@mcp.tool
async def flaky() -> int:
    tries.append(1)
    if len(tries) < 3:
        raise ConnectionError("not yet")
    return len(tries)


@mcp.tool
async def long() -> str:
    return "x" * 1000


@mcp.tool
async def kept() -> int:
    tries.append(1)
    return len(tries)


@mcp.tool
async def broken() -> str:
    raise ValueError("the details")


@mcp.tool
async def traced() -> list[str]:
    found = list(trace)
    trace.clear()
    return found


mcp.add_tool(Tool.from_function(lambda: "late", name="late"))


@mcp.resource("data://text")
def text() -> str:
    return "text"


@mcp.prompt
def first() -> str:
    return "first"


@mcp.prompt
def second() -> str:
    return "second"


def call(name: str, /, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments}


REQUESTS = [
    call("traced"),
    ("tools/list", {}),
    ("prompts/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    call("traced"),
    call("plain", n=1),
    call("plain", n="x"),
    call("traced"),
    call("secret"),
    call("answered"),
    call("doubled", n=4),
    call("checked"),
    call("hidden"),
    call("noted"),
    call("flaky"),
    call("long"),
    call("kept"),
    call("kept"),
    call("broken"),
    call("late"),
    call("absent"),
    ("resources/read", {"uri": "data://text"}),
    ("resources/read", {"uri": "data://absent"}),
    ("prompts/get", {"name": "first"}),
]

if __name__ == "__main__":
    mcp.run(show_banner=False)
