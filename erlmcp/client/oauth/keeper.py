"""The token for one server, and who gets another one where it is wanted: once, however many want it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from erlmcp.client.oauth.challenge import Challenge
from erlmcp.client.oauth.token import GRANTED, Token, is_sendable
from erlmcp.errors import AuthorizationError, ConfigurationError, ErlmcpError

log = logging.getLogger("erlmcp.client.oauth")
Bearer = str | Callable[[], "str | Awaitable[str]"]


class Auth(Protocol):
    """What ``Client(auth=...)`` takes, beside a token and a function that gives one."""

    def keeper(self, url: str) -> Keeper:
        """Of the token for this server: the same one for all clients of it."""


class Keeper:
    """``token`` is what is shown now. ``wait_s`` is for how long a user may be waited for, 0.0 where none is asked."""

    wait_s = 0.0

    def __init__(self, url: str) -> None:
        self.url = url
        self.token: Token | None = None
        self._flight: asyncio.Task[None] | None = None
        self._waiting_count = 0

    async def load(self) -> None:
        """Take what was kept from before, and ask nobody."""

    def is_due(self, now_s: float) -> bool:
        """Whether the token should be renewed before it is used again, and can be without asking a user."""
        return False

    def may_help(self, challenge: Challenge, used: str, count: int) -> bool:
        """Whether another token may be let in where ``used`` was not; ``count`` were tried for this request."""
        token = self.token
        if token is None or token.value != used:
            return True
        if challenge.is_step_up:
            return bool(challenge.scopes) and not {*challenge.scopes} <= {*token.asked}
        return count == 0 or token.source != GRANTED

    async def renew(self, challenge: Challenge, used: str) -> None:
        """Have another token than ``used``. All who wait, wait for the same one. Raises AuthorizationError."""
        if self._flight is None:
            token = self.token
            is_other = token is not None and token.value != used
            if token is not None and is_other and (not challenge.is_step_up or {*challenge.scopes} <= {*token.asked}):
                return
            self._flight = asyncio.get_running_loop().create_task(self._fly(challenge), name="erlmcp-authorize")
            self._flight.add_done_callback(self._landed)
        flight = self._flight
        self._waiting_count += 1
        try:
            await asyncio.wait([flight])
        except asyncio.CancelledError:
            if self._waiting_count == 1:
                flight.cancel()
            raise
        finally:
            self._waiting_count -= 1
        if flight.cancelled():
            raise AuthorizationError(f"{self.url}: the authorization was given up")
        flight.result()

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # Who waits for it looks.

    async def _fly(self, challenge: Challenge) -> None:
        try:
            self.token = await self._get(challenge)
        except ErlmcpError:
            raise
        except Exception as error:
            # Of the program's own function, or of its store: what it says may be secret.
            log.debug("a token for %s could not be had", self.url, exc_info=True)
            raise AuthorizationError(f"{self.url}: no token could be had: {type(error).__name__}") from error

    async def _get(self, challenge: Challenge) -> Token:
        raise NotImplementedError

    async def forget(self) -> None:
        """Show no token any more, and keep none."""
        self.token = None


class BearerKeeper(Keeper):
    """A token that is given: by itself, or by a function that is asked first and wherever the last one is refused."""

    def __init__(self, url: str, given: Bearer) -> None:
        super().__init__(url)
        self._given = given

    async def load(self) -> None:
        if self.token is None:
            await self.renew(Challenge(), "")

    def may_help(self, challenge: Challenge, used: str, count: int) -> bool:
        is_fixed = isinstance(self._given, str) or challenge.is_step_up
        return (not is_fixed and count == 0) or (self.token is not None and self.token.value != used)

    async def _get(self, challenge: Challenge) -> Token:
        given: Any = self._given
        value = given
        if callable(given):
            value = given()
            if isinstance(value, Awaitable):
                value = await value
        if not is_sendable(value):
            raise AuthorizationError(f"{self.url}: what was given is no token: visible ASCII without blanks is wanted")
        return Token(value)


class BearerAuth:
    """One token for whatever server."""

    def __init__(self, given: Bearer) -> None:
        if isinstance(given, str) and not is_sendable(given):
            raise ConfigurationError("auth is no token: visible ASCII without blanks, and no 'Bearer' before it")
        self._given = given

    def keeper(self, url: str) -> Keeper:
        return BearerKeeper(url, self._given)


def as_auth(given: Any) -> Auth:
    """ConfigurationError for what is neither a token, nor a function, nor a way to get one."""
    if isinstance(given, str) or (callable(given) and not hasattr(given, "keeper")):
        return BearerAuth(given)
    if hasattr(given, "keeper"):
        found: Auth = given
        return found
    raise ConfigurationError(f"auth is a token, a function that gives one, or OAuth(...), got {type(given).__name__}")
