"""What an HTTP listener expects of those that it works with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from erlmcp.core import HttpRequest, Outbound
    from erlmcp.limits import Limits
    from erlmcp.runtime.quick import Budget
    from erlmcp.transports.http1 import HttpConnection


class Handler(Protocol):
    """What answers requests, through the reply that the connection is."""

    def handle(self, request: HttpRequest, reply: HttpConnection) -> None: ...
    def front_of(self, request: HttpRequest, reply: HttpConnection) -> object:
        """Where a request that began the short way goes on."""


class Connection(Protocol):
    """What a listener keeps of each connection, whatever it speaks."""

    def sweep(self, now: float, limits: Limits) -> None: ...
    def drain(self) -> None: ...
    def abort(self) -> None: ...


class Stride(Protocol):
    """The short way, where there is one: ``erlmcp.runtime.stride``."""

    date: bytes

    def requests(
        self, requests: list[HttpRequest], connection: HttpConnection, out: Outbound, budget: Budget
    ) -> list[HttpRequest] | None: ...
