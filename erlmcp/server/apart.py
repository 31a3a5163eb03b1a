"""Metrics, health and the dashboard on an address of their own: of a server on stdio, TCP or a Unix socket, or of one
whose endpoint is for others than who looks after it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from erlmcp.errors import ConfigurationError
from erlmcp.metrics.desk import LIVE, METRICS, READY, Desk

if TYPE_CHECKING:
    from erlmcp.core import HttpRequest
    from erlmcp.server.app import Server
    from erlmcp.transports.listener import HttpListener

log = logging.getLogger("erlmcp.server")
DRAIN_S: Final = 0.5
ELSEWHERE: Final = f"Here are {METRICS}, {METRICS}/dashboard, {LIVE} and {READY}".encode()


class Counter:
    """What answers there: the desk alone."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def handle(self, request: HttpRequest, reply: Any) -> None:
        if not self.desk.take(request.head, reply):
            reply.plain(404, ELSEWHERE)

    def front_of(self, request: HttpRequest, reply: Any) -> object:
        raise NotImplementedError  # only who has a short way is asked


@asynccontextmanager
async def shown_apart(server: Server, host: str, port: int) -> AsyncIterator[HttpListener]:
    """Show them there within this context, in which the server runs. ConfigurationError where the address cannot be
    had."""
    from erlmcp.server.serve import make_desk, make_gate
    from erlmcp.transports.listener import HttpListener

    desk = make_desk(server, make_gate(server, "", host), lambda: "draining" if server.board.is_draining else "")
    listener = HttpListener(Counter(desk), server.routes, server.limits, server.turn)
    try:
        await listener.listen(host, port, reuse_port=server.worker is not None)
    except OSError as error:
        raise ConfigurationError(
            f"metrics cannot be shown at {host}:{port}: {error.strerror or error}; choose another address "
            "(metrics_address, or --metrics-port and --metrics-address)"
        ) from error
    shown = f"[{host}]" if ":" in host else host
    log.info("%s: metrics at http://%s:%d%s/dashboard", server.name, shown, listener.port, METRICS)
    try:
        yield listener
    finally:
        await listener.close(DRAIN_S, desk.end_streams)
