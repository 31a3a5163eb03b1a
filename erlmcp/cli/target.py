"""From what was typed to what ``erlmcp.Client`` connects to: a file's server, an address, a command, an entry."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import stat
from collections.abc import Sequence
from typing import Any, Final

from erlmcp.cli.fault import CANNOT_LOAD, CommandError, nearest

ADDRESSES: Final = ("http://", "https://", "unix:", "tcp://")
ENTRIES: Final = ("mcpServers", "servers")  # most clients' name for them, and another editor's
EXPECTED: Final = (
    "which server? FILE[:OBJECT], a URL, unix:PATH, tcp://HOST:PORT or mcp.json#NAME; "
    "or -m MODULE, --command 'PROGRAM ...', --config FILE NAME"
)


def read_target(options: argparse.Namespace, words: Sequence[str]) -> tuple[Any, list[str]]:
    """(what the client is made of, the words that are left). Raises CommandError with the mend."""
    given = [option for option in ("module", "command_line", "config") if getattr(options, option) is not None]
    if len(given) > 1:
        raise CommandError("-m, --command and --config exclude each other; give the one that leads to the server")
    rest = list(words)
    if options.module is not None:
        return _server(None, options), rest
    if options.command_line is not None:
        return _command(options.command_line), rest
    if not rest:
        raise CommandError(EXPECTED if options.config is None else "--config FILE needs the NAME of an entry after it")
    first = rest.pop(0)
    if options.config is not None:
        return read_entry(options.config, first), rest
    if first.startswith(ADDRESSES):
        return first, rest
    file, mark, name = first.rpartition("#")
    if mark and file.endswith(".json"):
        return read_entry(file, name), rest
    if first.endswith(".json"):
        return read_entry(first, ""), rest
    if _is_socket(first):
        return f"unix:{first}", rest
    if " " in first and not os.path.exists(first):
        raise CommandError(f"no file {first!r}; to start a program write --command {shlex.quote(first)}")
    return _server(first, options), rest


def _server(target: str | None, options: argparse.Namespace) -> Any:
    """A server of this process, behind a connection that has bytes: the same checks as over a wire."""
    from erlmcp.cli.load import load_server
    from erlmcp.client.memory import MemoryChannel

    return MemoryChannel(load_server(target, options.module, keep_traceback=options.traceback), objects=False)


def _command(line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise CommandError(f"--command {line}: {str(error).lower()}; it is read as a shell reads it") from None
    if not words:
        raise CommandError("--command is empty; for instance --command 'npx -y some-server'")
    return words


def read_entry(file: str, name: str) -> dict[str, Any]:
    """The entry of a configuration file; the only one where ``name`` is empty."""
    try:
        with open(file, encoding="utf-8") as opened:
            found = json.load(opened)
    except OSError as error:
        raise CommandError(f"cannot read {file}: {(error.strerror or str(error)).lower()}", CANNOT_LOAD) from None
    except ValueError as error:
        raise CommandError(f"{file} is not JSON: {error}", CANNOT_LOAD) from None
    entries = next((found[key] for key in ENTRIES if key in found), None) if isinstance(found, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise CommandError(f'{file} has no servers; expected {{"mcpServers": {{"NAME": ...}}}}', CANNOT_LOAD)
    if not name:
        if len(entries) > 1:
            raise CommandError(f"{file} has {len(entries)} servers; say which: {file}#{f' or {file}#'.join(entries)}")
        name = next(iter(entries))
    entry = entries.get(name)
    if entry is None:
        raise CommandError(f"{file} has no server {name}; {nearest(name, list(entries))}", CANNOT_LOAD)
    if not isinstance(entry, dict):
        raise CommandError(f"{file}: the server {name} is no object with 'command' or 'url'", CANNOT_LOAD)
    return entry


def read_headers(pairs: Sequence[str]) -> dict[str, str]:
    """``["Authorization: Bearer x"]`` -> a dict."""
    found = {}
    for pair in pairs:
        name, colon, value = pair.partition(":")
        if not colon or not name.strip():
            raise CommandError(f"--header {pair}: expected NAME:VALUE, for instance 'Authorization: Bearer abc'")
        found[name.strip()] = value.strip()
    return found


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
