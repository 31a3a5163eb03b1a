"""What a call passes before it goes to an upstream, and what its end teaches: the guards of ``erlmcp.policy``.

One guard stands before the upstream as a whole (``guards``), one before each of its tools (``tool_guards``). A call
that one of them does not let in goes nowhere, and gives back what it got of the one before. An ``isError`` result is an
answer and speaks against nobody; lost connections, timeouts and internal errors do.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from erlmcp.client.guarding import TROUBLE, speaks_against
from erlmcp.errors import CallTimeoutError, ErlmcpError
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

RESULT = 3
NO_GUARDS: tuple[Guard, ...] = ()


class Passage:
    """The guards that one call is within, and its tokens of them."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[tuple[Guard, int]] = []

    def enter(self, guards: tuple[Guard, ...], caller: str) -> bool:
        """False where a place has to be waited for (``enter_in_turn``). Raises RefusedError; nothing is held then."""
        for guard in guards:
            token = guard.enter_for(caller)
            if token <= 0:
                self.cancel()
                if guard.may_wait(token):
                    return False
                raise guard.refusal(token, caller)
            self._held.append((guard, token))
        return True

    async def enter_in_turn(self, guards: tuple[Guard, ...], caller: str) -> None:
        """Raises RefusedError; nothing is held then."""
        try:
            for guard in guards:
                token = await guard.enter_in_turn(caller)
                if token <= 0:
                    raise guard.refusal(token, caller)
                self._held.append((guard, token))
        except BaseException:
            self.cancel()
            raise

    def answered(self, call: Call) -> None:
        is_ok = True
        if call.kind != RESULT:
            error = call.error
            is_ok = not (isinstance(error, dict) and error.get("code") in TROUBLE)
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
        self._config = config
        self._flags = flags
        self._whole = self._make(config.name, config.guards)
        self._tools: dict[str, Guard] = {}
        rule = None if config.guards is None else config.guards.retry
        self.again = Again(rule) if isinstance(rule, RetryRule) else None

    def _make(self, name: str, rules: Guards | None) -> Guard | None:
        return Guard(name, rules, flags=self._flags, is_failure=speaks_against) if rules else None

    def of(self, mount: Mount) -> tuple[Guard, ...]:
        """Those before a call, the widest first."""
        whole, rules = self._whole, self._config.tool_guards
        if not rules or mount.kind != TOOL:
            return NO_GUARDS if whole is None else (whole,)
        own = self._tools.get(mount.name)
        if own is None:
            made = self._make(mount.exposed, rules)
            assert made is not None
            own = self._tools[mount.name] = made
        return (own,) if whole is None else (whole, own)

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
    return min((each for guard in guards if (each := guard.timeout_s) is not None), default=usual_s)
