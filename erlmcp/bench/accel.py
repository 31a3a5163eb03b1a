"""``erlmcp bench accel``: servers of the official SDK and of FastMCP as they are, and the same files accelerated.

    python -m erlmcp.bench.accel --rounds 3 --seconds 2 --json accel.json

Six servers for each table: either package by its own transport (uvicorn with uvloop and httptools, or its stdio loop),
by its kernel on our transports (level 1), and with its plain tools called straight (level 3). With ``--auth`` all ask
for a bearer token, which a verifier of the package looks at, and which it finds good; HTTP alone. They are measured by
turns, as in ``bench peers``; whether a mark is met goes by the CPU time for a call. In process, no transport is there:
the SDK's kernel is asked by ``serve_one`` and with objects, ours by a link and with bytes. ``echo`` is a plain tool;
``tells`` takes the Context, and says by it how far it is (one progress, one log) to a client that has asked for
neither; with sessions every log is sent all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import secrets
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, Final, TextIO

from erlmcp.bench import message, result, table
from erlmcp.bench.load import ID_SLOT
from erlmcp.bench.peers import Case, Field, Row, go_round, numbers, pinned
from erlmcp.bench.process import ALL_MODES, PEERS, SERVERS, Peer

FILES: Final = {"mcp": "echo_mcp.py", "fastmcp": "echo_fastmcp.py"}
LEVELS: Final = ("l1", "l3")
MARKS: Final = {("mcp", "l1"): 2.0, ("mcp", "l3"): 40.0, ("fastmcp", "l1"): 1.6, ("fastmcp", "l3"): 100.0}
CALLS: Final = 2000
TOOLS: Final = ("echo", "tells")
TOKEN: Final = "BENCH_TOKEN"  # that the servers ask for, and that the load brings
CONTEXT: Final = {"BENCH_CONTEXT": "1"}  # for the servers: to have the second one


def accelerated(package: str, level: str) -> Peer:
    """The file of a package's server, served by us at a level."""
    file = str(SERVERS / FILES[package])

    def command(mode: str, port: int) -> list[str]:
        words = ["run", file] if mode == "stdio" else ["serve", file, "--port", str(port)]
        words += ["--log-level", "warning"]
        start = f"import os, sys; os.environ['ERLMCP_ACCEL'] = {level!r}; from erlmcp.cli import main"
        return ["-c", f"{start}; sys.exit(main({words!r}))"]

    return Peer(f"{package} {level}", package, ALL_MODES, command, is_own=True)


def peers_of(packages: Sequence[str]) -> list[Peer]:
    """Each package's own server, then ours of the same file."""
    stock = {peer.name: peer for peer in PEERS}
    return [peer for name in packages for peer in (stock[name], *(accelerated(name, level) for level in LEVELS))]


def over_wires(options: argparse.Namespace, packages: Sequence[str], say: TextIO) -> list[Row]:
    """HTTP and stdio, by turns."""
    rows: list[Row] = []
    for mode, era, counts, what, unit in (
        ("stateless", message.MODERN, options.connections, f"HTTP, {message.MODERN}", "connections"),
        ("stateful", message.LEGACY, options.connections, f"HTTP, {message.LEGACY} with sessions", "connections"),
        ("stdio", message.MODERN, options.inflight, f"stdio, {message.MODERN}", "in flight"),
    ):
        if options.auth and mode == "stdio":
            continue
        what += " with a bearer token" if options.auth else ""
        servers = Field(peers_of(packages), mode, options, CONTEXT, say)
        bodies = {tool: message.call(tool, {"text": message.TEXT}, era=era) for tool in options.tools}
        cases = [
            Case(f"{tool} over {what}, {n} {unit}", mode, n, body, message.EXPECT)
            for tool, body in bodies.items()
            for n in counts
        ]
        try:
            with pinned(options):
                go_round(servers, cases, options.rounds, options.seconds, say, rows)
        finally:
            servers.stop()
    return rows


# ---- in process


def load_app(package: str) -> Any:
    """The app of a package's server, without its environment's extras."""
    spec = importlib.util.spec_from_file_location(f"bench_{package}", SERVERS / FILES[package])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.server


async def stock_call(low: Any, state: Any, tool: str) -> Callable[[], Awaitable[None]]:
    """One call of a tool by the SDK's own lowest entry."""
    from mcp.server.connection import Connection
    from mcp.server.runner import serve_one
    from mcp.shared.transport_context import TransportContext

    class Dispatch:
        transport = TransportContext(kind="bench", can_send_request=False)
        can_send_request = False
        request_id = 1
        message_metadata = None

        async def progress(self, *given: object) -> None:
            """Nobody asked for it."""

    params = {"name": tool, "arguments": {"text": message.TEXT}, "_meta": message.META}
    asked: Any = Dispatch()

    async def call() -> None:
        connection = Connection.from_envelope(message.MODERN, message.CLIENT, {})
        found = await serve_one(low, asked, "tools/call", params, connection=connection, lifespan_state=state)
        assert found["content"][0]["text"] == message.TEXT

    return call


async def our_call(server: Any, tool: str) -> Callable[[], Awaitable[None]]:
    """One call of it through a link: from the bytes of the request to the bytes of the answer."""
    asked = message.call(tool, {"text": message.TEXT}).replace(ID_SLOT, b"1") + b"\n"
    came: list[bytes] = []
    link = server.link(came.append)

    async def call() -> None:
        link.feed(asked)
        while not came:
            await asyncio.sleep(0)
        assert message.EXPECT in b"".join(came)
        came.clear()

    return call


async def timed(call: Callable[[], Awaitable[None]], count: int) -> float:
    """Microseconds of CPU for each call."""
    began = time.process_time_ns()
    for _ in range(count):
        await call()
    return (time.process_time_ns() - began) / count / 1e3


async def in_process(packages: Sequence[str], tool: str, rounds: int, count: int) -> dict[str, float]:
    """Server -> microseconds a call of a tool, the median of the rounds; all by turns."""
    from contextlib import AsyncExitStack

    from erlmcp import accelerate

    found: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        calls: dict[str, Callable[[], Awaitable[None]]] = {}
        for package in packages:
            app = load_app(package)
            servers = {level: accelerate(app, level) for level in LEVELS}
            for level, server in servers.items():
                await stack.enter_async_context(server.running())
                calls[f"{package} {level}"] = await our_call(server, tool)
            kernel = servers["l1"].kernel
            calls[package] = await stock_call(kernel.server, kernel.state, tool)
        for _ in range(rounds):
            for name, call in calls.items():
                await timed(call, count // 10)
                found.setdefault(name, []).append(await timed(call, count))
    return {name: statistics.median(values) for name, values in found.items()}


# ---- what came of it


def report(rows: Sequence[Row], inside: dict[str, dict[str, float]], packages: Sequence[str], out: TextIO) -> None:
    """One table for each case, with what each is of its package's own server."""
    heads = ["server", "version", "req/s", "of stock", "CPU us", "CPU of stock", "p50 ms", "p99 ms", "mark", ""]
    for case in dict.fromkeys(row.case for row in rows):
        here = {row.server: row for row in rows if row.case == case}
        cells, notes = [], []
        for row in here.values():
            package, _, level = row.server.partition(" ")
            stock, mark = here[package], MARKS.get((package, level)) if case.startswith(TOOLS[0]) else None
            # Of the CPU: the rate changes with what else the machine does.
            times = stock.server_cpu_us / row.server_cpu_us if stock.server_cpu_us and row.server_cpu_us else None
            spent = table.ratio(stock.server_cpu_us, row.server_cpu_us)
            verdict = "" if mark is None or times is None else "met" if times >= mark else "missed"
            ms = [table.number(one / 1e3 if one is not None else None) for one in (row.p50_us, row.p99_us)]
            marked = f"{mark:g}x" if mark else ""
            cells.append(
                [
                    row.server,
                    row.version,
                    table.number(row.rate),
                    table.ratio(row.rate, stock.rate),
                    table.number(row.server_cpu_us),
                    spent,
                    *ms,
                    marked,
                    verdict,
                ]
            )
            notes += [f"{row.server}: {row.error}"] if row.error else []
        table.write(out, case, heads, cells, notes)
    for tool, found in inside.items():
        lines = []
        for name in [f"{package}{end}" for package in packages for end in ("", " l1", " l3")]:
            stock_us = found[name.partition(" ")[0]]
            lines.append([name, table.number(found[name]), table.ratio(stock_us, found[name])])
        table.write(out, f"{tool} in process, one at a time", ["server", "CPU us", "of stock"], lines)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="erlmcp bench accel", description="Measure apps as they are and accelerated.")
    made.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter of the stock servers")
    made.add_argument("--only", choices=sorted(FILES), help="one package; default: both")
    made.add_argument("--auth", action="store_true", help="over HTTP, with a bearer token to be looked at")
    made.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS), help="default: both")
    made.add_argument("--connections", type=numbers, default=[64], metavar="N,N", help="HTTP; default 64")
    made.add_argument("--inflight", type=numbers, default=[64], metavar="N,N", help="stdio; default 64")
    made.add_argument("--seconds", type=float, default=2.0, help="of each measurement; default 2")
    made.add_argument("--rounds", type=int, default=3, help="default 3")
    made.add_argument("--calls", type=int, default=CALLS, help=f"in process, of each round; default {CALLS}")
    made.add_argument("--pin", choices=("apart", "together"), help="as of bench peers")
    made.add_argument("--json", metavar="FILE", help="write all results there")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 0, or 1 where a server failed."""
    options = parser().parse_args(sys.argv[1:] if argv is None else argv)
    packages = [options.only] if options.only else list(FILES)
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"erlmcp bench accel: {', '.join(missing)} is not installed: pip install 'erlmcp[bench]'", file=sys.stderr
        )
        return 2
    os.environ.pop("ERLMCP_ACCEL", None)
    os.environ.pop(TOKEN, None)
    if options.auth:
        os.environ[TOKEN] = secrets.token_urlsafe(24)
    print(result.title("accel"))
    print(f"{options.rounds} rounds of {options.seconds:g} s, pinned {options.pin or 'not at all'}", flush=True)
    try:
        rows = over_wires(options, packages, sys.stderr)
    finally:
        os.environ.pop(TOKEN, None)
    inside: dict[str, dict[str, float]] = {}
    if not options.auth:
        os.environ.update(CONTEXT)
        for tool in options.tools:
            inside[tool] = asyncio.run(in_process(packages, tool, options.rounds, options.calls))
    report(rows, inside, packages, sys.stdout)
    if options.json:
        results: list[dict[str, object]] = [asdict(row) for row in rows]
        results += [
            {"case": f"{tool} in process", "server": name, "cpu_us": cpu_us}
            for tool, found in inside.items()
            for name, cpu_us in found.items()
        ]
        result.write(options.json, result.document("accel", vars(options), results))
    return 1 if any(row.error for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
