"""What may be said on one conversation, and when: eras, the handshake, and the direction of each method.

A conversation is NEW until its first request pins its era (spec: basic/versioning; the official SDKs pin a stdio pipe
the same way). In the legacy era it is READY after ``initialize`` was answered; only ``initialize`` and ``ping`` come
before that. In the modern era every request stands alone and the conversation is READY from the start. The rules are
tables; the file does not know which role it serves: the sender's methods are an argument.
"""

from __future__ import annotations

from typing import Final

from erlmcp.errors import INVALID_PARAMS, INVALID_REQUEST, McpError, MethodNotFoundError
from erlmcp.spec import method as m
from erlmcp.spec.version import LATEST_MODERN, LEGACY, MODERN
from erlmcp.wire.peer import Peer, unsupported_version

NEW: Final = 0
READY: Final = 2


class Connection:
    """The protocol state of one conversation.

    ``era`` is None until pinned, then ``"legacy"`` or ``"modern"``; ``version`` the negotiated revision; ``peer``
    what the other side said of itself in ``initialize``.
    """

    __slots__ = ("era", "peer", "phase", "sender", "version")

    def __init__(self, sender: dict[str, frozenset[str]] | None = None) -> None:
        self.era: str | None = None
        self.phase = NEW
        self.version: str | None = None
        self.peer: Peer | None = None
        self.sender = m.CLIENT_REQUESTS if sender is None else sender

    def admit_modern(self, method: str | None) -> McpError | None:
        """Whether a request with a modern ``_meta`` may be handled here; pins the era."""
        if self.era == LEGACY:
            return McpError(
                INVALID_REQUEST, "This connection speaks a handshake revision; modern _meta is not accepted"
            )
        if self.era is None:
            self.era = MODERN
            self.version = LATEST_MODERN
            self.phase = READY
        if method not in self.sender[LATEST_MODERN]:
            return MethodNotFoundError(method or "")
        return None

    def admit_legacy(self, method: str | None, requested: object = None) -> McpError | None:
        """Whether a request without a modern ``_meta`` may be handled here; ``initialize`` and ``ping`` pin the era.

        ``requested`` is the protocolVersion of an ``initialize``, for the error that refuses it.
        """
        if self.era == MODERN:
            if method == m.INITIALIZE:
                return unsupported_version(requested)
            return McpError(
                INVALID_PARAMS, "Invalid params: _meta with protocolVersion and clientCapabilities is required"
            )
        if self.phase != READY:
            if method in m.BEFORE_READY:
                self.era = LEGACY
                return None
            if method not in _ANY_REQUEST:
                return MethodNotFoundError(method or "")
            return McpError(INVALID_PARAMS, "Received a request before initialization was complete")
        if method == m.INITIALIZE:
            return McpError(INVALID_REQUEST, "This connection is already initialized")
        if method not in self.sender[self.version or ""]:
            return MethodNotFoundError(method or "")
        return None

    def initialized(self, version: str, peer: Peer) -> None:
        """``initialize`` was answered with ``version``."""
        self.era = LEGACY
        self.version = version
        self.peer = peer
        self.phase = READY


_ANY_REQUEST: Final = frozenset().union(*m.CLIENT_REQUESTS.values())
