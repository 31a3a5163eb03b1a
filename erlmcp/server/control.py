"""The control socket: an operator's words to a running server, apart from the protocol that it serves.

A Unix socket of mode 0600, newline JSON-RPC 2.0 without batches, off unless asked for. Whatever comes is bounded, and a
line that is no request is answered and passed over.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    ConfigurationError,
    InvalidParamsError,
    JsonError,
    LimitError,
    McpError,
    MethodNotFoundError,
)

if TYPE_CHECKING:
    from erlmcp.server.app import Server
    from erlmcp.server.trial import Trial

log = logging.getLogger("erlmcp.control")
MESSAGE_BYTES_MAX: Final = 64 * 1024
DEPTH_MAX: Final = 16
CONNECTION_COUNT_MAX: Final = 16
OUTBOX_BYTES_MAX: Final = 4 * 1024 * 1024
Word = Callable[[dict[str, Any]], Any]


class ControlLink:
    """One operator's connection: lines in, a line out for each that has an id."""

    def __init__(self, words: Mapping[str, Word], write: Callable[[bytes], None]) -> None:
        self.closed = False
        self.write_parts: Callable[[Any], None] | None = None
        self.patience_s: float | None = None
        self._words = words
        self._write = write
        self._framer = core.LineFramer(MESSAGE_BYTES_MAX)

    def feed(self, data: bytes) -> None:
        """Handle the lines that are whole with this read. Never raises for what they hold."""
        for line in self._framer.feed(data):
            if isinstance(line, LimitError):
                said = f"Invalid request: a line is longer than {MESSAGE_BYTES_MAX} bytes"
                answer: dict[str, Any] | None = _error(None, INVALID_REQUEST, said)
            else:
                answer = self._answer(line)
            if answer is not None and not self.closed:
                self._write(core.encode(answer) + b"\n")

    def pace(self, pacer: object) -> None:
        """Lines are answered as they are read."""

    def finish(self) -> None:
        """Nothing waits."""

    def hold(self, held: bool) -> None:
        """An operator who does not read is cut off at ``OUTBOX_BYTES_MAX``."""

    def _answer(self, line: bytes) -> dict[str, Any] | None:
        try:
            request = core.decode(line, depth_max=DEPTH_MAX, string_bytes_max=MESSAGE_BYTES_MAX)
        except (JsonError, LimitError) as error:
            return _error(None, PARSE_ERROR, f"Parse error: {error}")
        if not isinstance(request, dict):
            return _error(None, INVALID_REQUEST, "Invalid request: expected one JSON-RPC request a line")
        id, params = request.get("id"), request.get("params", {})
        is_id = isinstance(id, str | int) and not isinstance(id, bool)
        if request.get("jsonrpc") != "2.0" or not isinstance(request.get("method"), str) or not (is_id or id is None):
            return _error(id if is_id else None, INVALID_REQUEST, "Invalid request: expected a JSON-RPC 2.0 request")
        try:
            answer = {"jsonrpc": "2.0", "id": id, "result": self._result(request["method"], params)}
        except McpError as error:
            answer = _error(id, error.code, error.message)
        except ConfigurationError as error:
            answer = _error(id, InvalidParamsError("").code, str(error))
        except Exception as error:
            log.exception("the control request %s failed", request["method"])
            answer = _error(id, INTERNAL_ERROR, f"Internal error: {type(error).__name__}: {error}")
        return answer if "id" in request else None

    def _result(self, method: str, params: Any) -> Any:
        word = self._words.get(method)
        if word is None:
            raise MethodNotFoundError(f"{method}; expected one of {', '.join(self._words)}")
        if not isinstance(params, dict):
            raise InvalidParamsError("Invalid params: expected an object")
        return word(params)

    def flush(self) -> None:
        """Nothing is gathered."""

    def close(self, reason: str = "the connection was closed") -> None:
        self.closed = True


def _error(id: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}


def words_of(server: Server) -> dict[str, Word]:
    """What can be asked of a server. What changes flags is logged, with the change."""

    def info(_params: dict[str, Any]) -> Any:
        return {"server": server.info, "core": core.IMPLEMENTATION, "tools": len(server.tools)}

    def list_flags(_params: dict[str, Any]) -> Any:
        return {"flags": server.flag_table}

    def set_flags(params: dict[str, Any]) -> Any:
        server.set_flags(**params)
        log.warning("flags were changed by the control socket: %s", params)
        return {"flags": server.flag_table}

    def status(params: dict[str, Any]) -> Any:
        found = server.trials.values() if params.get("name") is None else [_trial_of(server, params)]
        return {"rollouts": [trial.status() for trial in found]}

    def advance(params: dict[str, Any]) -> Any:
        trial = _trial_of(server, params)
        trial.advance("the operator, by the control socket")
        return {"rollouts": [trial.status()]}

    def back(params: dict[str, Any]) -> Any:
        trial = _trial_of(server, params)
        trial.back("the operator, by the control socket")
        return {"rollouts": [trial.status()]}

    return {
        "server/info": info,
        "flags/list": list_flags,
        "flags/set": set_flags,
        "rollout/status": status,
        "rollout/advance": advance,
        "rollout/back": back,
        **server.control_words(),
    }


def _trial_of(server: Server, params: dict[str, Any]) -> Trial:
    """The roll-out of this name; without one, the only one there is. Raises InvalidParamsError."""
    name, known = params.get("name"), server.trials
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if not isinstance(name, str) or name not in known:
        there = f"there is {', '.join(known)}" if known else "there is none"
        raise InvalidParamsError(f"Invalid params: which rollout? {there}")
    return known[name]


@asynccontextmanager
async def control(server: Server, path: str) -> AsyncIterator[None]:
    """Let an operator in within this context. Raises ConfigurationError where the path is in use or no socket, OSError
    where it cannot be had."""
    from erlmcp.transports.stream import listen_unix

    words = words_of(server)
    listener = await listen_unix(
        lambda write: ControlLink(words, write),
        path,
        connection_count_max=CONNECTION_COUNT_MAX,
        outbox_bytes_max=OUTBOX_BYTES_MAX,
    )
    try:
        yield
    finally:
        await listener.close()
