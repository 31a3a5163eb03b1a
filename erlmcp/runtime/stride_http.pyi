"""The short way of a tool call over HTTP."""

from typing import Any

from erlmcp.core import HttpRequest, Outbound, SessionStore
from erlmcp.runtime.budget import Budget
from erlmcp.runtime.session import Host
from erlmcp.runtime.stride import Stride
from erlmcp.wire.header import Gate

class HttpStride(Stride):
    """The short way for the HTTP connections of a running host: of requests whose heads were judged by ``gate``, and of
    sessions that are in this store."""

    date: bytes
    def __init__(self, host: Host, peer_class: type, gate: Gate, sessions: SessionStore) -> None: ...
    def requests(
        self, requests: list[HttpRequest], connection: Any, out: Outbound, budget: Budget
    ) -> list[HttpRequest] | None:
        """Handle requests that were read before, one at least: simple calls into ``out``; the value are the requests
        from the first on that is not simple or that the budget did not reach, None where there is none."""
