"""The status matrix of the Streamable HTTP endpoint: each row is a request, and what it must be answered with."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Annotated, Any

import pytest
from rawpeer import (
    LATEST,
    LEGACY,
    MODERN,
    ask_once,
    delete,
    get,
    head,
    initialize,
    legacy,
    make_house,
    meta,
    modern,
    modern_post,
    note,
    post,
    tool,
)

from erlmcp import Param
from erlmcp.server.serve import http

HELLO = modern(1, "tools/call", tool("echo", text="hello"))
REGION = modern(1, "tools/call", tool("region", region="eu", size=3, on=True))
PARAMS = {"Mcp-Param-Region": "eu", "Mcp-Param-Size": "3", "Mcp-Param-On": "true"}
BOTH_2025 = modern(1, "tools/list", version=LATEST)
UNKNOWN = "1900-01-01"


def base64_of(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def call(message: Any, **headers: str | None) -> bytes:
    """A modern POST with these headers instead; underscores stand for hyphens."""
    return modern_post(message, {name.replace("_", "-"): value for name, value in headers.items()})


def without(key: str) -> dict[str, Any]:
    """A modern request whose _meta lacks a key."""
    params = {"_meta": {name: value for name, value in meta().items() if not name.endswith(key)}}
    return legacy(1, "tools/list", params)


def doubled(name: str, value: str) -> bytes:
    return call(HELLO).replace(b"\r\n\r\n", f"\r\n{name}: {value}\r\n\r\n".encode(), 1)


# name, request, status, JSON-RPC code (None: no error)
MODERN_ROWS = [
    ("a good call", call(HELLO), 200, None),
    ("no clientInfo is needed", call(modern(1, "tools/list")), 200, None),
    ("discover", call(modern(1, "server/discover")), 200, None),
    ("modern _meta without a version header", call(HELLO, MCP_Protocol_Version=None), 400, -32020),
    ("modern _meta under a legacy header", call(HELLO, MCP_Protocol_Version=LATEST), 400, -32020),
    ("header and _meta both legacy", call(BOTH_2025, MCP_Protocol_Version=LATEST), 400, -32022),
    ("header and _meta both unknown", call(modern(1, "x", version=UNKNOWN), MCP_Protocol_Version=UNKNOWN), 400, -32022),
    ("header modern, _meta unknown", call(modern(1, "tools/list", version=UNKNOWN)), 400, -32020),
    ("no _meta", call(legacy(1, "tools/list", {})), 400, -32602),
    ("no params", call(legacy(1, "tools/list")), 400, -32602),
    ("_meta is no object", call(legacy(1, "tools/list", {"_meta": 7})), 400, -32602),
    ("_meta without a version", call(without("protocolVersion")), 400, -32602),
    ("_meta without capabilities", call(without("clientCapabilities")), 400, -32602),
    ("capabilities are no object", call(modern(1, "tools/list", capabilities=[1])), 400, -32602),
    ("initialize in the modern era", call(modern(1, "initialize")), 404, -32601),
    ("ping in the modern era", call(modern(1, "ping")), 404, -32601),
    ("logging/setLevel in the modern era", call(modern(1, "logging/setLevel")), 404, -32601),
    ("resources/subscribe in the modern era", call(modern(1, "resources/subscribe")), 404, -32601),
    ("resources/unsubscribe in the modern era", call(modern(1, "resources/unsubscribe")), 404, -32601),
    ("an unknown method", call(modern(1, "no/such")), 404, -32601),
    ("an unknown tool", call(modern(1, "tools/call", tool("nobody"))), 200, -32602),
    ("a bad cursor", call(modern(1, "tools/list", {"cursor": "?"})), 200, -32602),
    ("an unknown resource", call(modern(1, "resources/read", {"uri": "house://no"})), 200, -32602),
    ("a capability that is missing", call(modern(1, "tools/call", tool("name"))), 400, -32021),
    ("a notification", call(note("notifications/cancelled", {"requestId": 1})), 202, None),
    ("an unknown notification", call(note("notifications/whatever")), 202, None),
    ("a posted result", call({"jsonrpc": "2.0", "id": 1, "result": {}}), 400, -32600),
    ("a posted error", call({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}}), 400, -32600),
    ("a batch", call([HELLO]), 400, -32600),
    ("an empty batch", call([]), 400, -32600),
    ("an id of null", call({**HELLO, "id": None}), 400, -32600),
    ("an id with a fraction", call({**HELLO, "id": 1.5}), 400, -32600),
    ("an id that is an object", call({**HELLO, "id": {}}), 400, -32600),
    ("no jsonrpc member", call({name: HELLO[name] for name in ("id", "method", "params")}), 400, -32600),
    ("jsonrpc 1.0", call({**HELLO, "jsonrpc": "1.0"}), 400, -32600),
    ("a body that is a number", call(b"7"), 400, -32600),
    ("no body", call(b""), 400, -32700),
    ("half a body", call(b'{"jsonrpc":"2.0"'), 400, -32700),
    ("two bodies", call(b"{}{}"), 400, -32700),
    ("a key twice", call(b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}'), 400, -32600),
    ("invalid UTF-8", call(b'{"jsonrpc":"2.0","id":"\xff","method":"ping"}'), 400, -32700),
    ("a bogus session id is passed over", call(HELLO, Mcp_Session_Id="nonsense"), 200, None),
    ("a bogus Last-Event-ID is passed over", call(HELLO, Last_Event_ID="s1-1"), 200, None),
    ("GET", get({"MCP-Protocol-Version": MODERN}), 405, None),
    ("DELETE", delete({"MCP-Protocol-Version": MODERN}), 405, None),
    # Routing headers
    ("Mcp-Method says otherwise", call(HELLO, Mcp_Method="tools/list"), 400, -32020),
    ("Mcp-Method is missing", call(HELLO, Mcp_Method=None), 400, -32020),
    ("Mcp-Method in capitals", call(HELLO, Mcp_Method="Tools/Call"), 400, -32020),
    ("Mcp-Method with blanks around", call(HELLO, Mcp_Method="  tools/call \t"), 200, None),
    ("Mcp-Name says otherwise", call(HELLO, Mcp_Name="wait"), 400, -32020),
    ("Mcp-Name is missing", call(HELLO, Mcp_Name=None), 400, -32020),
    ("Mcp-Name in base64", call(HELLO, Mcp_Name=base64_of("echo")), 200, None),
    ("Mcp-Name in bad base64", call(HELLO, Mcp_Name="=?base64?ZWNoby?="), 400, -32020),
    ("Mcp-Name with foreign characters", call(HELLO, Mcp_Name="=?base64?ZW!obw==?="), 400, -32020),
    ("Mcp-Name without the suffix is literal", call(HELLO, Mcp_Name="=?base64?ZWNobw=="), 400, -32020),
    ("Mcp-Name with a marker in capitals is literal", call(HELLO, Mcp_Name="=?BASE64?ZWNobw==?="), 400, -32020),
    ("the version header twice", doubled("MCP-Protocol-Version", MODERN), 400, -32020),
    ("Mcp-Method twice", doubled("Mcp-Method", "tools/call"), 400, -32020),
    ("Mcp-Name twice", doubled("Mcp-Name", "echo"), 400, -32020),
    ("header names in capitals", call(HELLO).replace(b"Mcp-Method", b"MCP-METHOD"), 200, None),
    # Mcp-Param-*
    ("mirrored arguments", call(REGION, **PARAMS), 200, None),
    ("an argument that is not mirrored", call(REGION, **{**PARAMS, "Mcp-Param-Region": None}), 400, -32020),
    ("an argument mirrored wrongly", call(REGION, **{**PARAMS, "Mcp-Param-Region": "us"}), 400, -32020),
    ("an argument mirrored in base64", call(REGION, **{**PARAMS, "Mcp-Param-Region": base64_of("eu")}), 200, None),
    ("an argument in bad base64", call(REGION, **{**PARAMS, "Mcp-Param-Region": "=?base64?ZXV?="}), 400, -32020),
    ("an integer is compared as a number", call(REGION, **{**PARAMS, "Mcp-Param-Size": "03"}), 200, None),
    ("another integer", call(REGION, **{**PARAMS, "Mcp-Param-Size": "4"}), 400, -32020),
    ("a boolean in capitals", call(REGION, **{**PARAMS, "Mcp-Param-On": "True"}), 400, -32020),
    (
        "a header for an argument that is not there",
        call(modern(1, "tools/call", tool("region")), **PARAMS),
        400,
        -32020,
    ),
    ("a header that no tool knows", call(HELLO, Mcp_Param_Whatever="1"), 200, None),
]

LEGACY_ROWS = [
    ("initialize", post(initialize()), 200, None),
    ("initialize that asks for the modern revision", post(initialize(MODERN)), 200, None),
    ("initialize without params", post(legacy(1, "initialize")), 200, -32602),
    (
        "initialize without clientInfo",
        post(legacy(1, "initialize", {"protocolVersion": LATEST, "capabilities": {}})),
        200,
        -32602,
    ),
    ("a request without a session", post(legacy(1, "tools/list")), 400, -32600),
    ("a request with an unknown session", post(legacy(1, "tools/list"), {"Mcp-Session-Id": "x"}), 404, -32600),
    (
        "an unsupported version header",
        post(legacy(1, "tools/list"), {"MCP-Protocol-Version": "1999-01-01"}),
        400,
        -32600,
    ),
    ("initialize under an unsupported version header", post(initialize(), {"MCP-Protocol-Version": "x"}), 400, -32600),
    ("GET without a session", get(), 400, None),
    ("GET with an unknown session", get({"Mcp-Session-Id": "x"}), 404, None),
    ("DELETE without a session", delete(), 400, None),
    ("DELETE of an unknown session", delete({"Mcp-Session-Id": "x"}), 404, None),
    ("GET that accepts no stream", get({"Accept": "application/json"}), 406, None),
]

HTTP_ROWS = [
    ("another path", post(HELLO, target="/other"), 404, None),
    ("the path with a slash at its end", modern_post(HELLO).replace(b"/mcp ", b"/mcp/ "), 200, None),
    ("the path with a query", modern_post(HELLO).replace(b"/mcp ", b"/mcp?a=b "), 200, None),
    ("the path in absolute form", modern_post(HELLO).replace(b"/mcp ", b"http://localhost/mcp "), 200, None),
    ("PUT", head("PUT", "/mcp", {"Host": "localhost", "Content-Length": "0"}), 405, None),
    ("PATCH", head("PATCH", "/mcp", {"Host": "localhost", "Content-Length": "0"}), 405, None),
    ("OPTIONS without an Origin", head("OPTIONS", "/mcp", {"Host": "localhost"}), 405, None),
    ("no Content-Type", call(HELLO, Content_Type=None), 415, None),
    ("another Content-Type", call(HELLO, Content_Type="text/plain"), 415, None),
    ("Content-Type with parameters", call(HELLO, Content_Type="Application/JSON; charset=utf-8"), 200, None),
    ("a compressed body", call(HELLO, Content_Encoding="gzip"), 415, None),
    ("Accept of neither kind", call(HELLO, Accept="text/html"), 406, None),
    ("Accept of JSON alone", call(HELLO, Accept="application/json"), 200, None),
    ("Accept of anything", call(HELLO, Accept="*/*"), 200, None),
    ("no Accept", call(HELLO, Accept=None), 200, None),
    ("another Host", call(HELLO, Host="evil.example.com"), 421, None),
    ("a Host that begins like ours", call(HELLO, Host="localhost.evil.example.com"), 421, None),
    ("our Host with a port", call(HELLO, Host="localhost:8080"), 200, None),
    ("127.0.0.1", call(HELLO, Host="127.0.0.1:1"), 200, None),
    ("[::1]", call(HELLO, Host="[::1]:1"), 200, None),
    ("another Origin", call(HELLO, Origin="http://evil.example.com"), 403, None),
    ("an Origin of null", call(HELLO, Origin="null"), 403, None),
    ("an Origin of this machine", call(HELLO, Origin="http://localhost:5173"), 200, None),
]


def all_rows() -> list[Any]:
    rows = [*MODERN_ROWS, *LEGACY_ROWS, *HTTP_ROWS]
    assert len({name for name, *_ in rows}) == len(rows)
    return rows


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """Every row, asked on a connection of its own."""
    house = make_house()

    @house.server.tool
    async def region(
        region: Annotated[str, Param(header="Region")] = "",
        size: Annotated[int, Param(header="Size")] = 0,
        on: Annotated[bool, Param(header="On")] = False,
    ) -> str:
        return f"{region} {size} {on}"

    async def main() -> dict[str, Any]:
        async with http(house.server) as listener:
            return {name: await ask_once(listener.port, request) for name, request, *_ in all_rows()}

    return asyncio.run(main())


@pytest.mark.parametrize(("name", "status", "code"), [(name, status, code) for name, _, status, code in all_rows()])
def test_a_request_gets_the_status_and_the_code_that_the_specification_asks_for(
    name: str, status: int, code: int | None, answers: dict[str, Any]
) -> None:
    found = answers[name]
    assert (found.status, found.code) == (status, code), found.body[:300]


def test_errors_echo_the_id_and_say_what_they_must(answers: dict[str, Any]) -> None:
    unknown = answers["header and _meta both unknown"].json
    assert unknown["id"] == 1
    assert unknown["error"]["data"] == {"supported": [MODERN], "requested": UNKNOWN}
    missing = answers["a capability that is missing"].json
    assert missing["error"]["data"] == {"requiredCapabilities": {"elicitation": {}}}
    assert answers["an unknown resource"].json["error"]["data"] == {"uri": "house://no"}
    assert answers["a batch"].json["id"] is None
    assert answers["half a body"].json["id"] is None


def test_refusals_say_what_is_allowed(answers: dict[str, Any]) -> None:
    assert answers["GET"].headers["allow"] == "POST"
    assert answers["DELETE"].headers["allow"] == "POST"
    assert answers["PUT"].headers["allow"] == "POST, GET, DELETE"
    assert b"allowed_hosts" in answers["another Host"].body
    assert b"allowed_origins" in answers["another Origin"].body


def test_a_notification_is_accepted_without_a_body(answers: dict[str, Any]) -> None:
    found = answers["a notification"]
    assert found.body == b""
    assert found.headers["content-length"] == "0"


def test_the_modern_era_mints_no_session_and_the_legacy_era_does(answers: dict[str, Any]) -> None:
    assert "mcp-session-id" not in answers["a good call"].headers
    id = answers["initialize"].headers["mcp-session-id"]
    assert len(id) >= 32
    assert id.isascii()
    assert "mcp-session-id" not in answers["initialize without params"].headers


def test_initialize_answers_with_the_newest_handshake_revision_where_it_does_not_speak_the_one_asked_for(
    answers: dict[str, Any],
) -> None:
    assert answers["initialize that asks for the modern revision"].json["result"]["protocolVersion"] == LATEST


@pytest.mark.parametrize("version", LEGACY)
def test_initialize_answers_with_the_revision_asked_for(version: str) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            found = await ask_once(listener.port, post(initialize(version)))
            assert found.json["result"]["protocolVersion"] == version

    asyncio.run(main())


def test_the_body_is_compact_json_with_its_length(answers: dict[str, Any]) -> None:
    found = answers["a good call"]
    assert found.headers["content-type"] == "application/json"
    assert found.json["result"]["resultType"] == "complete"
    assert json.dumps(found.json, separators=(",", ":"), ensure_ascii=False).encode() == found.body
