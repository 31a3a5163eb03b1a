"""Dependencies: what a function needs that the caller does not send.

``Depends(fn)`` beside a type or as a default asks for ``fn``'s result. A dependency may take the context, other
dependencies, and arguments of the tool under their own names; it may be sync or async, return or yield. What comes
after the ``yield`` runs when the call is over, in reverse order, and sees the call's exception; swallowing it does
not hide it. Within one call a dependency runs once, unless ``use_cache=False``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from erlmcp.errors import ConfigurationError


@dataclass(frozen=True, slots=True, eq=False)
class DependsMark:
    """What ``Depends(fn)`` leaves in a signature."""

    call: Callable[..., Any]
    use_cache: bool = True


def Depends(call: Callable[..., Any], *, use_cache: bool = True) -> Any:
    """Ask for ``call``'s result: ``Annotated[Db, Depends(open_db)]`` or ``db: Db = Depends(open_db)``.

    Typed as Any, so that it can stand as a default. Raises ConfigurationError where ``call`` is not callable.
    """
    if not callable(call):
        raise ConfigurationError(f"Depends() takes a function, got {call!r}")
    return DependsMark(call, use_cache)


def target_of(call: Any) -> Any:
    """The function that runs when ``call`` is called: partials, bound methods and callable objects taken off."""
    while True:
        if hasattr(call, "func") and hasattr(call, "keywords") and not inspect.isroutine(call):  # functools.partial
            call = call.func
        elif inspect.ismethod(call) or isinstance(call, staticmethod | classmethod):
            call = call.__func__
        elif hasattr(call, "__wrapped__") and not inspect.isfunction(call):  # functools.cache
            call = call.__wrapped__
        elif not inspect.isroutine(call) and not inspect.isclass(call) and callable(call):
            call = type(call).__call__
        else:
            return call


def is_async_call(call: Any) -> bool:
    """Does calling it give something to await? A plain wrapper of an async function is taken to pass that on."""
    target = target_of(call)
    return any(inspect.iscoroutinefunction(each) for each in (call, target, inspect.unwrap(target)))


def _wraps_stop(raised: BaseException, error: BaseException | None) -> bool:
    """A generator turns a StopIteration that is thrown into it into a RuntimeError of its own (PEP 479)."""
    return isinstance(error, StopIteration | StopAsyncIteration) and raised.__cause__ is error


class Yielded:
    """A sync generator dependency as a context manager that never swallows the call's exception."""

    __slots__ = ("_run",)

    def __init__(self, run: Any) -> None:
        self._run = run

    def __enter__(self) -> Any:
        try:
            return next(self._run)
        except StopIteration:
            raise RuntimeError(f"dependency {self._run!r} did not yield") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                next(self._run)
            else:
                self._run.throw(error)
        except StopIteration:
            return
        except BaseException as raised:
            if raised is not error and not _wraps_stop(raised, error):
                raise
            return
        self._run.close()
        raise RuntimeError(f"dependency {self._run!r} yielded twice")


class AsyncYielded:
    """The same for an async generator."""

    __slots__ = ("_run",)

    def __init__(self, run: Any) -> None:
        self._run = run

    async def __aenter__(self) -> Any:
        try:
            return await anext(self._run)
        except StopAsyncIteration:
            raise RuntimeError(f"dependency {self._run!r} did not yield") from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await anext(self._run)
            else:
                await self._run.athrow(error)
        except StopAsyncIteration:
            return
        except BaseException as raised:
            if raised is not error and not _wraps_stop(raised, error):
                raise
            return
        await self._run.aclose()
        raise RuntimeError(f"dependency {self._run!r} yielded twice")


@dataclass(slots=True, eq=False)
class Node:
    """One run of one dependency within a call. ``kind``: "sync", "async", "generator", "async_generator"."""

    call: Callable[..., Any]
    kind: str
    arguments: list[Any] = field(default_factory=list)  # bind.Slot
    index: int = -1


def kind_of(call: Any) -> str:
    """How a dependency is to be run."""
    target = target_of(call)
    if inspect.isasyncgenfunction(call) or inspect.isasyncgenfunction(target):
        return "async_generator"
    if inspect.isgeneratorfunction(call) or inspect.isgeneratorfunction(target):
        return "generator"
    return "async" if is_async_call(call) else "sync"
