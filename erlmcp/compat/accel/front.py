"""The endpoint of an app with routes of its own, or with auth.

What is not asked of the endpoint goes to the app's own HTTP application (``stock``), whose router and middleware answer
it, but for the paths of our desk, where no route of the app has one of these. The endpoint's own path is never given
away, however it is spelled.

With auth, each request to the endpoint is looked at by the SDK's own backend and by its own guard, one after the other
and with nothing remembered, so that verdicts, answers and their order are the SDK's. The first step of that runs at
once: where the verifier does not wait, no task is made. A head is judged once as ever, but what is kept of it is no
verdict of the endpoint's: the compiled short way goes by verdicts alone, and has one for a request when that was let in
and no longer.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

from starlette.authentication import AuthCredentials, AuthenticationError, UnauthenticatedUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection

from erlmcp.compat.accel.route import Answer, Message, pairs_of, run, scope_of, split_target
from erlmcp.compat.accel.stock import LET_IN, StockApp
from erlmcp.compat.accel.visit import Visit
from erlmcp.runtime.endpoint import Endpoint
from erlmcp.runtime.executor import cancel_soon
from erlmcp.runtime.quick import Budget, make_http_stride

if TYPE_CHECKING:
    from collections.abc import Mapping

    from erlmcp.compat.accel.app import Accelerated
    from erlmcp.core import HttpRequest
    from erlmcp.runtime.reply import Reply
    from erlmcp.wire.header import Gate, Verdict

log = logging.getLogger("erlmcp.accelerate")
# What is said of a head before anybody asks who sent it: no such Host, no such Origin, and the answer to a preflight.
AT_ONCE: Final = frozenset({HTTPStatus.MISDIRECTED_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NO_CONTENT})
UNBOUNDED_S: Final = 1e9


class Front(Endpoint):
    """An endpoint with the app's routes beside it."""

    host: Accelerated

    def __init__(self, host: Accelerated, gate: Gate, stock: StockApp, *, event_store: bool = True) -> None:
        super().__init__(host, gate, event_store=event_store)
        self.stock = stock
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, request: HttpRequest, reply: Reply) -> None:
        head: Any = request.head
        verdict = head.tag
        if (verdict is not None and verdict.gate is self.gate) or self._is_own(head.target):
            super().handle(request, reply)
        else:
            self._beside(request, reply)

    def _is_own(self, target: str) -> bool:
        return unquote(split_target(target)[0]).rstrip("/") == self.gate.path.rstrip("/")

    def _beside(self, request: HttpRequest, reply: Reply) -> None:
        """Not for the endpoint: a route of the app, one of ours, or what the app says of a path that it has not."""
        head: Any = request.head
        scope = scope_of(request, reply)
        route = self.stock.route_of(scope)
        if route is None and self.desk is not None and self.desk.take(head, reply):
            return
        host, origin = head.headers.get("host"), head.headers.get("origin")
        if not self.gate.admits_host(host):
            reply.plain(421, b"This Host is not allowed here; add it to allowed_hosts (or ERLMCP_ALLOWED_HOSTS)")
        elif origin is not None and self.stock.is_authors(route) and not self.gate.admits_origin(origin, host):
            reply.plain(403, b"This Origin is not allowed here; add it to allowed_origins (or ERLMCP_ALLOWED_ORIGINS)")
        else:
            task = self.host.loop.create_task(
                run(self.stock.asgi, scope, request.body, reply, self.host.limits.outbox_timeout_s)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        super().close()


class Look:
    """What is known of a head before its token is. ``gate`` is None for who takes it for a verdict."""

    __slots__ = ("front", "gate", "headers", "owner", "pairs", "shared", "verdict")

    def __init__(self, front: Guarded, verdict: Verdict) -> None:
        self.front = front
        self.gate = None
        self.verdict = verdict
        self.owner = ""  # whom the last request with it was from
        self.shared = verdict.headers
        found = self.shared.get("authorization")
        self.headers: Mapping[str, str] = {} if found is None else {"authorization": found}
        self.pairs = pairs_of(self.headers)


class Guarded(Front):
    """One that is for those whom the app's auth lets in."""

    is_quick = False

    def __init__(self, host: Accelerated, gate: Gate, stock: StockApp, *, event_store: bool = True) -> None:
        super().__init__(host, gate, stock, event_store=event_store)
        self._stride = make_http_stride(host, self)
        self._budget = Budget(sys.maxsize, UNBOUNDED_S)  # who hands requests over counts what they cost

    def handle(self, request: HttpRequest, reply: Reply) -> None:
        head: Any = request.head
        look = head.tag
        if look.__class__ is not Look or look.front is not self:
            if not self._is_own(head.target):
                self._beside(request, reply)
                return
            look = head.tag = Look(self, self.judge(head))
        verdict = look.verdict
        if verdict.status in AT_ONCE:
            reply.plain(verdict.status, verdict.reason.encode(), verdict.extra)
            return
        asking = Asking(self, request, look, reply)
        task = self.host.drive(self._ask(look, reply), asking.done)
        if task is None:
            asking.finish()
        else:
            asking.task = task
            reply.gone = asking.leave

    async def _ask(self, look: Look, reply: Reply) -> Visit | None:
        """Who sent a request; None where that is answered already, with a refusal."""
        stock, connection = self.stock, cast(HTTPConnection, look)  # the backend reads its headers
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        try:
            auth, user = await stock.backend.authenticate(connection) or (AuthCredentials(), UnauthenticatedUser())
            scope = {"type": "http", "headers": look.pairs, "auth": auth, "user": user}
            await stock.require(scope, nothing, send)
            if LET_IN in scope:
                return Visit(stock.asgi, look.shared, auth, user)
        except AuthenticationError as error:
            await AuthenticationMiddleware.default_on_error(connection, error)({"type": "http"}, nothing, send)
        answer = Answer(reply, look.verdict.verb, b"", 0.0, look.verdict.extra)
        for message in sent:
            await answer.send(message)
        return None

    def let_in(self, request: HttpRequest, look: Look, reply: Reply, visit: Visit, *, is_late: bool) -> None:
        """Hand a request over to the endpoint, which finds its head judged; to the short way first, if it was not
        waited for."""
        head: Any = request.head
        verdict, host = look.verdict, self.host
        verdict.headers = visit.admitted()
        if verdict.credential != look.owner:  # The app takes the same token for somebody else now.
            look.owner = verdict.credential
            verdict.session, verdict.caller = None, ""
        before, host.visit = host.visit, visit
        head.tag = verdict
        try:
            if is_late or not self._hurry(request, reply):
                Endpoint.handle(self, request, reply)
        finally:
            head.tag = look
            host.visit = before
            verdict.headers = look.shared

    def _hurry(self, request: HttpRequest, reply: Any) -> bool:
        if self._stride is None or reply.kind != "http":
            return False
        self._budget.refused_from = self.host.turn.budget.refused_from
        taken: bool = reply.hurry(request, self._stride, self._budget)
        return taken


class Asking:
    """The question who sent a request, while it is open."""

    __slots__ = ("_error", "_front", "_is_left", "_look", "_reply", "_request", "_visit", "task")

    def __init__(self, front: Guarded, request: HttpRequest, look: Look, reply: Reply) -> None:
        self._front = front
        self._request = request
        self._look = look
        self._reply = reply
        self._is_left = False
        self._visit: Visit | None = None
        self._error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None  # where it has to be waited for

    def leave(self) -> None:
        """Nobody waits for the answer any more."""
        self._is_left = True
        if self.task is not None:
            cancel_soon(self.task)

    def done(self, visit: Visit | None, error: BaseException | None) -> None:
        """It is known; at once, if ``task`` is None, and ``finish`` is for who asked."""
        self._visit, self._error = visit, error
        if self.task is not None and not self._is_left:
            self._reply.gone = None
            self.finish()

    def finish(self) -> None:
        reply, visit, error = self._reply, self._visit, self._error
        if isinstance(error, asyncio.CancelledError):
            reply.plain(503, b"The server stopped")
        elif error is not None:
            log.error("the app's auth failed", exc_info=error)
            reply.plain(500, b"Internal Server Error")
        elif visit is not None:
            try:
                self._front.let_in(self._request, self._look, reply, visit, is_late=self.task is not None)
            except Exception:
                if self.task is None:
                    raise  # to who handed the request over
                log.exception("a request could not be handled")
                reply.plain(500, b"Internal Server Error")


async def nothing() -> Message:
    """A request whose body is not for who asks."""
    return {"type": "http.disconnect"}
