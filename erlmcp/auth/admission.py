"""Somebody who was let in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    import asyncio

    from erlmcp.wire.header import Verdict


class Admission:
    """``owner`` is its name for sessions and rates, ``principal`` who it is. The verdicts that were passed with it are
    taken back when it ends, where it ``ends`` at all."""

    __slots__ = ("_verdicts", "issuer", "owner", "principal", "timer")

    def __init__(self, owner: str, principal: Any, issuer: str = "", *, ends: bool = False) -> None:
        self.owner = owner
        self.principal = principal
        self.issuer = issuer
        self.timer: asyncio.TimerHandle | None = None
        self._verdicts: WeakSet[Verdict] | None = WeakSet() if ends else None

    def hold(self, verdict: Verdict) -> None:
        if self._verdicts is not None:
            self._verdicts.add(verdict)

    def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        for verdict in self._verdicts or ():
            verdict.gate = None  # The next request with this head is judged anew.
