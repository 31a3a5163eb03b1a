"""The exception tree of erlmcp and the numeric codes of JSON-RPC and MCP. Imports nothing."""

from __future__ import annotations

# JSON-RPC 2.0, section 5.1.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
# MCP. -32000..-32019 is the implementations' range; -32020..-32099 belongs to the specification.
SERVER_BUSY = -32000
REQUEST_TIMEOUT = -32001
RESOURCE_NOT_FOUND_LEGACY = -32002
HEADER_MISMATCH = -32020
MISSING_CLIENT_CAPABILITY = -32021
UNSUPPORTED_PROTOCOL_VERSION = -32022
URL_ELICITATION_REQUIRED = -32042


class ErlmcpError(Exception):
    """The root of every exception that erlmcp raises by itself."""


class ConfigurationError(ErlmcpError):
    """The program set something up in a way that cannot work; the message says what, and the mend."""


class LimitError(ErlmcpError, ValueError):
    """An input passed a named limit.

    ``limit`` is the setting's name (``body_bytes_max``), ``maximum`` its value; the message names both, so that a
    reader knows which setting to raise.
    """

    def __init__(self, limit: str, maximum: int, detail: str = "") -> None:
        super().__init__(limit, maximum, detail)
        self.limit = limit
        self.maximum = maximum
        self.detail = detail

    def __str__(self) -> str:
        return f"limit {self.limit}={self.maximum} exceeded{': ' + self.detail if self.detail else ''}"


class JsonError(ErlmcpError, ValueError):
    """Text that is not JSON by RFC 8259, or a value that JSON cannot hold. ``position`` is a byte offset, or -1."""

    def __init__(self, message: str, position: int = -1) -> None:
        super().__init__(message, position)
        self.message = message
        self.position = position

    def __str__(self) -> str:
        return self.message if self.position < 0 else f"{self.message} at byte {self.position}"


class StaleHandleError(ErlmcpError, LookupError):
    """A slab handle whose slot was given to somebody else since."""


class SnapshotError(ErlmcpError, ValueError):
    """A file that is no whole snapshot: foreign, cut, altered, or of a version that this release does not read."""


class JournalError(ErlmcpError):
    """A journal of calls cannot be used: another one writes it, it is no journal, it was closed, or a write failed."""


class ConnectionClosedError(ErlmcpError, ConnectionError):
    """The connection that a call waited on is gone; the message says why."""


class ServerExitedError(ConnectionClosedError):
    """A server that was started as a process has ended. ``returncode`` is its exit status, negative for a signal;
    ``stderr`` the last lines that it wrote there. The message says both."""

    def __init__(self, message: str, returncode: int | None, stderr: str = "") -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stderr = stderr


class SessionLostError(ConnectionClosedError):
    """The server does not know the session any more (a 404, Streamable HTTP of the handshake revisions): the
    conversation begins anew with ``initialize``."""


class CallTimeoutError(ErlmcpError, TimeoutError):
    """No answer came in time. ``limit`` is the setting's name (``timeout_s``), ``seconds`` its value, ``method`` what
    was asked."""

    def __init__(self, limit: str, seconds: float, method: str = "") -> None:
        super().__init__(limit, seconds, method)
        self.limit = limit
        self.seconds = seconds
        self.method = method

    def __str__(self) -> str:
        return f"no answer to {self.method or 'the request'} within {self.limit}={self.seconds:g}"


class InvalidAnswerError(ErlmcpError):
    """The server answered, and not as the protocol has it; the message says what was wrong."""


class NegotiationError(ErlmcpError):
    """Client and server have no protocol revision in common, or not the one that was asked for."""


class HttpStatusError(ErlmcpError):
    """The server answered with an HTTP status that carries no JSON-RPC message. ``status`` is the number, ``body`` the
    beginning of what came with it, ``headers`` by their lower-case names (``www-authenticate``, ``retry-after``)."""

    def __init__(
        self, status: int, reason: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        text = " ".join(body[:200].decode(errors="replace").split())
        super().__init__(f"{url} answered {status} {reason}{': ' + text if text else ''}")
        self.status = status
        self.reason = reason
        self.url = url
        self.body = body
        self.headers = headers or {}


class AuthorizationError(ErlmcpError):
    """A client could not get an access token, or refused to go on getting one. ``error`` is the word of the
    authorization server for it (``access_denied``, ``invalid_grant``), "" where it was the client that refused."""

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


class QueueClosedError(ErlmcpError):
    """The queue was closed: nothing goes in any more, and what was in it has been taken out."""


class WrongThreadError(ErlmcpError, RuntimeError):
    """A part that belongs to one thread was used by another; the message says how to hand it over."""


class PoolClosedError(ErlmcpError, RuntimeError):
    """The pool was closed: it lends nothing any more, and a pool of threads takes no more calls."""


class PoolTimeoutError(ErlmcpError, TimeoutError):
    """Nothing could be lent in time. ``limit`` is the setting's name (``wait_s``), ``seconds`` its value."""

    def __init__(self, limit: str, seconds: float, detail: str = "") -> None:
        super().__init__(limit, seconds, detail)
        self.limit = limit
        self.seconds = seconds
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.limit}={self.seconds:g} passed{': ' + self.detail if self.detail else ''}"


class WorkerLostError(ErlmcpError, RuntimeError):
    """The thread that ran a call died before the call ended; whether the call had an effect is not known."""


class NoBackChannelError(ErlmcpError):
    """The handler asked the client something on a connection that cannot carry a question."""


class McpError(ErlmcpError):
    """A JSON-RPC error answer: ``code``, ``message`` and optional ``data`` go to the peer as they are."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class RefusedError(McpError):
    """A call was not made, or not taken on: what protects it let it not through. -32000 with ``data`` of ``reason``
    and, where it is known when to come back, ``retryAfterMs``. Nobody acted on it, so it may be made again, whatever it
    is."""

    reason = "refused"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        data: dict[str, object] = {"reason": self.reason}
        if retry_after_s is not None:
            data["retryAfterMs"] = -int(-retry_after_s * 1000 // 1)  # never sooner
            message = f"{message}; retry after {retry_after_s:.3g} s"
        super().__init__(SERVER_BUSY, message, data)
        self.retry_after_s = retry_after_s


class BreakerOpenError(RefusedError):
    """The circuit breaker is open: what is called failed too often lately."""

    reason = "breaker_open"


class RateLimitedError(RefusedError):
    """More calls than the rate allows."""

    reason = "rate_limited"


class BulkheadFullError(RefusedError):
    """As many calls as there may be at a time are running, and the line before them is full, or was too slow."""

    reason = "bulkhead_full"


class InvalidParamsError(McpError):
    """-32602, JSON-RPC 2.0 section 5.1."""

    def __init__(self, message: str, data: object = None) -> None:
        super().__init__(INVALID_PARAMS, message, data)


class MethodNotFoundError(McpError):
    """-32601, JSON-RPC 2.0 section 5.1."""

    def __init__(self, method: str) -> None:
        super().__init__(METHOD_NOT_FOUND, f"Method not found: {method}")


class ResourceNotFoundError(McpError):
    """No resource has this URI. -32602 with ``data.uri`` in 2026-07-28, -32002 in the handshake revisions."""

    def __init__(self, uri: str, message: str = "") -> None:
        super().__init__(INVALID_PARAMS, message or f"Resource not found: {uri}", {"uri": uri})
        self.uri = uri


class UrlElicitationRequiredError(McpError):
    """-32042 (2025-11-25): the request needs the user to visit the URLs in ``elicitations`` first."""

    def __init__(self, elicitations: list[dict[str, object]], message: str = "URL elicitation required") -> None:
        super().__init__(URL_ELICITATION_REQUIRED, message, {"elicitations": elicitations})


class ToolError(ErlmcpError):
    """A tool's own failure: the caller receives a result with ``isError`` true and this text.

    A client raises it for such a result, which is ``result`` then.
    """

    result: object = None


class ArgumentError(ToolError):
    """Arguments that do not fit the tool's input schema (an ``isError`` result since SEP-1303)."""
