"""The endpoint of a server that lets in only whom it knows.

A head is judged once, its credential with it: the requests that follow with the same head pay nothing. When a token
ends, the verdicts that were passed with it are taken back. What is refused is not remembered: it may be right the next
time (a key was fetched, a token's time has come), and each try of a stranger counts.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from erlmcp.auth.challenge import Refusal
from erlmcp.auth.failure import peer_of
from erlmcp.runtime.endpoint import Endpoint
from erlmcp.spec import method as m
from erlmcp.wire.header import Admitted

if TYPE_CHECKING:
    import asyncio

    from erlmcp.auth.keeper import Keeper
    from erlmcp.core import HttpRequest
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.reply import Reply
    from erlmcp.runtime.session import Host
    from erlmcp.wire.header import Gate, Verdict

log = logging.getLogger("erlmcp.auth")
TOO_MANY = "Too many wrong credentials from this address: auth_failure_count_max={} within auth_failure_s={:g}"
PREFLIGHT = b"Access-Control-Allow-Methods: GET\r\nAccess-Control-Allow-Headers: *\r\n"
METADATA_LINES = b"Access-Control-Allow-Origin: *\r\nCache-Control: max-age=3600\r\n"


class Porter(Endpoint):
    """An endpoint with a keeper."""

    def __init__(self, host: Host, gate: Gate, keeper: Keeper, **options: Any) -> None:
        super().__init__(host, gate, **options)
        self._waiting: set[asyncio.Task[None]] = set()
        self.use(keeper)

    def use(self, keeper: Keeper) -> None:
        """Go by this keeper from now on."""
        self.keeper = keeper
        self._metadata_paths = keeper.paths(self.gate.path)
        keeper.begin()

    def handle(self, request: HttpRequest, reply: Reply) -> None:
        head: Any = request.head
        verdict = head.tag
        if verdict is not None and verdict.gate is self.gate:
            self.pass_on(request, verdict, reply)
        elif not self._show_metadata(head, reply) and (self.desk is None or not self.desk.take(head, reply)):
            self._ask(request, reply, may_wait=True)

    def pass_on(self, request: HttpRequest, verdict: Verdict, reply: Reply) -> None:
        """A request whose head is judged: its caller is known, or it was refused for something else."""
        Endpoint.handle(self, request, reply)

    def refuse(self, refusal: Refusal, verdict: Verdict, reply: Reply) -> None:
        lines = self.keeper.lines_of(refusal) + verdict.extra
        reply.plain(refusal.status, refusal.reason.encode("ascii", "replace"), lines)

    def _show_metadata(self, head: Any, reply: Reply) -> bool:
        """The document of RFC 9728, which is everybody's: pages of any origin may read it."""
        if head.target.partition("?")[0] not in self._metadata_paths:
            return False
        if not self.gate.admits_host(head.headers.get("host")):
            reply.plain(421, b"This Host is not allowed here; add it to allowed_hosts (or ERLMCP_ALLOWED_HOSTS)")
        elif head.verb == "OPTIONS":
            reply.plain(204, b"", PREFLIGHT + METADATA_LINES)
        elif head.verb not in ("GET", "HEAD"):
            reply.plain(405, b"Method not allowed", b"Allow: GET, HEAD\r\n")
        else:
            reply.plain(200, self.keeper.metadata, METADATA_LINES, b"application/json")
        return True

    def _ask(self, request: HttpRequest, reply: Reply, *, may_wait: bool) -> None:
        """Find out who sent a request, and go on with it."""
        head: Any = request.head
        verdict = self.judge(head)
        if verdict.status:
            self.pass_on(request, verdict, reply)
            return
        verdict.gate = None  # until it is known
        keeper, peer, now_s = self.keeper, peer_of(reply.client), time.monotonic()
        wait_s = keeper.failures.wait_s(peer, now_s)
        if wait_s and not keeper.knows(verdict.headers):
            reason = TOO_MANY.format(keeper.failures.count_max, keeper.failures.span_s)
            self.refuse(Refusal(429, "", reason, retry_s=wait_s), verdict, reply)
            return
        found = keeper.admit(verdict.headers, may_wait=may_wait)
        if found is None:
            self._wait(request, verdict, reply)
        elif isinstance(found, Refusal):
            if found.is_guess and keeper.failures.note(peer, now_s):
                log.warning("%s shows one wrong credential after the other, and is not listened to for a while", peer)
            self.refuse(found, verdict, reply)
        else:
            if found.principal is not None:
                verdict.headers = Admitted(verdict.headers, found.owner, found.principal, found)
            found.hold(verdict)
            verdict.gate = self.gate
            self.pass_on(request, verdict, reply)

    # -- streams that stay open ----------------------------------------------------------------------------------------

    def wait(self, exchange: Exchange, reply: Reply) -> None:
        super().wait(exchange, reply)
        headers: Any = exchange.headers
        if exchange.call.method == m.LISTEN and headers.__class__ is Admitted:
            headers.admission.tie(lambda: not exchange.done, exchange.cancel)

    def _get(self, verdict: Verdict, reply: Reply) -> None:
        super()._get(verdict, reply)
        headers: Any = verdict.headers
        if reply.gone is not None and headers.__class__ is Admitted:  # it is a stream
            gone = reply.gone
            headers.admission.tie(lambda: reply.gone is gone, lambda: _close(reply))

    # -- keys that have to be fetched ----------------------------------------------------------------------------------

    def _wait(self, request: HttpRequest, verdict: Verdict, reply: Reply) -> None:
        task = self.host.loop.create_task(self._ask_later(request, verdict, reply))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

        def leave() -> None:
            task.cancel()

        reply.gone = leave

    async def _ask_later(self, request: HttpRequest, verdict: Verdict, reply: Reply) -> None:
        try:
            await self.keeper.wait(verdict.headers)
            reply.gone = None
            self._ask(request, reply, may_wait=False)
        except Exception:
            log.exception("a request could not be handled")
            reply.plain(500, b"Internal Server Error")

    def close(self) -> None:
        for task in self._waiting:
            task.cancel()
        super().close()


def _close(reply: Reply) -> None:
    """End a stream as when its client leaves."""
    gone, reply.gone = reply.gone, None
    if gone is not None:
        gone()
    reply.finish()
