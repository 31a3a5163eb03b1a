"""The methods of MCP, answered by an app of another SDK: by a plan of ours where a tool has one, else by its kernel."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from erlmcp.compat.accel.visit import run_within
from erlmcp.compat.accel.voice import reported
from erlmcp.errors import INVALID_REQUEST, McpError
from erlmcp.runtime.exchange import Exchange
from erlmcp.runtime.subscription import Hub
from erlmcp.server.service import CRITICAL, Service
from erlmcp.spec import method as m
from erlmcp.spec.version import negotiate
from erlmcp.wire.connection import Connection
from erlmcp.wire.peer import judge_initialize

if TYPE_CHECKING:
    from erlmcp.compat.accel.app import Accelerated
    from erlmcp.core import Call
    from erlmcp.runtime.session import Session

NOTIFICATIONS = (m.INITIALIZED, m.CANCELLED, m.PROGRESS, m.ROOTS_CHANGED)


class KernelHub(Hub):
    """Who listens is the app's business; what ends with a conversation, or with the server, is said here."""

    __slots__ = ("_app",)

    def __init__(self, app: Accelerated, count_max: int) -> None:
        super().__init__(count_max)
        self._app = app

    def leave(self, session: Session) -> None:
        super().leave(session)
        ending = self._app.kernel.forget(session)
        if ending is not None:
            self._app.spawn(ending)

    def close(self) -> None:
        super().close()
        self._app.end_listening()


class KernelService(Service):
    """Routes for every method that the app answers."""

    def __init__(self, app: Accelerated) -> None:
        super().__init__(app)
        self.app = app

    def install(self) -> None:
        app, routes = self.app, self.app.routes
        for method in app.methods():
            critical = method in CRITICAL
            routes.set_method(method, self.relay, m.NAME_KEYS.get(method), is_critical=critical)
        routes.set_method(m.INITIALIZE, self._initialize, is_critical=True)
        routes.set_method(m.LISTEN, self._listen)
        app.quick_route = None
        if app.has_plans:
            start = self._start_tool
            routes.set_method(m.TOOLS_CALL, start, "name")
            if app.flags.async_execution and app.flags.native_json:
                app.quick_route = start
        for method in {*NOTIFICATIONS, *app.notifications()}:
            is_cancel = method == m.CANCELLED
            routes.set_method(method, self._cancelled_too if is_cancel else self._note, is_critical=is_cancel)
        if self.server.metrics.observers:
            self._observe()

    def _start_tool(self, exchange: Exchange) -> None:
        tool: Any = exchange.call.entry
        if tool is None:
            self.relay(exchange)
        else:
            tool.begin(exchange)

    def failure(self, exchange: Exchange, name: str, error: BaseException) -> Any:
        tool: Any = self.app.tools[name]
        return tool.outcome(error, exchange.peer)

    # -- level 1 -------------------------------------------------------------------------------------------------------

    def relay(self, exchange: Exchange) -> None:
        """Answer a request through the app's kernel."""
        task = self.server.drive(self.app.call(exchange), partial(self._finish, exchange))
        if task is not None and not exchange.done:
            exchange.waits(task, None)

    @staticmethod
    def _finish(exchange: Exchange, value: Any, error: BaseException | None) -> None:
        if error is None:
            exchange.result(value)
        elif not (exchange.done and isinstance(error, asyncio.CancelledError)):
            exchange.fail(error)

    def _listen(self, exchange: Exchange) -> None:
        if not getattr(exchange.channel, "accepts_stream", True):
            raise McpError(INVALID_REQUEST, "subscriptions/listen needs Accept: text/event-stream")
        task = self.server.drive(self.app.call(exchange), partial(self._finish, exchange))
        if task is not None and not exchange.done:
            exchange.task = task  # It is no work in progress, so nothing counts it and nothing ends it.
            exchange.stays(lambda _: None)

    def _initialize(self, exchange: Exchange) -> None:
        """Both sides take note: ours of the revision, before anything else is read, and the app's of the client."""
        requested, peer = judge_initialize(exchange.params, len(exchange.call.raw))
        version, session = negotiate(requested), exchange.session
        session.connection.initialized(version, self._peer(version, peer))

        def finish(value: Any, error: BaseException | None) -> None:
            if error is not None:  # A middleware of the app refused the client.
                session.connection = Connection(self.server.client_requests)
            self._finish(exchange, value, error)

        task = self.server.drive(self.app.call(exchange), finish)
        if task is not None and not exchange.done:
            exchange.waits(task, None)

    # -- notifications -------------------------------------------------------------------------------------------------

    def _note(self, session: Session, call: Call) -> None:
        if call.method == m.PROGRESS:
            self.server.drive(reported(session, call.params), _settled)
        noted, visit = self.app.kernel.note(session, call.method or "", call.params), self.app.visit
        self.server.drive(noted if visit is None else run_within(visit, noted), _settled)

    def _cancelled_too(self, session: Session, call: Call) -> None:
        self._cancelled(session, call)
        self._note(session, call)


def _settled(_value: Any, error: BaseException | None) -> None:
    if error is not None:
        with contextlib.suppress(asyncio.CancelledError):
            raise error
