"""The official SDK's server, on uvicorn with uvloop and httptools and no access log, or on stdio with uvloop.

python echo_mcp.py stdio | stateless PORT | stateful PORT
"""

# mypy: ignore-errors
from __future__ import annotations

import logging
import os
import sys

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer

logging.disable(logging.INFO)
token = os.environ.get("BENCH_TOKEN")  # that clients have to bring


def guard() -> dict[str, object]:
    """What makes the server ask for the token."""
    from mcp.server.auth.provider import AccessToken
    from mcp.server.auth.settings import AuthSettings

    class Verifier:
        async def verify_token(self, given: str) -> AccessToken | None:
            return AccessToken(token=given, client_id="bench", scopes=["use"]) if given == token else None

    url = "https://bench.example"
    return {
        "auth": AuthSettings(issuer_url=url, resource_server_url=None, required_scopes=["use"]),
        "token_verifier": Verifier(),
    }


server = MCPServer("bench", log_level="WARNING", **(guard() if token else {}))


@server.tool()
async def echo(text: str) -> str:
    """Give the text back."""
    return text


if os.environ.get("BENCH_BLOB"):

    @server.tool()
    async def blob(size: int) -> str:
        """A text of this many bytes."""
        return "x" * size


if os.environ.get("BENCH_CONTEXT"):

    @server.tool()
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
        anyio.run(server.run_stdio_async, backend_options={"use_uvloop": True})
    else:
        stateless = mode == "stateless"
        app = server.streamable_http_app(json_response=stateless, stateless_http=stateless)
        fast = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), **fast)
