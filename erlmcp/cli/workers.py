"""``--workers N``: a parent that keeps N processes serving behind one port.

The parent imports no server code and serves nothing: it holds the port, so that nobody else gets it, starts what ended
again (at once where it had lasted, else after a pause that doubles), and hands SIGTERM on, after which each drains. A
worker that ends before any of them ever served is a mistake that starting again does not mend.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from erlmcp.limits import Limits
from erlmcp.server.worker import VARIABLE, Place, bury_numbers

SECRET: Final = "ERLMCP_STATE_SECRET"
POLL_S: Final = 0.05
PAUSE_S, PAUSE_S_MAX = 0.2, 15.0
LASTED_S: Final = 10.0  # a worker that served for so long is started again at once
STOP_MORE_S: Final = 5.0  # beyond what a drain may take


def reserve(host: str, port: int) -> socket.socket:
    """A socket that holds a port for workers, and takes no connections itself. OSError where it cannot be had: another
    process listens there, workers of another parent among them."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, kind) as alone:  # Without SO_REUSEPORT: nobody else may be there.
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind(address)
        address = alone.getsockname()
    held = socket.socket(family, kind)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except BaseException:
        held.close()
        raise
    return held


class Child:
    """The place of one worker, and the process that has it now."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.process: subprocess.Popen[bytes] | None = None
        self.began_s = self.due_s = 0.0
        self.pause_s = PAUSE_S

    @property
    def has_served(self) -> bool:
        return os.path.exists(self.place.socket(self.place.index))


class Supervisor:
    """Runs ``command`` ``count`` times, each with its place in the environment, until SIGINT or SIGTERM."""

    def __init__(
        self, command: Sequence[str], count: int, port: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._command = list(command)
        self._clock = clock
        self._folder = tempfile.mkdtemp(prefix="erlmcp-workers-")  # mode 0700
        self.children = [Child(Place(index, count, self._folder, port)) for index in range(count)]
        self.start_count = 0
        self._environment = {SECRET: secrets.token_hex(32), **os.environ}
        self._has_served = False
        self._stop = threading.Event()

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop.set())
        try:
            while not self._stop.is_set():
                code = self.look()
                if code is not None:
                    return code
                self._stop.wait(POLL_S)
            return 0
        finally:
            self._end()
            shutil.rmtree(self._folder, ignore_errors=True)

    def look(self) -> int | None:
        """Start what is due, and see what ended; with what to end, where no worker can serve."""
        for child in self.children:
            process = child.process
            self._has_served = self._has_served or child.has_served
            if process is None:
                if self._clock() >= child.due_s:
                    self._start(child)
            elif process.poll() is not None:
                child.process = None
                bury_numbers(self._folder, process.pid)
                if not self._has_served:
                    return process.returncode if process.returncode > 0 else 1
                self._put_off(child, process.returncode)
        return None

    def _start(self, child: Child) -> None:
        environment = {**self._environment, VARIABLE: child.place.as_text()}
        child.process = subprocess.Popen(self._command, env=environment, start_new_session=True)
        child.began_s = self._clock()
        self.start_count += 1

    def _put_off(self, child: Child, code: int) -> None:
        now_s = self._clock()
        if now_s - child.began_s >= LASTED_S:
            child.pause_s, child.due_s = PAUSE_S, now_s
        else:
            child.due_s = now_s + child.pause_s
            child.pause_s = min(2 * child.pause_s, PAUSE_S_MAX)
        wait_s = child.due_s - now_s
        self._say(f"worker {child.place.index} ended with code {code}; another starts in {wait_s:.1f} s")

    def _end(self) -> None:
        """Let all drain side by side; what takes longer than that is killed."""
        running = [child.process for child in self.children if child.process is not None]
        for process in running:
            process.terminate()
        until_s = time.monotonic() + Limits.load().drain_timeout_s + STOP_MORE_S
        for process in running:
            try:
                process.wait(max(0.0, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"a worker (process {process.pid}) did not end, and is killed")
                process.kill()
                process.wait()

    @staticmethod
    def _say(text: str) -> None:
        sys.stderr.write(f"erlmcp: {text}\n")
        sys.stderr.flush()
