"""The context, dependencies, state, and what a lifespan gives."""

from contextlib import asynccontextmanager, contextmanager
from typing import Any

from erlmcp.compat.fastmcp import Context, FastMCP
from erlmcp.compat.fastmcp.dependencies import CurrentContext, CurrentFastMCP, CurrentHeaders, Depends, Progress
from erlmcp.compat.fastmcp.exceptions import ToolError
from erlmcp.compat.fastmcp.server.dependencies import get_context, get_http_headers, get_http_request
from erlmcp.compat.fastmcp.server.lifespan import lifespan


@lifespan
async def first(server: Any) -> Any:
    yield {"first": server.name}


@lifespan
async def second(server: Any) -> Any:
    yield {"second": 2}


mcp = FastMCP("context", version="3", lifespan=first | second)
seen: list[str] = []


@mcp.tool
async def tells(ctx: Context, n: int) -> str:
    await ctx.debug("debugging", logger_name="own", extra={"n": n})
    await ctx.info("informing")
    await ctx.warning("warning")
    await ctx.error("failing")
    await ctx.log("noticing", level="notice")
    await ctx.report_progress(1, 4, "a quarter")
    await ctx.report_progress(4, 4)
    return ctx.request_id


@mcp.tool
def synchronous(ctx: Context) -> str:
    return f"{ctx.fastmcp.name} {ctx.request_id}"


@mcp.tool
async def optional(n: int, ctx: Context | None = None) -> str:
    return "none" if ctx is None else f"{n} {ctx.request_id}"


@mcp.tool
async def reads(ctx: Context) -> list[str]:
    found = await ctx.read_resource("data://greeting")
    resources = [each.name for each in await ctx.list_resources()]
    prompts = [each.name for each in await ctx.list_prompts()]
    said = await ctx.get_prompt("hello", {"who": "you"})
    return [found.contents[0].content, *resources, *prompts, said.messages[0].content.text]


@mcp.resource("data://greeting")
async def greeting(ctx: Context) -> str:
    return f"hello from {ctx.fastmcp.name}"


@mcp.resource("data://{name}/seen")
async def templated(name: str, ctx: Context) -> str:
    return f"{name} {ctx.request_id}"


@mcp.prompt
async def hello(who: str, ctx: Context) -> str:
    return f"hello {who} ({ctx.fastmcp.name})"


@mcp.tool
async def keeps(ctx: Context, key: str, value: int | None = None) -> Any:
    if value is not None:
        await ctx.set_state(key, {"value": value})
    return await ctx.get_state(key)


@mcp.tool
async def forgets(ctx: Context, key: str) -> Any:
    await ctx.delete_state(key)
    return await ctx.get_state(key)


@mcp.tool
async def keeps_an_object(ctx: Context) -> list[bool]:
    thing = object()
    try:
        await ctx.set_state("thing", thing)
        refused = False
    except TypeError:
        refused = True
    await ctx.set_state("thing", thing, serializable=False)
    return [refused, await ctx.get_state("thing") is thing]


@mcp.tool
async def lasting(ctx: Context) -> dict[str, Any]:
    return ctx.lifespan_context


def base() -> int:
    return 20


def doubled(number: int = Depends(base)) -> int:
    return number * 2


async def later() -> str:
    return "later"


@asynccontextmanager
async def connection() -> Any:
    seen.append("open")
    yield "connected"
    seen.append("closed")


@contextmanager
def handle() -> Any:
    yield "handle"


@mcp.tool
async def depends(
    n: int,
    two: int = Depends(doubled),
    when: str = Depends(later),
    wire: str = Depends(connection),
    own: str = Depends(handle),
) -> list[Any]:
    return [n, two, when, wire, own, list(seen)]


@mcp.tool
def depends_in_a_thread(n: int, two: int = Depends(doubled)) -> int:
    return n + two


def fails() -> str:
    raise LookupError("nothing there")


def refuses() -> str:
    raise ToolError("not today")


@mcp.tool
async def depends_on_what_fails(what: str = Depends(fails)) -> str:
    return what


@mcp.tool
async def depends_on_what_refuses(what: str = Depends(refuses)) -> str:
    return what


@mcp.tool
async def current(ctx: Context = CurrentContext(), server: FastMCP = CurrentFastMCP()) -> str:
    return f"{ctx.request_id} {server.name}"


@mcp.tool
async def headers(found: dict = CurrentHeaders()) -> dict[str, str]:
    return found


@mcp.tool
async def ambient() -> list[Any]:
    try:
        get_http_request()
        request = True
    except RuntimeError:
        request = False
    return [get_context().request_id, get_http_headers(), request]


@mcp.tool
def ambient_in_a_thread() -> str:
    return get_context().fastmcp.name


@mcp.tool
async def counts(progress: Progress = Progress()) -> str:
    await progress.set_total(3)
    await progress.increment()
    await progress.set_message("two more")
    return f"{progress.current} of {progress.total}"


@mcp.tool
async def knows(ctx: Context) -> list[Any]:
    request = ctx.request_context
    return [ctx.client_id, ctx.transport, request is not None, request.meta.get("trace"), ctx.is_background_task]


def call(name: str, meta: dict[str, Any] | None = None, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments, **({} if meta is None else {"_meta": meta})}


REQUESTS = [
    ("tools/list", {}),
    call("tells", {"progressToken": "p", "io.modelcontextprotocol/logLevel": "debug"}, n=1),
    call("tells", {"io.modelcontextprotocol/logLevel": "warning"}, n=1),
    call("tells", n=1),
    call("tells"),
    call("synchronous"),
    call("optional", n=2),
    call("reads"),
    ("resources/read", {"uri": "data://greeting"}),
    ("resources/read", {"uri": "data://me/seen"}),
    ("prompts/get", {"name": "hello", "arguments": {"who": "all"}}),
    call("keeps", key="a", value=1),
    call("keeps", key="a"),
    call("forgets", key="a"),
    call("keeps", key="a"),
    call("keeps_an_object"),
    call("lasting"),
    call("depends", n=1),
    call("depends", n=1),
    call("depends_in_a_thread", n=1),
    call("depends", n=1, two=5),
    call("depends_on_what_fails"),
    call("depends_on_what_refuses"),
    call("current"),
    call("headers"),
    call("ambient"),
    call("ambient_in_a_thread"),
    call("counts", {"progressToken": 7}),
    call("knows", {"client_id": "me", "trace": "t"}),
]

if __name__ == "__main__":
    mcp.run(show_banner=False)
