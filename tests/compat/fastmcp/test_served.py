"""How the façade is served: the short way, the loop's threads, HTTP, other apps, the command line."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Client, FastMCP, Server
from erlmcp.compat.fastmcp import Context
from erlmcp.compat.fastmcp.current import Ambient
from erlmcp.compat.fastmcp.dependencies import CurrentHeaders
from erlmcp.compat.fastmcp.server.middleware import Middleware
from erlmcp.server.serve import http
from erlmcp.server.side import Side

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def unasked() -> Any:
    """Whether something imported ``get_context`` is the process's affair, and so each test's."""
    before, Ambient.is_wanted = Ambient.is_wanted, False
    yield
    Ambient.is_wanted = before


def test_the_front_door_has_it_and_it_is_a_server() -> None:
    from erlmcp.compat.fastmcp import FastMCP as Other

    assert FastMCP is Other
    assert isinstance(FastMCP("x"), Server)


def plain_server() -> FastMCP:
    mcp = FastMCP("plain")

    @mcp.tool
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @mcp.tool
    async def said(ctx: Context) -> str:
        return str(ctx.request_id)

    @mcp.tool
    def in_thread(a: int) -> int:
        return a

    return mcp


async def test_a_plain_tool_goes_the_short_way_as_the_servers_own_does() -> None:
    mcp, own = plain_server(), Server("own")

    @own.tool
    async def add(a: int, b: int = 1) -> int:
        return a + b

    async with mcp.running(), own.running():
        for name in ("is_simple", "may_be_simple", "in_thread", "needs_context", "kind", "result_class"):
            assert getattr(mcp.tools["add"], name) == getattr(own.tools["add"], name), name
        assert mcp.quick_route is not None
        assert not mcp.tools["said"].is_simple
        assert mcp.tools["in_thread"].in_thread


async def test_a_middleware_takes_all_calls_off_the_short_way_while_it_serves() -> None:
    mcp = plain_server()

    class Doubles(Middleware):
        async def on_call_tool(self, context: Any, call_next: Any) -> Any:
            arguments = {"a": context.message.arguments["a"] * 2}
            return await call_next(context.copy(message=context.message.model_copy(update={"arguments": arguments})))

    async with Client(mcp) as client:
        assert (await client.call_tool("add", {"a": 2})).data == 3
        mcp.add_middleware(Doubles())
        assert mcp.quick_route is None
        assert (await client.call_tool("add", {"a": 2})).data == 5


async def test_who_imports_get_context_has_it_in_every_tool_registered_before() -> None:
    mcp = plain_server()

    @mcp.tool
    async def who() -> str:
        from erlmcp.compat.fastmcp.server.dependencies import get_context

        await asyncio.sleep(0)
        return str(get_context().fastmcp.name)

    async with Client(mcp) as client:
        assert mcp.tools["who"].is_simple
        from erlmcp.compat.fastmcp.server import dependencies

        assert dependencies.get_context.__name__ == "get_context"
        assert not mcp.tools["who"].is_simple
        assert (await client.call_tool("who")).data == "plain"


@pytest.mark.parametrize("mode", ["2026-07-28", "2025-11-25"])
async def test_changes_are_seen_while_it_serves(mode: str) -> None:
    mcp = plain_server()
    heard: list[str] = []
    async with Client(mcp, mode=mode, on_notification=lambda method, params: heard.append(method)) as client:
        assert len(await client.list_tools()) == 3

        @mcp.tool(tags={"late"})
        async def late() -> str:
            return "late"

        assert (await client.call_tool("late")).data == "late"
        mcp.disable(tags={"late"})
        assert (await client.call_tool("late", raise_on_error=False)).text == "Unknown tool: 'late'"
        mcp.enable(names={"late"})
        assert (await client.call_tool("late")).data == "late"
        mcp.local_provider.remove_tool("late")
        assert (await client.call_tool("late", raise_on_error=False)).is_error
        if mode == "2025-11-25":
            await asyncio.sleep(0)
            assert "notifications/tools/list_changed" in heard


def header_server() -> FastMCP:
    pytest.importorskip("starlette")
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse

    mcp = FastMCP("routed")

    @mcp.tool
    async def header(found: dict = CurrentHeaders()) -> str:  # type: ignore[type-arg]
        return str(found.get("x-who"))

    @mcp.custom_route("/health", methods=["GET"])
    async def health(request: Request) -> PlainTextResponse:
        return PlainTextResponse("well", headers={"x-own": "1"})

    @mcp.custom_route("/echo/{word}", methods=["POST"])
    async def echo(request: Request) -> JSONResponse:
        body = await request.json()
        return JSONResponse({"word": request.path_params["word"], "body": body, "q": request.query_params.get("q")})

    @mcp.custom_route("/breaks", methods=["GET"])
    async def breaks(request: Request) -> PlainTextResponse:
        raise ValueError("no")

    return mcp


def fetched(url: str, body: Any = None) -> tuple[int, Any, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


async def test_routes_beside_the_endpoint_are_served_by_its_own_http() -> None:
    mcp = header_server()
    async with http(mcp, "127.0.0.1", 0, "/mcp", make_endpoint=mcp.make_endpoint) as listener:
        base = f"http://127.0.0.1:{listener.port}"
        status, headers, body = await asyncio.to_thread(fetched, f"{base}/health")
        assert (status, headers["x-own"], body) == (200, "1", b"well")
        status, _, body = await asyncio.to_thread(fetched, f"{base}/echo/hi?q=2", {"k": 1})
        assert (status, json.loads(body)) == (200, {"word": "hi", "body": {"k": 1}, "q": "2"})
        assert (await asyncio.to_thread(fetched, f"{base}/health", {"k": 1}))[0] == 405
        assert (await asyncio.to_thread(fetched, f"{base}/breaks"))[0] == 500
        assert (await asyncio.to_thread(fetched, f"{base}/absent"))[0] == 404
        async with Client(f"{base}/mcp", headers={"X-Who": "me"}) as client:
            assert (await client.call_tool("header")).data == "me"


async def asked(app: Any, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
    """(status, body) of one request to an ASGI app."""
    came: list[dict[str, Any]] = []
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return given.pop() if given else await asyncio.get_running_loop().create_future()

    async def send(message: dict[str, Any]) -> None:
        came.append(message)

    shown = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"x"), *shown],
        "root_path": "",
    }
    await app(scope, receive, send)
    return came[0]["status"], b"".join(each.get("body", b"") for each in came[1:])


async def test_http_app_serves_the_endpoint_and_the_routes_behind_a_middleware() -> None:
    mcp = header_server()
    passed: list[str] = []

    class Counted:
        def __init__(self, app: Any, word: str) -> None:
            self.app, self.word = app, word

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            passed.append(f"{self.word}:{scope['path']}")
            await self.app(scope, receive, send)

    class Given:
        cls, args, kwargs = Counted, (), {"word": "seen"}

    app = mcp.http_app(path="/mcp", middleware=[Given])
    assert app.path == "/mcp"
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "header", "arguments": {}}}
    call["params"]["_meta"] = {  # type: ignore[index]
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "header",
        "x-who": "asgi",
    }
    async with app.lifespan(app):
        assert await asked(app, "GET", "/health") == (200, b"well")
        status, body = await asked(app, "POST", "/mcp", json.dumps(call).encode(), headers)
    assert status == 200
    assert json.loads(body)["result"]["structuredContent"] == {"result": "asgi"}
    assert passed == ["seen:/health", "seen:/mcp"]


def test_the_command_line_takes_it_as_a_server(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text("from erlmcp import FastMCP\nmcp = FastMCP('x')\n@mcp.tool\ndef hello() -> str: return 'hi'\n")
    command = [sys.executable, "-m", "erlmcp", "call", str(file), "hello"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=True)
    assert "hi" in found.stdout


def test_plain_tools_need_no_pydantic(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["pydantic"] = sys.modules["mcp"] = sys.modules["mcp_types"] = sys.modules["fastmcp"] = None
import asyncio, json
from erlmcp import FastMCP
mcp = FastMCP("bare")

@mcp.tool
def add(a: int, b: list[int]) -> int:
    return a + sum(b)

@mcp.resource("data://x")
def x() -> str:
    return "x"

@mcp.prompt
def hello(who: str) -> str:
    return who

async def main():
    async with mcp.memory() as wire:
        for number, arguments in enumerate(({"a": 1, "b": [2]}, {"a": "no"})):
            params = {"name": "add", "arguments": arguments, "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {}}}
            call = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
            wire.send(json.dumps(call).encode() + b"\\n")
            print(json.loads(await wire.receive())["result"]["content"][0]["text"])

asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=True)
    first, second = found.stdout.splitlines()
    assert first == "3"
    assert "a: expected integer" in second


def test_run_refuses_what_its_own_http_has_not() -> None:
    mcp = plain_server()
    with pytest.raises(NotImplementedError, match=r"uvicorn\.run\(mcp\.http_app\(\)"):
        mcp.run("http", uvicorn_config={"log_level": "info"})
    with pytest.raises(NotImplementedError, match="allowed_hosts"):
        mcp.run("http", host_origin_protection=False)
    with pytest.raises(ValueError, match="Unknown transport: smoke"):
        mcp.run("smoke")
    with pytest.raises(TypeError, match="unexpected arguments: colour"):
        mcp.run("http", colour="red")
    with pytest.raises(TypeError, match="stdio takes no port"):
        mcp.run("stdio", port=1)


async def test_a_side_of_it_serves_the_same_tools_its_own_way() -> None:
    mcp = plain_server()
    async with mcp.running():
        side = Side(mcp, mcp.flags)
        assert type(side.service) is type(mcp.service)
        placed: Any = side.tools["said"]
        assert placed.component is (await mcp.get_tool("said"))
        assert placed.home is mcp
        mcp.add_tool(lambda: 1, name="late")
        assert "late" in mcp.tools


@pytest.mark.parametrize("mode", ["2026-07-28", "2025-11-25"])
async def test_a_timeout_ends_what_takes_longer_in_a_task_and_in_a_thread(mode: str) -> None:
    mcp = FastMCP("timed", mask_error_details=False)
    gate = threading.Event()

    @mcp.tool(timeout=0.02)
    async def slow() -> str:
        await asyncio.Event().wait()
        return "never"

    @mcp.tool(timeout=0.02)
    def slow_in_thread() -> bool:
        return gate.wait(10)

    @mcp.tool(timeout=10)
    def quick(a: int) -> int:
        return a

    async with Client(mcp, mode=mode) as client:
        assert mcp.quick_route is not None
        for name in ("slow", "slow_in_thread"):
            found = await client.call_tool(name, raise_on_error=False)
            assert found.text == f"Error calling tool '{name}': Tool '{name}' execution timed out after 0.02s"
        gate.set()
        assert (await client.call_tool("quick", {"a": 2})).data == 2
        assert "1 validation error" in (await client.call_tool("quick", {"a": "x"}, raise_on_error=False)).text


@pytest.mark.parametrize("mode", ["2026-07-28", "2025-11-25"])
async def test_strict_arguments_are_not_converted_on_any_way(mode: str) -> None:
    mcp = FastMCP("strict", strict_input_validation=True)

    @mcp.tool
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @mcp.tool
    def in_thread(a: int) -> int:
        return a

    async with Client(mcp, mode=mode) as client:
        for name in ("add", "in_thread"):
            assert not (await client.call_tool(name, {"a": 1})).is_error
            text = (await client.call_tool(name, {"a": "1"}, raise_on_error=False)).text
            assert "Input should be a valid integer" in text
