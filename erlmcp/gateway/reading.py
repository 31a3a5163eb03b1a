"""Reads of resources: what was read and still holds, one load for many who ask at once, else as any other request.

One load serves several where that is sound: its answer may be older than the question of who joined it, so it is given
to the others only where its upstream says that it holds for a while (``ttlMs``), and only to those whom its scope
allows: private answers are kept by caller, and so are loads. An answer that is not to be kept is the first one's alone;
the others ask by themselves then, and the next who ask for that resource do not wait for each other. A failure is
everybody's.

A load is a request of nobody's: who leaves takes it from no other, and with the last of them it is cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.errors import (
    INVALID_PARAMS,
    RESOURCE_NOT_FOUND_LEGACY,
    McpError,
    NoBackChannelError,
    ResourceNotFoundError,
)
from erlmcp.gateway.cache import is_plain
from erlmcp.gateway.translate import result_for_legacy, with_prefix
from erlmcp.runtime.exchange import Exchange
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.gateway.access import Caller
    from erlmcp.gateway.mount import Mount
    from erlmcp.gateway.service import GatewayService
    from erlmcp.gateway.upstream import Upstream
    from erlmcp.runtime.session import Session

UNKEPT_COUNT_MAX: Final = 10_000  # resources that are known not to be kept
Place = tuple[str, str, str]  # an upstream (and with whose credential), a caller, a URI


class Reads:
    """``loads`` are the reads under way that others may join."""

    def __init__(self, service: GatewayService) -> None:
        self._service = service
        self._unkept: dict[tuple[str, str], None] = {}
        self.loads: dict[Place, Load] = {}

    def relay(self, exchange: Exchange) -> None:
        """Answer ``resources/read``."""
        service = self._service
        caller = service.caller_of(exchange)
        mount = service.mount_of(exchange, caller)
        upstream = service.gateway.upstream_for(mount.upstream, caller)
        if not upstream.config.cache or not is_plain(exchange):
            service.relay(exchange)
            return
        place = upstream.place, service.whose(exchange, caller), mount.exposed
        if self._give_kept(exchange, place, mount, caller):
            upstream.cache_hit_count += 1
            return
        upstream.cache_miss_count += 1
        load = self.loads.get(place)
        if load is not None:
            load.join(exchange)
        elif self._may_share(upstream, place):
            self._begin(exchange, place)
        else:
            service.relay(exchange)

    def _may_share(self, upstream: Upstream, place: Place) -> bool:
        """Whether an answer of there may serve others, too: no handshake revision has a word for that."""
        line = upstream.quick()
        return line is not None and line.is_modern and (place[0], place[2]) not in self._unkept

    def _begin(self, exchange: Exchange, place: Place) -> None:
        load = self.loads[place] = Load(self, place, exchange)
        load.join(exchange)
        aside: Any = Aside(exchange.session)
        shadow = Exchange(exchange.call, exchange.peer, aside, load, exchange.headers)  # type: ignore[arg-type]
        shadow.began_ns = 0  # those who asked are counted, and it is not
        load.shadow = shadow
        try:
            self._service.relay(shadow)
        except Exception as error:
            shadow.fail(error)

    def _give_kept(self, exchange: Exchange, place: Place, mount: Mount, caller: Caller) -> bool:
        """Whether there was an answer that holds."""
        gateway = self._service.gateway
        kept = gateway.answers.find(*place)
        if kept is None:
            return False
        if gateway.audit is not None:
            gateway.audit.note(mount, m.RESOURCES_READ, caller, "cached", 0.0, None)
        if prefix := mount.upstream.config.uri_prefix:
            kept = with_prefix(kept, prefix)
        exchange.result(kept if exchange.peer.modern else result_for_legacy(kept))
        return True

    def keep(self, upstream: Upstream, exchange: Exchange, mount: Mount, call: Call, asked_ns: int) -> None:
        """An upstream of 2026-07-28 answered a read of that time."""
        service = self._service
        if upstream.config.cache and is_plain(exchange):
            whose = service.whose(exchange, service.caller_of(exchange))
            if service.gateway.answers.keep(upstream.place, whose, mount.exposed, call, asked_ns):
                self._unkept.pop((upstream.place, mount.exposed), None)
            else:
                self.keeps_not(upstream.place, mount.exposed)

    def keeps_not(self, upstream: str, uri: str) -> None:
        """The next who ask for it do not wait for each other."""
        if len(self._unkept) >= UNKEPT_COUNT_MAX:
            self._unkept.clear()
        self._unkept[upstream, uri] = None

    def again(self, exchange: Exchange) -> None:
        """Who waited for a load that is nothing for it asks by itself: what was kept by now is looked at first."""
        try:
            self.relay(exchange)
        except Exception as error:
            exchange.fail(error)

    def clear(self) -> None:
        self._unkept.clear()


class Load:
    """One read and those who wait for it; it is the channel on which that read is answered."""

    kind = "gateway"

    def __init__(self, reads: Reads, place: Place, first: Exchange) -> None:
        self._reads = reads
        self._place = place
        self._first = first
        self._joined: dict[Exchange, None] = {}
        self.shadow: Exchange | None = None

    def join(self, exchange: Exchange) -> None:
        self._joined[exchange] = None
        exchange.waits(Joined(self, exchange), None)  # type: ignore[arg-type]  # it can be cancelled, as a task can

    def leave(self, exchange: Exchange) -> None:
        """It was cancelled."""
        self._joined.pop(exchange, None)
        if not self._joined and self.shadow is not None:
            self._end()
            self.shadow.cancel()

    def _end(self) -> list[Exchange]:
        """Nobody joins any more; who waits."""
        if self._reads.loads.get(self._place) is self:
            del self._reads.loads[self._place]
        joined, self._joined = list(self._joined), {}
        return [each for each in joined if not each.done]

    def _others(self, joined: list[Exchange]) -> None:
        for exchange in joined:
            if exchange is not self._first:
                self._reads.again(exchange)

    # -- what an exchange asks of a channel ----------------------------------------------------------------------------

    def result(self, id_raw: bytes, value: object) -> None:
        joined = self._end()
        if self._first in joined:
            self._first.result(value)
        self._others(joined)

    def whole(self, message: bytes, code: int = 0) -> None:
        joined = self._end()
        if code:
            found: Any = core.decode(message)
            error = found["error"]
            fault = _fault(self._place[2], code, str(error.get("message")), error.get("data"))
            for exchange in joined:
                if exchange is not self._first:
                    exchange.fail(fault)
            joined = [each for each in joined if each is self._first]
        if self._first in joined:
            self._first.whole(message, code)
        self._others(joined)

    def error(self, id_raw: bytes, code: int, message: str, data: object) -> None:
        fault = _fault(self._place[2], code, message, data)
        for exchange in self._end():
            exchange.fail(fault)

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        """Logs of the one read, for those who want some."""
        for exchange in list(self._joined):
            exchange.notify(method, params)

    def drop(self) -> None:
        """It was cancelled, as the last who waited for it has left."""

    def beat(self) -> None:
        """Those who wait are kept alive by their own channels."""

    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None:
        """Who asked first is asked, and the answer will be that client's alone: the others read by themselves."""
        joined = self._end()
        is_there = self._first in joined
        if is_there:
            self._joined[self._first] = None
        self._reads.keeps_not(self._place[0], self._place[2])
        self._others(joined)
        if not is_there:
            raise NoBackChannelError(f"{method}: who began the read has left")
        self._first.channel.ask(id, method, params)


class Aside:
    """The session of who asked first, which knows nothing of the read: neither by its id nor at its end."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def remember(self, exchange: Exchange) -> None:
        """It is remembered by its load."""

    def forget(self, exchange: Exchange) -> None:
        """As it was not remembered."""


class Joined:
    """The place of one who waits for a load."""

    __slots__ = ("_exchange", "_load")

    def __init__(self, load: Load, exchange: Exchange) -> None:
        self._load = load
        self._exchange = exchange

    def done(self) -> bool:
        return self._exchange.done

    def cancel(self, *_: object) -> None:
        self._load.leave(self._exchange)


def _fault(uri: str, code: int, message: str, data: object) -> McpError:
    """An error answer, as each era writes it."""
    if code == RESOURCE_NOT_FOUND_LEGACY or (code == INVALID_PARAMS and isinstance(data, dict) and "uri" in data):
        return ResourceNotFoundError(uri, message)
    return McpError(code, message, data)
