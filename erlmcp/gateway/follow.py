"""Who downstream hears of which resources, and what that needs upstream."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from erlmcp.errors import ErlmcpError
from erlmcp.gateway.line import Line, Voice
from erlmcp.runtime.session import Session
from erlmcp.runtime.subscription import Hub
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.gateway.access import Caller
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.upstream import Upstream
    from erlmcp.runtime.exchange import Exchange

Who = object  # a handshake session, or the exchange of a listen stream


class GatewayHub(Hub):
    """Tells the upstreams, too, when somebody does not listen any more."""

    __slots__ = ("_gateway",)

    def __init__(self, gateway: Gateway, count_max: int) -> None:
        super().__init__(count_max)
        self._gateway = gateway

    def leave(self, session: Session) -> None:
        super().leave(session)
        self._gateway.session_ended(session)

    def stop(self, exchange: Exchange) -> None:
        super().stop(exchange)
        self._gateway.followers.leave(exchange)


class Followers:
    """Subscriptions to single resources, by who has them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._of: dict[Who, dict[str, Upstream | Line]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    async def follow(self, who: Who, uri: str, exchange: Exchange, caller: Caller) -> None:
        """Hear of a resource until ``drop`` or ``leave``. McpError where nobody has it, or who has it refuses."""
        gateway = self._gateway
        caller.demand(uri)
        if uri in self._of.get(who, {}):
            return
        mount = gateway.mounts.by_uri(uri)
        upstream = gateway.upstream_for(mount.upstream, caller)
        line = await upstream.shared()
        where: Upstream | Line = upstream
        if isinstance(who, Session) and not line.is_modern:
            line, _ = await gateway.line_for(exchange, upstream, line, gateway.service.may_share)
            if line.session is who:
                await line.conversation.ask(m.SUBSCRIBE, {"uri": mount.name})
                where = line
        if where is upstream:
            await upstream.hearing.hold(mount.name)
        self._of.setdefault(who, {})[uri] = where

    async def subscribe(self, uris: set[str], uri: str, exchange: Exchange, caller: Caller) -> None:
        """``follow`` for a session, whose ``uris`` hold it from the beginning: the same may be asked for meanwhile, or
        taken back."""
        session = exchange.session
        uris.add(uri)
        try:
            await self.follow(session, uri, exchange, caller)
        except BaseException:
            uris.discard(uri)
            raise
        if exchange.done or uri not in uris:
            uris.discard(uri)
            self.drop(session, uri)

    def drop(self, who: Who, uri: str) -> None:
        where = self._of.get(who, {}).pop(uri, None)
        if isinstance(where, Line):
            talk = where.talk
            if talk is not None:
                talk.spawn(_unsubscribe(where, uri.removeprefix(where.upstream.config.uri_prefix)))
        elif where is not None:
            where.hearing.drop(uri.removeprefix(where.config.uri_prefix))
        if not self._of.get(who, True):
            del self._of[who]

    def move(self, old: Upstream, new: Upstream) -> None:
        """An upstream gave way to another. Its shared line hears of what was followed there; what a session heard on a
        line of its own, that hears until the session has its next one."""
        for who, held in self._of.items():
            for uri, where in held.items():
                if where is old:
                    self._share(held, uri, new)
                elif isinstance(where, Line) and where.upstream is old and isinstance(who, Session):
                    self._share(held, uri, new)
                    new.spawn(self._renew(who, uri, where.voice, new))

    def lost(self, line: Line) -> None:
        """A session's own line was lost: what it heard there it hears on the shared one from now on."""
        held = self._of.get(line.session, {})
        for uri, where in held.items():
            if where is line:
                self._share(held, uri, line.upstream)

    @staticmethod
    def _share(held: dict[str, Upstream | Line], uri: str, upstream: Upstream) -> None:
        """From now on a resource is heard of on the shared line."""
        held[uri] = upstream
        upstream.hearing.take_over(uri.removeprefix(upstream.config.uri_prefix))
        upstream.start()

    async def _renew(self, session: Session, uri: str, voice: Voice, upstream: Upstream) -> None:
        """Have a session hear of a resource on a line of its own again, where it may have one."""
        with contextlib.suppress(ErlmcpError):
            shared = await upstream.shared()
            if shared.is_modern or self._of.get(session, {}).get(uri) is not upstream:
                return
            name = uri.removeprefix(upstream.config.uri_prefix)
            line = await upstream.owned(session, voice)
            await line.conversation.ask(m.SUBSCRIBE, {"uri": name})
            held = self._of.get(session, {})
            if held.get(uri) is upstream:
                held[uri] = line
                upstream.hearing.drop(name)
            elif uri not in (session.resources or ()):  # It was given up meanwhile.
                await line.conversation.ask(m.UNSUBSCRIBE, {"uri": name})

    def leave(self, who: Who) -> None:
        for uri in list(self._of.get(who, ())):
            self.drop(who, uri)


async def _unsubscribe(line: Line, uri: str) -> None:
    with contextlib.suppress(ErlmcpError):
        await line.conversation.ask(m.UNSUBSCRIBE, {"uri": uri})
