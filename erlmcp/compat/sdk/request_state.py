"""The ``requestState`` that a client carries from one round of a call to the next: encrypted, and bound to the call.

Aims: what is carried is read and made by nobody but who has the key (the SDK promises as much, and apps keep in it what
their users should not see), and it fits no other call, server, caller or time. Plan: encrypt-then-MAC from one
primitive of the standard library. HMAC-SHA256 under one derived key, over a random nonce and a counter, is the key
stream; under another it is the tag over version, nonce and ciphertext. Keys are derived from each secret by HMAC over a
label. Any of the keys opens, the first one seals.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from erlmcp.compat.sdk.auth import get_access_token
from erlmcp.errors import ConfigurationError, InvalidParamsError
from erlmcp.server.context import owner_of
from erlmcp.server.input import Round
from erlmcp.wire.seal import digest

VERSION = "s1"
NONCE_BYTES, TAG_BYTES, BLOCK_BYTES, SECRET_BYTES_MIN = 16, 32, 32, 32


class InvalidRequestState(Exception):
    """A token that was not sealed here, or not as it is."""


class RequestStateCodec(Protocol):
    """Bytes -> token, and back; ``unseal`` raises InvalidRequestState."""

    def seal(self, payload: bytes) -> str: ...
    def unseal(self, token: str) -> bytes: ...


class KeyRing:
    """The codec that comes with this: see above."""

    def __init__(self, keys: Sequence[bytes | bytearray | str]) -> None:
        secrets = [key.encode() if isinstance(key, str) else bytes(key) for key in keys]
        if not secrets or any(len(key) < SECRET_BYTES_MIN for key in secrets):
            raise ValueError(f"request-state keys: at least one, each of at least {SECRET_BYTES_MIN} bytes")
        self._keys = [(_mac(key, b"encrypt"), _mac(key, b"tag")) for key in secrets]

    def seal(self, payload: bytes) -> str:
        nonce = os.urandom(NONCE_BYTES)
        cipher, tag = self._keys[0]
        body = nonce + _crypt(cipher, nonce, payload)
        whole = base64.urlsafe_b64encode(body + _mac(tag, VERSION.encode() + body))
        return f"{VERSION}.{whole.decode().rstrip('=')}"

    def unseal(self, token: str) -> bytes:
        version, _, text = token.partition(".")
        try:
            whole = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            raise InvalidRequestState("it cannot be read") from None
        body, given = whole[:-TAG_BYTES], whole[-TAG_BYTES:]
        if version == VERSION and len(body) >= NONCE_BYTES:
            for cipher, tag in self._keys:
                if hmac.compare_digest(_mac(tag, VERSION.encode() + body), given):
                    return _crypt(cipher, body[:NONCE_BYTES], body[NONCE_BYTES:])
        raise InvalidRequestState("it was not issued by this server")


AESGCMRequestStateCodec = KeyRing  # by the name that the SDK has for its own


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def _crypt(key: bytes, nonce: bytes, data: bytes) -> bytes:
    blocks = range(-(-len(data) // BLOCK_BYTES))
    stream = b"".join(_mac(key, nonce + number.to_bytes(8, "big")) for number in blocks)
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def authenticated_principal(_context: Any = None) -> str | None:
    """Whom an access token names: (client, issuer, subject); None without one."""
    token = get_access_token()
    if token is None:
        return None
    claims = getattr(token, "claims", None) or {}
    return json.dumps([token.client_id, claims.get("iss"), getattr(token, "subject", None)])


class RequestStateSecurity:
    """How the state is kept: exactly one of ``keys`` (the first seals, all open) and ``codec``; ``ttl`` in seconds."""

    def __init__(
        self,
        *,
        keys: Sequence[bytes | bytearray | str] | None = None,
        codec: RequestStateCodec | None = None,
        ttl: float = 600.0,
        bind_principal: Callable[[Any], str | None] | None = authenticated_principal,
        audience: str | None = None,
    ) -> None:
        if (keys is None) == (codec is None):
            raise ValueError("RequestStateSecurity takes exactly one of keys= or codec=")
        if not (math.isfinite(ttl) and ttl > 0):
            raise ValueError(f"request-state ttl must be a positive finite number, got {ttl!r}")
        self.codec: RequestStateCodec = KeyRing(keys) if keys is not None else codec  # type: ignore[assignment]
        self.ttl = ttl
        self.bind_principal = bind_principal
        self.audience = audience

    @classmethod
    def ephemeral(cls, *, ttl: float = 600.0, audience: str | None = None) -> RequestStateSecurity:
        """Under a key of this process alone."""
        return cls(keys=[os.urandom(SECRET_BYTES_MIN)], ttl=ttl, audience=audience)

    def seal(self, context: Any, payload: Any) -> str:
        """A payload (JSON) as the client will carry it, bound to the request of this context."""
        claims = {"p": payload, "b": self._binding(context), "e": time.time() + self.ttl}
        try:
            body = json.dumps(claims, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"the state of a call holds what has no JSON form: {error}") from error
        return self.codec.seal(body.encode())

    def unseal(self, context: Any, token: object) -> Any:
        """The payload. Raises InvalidParamsError (-32602) for what does not belong to this request."""
        try:
            if not isinstance(token, str):
                raise InvalidRequestState("it is no string")
            claims = json.loads(self.codec.unseal(token))
            payload, bound, expires_s = claims["p"], claims["b"], claims["e"]
        except (InvalidRequestState, ValueError, KeyError, TypeError) as error:
            said = error if isinstance(error, InvalidRequestState) else "it cannot be read"
            raise InvalidParamsError(f"Invalid requestState: {said}") from None
        if bound != self._binding(context):
            raise InvalidParamsError("Invalid requestState: it belongs to another request")
        if time.time() > expires_s:
            raise InvalidParamsError("Invalid requestState: it has expired; send the request anew")
        return payload

    def _binding(self, context: Any) -> list[Any]:
        """What a state fits: this call, this server, this caller."""
        principal = None if self.bind_principal is None else self.bind_principal(context)
        caller = principal if principal is not None or self.bind_principal is None else owner_of(context)
        return [digest(context.method, context.params), self.audience or context.server.name, caller]


class SealedRound(Round):
    """The rounds of a call whose questions are asked one by one (``ctx.elicit``, ``Resolve``)."""

    __slots__ = ("_context", "_security")

    def __init__(self, context: Any, security: RequestStateSecurity, round_max: int) -> None:
        params = context.params
        self._context, self._security = context, security
        self.asked: dict[str, Any] = {}
        self.responses: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._used: list[str] = []
        rounds = 0
        if params.get("requestState") is not None:
            payload = security.unseal(context, params["requestState"])
            if not isinstance(payload, dict) or payload.keys() != {"r", "s", "n"}:
                raise InvalidParamsError("Invalid requestState: it belongs to another way of asking")
            self.responses, self.state, rounds = payload["r"], payload["s"], payload["n"]
        if rounds >= round_max:
            raise InvalidParamsError(f"the request went through input_round_max={round_max} rounds without an end")
        self._fresh = rounds + 1
        given = params.get("inputResponses")
        if isinstance(given, dict):
            self.responses = {**self.responses, **given}

    def result(self) -> dict[str, Any]:
        """The ``input_required`` result."""
        kept = {name: self.responses[name] for name in self._used}
        state = self._security.seal(self._context, {"r": kept, "s": self.state, "n": self._fresh})
        return {"resultType": "input_required", "inputRequests": dict(self.asked), "requestState": state}


class GivenRound:
    """The round of a call whose author made the ``InputRequiredResult``: it goes out as it is, its state sealed."""

    def __init__(self, context: Any, security: RequestStateSecurity, wire: dict[str, Any]) -> None:
        self._wire = {**wire, "resultType": "input_required"}
        if wire.get("requestState") is not None:
            self._wire["requestState"] = security.seal(context, {"given": wire["requestState"]})

    def result(self) -> dict[str, Any]:
        return dict(self._wire)


def given_state(context: Any, security: RequestStateSecurity) -> str | None:
    """The state that the author gave in the round before, as he gave it."""
    token = context.params.get("requestState")
    if token is None:
        return None
    payload = security.unseal(context, token)
    if not isinstance(payload, dict) or "given" not in payload:
        raise InvalidParamsError("Invalid requestState: it belongs to another way of asking")
    found: str = payload["given"]
    return found
