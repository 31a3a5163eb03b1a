"""Where a channel's requests go other than was asked: redirects, the old pair of endpoints, and for another token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from erlmcp.client.http_connection import Answer
from erlmcp.client.http_exchange import Post
from erlmcp.client.http_head import Heads, target_of
from erlmcp.client.http_stream import OldPair
from erlmcp.errors import ConnectionClosedError, ErlmcpError

if TYPE_CHECKING:
    from erlmcp.client.http_auth import Warden
    from erlmcp.client.http_limit import HttpLimits


class Detours:
    """A part of ``HttpChannel``."""

    url: str
    heads: Heads
    limits: HttpLimits
    _warden: Warden | None
    _old: OldPair | None
    _old_asks: Post | None
    _is_closed: bool

    def dispatch(self, post: Post) -> None:
        raise NotImplementedError

    def _end_conversation(self, error: ErlmcpError) -> None:
        raise NotImplementedError

    # ---- another token

    @property
    def login_s(self) -> float:
        """For how long a user may be waited for, beside the time that the server has."""
        return 0.0 if self._warden is None else self._warden.wait_s

    def authorize(self, post: Post, answer: Answer) -> bool:
        """Whether it is sent again with another token."""
        return self._warden is not None and self._warden.refused(post, answer.status, answer.headers)

    def authorize_aside(self, answer: Answer, then: Callable[[], None]) -> bool:
        """Whether ``then`` will be called, to ask for a stream again with another token."""
        shown, warden = self.heads.authorization, self._warden
        return warden is not None and warden.refused_aside(shown, answer.status, answer.headers, then)

    def authorized_aside(self) -> None:
        """A word or a stream was taken, with the token of now."""
        if self._warden is not None:
            self._warden.took_aside()

    # ---- redirects

    def follow(self, post: Post, answer: Answer) -> bool:
        """A 307 or 308 within our own origin is followed, and remembered for this channel: the body goes to nobody
        else, nor do the credentials."""
        base = urlsplit(self.url)
        location = urljoin(self.url, answer.headers.get("location", ""))
        found, target = urlsplit(location), target_of(location)
        is_ours = (found.scheme, found.netloc) == (base.scheme, base.netloc)
        if not is_ours or post.redirect_count >= self.limits.redirect_count_max or target == post.head.target:
            return False
        post.redirect_count += 1
        self.heads.set(target=target)
        try:
            post.head = self.heads.of_request(post.request)
            self.dispatch(post)
        except ErlmcpError as error:
            post.fail(error)
        return True

    # ---- the old pair of endpoints

    @property
    def is_old(self) -> bool:
        return self._old is not None

    def may_be_old(self) -> bool:
        return self._old is None and not self._is_closed

    def try_old(self, post: Post) -> None:
        self._old_asks = post
        try:
            self._old = OldPair(self)  # type: ignore[arg-type]  # it is an HttpChannel
        except ErlmcpError as error:
            post.fail(error)

    def begin_old(self, target: str) -> None:
        self.heads.set(target=target)
        post, self._old_asks = self._old_asks, None
        if post is not None and not post.is_over:
            post.head = self.heads.of_request(post.request)
            self.dispatch(post)

    def no_old_pair(self, error: ErlmcpError | None) -> None:
        self._old = None
        post, self._old_asks = self._old_asks, None
        if post is not None and not post.is_over:
            if error is not None:
                post.fail(error)
            else:
                post.not_old()

    def end_old(self, error: ErlmcpError) -> None:
        if self._old is not None:
            self._end_conversation(ConnectionClosedError(f"{self.url} broke its stream off: {error}"))
