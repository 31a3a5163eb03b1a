"""The operator's end of a server's control socket."""

from __future__ import annotations

import json
import socket
from typing import Any, Final

from erlmcp.cli.fault import CANNOT_REACH, TOOL_FAILED, CommandError

TIMEOUT_S: Final = 10.0
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024


def ask(path: str, method: str, params: dict[str, Any] | None = None) -> Any:
    """The result of one request. Raises CommandError where nobody answers, or with what the server has against it."""
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}).encode() + b"\n"
    read = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            made.settimeout(TIMEOUT_S)
            made.connect(path)
            made.sendall(line)
            while not read.endswith(b"\n") and len(read) <= ANSWER_BYTES_MAX:
                part = made.recv(65536)
                if not part:
                    break
                read += part
    except OSError as error:
        what = error.strerror or str(error)
        raise CommandError(
            f"no control socket answers at {path}: {what}; start the server with --control {path}", CANNOT_REACH
        ) from None
    try:
        answer = json.loads(read)
    except ValueError:
        raise CommandError(f"{path} broke off, or is no control socket", CANNOT_REACH) from None
    if not isinstance(answer, dict) or ("result" not in answer and not isinstance(answer.get("error"), dict)):
        raise CommandError(f"{path} is no control socket", CANNOT_REACH)
    if "error" in answer:
        raise CommandError(str(answer["error"].get("message")), TOOL_FAILED)
    return answer["result"]
