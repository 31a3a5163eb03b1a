"""What a call passes before it goes to an upstream, and what its end teaches: the guards of ``erlmcp.policy``.

One guard stands before the upstream as a whole (``guards``), one before each of its tools (``tool_guards``). A call
that one of them does not let in goes nowhere, and gives back what it got of the one before. An ``isError`` result is an
answer and speaks against nobody; lost connections, timeouts and internal errors do.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from erlmcp.client.guarding import speaks_against
from erlmcp.errors import CallTimeoutError, ErlmcpError
from erlmcp.gateway.forward import is_trouble
from erlmcp.gateway.mount import TOOL
from erlmcp.policy.protection import Guards
from erlmcp.policy.retry import RetryRule
from erlmcp.runtime.again import Again
from erlmcp.runtime.guard import Guard

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.flags import Flags
    from erlmcp.gateway.config import UpstreamConfig
    from erlmcp.gateway.mount import Mount

NO_GUARDS: tuple[Guard, ...] = ()


class Passage:
    """The guards that one call is within, and its tokens of them."""

    __slots__ = ("_held", "_refusal")

    def __init__(self) -> None:
        self._held: list[tuple[Guard, int]] = []
        self._refusal = 0  # what the guard said for whose place has to be waited

    def enter(self, guards: tuple[Guard, ...], caller: str) -> bool:
        """False where a place has to be waited for (``enter_in_turn``), with what the guards before it gave. Raises
        RefusedError; nothing is held then."""
        for guard in guards:
            token = guard.enter() if guard.callers is None else guard.enter_for(caller)
            if token <= 0:
                if guard.may_wait(token):
                    self._refusal = token
                    return False
                self.cancel()
                raise guard.refusal(token, caller)
            self._held.append((guard, token))
        return True

    async def enter_in_turn(self, guards: tuple[Guard, ...], caller: str) -> None:
        """Go on where ``enter`` stopped. Raises RefusedError; nothing is held then."""
        refusal, self._refusal = self._refusal, 0
        try:
            for guard in guards[len(self._held) :]:
                token = await (guard.turn(refusal) if refusal else guard.enter_in_turn(caller))
                refusal = 0
                if token <= 0:
                    raise guard.refusal(token, caller)
                self._held.append((guard, token))
        except BaseException:
            self.cancel()
            raise

    def answered(self, call: Call) -> None:
        is_ok = not is_trouble(call)
        for guard, token in self._take():
            guard.leave(token, is_ok)

    def failed(self, error: BaseException) -> None:
        for guard, token in self._take():
            if isinstance(error, CallTimeoutError):
                guard.expired(token)
            else:
                guard.failed(token, error)

    def cancel(self) -> None:
        """The call came to no outcome."""
        for guard, token in self._take():
            guard.cancel(token)

    def _take(self) -> list[tuple[Guard, int]]:
        held, self._held = self._held, []
        return held


class Protection:
    """The guards of one upstream. ``again`` says whether what failed is sent once more."""

    def __init__(self, config: UpstreamConfig, flags: Flags) -> None:
        self._flags = flags
        self._whole = self._make(config.name, config.guards) if config.guards else None
        self._common = NO_GUARDS if self._whole is None else (self._whole,)
        self._tool_rules = config.tool_guards or None
        self._tools: dict[str, Guard] = {}
        self._of_tools: dict[str, tuple[Guard, ...]] = {}
        rates = [rate for rules in (config.guards, config.tool_guards) if rules is not None for rate in rules.rates]
        self.knows_callers = any(rate.per == "caller" for rate in rates)
        rule = None if config.guards is None else config.guards.retry
        self.again = Again(rule) if isinstance(rule, RetryRule) else None

    def _make(self, name: str, rules: Guards) -> Guard:
        return Guard(name, rules, flags=self._flags, is_failure=speaks_against)

    def of(self, mount: Mount) -> tuple[Guard, ...]:
        """Those before a call, the widest first."""
        if self._tool_rules is None or mount.kind != TOOL:
            return self._common
        found = self._of_tools.get(mount.name)
        if found is None:
            own = self._tools[mount.name] = self._make(mount.exposed, self._tool_rules)
            found = self._of_tools[mount.name] = (*self._common, own)
        return found

    def pause_s(self, error: ErlmcpError, attempt: int, may_repeat: bool) -> float | None:
        """How long to wait before what failed is sent again; None: it is not."""
        again = self.again
        return None if again is None else again.pause_s(error, attempt, may_repeat)

    def begin(self) -> None:
        """A call is made for the first time."""
        if self.again is not None:
            self.again.retry.begin(time.monotonic_ns())

    def switch(self, flags: Flags) -> None:
        self._flags = flags
        for guard in (self._whole, *self._tools.values()):
            if guard is not None:
                guard.switch(flags)

    def report(self) -> dict[str, Any]:
        """The state of the guards, by name; empty where there are none."""
        guards = [guard for guard in (self._whole, *self._tools.values()) if guard is not None]
        return {guard.name: guard.report() for guard in guards}


def timeout_of(guards: tuple[Guard, ...], usual_s: float) -> float:
    """How long an answer may take: the shortest of what the guards have learnt, at most as usual."""
    for guard in guards:
        learnt_s = guard.timeout_s
        if learnt_s is not None and learnt_s < usual_s:
            usual_s = learnt_s
    return usual_s
