"""The errors of FastMCP 4, and what says that this façade has no such thing."""

from __future__ import annotations

import logging
from typing import NoReturn

from erlmcp.errors import ConfigurationError, McpError
from erlmcp.errors import ToolError as _ToolError

MCPError = McpError
DOCS = "docs/moving.md"


class Unsupported(ConfigurationError, NotImplementedError):
    """FastMCP has this and the façade has not; the message says why, and what to use instead."""


class Unfit(ConfigurationError, ValueError, TypeError):
    """A registration that FastMCP refuses too."""


def unsupported(what: str, why: str, instead: str) -> NoReturn:
    """Raises Unsupported, with the reason and the alternative."""
    raise Unsupported(f"{what} is not in this façade of FastMCP: {why}. Instead: {instead} ({DOCS})")


def absent(module: str, name: str, why: str, instead: str) -> NoReturn:
    """Raises ImportError for a name of a module that FastMCP has; AttributeError for what no module has."""
    if name.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    raise ImportError(f"{name} is not in this façade of FastMCP: {why}; instead, {instead} ({DOCS})")


class FastMCPError(Exception):
    """The root of what an author raises to be read by the client. ``log_level`` is that of its record."""

    def __init__(self, *args: object, log_level: int = logging.ERROR) -> None:
        super().__init__(*args)
        self.log_level = log_level


class ValidationError(FastMCPError):
    """Arguments or values that do not fit."""


class ToolError(FastMCPError, _ToolError):
    """A tool's own failure: the client reads this text, masked or not."""


class ResourceError(FastMCPError):
    """A resource's own failure."""


class PromptError(FastMCPError):
    """A prompt's own failure."""


class InvalidSignature(Exception):
    """A signature that cannot be served."""


class ClientError(Exception):
    """A client was used in a way that cannot work."""


class NotFoundError(Exception):
    """There is no such tool, resource or prompt, or not for this caller."""


class DisabledError(Exception):
    """There is one, and it is switched off."""


class ResourceSecurityError(NotFoundError):
    """A variable of a template's URI leads out of where it may lead; the client is told that there is no such
    resource."""


class AuthorizationError(FastMCPError):
    """The caller may not do this."""


class FastMCPDeprecationWarning(DeprecationWarning):
    """Something that a later version of FastMCP takes away."""


def to_mcp_error(error: Exception, *, default_code: int = -32603) -> McpError:
    """The JSON-RPC error that says this to a client."""
    if isinstance(error, McpError):
        return error
    is_callers = isinstance(error, NotFoundError | DisabledError | ValidationError)
    return McpError(-32602 if is_callers else default_code, str(error))
