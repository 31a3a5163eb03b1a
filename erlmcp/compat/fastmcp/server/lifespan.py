"""Lifespans that are put together with ``|``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any


class Lifespan:
    """What is open while a server runs: an async generator function of the server that yields a dict once."""

    def __init__(self, fn: Callable[[Any], AsyncIterator[Any]]) -> None:
        self._fn = fn

    def __call__(self, server: Any) -> AbstractAsyncContextManager[dict[str, Any]]:
        return _opened(asynccontextmanager(self._fn)(server))

    def __or__(self, other: Lifespan) -> ComposedLifespan:
        if not isinstance(other, Lifespan):
            raise TypeError(
                f"Cannot compose Lifespan with {type(other).__name__}; wrap it in ContextManagerLifespan(...)"
            )
        return ComposedLifespan(self, other)


class ContextManagerLifespan(Lifespan):
    """A lifespan from a function that gives an async context manager."""

    def __init__(self, fn: Callable[[Any], AbstractAsyncContextManager[Any]]) -> None:
        self._make = fn

    def __call__(self, server: Any) -> AbstractAsyncContextManager[dict[str, Any]]:
        return _opened(self._make(server))


class ComposedLifespan(Lifespan):
    """Two lifespans: the left one opens first and closes last; where both yield a key, the right one's value counts."""

    def __init__(self, left: Lifespan, right: Lifespan) -> None:
        self._left = left
        self._right = right

    def __call__(self, server: Any) -> AbstractAsyncContextManager[dict[str, Any]]:
        return self._both(server)

    @asynccontextmanager
    async def _both(self, server: Any) -> AsyncIterator[dict[str, Any]]:
        async with self._left(server) as left, self._right(server) as right:
            yield {**left, **right}


@asynccontextmanager
async def _opened(opening: AbstractAsyncContextManager[Any]) -> AsyncIterator[dict[str, Any]]:
    async with opening as found:
        yield {} if found is None else found


def lifespan(fn: Callable[[Any], AsyncIterator[Any]]) -> Lifespan:
    """Make a lifespan of an async generator function."""
    return Lifespan(fn)
