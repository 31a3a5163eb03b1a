"""A server of the first line of the official Python SDK (mcp 1.x), for our client: ``sdk1_server.py TRANSPORT``.

It runs under an interpreter that has that line; over HTTP it prints its port first. "session" and "stateless" are
Streamable HTTP, "sse" is the pair of endpoints of 2024-11-05.
"""

from __future__ import annotations

import socket
import sys

from mcp.server.fastmcp import Context, FastMCP
from mcp.types import SamplingMessage, TextContent
from sdk_tools import Count, register

KIND = sys.argv[1]
server = FastMCP(
    "sdk1", "Be gentle.", log_level="ERROR", json_response=KIND == "stateless", stateless_http=KIND == "stateless"
)
register(server)


@server.tool()
async def steps(ctx: Context) -> str:
    for step in range(3):
        await ctx.report_progress(step + 1, 3, f"step {step + 1}")
    await ctx.info("all steps are done")
    return "done"


@server.tool()
async def order(item: str, ctx: Context) -> str:
    found = await ctx.elicit("How many?", Count)
    return f"{found.data.count} {item}" if found.action == "accept" else found.action


@server.tool()
async def poem(ctx: Context) -> str:
    asked = SamplingMessage(role="user", content=TextContent(type="text", text="Write."))
    found = await ctx.session.create_message([asked], max_tokens=10)
    return found.content.text


@server.tool()
async def grow(ctx: Context) -> str:
    await ctx.session.send_tool_list_changed()
    return "grown"


@server.resource("sdk1://hello", mime_type="text/plain")
def hello() -> str:
    return "hello"


@server.resource("sdk1://square/{side}")
def square(side: int) -> str:
    return str(side * side)


@server.prompt()
def greet(name: str) -> str:
    return f"Say hello to {name}."


if KIND == "stdio":
    server.run("stdio")
else:
    import uvicorn

    app = server.sse_app() if KIND == "sse" else server.streamable_http_app()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
