"""What is left of a guarded call of a coroutine function after its first step, where that did not end it.

Most calls of some functions never wait. Driving the first step by hand tells those apart from the others, which alone
need a task to be given up in, and a deadline on the wheel. Compiled where the core is (``erlmcp.runtime.fence``); the
twin below says the same in plain Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmcp import core


class PlainRest:
    """A call that is to be awaited, or (``token`` zero and below) was not let in. ``began_ns``: when it began, where
    its time is limited."""

    def __init__(self, token: int, began_ns: int = 0, coroutine: Any = None, first: Any = None) -> None:
        self.token = token
        self.began_ns = began_ns
        self._coroutine = coroutine
        self._first = [first]  # what the first step waits for, until it is handed up

    def __await__(self) -> PlainRest:
        return self

    def __iter__(self) -> PlainRest:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        return self._first.pop() if self._first else self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        self._first.clear()
        return self._coroutine.throw(*error)

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()


async def awaiting(awaitable: Any) -> Any:
    """A coroutine of what is none."""
    return await awaitable


if TYPE_CHECKING or core.IMPLEMENTATION != "core":
    Rest = PlainRest
else:
    from erlmcp.runtime.fence import Rest as Rest
