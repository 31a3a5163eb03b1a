"""Who follows the progress of a request, and how far that moves its deadline.

Each sign of life gives a request its timeout anew: up to ``timeout_s_max`` from when it was sent, and no further than
the call has time that it is made in. Only the request's own mark moves; a channel finds it when it looks for what is
overdue, so that progress costs nothing on the wheel.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from erlmcp.errors import CallTimeoutError
from erlmcp.policy.timeouts import extended_ns
from erlmcp.runtime.within import DEADLINE, MARGIN_S

if TYPE_CHECKING:
    from erlmcp import core
    from erlmcp.client.flow import Request

SECOND_NS: Final = 1_000_000_000
MARGIN_NS: Final = int(MARGIN_S * SECOND_NS)


class Following:
    """``progress`` is told, and ``request``, which is sent now, lives longer for it."""

    __slots__ = ("_hard_s", "_request", "_sent_ns", "_until", "progress")

    def __init__(self, progress: Callable[..., Any], hard_s: float) -> None:
        self.progress = progress
        self._hard_s = hard_s
        self._request: Request | None = None
        self._sent_ns = time.monotonic_ns()
        self._until = DEADLINE.get()

    def use(self, request: Request) -> None:
        self._request = request

    def extend(self) -> None:
        """There was progress."""
        request = self._request
        if request is None or request.deadline_ns is None:
            return
        timeout_ns = int(request.timeout_s * SECOND_NS)
        due_ns = extended_ns(time.monotonic_ns(), self._sent_ns, timeout_ns, int(self._hard_s * SECOND_NS))
        if self._until is not None:
            due_ns = min(due_ns, self._until.due_ns - MARGIN_NS)
        request.deadline_ns = max(request.deadline_ns, due_ns)

    def named(self, error: CallTimeoutError) -> CallTimeoutError:
        """The error of a request that was given up, by the bound that it met."""
        if self._request is None or time.monotonic_ns() - self._sent_ns < self._hard_s * SECOND_NS:
            return error
        if self._request.timeout_s >= self._hard_s:
            return error
        return CallTimeoutError("timeout_s_max", self._hard_s, error.method)


def take_overdue(waiting: core.Correlation, now_ns: int) -> list[tuple[str | int, Any]]:
    """What is to be given up; what progress gave more time waits on."""
    found: list[tuple[str | int, Any]] = []
    for id, pending in waiting.expire(now_ns):
        if pending.deadline_ns > now_ns:  # type: ignore[attr-defined]
            waiting.put(id, pending, pending.deadline_ns)  # type: ignore[attr-defined]
        else:
            found.append((id, pending))
    return found
