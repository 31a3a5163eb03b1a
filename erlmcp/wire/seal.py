"""The sealed ``requestState`` of multi-round-trip requests (2026-07-28, basic/patterns/mrtr).

The client carries the state and may not read meaning into it nor change it: it is a JSON payload under HMAC-SHA256,
bound to who asked, to what was asked, and to a time. It is authenticated, not encrypted: authors put no secrets into
it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from erlmcp.errors import InvalidParamsError

VERSION = "e1"


def digest(method: str, params: dict[str, Any]) -> str:
    """What a state is bound to: the method and its own parameters, without the multi-round ones."""
    own = {name: value for name, value in params.items() if name not in ("inputResponses", "requestState", "_meta")}
    text = json.dumps([method, own], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def seal(secret: bytes, payload: dict[str, Any], *, bound_to: str, owner: str, expires_s: int) -> str:
    """The state as the client will carry it."""
    body = json.dumps({"v": payload, "d": bound_to, "o": owner, "e": expires_s}, separators=(",", ":")).encode()
    text = base64.urlsafe_b64encode(body).decode().rstrip("=")
    return f"{VERSION}.{text}.{_sign(secret, text)}"


def unseal(secret: bytes, state: object, *, bound_to: str, owner: str, now_s: int) -> dict[str, Any]:
    """The payload of a state that was sealed here; raises InvalidParamsError (-32602) for any other."""
    parts = state.split(".") if isinstance(state, str) and state.isascii() else []
    if len(parts) != 3 or parts[0] != VERSION or not hmac.compare_digest(_sign(secret, parts[1]), parts[2]):
        raise InvalidParamsError("Invalid requestState: it was not issued by this server")
    try:
        body = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        payload, bound, whose, expires_s = body["v"], body["d"], body["o"], body["e"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise InvalidParamsError("Invalid requestState: it cannot be read") from None
    if bound != bound_to or whose != owner:
        raise InvalidParamsError("Invalid requestState: it belongs to another request")
    if now_s > expires_s:
        raise InvalidParamsError("Invalid requestState: it has expired; send the request anew")
    if not isinstance(payload, dict):
        raise InvalidParamsError("Invalid requestState: it cannot be read")
    return payload


def _sign(secret: bytes, text: str) -> str:
    mac = hmac.new(secret, f"{VERSION}.{text}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")
