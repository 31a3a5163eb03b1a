"""JSON-RPC arrays over HTTP (2025-03-26): the requests of a turn of the loop in one POST.

A bundle is an exchange over many posts, each of which stays what it is: in the correlation under its id, with a
deadline and an end of its own. What happens to the exchange happens to all of them that are not over; when the last of
them is given up, nobody wants the rest of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from erlmcp.client.channel import Request
from erlmcp.client.http_exchange import Post
from erlmcp.errors import ErlmcpError
from erlmcp.spec.version import BATCH_VERSION

if TYPE_CHECKING:
    from erlmcp.client.http import HttpChannel
    from erlmcp.client.http_connection import RequestHead
    from erlmcp.core import Call


class Turn:
    """What is sent within a turn of the loop, until its end."""

    def __init__(self, channel: HttpChannel) -> None:
        self._channel = channel
        self._posts: list[Post] = []

    def add(self, post: Post) -> None:
        if not self._posts:
            asyncio.get_running_loop().call_soon(self._leave)
        self._posts.append(post)

    def _leave(self) -> None:
        """As few arrays as the limits allow; one request by itself is none."""
        channel, limits = self._channel, self._channel.limits
        posts, self._posts = [post for post in self._posts if not post.is_over], []
        group: list[Post] = []
        size = 0
        for post in posts:
            size += len(post.body or b"")
            if group and (len(group) >= limits.batch_count_max or size > limits.request_bytes_max):
                channel.dispatch_all(group)
                group, size = [], len(post.body or b"")
            group.append(post)
        if group:
            channel.dispatch_all(group)


def turn_of(channel: HttpChannel) -> Turn | None:
    """What gathers the channel's requests into arrays, where flags, revision and the user want that."""
    is_wanted = channel.json_rpc_batch and channel.flags.aggregation and channel.heads.version == BATCH_VERSION
    return Turn(channel) if is_wanted else None


class Joint(Request):
    """The requests of a bundle as one: sent together, and again only if each may be."""

    __slots__ = ("_requests",)

    def __init__(self, requests: list[Request]) -> None:
        self._requests = requests
        future: Any = None  # nobody waits for it
        is_idempotent = all(request.is_idempotent for request in requests)
        super().__init__("a JSON-RPC array", None, future, is_idempotent=is_idempotent)

    @property
    def is_sent(self) -> bool:
        return any(request.is_sent for request in self._requests)

    @is_sent.setter
    def is_sent(self, value: bool) -> None:
        for request in self._requests:
            request.is_sent = value


class Bundle(Post):
    """Many posts in one exchange."""

    __slots__ = ("_posts",)

    def __init__(self, channel: HttpChannel, posts: list[Post], head: RequestHead) -> None:
        self._posts = posts
        body = b"[%b]" % b",".join(post.body or b"" for post in posts)
        joint = Joint([post.request for post in posts])
        super().__init__(channel, joint, head, body, posts[0].session)
        for post in posts:
            post.bundle = self

    @property
    def is_over(self) -> bool:
        return all(post.is_over for post in self._posts)

    @is_over.setter
    def is_over(self, value: bool) -> None:
        """It is what its posts are."""

    @property
    def members(self) -> Iterable[Post]:
        return [post for post in self._posts if not post.is_over]

    def settle(self, call: Call) -> None:
        """One answer to all: an error that names none of them."""
        for post in self.members:
            post.settle(call)

    def fail(self, error: ErlmcpError) -> None:
        for post in self.members:
            post.fail(error)

    def _what(self) -> str:
        return f"{len(self._posts)} requests in one array"
