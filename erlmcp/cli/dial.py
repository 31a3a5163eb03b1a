"""A client for the length of one command: what the server says meanwhile, and what goes wrong, in words."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from erlmcp.cli.fault import CANNOT_REACH, TOOL_FAILED, WRONG_USE, CommandError, describe
from erlmcp.cli.paint import paint
from erlmcp.cli.target import read_headers
from erlmcp.errors import (
    CallTimeoutError,
    ConfigurationError,
    ErlmcpError,
    HttpStatusError,
    McpError,
    NegotiationError,
    ServerExitedError,
)

if TYPE_CHECKING:
    from erlmcp.client.client import Client
    from erlmcp.client.oauth import OAuth

STDERR_LINES_MAX: Final = 20
PROBE_S_MAX: Final = 5.0
# What to do about a status, where something can be done.
STATUS_MENDS: Final = {
    401: "; --login gets a token in the browser, --header 'Authorization: Bearer TOKEN' shows one",
    403: "; --header 'Authorization: Bearer TOKEN' says who you are",
    404: "; is the path right? Many servers answer at /mcp",
    405: "; is the path right? Many servers answer at /mcp",
}
CAUSE_MENDS: Final[dict[type, str]] = {
    ConnectionRefusedError: "; start the server, or mend the address",
    FileNotFoundError: "; is the path right, and the program installed?",
}

Work = Callable[["Client", float], Awaitable[int]]


def dial(options: argparse.Namespace, target: Any, work: Work, *, is_measured: bool = False) -> int:
    """Connect, and give ``work`` the client and the seconds that connecting took; the exit code.

    ``is_measured``: on uvloop where it is installed, and without asking the server for progress and logs.
    """
    import asyncio

    runner: Callable[[Any], int] = asyncio.run
    if is_measured:
        try:
            import uvloop
        except ImportError:
            pass
        else:
            runner = uvloop.run
    return runner(_dial(options, target, work, is_measured))


async def _dial(options: argparse.Namespace, target: Any, work: Work, is_measured: bool) -> int:
    try:
        client = make_client(options, target, is_measured=is_measured)
        started = time.perf_counter()
        async with client:
            connect_s = time.perf_counter() - started
            try:
                return await work(client, connect_s)
            finally:
                show_stderr(getattr(client.channel, "stderr", ""))
    except ErlmcpError as error:
        if options.traceback:
            raise
        raise explain(error, options.mode) from None


def make_client(options: argparse.Namespace, target: Any, *, is_measured: bool) -> Client:
    import logging

    from erlmcp.client.bound import ClientLimits
    from erlmcp.client.client import Client

    # What the client warns of is shown by what is given here; logging would write it to stderr once more.
    logging.getLogger("erlmcp.client").addHandler(logging.NullHandler())
    wait_s = options.timeout
    limits = ClientLimits(timeout_s=wait_s, connect_timeout_s=wait_s, probe_timeout_s=min(PROBE_S_MAX, wait_s / 2))
    return Client(
        target,
        mode=options.mode,
        limits=limits,
        headers=read_headers(options.header),
        auth=_login() if options.login else None,
        on_log=None if is_measured else show_log,
        on_progress=None if is_measured else show_progress,
        on_noise=None if is_measured else show_noise,
        cache=False,
    )


def _login() -> OAuth:
    """Tokens that the user gets in the browser, and that last from one command to the next."""
    import os
    from pathlib import Path

    from erlmcp.client.oauth import Browser, FileStore, OAuth

    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return OAuth(Browser(show=show_login), store=FileStore(Path(home) / "erlmcp" / "tokens.json"))


def show_login(url: str) -> None:
    _aside(f"to log in, open {url}")


def explain(error: ErlmcpError, mode: str) -> CommandError:
    """What went wrong between a client and a server, in one line with the mend."""
    text = " ".join(str(error).split()) or describe(error)
    if isinstance(error, ServerExitedError):
        show_stderr(error.stderr)
        said = "; what it wrote is above" if error.stderr.strip() else ""
        return CommandError(" ".join(str(error).partition("; its standard error")[0].split()) + said, CANNOT_REACH)
    if isinstance(error, CallTimeoutError):
        asked = error.method or "the request"
        return CommandError(
            f"no answer to {asked} within {error.seconds:g} s; --timeout SECONDS waits longer", CANNOT_REACH
        )
    if isinstance(error, HttpStatusError):
        return CommandError(text + STATUS_MENDS.get(error.status, ""), CANNOT_REACH)
    if isinstance(error, NegotiationError):
        mend = "" if mode == "auto" else "; --mode auto finds out what the server speaks"
        return CommandError(text + mend, CANNOT_REACH)
    if isinstance(error, ConfigurationError):
        return CommandError(text, WRONG_USE)
    if isinstance(error, McpError):
        return CommandError(f"the server refused: {text}", TOOL_FAILED)
    return CommandError(text + CAUSE_MENDS.get(type(error.__cause__), ""), CANNOT_REACH)


async def list_all(client: Client, method: str, field: str) -> list[dict[str, Any]]:
    """The items of all pages as they came: the types of ``mcp_types`` would take longer to import than to list."""
    found: list[dict[str, Any]] = []
    params: dict[str, Any] | None = None
    for _ in range(client.limits.page_count_max):
        page = await client.request(method, params, is_idempotent=True)
        found += [item for item in page.get(field) or [] if isinstance(item, dict)]
        cursor = page.get("nextCursor")
        if not isinstance(cursor, str):
            break
        params = {"cursor": cursor}
    return found


# ---- what the server says meanwhile


def show_progress(progress: float, total: float | None, message: str | None) -> None:
    _aside(f"{progress}{'' if total is None else f'/{total}'} {message or ''}")


def show_log(params: dict[str, Any]) -> None:
    data = params.get("data")
    _aside(f"{params.get('level')}: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}")


def show_noise(text: str) -> None:
    """What a server wrote where only messages belong."""
    _aside(f"no message: {text}")


def show_stderr(text: str) -> None:
    """The end of what a server that was started wrote to its standard error."""
    lines = text.rstrip().splitlines()
    for line in lines[-STDERR_LINES_MAX:]:
        _aside(f"server: {line}")


def _aside(line: str) -> None:
    print(paint(line.rstrip(), "dim", sys.stderr), file=sys.stderr)
