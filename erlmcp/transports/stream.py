"""Raw TCP and Unix sockets with newline framing: one MCP conversation per connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Callable
from typing import Protocol, cast

from erlmcp.errors import ConfigurationError
from erlmcp.runtime.parts import Parts, write_parts
from erlmcp.runtime.roll import Roll

log = logging.getLogger("erlmcp.stream")


WRITING, BACKLOG = 1, 2  # why a connection is not read from
PAUSE_BYTES = 64 * 1024  # what asyncio and uvloop pause at by themselves


class Pacer(Protocol):
    """The reading side of a connection: what its link asks of it."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class ByteLink(Protocol):
    """What a byte-stream transport drives."""

    closed: bool
    write_parts: Callable[[Parts], None] | None

    @property
    def patience_s(self) -> float | None: ...
    def pace(self, pacer: Pacer) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def hold(self, held: bool) -> None: ...
    def close(self, reason: str = ...) -> None: ...


LinkFactory = Callable[[Callable[[bytes], None]], ByteLink]


class StreamProtocol(asyncio.Protocol):
    """Bytes of a socket to a link, and back. A client that does not read its answers is not read from any more."""

    def __init__(
        self,
        make: LinkFactory,
        open_connections: Roll[StreamProtocol],
        connection_count_max: int,
        outbox_bytes_max: int,
        outbox_pause_bytes: int,
    ) -> None:
        self._make = make
        self._open = open_connections
        self._connection_count_max = connection_count_max
        self._outbox_bytes_max = outbox_bytes_max
        self._outbox_pause_bytes = outbox_pause_bytes
        self._patience: asyncio.TimerHandle | None = None  # with a client that does not read
        self._stops = 0  # why it is not read from: WRITING, BACKLOG
        self.place = 0
        self.transport: asyncio.Transport | None = None
        self.link: ByteLink | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if len(self._open) >= self._connection_count_max:
            self.transport.abort()
            return
        self._open.add(self)
        self.link = self._make(self.write)
        self.link.write_parts = self.write_parts
        self.link.pace(self)
        self.data_received = self.link.feed  # type: ignore[method-assign]  # one call less per read
        if self._outbox_pause_bytes != PAUSE_BYTES:
            self.transport.set_write_buffer_limits(self._outbox_pause_bytes)
        self.transport.set_protocol(self)  # uvloop looked data_received up before it was set.
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, data: bytes) -> None:
        """Send; a client that does not read what is sent without its asking is cut off at ``outbox_bytes_max``."""
        assert self.transport is not None
        self.transport.write(data)
        if self._stops & WRITING:
            self._check_outbox()

    def write_parts(self, parts: Parts) -> None:
        """As ``write``, for what comes in pieces."""
        assert self.transport is not None
        write_parts(self.transport, parts)
        if self._stops & WRITING:
            self._check_outbox()

    def _check_outbox(self) -> None:
        assert self.transport is not None
        if self.transport.get_write_buffer_size() > self._outbox_bytes_max:
            log.warning("a client does not read its messages: outbox_bytes_max=%d passed", self._outbox_bytes_max)
            self.transport.abort()

    def pause_writing(self) -> None:
        self._stop(WRITING)
        if self.link is not None:
            self.link.hold(True)
            self._wait(self._unsent())

    def _unsent(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def _wait(self, unsent: int) -> None:
        patience_s = self.link.patience_s if self.link is not None else None
        if patience_s is not None:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(patience_s, self._lose_patience, unsent, patience_s)

    def _lose_patience(self, before: int, patience_s: float) -> None:
        """A client that read something meanwhile is waited for once more."""
        self._patience = None
        unsent = self._unsent()
        if unsent < before:
            self._wait(unsent)
        elif self.transport is not None:
            log.warning("a client does not read: outbox_timeout_s=%g passed with %d bytes unsent", patience_s, unsent)
            self.transport.abort()

    def _calm(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def resume_writing(self) -> None:
        self._calm()
        self._go(WRITING)
        if self.link is not None:
            self.link.hold(False)  # which may stop reading again

    def pause(self) -> None:
        """What was read waits for its turn, and is enough."""
        self._stop(BACKLOG)

    def resume(self) -> None:
        self._go(BACKLOG)

    def _stop(self, why: int) -> None:
        if not self._stops and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self._stops |= why

    def _go(self, why: int) -> None:
        was, self._stops = self._stops, self._stops & ~why
        if was and not self._stops and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> None:
        """The client sends no more: what it sent is answered before the connection closes."""
        if self.link is not None:
            self.link.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._calm()
        if self.link is not None:
            self.link.close("the client closed the connection" if exc is None else f"the connection was lost: {exc}")

    def close(self) -> None:
        """Stop reading, answer what was read, let what was written leave, close."""
        if self.transport is not None:
            if self.link is not None:
                self.link.finish()
            self.transport.close()


async def listen_tcp(
    make: LinkFactory,
    host: str,
    port: int,
    *,
    connection_count_max: int,
    outbox_bytes_max: int,
    outbox_pause_bytes: int = PAUSE_BYTES,
) -> Listener:
    """Listen on a TCP port; raises OSError where it cannot be had."""
    loop = asyncio.get_running_loop()
    connections: Roll[StreamProtocol] = Roll()
    server = await loop.create_server(
        lambda: StreamProtocol(make, connections, connection_count_max, outbox_bytes_max, outbox_pause_bytes),
        host,
        port,
    )
    return Listener(server, connections)


async def listen_unix(
    make: LinkFactory,
    path: str,
    *,
    connection_count_max: int,
    outbox_bytes_max: int,
    outbox_pause_bytes: int = PAUSE_BYTES,
) -> Listener:
    """Listen on a Unix socket that only this user can reach. A socket file that nobody answers on is taken over."""
    loop = asyncio.get_running_loop()
    connections: Roll[StreamProtocol] = Roll()
    server = await loop.create_unix_server(
        lambda: StreamProtocol(make, connections, connection_count_max, outbox_bytes_max, outbox_pause_bytes),
        sock=bind_unix(path),
    )
    return Listener(server, connections, path)


def bind_unix(path: str) -> socket.socket:
    """A bound Unix socket with mode 0600; raises ConfigurationError where the path is in use or no socket."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ConfigurationError(f"{path} exists and is not a socket; choose another path")
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
        else:
            raise ConfigurationError(f"another server is listening on {path}; choose another path")
        finally:
            probe.close()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


class Listener:
    """A listening socket and its connections."""

    def __init__(
        self, server: asyncio.AbstractServer, connections: Roll[StreamProtocol], unix_path: str | None = None
    ) -> None:
        self._server = server
        self.connections = connections
        self._unix_path = unix_path

    @property
    def port(self) -> int:
        """The TCP port, also where 0 was asked for."""
        return cast(int, cast(asyncio.Server, self._server).sockets[0].getsockname()[1])

    async def close(self, drain_timeout_s: float = 0.0) -> None:
        """Accept no more, close every connection. Answers already written still leave."""
        self._server.close()
        for connection in self.connections:
            connection.close()
        if self._unix_path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._unix_path)
