"""One request on its way through the gateway: the client's exchange at one end, the upstream's answer at the other.

A forward is the request that its line sends, the future that the answer is set on, and the task that the exchange
cancels: nothing is made per call but itself, and an answer leaves within the read that brought it.

Invariant: it ends exactly once, by an answer, a failure or a cancellation; then its line knows it no more.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.client.channel import Request
from erlmcp.client.guarding import TROUBLE, speaks_against
from erlmcp.errors import ConnectionClosedError, ErlmcpError
from erlmcp.gateway.gauging import code_name, error_name
from erlmcp.metrics.family import TOOL_ERROR
from erlmcp.spec.method import NAME_KEYS

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.gateway.guarding import Passage
    from erlmcp.gateway.line import Line
    from erlmcp.gateway.mount import Mount
    from erlmcp.gateway.round import Held
    from erlmcp.gateway.service import GatewayService
    from erlmcp.runtime.exchange import Exchange

RESULT: Final = 3
SECOND_NS: Final = 1_000_000_000


class Forward(Request):
    """``params`` are ready JSON text, or a dict. ``exchange`` is None while the client has to come back with answers
    (``held``), and after the end."""

    __slots__ = (
        "attempt", "began_ns", "error", "exchange", "held", "is_over", "is_shared", "line", "mount", "passage",
        "round_count", "service", "token",
    )  # fmt: skip

    def __init__(
        self,
        service: GatewayService,
        exchange: Exchange,
        mount: Mount,
        line: Line,
        params: Any,
        timeout_s: float,
        headers: dict[str, str] | None = None,
    ) -> None:
        # Not by the class above: ``future`` is no slot here.
        self.id = 0
        self.method = exchange.call.method or ""
        self.params = params
        self.name = mount.name if self.method in NAME_KEYS else None
        self.headers = headers
        self.began_ns = monotonic_ns()
        self.deadline_ns = self.began_ns + int(timeout_s * SECOND_NS)
        self.timeout_s = timeout_s
        self.is_idempotent = mount.is_idempotent
        self.is_sent = False
        self.told = None
        self.service = service
        self.exchange: Exchange | None = exchange
        self.mount = mount
        self.line = line
        self.is_shared = line.is_shared  # not when it ends: a lent line is given back by then
        self.token: int | None = None
        self.held: Held | None = None
        self.round_count = 0
        self.attempt = 1
        self.passage: Passage | None = None  # the guards that it is within
        self.is_over = False
        self.error: str | None = None  # what the answer is called where requests are counted; None: not looked at

    @property
    def future(self) -> Forward:  # type: ignore[override]  # it is its own: a future would take a turn of the loop
        return self

    def send(self) -> None:
        """To the upstream. Whatever goes wrong answers the exchange."""
        line, exchange = self.line, self.exchange
        assert exchange is not None
        if exchange.done:  # It was cancelled in the very turn in which its line was ready.
            self.abandon()
            return
        line.forwards[self] = None
        if line.is_http:
            self.told = self.hear
        exchange.waits(self, None)  # type: ignore[arg-type]  # it can be cancelled, which is all that is asked of it
        try:
            (line.talk or line.conversation).channel.send(self)
        except ErlmcpError as error:
            self.set_exception(error)

    def hear(self, call: Call) -> None:
        """What the upstream said on the stream of this call."""
        if not self.line.heard_by_somebody(call, self) and self.line.talk is not None:
            self.line.talk.received(call)

    # -- what a channel and an exchange ask of a future ----------------------------------------------------------------

    def done(self) -> bool:
        return self.is_over

    def cancelled(self) -> bool:
        return False

    def set_result(self, call: Call) -> None:
        if not self.is_over:
            self.line.answer_count += 1
            self._end(is_answered=True)
            upstream = self.line.upstream
            if upstream.tally is not None:
                upstream.tally.answered(self, self.outcome(call))
            if self.passage is not None:
                self.passage.answered(call)
            if upstream.trial is not None:
                upstream.trial.record(self, is_trouble(call))
            if upstream.replicas is not None:
                upstream.replicas.answered(self.line, call, monotonic_ns() - self.began_ns, is_trouble(call))
            self.service.answered(self, call)

    def set_exception(self, error: BaseException) -> None:
        if not self.is_over:
            self._end()
            if self.line.upstream.tally is not None:
                self.line.upstream.tally.answered(self, error_name(error))
            if self.passage is not None:
                self.passage.failed(error)
            upstream, is_failure = self.line.upstream, isinstance(error, Exception) and speaks_against(error)
            if upstream.trial is not None:
                upstream.trial.record(self, is_failure)
            if upstream.replicas is not None:
                upstream.replicas.ended(self.line, monotonic_ns() - self.began_ns, is_failure)
            if self.line.is_http and not self.is_sent and isinstance(error, ConnectionClosedError):
                upstream.unreached(self.line, error)
            self.service.failed(self, error)

    # What a channel asks of a request.
    settle = set_result
    fail = set_exception

    def cancel(self, *_: object) -> None:
        """The client does not want the answer any more, or nobody waits for its next round."""
        if not self.is_over:
            self.is_over = True
            if self.line.upstream.tally is not None:
                self.line.upstream.tally.answered(self, "cancelled")
            talk = self.line.talk
            if talk is not None:
                talk.channel.cancel(self, "the client no longer wants it")
            self._end()
            if self.passage is not None:
                self.passage.cancel()
            self.service.called_off(self)

    def abandon(self) -> None:
        """It could not be sent: nothing knows of it any more."""
        self._end()
        if self.passage is not None:
            self.passage.cancel()
        self.exchange = None

    def _end(self, *, is_answered: bool = False) -> None:
        self.is_over = True
        self.told = None
        line = self.line
        line.forwards.pop(self, None)
        if self.token is not None:
            line.tokens.pop(self.token, None)
        if line.is_lent:
            line.give_back(is_whole=is_answered or not self.is_sent)

    @property
    def may_go_again(self) -> bool:
        """Whether another line would do: not where it is its client's, nor after a question to that."""
        return self.is_shared and not self.round_count

    def outcome(self, call: Call) -> str:
        """What an answer is for those who count: "", tool_error, or the code of an error."""
        if self.error is None:
            self.error = outcome_of(call)
        return self.error

    @property
    def elapsed_ms(self) -> float:
        return (monotonic_ns() - self.began_ns) / 1e6


def raw(text: bytes | None) -> core.Raw | None:
    """JSON text that a scanner has checked, as a value."""
    return None if text is None else core.Raw.trusted(text)


def outcome_of(call: Call) -> str:
    """Of an answer: "", tool_error where its result says so, or the code of an error."""
    if call.kind != RESULT:
        error = call.error
        return code_name(error.get("code") if isinstance(error, dict) else None)
    text = core.result_text(call) or b""
    if b'"isError"' not in text:
        return ""
    result = call.result
    return TOOL_ERROR if isinstance(result, dict) and result.get("isError") is True else ""


def is_trouble(call: Call) -> bool:
    """Whether an answer says that the upstream is in trouble; an ``isError`` result and a refusal do not."""
    error = call.error if call.kind != RESULT else None
    return isinstance(error, dict) and error.get("code") in TROUBLE
