"""A façade as an application within another one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from erlmcp.compat.sdk import MCPServer
from erlmcp.compat.sdk.auth import AccessToken, AuthSettings

MODERN = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}


async def ask(app: Any, path: str, message: Any = None, verb: str = "POST", root: str = "", **more: str) -> Any:
    """(status, body) of one request to an ASGI application."""
    headers = {"host": "localhost:8000", "content-type": "application/json", "accept": "application/json", **more}
    if message is not None:
        headers |= {"mcp-protocol-version": MODERN, "mcp-method": message["method"]}
        if "name" in message["params"]:
            headers["mcp-name"] = message["params"]["name"]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": verb,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": root,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 8000),
    }
    sent: list[Any] = []
    coming = [{"type": "http.request", "body": b"" if message is None else json.dumps(message).encode()}]

    async def receive() -> Any:
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        sent.append(event)

    await app(scope, receive, send)
    body = b"".join(event.get("body", b"") for event in sent[1:])
    return sent[0]["status"], json.loads(body) if body.startswith(b"{") else body.decode()


def call(name: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments, "_meta": META}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def make(name: str = "asgi", **options: Any) -> MCPServer:
    mcp = MCPServer(name, **options)

    @mcp.tool()
    async def who() -> str:
        return name

    return mcp


@pytest.fixture(autouse=True)
def starlette() -> Any:
    return pytest.importorskip("starlette", reason="starlette is not installed: the application is a plain one")


async def test_the_application_is_starlettes_and_runs_the_server_by_its_lifespan() -> None:
    entered: list[str] = []
    import contextlib

    @contextlib.asynccontextmanager
    async def lifespan(_server: Any) -> Any:
        entered.append("in")
        yield {}
        entered.append("out")

    app = make(lifespan=lifespan).streamable_http_app()
    async with app.router.lifespan_context(app):
        assert entered == ["in"]
        status, found = await ask(app, "/mcp", call("who"))
        assert (status, found["result"]["structuredContent"]) == (200, {"result": "asgi"})
    assert entered == ["in", "out"]


async def test_several_servers_are_mounted_in_one_application() -> None:
    from contextlib import AsyncExitStack

    from starlette.applications import Starlette
    from starlette.routing import Mount

    first, second = make("first"), make("second")
    app = Starlette(
        routes=[
            Mount("/one", first.streamable_http_app(streamable_http_path="/")),
            Mount("/two", second.streamable_http_app()),
        ]
    )
    async with AsyncExitStack() as stack:
        for each in (first, second):
            await stack.enter_async_context(each.session_manager.run())
        for path, name in (("/one/", "first"), ("/two/mcp", "second")):
            status, found = await ask(app, path, call("who"))
            assert (status, found["result"]["structuredContent"]) == (200, {"result": name})


async def test_custom_routes_are_routes_of_the_application() -> None:
    from starlette.responses import JSONResponse

    mcp = make()

    @mcp.custom_route("/health", methods=["GET"])
    async def health(_request: Any) -> Any:
        return JSONResponse({"fine": True})

    app = mcp.streamable_http_app()
    async with app.router.lifespan_context(app):
        assert await ask(app, "/health", verb="GET") == (200, {"fine": True})


async def test_a_token_is_asked_for_within_another_application_too() -> None:
    class Verifier:
        async def verify_token(self, token: str) -> AccessToken | None:
            return AccessToken(token, "me", ["a"], None, "https://me.example/mcp") if token == "good" else None

    mcp = make(token_verifier=Verifier(), auth=AuthSettings("https://i.example", "https://me.example/mcp", ["a"]))
    app = mcp.streamable_http_app()
    async with app.router.lifespan_context(app):
        assert (await ask(app, "/mcp", call("who")))[0] == 401
        assert (await ask(app, "/mcp", call("who"), authorization="Bearer good"))[0] == 200
        status, found = await ask(app, "/.well-known/oauth-protected-resource/mcp", verb="GET")
        assert (status, found["authorization_servers"]) == (200, ["https://i.example"])


async def test_a_foreign_host_is_refused_as_the_sdk_does_where_the_host_is_local() -> None:
    app = make().streamable_http_app()
    async with app.router.lifespan_context(app):
        assert (await ask(app, "/mcp", call("who"), host="evil.example"))[0] == 421
    app = make().streamable_http_app(host="0.0.0.0")
    async with app.router.lifespan_context(app):
        assert (await ask(app, "/mcp", call("who"), host="any.example"))[0] == 200


def test_the_session_manager_is_there_after_the_application() -> None:
    mcp = make()
    with pytest.raises(RuntimeError, match="streamable_http_app"):
        _ = mcp.session_manager
    mcp.streamable_http_app()
    assert mcp.session_manager is not None


def test_a_facade_needs_neither_mcp_nor_pydantic_nor_starlette() -> None:
    program = """
import asyncio, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mcp", "mcp_types", "pydantic", "pydantic_core", "starlette", "anyio", "uvicorn"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from typing import Annotated, TypedDict
from dataclasses import dataclass
from erlmcp import MCPServer
from erlmcp.compat.sdk import Client, Context, Elicit, Image, Resolve
from erlmcp.compat.sdk.types import ElicitResult, ToolAnnotations
@dataclass
class Point:
    x: int
def ask() -> Elicit[Point]:
    return Elicit("Where?", Point)
mcp = MCPServer("bare")
@mcp.tool(annotations=ToolAnnotations(read_only_hint=True))
def where(name: str, at: Annotated[Point, Resolve(ask)], ctx: Context) -> Point:
    return at
async def answer(context, params):
    return ElicitResult(action="accept", content={"x": 4})
async def main():
    async with Client(mcp, elicitation_callback=answer) as client:
        assert (await client.list_tools()).tools[0].annotations.read_only_hint is True
        found = await client.call_tool("where", {"name": "a"})
        assert found.structured_content == {"x": 4}, found
asyncio.run(main())
print("served")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "served\n", done.stderr
