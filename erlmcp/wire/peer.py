"""Who is at the other end, as it said itself: in ``initialize``, or in each request's ``_meta``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from erlmcp.errors import (
    INVALID_PARAMS,
    UNSUPPORTED_PROTOCOL_VERSION,
    McpError,
)
from erlmcp.spec import key
from erlmcp.spec.version import MODERN_VERSIONS

INITIALIZE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Peer:
    """Protocol version, capabilities and identity of a client; ``log_level`` only where it asked for logs."""

    version: str
    capabilities: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] | None = None
    log_level: str | None = None
    modern: bool = False

    def offers(self, capability: str, part: str | None = None) -> bool:
        """Whether the client declared the capability, and within it the part (``elicitation``, ``url``)."""
        declared = self.capabilities.get(capability)
        if not isinstance(declared, dict):
            return False
        if part is None:
            return True
        if capability == "elicitation" and part == "form":
            # An empty object means form mode, as before modes existed (2025-11-25, client/elicitation).
            return not declared or isinstance(declared.get("form"), dict)
        return isinstance(declared.get(part), dict)


def unsupported_version(requested: object) -> McpError:
    """-32022 with the versions that a modern request may speak."""
    return McpError(
        UNSUPPORTED_PROTOCOL_VERSION,
        "Unsupported protocol version",
        {"supported": list(MODERN_VERSIONS), "requested": requested if isinstance(requested, str) else str(requested)},
    )


def is_enveloped(meta: dict[str, Any]) -> bool:
    """Whether a ``_meta`` object claims the modern era."""
    return key.PROTOCOL_VERSION in meta


def judge_meta(meta: dict[str, Any]) -> Peer:
    """The peer that a modern request's ``_meta`` describes.

    Raises McpError: -32602 where a required key is missing or ill-typed, -32022 where the version is not spoken
    (2026-07-28, basic/index: per-request metadata).
    """
    version = meta.get(key.PROTOCOL_VERSION)
    if not isinstance(version, str):
        raise McpError(INVALID_PARAMS, f"Invalid params: _meta[{key.PROTOCOL_VERSION!r}] must be a string")
    capabilities = meta.get(key.CLIENT_CAPABILITIES)
    if not isinstance(capabilities, dict):
        raise McpError(INVALID_PARAMS, f"Invalid params: _meta[{key.CLIENT_CAPABILITIES!r}] must be an object")
    info = meta.get(key.CLIENT_INFO)
    if info is not None and not (
        isinstance(info, dict) and isinstance(info.get("name"), str) and isinstance(info.get("version"), str)
    ):
        raise McpError(INVALID_PARAMS, f"Invalid params: _meta[{key.CLIENT_INFO!r}] needs a name and a version")
    if version not in MODERN_VERSIONS:
        raise unsupported_version(version)
    level = meta.get(key.LOG_LEVEL)
    if level is not None and not (isinstance(level, str) and level in key.LOG_RANK):
        raise McpError(
            INVALID_PARAMS, f"Invalid params: unknown log level {level!r}, expected one of {', '.join(key.LOG_LEVELS)}"
        )
    token = meta.get(key.PROGRESS_TOKEN)
    if token is not None and (isinstance(token, bool) or not isinstance(token, str | int)):
        raise McpError(INVALID_PARAMS, "Invalid params: _meta['progressToken'] must be a string or an integer")
    return Peer(version, capabilities, info, level, modern=True)


def judge_initialize(params: object, size: int = 0) -> tuple[str, Peer]:
    """(requested version, peer without its negotiated version) of an ``initialize`` of ``size`` bytes; raises McpError
    -32602. What it says is kept for as long as the session, so it may not be of any size."""
    if size > INITIALIZE_BYTES_MAX:
        raise McpError(INVALID_PARAMS, f"Invalid params: initialize is longer than {INITIALIZE_BYTES_MAX} bytes")
    if not isinstance(params, dict):
        raise McpError(INVALID_PARAMS, "Invalid params: initialize needs protocolVersion, capabilities and clientInfo")
    version = params.get("protocolVersion")
    if not isinstance(version, str):
        raise McpError(INVALID_PARAMS, "Invalid params: protocolVersion must be a string")
    capabilities = params.get("capabilities")
    if not isinstance(capabilities, dict):
        raise McpError(INVALID_PARAMS, "Invalid params: capabilities must be an object")
    info = params.get("clientInfo")
    if not (isinstance(info, dict) and isinstance(info.get("name"), str) and isinstance(info.get("version"), str)):
        raise McpError(INVALID_PARAMS, "Invalid params: clientInfo needs a name and a version")
    return version, Peer(version, capabilities, info)
