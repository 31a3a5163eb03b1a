"""From what FastMCP's ``Client`` and ``create_proxy`` take to what erlmcp's client connects to."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Transport:
    """A way to a server: ``target`` is what erlmcp's client is made of, ``headers`` go with it."""

    def __init__(self, target: Any, headers: Mapping[str, str] | None = None) -> None:
        self.target = target
        self.headers = dict(headers or {})


class StdioTransport(Transport):
    """A program, spoken to over its standard input and output."""

    def __init__(
        self,
        command: str,
        args: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        keep_alive: bool | None = None,
    ) -> None:
        entry = {"command": command, "args": list(args), "env": None if env is None else dict(env), "cwd": cwd}
        super().__init__({name: each for name, each in entry.items() if each is not None})


class PythonStdioTransport(StdioTransport):
    """A Python script."""

    def __init__(self, script_path: Any, args: Sequence[str] | None = None, **options: Any) -> None:
        python = options.pop("python_cmd", sys.executable)
        super().__init__(python, [str(script_path), *(args or ())], **options)


class NodeStdioTransport(StdioTransport):
    """A JavaScript program."""

    def __init__(self, script_path: Any, args: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(options.pop("node_cmd", "node"), [str(script_path), *(args or ())], **options)


class StreamableHttpTransport(Transport):
    """A URL. ``auth`` is a bearer token."""

    def __init__(self, url: Any, headers: Mapping[str, str] | None = None, auth: Any = None) -> None:
        super().__init__(str(url), {**(headers or {}), **bearer(auth)})


class SSETransport(StreamableHttpTransport):
    """The URL of an old pair of endpoints, which erlmcp's client finds out by itself."""


class FastMCPTransport(Transport):
    """A server of this process."""


def bearer(auth: Any) -> dict[str, str]:
    """The header of a token. Raises Unsupported for what is more than one."""
    if auth is None:
        return {}
    if isinstance(auth, str) and auth != "oauth":
        return {"Authorization": f"Bearer {auth}"}
    from erlmcp.compat.fastmcp.exceptions import unsupported

    return unsupported(f"auth={auth!r}", "there is no sign-in by a browser here", "a bearer token: auth='...'")


def target_of(given: Any) -> tuple[Any, dict[str, str]]:
    """(what erlmcp's client is made of, headers). Raises ValueError for what is no way to a server."""
    if isinstance(given, Transport):
        return given.target, given.headers
    inner = getattr(given, "erlmcp_target", None)  # a Client of this façade
    if inner is not None:
        found: tuple[Any, dict[str, str]] = inner
        return found
    if isinstance(given, Path) or (isinstance(given, str) and given.endswith((".py", ".js")) and "://" not in given):
        path = Path(given)
        if path.suffix == ".py":
            return PythonStdioTransport(path).target, {}
        if path.suffix == ".js":
            return NodeStdioTransport(path).target, {}
        raise ValueError(f"{path} is neither a .py nor a .js file")
    if hasattr(given, "unicode_string"):  # pydantic's URL
        return str(given), {}
    if isinstance(given, Mapping):
        entries = given.get("mcpServers", given)
        if len(entries) > 1 and "mcpServers" in given:
            from erlmcp.compat.fastmcp.server.proxy import create_proxy

            return create_proxy(dict(given)), {}
        return dict(given), {}
    return given, {}
