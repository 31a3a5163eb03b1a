"""The audit log: one line of JSON for each request that was handed to an upstream.

    {"at": "2026-11-28T08:00:00.123Z", "caller": "alice", "method": "tools/call", "name": "files_read", "upstream":
     "files", "outcome": "ok", "ms": 1.234}

``outcome`` is ok, tool_error (a result that says isError), error with its ``code``, or cancelled. Arguments are there
only where they were asked for. Lines are gathered for one turn of the loop and written by one call; a disk that is slow
stops the gateway rather than losing a line.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core

if TYPE_CHECKING:
    from erlmcp.gateway.forward import Forward

STDERR: Final = "-"
MODE: Final = 0o600


class Audit:
    """``path`` is a file that is added to, or "-" for stderr. ``reopen`` begins a file anew that was moved away."""

    def __init__(self, path: str, *, with_arguments: bool = False) -> None:
        """OSError where the file cannot be written."""
        self.path = path
        self.with_arguments = with_arguments
        self._lines: list[bytes] = []
        self._fd = self._open()

    def _open(self) -> int:
        if self.path == STDERR:
            return os.dup(sys.stderr.fileno())
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)

    def reopen(self) -> None:
        self.flush()
        os.close(self._fd)
        self._fd = self._open()

    def note(self, forward: Forward, caller: str, outcome: str, code: int | None, arguments: Any = None) -> None:
        mount = forward.mount
        found: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "caller": caller or None,
            "method": forward.method,
            "name": mount.exposed,
            "upstream": mount.upstream.name,
            "outcome": outcome,
            "ms": round(forward.elapsed_ms, 3),
        }
        if code is not None:
            found["code"] = code
        if self.with_arguments and arguments is not None:
            found["arguments"] = arguments
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(core.encode(found) + b"\n")

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        data = b"".join(lines)
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        self.flush()
        os.close(self._fd)
