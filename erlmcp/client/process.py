"""Servers started as processes, spoken to over their standard input and output.

The descriptors are watched by the event loop itself; no thread, no transport object between. The process leads a
session and a process group of its own: a Ctrl-C in the terminal is the client's, and what the server started ends with
it. Its death is known at once, by a pidfd where the system has one, by a thread that waits for it where not.

Order of an end. Ours: standard input is closed; after ``close_timeout_s`` SIGTERM to the group, after
``term_timeout_s`` SIGKILL. Whatever ended it, the rest of the group is killed *before* the leader is reaped: until then
its number cannot be anybody else's. What it had written before it died is read first: an answer that was sent counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from erlmcp.client.bound import ClientLimits
from erlmcp.client.pipe import Pipe, closed_by_us
from erlmcp.client.stream import reason_of
from erlmcp.errors import ConnectionClosedError, LimitError, ServerExitedError
from erlmcp.flags import Flags

if TYPE_CHECKING:
    from erlmcp.client.channel import Front

READ_BYTES: Final = 64 * 1024
READ_BYTES_MAX: Final = 1024 * 1024
STDERR_LINES_SHOWN: Final = 10
EXIT_WAIT_S: Final = 1.0  # a server that closed its output is given so long to tell its exit status
# What a server is given of our environment where its entry does not say; the rest may hold secrets.
ENVIRONMENT: Final = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")


class ProcessChannel(Pipe):
    """``command`` is the program and its arguments. ``env`` is added to the harmless part of our environment
    (``ENVIRONMENT``), or to all of it with ``inherit_env``."""

    kind = "stdio"  # what metrics call it

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        inherit_env: bool = False,
        cwd: str | os.PathLike[str] | None = None,
        limits: ClientLimits | None = None,
        flags: Flags | None = None,
        json_rpc_batch: bool = False,
    ) -> None:
        super().__init__(limits, flags, json_rpc_batch=json_rpc_batch)
        self.command = list(command)
        self._env = {key: value for key, value in os.environ.items() if inherit_env or key in ENVIRONMENT}
        self._env.update(env or {})
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = bytearray()

    @property
    def pid(self) -> int | None:
        """The process's number while it is open."""
        return None if self._process is None else self._process.pid

    @property
    def stderr(self) -> str:
        """The latest that the server wrote to its standard error, at most ``stderr_bytes_max``."""
        return self._stderr.decode(errors="replace")

    # -- the beginning -------------------------------------------------------------------------------------------------

    async def open(self, front: Front) -> None:
        self._begin()
        self._stderr.clear()
        try:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise ConnectionClosedError(f"cannot start {shlex.join(self.command)}: {reason_of(error)}") from error
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._opened(front)
        self._process = process
        self._in, self._out, self._err = process.stdin.fileno(), process.stdout.fileno(), process.stderr.fileno()
        for fd in (self._in, self._out, self._err):
            os.set_blocking(fd, False)
        self._is_writable = True
        self._fate: asyncio.TimerHandle | None = None  # ends the conversation with a server that lives and is mute
        self._readers = {self._out, self._err}
        self._chunks: deque[memoryview] = deque()
        self._chunk_bytes = 0
        self._read_bytes = READ_BYTES
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._out, self._read_out)
        self._loop.add_reader(self._err, self._read_err)
        self._watch(process.pid)

    def _watch(self, pid: int) -> None:
        try:
            self._pidfd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            self._pidfd = -1
            loop, died = self._loop, self._died

            def wait() -> None:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                with contextlib.suppress(RuntimeError):  # The loop is closed: nobody is left to tell.
                    loop.call_soon_threadsafe(died)

            threading.Thread(target=wait, name=f"erlmcp-wait-{pid}", daemon=True).start()
        else:
            self._loop.add_reader(self._pidfd, self._died)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _read_out(self) -> None:
        try:
            data = os.read(self._out, self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            full = len(data) == self._read_bytes
            self._read_bytes = min(self._read_bytes * 4, READ_BYTES_MAX) if full else READ_BYTES
            self.feed(data)
        else:
            self._unread(self._out)
            self._expect_exit("closed its standard output")

    def _read_err(self) -> None:
        try:
            data = os.read(self._err, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._unread(self._err)
            return
        self._stderr += data
        del self._stderr[: -self.limits.stderr_bytes_max]

    def _unread(self, fd: int) -> None:
        if fd in self._readers:
            self._readers.discard(fd)
            self._loop.remove_reader(fd)

    # -- writing -------------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if not self._is_writable:
            return
        if self._chunks:
            self._keep(memoryview(data))
            return
        try:
            written = os.write(self._in, data)
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError:
            self._broken()
            return
        if written < len(data):
            self._keep(memoryview(data)[written:])

    def _keep(self, rest: memoryview) -> None:
        self._chunks.append(rest)
        self._chunk_bytes += len(rest)
        if self._chunk_bytes > self._unread_max:
            limit = LimitError("outbox_bytes_max", self.limits.outbox_bytes_max, "the server does not read")
            self._lose(partial(ConnectionClosedError, f"{self.command[0]}: {limit}"))
        elif not self._is_paused:
            self._pause()
            self._loop.add_writer(self._in, self._drain)

    def _drain(self) -> None:
        while self._chunks:
            head = self._chunks[0]
            try:
                written = os.write(self._in, head)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._broken()
                return
            self._chunk_bytes -= written
            if written < len(head):
                self._chunks[0] = head[written:]
            else:
                self._chunks.popleft()
        self._loop.remove_writer(self._in)
        self._resume()

    def _broken(self) -> None:
        """Nobody reads what we write. It has died, which will be known in a moment, or closed its standard input."""
        self._close_input()
        self._expect_exit("closed its standard input")

    def _close_input(self) -> None:
        if self._is_writable:
            self._is_writable = False
            if self._chunks:
                self._loop.remove_writer(self._in)
                self._chunks.clear()
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.close()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _expect_exit(self, what: str) -> None:
        if self._fate is None and self._lost is None:
            self._fate = self._loop.call_later(EXIT_WAIT_S, self._ended, what)

    def _ended(self, what: str) -> None:
        """It lives, and does not talk any more."""
        self._lose(partial(ConnectionClosedError, f"{shlex.join(self.command)} {what}{self._last_words()}"))

    def _last_words(self) -> str:
        lines = self.stderr.strip().splitlines()[-STDERR_LINES_SHOWN:]
        return "; its standard error ended with:\n" + "\n".join(lines) if lines else ""

    def _died(self) -> None:
        """It has exited and is not reaped yet."""
        process = self._process
        if process is None or self._exited.done():
            return
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        self._read_rest()
        self._signal(signal.SIGKILL)
        code = process.wait()
        for fd in (self._out, self._err):
            self._unread(fd)
        self._close_input()
        for file in (process.stdout, process.stderr):
            assert file is not None
            file.close()
        self._process = None
        if self._fate is not None:
            self._fate.cancel()
        how = f"was ended by signal {-code} ({_name_of(-code)})" if code < 0 else f"exited with status {code}"
        message = f"{shlex.join(self.command)} {how}{self._last_words()}"
        self._exited.set_result(code)
        self._lose(partial(ServerExitedError, message, code, self.stderr))

    def _read_rest(self) -> None:
        """What the pipes hold; not to their end, which a child of the server's may keep open."""
        for fd, read in ((self._out, self._read_out), (self._err, self._read_err)):
            for _ in range(READ_BYTES_MAX // 4096):
                if fd not in self._readers or not _has_data(fd):
                    break
                read()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def aclose(self) -> None:
        process = self._process
        if process is None:
            return
        if self._lost is None:
            self._flush()
        self._lose(closed_by_us, by_us=True)
        if self._chunks:
            self._chunks.clear()
            self._loop.remove_writer(self._in)
        self._close_input()
        limits = self.limits
        number: int | None
        for number, wait_s in (
            (None, limits.close_timeout_s),
            (signal.SIGTERM, limits.term_timeout_s),
            (signal.SIGKILL, limits.kill_timeout_s),
        ):
            if number is not None and self._process is not None:
                self._signal(number)
            try:
                await asyncio.wait([self._exited], timeout=wait_s)
            except asyncio.CancelledError:
                self._signal(signal.SIGKILL)
                raise
            if self._exited.done():
                return


def _has_data(fd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(0))


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
