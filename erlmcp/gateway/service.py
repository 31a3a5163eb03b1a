"""The methods of MCP, answered by the upstreams.

The quick way of a call is: the name found by the scanner in the table of mounts, a shared line that is open, the bytes
of params with the upstream's own name in them, and the bytes of the answer under the client's id. Whatever needs more
(a line of its own, another era's words, a question in the middle) is decided here and done elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.client.result import error_of
from erlmcp.errors import (
    INVALID_REQUEST,
    REQUEST_TIMEOUT,
    SERVER_BUSY,
    CallTimeoutError,
    ConnectionClosedError,
    ErlmcpError,
    InvalidAnswerError,
    InvalidParamsError,
    LimitError,
    McpError,
    ResourceNotFoundError,
)
from erlmcp.gateway import completing
from erlmcp.gateway.access import NOBODY, Caller
from erlmcp.gateway.forward import Forward, raw
from erlmcp.gateway.guarding import Passage, timeout_of
from erlmcp.gateway.line import log_level_of
from erlmcp.gateway.mount import PROMPT, RESOURCE, TEMPLATE, TOOL, Mount
from erlmcp.gateway.mounts import KIND_OF
from erlmcp.gateway.reading import Reads
from erlmcp.gateway.round import Rounds
from erlmcp.gateway.subscribing import listen, subscribe
from erlmcp.gateway.task import Tasks
from erlmcp.gateway.telling import Teller
from erlmcp.gateway.translate import (
    as_object,
    error_across,
    for_modern,
    meta_for,
    mirrors,
    result_for_legacy,
    result_for_modern,
    with_prefix,
)
from erlmcp.gateway.upstream import DOWN, Upstream
from erlmcp.runtime.exchange import Exchange
from erlmcp.runtime.load import busy
from erlmcp.runtime.quick import Ready
from erlmcp.server.service import CRITICAL, Service
from erlmcp.spec import method as m
from erlmcp.wire.header import credential_of

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.line import Line
    from erlmcp.runtime.load import Load
    from erlmcp.runtime.session import Session

log = logging.getLogger("erlmcp.gateway")

RESULT = 3
UNTOLD = "an upstream could not be asked"  # where it is not known whose secrets the reason may hold
_LISTED = {m.TOOLS_LIST: TOOL, m.PROMPTS_LIST: PROMPT, m.RESOURCES_LIST: RESOURCE, m.TEMPLATES_LIST: TEMPLATE}


class GatewayService(Service):
    """Routes for every method of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self.gateway = gateway
        self.rounds = Rounds(self)
        self.reads = Reads(self)
        self.tasks = Tasks(self)
        self._is_driving = False
        self.teller = Teller(gateway, self.rounds)

    def install(self) -> None:
        routes = self.server.routes
        for method, route in (
            (m.TOOLS_CALL, self.relay),
            (m.PROMPTS_GET, self.relay),
            (m.RESOURCES_READ, self.reads.relay),
        ):
            routes.set_method(method, route, m.NAME_KEYS[method])
        self.install_lists()
        for method in (m.TASK_GET, m.TASK_RESULT, m.TASK_UPDATE, m.TASK_CANCEL):
            routes.set_method(method, self.tasks.relay, "taskId")
        routes.set_method(m.COMPLETE, partial(completing.complete, self))
        for method, is_on in ((m.SUBSCRIBE, True), (m.UNSUBSCRIBE, False)):
            routes.set_method(method, partial(subscribe, self, is_on))
        for method, handle in ((m.DISCOVER, self._discover), (m.SET_LEVEL, self._set_level_through)):
            routes.set_method(method, self._route(handle), is_critical=method in CRITICAL)
        routes.set_method(m.INITIALIZE, self._initialize, is_critical=True)
        routes.set_method(m.PING, lambda exchange: exchange.result({}), is_critical=True)
        routes.set_method(m.LISTEN, partial(listen, self))
        routes.set_method(m.INITIALIZED, lambda session, call: None)
        routes.set_method(m.CANCELLED, self._cancelled, is_critical=True)
        routes.set_method(m.PROGRESS, lambda session, call: None)
        routes.set_method(m.ROOTS_CHANGED, self._roots_changed)

    def install_lists(self) -> None:
        """Lists are ready bytes where all see the same, and nobody has to be started for them."""
        is_ready = self.gateway.access.is_open and not self.gateway.has_idle
        for method, kind in _LISTED.items():
            general = partial(self._give_list, kind)
            route = Ready(general, partial(self._ready_list, kind)) if is_ready else general
            self.server.routes.set_method(method, route)

    # -- who and what --------------------------------------------------------------------------------------------------

    def caller_of(self, exchange: Exchange) -> Caller:
        """Raises McpError for a credential that is no good, wherever it came in."""
        caller = self.gateway.access.of(exchange)
        if caller is None:
            raise McpError(INVALID_REQUEST, self.gateway.access.needed)
        return caller

    def owner_of(self, exchange: Exchange) -> str:
        """Whom a held call is bound to: the caller, or a digest of what the request shows where nobody looked."""
        given = credential_of(exchange.headers or {})
        return hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:16] if given else ""

    def mount_of(self, exchange: Exchange, caller: Caller) -> Mount:
        """What a request names. Raises McpError where there is none, or none for this caller."""
        call = exchange.call
        mount = None if call.name is None else self.gateway.mounts.named(call.method or "", call.name)
        if mount is not None and caller.sees(call.name or ""):
            return mount
        if call.method == m.RESOURCES_READ:
            if call.name is None:
                raise InvalidParamsError("Invalid params: uri must be a string")
            raise ResourceNotFoundError(call.name)
        raise self._unknown("tool" if call.method == m.TOOLS_CALL else "prompt", exchange)

    # -- calls, prompts, resources -------------------------------------------------------------------------------------

    def relay(self, exchange: Exchange) -> None:
        """Hand a request on to the upstream that its name belongs to."""
        gateway = self.gateway
        mount: Any = exchange.call.entry
        caller = NOBODY if gateway.access.is_open else self.caller_of(exchange)
        if mount is not None and (not caller.is_limited or caller.sees(mount.exposed)):
            upstream = mount.upstream if caller is NOBODY else gateway.upstream_for(mount.upstream, caller)
            if upstream.trial is not None:
                upstream = upstream.trial.pick(exchange, mount, self.whose(exchange, caller))
            load = gateway.turn.load
            if load.inflight >= load.half_count_min and load.is_half_full:
                self._check_share(upstream, load)
            line = upstream.quick(exchange.call)
            if line is not None and self.may_share(exchange, line):
                self.send(exchange, mount, line, None)
                return
            if line is None and upstream.state == DOWN and not len(self.rounds):
                raise upstream.is_down()  # at once: whoever goes on calling it takes no time of others
        self.drive(exchange, self._relay_slowly(exchange, self.mount_of(exchange, caller), caller))

    def _check_share(self, upstream: Upstream, load: Load) -> None:
        """Half of what may be in flight is everybody's, the other half belongs to the upstreams in equal shares: one
        that is slow fills the first and its own, and refuses then, instead of what the calls of others need."""
        upstreams = self.gateway.everybody()
        half = load.inflight_max / 2
        share = half / max(1, len(upstreams))
        if upstream.inflight_count < share:
            return
        if sum(max(0.0, each.inflight_count - share) for each in upstreams) >= half:
            most = int(self.gateway.limits.total_inflight_count_max)
            raise busy(f"{upstream.name} has its share of total_inflight_count_max={most} in flight")

    def whose(self, exchange: Exchange, caller: Caller) -> str:
        """Whose a private answer is."""
        return caller.id or self.owner_of(exchange)

    @staticmethod
    def may_share(exchange: Exchange, line: Line) -> bool:
        """Whether a call may go over the shared line: nothing can be asked or told on it that is one client's."""
        if line.is_modern and line.is_http:
            return True  # Each request says by itself who asks.
        peer, config = exchange.peer, line.upstream.config
        level = log_level_of(peer, exchange.session.log_level)
        if line.is_modern:
            return level is None
        if level is not None or (config.session == "own" and not peer.modern):
            return False
        if config.session == "shared" and not peer.modern:
            return True
        capabilities = peer.capabilities
        return not ("elicitation" in capabilities or "sampling" in capabilities or "roots" in capabilities)

    async def _relay_slowly(self, exchange: Exchange, mount: Mount, caller: Caller) -> None:
        first = await self.gateway.first_line(mount.upstream, caller, exchange.call)
        if not first.is_modern and exchange.peer.modern:
            params = exchange.call.params
            if isinstance(params, dict) and self.rounds.resume(exchange, params):
                return
        self.send(exchange, mount, *await self.gateway.line_for(exchange, first.upstream, first, self.may_share))

    def send(self, exchange: Exchange, mount: Mount, line: Line, timeout_s: float | None, attempt: int = 1) -> None:
        """Through the guards, to the upstream; in line before them where that is what it takes."""
        guards = line.upstream.protection.of(mount)
        if not guards:
            self._send_on(exchange, mount, line, timeout_s or line.limits.timeout_s, None, attempt)
            return
        passage, caller = Passage(), ""
        if line.upstream.protection.knows_callers:
            caller = self.whose(exchange, self.caller_of(exchange))
        if attempt == 1:
            line.upstream.protection.begin()
        wait_s = timeout_s or timeout_of(guards, line.limits.timeout_s)
        try:
            is_in = passage.enter(guards, caller)
        except BaseException:
            line.give_back()
            raise
        if is_in:
            self._send_on(exchange, mount, line, wait_s, passage, attempt)
            return

        async def in_turn() -> None:
            try:
                await passage.enter_in_turn(guards, caller)
            except BaseException:
                line.give_back()
                raise
            self._send_on(exchange, mount, line, wait_s, passage, attempt)

        self.drive(exchange, in_turn())

    def _send_on(
        self, exchange: Exchange, mount: Mount, line: Line, timeout_s: float, passage: Passage | None, attempt: int
    ) -> None:
        call = exchange.call
        forward = Forward(self, exchange, mount, line, None, timeout_s, None)
        forward.passage, forward.attempt = passage, attempt
        try:
            if call.meta is not None and exchange.progress_token is not None:
                forward.token = line.take_token(forward)
            meta = None
            if forward.token is not None or exchange.peer.modern != line.is_modern:
                meta = meta_for(exchange, line, forward.token)
            text = core.relay_params(call, mount.name_text, meta)
            params: Any = None if text is None else core.Raw.trusted(text)
            forward.params = params
            if line.is_http and line.is_modern:
                forward.headers = mirrors(exchange, mount)
        except BaseException:
            forward.abandon()
            raise
        forward.send()

    def drive(self, exchange: Exchange, coro: Any, forward: Forward | None = None) -> None:
        """Run what has to wait; what it raises answers the exchange."""

        def done(_value: Any, error: BaseException | None) -> None:
            if error is not None and not isinstance(error, asyncio.CancelledError):
                exchange.fail(self.explained(error, forward))

        if self._is_driving:  # within another's first step, whose carrier cannot carry two
            task: Any = self.gateway.executor.spawn(coro, done)
        else:
            self._is_driving = True
            try:
                task = self.gateway.drive(coro, done)
            finally:
                self._is_driving = False
        if task is not None and not exchange.done:
            exchange.waits(task, None)

    # -- answers -------------------------------------------------------------------------------------------------------

    def answered(self, forward: Forward, call: Call) -> None:
        """The upstream's answer is there."""
        if call.kind != RESULT and self._goes_again(forward, call):
            return
        if forward.held is None or not self.rounds.keep(forward, call):
            self.settle(forward, call)

    def failed(self, forward: Forward, error: BaseException) -> None:
        if not self._goes_again(forward, error) and not self.rounds.keep(forward, error):
            self.settle(forward, error)

    def _goes_again(self, forward: Forward, outcome: Call | BaseException) -> bool:
        """Whether a call that failed is sent once more: it may be repeated, or did not arrive, and the rule of its
        upstream allows it."""
        exchange, line = forward.exchange, forward.line
        protection = line.upstream.protection
        if protection.again is None or exchange is None or exchange.done or not forward.may_go_again:
            return False
        error = outcome if isinstance(outcome, BaseException) else error_of(outcome)
        may_repeat = forward.is_idempotent or not forward.is_sent
        if not isinstance(error, ErlmcpError):
            return False
        pause_s = protection.pause_s(error, forward.attempt, may_repeat)
        if pause_s is None:
            return False
        forward.exchange = None
        self.drive(exchange, self._again(forward, exchange, pause_s))
        return True

    async def _again(self, forward: Forward, exchange: Exchange, pause_s: float) -> None:
        """Once more, to where the request leads by the end of the pause: what it names may be another's by then."""
        protection, attempt = forward.line.upstream.protection, forward.attempt
        way: tuple[Mount, Line, float | None] | None = None
        while way is None:
            await asyncio.sleep(pause_s)
            attempt += 1
            try:
                way = await self._way(exchange)
            except McpError as error:  # It is down, and may be up by the next time.
                found_s = protection.pause_s(error, attempt, True)
                if found_s is None:
                    raise
                pause_s = found_s
        if exchange.done:
            way[1].give_back()
        elif exchange.call.method == m.COMPLETE:
            completing.send(self, exchange, way[0], way[1], attempt)
        else:
            self.send(exchange, *way, attempt)

    async def _way(self, exchange: Exchange) -> tuple[Mount, Line, float | None]:
        """Whither a request is sent again. Raises McpError."""
        if exchange.call.method == m.COMPLETE:
            return await completing.way(self, exchange)
        if exchange.call.method not in KIND_OF:
            return await self.tasks.way(exchange)
        gateway, caller, first = self.gateway, self.caller_of(exchange), None
        mount = self.mount_of(exchange, caller)
        trial = gateway.upstream_for(mount.upstream, caller).trial
        if trial is not None:
            first = trial.pick(exchange, mount, self.whose(exchange, caller)).quick(exchange.call)
        first = first or await gateway.first_line(mount.upstream, caller, exchange.call)
        return mount, *await gateway.line_for(exchange, first.upstream, first, self.may_share)

    def settle(self, forward: Forward, outcome: Call | BaseException) -> None:
        """Answer the client with what the upstream said, or with why it said nothing."""
        exchange, forward.exchange = forward.exchange, None
        if exchange is None:
            return
        try:
            if isinstance(outcome, BaseException):
                error = self.explained(outcome, forward)
                self._note(forward, exchange, "error", getattr(error, "code", None))
                exchange.fail(error)
            else:
                self._hand_back(forward, exchange, outcome)
        except ErlmcpError as fault:
            exchange.fail(self.explained(fault, forward))

    def _hand_back(self, forward: Forward, exchange: Exchange, call: Call) -> None:
        is_modern, is_result = forward.line.is_modern, call.kind == RESULT
        if is_result and is_modern and forward.method == m.RESOURCES_READ and not forward.round_count:
            self.reads.keep(forward.line.upstream, exchange, forward.mount, call, forward.began_ns)
        if forward.mount.uri_prefix and is_result and forward.method in m.MULTI_ROUND:
            self._hand_prefixed(forward, exchange, call)
        elif exchange.peer.modern == is_modern:
            if is_result:
                outcome = forward.outcome(call)
                if forward.line.upstream.has_tasks and forward.method == m.TOOLS_CALL:
                    self.tasks.note(forward, exchange, call)
                exchange.whole(core.relay_answer(call, exchange.call.id_raw), 0, outcome)
                if self.gateway.audit is not None:
                    self._note(forward, exchange, outcome or "ok", None)
                return
            error = call.error
            code = error.get("code") if isinstance(error, dict) else None
            code = code if isinstance(code, int) else 0
            if call.id is not None:
                exchange.whole(core.relay_answer(call, exchange.call.id_raw), code)
            else:
                exchange.fail(error_across(call, exchange, is_modern))
            self._note(forward, exchange, "error", code)
        elif not is_result:
            fault = error_across(call, exchange, is_modern)
            self._note(forward, exchange, "error", fault.code)
            exchange.fail(fault)
        elif is_modern:
            self._hand_to_legacy(forward, exchange, call)
        else:
            text = result_for_modern(call, forward.method)
            self._note(forward, exchange, forward.outcome(call) or "ok", None)
            exchange.result(raw(text))

    def _hand_prefixed(self, forward: Forward, exchange: Exchange, call: Call) -> None:
        """A result whose URIs are other ones here."""
        result, is_modern = as_object(call), forward.line.is_modern
        if is_modern and not exchange.peer.modern and result.get("resultType", "complete") != "complete":
            self._hand_to_legacy(forward, exchange, call)
            return
        if forward.method == m.TOOLS_CALL and is_modern == exchange.peer.modern:
            self.tasks.note(forward, exchange, call)
        self._note(forward, exchange, forward.outcome(call) or "ok", None)
        result = with_prefix(result, forward.mount.uri_prefix)
        if exchange.peer.modern and not is_modern:
            result = for_modern(result, forward.method)
        elif is_modern and not exchange.peer.modern:
            result = result_for_legacy(result)
        exchange.result(result)

    def _hand_to_legacy(self, forward: Forward, exchange: Exchange, call: Call) -> None:
        result = as_object(call)
        if result.get("resultType", "complete") != "complete":
            self.drive(exchange, self.rounds.answer(forward, exchange, result), forward)
            return
        self._note(forward, exchange, forward.outcome(call) or "ok", None)
        exchange.result(result_for_legacy(result))

    def called_off(self, forward: Forward) -> None:
        exchange, forward.exchange = forward.exchange, None
        if exchange is not None:
            self._note(forward, exchange, "cancelled", None)

    def explained(self, error: BaseException, forward: Forward | None = None) -> BaseException:
        """What the client is told of a failure between the gateway and an upstream."""
        if isinstance(error, McpError):
            return error
        name = "" if forward is None else forward.mount.upstream.name
        said = UNTOLD if forward is None else forward.line.upstream.hidden(str(error))
        if isinstance(error, CallTimeoutError):
            return McpError(REQUEST_TIMEOUT, f"{name or 'the upstream'}: {said}")
        if isinstance(error, ConnectionClosedError | LimitError | InvalidAnswerError) or (
            isinstance(error, ErlmcpError) and forward is not None
        ):
            return McpError(SERVER_BUSY, f"{name + ': ' if name else ''}{said}")
        return error

    def _note(self, forward: Forward, exchange: Exchange, outcome: str, code: int | None) -> None:
        audit = self.gateway.audit
        if audit is not None:
            arguments = exchange.call.arguments if audit.with_arguments else None
            caller = self.gateway.access.of(exchange) or NOBODY
            audit.note(forward.mount, forward.method, caller, outcome, forward.elapsed_ms, code, arguments)

    # -- lists ---------------------------------------------------------------------------------------------------------

    def _ready_list(self, kind: str, peer: Any) -> core.Template:
        return self._ready_page(self.gateway.mounts.listing(kind, NOBODY), None, peer)

    def _give_list(self, kind: str, exchange: Exchange) -> None:
        if self.gateway.has_idle:
            self.drive(exchange, self._list_when_started(kind, exchange))
        else:
            self._list_ready(self.gateway.mounts.listing(kind, self.caller_of(exchange)), exchange)

    async def _list_when_started(self, kind: str, exchange: Exchange) -> None:
        await self.gateway.start_idle()
        self._list_ready(self.gateway.mounts.listing(kind, self.caller_of(exchange)), exchange)

    # -- levels, roots -------------------------------------------------------------------------------------------------

    async def _set_level_through(self, context: Any) -> dict[str, Any]:
        found = await self._set_level(context)
        session = context._exchange.session
        await self.gateway.set_level(session, session.log_level)
        return found

    def _roots_changed(self, session: Session, call: Call) -> None:
        for upstream in self.gateway.upstreams.values():
            line = upstream.line_of(session)
            if line is not None:
                line.conversation.channel.notify(m.ROOTS_CHANGED, None)
