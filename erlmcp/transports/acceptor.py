"""Listening sockets whose connections are read and written by a poller, instead of by the loop's own transports."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erlmcp.transports.poller import Poller

BACKLOG = 1024
RETRY_S = 1.0  # after a connection for which there was no descriptor or no memory
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


async def bind_tcp(host: str | None, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """A bound socket for each address that the host has; raises OSError where one cannot be had."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as failed:
        bound = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError:
                continue  # of a family that this kernel does not have
            failed.callback(sock.close)
            _bind(sock, address, reuse_port)
            bound.append(sock)
        if not bound:
            raise OSError(errno.EADDRNOTAVAIL, f"no address of host {host!r} can be listened on")
        failed.pop_all()
    return bound


def _bind(sock: socket.socket, address: object, reuse_port: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # or it would take IPv4's port as well
    try:
        sock.bind(address)  # type: ignore[arg-type]
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None


class Acceptor:
    """Bound sockets that are listened on; what is accepted goes to the poller."""

    def __init__(self, poller: Poller, make: Callable[[], asyncio.Protocol], sockets: list[socket.socket]) -> None:
        self.sockets = tuple(sockets)
        self._poller = poller
        self._make = make
        self._loop = poller.loop
        self._retries: dict[socket.socket, asyncio.TimerHandle] = {}
        for sock in sockets:
            sock.setblocking(False)
            sock.listen(BACKLOG)
            self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        self._retries.pop(sock, None)
        self._loop.add_reader(sock.fileno(), self._accept, sock)

    def _accept(self, sock: socket.socket) -> None:
        try:
            self._poller.accept(sock.fileno(), self._make)
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._loop.remove_reader(sock.fileno())
            self._retries[sock] = self._loop.call_later(RETRY_S, self._begin, sock)
            self._loop.call_exception_handler(
                {"message": f"no connection can be accepted for {RETRY_S:g} s: out of resources", "exception": error}
            )

    def close(self) -> None:
        """Accept no more. The connections stay; the poller ends with the last of them."""
        for sock in self.sockets:
            retry = self._retries.pop(sock, None)
            if retry is not None:
                retry.cancel()
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock.fileno())
                sock.close()
        self._poller.finish()
