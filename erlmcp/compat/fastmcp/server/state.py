"""The state of a tool that asks by an InputRequiredResult, as it travels: sealed for this call and this caller."""

from __future__ import annotations

import time
from typing import Any

from erlmcp.errors import InvalidParamsError
from erlmcp.server.context import Context, owner_of
from erlmcp.server.input import STATE_LIFE_S
from erlmcp.wire.seal import digest, seal, unseal

KEY = "fastmcp"


class StateError(InvalidParamsError):
    """A state that was not sealed here for this call, or is too old: the call is refused, whatever the tool makes of
    it."""

    def __init__(self) -> None:
        super().__init__("Invalid or expired requestState", {"reason": "invalid_request_state"})


def sealed(state: str, context: Context) -> str:
    """The state as the client is to bring it back."""
    server: Any = context.server
    return seal(
        server.state_secret,
        {KEY: state},
        bound_to=digest(context.method, context.params),
        owner=owner_of(context),
        expires_s=int(time.time()) + STATE_LIFE_S,
    )


def unsealed(context: Context) -> str | None:
    """The state that the client brought back, or None. Raises StateError."""
    given = context.params.get("requestState")
    if given is None:
        return None
    bound_to, owner = digest(context.method, context.params), owner_of(context)
    try:
        payload = unseal(context.server.state_secret, given, bound_to=bound_to, owner=owner, now_s=int(time.time()))
    except InvalidParamsError as error:
        raise StateError from error
    found = payload.get(KEY)
    return found if isinstance(found, str) else None
