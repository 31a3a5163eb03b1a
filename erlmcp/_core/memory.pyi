"""Allocation of all rooms: counted, and able to fail on demand, where it was built with ``ERLMCP_BUILD=checked``."""

from typing import Final

IS_CHECKED: Final[bool]
"""True in the checked build and those above it. Elsewhere the counters stay at zero and no allocation fails on
demand."""

def live_blocks() -> int:
    """Blocks allocated and not yet freed by all compiled rooms."""

def live_bytes() -> int:
    """Bytes of these blocks, as the C library rounds them."""

def fail_after(count: int, forever: bool = False) -> None:
    """Makes the ``count``-th allocation from now fail, and with ``forever`` all that follow it. ValueError below 1."""

def fail_never() -> None:
    """Takes back ``fail_after``."""
