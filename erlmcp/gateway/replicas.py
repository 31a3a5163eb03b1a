"""The replicas of one upstream: which of them gets a call, and what has to stay with one of them.

A line of one client's leads to one replica for as long as it lasts, and the next line of the same session to the same
one where it is up. A round of a call goes to the replica whose ``requestState`` it brings: others may not be able to
open that. All else goes where it ends soonest (``erlmcp.policy.balance``).
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.policy.balance import Balance, BalanceRule

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.gateway.line import Line
    from erlmcp.runtime.session import Session

log = logging.getLogger("erlmcp.gateway")
STATE_COUNT_MAX: Final = 10_000  # of requestState, whose replicas are remembered


class Replicas:
    """``name`` is that of the upstream."""

    def __init__(self, name: str, count: int, rule: BalanceRule | None) -> None:
        self._name = name
        self.balance = Balance(count, random.randrange, rule)
        self._turn = 0
        self._homes: dict[Session, int] = {}
        self._states: dict[Any, int] = {}  # requestState -> who gave it

    def pick(self, main: list[Line | None], home: int | None) -> Line | None:
        """Of the shared lines, by replica, that on which a call goes: to its home where that is up."""
        if home is not None and main[home] is not None:
            return main[home]
        ready = [(index, len(line.forwards)) for index, line in enumerate(main) if line is not None]
        return main[self.balance.pick(ready, time.monotonic_ns())] if ready else None

    def place(self, main: list[Line | None], session: Session | None) -> int:
        """Where a line of one client's leads: to the replica that its session had before, else to each in turn."""
        up = [index for index, line in enumerate(main) if line is not None] or list(range(len(main)))
        home = None if session is None else self._homes.get(session)
        if home in up:
            return home
        now_ns = time.monotonic_ns()
        up = [index for index in up if not self.balance.is_ejected(index, now_ns)] or up
        self._turn += 1
        found = up[self._turn % len(up)]
        if session is not None:
            self._homes[session] = found
        return found

    def leave(self, session: Session) -> None:
        self._homes.pop(session, None)

    def home_of(self, call: Call) -> int | None:
        """The replica that a round of a call belongs to."""
        params = core.relay_params(call) if self._states else None
        if not params or b'"requestState"' not in params:
            return None
        given = call.params
        return self._states.get(given.get("requestState")) if isinstance(given, dict) else None

    def answered(self, line: Line, call: Call, time_ns: int, is_failure: bool) -> None:
        """A call was answered."""
        self.ended(line, time_ns, is_failure)
        text = core.result_text(call) or b""
        if b'"requestState"' in text and line.index is not None:
            result = call.result
            state = result.get("requestState") if isinstance(result, dict) else None
            if isinstance(state, str):
                if len(self._states) >= STATE_COUNT_MAX:
                    del self._states[next(iter(self._states))]
                self._states[state] = line.index

    def ended(self, line: Line, time_ns: int, is_failure: bool) -> None:
        """A call was answered, or failed."""
        index = line.index
        if index is not None and self.balance.record(index, time_ns, is_failure, time.monotonic_ns()):
            log.warning("%s: replica %d gets no calls for a while, as it fails", self._name, index)

    def report(self, main: list[Line | None]) -> list[dict[str, Any]]:
        """Of each: whether it is up, its calls under way, its latency, and whether it is ejected."""
        now_ns = time.monotonic_ns()
        return [
            {
                "up": line is not None,
                "inflight": 0 if line is None else len(line.forwards),
                "latency_ms": self.balance.cost(index, 0, now_ns) / 1e6,
                "ejected": self.balance.is_ejected(index, now_ns),
            }
            for index, line in enumerate(main)
        ]
