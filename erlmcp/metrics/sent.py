"""Requests as their sender sees them: those of a client, and those that a server asks its client.

The name of a tool or prompt comes from the program, and perhaps from a model that it asks: one that was never answered
well is ``_unknown`` where the answer says that it is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from erlmcp.errors import CallTimeoutError, HttpStatusError, McpError
from erlmcp.metrics import family as f
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp import core
    from erlmcp.metrics.recorder import Recorder

NAMES_MAX: Final = 1000
KEYS_MAX: Final = 4000
NAMED: Final = {m.TOOLS_CALL: f.TOOL, m.PROMPTS_GET: f.PROMPT}
Key = tuple[str, str, str, str, str, str, str, str]


Where = tuple[str, str, str]  # kind of transport, address, port


class Asked:
    """One request under way. ``meta`` is what goes into its ``_meta``; ``span`` belongs to the observer."""

    __slots__ = ("meta", "method", "name", "params", "span", "version", "where")

    def __init__(self, method: str, name: str | None, params: Any, where: Where, version: str) -> None:
        self.method = method
        self.name = name
        self.params = params
        self.where = where
        self.version = version
        self.meta: dict[str, Any] = {}
        self.span: Any = None


class Sent:
    """Durations by method, tool or prompt, outcome, transport and server."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._known: dict[Key, core.Histogram] = {}
        self._names: set[str] = set()  # tools and prompts that gave an answer

    def record(
        self,
        method: str,
        name: str | None,
        outcome: tuple[str, str],
        where: tuple[str, str, str],
        version: str,
        ns: int,
    ) -> None:
        """A request of ``method`` is over. ``outcome`` is ``outcome_of``; ``where`` the kind of transport, the address
        and the port of the server, "" where there are none."""
        error, status = outcome
        named = self._named(method, name, status)
        key = (method, named, error, status, version, *where)
        found = self._known.get(key)
        if found is None:
            found = self._recorder.series_of(f.CLIENT_OPERATION, self._labels(key)).hot
            if len(self._known) < KEYS_MAX:
                self._known[key] = found
        found.record(max(1, ns))

    def _named(self, method: str, name: str | None, status: str) -> str:
        if method not in NAMED or not isinstance(name, str):
            return ""
        if name not in self._names:
            if status in f.CALLER_FAULTS:
                return f.UNKNOWN
            if len(self._names) < NAMES_MAX:
                self._names.add(name)
        return name

    def _labels(self, key: Key) -> dict[str, str]:
        method, name, error, status, version, kind, address, port = key
        network = f.NETWORK[kind]
        known = self._recorder.known_status(status)
        return {
            f.METHOD: method if method in f.METHODS else f.OTHER_METHOD,
            f.TOOL: name if method == m.TOOLS_CALL else "",
            f.PROMPT: name if method == m.PROMPTS_GET else "",
            f.ERROR: known if error == status else error,
            f.STATUS: known,
            f.VERSION: version,
            **dict(zip((f.TRANSPORT, f.PROTOCOL, f.PROTOCOL_VERSION), network, strict=True)),
            f.SERVER_ADDRESS: address,
            f.SERVER_PORT: port,
        }

    async def asking(
        self, session: Any, method: str, params: Any, send: Callable[[Any], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """A request of a server's to the client of a session, sent by ``send(params)``."""
        for observer in self._recorder.observers:
            send = partial(observer.asking, send, session, method)
        began_ns = perf_counter_ns()
        result, error = None, None
        try:
            result = await send(params)
        except BaseException as exc:
            error = exc
            raise
        finally:
            where, version = (session.kind, "", ""), session.connection.version or ""
            self.record(method, None, outcome_of(result, error), where, version, perf_counter_ns() - began_ns)
        return result

    def session(self, where: Where, version: str, ns: int) -> None:
        """A session of a handshake revision is over."""
        network = dict(zip((f.TRANSPORT, f.PROTOCOL, f.PROTOCOL_VERSION), f.NETWORK[where[0]], strict=True))
        labels = {**network, f.VERSION: version, f.SERVER_ADDRESS: where[1], f.SERVER_PORT: where[2]}
        self._recorder.series_of(f.CLIENT_SESSION, labels).hot.record(max(1, ns))


def outcome_of(result: Any, error: BaseException | None) -> tuple[str, str]:
    """(error.type, rpc.response.status_code) of a request that ended with this result, or this error."""
    if error is None:
        return (f.TOOL_ERROR, "") if isinstance(result, dict) and result.get("isError") is True else ("", "")
    if isinstance(error, McpError):
        return str(error.code), str(error.code)
    if isinstance(error, CallTimeoutError | TimeoutError):
        return "timeout", ""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled", ""
    return (str(error.status) if isinstance(error, HttpStatusError) else type(error).__name__), ""
