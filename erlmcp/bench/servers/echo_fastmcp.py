"""FastMCP's server, on uvicorn with uvloop and httptools and no access log, or on stdio with uvloop.

python echo_fastmcp.py stdio | stateless PORT | stateful PORT
"""

# mypy: ignore-errors
from __future__ import annotations

import functools
import logging
import os
import sys

import anyio
import uvicorn
from fastmcp import Context, FastMCP

logging.disable(logging.INFO)
token = os.environ.get("BENCH_TOKEN")  # that clients have to bring


def guard() -> object:
    """What makes the server ask for the token."""
    from fastmcp.server.auth.providers.jwt import StaticTokenVerifier

    return StaticTokenVerifier({token: {"client_id": "bench", "scopes": ["use"]}}, required_scopes=["use"])


server = FastMCP("bench", auth=guard() if token else None)


@server.tool
async def echo(text: str) -> str:
    """Give the text back."""
    return text


if os.environ.get("BENCH_BLOB"):

    @server.tool
    async def blob(size: int) -> str:
        """A text of this many bytes."""
        return "x" * size


if os.environ.get("BENCH_CONTEXT"):

    @server.tool
    async def tells(text: str, ctx: Context) -> str:
        """Say how far it is, and give the text back."""
        await ctx.report_progress(1, 2)
        await ctx.info("half of it")
        return text


def _add(name: str) -> None:
    @server.tool(name=name)
    async def numbered(text: str, count: int = 1) -> str:
        """Give the text back, count times."""
        return text * count


for number in range(int(os.environ.get("BENCH_TOOLS", "0"))):
    _add(f"tool_{number:04}")

if __name__ == "__main__":
    mode = sys.argv[1]
    if mode == "stdio":
        run = functools.partial(server.run_stdio_async, show_banner=False)
        anyio.run(run, backend_options={"use_uvloop": True})
    else:
        stateless = mode == "stateless"
        app = server.http_app(path="/mcp", json_response=stateless, stateless_http=stateless)
        fast = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), **fast)
