"""The audit log: one line of JSON for each request that was handed to an upstream.

    {"at": "2026-11-28T08:00:00.123Z", "caller": "alice", "method": "tools/call", "name": "files_read", "upstream":
     "files", "outcome": "ok", "ms": 1.234}

A caller by a token has its ``issuer`` beside it. ``outcome`` is ok, tool_error (a result that says isError), error with
its ``code``, cancelled, or cached. Arguments are there only where they were asked for. Lines are gathered for
``FLUSH_S`` and written by one call; a disk that is slow stops the gateway rather than losing a line.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core

if TYPE_CHECKING:
    from erlmcp.gateway.access import Caller
    from erlmcp.gateway.mount import Mount

STDERR: Final = "-"
MODE: Final = 0o600
FLUSH_S: Final = 0.05
KNOWN_COUNT_MAX: Final = 10_000


class Audit:
    """``path`` is a file that is added to, or "-" for stderr. ``reopen`` begins a file anew that was moved away."""

    def __init__(self, path: str, *, with_arguments: bool = False) -> None:
        """OSError where the file cannot be written."""
        self.path = path
        self.with_arguments = with_arguments
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._known: dict[tuple[str, str, str, str], bytes] = {}  # what the lines of a caller and a name have in common
        self._second = -1
        self._text = b""  # ... as the log writes it
        self._fd = self._open()

    def _open(self) -> int:
        if self.path == STDERR:
            return os.dup(sys.stderr.fileno())
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)

    def reopen(self) -> None:
        self.flush()
        old, self._fd = self._fd, self._open()  # OSError: what was written to stays
        os.close(old)

    def note(
        self,
        mount: Mount,
        method: str,
        caller: Caller,
        outcome: str,
        ms: float,
        code: int | None,
        arguments: Any = None,
    ) -> None:
        """One line. ``arguments`` are for a log that has them."""
        line = b'{"at":"%b",%b,"outcome":"%b","ms":%.3f' % (
            self._now(), self._who(mount, method, caller), outcome.encode(), ms
        )  # fmt: skip
        if code is not None:
            line += b',"code":%d' % code
        if arguments is not None:
            line += b',"arguments":' + core.encode(arguments)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        self._lines.append(line + b"}\n")

    def _now(self) -> bytes:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%03dZ" % (self._text, int((now - second) * 1000))

    def _who(self, mount: Mount, method: str, caller: Caller) -> bytes:
        place = caller.id, method, mount.exposed, mount.upstream.name
        found = self._known.get(place)
        if found is None:
            values = {"caller": caller.name or None, **({"issuer": caller.issuer} if caller.issuer else {})}
            values |= {"method": method, "name": mount.exposed, "upstream": mount.upstream.name}
            if len(self._known) >= KNOWN_COUNT_MAX:
                self._known.clear()
            found = self._known[place] = core.encode(values)[1:-1]
        return found

    def flush(self) -> None:
        """Write what is gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        data = b"".join(lines)
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        self.flush()
        os.close(self._fd)
