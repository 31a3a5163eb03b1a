"""Which request is being handled here, for those who ask for it without having been given it.

A tool that is handed its context by a parameter needs none of this, and a plain one does not pay for it: only where a
program imports ``get_context`` or one of its kind are its tools run with the context noted (``want_ambient``).
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakSet


class ContextBase:
    """What ``Context`` is known by to those who only have to recognise it."""

    __slots__ = ()


CONTEXT: Final[ContextVar[Any]] = ContextVar("erlmcp_fastmcp_context", default=None)
SERVERS: Final[WeakSet[Any]] = WeakSet()


class Ambient:
    """Whether anything in this process asks for the context by ``get_context()``."""

    is_wanted = False


def want_ambient() -> None:
    """From now on every tool runs with its context noted; those that are registered already too."""
    if not Ambient.is_wanted:
        Ambient.is_wanted = True
        for server in list(SERVERS):
            server.replace_tools()


def current_context() -> Any:
    """The context of the request that is handled here, or None."""
    return CONTEXT.get()


def is_context(hint: Any) -> bool:
    """Whether a parameter with this hint takes the context."""
    return isinstance(hint, type) and issubclass(hint, ContextBase)
