"""The connections to one endpoint: lent last-in first-out, opened by demand, closed by idleness, age and surplus.

It is a list and not ``erlmcp.core.Pool``: an idle connection leaves at the moment its peer closes it, and the number
that is kept follows the load; ``erlmcp.policy.size`` decides on it. What waits for a connection stands in one line,
answers to the server's own requests before all else. When a connection cannot be opened, those who wait fail only
where no other connection could serve them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from erlmcp.client.http_connection import Exchange, HttpConnection
from erlmcp.client.http_endpoint import Endpoint
from erlmcp.client.http_limit import HttpLimits
from erlmcp.client.http_proxy import Proxy, open_tunnel
from erlmcp.client.tls import Tls, make_context
from erlmcp.errors import ConnectionClosedError, ErlmcpError, LimitError
from erlmcp.flags import Flags
from erlmcp.policy.size import PoolSize
from erlmcp.runtime.roll import Roll

log = logging.getLogger("erlmcp.client.http")

BEAT_S: Final = 1.0


class HttpPool:
    """The connections to one endpoint. For one event loop."""

    def __init__(self, endpoint: Endpoint, limits: HttpLimits | None = None, flags: Flags | None = None) -> None:
        self.endpoint = endpoint
        self.use_flags(flags := flags or Flags.load())
        self.limits = limits = limits or HttpLimits()
        self.url = f"{endpoint.scheme}://{endpoint.authority}"
        count_min = limits.connection_count_min if flags.prewarm and self.is_keeping else 0
        self.size = PoolSize(count_min, limits.connection_count_max, limits.opening_count_max)
        self.sent_total = self.opened_total = self.closed_total = self.failed_total = 0
        self._connections: Roll[Any] = Roll()
        self._idle: list[HttpConnection] = []
        self._shared: list[Any] = []  # HTTP/2
        self._aside: deque[Exchange] = deque()
        self._waiting: deque[Exchange] = deque()
        self._openings: set[asyncio.Task[ErlmcpError | None]] = set()
        self._opening_count = self._spare_count = 0
        self._idle_low = 0
        self._tick = 0
        self._beat: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.waited: Callable[[int], object] | None = None  # told for how many ns an exchange waited for a connection
        self._drained = asyncio.Event()
        self._over: dict[Exchange, int] = {}  # that hold a connection all the same: since which tick
        self.leaked_total = 0
        self._watch: weakref.finalize[Any, Any] | None = None
        # Whether a connection carries one exchange at a time: not known before TLS has told.
        self._is_known = not endpoint.http2

    def use_flags(self, flags: Flags) -> None:
        """Other flags, from the next exchange on."""
        self.flags = flags
        self.is_keeping = flags.pooling and flags.keepalive  # a connection of HTTP/1.1 for the next exchange

    def stats(self) -> dict[str, int | float]:
        """Counters of now, and since the beginning; ``reuse`` is the share of exchanges on connections that were open
        already."""
        return {
            "count": len(self._connections),
            "idle_count": len(self._idle),
            "opening_count": self._opening_count,
            "waiting_count": len(self._waiting) + len(self._aside),
            "opened_total": self.opened_total,
            "sent_total": self.sent_total,
            "closed_total": self.closed_total,
            "failed_total": self.failed_total,
            "leaked_total": self.leaked_total,
            "reuse": max(0.0, 1 - self.opened_total / self.sent_total) if self.sent_total else 0.0,
        }

    @property
    def is_http2(self) -> bool:
        """Whether its connections carry many exchanges each, as far as that is known."""
        return bool(self._shared)

    def members(self) -> Iterator[Any]:
        """The open connections, which may come and go meanwhile."""
        return iter(self._connections) if self.flags.iterators else iter(list(self._connections))

    # ---- sending

    def send(self, exchange: Exchange) -> None:
        """Start it on a free connection, or have it wait for one. LimitError where too many wait."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if len(idle) < self._idle_low:
                self._idle_low = len(idle)
            if connection.tick == self._tick or connection.is_alive():
                self.sent_total += 1
                connection.start(exchange)
                return
            connection.abort()
        self._send_slowly(exchange)

    def _send_slowly(self, exchange: Exchange) -> None:
        if self._is_closed:
            raise ConnectionClosedError(f"the connections to {self.url} were closed")
        if self._starts_on_shared(exchange):
            return
        if len(self._waiting) >= self.limits.waiter_count_max:
            raise LimitError("waiter_count_max", self.limits.waiter_count_max, f"too many wait for {self.url}")
        if self.waited is not None:
            exchange.since_ns = time.perf_counter_ns()
        (self._aside if exchange.is_aside else self._waiting).append(exchange)
        self._grow()

    def _starts_on_shared(self, exchange: Exchange) -> bool:
        """Whether a connection that carries several at a time has taken it."""
        for connection in self._shared:
            if connection.room > 0:
                self.sent_total += 1
                connection.start(exchange)
                return True
        return False

    def send_apart(self, exchange: Exchange) -> None:
        """Start it on a connection of its own, beyond the count: it lasts as long as the conversation."""
        if self._is_closed:
            raise ConnectionClosedError(f"the connections to {self.url} were closed")
        if self._starts_on_shared(exchange):
            return
        self._begin(exchange)

    def drop(self, exchange: Exchange) -> None:
        """Nobody wants it any more; it may be waiting."""
        for line in (self._aside, self._waiting):
            if exchange in line:
                line.remove(exchange)

    @property
    def _count(self) -> int:
        return len(self._connections) - self._spare_count

    def _grow(self) -> None:
        """Open what those who wait need and the policy allows."""
        now_ns = time.monotonic_ns()
        waiting = len(self._waiting) + len(self._aside)
        if self._shared:
            waiting = -(-waiting // self.limits.stream_count_max)
        self.size.observe(now_ns, self._count - len(self._idle) + waiting)
        count = self.size.growth(now_ns, self._count, self._opening_count, waiting, is_known=self._is_known)
        for _ in range(count):
            self._begin()
        if self._aside and not self._opening_count and self._spare_count < self.limits.spare_count_max:
            self._begin(self._aside.popleft())

    def _begin(self, exchange: Exchange | None = None) -> asyncio.Task[ErlmcpError | None]:
        """Open one: a member, or a spare one for this exchange."""
        self._start_beat()
        if exchange is None:
            self._opening_count += 1
        task = asyncio.get_running_loop().create_task(self._open(exchange), name="erlmcp-http-open")
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)
        return task

    # ---- opening

    async def _open(self, exchange: Exchange | None = None) -> ErlmcpError | None:
        """Why there is no connection; None where there is one."""
        try:
            connection = await self._connect()
        except ErlmcpError as error:
            self._opening_count -= exchange is None
            self._fail(error, exchange)
            return error
        except BaseException:
            self._opening_count -= exchange is None
            raise
        self._opening_count -= exchange is None
        return self._admit(connection, exchange)

    def _admit(self, connection: Any, exchange: Exchange | None) -> ErlmcpError | None:
        if not connection.is_open:
            error = connection.fault or ConnectionClosedError(f"{self.url} closed the connection at once")
            self._fail(error, exchange)
            return error
        self.opened_total += 1
        self.size.opened()
        self._is_known = True
        connection.is_spare = exchange is not None and not connection.is_shared
        connection.opened_s = time.monotonic()
        connection.tick = self._tick
        self._spare_count += connection.is_spare
        self._connections.add(connection)
        if self._is_closed:
            connection.close()
        elif connection.is_shared:
            self._shared.append(connection)
            if exchange is not None and not exchange.is_over:
                self._aside.appendleft(exchange)
            self.serve(connection)
        elif exchange is not None and not exchange.is_over:
            self.sent_total += 1
            connection.start(exchange)
        else:
            self.release(connection)
        return None

    async def _connect(self) -> Any:
        """An open connection. ConnectionClosedError, or what else the server did, says why there is none."""
        endpoint, limits = self.endpoint, self.limits
        made: Any = None
        try:
            async with asyncio.timeout(limits.connect_timeout_s) as scope:
                context, name = self._tls()
                loop = asyncio.get_running_loop()
                if endpoint.proxy is not None and endpoint.is_tunnelled:
                    made = await self._connect_through(endpoint.proxy, context, name)
                elif endpoint.unix is not None:
                    _, made = await loop.create_unix_connection(
                        self._make, endpoint.unix, ssl=context, server_hostname=name
                    )
                else:
                    at = endpoint.proxy or endpoint
                    _, made = await loop.create_connection(
                        self._make, at.host, at.port, ssl=context, server_hostname=name
                    )
                made = made.successor or made
                if made.is_shared:
                    await made.settled.wait()
        except BaseException as error:
            if made is not None:
                made.abort()
            if not isinstance(error, OSError):
                raise
            self.failed_total += 1
            if isinstance(error, TimeoutError) and scope.expired():
                what = f"connect_timeout_s={limits.connect_timeout_s:g} passed"
            else:
                what = _reason(error) + (f" (through the proxy {endpoint.proxy})" if endpoint.proxy else "")
            raise ConnectionClosedError(f"cannot reach {self.url}: {what}") from error
        return made

    async def _connect_through(self, proxy: Proxy, context: ssl.SSLContext | None, name: str | None) -> Any:
        """A connection within a tunnel. Raises OSError; nothing is left open then."""
        transport: asyncio.BaseTransport | None
        transport = outer = await open_tunnel(proxy, self.endpoint, self.limits.head_bytes_max)
        made = self._make()
        try:
            if context is None:
                outer.set_protocol(made)
            else:
                loop = asyncio.get_running_loop()
                transport = await loop.start_tls(outer, made, context, server_hostname=name)
            made.connection_made(transport)
        except BaseException:
            outer.abort()
            raise
        return made

    def _make(self) -> Any:
        if self.endpoint.http2 and self.endpoint.scheme == "http":
            from erlmcp.client.http2 import Http2Connection

            return Http2Connection(self)
        return HttpConnection(self)

    def _tls(self) -> tuple[ssl.SSLContext | None, str | None]:
        """The context, and the name that the certificate must be for."""
        endpoint = self.endpoint
        if endpoint.scheme != "https":
            return None, None
        tls = endpoint.tls
        if isinstance(tls, ssl.SSLContext):
            return tls, endpoint.host
        tls = tls or Tls()
        return make_context(tls, offers_http2=endpoint.http2), tls.server_name or endpoint.host

    def _fail(self, error: ErlmcpError, exchange: Exchange | None) -> None:
        self.size.failed(time.monotonic_ns())
        if exchange is not None:
            exchange.lost(error, is_unsent=True, is_stale=False)
        elif not self._count and not self._opening_count:
            # Nothing else could serve them.
            lost = [*self._aside, *self._waiting]
            self._aside.clear()
            self._waiting.clear()
            for item in lost:
                item.lost(error)

    # ---- giving back

    def release(self, connection: HttpConnection) -> None:
        """Its exchange is over, and it can carry another one."""
        if (exchange := self._next()) is not None:
            self.sent_total += 1
            connection.start(exchange)
        elif self._is_closed or (connection.is_spare and self._count >= self.limits.connection_count_max):
            connection.close()
        else:
            if connection.is_spare:
                connection.is_spare = False
                self._spare_count -= 1
            connection.tick = self._tick
            self._idle.append(connection)

    def _next(self) -> Exchange | None:
        """The first in the line whom somebody still waits for."""
        for line in (self._aside, self._waiting):
            while line:
                exchange = line.popleft()
                if not exchange.is_over:
                    if exchange.since_ns and self.waited is not None:
                        self.waited(max(1, time.perf_counter_ns() - exchange.since_ns))
                        exchange.since_ns = 0
                    return exchange
        return None

    def serve(self, connection: Any) -> None:
        """A connection that carries many exchanges has room for those who wait."""
        while connection.room > 0 and (exchange := self._next()) is not None:
            self.sent_total += 1
            connection.start(exchange)

    def forget(self, connection: Any) -> None:
        """It is closed."""
        if connection in self._connections:
            self._connections.discard(connection)
            self._spare_count -= connection.is_spare
            self.closed_total += 1
        self.retire(connection)
        if not self._connections:
            self._drained.set()
        if (self._waiting or self._aside) and not self._is_closed:
            self._grow()

    def retire(self, connection: Any) -> None:
        """It takes no new exchanges."""
        if connection in self._shared:
            self._shared.remove(connection)
        elif connection in self._idle:
            self._idle.remove(connection)

    # ---- upkeep

    def _start_beat(self) -> None:
        if self._beat is None and not self._is_closed:
            self._beat = asyncio.get_running_loop().call_later(BEAT_S, self._keep_up)

    def _keep_up(self) -> None:
        """Once a second: close the old, the idle and the surplus; open up to ``connection_count_min``."""
        limits, now_ns = self.limits, time.monotonic_ns()
        now_s = now_ns / 1e9
        self._tick += 1
        self._beat = asyncio.get_running_loop().call_later(BEAT_S, self._keep_up)
        self.size.observe(now_ns, self._count - min(self._idle_low, len(self._idle)))
        surplus = self.size.surplus(now_ns, self._count, len(self._idle))
        leaving = self._idle[:surplus]  # of the bottom: the longest unused
        for connection in self._idle[surplus:]:
            is_idle = (self._tick - connection.tick) * BEAT_S > limits.idle_s
            is_needed = self._count - len(leaving) <= limits.connection_count_min
            if now_s - connection.opened_s > limits.age_s or (is_idle and not is_needed):
                leaving.append(connection)
        for connection in leaving:
            self._idle.remove(connection)
            connection.close()
        for connection in [item for item in self._connections if item.is_shared]:
            connection.keep_up(now_s, limits, self._count <= limits.connection_count_min)
        self._idle_low = len(self._idle)
        self._reclaim()
        if self._waiting or self._aside:
            self._grow()  # what could not be opened before
        for _ in range(self.size.shortage(now_ns, self._count + self._opening_count)):
            self._begin()

    def _reclaim(self) -> None:
        """Find what is over and holds its connection all the same, for ``leak_s``, and take that back."""
        held = self._over
        self._over = {}
        for connection in [*self._connections]:
            for exchange in connection.exchanges():
                if not exchange.is_over:
                    continue
                since = self._over[exchange] = held.get(exchange, self._tick)
                held_s = (self._tick - since) * BEAT_S
                if held_s >= self.limits.leak_s:
                    del self._over[exchange]
                    self.leaked_total += 1
                    what = "%s: %s was over and held a connection for %.0f s more; it is taken back"
                    log.warning(what, self.url, exchange.what, held_s)
                    connection.abandon(exchange)

    def watch(self, owner: object) -> None:
        """Close everything where the owner is dropped without having closed it."""
        loop, opened_s = asyncio.get_running_loop(), time.monotonic()

        def deserted() -> None:  # in any thread
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._desert, opened_s)

        self._unwatch()
        self._watch = weakref.finalize(owner, deserted)
        self._watch.atexit = False

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.detach()
            self._watch = None

    def _desert(self, opened_s: float) -> None:
        if self._is_closed:
            return
        what = "%s: a channel was dropped and never closed, %.0f s after it was opened; %d connections are taken back"
        log.warning(what, self.url, time.monotonic() - opened_s, len(self._connections))
        self.leaked_total += len(self._connections)
        self._is_closed = True
        if self._beat is not None:
            self._beat.cancel()
        for task in [*self._openings]:
            task.cancel()
        for connection in [*self._connections]:
            connection.abort()

    async def warm(self) -> None:
        """Open up to ``connection_count_min``, and at least one, at the same time: name, TCP and TLS are done before
        the first call. Raises ConnectionClosedError where not even one can be opened."""
        self._start_beat()
        wanted = max(1, self.limits.connection_count_min) - self._count
        if not self._is_known:
            wanted = min(1, wanted)
        if wanted > 0:
            done, _ = await asyncio.wait([self._begin() for _ in range(wanted)])
            errors = [error for task in done if (error := task.result()) is not None]
            if len(errors) == len(done):
                raise errors[0]

    async def aclose(self) -> None:
        """Close all; what waits is lost. Those that do not close in time are aborted."""
        self._is_closed = True
        self._unwatch()
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        for task in [*self._openings]:
            task.cancel()
        if self._openings:
            await asyncio.wait(self._openings)
        lost = [*self._aside, *self._waiting]
        self._aside.clear()
        self._waiting.clear()
        for exchange in lost:
            exchange.lost(ConnectionClosedError(f"the connections to {self.url} were closed"))
        self._drained.clear()
        for connection in [*self._connections]:
            connection.close()
        if self._connections:
            try:
                async with asyncio.timeout(self.limits.close_timeout_s):
                    await self._drained.wait()
            except TimeoutError:
                for connection in [*self._connections]:
                    connection.abort()
                await self._drained.wait()  # of the next turn: an abort waits for nobody


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) or not error.errno or error.errno < 0:  # below 0: of the resolver
        return str(error) or type(error).__name__
    return os.strerror(error.errno)
