"""/metrics, /health and the streams over HTTP and ASGI: who may ask, what is answered, and what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from erlmcp import ConfigurationError, McpError, Server, ToolError
from erlmcp.metrics.desk import STREAMS_MAX
from erlmcp.server.serve import http

parser = pytest.importorskip("prometheus_client.parser")
TOKEN = "correct-horse-battery"
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


def make_server(**options: Any) -> Server:
    server = Server("desk", **options)

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool
    async def fails() -> str:
        raise ToolError("no such order")

    @server.tool
    async def refuses() -> str:
        raise McpError(-32000, "busy")

    @server.tool
    def threaded() -> str:
        return "x"

    return server


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    return int(lines[0].split()[1]), {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)
    }


async def ask(
    port: int, target: str, verb: str = "GET", body: bytes = b"", *, version: str = "1.1", **headers: str
) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    given = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body:
        given["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    writer.write(f"{verb} {target} HTTP/{version}\r\n{lines}\r\n".encode() + body)
    status, found = await read_head(reader)
    size = 0 if verb == "HEAD" else int(found.get("content-length", 0))
    answer = Answer(status, found, await reader.readexactly(size))
    writer.close()
    return answer


async def call(port: int, tool: str, **arguments: Any) -> Any:
    params = {"name": tool, "arguments": arguments, "_meta": META}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    answer = await ask(
        port,
        "/mcp",
        "POST",
        body,
        Content_Type="application/json",
        Accept="application/json, text/event-stream",
        MCP_Protocol_Version="2026-07-28",
        Mcp_Method="tools/call",
        Mcp_Name=tool,
    )
    return answer.json()


@contextlib.asynccontextmanager
async def stream(port: int, target: str, **headers: str) -> AsyncIterator[Any]:
    """The events of a stream, one by one: ``await next()`` gives (event, id, data)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
    status, found = await read_head(reader)
    assert (status, found["content-type"]) == (200, "text/event-stream"), found
    held = b""

    async def following() -> tuple[str, str, Any]:
        nonlocal held
        while b"\n\n" not in held:
            size = int(await asyncio.wait_for(reader.readline(), 10), 16)
            held += await reader.readexactly(size)
            await reader.readline()
            if not size:
                raise EOFError
        event, _, held = held.partition(b"\n\n")
        fields = dict(line.split(": ", 1) for line in event.decode().split("\n"))
        return fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"])

    try:
        yield following
    finally:
        writer.close()


def series(body: bytes, name: str) -> dict[tuple[str, str], float]:
    """(tool, error) -> value of one sample."""
    return {
        (sample.labels.get("gen_ai_tool_name", ""), sample.labels.get("error_type", "")): sample.value
        for family in parser.text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name == name
    }


async def test_the_metrics_tell_of_each_call_its_tool_and_how_it_ended() -> None:
    async with http(make_server()) as listener:
        for tool in ("fails", "refuses", "threaded", "nobody"):
            await call(listener.port, tool)
        for _ in range(3):
            await call(listener.port, "add", a=1, b=2)
        await call(listener.port, "add", a="x", b=2)
        answer = await ask(listener.port, "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    found = series(answer.body, "mcp_server_operation_duration_seconds_count")
    assert found["fails", "tool_error"] == 1
    assert found["refuses", "-32000"] == 1
    assert found["threaded", ""] == 1
    assert found["_unknown", ""] == 1
    assert found["add", ""] == 3
    assert found["add", "tool_error"] == 1


async def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    async with http(make_server()) as listener:
        answer = await ask(listener.port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.body.endswith(b"# EOF\n")


async def test_health_is_alive_and_ready_until_the_server_drains() -> None:
    async with http(make_server()) as listener:
        assert (await ask(listener.port, "/health/live")).json() == {"status": "alive"}
        assert (await ask(listener.port, "/health/ready")).json() == {"status": "ready"}
        head = await ask(listener.port, "/health/live", "HEAD")
        assert (head.status, head.headers["content-length"]) == (200, "18")
        listener.is_closing = True
        desk = listener.handler.desk  # type: ignore[attr-defined]
        assert desk.ready() == "draining"
        listener.is_closing = False


async def test_a_host_that_is_not_let_in_gets_nothing_and_an_origin_neither() -> None:
    async with http(make_server(), host="127.0.0.1") as listener:
        for path in ("/metrics", "/health/live", "/metrics/dashboard", "/metrics/dashboard/feed", "/metrics/trace"):
            assert (await ask(listener.port, path, Host="evil.example")).status == 421
            assert (await ask(listener.port, path, Origin="https://evil.example")).status == 403
            assert (await ask(listener.port, path, "POST")).status == 405
        assert (await ask(listener.port, "/metrics/else")).status == 404


async def test_what_came_through_a_proxy_is_not_local() -> None:
    async with http(make_server(allowed_hosts=["mcp.example"])) as listener:
        assert (await ask(listener.port, "/metrics")).status == 200
        assert (await ask(listener.port, "/metrics", Host="mcp.example")).status == 403
        for sign in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Via", "CDN-Loop", "CF-Connecting-IP"):
            assert (await ask(listener.port, "/metrics", **{sign: "10.0.0.1"})).status == 403
        assert (await ask(listener.port, "/metrics", version="1.0")).status == 403  # as nginx before 1.30 by itself
        assert (await ask(listener.port, "/health/ready", version="1.0")).status == 200
        assert (await ask(listener.port, "/health/ready", Host="mcp.example", X_Forwarded_For="10.0.0.1")).status == 200


async def test_on_an_address_that_is_not_local_the_token_is_the_only_way() -> None:
    async with http(make_server(), host="0.0.0.0") as listener:
        refused = await ask(listener.port, "/metrics")
        assert refused.status == 403
        assert b"ERLMCP_METRICS_TOKEN" in refused.body
        assert (await ask(listener.port, "/health/live")).status == 200
    async with http(make_server(metrics_token=TOKEN), host="0.0.0.0") as listener:
        for path in ("/metrics", "/metrics/dashboard", "/metrics/dashboard/sessions"):
            missing = await ask(listener.port, path)
            assert (missing.status, missing.headers["www-authenticate"]) == (401, "Bearer")
            assert (await ask(listener.port, path, Authorization="Bearer wrong")).status == 401
            assert (await ask(listener.port, path, Authorization=f"Basic {TOKEN}")).status == 401
            assert (await ask(listener.port, path, Authorization=f"bearer {TOKEN}")).status == 200
            assert (await ask(listener.port, path, Cookie=f"a=b; erlmcp_token={TOKEN}")).status == 200
            assert (await ask(listener.port, f"{path}?token={TOKEN}")).status == 200


async def test_a_token_is_asked_for_on_a_local_address_too_and_the_page_keeps_it_in_a_cookie() -> None:
    async with http(make_server(metrics_token=TOKEN)) as listener:
        assert (await ask(listener.port, "/metrics")).status == 401
        page = await ask(listener.port, f"/metrics/dashboard?token={TOKEN}")
        cookie = page.headers["set-cookie"]
        assert cookie == f"erlmcp_token={TOKEN}; Path=/metrics; HttpOnly; SameSite=Strict"
        again = await ask(listener.port, "/metrics/dashboard", Cookie=cookie.partition(";")[0])
        assert again.status == 200
        assert "set-cookie" not in again.headers


@pytest.mark.parametrize(
    "token", ["short", "has a blank in it", "line\r\nbreak-in-it", "x" * 513, "umlaut-\u00e4-umlaut"]
)
def test_a_token_that_is_no_secret_or_no_header_is_refused(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="ERLMCP_METRICS_TOKEN"):
        Server("x", metrics_token=token)
    monkeypatch.setenv("ERLMCP_METRICS_TOKEN", token)
    with pytest.raises(ConfigurationError, match="ERLMCP_METRICS_TOKEN"):
        Server("x")


async def test_switched_off_there_are_no_metrics_and_health_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLMCP_METRICS", "off")
    server = make_server()
    async with http(server) as listener:
        await call(listener.port, "fails")
        assert (await ask(listener.port, "/metrics")).status == 404
        assert (await ask(listener.port, "/metrics/dashboard")).status == 404
        assert (await ask(listener.port, "/health/ready")).status == 200
    assert not server.metrics.families()
    assert make_server(metrics=True).recorder is not None


async def test_who_follows_gets_what_was_kept_and_then_what_happens() -> None:
    server = make_server()
    async with http(server) as listener:
        await call(listener.port, "fails")
        async with stream(listener.port, "/metrics/trace") as following:
            _, id, first = await following()
            assert (first["name"], first["error"], first["reason"]) == ("fails", "tool_error", "error")
            assert set(first["rooms"]) <= {"handler", "encode"}
            await call(listener.port, "threaded")
            _, _, second = await following()
            assert (second["name"], second["error"], second["transport"]) == ("threaded", "", "http")
        while server.metrics.traces.followers:
            await asyncio.sleep(0)
        async with stream(listener.port, "/metrics/trace", Last_Event_ID=id) as following:
            await call(listener.port, "refuses")
            assert (await following())[2]["message"] == "busy"
        while server.metrics.traces.followers:
            await asyncio.sleep(0)


async def test_streams_are_bounded_and_end_with_the_server() -> None:
    server = make_server()
    async with contextlib.AsyncExitStack() as stack:
        async with http(server) as listener:
            open_ = [
                await stack.enter_async_context(stream(listener.port, "/metrics/trace")) for _ in range(STREAMS_MAX)
            ]
            assert (await ask(listener.port, "/metrics/trace", "HEAD")).status == 405
            refused = await ask(listener.port, "/metrics/trace")
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        for following in open_:
            with pytest.raises(EOFError):
                await following()
    assert not server.metrics.traces.followers


async def test_the_feed_gives_everything_then_what_changed() -> None:
    server = make_server()
    async with http(server) as listener:
        await call(listener.port, "fails")
        server.metrics.tick()
        async with stream(listener.port, "/metrics/dashboard/feed?span=1h") as following:
            event, _, first = await following()
            assert event == "first"
            assert first["facts"]["name"] == "desk"
            assert {row["name"]: row["failed"] for row in first["tools"]} == {
                "add": 0,
                "fails": 1,
                "refuses": 0,
                "threaded": 0,
            }
            assert first["spans"]["1m"]["errors"] == 1
            assert first["span"] == "1h"
            assert first["connections"]["http"] >= 1
            await call(listener.port, "threaded")
            server.remove_tool("add")
            server.metrics.tick()
            event, _, following_ = await following()
            assert event == "tick"
            assert [row["name"] for row in following_["tools"] if row["total"] and row["name"] != "fails"] == [
                "threaded"
            ]
            assert following_["gone"] == ["add"]
            assert not [trace for trace in following_["traces"] if trace["name"] == "fails"]
        while server.metrics.after_tick:
            await asyncio.sleep(0)


async def test_sessions_are_shown_page_by_page_without_their_ids() -> None:
    server = make_server()
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c\u00e4t", "version": "2"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode()
    async with http(server) as listener:
        ids = set()
        for _ in range(70):
            opened = await ask(
                listener.port, "/mcp", "POST", body, Content_Type="application/json", Accept="application/json"
            )
            ids.add(opened.headers["mcp-session-id"])
        first = (await ask(listener.port, "/metrics/dashboard/sessions")).json()
        second = (await ask(listener.port, f"/metrics/dashboard/sessions?cursor={first['next']}")).json()
        for wrong in ("x", "-1", "1.2.3", "9" * 30):
            assert (await ask(listener.port, f"/metrics/dashboard/sessions?cursor={wrong}")).status == 400
    rows = first["sessions"] + second["sessions"]
    assert (len(rows), second["next"]) == (70, None)
    assert len({row["id"] for row in rows}) == 70
    assert not {row["id"] for row in rows} & ids
    assert rows[0]["client"] == "c\u00e4t 2"
    assert (rows[0]["version"], rows[0]["transport"]) == ("2025-11-25", "http")


async def test_an_asgi_host_shows_the_same_paths_to_who_brings_the_token() -> None:
    app = make_server(metrics_token=TOKEN).asgi()

    async def get(path: str, *headers: tuple[bytes, bytes]) -> tuple[int, bytes]:
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [(b"host", b"any.example"), *headers],
            "client": ("10.0.0.7", 99),
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    bearer = (b"authorization", b"Bearer " + TOKEN.encode())
    assert (await get("/health/live"))[0] == 200
    assert (await get("/metrics"))[0] == 401
    status, body = await get("/metrics", bearer)
    assert status == 200
    assert b"erlmcp_info" in body
    assert b"<!doctype html>" in (await get("/metrics/dashboard", bearer))[1]
    await app._stop()
