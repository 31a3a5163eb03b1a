"""A façade over HTTP: by our own protocol, and as an application within another one."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from erlmcp import Client, ConfigurationError
from erlmcp.compat.sdk import Context, Extension, MCPServer, MethodBinding
from erlmcp.compat.sdk.auth import AccessToken, AuthSettings, get_access_token
from erlmcp.errors import HttpStatusError
from erlmcp.server import serve

MODERN, LEGACY = "2026-07-28", "2025-11-25"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
INITIALIZE = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        text = self.body.decode()
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            text = next(line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {"))
        return json.loads(text)


async def fetch(port: int, verb: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request of its own."""

    def run() -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(verb, path, data, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        found = Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
        connection.close()
        return found

    return await asyncio.to_thread(run)


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """A tool call of 2026-07-28."""
    meta = {VERSION_KEY: MODERN, CAPABILITIES_KEY: {}}
    params = {"name": name, "arguments": arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def modern(name: str, **more: str) -> dict[str, str]:
    return {**HEADERS, "MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": name, **more}


@contextlib.asynccontextmanager
async def serving(mcp: MCPServer, **options: Any) -> AsyncIterator[int]:
    setting = mcp._http_setting(host=options.pop("host", "127.0.0.1"), **options)
    async with mcp._opening(setting, "127.0.0.1", 0) as listener:
        yield listener.port


def make() -> MCPServer:
    mcp = MCPServer("web")

    @mcp.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    @mcp.tool()
    async def header(ctx: Context) -> str:
        assert ctx.headers is not None
        return ctx.request_context.request.headers["x-own"]

    return mcp


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_calls_a_tool_over_http(mode: str) -> None:
    async with serving(make()) as port, Client(f"http://127.0.0.1:{port}/mcp", mode=mode) as client:
        assert (await client.call_tool("add", {"a": 1, "b": 2})).data == 3


async def test_a_tool_sees_the_headers_of_its_request() -> None:
    async with serving(make()) as port:
        answer = await fetch(port, "POST", "/mcp", call("header"), **modern("header", X_Own="here"))
        assert answer.json["result"]["structuredContent"] == {"result": "here"}


async def test_the_endpoint_is_at_the_path_that_was_given() -> None:
    async with serving(make(), streamable_http_path="/tools") as port:
        assert (await fetch(port, "POST", "/mcp", call("add"), **modern("add"))).status == 404
        found = await fetch(port, "POST", "/tools", call("add", a=1, b=1), **modern("add"))
        assert found.json["result"]["structuredContent"] == {"result": 2}


async def test_without_sessions_each_request_of_the_older_era_stands_alone() -> None:
    async with serving(make(), stateless_http=True) as port:
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        answer = await fetch(port, "POST", "/mcp", hello, **HEADERS)
        assert answer.json["result"]["protocolVersion"] == LEGACY
        assert "mcp-session-id" not in answer.headers
        asked = {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "add", "arguments": {"a": 2, "b": 2}},
        }
        answer = await fetch(port, "POST", "/mcp", asked, **HEADERS, MCP_Protocol_Version=LEGACY)
        assert answer.json["result"]["structuredContent"] == {"result": 4}
        assert (await fetch(port, "GET", "/mcp", Accept="text/event-stream")).status == 405


async def test_with_sessions_a_request_without_one_is_refused() -> None:
    async with serving(make()) as port:
        asked = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        assert (await fetch(port, "POST", "/mcp", asked, **HEADERS)).status == 400


async def test_a_foreign_host_is_not_let_in_where_the_server_is_local() -> None:
    async with serving(make()) as port:
        answer = await fetch(port, "POST", "/mcp", call("add", a=1, b=1), **modern("add", Host="evil.example"))
        assert answer.status == 421
    async with serving(make(), host="0.0.0.0") as port:
        answer = await fetch(port, "POST", "/mcp", call("add", a=1, b=1), **modern("add", Host="mine.example"))
        assert answer.status == 200


async def test_hosts_and_origins_are_let_in_as_transport_security_says() -> None:
    @dataclass
    class Security:
        enable_dns_rebinding_protection: bool = True
        allowed_hosts: tuple[str, ...] = ("mine.example:*",)
        allowed_origins: tuple[str, ...] = ("https://app.example",)

    async with serving(make(), transport_security=Security()) as port:
        sent = call("add", a=1, b=1)
        for host, origin, status in (
            ("mine.example:80", "https://app.example", 200),
            ("other.example", "https://app.example", 421),
            ("mine.example", "https://evil.example", 403),
        ):
            answer = await fetch(port, "POST", "/mcp", sent, **modern("add", Host=host, Origin=origin))
            assert answer.status == status, host
    with pytest.raises(ConfigurationError, match="name each port"):
        make().streamable_http_app(transport_security=Security(allowed_origins=("https://app.example:*",)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"event_store": object()}, "keeps the events"), ({"retry_interval": 5}, "come back after")],
)
def test_what_is_not_served_is_refused_with_a_reason(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        make().streamable_http_app(**options)


@pytest.mark.parametrize("stateless", [False, True])
async def test_methods_of_an_extension_are_served_over_http(stateless: bool) -> None:
    class Params:
        def __init__(self, query: str) -> None:
            self.query = query

        @classmethod
        def model_validate(cls, value: dict[str, Any]) -> Params:
            if "query" not in value:
                raise ValueError("no query")
            return cls(value["query"])

    async def search(_ctx: Any, params: Params) -> dict[str, Any]:
        return {"found": params.query}

    class Search(Extension):
        identifier = "com.example/search"

        def methods(self) -> list[MethodBinding]:
            return [MethodBinding("com.example/search", Params, search)]

    async with serving(MCPServer("x", extensions=[Search()]), stateless_http=stateless) as port:

        async def ask(method: str, status: int, era: str = MODERN, **params: Any) -> Any:
            meta = {VERSION_KEY: MODERN, CAPABILITIES_KEY: {}} if era == MODERN else {}
            sent = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
            headers = {**HEADERS, "MCP-Protocol-Version": era, **({"Mcp-Method": method} if era == MODERN else {})}
            answer = await fetch(port, "POST", "/mcp", sent, **headers)
            assert answer.status == status
            return answer.json

        assert (await ask("com.example/search", 200, query="a"))["result"]["found"] == "a"
        assert (await ask("com.example/search", 200))["error"]["code"] == -32602
        assert (await ask("com.example/absent", 404))["error"]["code"] == -32601
        if stateless:
            assert (await ask("com.example/search", 200, LEGACY, query="b"))["result"]["found"] == "b"


# -- routes of the app's own ------------------------------------------------------------------------------------------


def routed() -> MCPServer:
    pytest.importorskip("starlette")
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response

    mcp = make()

    @mcp.custom_route("/health", methods=["GET"])
    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "query": request.query_params.get("q")})

    @mcp.custom_route("/items/{name}", methods=["POST"])
    async def item(request: Request) -> Response:
        return PlainTextResponse(f"{request.path_params['name']}: {(await request.body()).decode()}", 201, {"X-A": "b"})

    @mcp.custom_route("/broken", methods=["GET"])
    async def broken(request: Request) -> Response:
        raise RuntimeError("secret")

    return mcp


async def test_custom_routes_are_served_beside_the_endpoint() -> None:
    async with serving(routed()) as port:
        found = await fetch(port, "GET", "/health?q=1")
        assert (found.status, found.json) == (200, {"status": "ok", "query": "1"})
        found = await fetch(port, "POST", "/items/tea", b"hot", **{"Content-Type": "text/plain"})
        assert (found.status, found.body, found.headers["x-a"]) == (201, b"tea: hot", "b")
        found = await fetch(port, "POST", "/items/json", {"a": 1}, **{"Content-Type": "application/json"})
        assert found.body == b'json: {"a": 1}'
        found = await fetch(port, "GET", "/broken")
        assert (found.status, b"secret" in found.body) == (500, False)
        assert (await fetch(port, "POST", "/health", b"")).status == 405
        assert (await fetch(port, "GET", "/health/live")).json == {"status": "alive"}
        assert (await fetch(port, "GET", "/absent")).status == 404


async def test_a_route_for_everything_leaves_the_endpoint_alone() -> None:
    pytest.importorskip("starlette")
    from starlette.responses import PlainTextResponse

    mcp = make()

    @mcp.custom_route("/{path:path}", methods=["GET", "POST"])
    async def rest(request: Any) -> Any:
        return PlainTextResponse(f"rest {request.path_params['path']}")

    async with serving(mcp) as port:
        found = await fetch(port, "POST", "/mcp", call("add", a=1, b=1), **modern("add"))
        assert found.json["result"]["structuredContent"] == {"result": 2}
        assert (await fetch(port, "GET", "/any/where")).body == b"rest any/where"


# -- tokens -----------------------------------------------------------------------------------------------------------


class Verifier:
    async def verify_token(self, token: str) -> AccessToken | None:
        if token == "broken":
            raise RuntimeError("secret")
        scopes = {"good": ["read"], "poor": []}.get(token)
        resource = "https://else.example/mcp" if token == "elsewhere" else "https://me.example/mcp"
        if token in ("elsewhere", "old"):
            scopes = ["read"]
        expires = 1 if token == "old" else None
        return None if scopes is None else AccessToken(token, f"client-{token}", scopes, expires, resource)


def guarded() -> MCPServer:
    auth = AuthSettings("https://issuer.example", "https://me.example/mcp", ["read"])
    mcp = MCPServer("guarded", token_verifier=Verifier(), auth=auth)

    @mcp.tool()
    async def whoami() -> str:
        return str(get_access_token().client_id)

    @mcp.tool()
    def in_thread() -> str:
        return str(get_access_token().client_id)

    return mcp


@pytest.mark.parametrize("name", ["whoami", "in_thread"])
async def test_a_good_token_is_let_in_and_known_to_the_tool(name: str) -> None:
    async with serving(guarded()) as port:
        for _ in range(2):
            answer = await fetch(port, "POST", "/mcp", call(name), **modern(name, Authorization="Bearer good"))
            assert answer.json["result"]["structuredContent"] == {"result": "client-good"}


async def test_the_token_is_known_by_the_sdks_own_function_too_where_an_app_left_that_import() -> None:
    theirs = pytest.importorskip("mcp.server.auth.middleware.auth_context")
    mcp = guarded()

    @mcp.tool()
    def left() -> str:
        return str(theirs.get_access_token().client_id)

    async with serving(mcp) as port:
        answer = await fetch(port, "POST", "/mcp", call("left"), **modern("left", Authorization="Bearer good"))
        assert answer.json["result"]["structuredContent"] == {"result": "client-good"}
    assert theirs.get_access_token() is None


@pytest.mark.parametrize(
    ("token", "status"),
    [("", 401), ("Bearer bad", 401), ("Basic good", 401), ("Bearer poor", 403), ("Bearer elsewhere", 401)],
)
async def test_any_other_token_is_refused_before_the_endpoint(token: str, status: int) -> None:
    async with serving(guarded()) as port:
        sent = modern("whoami") if not token else modern("whoami", Authorization=token)
        for _ in range(2):  # The second one comes with a head that was judged before.
            answer = await fetch(port, "POST", "/mcp", call("whoami"), **sent)
            assert answer.status == status
        said = answer.headers["www-authenticate"]
        assert 'resource_metadata="https://me.example/.well-known/oauth-protected-resource/mcp"' in said
        assert answer.json["error"] == ("insufficient_scope" if status == 403 else "invalid_token")


@pytest.mark.parametrize(("token", "status"), [("Bearer old", 401), ("Bearer broken", 500)])
async def test_an_expired_token_and_a_failing_verifier_let_nobody_in(token: str, status: int) -> None:
    async with serving(guarded()) as port:
        answer = await fetch(port, "POST", "/mcp", call("whoami"), **modern("whoami", Authorization=token))
        assert (answer.status, b"secret" in answer.body) == (status, False)


async def test_a_token_is_asked_for_whoever_serves_what_is_beneath() -> None:
    kernel = guarded().kernel
    async with serve.http(kernel, "127.0.0.1", 0) as listener:
        for token, status in (("Bearer bad", 401), ("Bearer good", 200)):
            answer = await fetch(listener.port, "POST", "/mcp", call("whoami"), **modern("whoami", Authorization=token))
            assert answer.status == status
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "headers": [(key.lower().encode(), value.encode()) for key, value in modern("whoami").items()],
    }
    sent: list[Any] = []
    body = json.dumps(call("whoami")).encode()

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    app = kernel.asgi()
    await app(scope, receive, send)
    assert sent[0]["status"] == 401
    await app.close()


async def test_the_metadata_says_who_issues_tokens() -> None:
    async with serving(guarded()) as port:
        found = await fetch(port, "GET", "/.well-known/oauth-protected-resource/mcp")
        assert found.json == {
            "resource": "https://me.example/mcp",
            "authorization_servers": ["https://issuer.example"],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["read"],
        }


async def test_our_client_passes_with_its_token_and_not_without() -> None:
    async with serving(guarded()) as port:
        url = f"http://127.0.0.1:{port}/mcp"
        async with Client(url, headers={"Authorization": "Bearer good"}, mode="legacy") as client:
            assert (await client.call_tool("whoami")).data == "client-good"
        with pytest.raises(HttpStatusError, match="401"):
            async with Client(url):
                raise AssertionError("the client was let in")


# -- HTTP+SSE ---------------------------------------------------------------------------------------------------------


async def test_the_old_transport_is_served_at_its_paths() -> None:
    mcp = make()
    async with mcp._opening(mcp._sse_setting(host="127.0.0.1"), "127.0.0.1", 0) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        async with asyncio.timeout(10):
            found = await reader.readuntil(b"session_id=")
            where = (await reader.readline()).decode().strip()
            assert b"event: endpoint" in found
            hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
            answer = await fetch(listener.port, "POST", f"/messages?session_id={where}", hello, **HEADERS)
            assert answer.status == 202
            assert b'"serverInfo"' in await reader.readuntil(b'"serverInfo"')
        writer.close()


def test_paths_of_ones_own_for_the_old_transport_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="mount the application"):
        make().sse_app(sse_path="/events")
