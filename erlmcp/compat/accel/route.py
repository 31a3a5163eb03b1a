"""An app's own HTTP routes, beside our endpoint: those that are asked for with GET and have one path each.

A desk answers them (``erlmcp.metrics.desk``), which sees the head of a request and no body; routes that take one, or
whose path has parameters, need the app's own server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

log = logging.getLogger("erlmcp.accelerate")
METHODS: Final = frozenset({"GET", "HEAD"})
OURS: Final = frozenset({"content-type", "content-length", "connection", "transfer-encoding", "date", "server"})
Spawn = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any] | None"]


def is_simple(route: Any) -> bool:
    """Whether a desk can answer it."""
    methods, path = set(getattr(route, "methods", None) or ()), getattr(route, "path", "{")
    return bool(methods) and methods <= METHODS and "{" not in path


def pages_of(routes: Iterable[Any], spawn: Spawn) -> dict[str, Callable[[Any, Any], None]]:
    """Path -> what answers it at a desk; the first of a path, as a router takes it."""
    found: dict[str, Callable[[Any, Any], None]] = {}
    for route in routes:
        found.setdefault(route.path, partial(_page, route, spawn))
    return found


def _page(route: Any, spawn: Spawn, _desk: Any, ask: Any) -> None:
    task = spawn(_answer(route, ask))
    if task is not None:
        ask.reply.gone = task.cancel


async def _answer(route: Any, ask: Any) -> None:
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    try:
        await route.handle(_scope_of(route, ask), receive, send)
    except Exception:
        log.exception("the route %s of the app raised", route.path)
        sent[:] = [{"type": "http.response.start", "status": 500}, {"body": b"Internal Server Error"}]
    ask.reply.gone = None
    start = sent[0]
    headers = [(bytes(name).lower(), bytes(value)) for name, value in start.get("headers", ())]
    kind = next((value for name, value in headers if name == b"content-type"), b"text/plain")
    extra = b"".join(b"%b: %b\r\n" % pair for pair in headers if pair[0].decode("latin-1") not in OURS)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    ask.reply.plain(start["status"], body, extra, kind.partition(b";")[0])


def _scope_of(route: Any, ask: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": ask.verb,
        "scheme": "http",
        "path": route.path,
        "raw_path": route.path.encode(),
        "query_string": urlencode(ask.query).encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in ask.headers.items()],
        "server": ("127.0.0.1", None),
        "client": None,
        "state": {},
        "endpoint": route.endpoint,
        "path_params": {},
    }
