"""A roll-out in a running server: calls and connections go to one of two sides, and what becomes of them is evidence.

Two kinds. A *tool's* trial has two ways to answer the calls of some tools: two functions, or two sides of the server. A
*conversations'* trial deals whole connections to two sides, where there are connections that are conversations (byte
streams); and single requests where there are none (HTTP), by who sends them.

What is on trial takes the general way, on both sides alike, so that what is compared is the sides. Tools and
connections that are on no trial pay nothing; and once a trial is settled where the server's own way is the outcome,
that way is what it was before. ``erlmcp.policy.rollout`` decides; here calls are dealt, timed and counted.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol

from erlmcp.errors import JsonError, LimitError
from erlmcp.policy.rollout import BACK, DONE, SHADOW, Rollout, Rules
from erlmcp.runtime.link import Link
from erlmcp.runtime.quick import Entry
from erlmcp.runtime.session import Session
from erlmcp.server.shadow import Compare, Shadow, may_be_copied
from erlmcp.server.watch import FirstLink, WatchedLink, is_failure
from erlmcp.spec import method as m
from erlmcp.wire.header import credential_of

if TYPE_CHECKING:
    from erlmcp.core import Outbound, Template
    from erlmcp.runtime.exchange import Channel, Exchange
    from erlmcp.server.context import Context
    from erlmcp.server.side import Side

log = logging.getLogger("erlmcp.rollout")
STICKY = ("caller", "session", "call")
ERAS = ("modern", "legacy")


class Arm(Protocol):
    """One of the two ways."""

    stack: Any
    own: Any  # the version of a tool that is not the registered one; None where there is none

    def begin(self, exchange: Exchange) -> None: ...
    def tool(self, name: str) -> Any:
        """What answers a call within middleware."""


class ToolArm:
    """A version of a tool's function, on the server's own way; without one, what is registered."""

    def __init__(self, host: Any, tool: Any = None) -> None:
        self.stack = host.stack
        self.own = tool
        self._host = host

    def begin(self, exchange: Exchange) -> None:
        self.tool(exchange.call.name or "").begin(exchange)

    def tool(self, name: str) -> Any:
        return self._host.tools[name] if self.own is None else self.own


class SideArm:
    """A side of the server."""

    own = None

    def __init__(self, side: Side) -> None:
        self.side = side
        self.stack = side.stack
        self.begin = side.handle

    def tool(self, name: str) -> Any:
        return self.side.tools[name]


class Trial:
    """``arms`` are the old way and the new one. ``tools`` None: conversations are on trial. ``era`` restricts it to the
    clients of one; ``sticky`` says whom a side is kept for: the caller (its credential, else its session), the session,
    or nobody."""

    def __init__(
        self,
        host: Any,
        name: str,
        arms: tuple[Arm, Arm],
        tools: tuple[str, ...] | None,
        *,
        rules: Rules | None = None,
        era: str | None = None,
        sticky: str = "caller",
        compare: Compare | None = None,
        has_shadow: bool = True,
        clock_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.name = name
        self.arms = arms
        self.tools = tools
        self.era = era
        self.sticky = sticky
        self.clock_ns = clock_ns
        self.shadow = Shadow(host, compare)
        self.policy = Rollout(rules, name=name, has_shadow=has_shadow, now_ns=clock_ns())
        self._host = host
        self._has_shadow = has_shadow
        self._seen = self.policy.events[-1]
        self._was = self.policy.state
        self._outs: list[Outbound] = [
            arm.stack.Outbound(framing="none", bytes_max=host.limits.outbox_bytes_max) for arm in arms
        ]
        self._connection_count = itertools.count()

    def entry_of(self, tool: Any) -> Any:
        """What stands in the server's table for this tool: itself, or its other version, once that is settled."""
        if self.outcome is None:
            return Split(self, tool)
        arm: Any = self.arms[self.outcome]
        if isinstance(arm, SideArm) and not arm.side.is_servers_own:
            return Split(self, tool)
        return arm.own or tool

    @property
    def outcome(self) -> int | None:
        """The arm that all calls get from now on; None while that is open."""
        return {DONE: 1, BACK: 0}.get(self.policy.state)

    def status(self) -> dict[str, Any]:
        kind = {"tools": list(self.tools or ()), "conversations": self.tools is None, "era": self.era}
        shadow = {"copies_refused": self.shadow.refused_count, "copies_inflight": self.shadow.inflight_count}
        return {**self.policy.status(), **kind, "sticky": self.sticky, **shadow}

    # -- one call ------------------------------------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> None:
        """Let one of the two arms answer."""
        if not self.is_meant(exchange):
            self._outside(exchange)
            return
        is_new = self.policy.is_new(self.key_of(exchange))
        arm = self.arms[is_new]
        is_copied = not is_new and self.is_copied(exchange)
        is_foreign = arm.stack is not self._host.stack or is_copied
        out = self._outs[is_new] if is_foreign else None
        exchange.channel = Observed(self, exchange.channel, is_new, out, exchange if is_copied else None)
        arm.begin(exchange)

    def _outside(self, exchange: Exchange) -> None:
        """A client of the other era: the old side answers, and nobody counts."""
        arm = self.arms[0]
        if arm.stack is not self._host.stack:
            exchange.channel = Rendered(exchange.channel, self._outs[0])
        arm.begin(exchange)

    def is_meant(self, exchange: Exchange) -> bool:
        return self.era is None or self.era == ("modern" if exchange.peer.modern else "legacy")

    def is_copied(self, exchange: Exchange) -> bool:
        """Whether the old side's answer to this call is to be compared to the new one's."""
        entry: Any = exchange.call.entry
        plan = getattr(entry, "plan", None)
        is_call = exchange.call.method == m.TOOLS_CALL and plan is not None
        return self._has_shadow and is_call and may_be_copied(plan) and self.policy.wants_copy()

    def render(self, result: dict[str, Any]) -> bytes:
        """A result as the answer that it is going to be."""
        out = self._outs[0]
        out.result(b"null", result)
        return out.take()

    def key_of(self, exchange: Exchange) -> bytes | None:
        """What a caller is known by; None where there is nothing that the next call will have again."""
        if self.sticky == "call":
            return None
        headers = exchange.headers or {}
        credential = credential_of(headers) if self.sticky == "caller" else None
        if credential:
            return hashlib.sha256(credential.encode("utf-8", "replace")).digest()
        session: Any = exchange.session
        if session.id is not None:
            return str(session.id).encode()
        return b"stream %d" % session.serial if isinstance(session, Session) else None

    def record(self, is_new: bool, time_ns: int, is_error: bool) -> None:
        self.policy.record(is_new, time_ns, is_error, self.clock_ns())
        self.notice()

    def notice(self) -> None:
        """Where the policy made a step: say so, and let the server know when it is settled, or is no more."""
        last = self.policy.events[-1]
        if last is self._seen:
            return
        self._seen = last
        state = self.policy.state
        was, self._was = self._was, state
        log.warning("rollout %s: %s, share %g: %s", self.name, last["event"], self.policy.share, last["why"])
        if {was, state} & {DONE, BACK}:
            self._host.install()

    def copy(self, exchange: Exchange, answer: bytes, *, is_within: bool = False) -> None:
        """Let the new side answer a call again that the old one answered, after its caller has the answer;
        ``is_within``: within middleware, as the answer was."""
        arm = self.arms[1]

        def begin(copy: Exchange) -> None:
            if is_within:
                arm.tool(copy.call.name or "").begin(copy)
            else:
                arm.begin(copy)

        def tell(is_equal: bool, detail: str) -> None:
            name = exchange.call.name
            self.policy.compared(is_equal, f"{name}: {detail}" if detail else "", self.clock_ns())
            self.notice()

        exchange.session.loop.call_soon(self.shadow.start, exchange, answer, begin, arm.stack, tell)

    # -- by hand -------------------------------------------------------------------------------------------------------

    def advance(self, why: str = "the operator") -> None:
        """One stage on."""
        self.policy.advance(self.clock_ns(), why)
        self.notice()

    def back(self, why: str = "the operator") -> None:
        """To nobody."""
        self.policy.back(self.clock_ns(), why)
        self.notice()

    # -- a connection --------------------------------------------------------------------------------------------------

    def link(self, write: Callable[[bytes], None], kind: str = "memory") -> Any:
        """A conversation over a byte stream: of a side, from its first byte on, where conversations are dealt."""
        if self.policy.state == SHADOW:
            return Link(self._host, write, kind=kind)
        if self.era is not None:
            return FirstLink(self, write, kind)
        return self.deal(write, kind)

    def deal(self, write: Callable[[bytes], None], kind: str = "memory") -> WatchedLink:
        key = b"connection %d" % next(self._connection_count) if self.sticky != "call" else None
        return WatchedLink(self, self.policy.is_new(key), write, kind)


class Rendered:
    """A channel for an arm of another stack: what that makes is written by that, and sent as it is."""

    __slots__ = ("_channel", "_out")

    def __init__(self, channel: Channel, out: Outbound) -> None:
        self._channel = channel
        self._out = out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        self._out.fill(id_raw, template, values)
        self._channel.whole(self._out.take())

    def result(self, id_raw: bytes, value: object) -> None:
        self._out.result(id_raw, value)
        self._channel.whole(self._out.take())


class Observed:
    """The channel of a call on trial: it times the call and counts how it ends. It holds the exchange, which holds it,
    for a call that is to be copied alone: a cycle for each call would be the collector's to find."""

    __slots__ = ("_began_ns", "_channel", "_copied", "_is_new", "_out", "_trial")

    def __init__(
        self, trial: Trial, channel: Channel, is_new: bool, out: Outbound | None, copied: Exchange | None
    ) -> None:
        self._trial = trial
        self._channel = channel
        self._is_new = is_new
        self._out = out
        self._copied = copied
        self._began_ns = trial.clock_ns()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        if self._out is None:
            self._channel.fill(id_raw, template, values)
        else:
            self._out.fill(id_raw, template, values)
            self._send()
        self._ended(is_error=False)

    def result(self, id_raw: bytes, value: object) -> None:
        if self._out is None:
            self._channel.result(id_raw, value)
        else:
            self._out.result(id_raw, value)
            self._send()
        self._ended(is_error=is_failure(value))

    def error(self, id_raw: bytes, code: int, message: str, data: object) -> None:
        self._channel.error(id_raw, code, message, data)
        self._ended(is_error=True)

    def _send(self) -> None:
        assert self._out is not None
        answer = self._out.take()
        self._channel.whole(answer)
        copied, self._copied = self._copied, None
        if copied is not None:
            self._trial.copy(copied, answer)

    def _ended(self, *, is_error: bool) -> None:
        trial = self._trial
        trial.record(self._is_new, trial.clock_ns() - self._began_ns, is_error)


class Split(Entry):
    """A tool on trial, as it stands in the server's table."""

    def __init__(self, trial: Trial, tool: Any) -> None:
        self.trial = trial
        self.plan = tool.plan
        self.timeout_s = tool.timeout_s
        self.lane = tool.lane
        self.begin = trial.begin
        self.is_simple = False

    async def call(self, context: Context, arguments: Any) -> dict[str, Any]:
        """A call within middleware. Raises what the tool does."""
        trial, exchange = self.trial, context._exchange
        if not trial.is_meant(exchange):
            return await trial.arms[0].tool(self.plan.name).call(context, arguments)  # type: ignore[no-any-return]
        is_new = trial.policy.is_new(trial.key_of(exchange))
        began_ns = trial.clock_ns()
        is_error = True
        try:
            found: dict[str, Any] = await trial.arms[is_new].tool(self.plan.name).call(context, arguments)
            is_error = is_failure(found)
        finally:
            trial.record(is_new, trial.clock_ns() - began_ns, is_error)
        if not is_new and trial.is_copied(exchange):
            with contextlib.suppress(JsonError, LimitError):  # Its own answer is going to fail so, and says it.
                trial.copy(exchange, trial.render(found), is_within=True)
        return found
