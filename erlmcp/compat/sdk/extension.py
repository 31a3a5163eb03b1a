"""Extensions: what a bundle adds to a server, and the interceptors of tool calls."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from erlmcp.compat.sdk import types
from erlmcp.compat.sdk.exceptions import MCPError
from erlmcp.errors import MISSING_CLIENT_CAPABILITY
from erlmcp.server.content import dump_model
from erlmcp.spec import method as m

CallNext = Callable[[Any], Awaitable[Any]]
_LABEL = r"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_IDENTIFIER = re.compile(rf"{_LABEL}(?:\.{_LABEL})*/[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_SPEC_METHODS = frozenset().union(*m.CLIENT_REQUESTS.values())


def validate_extension_identifier(identifier: Any, *, owner: str) -> None:
    """Raises ValueError for what is not like ``com.example/name``."""
    if not isinstance(identifier, str) or _IDENTIFIER.fullmatch(identifier) is None:
        raise ValueError(f"{owner}: the identifier {identifier!r} is not like 'com.example/name'")


@dataclass(frozen=True)
class ToolBinding:
    """A tool of an extension; ``kwargs`` are the further arguments of ``add_tool``."""

    fn: Callable[..., Any]
    meta: dict[str, Any] | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResourceBinding:
    """A resource of an extension."""

    resource: Any


@dataclass(frozen=True)
class MethodBinding:
    """A method of an extension: ``async handler(ctx, params)``, in these revisions (None: in all)."""

    method: str
    params_type: Any
    handler: Callable[..., Awaitable[Any]]
    protocol_versions: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.method in _SPEC_METHODS:
            raise ValueError(f"MethodBinding cannot bind {self.method!r}, a method of the specification")
        if self.protocol_versions is not None and not self.protocol_versions:
            raise ValueError(f"MethodBinding of {self.method!r} has no protocol version; use None for all")


class Extension:
    """Subclass it, set ``identifier``, and override what it contributes."""

    identifier: str

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        identifier = cls.__dict__.get("identifier")
        if identifier is not None:
            validate_extension_identifier(identifier, owner=cls.__name__)

    def settings(self) -> dict[str, Any]:
        """What is declared of it among the server's capabilities."""
        return {}

    def tools(self) -> Sequence[ToolBinding]:
        return ()

    def resources(self) -> Sequence[ResourceBinding]:
        return ()

    def methods(self) -> Sequence[MethodBinding]:
        return ()

    async def intercept_tool_call(self, params: Any, ctx: Any, call_next: CallNext) -> Any:
        """Around each tool call, the first extension outermost."""
        return await call_next(ctx)


def intercepts(extension: Any) -> bool:
    """Does it override the interceptor (also where it descends from the class of ``mcp``)?"""
    own = type(extension).intercept_tool_call
    return own.__module__ not in (__name__, "mcp.server.extension")


def require_client_extension(ctx: Any, identifier: str) -> None:
    """Raises MCPError -32021 where the client did not declare this extension."""
    capabilities = ctx.session.client_capabilities
    declared = getattr(capabilities, "extensions", None)
    if declared is None or identifier not in dump_model(declared):
        wanted = types.ClientCapabilities(extensions={identifier: {}})
        raise MCPError(
            MISSING_CLIENT_CAPABILITY,
            f"Client did not declare required extension {identifier!r}",
            {"requiredCapabilities": wanted.model_dump(by_alias=True, exclude_none=True)},
        )
