"""Where ordinary functions run: in the threads of the server that serves the request, or asyncio's where none does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from erlmcp.compat.fastmcp.current import current_context


async def in_thread(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run it and wait for it."""
    context = current_context()
    core = None if context is None else context._core
    if core is not None:
        return await core.server.in_thread(call, *args, **kwargs)
    return await asyncio.to_thread(_without_stop, call, args, kwargs)


def _without_stop(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call; a StopIteration, which no future can carry, as the RuntimeError that a generator makes of it."""
    try:
        return call(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError(f"{getattr(call, '__name__', 'a function')} raised StopIteration in a thread") from error
