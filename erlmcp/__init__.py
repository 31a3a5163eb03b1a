"""erlmcp: serve the Model Context Protocol from a compiled core. Names are imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.client.bound import ClientLimits as ClientLimits
    from erlmcp.client.client import Client as Client
    from erlmcp.client.result import CallResult as CallResult
    from erlmcp.compat.accel.app import accelerate as accelerate
    from erlmcp.compat.fastmcp.server.server import FastMCP as FastMCP
    from erlmcp.compat.sdk.server import MCPServer as MCPServer
    from erlmcp.errors import AuthorizationError as AuthorizationError
    from erlmcp.errors import CallTimeoutError as CallTimeoutError
    from erlmcp.errors import ConfigurationError as ConfigurationError
    from erlmcp.errors import ConnectionClosedError as ConnectionClosedError
    from erlmcp.errors import ErlmcpError as ErlmcpError
    from erlmcp.errors import InvalidParamsError as InvalidParamsError
    from erlmcp.errors import LimitError as LimitError
    from erlmcp.errors import McpError as McpError
    from erlmcp.errors import NegotiationError as NegotiationError
    from erlmcp.errors import RefusedError as RefusedError
    from erlmcp.errors import ResourceNotFoundError as ResourceNotFoundError
    from erlmcp.errors import ServerExitedError as ServerExitedError
    from erlmcp.errors import ToolError as ToolError
    from erlmcp.errors import UrlElicitationRequiredError as UrlElicitationRequiredError
    from erlmcp.flags import Flags as Flags
    from erlmcp.limits import Limits as Limits
    from erlmcp.policy.breaker import BreakerRule as BreakerRule
    from erlmcp.policy.bulkhead import BulkheadRule as BulkheadRule
    from erlmcp.policy.limiter import RateRule as RateRule
    from erlmcp.policy.protection import Guards as Guards
    from erlmcp.policy.retry import RetryRule as RetryRule
    from erlmcp.policy.timeouts import TimeoutRule as TimeoutRule
    from erlmcp.server.app import Server as Server
    from erlmcp.server.content import AssistantMessage as AssistantMessage
    from erlmcp.server.content import Audio as Audio
    from erlmcp.server.content import File as File
    from erlmcp.server.content import Image as Image
    from erlmcp.server.content import ResourceContents as ResourceContents
    from erlmcp.server.content import ToolResult as ToolResult
    from erlmcp.server.content import UserMessage as UserMessage
    from erlmcp.server.context import Context as Context
    from erlmcp.server.depend import Depends as Depends
    from erlmcp.server.input import Elicit as Elicit
    from erlmcp.server.input import ElicitResult as ElicitResult
    from erlmcp.server.input import ListRoots as ListRoots
    from erlmcp.server.input import Sample as Sample
    from erlmcp.server.input import SampleResult as SampleResult
    from erlmcp.server.param import Param as Param

__version__ = "0.1.0"

_HOME = {
    "ClientLimits": "client.bound",
    "Client": "client.client",
    "CallResult": "client.result",
    "accelerate": "compat.accel.app",
    "FastMCP": "compat.fastmcp.server.server",
    "MCPServer": "compat.sdk.server",
    "AuthorizationError": "errors",
    "CallTimeoutError": "errors",
    "ConfigurationError": "errors",
    "ConnectionClosedError": "errors",
    "ErlmcpError": "errors",
    "InvalidParamsError": "errors",
    "LimitError": "errors",
    "McpError": "errors",
    "NegotiationError": "errors",
    "RefusedError": "errors",
    "ResourceNotFoundError": "errors",
    "ServerExitedError": "errors",
    "ToolError": "errors",
    "UrlElicitationRequiredError": "errors",
    "Flags": "flags",
    "Limits": "limits",
    "BreakerRule": "policy.breaker",
    "BulkheadRule": "policy.bulkhead",
    "RateRule": "policy.limiter",
    "Guards": "policy.protection",
    "RetryRule": "policy.retry",
    "TimeoutRule": "policy.timeouts",
    "Server": "server.app",
    "AssistantMessage": "server.content",
    "Audio": "server.content",
    "File": "server.content",
    "Image": "server.content",
    "ResourceContents": "server.content",
    "ToolResult": "server.content",
    "UserMessage": "server.content",
    "Context": "server.context",
    "Depends": "server.depend",
    "Elicit": "server.input",
    "ElicitResult": "server.input",
    "ListRoots": "server.input",
    "Sample": "server.input",
    "SampleResult": "server.input",
    "Param": "server.param",
}
__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
