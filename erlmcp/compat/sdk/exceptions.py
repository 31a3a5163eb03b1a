"""What a tool, a resource or a prompt raises, and what the in-process calls raise.

What came from ``mcp`` itself (an app that left an import as it was) is understood as well: by the names of its classes.
"""

from __future__ import annotations

from typing import Any

from erlmcp import errors
from erlmcp.server.content import dump_model


class MCPServerError(Exception):
    """The root of these."""


class ResourceError(MCPServerError):
    """A failure that a resource foresaw: the client receives -32603 with this text."""


class ResourceNotFoundError(ResourceError):
    """There is no such resource: -32602."""


class UnexpectedResourceError(ResourceError):
    """A resource failed with anything else; ``__cause__`` is what. Its text says no more than which one."""


class ToolError(MCPServerError, errors.ToolError):
    """A failure that a tool foresaw: a result with ``isError`` and this text."""


class UnexpectedToolError(ToolError):
    """A tool failed with anything else; ``__cause__`` is what. Its text says no more than which one."""


class PromptError(MCPServerError, ValueError):
    """A prompt that could not be rendered; ``__cause__`` is why, where its function failed."""


class ValidationError(MCPServerError):
    """Arguments or results that do not fit (mcp 1.x)."""


class InvalidSignature(errors.ConfigurationError):
    """A function that cannot be served; said where it is registered."""


class MCPError(errors.McpError):
    """A JSON-RPC error, answered as it is."""

    def __init__(self, code: Any, message: str = "", data: Any = None) -> None:
        if hasattr(code, "message"):  # McpError(ErrorData(...)) of mcp 1.x
            code, message, data = code.code, code.message, code.data
        super().__init__(code, message, data)

    @property
    def error(self) -> Any:
        """The same as a record."""
        from erlmcp.compat.sdk.types import ErrorData

        return ErrorData(code=self.code, message=self.message, data=self.data)

    def __str__(self) -> str:
        return self.message


McpError = MCPError


class UrlElicitationRequiredError(MCPError):
    """The user has to visit URLs first (-32042)."""

    def __init__(self, elicitations: list[Any], message: str | None = None) -> None:
        text = message or f"URL elicitation{'s' if len(elicitations) > 1 else ''} required"
        self.elicitations = list(elicitations)
        wires = [dump_model(each) for each in elicitations]
        super().__init__(errors.URL_ELICITATION_REQUIRED, text, {"elicitations": wires})


def kind_of(error: BaseException) -> type[BaseException]:
    """Which class of this module an exception is of, or stands for where it comes from ``mcp``; its own otherwise."""
    for base in type(error).__mro__:
        if base.__module__.split(".", 1)[0] == "mcp":
            found = globals().get(base.__name__)
            if isinstance(found, type) and issubclass(found, BaseException):
                return found
        elif base.__module__ == __name__:
            return base
    return type(error)


def as_protocol_error(error: BaseException) -> errors.McpError | None:
    """The JSON-RPC error that an exception is, or stands for."""
    if isinstance(error, errors.McpError):
        return error
    if isinstance(error, errors.NoBackChannelError):
        return MCPError(errors.INVALID_REQUEST, str(error))
    if issubclass(kind_of(error), MCPError):
        said: Any = getattr(error, "error", error)
        return MCPError(said.code, said.message, dump_model(said.data))
    return None
