"""What an upstream tells by itself: that a list is another, that a resource is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from erlmcp.client.subscription import Subscription
from erlmcp.errors import ErlmcpError, McpError
from erlmcp.gateway.mount import CHANGED_OF, LISTS, fetch
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.gateway.line import Line
    from erlmcp.gateway.upstream import Upstream

log = logging.getLogger("erlmcp.gateway")


class Hearing:
    """Keeps the lists of one upstream as they are there, and the subscriptions to its resources open."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._dirty: set[str] = set()
        self._held: dict[str, int] = {}  # URIs that somebody downstream is subscribed to
        self._following: dict[str, asyncio.Task[None]] = {}

    def begin(self, line: Line) -> None:
        """Hear what is told on a line that is new."""
        if line.is_modern:
            self._upstream.spawn(self._listen(line))
        for uri in self._held:
            self._follow(uri, line)

    def changed(self, line: Line, method: str, params: dict[str, Any]) -> None:
        """A list, or a resource, is not what it was."""
        if method == m.RESOURCE_UPDATED:
            uri = params.get("uri")
            if isinstance(uri, str):
                self._upstream.gateway.upstream_updated(line, uri)
            return
        if method == m.RESOURCES_CHANGED:
            self._upstream.gateway.answers.drop(self._upstream.place)
        if not self._dirty:
            self._upstream.spawn(self._refresh())
        self._dirty.update(CHANGED_OF[method])

    async def _refresh(self) -> None:
        """Read again what changed; what changes meanwhile, too."""
        upstream = self._upstream
        while self._dirty:
            await asyncio.sleep(0)  # Notifications of one read are one change.
            line, kinds = self._upstream.quick(), sorted(self._dirty)
            self._dirty.clear()
            if line is None:
                return
            try:
                upstream.catalog = {**upstream.catalog, **await fetch(line.conversation, kinds)}
            except ErlmcpError as error:
                log.warning("the lists of %s could not be read again: %s", self._upstream.name, error)
                return
            self._upstream.gateway.rebuild()

    async def _listen(self, line: Line) -> None:
        """Of a 2026-07-28 server: hear of changes of its lists, for as long as the line lasts."""
        offered = line.conversation.capabilities
        methods = frozenset(
            method for method, kinds in CHANGED_OF.items() if _tells(offered, LISTS[kinds[0]][2], "listChanged")
        )
        if methods:
            await self._subscribed(line, methods, frozenset())

    @staticmethod
    async def _subscription(line: Line, methods: frozenset[str], uris: frozenset[str]) -> Subscription:
        async def connect() -> Any:
            return line.conversation

        return await Subscription(connect, methods, uris).open()

    async def _subscribed(
        self, line: Line, methods: frozenset[str], uris: frozenset[str], events: Subscription | None = None
    ) -> None:
        """Keep a subscription open; it may be there already."""
        while not line.gone.done():
            try:
                async with contextlib.aclosing(events or await self._subscription(line, methods, uris)) as opened:
                    async for _ in opened:
                        pass  # The line heard it first.
            except ErlmcpError as error:
                log.debug("%s does not tell of changes: %s", self._upstream.name, error)
                if isinstance(error, McpError):
                    return
            events = None
            await asyncio.wait([line.gone], timeout=self._upstream.config.restart_s)

    # -- subscriptions to resources ------------------------------------------------------------------------------------

    async def hold(self, uri: str) -> None:
        """One more downstream wants to hear of a resource. Raises McpError where the upstream refuses."""
        self._count(uri)
        if uri in self._following:
            return
        try:
            line = await self._upstream.shared()
            events = await self._subscription(line, frozenset(), frozenset([uri]))
        except BaseException:
            self.drop(uri)
            raise
        self._follow(uri, line, events)

    def take_over(self, uri: str) -> None:
        """One more wants to hear of a resource, and nobody waits for that: the line that is up asks, or the next."""
        self._count(uri)
        line = self._upstream.quick()
        if line is not None and uri not in self._following:
            self._follow(uri, line)

    def _count(self, uri: str) -> None:
        self._held[uri] = self._held.get(uri, 0) + 1

    def _follow(self, uri: str, line: Line, events: Subscription | None = None) -> None:
        before = self._following.get(uri)
        if before is not None:
            before.cancel()
        task = self._upstream.spawn(self._subscribed(line, frozenset(), frozenset([uri]), events))
        if events is not None:
            task.add_done_callback(lambda _task: self._end(line, events))
        self._following[uri] = task

    def _end(self, line: Line, events: Subscription) -> None:
        """A task that is cancelled before it begins runs nothing, not even what would close its subscription."""
        if not events.is_over and not line.gone.done():
            self._upstream.spawn(events.aclose())

    def drop(self, uri: str) -> None:
        count = self._held.get(uri, 0)
        if count > 1:
            self._held[uri] = count - 1
            return
        self._held.pop(uri, None)
        task = self._following.pop(uri, None)
        if task is not None:
            task.cancel()


def _tells(offered: dict[str, Any], capability: str, what: str) -> bool:
    found = offered.get(capability)
    return isinstance(found, dict) and found.get(what) is True
