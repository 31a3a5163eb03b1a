"""What an HTTP request head says to an MCP endpoint, judged once per distinct head (Streamable HTTP; 2026-07-28 and
before)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from erlmcp.spec import key
from erlmcp.spec.version import LEGACY_VERSIONS, MODERN_VERSIONS

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
_VERBS: Final = ("POST", "GET", "DELETE", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Gate:
    """Who may speak to the endpoint: its path, and the Host and Origin values that are let in.

    ``local`` (the endpoint is bound to loopback) lets in loopback names only, besides ``hosts``: this is what stops
    DNS rebinding. An Origin is let in where it names the Host itself or stands in ``origins`` ("*" lets in any).
    """

    path: str
    local: bool
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def admits_host(self, host: str | None) -> bool:
        if host is None or "*" in self.hosts:
            return True
        if not self.local and not self.hosts:
            return True
        name = split_host(host)
        return host in self.hosts or name in self.hosts or (self.local and name in LOOPBACK_NAMES)

    def admits_origin(self, origin: str, host: str | None) -> bool:
        if origin in self.origins or "*" in self.origins:
            return True
        name = origin.partition("://")[2]
        if not name:
            return False
        return split_host(name) in LOOPBACK_NAMES if self.local else name == host


def split_host(host: str) -> str:
    """A Host without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()


class Admitted(Mapping[str, str]):
    """The headers of a request whose caller is known; not to be changed. ``owner`` is a name for the caller that stays
    the same when its credential is renewed, ``principal`` what else is known of it, ``admission`` is kept here by who
    let it in."""

    __slots__ = ("_headers", "admission", "get", "owner", "principal")

    def __init__(self, headers: Mapping[str, str], owner: str, principal: Any, admission: Any = None) -> None:
        self._headers = headers
        self.admission = admission
        self.get = headers.get  # type: ignore[method-assign]  # without a call in between
        self.owner = owner
        self.principal = principal

    def __getitem__(self, name: str) -> str:
        return self._headers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def credential_of(headers: Mapping[str, str]) -> str:
    """Who asks: the caller, where somebody found out, else what it showed; "" for neither."""
    if headers.__class__ is Admitted:
        return headers.owner
    return headers.get("authorization") or headers.get("x-api-key", "")


@dataclass(slots=True, eq=False, weakref_slot=True)
class Verdict:
    """What a head means here. ``status`` is 0, or that of the answer to a head that is refused, with ``reason`` and
    ``extra`` header lines."""

    status: int = 0
    reason: str = ""
    extra: bytes = b""
    verb: str = ""
    version: str | None = None
    modern: bool = False
    unknown_version: bool = False
    session_id: str | None = None
    last_event_id: str | None = None
    accepts_json: bool = True
    accepts_stream: bool = True
    plain: bool = False  # a POST that may be answered with JSON, nothing doubled
    quick: bool = False  # a modern one of these
    doubled: str | None = None  # a routing header that came twice
    headers: Mapping[str, str] = field(default_factory=dict)
    gate: Gate | None = None  # that it was judged by, where it is remembered
    session: Any = None  # a weak reference to its session, once its calls may take the short way
    caller: str = ""  # whose rate its calls count for, kept here by who found it out

    @property
    def credential(self) -> str:
        return credential_of(self.headers)


def refuse(status: int, reason: str, extra: bytes = b"") -> Verdict:
    return Verdict(status=status, reason=reason, extra=extra)


def judge_head(verb: str, target: str, headers: Mapping[str, str], counts: Mapping[str, int], gate: Gate) -> Verdict:
    """The first part of the ladder: security, path, method, content type, Accept. ``counts`` tells how often each
    routing header came."""
    host, origin = headers.get("host"), headers.get("origin")
    if not gate.admits_host(host):
        return refuse(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"Host {host!r} is not allowed here; add it to allowed_hosts (or ERLMCP_ALLOWED_HOSTS)",
        )
    cors = b""
    if origin is not None:
        if not gate.admits_origin(origin, host):
            return refuse(
                HTTPStatus.FORBIDDEN,
                f"Origin {origin!r} is not allowed here; add it to allowed_origins (or ERLMCP_ALLOWED_ORIGINS)",
            )
        cors = _cors(origin)
    path = target.partition("?")[0]
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    if path != gate.path and path.rstrip("/") != gate.path:
        return refuse(HTTPStatus.NOT_FOUND, f"No such path: {path}; the MCP endpoint is {gate.path}", cors)
    version = headers.get(key.HEADER_VERSION)
    found = Verdict(extra=cors, verb=verb, version=version, headers=headers)
    found.modern = version in MODERN_VERSIONS
    found.unknown_version = version is not None and not found.modern and version not in LEGACY_VERSIONS
    if verb == "OPTIONS" and origin is not None:
        return refuse(HTTPStatus.NO_CONTENT, "", cors + _PREFLIGHT)
    if verb not in _VERBS[:3]:
        return refuse(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed", b"Allow: POST, GET, DELETE\r\n" + cors)
    if verb != "POST" and found.modern:
        return refuse(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed", b"Allow: POST\r\n" + cors)
    found.session_id = headers.get(key.HEADER_SESSION)
    found.last_event_id = headers.get(key.HEADER_LAST_EVENT)
    _read_accept(found, headers.get("accept"))
    if verb == "POST":
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json", cors)
        if headers.get("content-encoding", "identity").lower() != "identity":
            return refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding is not supported", cors)
        if not (found.accepts_json or found.accepts_stream):
            return refuse(HTTPStatus.NOT_ACCEPTABLE, "Accept must list application/json and text/event-stream", cors)
    elif verb == "GET" and not found.accepts_stream:
        return refuse(HTTPStatus.NOT_ACCEPTABLE, "Accept must list text/event-stream", cors)
    for name in (key.HEADER_VERSION, key.HEADER_METHOD, key.HEADER_NAME, key.HEADER_SESSION):
        if counts.get(name, 0) > 1:
            found.doubled = name
    found.plain = verb == "POST" and found.accepts_json and found.doubled is None
    found.quick = found.modern and found.plain
    return found


def _read_accept(found: Verdict, accept: str | None) -> None:
    if accept is None:
        return
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    found.accepts_json = bool(kinds & {"application/json", "application/*", "*/*"})
    found.accepts_stream = bool(kinds & {"text/event-stream", "text/*", "*/*"})


_PREFLIGHT: Final = (
    b"Access-Control-Allow-Methods: POST, GET, DELETE\r\n"
    b"Access-Control-Allow-Headers: Content-Type, Accept, Authorization, Last-Event-ID, Mcp-Session-Id, "
    b"MCP-Protocol-Version, Mcp-Method, Mcp-Name\r\n"
    b"Access-Control-Max-Age: 600\r\n"
)


def _cors(origin: str) -> bytes:
    return (
        b"Access-Control-Allow-Origin: " + origin.encode("latin-1") + b"\r\n"
        b"Access-Control-Expose-Headers: Mcp-Session-Id, WWW-Authenticate\r\nVary: Origin\r\n"
    )
