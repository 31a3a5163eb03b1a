"""The way in of an HTTP connection, from the bytes of a read to the bytes of its answers."""

import asyncio
from collections import deque
from typing import Any

from erlmcp.core import HttpRequest, Outbound

class Intake:
    """What an HTTP connection has to do for each read."""

    _stride: Any
    _budget: Any
    _out: Outbound
    _inbound: Any
    _queue: deque[HttpRequest]
    transport: asyncio.Transport | None
    served: int
    _busy: bool
    _draining: bool
    is_urgent: bool
    def data_received(self, data: bytes) -> None: ...
