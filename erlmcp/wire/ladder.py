"""The second part of the ladder for a modern HTTP request: what its headers say against what its body says.

Order (2026-07-28, basic/transports, as the official SDKs have it): doubled routing headers, ``_meta`` present,
version header equal to ``_meta``, method, name, version spoken, Mcp-Param-*.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from erlmcp.errors import HEADER_MISMATCH, INVALID_PARAMS, McpError
from erlmcp.spec import key
from erlmcp.spec import method as m
from erlmcp.wire.header import Verdict
from erlmcp.wire.peer import Peer, judge_meta

NUMBER_CHARS_MAX = 400
_OPENING, _CLOSING = "=?base64?", "?="


def decode_value(value: str) -> str:
    """A Mcp-Name or Mcp-Param-* value, with the base64 sentinel taken off; raises ValueError where it is malformed."""
    if not (value.startswith(_OPENING) and value.endswith(_CLOSING) and len(value) >= len(_OPENING) + len(_CLOSING)):
        return value
    try:
        return base64.b64decode(value[len(_OPENING) : -len(_CLOSING)], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"malformed base64: {error}") from None


def mismatch(text: str) -> McpError:
    return McpError(HEADER_MISMATCH, f"Header mismatch: {text}")


def judge_request(verdict: Verdict, method: str, name: str | None, meta: dict[str, Any] | None) -> Peer:
    """The peer of a modern request; raises McpError: the first rung that it fails."""
    if verdict.doubled is not None:
        raise mismatch(f"{verdict.doubled} was sent more than once")
    if meta is None:
        raise McpError(INVALID_PARAMS, "Invalid params: _meta with protocolVersion and clientCapabilities is required")
    version = meta.get(key.PROTOCOL_VERSION)
    if isinstance(version, str) and isinstance(meta.get(key.CLIENT_CAPABILITIES), dict):
        _compare("MCP-Protocol-Version", verdict.version, version)
        _compare("Mcp-Method", verdict.headers.get(key.HEADER_METHOD), method)
        if method in m.NAME_KEYS and name is not None:
            _compare("Mcp-Name", verdict.headers.get(key.HEADER_NAME), name)
    return judge_meta(meta)


def _compare(label: str, sent: str | None, body: str) -> None:
    if sent is None:
        raise mismatch(f"{label} header is missing, the body says {body!r}")
    try:
        value = decode_value(sent) if label == "Mcp-Name" else sent
    except ValueError as error:
        raise mismatch(f"{label} header value {sent!r} is {error}") from None
    if value != body:
        raise mismatch(f"{label} header value {value!r} does not match body value {body!r}")


def judge_params(expected: Mapping[str, Any], arguments: Any, headers: Mapping[str, str]) -> None:
    """Mcp-Param-* headers against the arguments they mirror; raises McpError -32020.

    ``expected``: lower-case header name -> an object with ``path`` (keys down to the argument).
    """
    for header, mirrored in expected.items():
        value: Any = arguments
        for part in mirrored.path:
            value = value.get(part) if isinstance(value, dict) else None
        sent = headers.get(header)
        if value is None:
            if sent is not None:
                raise mismatch(f"{header} was sent, but the body has no value for it")
            continue
        if sent is None:
            raise mismatch(f"{header} header is missing, the body says {value!r}")
        try:
            text = decode_value(sent)
        except ValueError as error:
            raise mismatch(f"{header} header value {sent!r} is {error}") from None
        if not _equals(text, value):
            raise mismatch(f"{header} header value {text!r} does not match body value {value!r}")


def _equals(text: str, value: Any) -> bool:
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, int | float):
        if len(text) > NUMBER_CHARS_MAX or "_" in text:  # Python's numbers may have underscores, JSON's may not.
            return False
        is_whole = text.lstrip("+-").isdigit()
        try:
            return (int(text) if is_whole else float(text)) == value
        except (ValueError, OverflowError):
            return False
    return bool(text == value)
