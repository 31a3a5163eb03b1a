"""``--reload``: a parent that watches files and restarts the child which serves.

The parent looks at modification times a few times a second: that costs nothing that matters for a project's own
files, works on every file system, and needs no package. It imports no server code, so what it restarts is always
fresh.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

POLL_S: Final = 0.4
STOP_S: Final = 5.0
FILE_COUNT_MAX: Final = 10_000
PASSED_OVER: Final = {"__pycache__", "node_modules", "site-packages", "build", "dist"}


def snapshot(folder: Path) -> dict[str, int]:
    """Path -> modification time in ns, of the Python files below ``folder``; hidden and built folders are passed
    over."""
    found: dict[str, int] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in PASSED_OVER]
        for name in files:
            if name.endswith(".py") and len(found) < FILE_COUNT_MAX:
                path = os.path.join(place, name)
                try:
                    found[path] = os.stat(path).st_mtime_ns
                except OSError:
                    continue
    return found


def changed(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """The files that came, went or were written, in order."""
    return sorted({path for path in before.keys() | after.keys() if before.get(path) != after.get(path)})


class Reloader:
    """Runs ``command`` and runs it again whenever a file below ``folder`` changes; ends with SIGINT or SIGTERM."""

    def __init__(self, command: Sequence[str], folder: Path, *, poll_s: float = POLL_S) -> None:
        self.command = list(command)
        self.folder = folder
        self.poll_s = poll_s
        self.start_count = 0
        self._stop = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop.set())
        seen = snapshot(self.folder)
        self._start()
        while not self._stop.wait(self.poll_s):
            now = snapshot(self.folder)
            if files := changed(seen, now):
                seen = now
                self._say(f"{os.path.relpath(files[0], self.folder)} changed, restarting")
                self._end()
                self._start()
            elif self._child is not None and self._child.poll() is not None:
                self._say(f"the server ended with code {self._child.returncode}; waiting for a change")
                self._child = None
        self._end()
        return 0

    def _start(self) -> None:
        self._child = subprocess.Popen(self.command)
        self.start_count += 1

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None or child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _say(self, text: str) -> None:
        print(f"erlmcp: {text}", file=sys.stderr, flush=True)
