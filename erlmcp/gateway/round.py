"""Questions in the middle of a call, where the two ends ask in different ways.

A handshake client and a 2026-07-28 upstream: an ``input_required`` result becomes requests to the client, and their
answers the next round of the call. A 2026-07-28 client and a handshake upstream: the upstream's request becomes an
``input_required`` result, and the call upstream stays open until the client comes back. What it brings then is a
``requestState`` that names the open call here: a random one, bound to who asked and to what was asked, and good once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.client.conversation import check_input_required
from erlmcp.errors import InvalidAnswerError, InvalidParamsError, LimitError, McpError
from erlmcp.gateway.forward import Forward
from erlmcp.gateway.translate import as_object, modern_meta
from erlmcp.spec import method as m
from erlmcp.wire.seal import digest

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.gateway.service import GatewayService
    from erlmcp.runtime.exchange import Exchange

log = logging.getLogger("erlmcp.gateway")

STATE_PREFIX: Final = "g1."
HELD_COUNT_MAX: Final = 1024
BACKOFF_S: Final = 0.05


class Held:
    """A call that is open upstream while its client has to answer. ``questions``: key -> (the upstream's id, what it
    asks)."""

    def __init__(self, forward: Forward, exchange: Exchange, owner: str) -> None:
        self.forward = forward
        self.method = exchange.call.method or ""
        self.bound_to = bound_to(exchange)
        self.owner = owner
        self.questions: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.outcome: Call | BaseException | None = None
        self.state = ""
        self.is_due = False
        self.timer: asyncio.TimerHandle | None = None
        self._count = 0

    def ask(self, call: Call) -> str:
        self._count += 1
        name = f"{(call.method or '').partition('/')[0]}-{self._count}"
        item: dict[str, Any] = {"method": call.method}
        params = call.params
        if isinstance(params, dict):
            item["params"] = {key: value for key, value in params.items() if key != "_meta"}
        self.questions[name] = call.id_raw, item
        return name


def bound_to(exchange: Exchange) -> str:
    params = exchange.call.params
    return digest(exchange.call.method or "", params if isinstance(params, dict) else {})


class Rounds:
    """The calls that wait for their clients."""

    def __init__(self, service: GatewayService) -> None:
        self.service = service
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    # -- a 2026-07-28 client, a handshake upstream ---------------------------------------------------------------------

    def asked(self, forward: Forward, call: Call) -> None:
        """The upstream asks its client something in the middle of a call."""
        held = forward.held
        exchange = forward.exchange
        if held is None:
            if exchange is None or exchange.call.method not in m.MULTI_ROUND or len(self._held) >= HELD_COUNT_MAX:
                forward.line.answer_none(call)
                return
            held = forward.held = Held(forward, exchange, self.service.owner_of(exchange))
        held.ask(call)
        if exchange is not None and not held.is_due:
            held.is_due = True  # Questions of one read are one round.
            self.service.gateway.loop.call_soon(self._require, held)

    def _require(self, held: Held) -> None:
        """Answer the client with what is asked."""
        held.is_due = False
        forward = held.forward
        exchange, forward.exchange = forward.exchange, None
        if exchange is None or exchange.done:
            forward.exchange = exchange
            return
        if forward.passage is not None:  # How long a user thinks says nothing of the upstream.
            forward.passage.cancel()
        held.state = STATE_PREFIX + secrets.token_urlsafe(24)
        self._held[held.state] = held
        wait_s = self.service.gateway.limits.request_timeout_s
        held.timer = self.service.gateway.loop.call_later(wait_s, self._expire, held)
        asked = {name: item for name, (_, item) in held.questions.items()}
        exchange.result({"resultType": "input_required", "inputRequests": asked, "requestState": held.state})

    def _expire(self, held: Held) -> None:
        self._held.pop(held.state, None)
        held.forward.cancel()

    def resume(self, exchange: Exchange, params: dict[str, Any]) -> bool:
        """Whether the request continues a call that is open here. Raises InvalidParamsError for a state that is not of
        this request."""
        state = params.get("requestState")
        if not isinstance(state, str) or not state.startswith(STATE_PREFIX):
            if state is not None:
                raise InvalidParamsError("Invalid requestState: it was not issued by this gateway")
            return False
        held = self._held.get(state)
        if held is None:
            raise InvalidParamsError("Invalid requestState: it is unknown, was used, or has expired")
        if held.bound_to != bound_to(exchange) or held.owner != self.service.owner_of(exchange):
            raise InvalidParamsError("Invalid requestState: it belongs to another request")
        del self._held[state]
        assert held.timer is not None
        held.timer.cancel()
        self._go_on(held, exchange, params.get("inputResponses"))
        return True

    def _go_on(self, held: Held, exchange: Exchange, responses: Any) -> None:
        forward = held.forward
        given = responses if isinstance(responses, dict) else {}
        forward.exchange = exchange
        talk = forward.line.talk
        for name in [name for name in held.questions if isinstance(given.get(name), dict)]:
            id_raw, _ = held.questions.pop(name)
            if talk is not None:
                talk.channel.answer(id_raw, given[name])
        if held.outcome is not None:
            self.service.settle(forward, held.outcome)
            return
        exchange.waits(forward, None)  # type: ignore[arg-type]
        if held.questions:
            self._require(held)

    def keep(self, forward: Forward, outcome: Call | BaseException) -> bool:
        """Whether the end of a call was kept, as its client is on its way with answers."""
        if forward.exchange is not None or forward.held is None:
            return False
        forward.held.outcome = outcome
        return True

    def withdraw(self, forward: Forward, id: Any) -> None:
        """The upstream does not want an answer any more."""
        held = forward.held
        if held is not None:
            token = core.encode(id)
            held.questions = {name: each for name, each in held.questions.items() if each[0] != token}

    def close(self) -> None:
        for held in list(self._held.values()):
            if held.timer is not None:
                held.timer.cancel()
            held.forward.cancel()
        self._held.clear()

    # -- a handshake client, a 2026-07-28 upstream ---------------------------------------------------------------------

    async def answer(self, forward: Forward, exchange: Exchange, result: dict[str, Any]) -> None:
        """Ask the client what the upstream wants to know, and send the next round. Raises what the client answers with,
        LimitError after too many rounds."""
        check_input_required(result, forward.method)
        limit = self.service.gateway.limits.input_round_max
        if forward.round_count >= limit:
            raise LimitError("input_round_max", limit, f"{forward.mount.exposed} asks again and again")
        asked = result.get("inputRequests")
        params: Any = exchange.call.params
        more: dict[str, Any] = {name: value for name, value in params.items() if name not in _OF_ROUNDS}
        if isinstance(asked, dict) and asked:
            more["inputResponses"] = await self._ask_all(exchange, asked)
        elif "requestState" in result:
            await asyncio.sleep(BACKOFF_S * (forward.round_count + 1))
        else:
            raise InvalidAnswerError(f"{forward.mount.exposed} needs input, and says neither which nor a state")
        if "requestState" in result:
            more["requestState"] = result["requestState"]
        more[m.NAME_KEYS[forward.method]] = forward.mount.name
        own = {name: value for name, value in _meta_of(params).items() if name != "progressToken"}
        more["_meta"] = {**own, **modern_meta(exchange)}
        if not exchange.done:
            again = Forward(
                self.service, exchange, forward.mount, forward.line, more, forward.timeout_s, forward.headers
            )
            again.round_count = forward.round_count + 1
            if "progressToken" in _meta_of(params):
                again.token = more["_meta"]["progressToken"] = forward.line.take_token(again)
            again.send()

    async def _ask_all(self, exchange: Exchange, asked: dict[str, Any]) -> dict[str, Any]:
        for name, item in asked.items():
            if not isinstance(item, dict) or item.get("method") not in m.NEEDED_CAPABILITY:
                raise InvalidAnswerError(f"the input request {name!r} names no method of the client's")
        questions = [
            asyncio.ensure_future(self._ask(exchange, item["method"], item.get("params"))) for item in asked.values()
        ]
        try:
            return dict(zip(asked, await asyncio.gather(*questions), strict=True))
        finally:
            for question in questions:  # Where one failed, the others are asked for nothing.
                question.cancel()

    async def _ask(self, exchange: Exchange, method: str, params: Any) -> dict[str, Any]:
        if method not in m.SERVER_REQUESTS[exchange.peer.version]:
            raise McpError(0, f"a client of {exchange.peer.version} cannot be asked for {method}")
        given = params if isinstance(params, dict) else None
        wait_s = self.service.gateway.limits.request_timeout_s
        return await exchange.session.ask(exchange.channel, method, given, wait_s)


_OF_ROUNDS: Final = frozenset({"_meta", "inputResponses", "requestState"})


def _meta_of(params: dict[str, Any]) -> dict[str, Any]:
    meta = params.get("_meta")
    return meta if isinstance(meta, dict) else {}


__all__ = ["Held", "Rounds", "as_object"]
