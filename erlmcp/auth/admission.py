"""Somebody who was let in, and what ends with that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

if TYPE_CHECKING:
    import asyncio

    from erlmcp.wire.header import Verdict

TIES_MIN: Final = 8
Tie = tuple[Callable[[], bool], Callable[[], None]]  # whether it is open, and how it ends


class Admission:
    """``owner`` is its name for sessions and rates, ``principal`` who it is. Where it ``ends`` at all, the verdicts
    that were passed with it are taken back then, and streams that are open with it are closed."""

    __slots__ = ("_ties", "_verdicts", "issuer", "owner", "principal", "timer")

    def __init__(self, owner: str, principal: Any, issuer: str = "", *, ends: bool = False) -> None:
        self.owner = owner
        self.principal = principal
        self.issuer = issuer
        self.timer: asyncio.TimerHandle | None = None
        self._verdicts: WeakSet[Verdict] | None = WeakSet() if ends else None
        self._ties: list[Tie] = []

    def hold(self, verdict: Verdict) -> None:
        if self._verdicts is not None:
            self._verdicts.add(verdict)

    def tie(self, is_open: Callable[[], bool], stop: Callable[[], None]) -> None:
        """Call ``stop`` at the end, if it ``is_open`` then."""
        if self._verdicts is None:
            return
        if len(self._ties) >= TIES_MIN and not (len(self._ties) & (len(self._ties) - 1)):  # at each power of two
            self._ties = [each for each in self._ties if each[0]()]
        self._ties.append((is_open, stop))

    def forget(self) -> None:
        """Look at what it shows anew; its streams go on until its time is over."""
        for verdict in self._verdicts or ():
            verdict.gate = None  # The next request with this head is judged anew.
        if self.timer is not None and not any(is_open() for is_open, _ in self._ties):
            self.timer.cancel()

    def end(self) -> None:
        ties, self._ties = self._ties, []
        for is_open, stop in ties:
            if is_open():
                stop()
        self.forget()
