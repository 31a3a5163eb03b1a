"""Sockets read and written straight, by an epoll of their own within the loop's. On Linux, where it is compiled."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

class Poller:
    """Reads and writes the sockets that it accepts; ``live`` are their transports. ``loop`` is the running loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def live(self) -> set[SocketTransport]: ...
    def turn(self) -> None:
        """Serve the sockets that have something, a number of them that is bounded: the loop calls it."""
    def accept(self, fd: int, make: Callable[[], asyncio.Protocol]) -> None:
        """Accept what waits on a listening socket that does not block, and give each a protocol. Raises OSError where
        there is no more to be had, of descriptors or of memory."""
    def finish(self) -> None:
        """Nothing is accepted any more: it ends with the last transport."""

class SocketTransport(asyncio.Transport):
    """A stream socket's transport, as ``asyncio.Transport`` says; not for a ``BufferedProtocol``.

    What is written leaves before ``write`` returns, as far as the socket takes it. Not a subclass at run time.
    """

    writes_at_once: bool
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket``, ``sockname`` and ``peername``."""
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all of them, by one system call where it takes them."""
