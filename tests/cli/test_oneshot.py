"""The blocking client against scripted servers of both eras."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from erlmcp.client.oneshot import HttpStatusError, Oneshot, header_value, mirror_headers
from erlmcp.errors import HEADER_MISMATCH, INVALID_PARAMS, ConnectionClosedError, ErlmcpError, McpError

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[str, dict[str, str], Any], Answer]


def as_json(message: object, status: int = 200, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/json", **names}, json.dumps(message).encode()


def as_stream(*events: str, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return 200, {"Content-Type": "text/event-stream", **names}, "".join(event + "\n\n" for event in events).encode()


def result(id: object, value: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "result": value}


def error(id: object, code: int, message: str = "no") -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}


@contextmanager
def serving(script: Script) -> Iterator[tuple[str, list[tuple[str, dict[str, str], Any]]]]:
    """A server that answers by ``script(verb, headers, message)``; gives its URL and what it was asked."""
    seen: list[tuple[str, dict[str, str], Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            message = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.append((self.command, headers, message))
            status, names, body = script(self.command, headers, message)
            self.send_response(status)
            for name, value in {**names, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def legacy(verb: str, headers: dict[str, str], message: Any) -> Answer:
    """What a handshake-only server with sessions says."""
    if verb == "DELETE":
        return as_json({})
    if message is None or "id" not in message or "method" not in message:
        return 202, {}, b""
    if message["method"] == "initialize":
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "old", "version": "1"}}
        return as_json(result(message["id"], about), Mcp_Session_Id="abc")
    if headers.get("mcp-session-id") != "abc":
        return as_json(error(None, -32000, "Bad Request: Server not initialized"), 400)
    events = ["id: 1\ndata:", "event: message\ndata: " + json.dumps(result(message["id"], {"content": []}))]
    return as_stream(*events)


def test_a_modern_server_is_asked_once_with_all_that_the_era_wants() -> None:
    with serving(lambda _verb, _headers, message: as_json(result(message["id"], {"content": []}))) as (url, seen):
        assert Oneshot(url).call_tool("add", {"a": 1}) == {"content": []}
    [(verb, headers, message)] = seen
    assert verb == "POST"
    assert headers["mcp-protocol-version"] == "2026-07-28"
    assert (headers["mcp-method"], headers["mcp-name"]) == ("tools/call", "add")
    assert message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}


def test_a_legacy_server_is_met_with_the_handshake_and_its_session_is_ended() -> None:
    with serving(legacy) as (url, seen), Oneshot(url) as client:
        assert client.call_tool("add", {}) == {"content": []}
        assert client.era == "legacy"
        assert client.version == "2025-06-18"
    methods = [message and message.get("method") for _, _, message in seen]
    assert methods[0] == "tools/call"
    assert "initialize" in methods
    assert methods[-3:] == ["notifications/initialized", "tools/call", None]
    assert seen[-1][0] == "DELETE"
    assert seen[-2][1]["mcp-protocol-version"] == "2025-06-18"


def test_an_error_of_a_modern_server_with_status_400_is_raised_as_it_is() -> None:
    def script(_verb: str, _headers: dict[str, str], message: Any) -> Answer:
        if message["method"] == "server/discover":
            return as_json(result(message["id"], {"supportedVersions": ["2026-07-28"]}))
        return as_json(error(message["id"], INVALID_PARAMS, "Unknown tool: nope"), 400)

    with serving(script) as (url, seen), pytest.raises(McpError, match="Unknown tool: nope"):
        Oneshot(url).call_tool("nope", {})
    assert [message["method"] for _, _, message in seen] == ["tools/call", "server/discover"]


def test_arguments_are_mirrored_into_headers_where_the_server_insists() -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}

    def script(_verb: str, headers: dict[str, str], message: Any) -> Answer:
        if message["method"] == "tools/list":
            return as_json(result(message["id"], {"tools": [{"name": "where", "inputSchema": schema}]}))
        if "mcp-param-region" not in headers:
            return as_json(error(message["id"], HEADER_MISMATCH), 400)
        return as_json(result(message["id"], {"content": [{"type": "text", "text": headers["mcp-param-region"]}]}))

    with serving(script) as (url, _):
        assert Oneshot(url).call_tool("where", {"region": "Ås"})["content"][0]["text"] == "=?base64?w4Vz?="


def test_pages_are_followed_to_the_last() -> None:
    def script(_verb: str, _headers: dict[str, str], message: Any) -> Answer:
        cursor = message["params"].get("cursor", "")
        page = {"tools": [{"name": cursor or "first"}]} | ({} if cursor else {"nextCursor": "second"})
        return as_json(result(message["id"], page))

    with serving(script) as (url, _):
        assert [tool["name"] for tool in Oneshot(url).list_all("tools/list", "tools")] == ["first", "second"]


def test_notifications_before_the_answer_are_handed_on() -> None:
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
    told: list[dict[str, Any]] = []

    def script(_verb: str, _headers: dict[str, str], message: Any) -> Answer:
        return as_stream(
            "data: " + json.dumps(progress), ": a comment", "data: " + json.dumps(result(message["id"], {}))
        )

    with serving(script) as (url, _):
        Oneshot(url, notified=told.append).request("tools/list")
    assert told == [progress]


def test_a_closed_stream_is_resumed_from_its_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    asked: list[object] = []
    monkeypatch.setattr("erlmcp.client.oneshot.time.sleep", waited.append)

    def script(verb: str, headers: dict[str, str], message: Any) -> Answer:
        if verb == "GET":
            assert headers["last-event-id"] == "7"
            return as_stream("id: 8\ndata: " + json.dumps(result(asked[0], {"late": True})))
        if message and message.get("method") == "tools/list" and "mcp-session-id" in headers:
            asked.append(message["id"])
            return as_stream("id: 7\nretry: 250\ndata:")
        return legacy(verb, headers, message)

    with serving(script) as (url, _):
        assert Oneshot(url).request("tools/list") == {"late": True}
    assert waited == [0.25]


def test_a_ping_of_the_server_is_answered_and_other_questions_are_refused() -> None:
    ping, ask = [{"jsonrpc": "2.0", "id": name, "method": name} for name in ("ping", "roots/list")]

    def script(verb: str, headers: dict[str, str], message: Any) -> Answer:
        if message and message.get("method") == "tools/list" and "mcp-session-id" in headers:
            answer = json.dumps(result(message["id"], {}))
            return as_stream("data: " + json.dumps(ping), "data: " + json.dumps(ask), "data: " + answer)
        return legacy(verb, headers, message)

    with serving(script) as (url, seen):
        Oneshot(url).request("tools/list")
    answers = [message for _, _, message in seen if message and "method" not in message]
    assert [(answer["id"], "result" in answer) for answer in answers] == [("ping", True), ("roots/list", False)]


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_refusal_that_says_nothing_of_the_era_is_not_followed_by_a_handshake(status: int) -> None:
    with serving(lambda *_: (status, {}, b"go away")) as (url, seen):
        with pytest.raises(HttpStatusError, match="go away") as raised:
            Oneshot(url).request("tools/list")
        assert raised.value.status == status
        assert len(seen) == 1


def test_nobody_listening_is_said_in_words() -> None:
    with serving(lambda *_: (200, {}, b"")) as (url, _):
        pass
    with pytest.raises(ConnectionClosedError, match="nothing listens there"):
        Oneshot(url, timeout_s=5).request("tools/list")


def test_a_stream_that_ends_without_an_answer_is_an_error() -> None:
    with (
        serving(lambda *_: as_stream(": nothing")) as (url, _),
        pytest.raises(ConnectionClosedError, match="without an answer"),
    ):
        Oneshot(url).request("tools/list")


def test_an_address_that_is_no_url_is_refused() -> None:
    with pytest.raises(ErlmcpError, match="is not an http"):
        Oneshot("ftp://example.com")


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("plain", "plain"),
        ("two words", "two words"),
        ("", ""),
        (" edge", "=?base64?IGVkZ2U=?="),
        ("é", "=?base64?w6k=?="),
        ("a\nb", "=?base64?YQpi?="),
        ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
    ],
)
def test_header_values_take_the_base64_form_only_where_they_must(text: str, sent: str) -> None:
    assert header_value(text) == sent


def test_nested_booleans_and_integers_are_mirrored_and_null_is_not() -> None:
    inner = {"type": "object", "properties": {"deep": {"type": "integer", "x-mcp-header": "Deep"}}}
    schema = {
        "properties": {
            "yes": {"type": "boolean", "x-mcp-header": "Yes"},
            "none": {"type": "string", "x-mcp-header": "None"},
            "plain": {"type": "string"},
            "inner": inner,
        }
    }
    arguments = {"yes": True, "none": None, "plain": "x", "inner": {"deep": 5}}
    assert mirror_headers(schema, arguments) == {"Mcp-Param-Yes": "true", "Mcp-Param-Deep": "5"}
