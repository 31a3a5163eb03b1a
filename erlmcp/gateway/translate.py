"""From one era to the other: what a request's ``_meta`` must say upstream, and what a result must say downstream.

Where both ends are of one era nothing is changed but a progress token: the bytes go through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.client import annotation
from erlmcp.errors import (
    INVALID_PARAMS,
    RESOURCE_NOT_FOUND_LEGACY,
    InvalidAnswerError,
    McpError,
    ResourceNotFoundError,
)
from erlmcp.gateway.line import INFO, fit_capabilities
from erlmcp.spec import key
from erlmcp.spec import method as m
from erlmcp.spec.version import LATEST_MODERN

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.gateway.line import Line
    from erlmcp.gateway.mount import Mount
    from erlmcp.runtime.exchange import Exchange

# Results of 2026-07-28 that say how long they may be kept.
CACHEABLE: Final = frozenset({m.RESOURCES_READ, m.TOOLS_LIST, m.PROMPTS_LIST, m.RESOURCES_LIST, m.TEMPLATES_LIST})
_COMPLETE: Final = b'{"resultType":"complete"'
_UNCACHED: Final = b',"ttlMs":0,"cacheScope":"private"'
PARAM_HEADER: Final = "mcp-param-"
_OF_MODERN: Final = ("resultType", "ttlMs", "cacheScope")
WITHOUT_COUNT_MAX: Final = 1024
# The headers of requests that are known to mirror nothing, by identity: requests of one head share them.
_WITHOUT: Final[dict[int, Mapping[str, str]]] = {}


def meta_for(exchange: Exchange, line: Line, token: int | None) -> bytes | None:
    """The text of the ``_meta`` that goes upstream; None where the client's own may go as it is."""
    peer = exchange.peer
    if peer.modern == line.is_modern and token is None:
        return None
    meta = exchange.call.meta
    given: dict[str, Any] = {} if meta is None else meta.values
    if peer.modern == line.is_modern:
        found = dict(given)
    else:
        found = {name: value for name, value in given.items() if not name.startswith(key.PREFIX)}
        if line.is_modern:
            found.update(modern_meta(exchange))
    found.pop(key.PROGRESS_TOKEN, None)
    if token is not None:
        found[key.PROGRESS_TOKEN] = token
    return core.encode(found)


def modern_meta(exchange: Exchange) -> dict[str, Any]:
    """What a request of 2026-07-28 must say of a client that spoke of itself in its handshake."""
    peer = exchange.peer
    found: dict[str, Any] = {
        key.PROTOCOL_VERSION: LATEST_MODERN,
        key.CLIENT_INFO: peer.info or INFO,
        key.CLIENT_CAPABILITIES: fit_capabilities(peer.capabilities, LATEST_MODERN),
    }
    level = exchange.session.log_level
    if level is not None:
        found[key.LOG_LEVEL] = level
    return found


def result_for_modern(call: Call, method: str) -> bytes:
    """The text of a handshake server's result as one of 2026-07-28."""
    text = core.result_text(call) or b"{}"
    if not text.startswith(b"{"):
        raise InvalidAnswerError(f"the result of {method} is not an object")
    if b'"resultType"' in text or b'"ttlMs"' in text or b'"cacheScope"' in text:
        found = {name: value for name, value in as_object(call).items() if name not in _OF_MODERN}
        text = core.encode(found)
    rest = text[1:].lstrip()
    head = _COMPLETE + (_UNCACHED if method in CACHEABLE else b"")
    return head + (rest if rest == b"}" else b"," + rest)


def result_for_legacy(result: dict[str, Any]) -> dict[str, Any]:
    """A result of 2026-07-28 as one of a handshake revision."""
    found = {name: value for name, value in result.items() if name not in _OF_MODERN}
    meta = found.get("_meta")
    if isinstance(meta, dict):
        kept = {name: value for name, value in meta.items() if not name.startswith(key.PREFIX)}
        found["_meta"] = kept
        if not kept:
            del found["_meta"]
    if "structuredContent" in found and not isinstance(found["structuredContent"], dict):
        found["structuredContent"] = {"result": found["structuredContent"]}  # Only objects there, before 2026-07-28.
    return found


def with_prefix(result: dict[str, Any], prefix: str) -> dict[str, Any]:
    """A result of a read, a call or a prompt with the URIs of its resources as the gateway has them."""
    found = dict(result)
    for name in ("contents", "content"):
        if isinstance(items := found.get(name), list):
            found[name] = [_prefixed(item, prefix, is_resource=name == "contents") for item in items]
    if isinstance(messages := found.get("messages"), list):
        found["messages"] = [
            {**each, "content": _prefixed(each["content"], prefix)}
            if isinstance(each, dict) and "content" in each
            else each
            for each in messages
        ]
    return found


def _prefixed(item: Any, prefix: str, *, is_resource: bool = False) -> Any:
    if isinstance(item, list):
        return [_prefixed(each, prefix) for each in item]
    if not isinstance(item, dict):
        return item
    if item.get("type") == "resource":
        return {**item, "resource": _prefixed(item.get("resource"), prefix, is_resource=True)}
    if (is_resource or item.get("type") == "resource_link") and isinstance(uri := item.get("uri"), str):
        return {**item, "uri": prefix + uri}
    return item


def for_modern(result: dict[str, Any], method: str) -> dict[str, Any]:
    """A result of a handshake revision as one of 2026-07-28."""
    found = {name: value for name, value in result.items() if name not in _OF_MODERN}
    hints = {"ttlMs": 0, "cacheScope": "private"} if method in CACHEABLE else {}
    return {"resultType": "complete", **hints, **found}


def as_object(call: Call) -> dict[str, Any]:
    result = call.result
    if not isinstance(result, dict):
        raise InvalidAnswerError("the result is not an object")
    return result


def error_across(call: Call, exchange: Exchange, is_modern: bool) -> McpError:
    """The error answer of an upstream of the other era."""
    error = call.error
    given = error if isinstance(error, dict) else {}
    code, message, data = given.get("code"), str(given.get("message") or ""), given.get("data")
    code = code if isinstance(code, int) else 0
    if exchange.call.method == m.RESOURCES_READ:
        uri = data.get("uri") if isinstance(data, dict) else None
        if (code == RESOURCE_NOT_FOUND_LEGACY and not is_modern) or (code == INVALID_PARAMS and uri is not None):
            return ResourceNotFoundError(uri if isinstance(uri, str) else exchange.call.name or "", message)
    return McpError(code, message, data)


def fit_schema(descriptor: dict[str, Any], version: str) -> dict[str, Any]:
    """A tool without an output schema that its revision has no place for: only objects, before 2026-07-28."""
    schema = descriptor.get("outputSchema")
    if version >= LATEST_MODERN or not isinstance(schema, dict) or schema.get("type") == "object":
        return descriptor
    return {name: value for name, value in descriptor.items() if name != "outputSchema"}


def mirrors(exchange: Exchange, mount: Mount) -> dict[str, str] | None:
    """The Mcp-Param headers of a request: those that the tool's schema asks for, and those of the client's that it does
    not know, which intermediaries must hand on (2026-07-28, Streamable HTTP)."""
    found: dict[str, str] = {}
    if mount.mirrored:
        arguments = exchange.call.arguments
        found = annotation.headers_of(mount.mirrored, arguments if isinstance(arguments, dict) else {})
    headers = exchange.headers
    if headers is not None and _WITHOUT.get(id(headers)) is not headers:
        given = {name: value for name, value in headers.items() if name.startswith(PARAM_HEADER)}
        if not given:
            if len(_WITHOUT) >= WITHOUT_COUNT_MAX:
                _WITHOUT.clear()
            _WITHOUT[id(headers)] = headers
        found.update((name, value) for name, value in given.items() if name not in mount.plan.param_headers)
    return found or None
