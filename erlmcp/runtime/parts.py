"""Large answers in pieces: what an author returned is sent from where it lies, not joined with what is around it."""

from __future__ import annotations

import asyncio
from typing import Protocol

# From here on a string is sent as it lies. Below it a copy is cheaper than a piece.
SPLIT_BYTES = 64 * 1024

Parts = list[bytes | memoryview]


class Writer(Protocol):
    """A transport's way out."""

    def write(self, data: bytes | memoryview) -> None: ...
    def writelines(self, parts: Parts) -> None: ...


def write_parts(transport: Writer, parts: Parts) -> None:
    """Write pieces one after the other, by one system call where the transport can (uvloop; asyncio from 3.12 on)."""
    if getattr(type(transport), "writelines", None) is asyncio.WriteTransport.writelines:  # which joins them
        for part in parts:
            transport.write(part)
    else:
        transport.writelines(parts)
        # CPython 3.12.0 to 3.13.0, and some later ones, forget to look there whether the protocol is to be paused. That
        # of TLS has the method, too, but bounds of its own, which it looks at.
        look = getattr(transport, "_maybe_pause_protocol", None)
        if look is not None and hasattr(transport, "_high_water"):
            look()
