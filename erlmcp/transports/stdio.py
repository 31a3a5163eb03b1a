"""MCP over standard input and output: newline-delimited JSON on file descriptors that nothing else writes to.

No reader threads: pipes, sockets and terminals are watched by the event loop; a regular file (or /dev/null) as
standard input, which no selector can watch and no read blocks on, is read a chunk per loop turn. A stray ``print`` of
the author's code goes to standard error: descriptor 1 is pointed there, and the wire keeps a private duplicate.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import sys
from collections import deque
from typing import TYPE_CHECKING

from erlmcp.transports.stream import BACKLOG, WRITING

if TYPE_CHECKING:
    from erlmcp.runtime.parts import Parts
    from erlmcp.transports.stream import ByteLink, LinkFactory

# A read's buffer: a larger one is taken from the kernel and given back each time, which costs three system calls. It
# grows while reads fill it.
READ_BYTES = 64 * 1024
READ_BYTES_MAX = 1024 * 1024
PARTS_MAX = 64  # of one system call
PIPE_BYTES = 1024 * 1024  # what a pipe is asked to hold, once an answer did not fit into it (the default is 64 KiB)


def take_descriptors() -> tuple[int, int]:
    """(input, output) for the wire, private to it; 0 then reads nothing and 1 goes to standard error."""
    sys.stdout.flush()
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return read_fd, write_fd


def _is_watchable(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))


class StdioConnection:
    """One conversation over two file descriptors. ``finished`` is done when the input ended or the output broke."""

    def __init__(
        self, make: LinkFactory, read_fd: int, write_fd: int, *, outbox_bytes_max: int, drain_timeout_s: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._outbox_bytes_max = outbox_bytes_max
        self._queue: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._read_bytes = READ_BYTES
        self._widened = False
        self._drain_timeout_s = drain_timeout_s
        self._stops = 0  # why it is not read from: WRITING, BACKLOG
        self._ending = False  # the input ended, and what was answered still leaves
        self._watchable = _is_watchable(read_fd)
        self._write_watchable = _is_watchable(write_fd)
        self._was_blocking = {fd: os.get_blocking(fd) for fd in (read_fd, write_fd)}
        self.finished: asyncio.Future[None] = self._loop.create_future()
        if self._watchable:
            os.set_blocking(read_fd, False)
        if self._write_watchable and not os.isatty(write_fd):
            os.set_blocking(write_fd, False)
        self.link: ByteLink = make(self.write)
        self.link.write_parts = self.write_parts
        self.link.pace(self)
        self._read_on()

    # -- reading -------------------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        if self._watchable:
            self._loop.add_reader(self._read_fd, self._readable)
        else:
            self._loop.call_soon(self._read_chunk)

    def pause(self) -> None:
        """What was read waits for its turn, and is enough."""
        self._stop(BACKLOG)

    def resume(self) -> None:
        self._go(BACKLOG)

    def _stop(self, why: int) -> None:
        if not self._stops and self._watchable and not self.finished.done():
            self._loop.remove_reader(self._read_fd)
        self._stops |= why

    def _go(self, why: int) -> None:
        was, self._stops = self._stops, self._stops & ~why
        if was and not self._stops and not self.finished.done() and not self._ending:
            self._read_on()

    def _readable(self) -> None:
        try:
            data = os.read(self._read_fd, self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            full = len(data) == self._read_bytes
            self._read_bytes = min(self._read_bytes * 4, READ_BYTES_MAX) if full else READ_BYTES
            self.link.feed(data)
        else:
            self.link.finish()
            self._end()

    def _read_chunk(self) -> None:
        if self.finished.done() or self._stops:
            return
        self._readable()
        if not self.finished.done() and not self._stops:
            self._loop.call_soon(self._read_chunk)

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write at once what the pipe takes; keep the rest, and read no more requests until it is gone."""
        if self._queue:
            self._enqueue(memoryview(data))
            return
        try:
            written = os.write(self._write_fd, data)
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError as error:
            self._finish(f"output broke: {error.strerror}")
            return
        if written < len(data):
            self._enqueue(memoryview(data)[written:])

    def write_parts(self, parts: Parts) -> None:
        """As ``write``, for what comes in pieces: one system call for all of them, and no copy of what is kept."""
        views = [memoryview(part) for part in parts]
        written = 0
        if not self._queue:
            try:
                written = os.writev(self._write_fd, views[:PARTS_MAX])
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self._finish(f"output broke: {error.strerror}")
                return
        for view in views:
            if written < len(view):
                self._enqueue(view[written:])
            written = max(0, written - len(view))

    def _enqueue(self, rest: memoryview) -> None:
        if not self._widened:
            self._widened = True
            self._widen()
        self._queue.append(rest)
        self._queued_bytes += len(rest)
        if self._queued_bytes > self._outbox_bytes_max:
            self._finish(f"the client does not read: outbox_bytes_max={self._outbox_bytes_max} passed")
            return
        if not self._stops & WRITING:
            self._stop(WRITING)
            self.link.hold(True)
            if self._write_watchable:
                self._loop.add_writer(self._write_fd, self._drain)
            else:
                self._loop.call_soon(self._drain)

    def _widen(self) -> None:
        """Let the output pipe hold more: each time it is full costs a wake-up of both processes."""
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self._write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def _drain(self) -> None:
        while self._queue and not self.finished.done():
            head = self._queue[0]
            try:
                written = os.write(self._write_fd, head)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._finish(f"output broke: {error.strerror}")
                return
            self._queued_bytes -= written
            if written == len(head):
                self._queue.popleft()
            else:
                self._queue[0] = head[written:]
        if self.finished.done():
            return
        if self._write_watchable:
            self._loop.remove_writer(self._write_fd)
        if self._ending:
            self._stops &= ~WRITING
            self._finish("end of input")
            return
        self._go(WRITING)
        self.link.hold(False)  # which may stop reading again

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """The input has ended: what runs is cancelled, what was answered is written whole."""
        if not self._queue:
            self._finish("end of input")
            return
        self._ending = True
        self.link.close("end of input")
        self._loop.call_later(self._drain_timeout_s, self._finish, "the client does not read")

    def _finish(self, reason: str) -> None:
        if self.finished.done():
            return
        self.finished.set_result(None)
        if self._watchable and not self._stops:
            self._loop.remove_reader(self._read_fd)
        if self._write_watchable and self._stops & WRITING:
            self._loop.remove_writer(self._write_fd)
        self.link.close(reason)

    def close(self) -> None:
        """End the conversation and give the descriptors back as they were."""
        self._finish("the server stopped")
        for fd, blocking in self._was_blocking.items():
            with contextlib.suppress(OSError):
                os.set_blocking(fd, blocking)
