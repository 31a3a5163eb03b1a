"""``Tool.from_function``: a tool to be handed to a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class Tool:
    """A function with what is said of it; for ``MCPServer(tools=[...])``."""

    fn: Callable[..., Any]
    name: str | None = None
    title: str | None = None
    description: str | None = None
    annotations: Any = None
    icons: Any = None
    meta: dict[str, Any] | None = None
    structured_output: bool | None = None

    @classmethod
    def from_function(cls, fn: Callable[..., Any], name: str | None = None, **options: Any) -> Tool:
        """By the function's own name where there is no other. What is wrong with it is said where it is registered."""
        return cls(fn=fn, name=name or getattr(fn, "__name__", None), **options)
