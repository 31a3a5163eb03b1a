"""What upstreams say while a call is under way, and what they say by themselves: to whom it goes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.client.conversation import CHANGED
from erlmcp.errors import SERVER_BUSY, ErlmcpError, McpError
from erlmcp.gateway.forward import raw
from erlmcp.gateway.line import is_wanted, log_level_of
from erlmcp.spec import key
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.forward import Forward
    from erlmcp.gateway.line import Line
    from erlmcp.gateway.round import Rounds
    from erlmcp.runtime.session import Session


class Teller:
    """Hands on progress, logs, questions and other notifications. ``asking`` are the questions that clients of a
    handshake revision are answering."""

    def __init__(self, gateway: Gateway, rounds: Rounds) -> None:
        self._gateway = gateway
        self._rounds = rounds
        self.asking: dict[tuple[Line, Any], asyncio.Task[None]] = {}

    def progress(self, line: Line, call: Call) -> None:
        params = call.params
        given = params if isinstance(params, dict) else {}
        token = given.get(key.PROGRESS_TOKEN)
        forward = line.tokens.get(token) if isinstance(token, int) else None
        exchange = None if forward is None else forward.exchange
        if exchange is not None and exchange.progress_token is not None:
            exchange.notify(m.PROGRESS, {**given, key.PROGRESS_TOKEN: exchange.progress_token})

    def log(self, line: Line, call: Call, forward: Forward | None) -> None:
        """A log message goes to the client of its call, where that wants it."""
        params: Any = raw(core.relay_params(call))
        exchange = None if forward is None else forward.exchange
        given = call.params
        level = given.get("level") if isinstance(given, dict) else None
        if exchange is not None:
            least = log_level_of(exchange.peer, exchange.session.log_level)
            if (least is not None or not exchange.peer.modern) and is_wanted(level, least):
                exchange.notify(m.MESSAGE, params)
        elif line.session is not None and line.session.standalone is not None:
            line.session.standalone.notify(m.MESSAGE, params)

    def session(self, line: Line, method: str, params: dict[str, Any]) -> None:
        """A notification of another kind, on the line of one session."""
        session = line.session
        if session is not None and session.standalone is not None and method not in CHANGED:
            session.standalone.notify(method, params)

    def question(self, line: Line, call: Call, forward: Forward | None) -> None:
        """An upstream of a handshake revision asks for the user, the model or the roots of a client."""
        exchange = None if forward is None else forward.exchange
        session: Session | None = line.session if exchange is None else exchange.session
        held = None if forward is None or forward.held is None else forward.held.questions
        most = line.limits.task_count_max
        if len(line.conversation.tasks if held is None else held) >= most:
            busy = f"Client busy: task_count_max={most} questions are being answered"
            line.conversation.channel.answer(call.id_raw, None, McpError(SERVER_BUSY, busy))
        elif forward is not None and (forward.held is not None or (exchange is not None and exchange.peer.modern)):
            self._rounds.asked(forward, call)
        elif session is None or not isinstance(call.id, str | int):
            line.answer_none(call)
        else:
            channel = None if exchange is None else exchange.channel
            task = line.conversation.spawn(self._ask(line, call, session, channel))
            place = line, call.id
            self.asking[place] = task
            task.add_done_callback(lambda _: self.asking.pop(place, None))

    async def _ask(self, line: Line, call: Call, session: Session, channel: Any) -> None:
        way = line.conversation.channel
        params: Any = raw(core.relay_params(call))
        try:
            answer = await session.ask(channel, call.method or "", params, self._gateway.limits.request_timeout_s)
        except McpError as error:
            way.answer(call.id_raw, None, error)
        except ErlmcpError as error:
            way.answer(call.id_raw, None, McpError(SERVER_BUSY, str(error)))
        else:
            way.answer(call.id_raw, answer)

    def withdraw(self, line: Line, call: Call, forward: Forward | None) -> bool:
        """Whether an upstream took a question back, and not something else."""
        params = call.params
        id = params.get("requestId") if isinstance(params, dict) else None
        task = self.asking.get((line, id)) if isinstance(id, str | int) else None
        if task is not None:
            task.cancel()
        elif forward is not None and forward.held is not None:
            self._rounds.withdraw(forward, id)
        else:
            return False
        return True
