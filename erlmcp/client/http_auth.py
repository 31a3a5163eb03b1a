"""What stands between a channel's requests and the token that they need.

A request that is refused for its token (401, or 403 with ``insufficient_scope``) was not acted on. It is held back
while another token is got, and sent again with that; so is what comes meanwhile, and what comes while a token is about
to end. While a user may have to be asked, time stands still for what is held.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from erlmcp.client.oauth.challenge import Challenge, bearer_of
from erlmcp.client.oauth.keeper import Keeper, as_auth
from erlmcp.errors import ConfigurationError, ErlmcpError, HttpStatusError

if TYPE_CHECKING:
    from erlmcp.client.http import HttpChannel
    from erlmcp.client.http_exchange import Post
    from erlmcp.client.http_pool import HttpPool
    from erlmcp.client.oauth.token import Token

log = logging.getLogger("erlmcp.client.oauth")

SECOND_NS: Final = 1_000_000_000
AUTHORIZE_COUNT_MAX: Final = 3  # tokens that are tried for one request
EARLY: Final = Challenge()  # nobody was refused: the token is about to end
QUIET_S: Final = 10.0  # after a token could not be renewed that is good for a while still


@dataclass(slots=True)
class _Held:
    """``challenge`` is why it waits, None where it waits for what others wait for; ``lefts`` what each request of the
    post had of its time left."""

    challenge: Challenge | None
    post: Post | None = None
    lefts: tuple[tuple[Post, int], ...] = ()
    then: Callable[[], None] | None = None


class Warden:
    """Of one channel. For what it calls back: the channel's ``dispatch``."""

    def __init__(self, channel: HttpChannel, keeper: Keeper) -> None:
        self._channel = channel
        self._keeper = keeper
        self._token: Token | None = None  # that the heads show
        self._held: list[_Held] = []
        self._task: asyncio.Task[None] | None = None
        self._is_stepping = False  # what is under way is for single requests; the others go on
        self._is_releasing = False  # What was renewed just now is shown, however short it lives.
        self._is_aside_refused = False
        self._quiet_until_s = 0.0

    @property
    def wait_s(self) -> float:
        """For how long a user may be waited for."""
        return self._keeper.wait_s

    async def begin(self) -> None:
        await self._keeper.load()
        self._show()

    def close(self) -> None:
        """What is held belongs to the channel, which fails it."""
        self._held.clear()
        if self._task is not None:
            self._task.cancel()

    def _show(self) -> None:
        token = self._keeper.token
        if token is not self._token:
            self._token = token
            self._channel.heads.authorize("" if token is None else f"Bearer {token.value}")

    def admits(self, post: Post) -> bool:
        """Whether it may be sent now, with the token of now; if not, it will be, or fails."""
        if self._task is not None and not self._is_stepping:
            self._hold(post, None)
            return False
        if not self._is_releasing and self._keeper.is_due(time.time()) and time.monotonic() >= self._quiet_until_s:
            self._hold(post, EARLY)
            return False
        self._show()
        heads = self._channel.heads
        if post.shown != heads.authorization:
            post.head, post.shown = heads.of_request(post.request), heads.authorization
        return True

    def refused(self, post: Post, status: int, headers: Mapping[str, str]) -> bool:
        """Whether another token may help; then it is sent again, or fails."""
        challenge = bearer_of(headers.get("www-authenticate", ""))
        if not self._may_help(challenge, status, post.shown, post.authorize_count):
            return False
        post.authorize_count += 1
        self._hold(post, challenge)
        return True

    def refused_aside(self, shown: str, status: int, headers: Mapping[str, str], then: Callable[[], None]) -> bool:
        """The same of a word or a stream that was sent with ``shown``; ``then`` is called once there is another token,
        or cannot be. Once, until one of them is taken: who takes the requests may take no stream at all."""
        challenge = bearer_of(headers.get("www-authenticate", ""))
        if not self._may_help(challenge, status, shown, 0):
            return False
        if shown != self._channel.heads.authorization:
            asyncio.get_running_loop().call_soon(then)
            return True
        if self._task is None:
            if self._is_aside_refused:
                return False
            self._is_aside_refused = True
        self._add(_Held(challenge, then=then))
        return True

    def took_aside(self) -> None:
        self._is_aside_refused = False

    def _may_help(self, challenge: Challenge, status: int, shown: str, count: int) -> bool:
        if status not in (401, 403) or (status == 403 and not challenge.is_step_up) or count >= AUTHORIZE_COUNT_MAX:
            return False
        return self._keeper.may_help(challenge, shown.removeprefix("Bearer "), count)

    # ---- what waits

    def _hold(self, post: Post, challenge: Challenge | None) -> None:
        lefts = []
        if self._keeper.wait_s:
            now_ns = time.monotonic_ns()
            for each in post.members:
                due_ns = each.request.deadline_ns
                if due_ns is not None:
                    lefts.append((each, due_ns - now_ns))
                    each.request.deadline_ns = due_ns + int(self._keeper.wait_s * SECOND_NS)
        self._add(_Held(challenge, post, tuple(lefts)))

    def _add(self, held: _Held) -> None:
        self._held.append(held)
        if self._task is None:
            # At the end of this turn: what else is refused within it is asked for at the same time.
            self._task = asyncio.get_running_loop().create_task(self._work(), name="erlmcp-http-authorize")

    async def _work(self) -> None:
        wanted = [each.challenge for each in self._held if each.challenge is not None]
        error = await self._renew(reduce(Challenge.joined, wanted), is_early=all(each is EARLY for each in wanted))
        held, self._held = self._held, []
        self._release(held, error)

    async def _renew(self, challenge: Challenge, *, is_early: bool) -> ErlmcpError | None:
        token = self._token
        self._is_stepping = challenge.is_step_up
        try:
            await self._keeper.renew(challenge, "" if token is None else token.value)
        except ErlmcpError as error:
            if not is_early or token is None or time.time() >= token.expires_s:
                return error
            log.warning("%s: the token could not be renewed, and serves on: %s", self._channel.url, error)
            self._quiet_until_s = time.monotonic() + QUIET_S
        return None

    def _release(self, held: list[_Held], error: ErlmcpError | None) -> None:
        self._task = None  # What is sent now is not to be held again for what is over.
        self._show()
        self._is_releasing = True
        try:
            self._send(held, error)
        finally:
            self._is_releasing = False

    def _send(self, held: list[_Held], error: ErlmcpError | None) -> None:
        for each in held:
            for post, left_ns in each.lefts:
                self._channel.due_again(post, left_ns)
            if each.then is not None:
                each.then()
            if each.post is None or each.post.is_over:
                continue
            if error is not None:
                each.post.fail(error)
                continue
            try:
                self._channel.dispatch(each.post)
            except ErlmcpError as refusal:
                each.post.fail(refusal)


def warden_of(channel: HttpChannel, auth: Any, headers: Mapping[str, str], pool: HttpPool | None) -> Warden | None:
    """ConfigurationError where two would say who calls."""
    if auth is None:
        return None
    if any(name.lower() == "authorization" for name in headers):
        raise ConfigurationError("auth says who calls, so headers must not have an Authorization")
    if pool is not None:
        raise ConfigurationError("connections are shared for one credential, and auth may give others; leave out pool")
    return Warden(channel, as_auth(auth).keeper(channel.url))


def status_of(error: ErlmcpError | None) -> tuple[int, Mapping[str, str]]:
    return (error.status, error.headers) if isinstance(error, HttpStatusError) else (0, {})
