"""The short way of a tool call: compiled where the core is, else there is none and the general way serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.wire.peer import Peer

if TYPE_CHECKING:
    from erlmcp.runtime.session import Host
    from erlmcp.runtime.stride import Entry as Entry
    from erlmcp.runtime.stride import Objects as Objects
    from erlmcp.runtime.stride import Ready as Ready
    from erlmcp.runtime.stride import Stride as Stride
elif core.IMPLEMENTATION == "core":
    from erlmcp.runtime.stride import Entry, Objects, Ready, Stride
else:
    Objects = Stride = None

    class Entry:
        """What a tool that may be called the short way shows of itself."""

        __slots__ = ("fence", "invoke", "is_simple", "modern", "plain", "result_class", "span_ns", "structured")

        def set_direct(self, *direct: Any) -> None:
            """Nothing here calls without ``invoke``."""

    def Ready(general: Any, find: Any, *, is_modern: bool = True, is_legacy: bool = True) -> Any:
        """The general way, where no other is compiled."""
        return general


def make_stride(host: Host, gate: object = None) -> Stride | None:
    """The compiled short way for a running host; None where the twins serve. Over HTTP it takes the verdicts of
    ``gate`` alone."""
    made: Any = Stride
    return None if made is None else made(host, Peer, gate)
