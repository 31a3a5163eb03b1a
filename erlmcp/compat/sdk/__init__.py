"""The shape of the official SDK, mcp 2.3: ``from erlmcp.compat.sdk import MCPServer, Context, Image`` where an app has
``from mcp.server.mcpserver import ...``. Names are imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.compat.sdk.client import Client as Client
    from erlmcp.compat.sdk.context import Context as Context
    from erlmcp.compat.sdk.convert import Audio as Audio
    from erlmcp.compat.sdk.convert import Image as Image
    from erlmcp.compat.sdk.elicitation import AcceptedElicitation as AcceptedElicitation
    from erlmcp.compat.sdk.elicitation import CancelledElicitation as CancelledElicitation
    from erlmcp.compat.sdk.elicitation import DeclinedElicitation as DeclinedElicitation
    from erlmcp.compat.sdk.elicitation import ElicitationResult as ElicitationResult
    from erlmcp.compat.sdk.exceptions import MCPError as MCPError
    from erlmcp.compat.sdk.exceptions import UrlElicitationRequiredError as UrlElicitationRequiredError
    from erlmcp.compat.sdk.extension import Extension as Extension
    from erlmcp.compat.sdk.extension import MethodBinding as MethodBinding
    from erlmcp.compat.sdk.extension import ResourceBinding as ResourceBinding
    from erlmcp.compat.sdk.extension import ToolBinding as ToolBinding
    from erlmcp.compat.sdk.extension import require_client_extension as require_client_extension
    from erlmcp.compat.sdk.prompts.base import AssistantMessage as AssistantMessage
    from erlmcp.compat.sdk.prompts.base import Message as Message
    from erlmcp.compat.sdk.prompts.base import UserMessage as UserMessage
    from erlmcp.compat.sdk.request_state import AESGCMRequestStateCodec as AESGCMRequestStateCodec
    from erlmcp.compat.sdk.request_state import InvalidRequestState as InvalidRequestState
    from erlmcp.compat.sdk.request_state import RequestStateCodec as RequestStateCodec
    from erlmcp.compat.sdk.request_state import RequestStateSecurity as RequestStateSecurity
    from erlmcp.compat.sdk.request_state import authenticated_principal as authenticated_principal
    from erlmcp.compat.sdk.resolve import Elicit as Elicit
    from erlmcp.compat.sdk.resolve import ListRoots as ListRoots
    from erlmcp.compat.sdk.resolve import Resolve as Resolve
    from erlmcp.compat.sdk.resolve import Sample as Sample
    from erlmcp.compat.sdk.resources import DEFAULT_RESOURCE_SECURITY as DEFAULT_RESOURCE_SECURITY
    from erlmcp.compat.sdk.resources import ResourceSecurity as ResourceSecurity
    from erlmcp.compat.sdk.server import CacheHint as CacheHint
    from erlmcp.compat.sdk.server import MCPServer as MCPServer
    from erlmcp.compat.sdk.types import Icon as Icon

_HOME = {
    "Client": "client",
    "Context": "context",
    "Audio": "convert",
    "Image": "convert",
    "AcceptedElicitation": "elicitation",
    "CancelledElicitation": "elicitation",
    "DeclinedElicitation": "elicitation",
    "ElicitationResult": "elicitation",
    "MCPError": "exceptions",
    "UrlElicitationRequiredError": "exceptions",
    "Extension": "extension",
    "MethodBinding": "extension",
    "ResourceBinding": "extension",
    "ToolBinding": "extension",
    "require_client_extension": "extension",
    "AssistantMessage": "prompts.base",
    "Message": "prompts.base",
    "UserMessage": "prompts.base",
    "AESGCMRequestStateCodec": "request_state",
    "InvalidRequestState": "request_state",
    "RequestStateCodec": "request_state",
    "RequestStateSecurity": "request_state",
    "authenticated_principal": "request_state",
    "Elicit": "resolve",
    "ListRoots": "resolve",
    "Resolve": "resolve",
    "Sample": "resolve",
    "DEFAULT_RESOURCE_SECURITY": "resources",
    "ResourceSecurity": "resources",
    "CacheHint": "server",
    "MCPServer": "server",
    "Icon": "types",
}
_ABSENT = {
    "RequestStateBoundary": "the state of a call is sealed by the server itself; give it request_state_security=",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        hint = f": {_ABSENT[name]}" if name in _ABSENT else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
