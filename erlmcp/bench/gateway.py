"""Gateways before one upstream, one beside the other, and the upstream without any.

    python -m erlmcp.bench.gateway --python PATH --rounds 3 --seconds 2 --json gateway.json

The upstream is our echo server, over HTTP or started over stdio; every gateway runs in a process of its own and stays
up while the load goes round them. ``erlmcp`` has nothing but its way through, ``erlmcp-guarded`` all its guards, API
keys and an audit log. ``added p50`` is the median of the latency less that of the upstream itself, as ``direct`` has
it. CPU is that of a gateway and of what it started. ``--faults``: see ``erlmcp.bench.outage``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TextIO

from erlmcp.bench import message, outage, result, table
from erlmcp.bench.peers import Case, Field, Row, go_round, numbers, pinned, server_cpu
from erlmcp.bench.process import PEERS, ROOT, SERVERS, Peer, PeerError, Running, interpreter, version_of

ECHO = str(SERVERS / "echo_erlmcp.py")
UPSTREAM = [sys.executable, "-m", "erlmcp", "run", ECHO]
WAYS = ("http", "stdio")
HUGE = 1_000_000_000
GUARDS = {
    "breaker": True,
    "rate_limit": HUGE,
    "bulkhead": 100_000,
    "timeout": {"min_s": 10},  # it is there, and a machine with other work makes no call fail
    "retry": True,
}


@dataclass(frozen=True)
class Gate(Peer):
    """A gateway. ``program``: what it is started with, where that is no Python."""

    program: str = ""


def _own(folder: Path, way: str, url: str, guarded: bool, mode: str, port: int) -> list[str]:
    """Our gateway; its configuration is written beside."""
    entry: dict[str, object] = {"prefix": False}
    if way == "http":
        entry["url"] = url
    else:
        entry.update(command=UPSTREAM[0], args=UPSTREAM[1:], env={"PYTHONPATH": str(ROOT)})
    tree: dict[str, object] = {"mcpServers": {"bench": entry}}
    if guarded:
        entry.update(guards=GUARDS, tool_guards=GUARDS)
        keys = {"bench": {"key": "k" * 20, "allow": ["*"]}}
        tree["gateway"] = {"keys": keys, "anonymous": True, "audit": str(folder / "audit.jsonl")}
    file = folder / f"{way}-{guarded}-{mode}.json"
    file.write_text(json.dumps(tree), encoding="utf-8")
    return ["-m", "erlmcp", "gateway", str(file), "--port", str(port), "--no-watch", "--log-level", "error"]


def _fastmcp(way: str, url: str, mode: str, port: int) -> list[str]:
    return [str(SERVERS / "proxy_fastmcp.py"), mode, str(port), way, *([url] if way == "http" else UPSTREAM)]


def _mcp_proxy(mode: str, port: int) -> list[str]:
    stateless = ["--stateless"] if mode == "stateless" else []
    return ["-m", "mcp_proxy", "--port", str(port), *stateless, "--pass-environment", "--", *UPSTREAM]


def _mcp_proxy_npm(mode: str, port: int) -> list[str]:
    stateless = ["--stateless"] if mode == "stateless" else []
    return ["--host", "127.0.0.1", "--port", str(port), "--server", "stream", *stateless, "--", *UPSTREAM]


def _supergateway(mode: str, port: int) -> list[str]:
    stateful = ["--stateful"] if mode == "stateful" else []
    line = " ".join(UPSTREAM)
    return ["--stdio", line, "--outputTransport", "streamableHttp", "--port", str(port), *stateful]


def gates(way: str, url: str, folder: Path) -> list[Gate]:
    """The gateways for one way to the upstream, the upstream itself first."""
    both = ("stateless", "stateful")
    direct = PEERS[0].command
    found = [
        Gate("direct", "erlmcp", both, direct, is_own=True, is_limit=True),
        Gate("erlmcp", "erlmcp", both, partial(_own, folder, way, url, False), is_own=True),
        Gate("erlmcp-guarded", "erlmcp", both, partial(_own, folder, way, url, True), is_own=True),
        Gate("fastmcp", "fastmcp", both, partial(_fastmcp, way, url)),
    ]
    if way == "stdio":
        found.append(Gate("mcp-proxy", "mcp_proxy", ("stateful",), _mcp_proxy))
        for name, program, modes, command in (
            ("mcp-proxy-npm", "mcp-proxy", both, _mcp_proxy_npm),
            ("supergateway", "supergateway", ("stateful",), _supergateway),
        ):
            found.append(Gate(name, "", modes, command, program=shutil.which(program) or program))
    return found


def interpreter_of(gate: Gate, pythons: Sequence[str]) -> str:
    """The first of the interpreters that has a gateway; the last one where none has."""
    for python in pythons[:-1]:
        try:
            version_of(gate, interpreter(gate, python))
        except (PeerError, OSError):
            continue
        return interpreter(gate, python)
    return interpreter(gate, pythons[-1])


def version_of_gate(gate: Gate, python: str) -> str:
    """Raises PeerError where it is not installed."""
    if not gate.program:
        return version_of(gate, python)
    try:
        ran = subprocess.run([gate.program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        raise PeerError("not installed") from None
    return ran.stdout.strip() or "?"


class Gates(Field):
    """The gateways of one table, started one after the other."""

    def __init__(self, peers: Sequence[Gate], mode: str, options: argparse.Namespace, say: TextIO) -> None:
        super().__init__([], mode, options, {}, say)
        self.peers = peers
        for gate in peers:
            self.versions[gate.name] = "-"
            try:
                python = interpreter_of(gate, options.python.split(","))
                self.versions[gate.name] = version_of_gate(gate, python)
                one = Running(gate, mode, gate.program or python, {"PYTHONPATH": str(ROOT)}, server_cpu(options))
                one.start()
                self.running[gate.name] = one
            except PeerError as error:
                self.errors[gate.name] = str(error)
            print(f"  {mode}: {gate.name} {self.errors.get(gate.name, 'is up')}", file=say, flush=True)


def measure_all(options: argparse.Namespace, say: TextIO, out: Callable[[list[Row]], None]) -> list[Row]:
    """All tables, each given to ``out`` when it is whole."""
    rows: list[Row] = []
    upstream = Running(PEERS[0], "stateless", sys.executable, {}, server_cpu(options))
    upstream.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for way in options.ways:
                for mode, era in (("stateless", message.MODERN), ("stateful", message.LEGACY)):
                    if options.eras and era not in options.eras:
                        continue
                    here = [each for each in gates(way, upstream.url, Path(folder)) if mode in each.modes]
                    body = message.call("echo", {"text": message.TEXT}, era=era)
                    title = f"echo through a gateway to {way}, {era}"
                    cases = [Case(f"{title}, {n} at once", mode, n, body, message.EXPECT) for n in options.connections]
                    kept = [each for each in here if options.only is None or each.name in options.only]
                    field = Gates(kept, mode, options, say)
                    found: list[Row] = []
                    try:
                        with pinned(options):
                            go_round(field, cases, options.rounds, options.seconds, say, found)
                    finally:
                        field.stop()
                    out(found)
                    rows += found
    finally:
        upstream.stop()
    return rows


def report(rows: Sequence[Row], out: TextIO) -> None:
    heads = ["gateway", "version", "req/s", "erlmcp is", "p50 us", "added p50 us", "p99 us", "CPU us", "RSS MB"]
    for case in dict.fromkeys(row.case for row in rows):
        here = [row for row in rows if row.case == case]
        ours = next((row for row in here if row.server == "erlmcp"), Row(case, "erlmcp", "", False))
        direct = next((row.p50_us for row in here if row.server == "direct"), None)
        cells = []
        for row in here:
            added = row.p50_us - direct if row.p50_us is not None and direct is not None else None
            cells.append(
                [
                    row.server,
                    row.version,
                    table.number(row.rate),
                    table.ratio(ours.rate, row.rate),
                    table.number(row.p50_us),
                    table.number(None if row.server == "direct" else added),
                    table.number(row.p99_us),
                    table.number(row.server_cpu_us),
                    table.number(row.rss_mb),
                ]
            )
        table.write(out, case, heads, cells, [f"{row.server}: {row.error}" for row in here if row.error])


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="erlmcp bench gateway", description="Measure our gateway beside its peers.")
    made.add_argument("--python", default=sys.executable, metavar="PATH,PATH", help="interpreters that have the peers")
    made.add_argument("--only", type=lambda text: text.split(","), metavar="NAMES", help="direct, erlmcp, fastmcp ...")
    made.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS), help="http,stdio")
    made.add_argument("--eras", type=lambda text: text.split(","), help=f"{message.MODERN},{message.LEGACY}; both")
    made.add_argument("--connections", type=numbers, default=[1, 16, 64], metavar="N,N", help="default 1,16,64")
    made.add_argument("--seconds", type=float, help="of each measurement; default 2, with --faults 60")
    made.add_argument("--rounds", type=int, help="default 3, with --faults 1")
    made.add_argument("--pin", choices=("apart", "together"), help="bind gateways and the generator to CPUs")
    made.add_argument("--json", metavar="FILE", help="write all results there")
    made.add_argument("--faults", action="store_true", help="kill one upstream, and watch the calls of another")
    made.add_argument("--share", type=float, default=0.5, help="of the capacity, with --faults; default 0.5")
    made.add_argument("--nice", type=int, default=0, help="of the session, with --faults, where that is allowed")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 0, or 1 where a gateway that is installed failed."""
    options = parser().parse_args(sys.argv[1:] if argv is None else list(argv))
    usual = (60.0, 1) if options.faults else (2.0, 3)
    options.seconds, options.rounds = options.seconds or usual[0], options.rounds or usual[1]
    if options.faults:
        return outage.run(options)
    out, say = sys.stdout, sys.stderr
    print(result.title("gateway"), file=out)
    print(
        f"{options.rounds} rounds of {options.seconds:g} s, pinned {options.pin or 'not at all'}", file=out, flush=True
    )
    rows = measure_all(options, say, lambda found: report(found, out))
    if options.json:
        found = [asdict(replace(row)) for row in rows]
        result.write(options.json, result.document("gateway", vars(options), found))
    return 1 if any(row.error and row.error != "not installed" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
