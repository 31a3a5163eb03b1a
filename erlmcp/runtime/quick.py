"""The short way of a tool call: compiled where the core is, else there is none and the general way serves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.wire.peer import Peer

GAP_NS = 200_000  # a pause after which a turn of the loop has surely ended


class PlainBudget:
    """What a turn of the loop may be spent on handling, by the clock of each message."""

    __slots__ = ("_began_s", "_busy_s", "_count_max", "_ended_s", "_time_max_s", "count", "gap_ns", "refused_from")

    def __init__(self, count_max: int, time_max_s: float) -> None:
        self._count_max, self._time_max_s = count_max, time_max_s
        self.count = 0
        self.gap_ns = GAP_NS
        self.refused_from = 3
        self._busy_s = self._began_s = self._ended_s = 0.0

    @property
    def is_spent(self) -> bool:
        return self._busy_s >= self._time_max_s or self.count >= self._count_max

    def reset(self) -> None:
        self.count, self._busy_s = 0, 0.0

    def begin(self) -> None:
        self._began_s = time.monotonic()
        if self._began_s - self._ended_s > self.gap_ns / 1e9:
            self.reset()

    def add(self) -> None:
        self.count += 1
        self.end()
        self._began_s = self._ended_s

    def end(self) -> None:
        self._ended_s = time.monotonic()
        self._busy_s += self._ended_s - self._began_s


if TYPE_CHECKING:
    from erlmcp.runtime.budget import Budget as Budget
    from erlmcp.runtime.endpoint import Endpoint
    from erlmcp.runtime.entry import Entry as Entry
    from erlmcp.runtime.entry import Ready as Ready
    from erlmcp.runtime.session import Host
    from erlmcp.runtime.stride import Objects as Objects
    from erlmcp.runtime.stride import Stride as Stride
    from erlmcp.runtime.stride_http import HttpStride as HttpStride
elif core.IMPLEMENTATION == "core":
    from erlmcp.runtime.budget import Budget
    from erlmcp.runtime.entry import Entry, Ready
    from erlmcp.runtime.stride import Objects, Stride
    from erlmcp.runtime.stride_http import HttpStride
else:
    Objects = Stride = HttpStride = None
    Budget = PlainBudget

    class Entry:
        """What a tool that may be called the short way shows of itself."""

        __slots__ = (
            "fence",
            "invoke",
            "is_simple",
            "lane",
            "modern",
            "plain",
            "result_class",
            "span_ns",
            "structured",
        )

        def set_direct(self, *direct: Any) -> None:
            """Nothing here calls without ``invoke``."""

    def Ready(general: Any, find: Any, *, is_modern: bool = True, is_legacy: bool = True) -> Any:
        """The general way, where no other is compiled."""
        return general


def make_stride(host: Host) -> Stride | None:
    """The compiled short way for a running host; None where the twins serve."""
    made: Any = Stride
    return None if made is None else made(host, Peer)


def make_http_stride(host: Host, endpoint: Endpoint) -> HttpStride | None:
    """The one for the requests of an endpoint."""
    made: Any = HttpStride
    return None if made is None else made(host, Peer, endpoint.gate, endpoint.sessions)
