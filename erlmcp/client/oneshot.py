"""A small blocking client for single calls over Streamable HTTP, with the standard library alone.

It speaks 2026-07-28 first and falls back to the ``initialize`` handshake (spec, basic/versioning: a client that gets
an HTTP 400, 404 or 405 without a modern JSON-RPC error in its body is talking to a legacy server). It declares no
capabilities, so a server cannot ask it anything. For real work there is ``erlmcp.Client``; this one is what
``erlmcp call`` needs.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from erlmcp.errors import (
    HEADER_MISMATCH,
    METHOD_NOT_FOUND,
    MISSING_CLIENT_CAPABILITY,
    UNSUPPORTED_PROTOCOL_VERSION,
    ConnectionClosedError,
    ErlmcpError,
    HttpStatusError,
    McpError,
)
from erlmcp.spec import key
from erlmcp.spec.version import LATEST_LEGACY, LATEST_MODERN, LEGACY, LEGACY_VERSIONS, MODERN

CLIENT_INFO: Final = {"name": "erlmcp", "version": "0.1.0"}
MODERN_ERRORS: Final = {HEADER_MISMATCH, MISSING_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION}
NAME_KEYS: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
PAGE_COUNT_MAX: Final = 1000
RESUME_COUNT_MAX: Final = 20
RETRY_S: Final = 1.0
RETRY_S_MAX: Final = 10.0

Message = dict[str, Any]


class Oneshot:
    """One server at ``url``. Each request opens a connection of its own; ``close`` ends a legacy session.

    ``notified`` is called with each notification that arrives before an answer. ``timeout_s`` bounds each wait for
    bytes.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        headers: dict[str, str] | None = None,
        notified: Callable[[Message], None] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ErlmcpError(f"{url} is not an http:// or https:// URL")
        self.url = url
        self.timeout_s = timeout_s
        self.headers = headers or {}
        self.notified = notified
        self.era = ""
        self.version = LATEST_MODERN
        self._parts = parts
        self._session = ""
        self._last_id = 0

    def __enter__(self) -> Oneshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what a caller wants -----------------------------------------------------------------------------------

    def request(self, method: str, params: Message | None = None, *, extra: dict[str, str] | None = None) -> Message:
        """The result of one request. Raises McpError for a JSON-RPC error, HttpStatusError, ConnectionClosedError."""
        if self.era == LEGACY:
            return self._ask(method, params or {}, {"MCP-Protocol-Version": self.version})
        try:
            result = self._ask_modern(method, params or {}, extra or {})
        except HttpStatusError as error:
            if self.era or error.status not in (400, 404, 405):
                raise
            if self._is_modern():
                raise _error_within(error) from None
        except McpError as error:
            if self.era or error.code != UNSUPPORTED_PROTOCOL_VERSION:
                raise
        else:
            self.era = MODERN
            return result
        self._initialize()
        return self.request(method, params)

    def list_all(self, method: str, field: str) -> list[Message]:
        """All pages of ``tools/list`` and its like."""
        found: list[Message] = []
        params: Message = {}
        for _ in range(PAGE_COUNT_MAX):
            page = self.request(method, params)
            found += page.get(field, [])
            if not page.get("nextCursor"):
                break
            params = {"cursor": page["nextCursor"]}
        return found

    def call_tool(self, name: str, arguments: Message) -> Message:
        """The result of one ``tools/call``; where the server wants arguments mirrored into headers, they are."""
        asks = {key.PROGRESS_TOKEN: name, key.LOG_LEVEL: "info"} if self.notified else {}
        params = {"name": name, "arguments": arguments, "_meta": asks}
        try:
            return self.request("tools/call", params)
        except McpError as error:
            if error.code != HEADER_MISMATCH:
                raise
        tool = next((tool for tool in self.list_all("tools/list", "tools") if tool["name"] == name), {})
        return self.request("tools/call", params, extra=mirror_headers(tool.get("inputSchema", {}), arguments))

    def close(self) -> None:
        """End the legacy session, if there is one."""
        if self._session:
            try:
                self._open("DELETE", None, {"MCP-Protocol-Version": self.version}).close()
            except (OSError, ErlmcpError):
                pass
            self._session = ""

    # ---- the two eras -------------------------------------------------------------------------------------------

    def _ask_modern(self, method: str, params: Message, extra: dict[str, str]) -> Message:
        meta = {**modern_meta(), **params.get("_meta", {})}
        headers = {"MCP-Protocol-Version": LATEST_MODERN, "Mcp-Method": method, **extra}
        name = params.get(NAME_KEYS.get(method, ""))
        if isinstance(name, str):
            headers["Mcp-Name"] = header_value(name)
        return self._ask(method, {**params, "_meta": meta}, headers)

    def _is_modern(self) -> bool:
        try:
            offered = self._ask_modern("server/discover", {}, {})
        except ErlmcpError:
            return False
        self.era = MODERN if LATEST_MODERN in offered.get("supportedVersions", []) else ""
        return bool(self.era)

    def _initialize(self) -> None:
        params = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": CLIENT_INFO}
        result = self._ask("initialize", params, {})
        version = result.get("protocolVersion")
        if version not in LEGACY_VERSIONS:
            raise ErlmcpError(f"{self.url} speaks protocol version {version!r}, which is unknown here")
        self.era, self.version = LEGACY, version
        self._tell({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _ask(self, method: str, params: Message, headers: dict[str, str]) -> Message:
        self._last_id += 1
        body = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        answer = self._await_answer(self._open("POST", body, headers), self._last_id)
        if "error" in answer:
            raise as_error(answer["error"])
        result: Message = answer["result"]
        return result

    def _tell(self, message: Message) -> None:
        self._open("POST", message, {"MCP-Protocol-Version": self.version}).close()

    # ---- bytes ---------------------------------------------------------------------------------------------------

    def _open(self, verb: str, message: Message | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        is_tls = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=self.timeout_s)
        sent = {"Accept": "application/json, text/event-stream", "Connection": "close", **self.headers, **headers}
        body = None
        if message is not None:
            body = json.dumps(message, ensure_ascii=False).encode()
            sent["Content-Type"] = "application/json"
        if self._session:
            sent["Mcp-Session-Id"] = self._session
        target = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        try:
            connection.request(verb, target, body, sent)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ConnectionClosedError(f"cannot reach {self.url}: {_reason(error)}") from error
        if session := response.getheader("Mcp-Session-Id"):
            self._session = session
        return response

    def _await_answer(self, response: http.client.HTTPResponse, id: int) -> Message:
        try:
            kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
            if kind == "text/event-stream" and response.status == 200:
                return self._follow(response, id)
            body = response.read(ANSWER_BYTES_MAX)
        except ConnectionClosedError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionClosedError(f"{self.url} broke off: {_reason(error)}") from error
        finally:
            response.close()
        answer = _as_answer(body)
        # Until the era is known, a refusal that a legacy server might have written too decides nothing.
        is_unclear = response.status >= 400 and not self.era and _code_of(answer) not in MODERN_ERRORS
        if answer is None or is_unclear:
            raise HttpStatusError(response.status, response.reason, self.url, body)
        return answer

    def _follow(self, response: http.client.HTTPResponse, id: int) -> Message:
        """Read a stream to the answer; a legacy server may close it and be asked to resume (SEP-1699)."""
        retry_s, last_event = RETRY_S, ""
        for _ in range(RESUME_COUNT_MAX):
            for event in sse_events(response):
                last_event = event.get("id", last_event)
                if event.get("retry", "").isdigit():
                    retry_s = min(int(event["retry"]) / 1000, RETRY_S_MAX)
                if event.get("data"):
                    message = json.loads(event["data"])
                    if message.get("id") == id and "method" not in message:
                        return dict(message)
                    self._receive(message)
            response.close()
            if not last_event:
                break
            time.sleep(retry_s)
            headers = {"Last-Event-ID": last_event, "MCP-Protocol-Version": self.version}
            response = self._open("GET", None, headers)
            if response.status != 200:
                raise HttpStatusError(response.status, response.reason, self.url, response.read(ANSWER_BYTES_MAX))
        raise ConnectionClosedError(f"{self.url} closed the stream without an answer")

    def _receive(self, message: Message) -> None:
        if "id" in message and "method" in message:
            answer: Message = {"jsonrpc": "2.0", "id": message["id"]}
            if message["method"] == "ping":
                answer["result"] = {}
            else:
                answer["error"] = {"code": METHOD_NOT_FOUND, "message": f"Not supported: {message['method']}"}
            self._tell(answer)
        elif self.notified is not None and "method" in message:
            self.notified(message)


def modern_meta() -> Message:
    """What every 2026-07-28 request carries in ``params._meta``; no capability is declared."""
    return {
        key.PROTOCOL_VERSION: LATEST_MODERN,
        key.CLIENT_CAPABILITIES: {},
        key.CLIENT_INFO: CLIENT_INFO,
    }


def sse_events(response: http.client.HTTPResponse) -> Iterator[dict[str, str]]:
    """The events of a stream as dicts of their fields, until it ends (WHATWG, server-sent events, section 9.2.6)."""
    event: dict[str, str] = {}
    byte_count = 0
    while line := response.readline(ANSWER_BYTES_MAX):
        byte_count += len(line)
        if byte_count > ANSWER_BYTES_MAX:
            raise ErlmcpError(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
        text = line.decode().rstrip("\r\n")
        if not text:
            if event:
                yield event
            event, byte_count = {}, 0
            continue
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        event[name] = f"{event[name]}\n{value}" if name == "data" and "data" in event else value


def header_value(text: str) -> str:
    """``text`` as it may stand in Mcp-Name or Mcp-Param-*: itself, or in the base64 form (2026-07-28, Streamable
    HTTP)."""
    is_plain = text.isascii() and text.isprintable() and text == text.strip() and text != ""
    looks_encoded = text.startswith("=?base64?") and text.endswith("?=")
    if is_plain and not looks_encoded:
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?=" if text else ""


def mirror_headers(schema: Message, arguments: Message) -> dict[str, str]:
    """Mcp-Param-* headers for the arguments whose schema has ``x-mcp-header`` (2026-07-28, Streamable HTTP)."""
    headers: dict[str, str] = {}
    for name, item in schema.get("properties", {}).items():
        if not isinstance(item, dict) or arguments.get(name) is None:
            continue
        value = arguments[name]
        if isinstance(value, dict):
            headers.update(mirror_headers(item, value))
        elif "x-mcp-header" in item:
            text = json.dumps(value) if isinstance(value, bool | int) else str(value)
            headers[f"Mcp-Param-{item['x-mcp-header']}"] = header_value(text)
    return headers


def as_error(error: Message) -> McpError:
    """A JSON-RPC error object as an exception."""
    return McpError(error.get("code", 0), error.get("message", ""), error.get("data"))


def _error_within(error: HttpStatusError) -> ErlmcpError:
    """The JSON-RPC error in the body, where there is one; else the status."""
    answer = _as_answer(error.body)
    return error if answer is None or "error" not in answer else as_error(answer["error"])


def _code_of(answer: Message | None) -> int:
    return int(answer["error"].get("code", 0)) if answer and "error" in answer else 0


def _as_answer(body: bytes) -> Message | None:
    try:
        message = json.loads(body)
    except ValueError:
        return None
    is_answer = isinstance(message, dict) and ("result" in message or isinstance(message.get("error"), dict))
    return message if is_answer else None


def _reason(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
