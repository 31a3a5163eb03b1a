"""The short way of a tool call, compiled: bytes to answers, with only the author's function in Python."""

import asyncio
from collections.abc import Callable
from typing import Any

from erlmcp.core import Call, Inbound, Outbound
from erlmcp.runtime.budget import Budget
from erlmcp.runtime.session import Host
from erlmcp.runtime.watch import Watch

class Stride:
    """The short way for all byte streams of a running host."""

    def __init__(self, host: Host, peer_class: type) -> None: ...
    @property
    def host(self) -> Host: ...
    @property
    def call(self) -> Call | None:
        """Whose handler runs its first step now."""
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def watch(self) -> Watch | None:
        """What records the calls; None where nothing does."""
    def lines(
        self, inbound: Inbound, data: bytes, link: Any, session: Any, out: Outbound, budget: Budget | None
    ) -> list[Call] | None:
        """Handle a read of a byte stream: simple calls into ``out``, everything else through ``session.receive``.
        Critical ones go first, by ``link.overtake(calls, how many)``, where they come after others or the budget is
        spent. The value are the calls that the budget did not reach; None where there is none."""
    def calls(
        self, calls: list[Call], link: Any, session: Any, out: Outbound, budget: Budget | None
    ) -> list[Call] | None:
        """The same for calls that were read before."""

class Objects:
    """Calls of simple tools by a client of this process: objects in, objects out, and no bytes between.

    ``tools`` is the server's table. ``call(name, arguments)`` gives

    - a ``result_class``, made without its ``__init__``, whose slots ``data`` and ``tool`` are the value and the entry,
    - what ``waited(entry, coroutine, what it yielded)`` gives for a handler that waits, which is to be adopted by the
      carrier that is entered,
    - what ``ended(entry, value, error)`` gives for one that failed, or whose value is not of the tool's class,
    - None, with nothing done, for what only bytes can do: a tool that is not simple, arguments or a result that are
      more than single values.
    """

    def __init__(
        self,
        stride: Stride,
        tools: dict[str, Any],
        result_class: type,
        waited: Callable[[Any, Any, Any], Any],
        ended: Callable[[Any, Any, BaseException | None], Any],
    ) -> None: ...
    def call(self, name: str, arguments: object) -> Any: ...
