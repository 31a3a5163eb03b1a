"""What a server may ask of its client, and who answers: elicitation, sampling, roots.

The same questions come in two ways: as requests (handshake eras), or within an ``input_required`` result (2026-07-28).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from erlmcp.errors import INTERNAL_ERROR, McpError, MethodNotFoundError
from erlmcp.spec import method as m
from erlmcp.spec.version import MODERN_VERSIONS

log = logging.getLogger("erlmcp.client")

Handler = Callable[[dict[str, Any]], Any]
ACTIONS = ("accept", "decline", "cancel")


class Questions:
    """The handlers that a program gave, each a function or coroutine function of the question's params.

    ``elicitation`` gives the filled form (a dict), True (for a URL that was visited), None or False (declined), or a
    whole result (``{"action": "cancel"}``). ``sampling`` gives the model's text, or a whole CreateMessageResult.
    ``roots`` gives a list of URIs or of ``{"uri", "name"}``; it may be that list itself. A model of ``mcp_types`` is
    taken for any of them.
    """

    def __init__(self, elicitation: Handler | None = None, sampling: Handler | None = None, roots: Any = None) -> None:
        self._handlers: dict[str, Handler] = {}
        if elicitation is not None:
            self._handlers[m.ELICIT] = elicitation
        if sampling is not None:
            self._handlers[m.SAMPLE] = sampling
        if roots is not None:
            self._handlers[m.ROOTS_LIST] = roots if callable(roots) else lambda params: roots

    def capabilities(self, version: str) -> dict[str, Any]:
        """The ClientCapabilities that these handlers make true, as the revision writes them."""
        found: dict[str, Any] = {}
        if m.ROOTS_LIST in self._handlers:
            found["roots"] = {} if version in MODERN_VERSIONS else {"listChanged": True}
        if m.SAMPLE in self._handlers:
            found["sampling"] = {}
        if m.ELICIT in self._handlers and version >= "2025-06-18":
            found["elicitation"] = {"form": {}, "url": {}} if version >= "2025-11-25" else {}
        return found

    async def answer(self, method: str, params: Any) -> dict[str, Any]:
        """The result of a question. Raises McpError: -32601 where nobody answers such, what a handler raised as such,
        -32603 for any other exception, whose words stay here."""
        handler = self._handlers.get(method)
        if handler is None:
            raise MethodNotFoundError(method)
        given = params if isinstance(params, dict) else {}
        try:
            value = handler(given)
            if inspect.isawaitable(value):
                value = await value
            return _SHAPES[method](plain(value), given)
        except McpError:
            raise
        except Exception as error:
            log.exception("the client's handler of %s failed", method)
            raise McpError(INTERNAL_ERROR, f"the client's handler of {method} failed") from error


def plain(value: Any) -> Any:
    """A model of ``mcp_types`` as the JSON object that it stands for."""
    if hasattr(value, "model_dump"):
        return value.model_dump(by_alias=True, exclude_none=True, mode="json")
    return value


def _elicited(value: Any, params: dict[str, Any]) -> dict[str, Any]:
    if value is None or value is False:
        return {"action": "decline"}
    if value is True:
        return {"action": "accept"}
    if not isinstance(value, Mapping):
        raise TypeError(f"an elicitation handler gives a dict, True, False or None, got {type(value).__name__}")
    if value.get("action") in ACTIONS and not value.keys() - {"action", "content", "_meta", "resultType"}:
        found = {key: item for key, item in value.items() if key in ("action", "content")}
    else:
        found = {"action": "accept", "content": dict(value)}
    if found["action"] == "accept" and "content" in found:
        found["content"] = {**defaults_of(params.get("requestedSchema")), **(found["content"] or {})}
    return found


def defaults_of(schema: Any) -> dict[str, Any]:
    """The defaults of a form (SEP-1034): what a user leaves as it is."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return {}
    return {key: item["default"] for key, item in properties.items() if isinstance(item, dict) and "default" in item}


def _sampled(value: Any, params: dict[str, Any]) -> dict[str, Any]:
    if isinstance(value, str):
        return {"role": "assistant", "content": {"type": "text", "text": value}, "model": "unknown"}
    if not isinstance(value, Mapping) or "content" not in value:
        raise TypeError("a sampling handler gives a text, or a result with role, content and model")
    return {"role": "assistant", "model": "unknown", **value}


def _rooted(value: Any, params: dict[str, Any]) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    return {"roots": [{"uri": item} if isinstance(item, str) else dict(plain(item)) for item in value]}


_SHAPES: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
    m.ELICIT: _elicited,
    m.SAMPLE: _sampled,
    m.ROOTS_LIST: _rooted,
}
