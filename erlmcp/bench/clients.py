"""erlmcp's client beside its peers: the same calls to the same server, measured alternately in one run.

    python -m erlmcp.bench.clients --python PATH --node FOLDER --rounds 3 --seconds 2 --json clients.json

The server is a C program that knows what a client needs (``fixed``), over HTTP in a process of its own, over stdio
started by each client. Every client runs in a process of its own and makes so many calls at a time, each answer
checked, round after round; all of them stay up, so that a drift of the machine meets all alike. Reported is the median
of the rounds. A client that is not installed, fails or is answered wrong has a row that says so.

Beside them: one connection of HTTP/2 with many streams and as many connections of HTTP/1.1, both of our client, to our
own server, as nobody else's C answers HTTP/2 here.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TextIO

from erlmcp.bench import result, table
from erlmcp.bench.peers import numbers
from erlmcp.bench.process import ROOT, SERVERS, START_TIMEOUT_S, Peer, PeerError, environment, free_port, version_of

CALLERS = Path(__file__).parent / "callers"
STREAM_COUNT = 100
WARM_UP_S = 0.3
FIXED = "from erlmcp.bench import fixed; fixed."
SUITES = ("http", "stdio", "http2")


@dataclass(frozen=True)
class Caller:
    """One client. ``package`` is whose version is printed: of Python, or of npm where it begins with "@"."""

    name: str
    package: str
    program: str
    words: tuple[str, ...] = ()  # before those that say where the server is
    more: tuple[str, ...] = ()  # behind them
    is_own: bool = False


OURS = Caller("erlmcp", "erlmcp", "call_erlmcp.py", is_own=True)
CLIENTS = (
    OURS,
    Caller("mcp", "mcp", "call_mcp.py"),
    Caller("fastmcp", "fastmcp", "call_fastmcp.py"),
    Caller("typescript-sdk", "@modelcontextprotocol/sdk", "call_typescript.mjs", ("sdk",)),
    Caller("typescript-client", "@modelcontextprotocol/client", "call_typescript.mjs", ("client",)),
)
TWO = (
    replace(OURS, name=f"{STREAM_COUNT} connections of HTTP/1.1", more=(str(STREAM_COUNT),)),
    replace(OURS, name="one connection of HTTP/2", more=("http2",)),
)


@dataclass
class Row:
    """One client in one table: medians over the rounds, or the reason why there are none."""

    case: str
    client: str
    version: str
    error: str = ""
    rate: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    cpu_us: float | None = None
    calls_per_write: float | None = None  # of our client, over stdio
    reuse: float | None = None  # of our client, over HTTP: exchanges on connections that were open already
    rounds: list[dict[str, float]] = field(default_factory=list)

    def add(self, said: dict[str, float]) -> None:
        """One round, as its caller told it."""
        count = said["count"]
        if not count:
            raise PeerError("no answer within the run")
        found = {"rate": count / said["seconds"], "cpu_us": said["cpu_s"] / count * 1e6}
        found |= {name: said[name] for name in ("p50_us", "p99_us")}
        if said.get("writes"):
            found["calls_per_write"] = count / said["writes"]
        if said.get("sent"):
            found["reuse"] = 1 - said["opened"] / said["sent"]
        self.rounds.append(found)

    def settle(self) -> None:
        """Take the medians."""
        for name in self.rounds[0] if self.rounds and not self.error else ():
            setattr(self, name, statistics.median(one[name] for one in self.rounds if name in one))


class Running:
    """A started caller that has made a call. To be stopped by its owner."""

    def __init__(self, caller: Caller, target: Sequence[str], python: str, node: str | None, folder: Path) -> None:
        command, self.version = _command_of(caller, python, node, folder)
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._held = b""
        self.process = subprocess.Popen(
            [*command, *caller.words, *target, *caller.more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=_environment(caller),
        )
        try:
            self._line(START_TIMEOUT_S)
        except PeerError:
            self.stop()
            raise

    def turn(self, inflight: int, seconds: float) -> dict[str, float]:
        """One closed loop. Raises PeerError."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"inflight": inflight, "seconds": seconds}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise PeerError(f"closed its input: {self._last_words()}") from error
        return self._line(seconds + START_TIMEOUT_S)

    def _line(self, wait_s: float) -> dict[str, float]:
        assert self.process.stdout is not None
        deadline = time.monotonic() + wait_s
        while b"\n" not in self._held:
            if not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise PeerError(f"said nothing for {wait_s:.0f} s: {self._last_words()}")
            read = os.read(self.process.stdout.fileno(), 65536)
            if not read:
                self.process.wait(3)
                raise PeerError(f"ended with status {self.process.returncode}: {self._last_words()}")
            self._held += read
        line, _, self._held = self._held.partition(b"\n")
        found: dict[str, float] = json.loads(line)
        return found

    def _last_words(self) -> str:
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "(silent)"

    def stop(self) -> None:
        """By the end of its input, and by SIGKILL where that does not help in 3 s."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(3)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.stderr.close()


def _environment(caller: Caller) -> dict[str, str]:
    found = environment(Peer(caller.name, caller.package, (), lambda mode, port: [], is_own=caller.is_own), {})
    if not caller.is_own:  # Its server over stdio is ours.
        found["PYTHONPATH"] = str(ROOT)
    return found


def _command_of(caller: Caller, python: str, node: str | None, folder: Path) -> tuple[list[str], str]:
    """(how the program is started, the version of its package). Raises PeerError where it is not installed."""
    if not caller.package.startswith("@"):
        python = sys.executable if caller.is_own else python
        known = Peer(caller.name, caller.package, (), lambda mode, port: [], is_own=caller.is_own)
        return [python, str(CALLERS / caller.program)], version_of(known, python)
    modules = Path(node or "") / "node_modules"
    about = modules / caller.package / "package.json"
    own = modules / ".bin" / "node"
    program = str(own) if own.exists() else shutil.which("node")
    if node is None or not about.exists() or program is None:
        raise PeerError("not installed")
    if not (folder / caller.program).exists():  # Modules are looked for beside the program.
        (folder / "node_modules").symlink_to(modules.resolve())
        shutil.copy(CALLERS / caller.program, folder)
    return [program, str(folder / caller.program)], str(json.loads(about.read_text())["version"])


@contextmanager
def served(command: list[str], port: int) -> Iterator[str]:
    """The address of a server that was started with this command and listens. Raises PeerError."""
    found = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=found) as process:
        try:
            _await_port(process, port)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.terminate()


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    import socket

    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with socket.socket() as made:
            if made.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise PeerError(f"the server does not listen on port {port}")
        time.sleep(0.002)


@contextmanager
def target_of(suite: str) -> Iterator[list[str]]:
    """The words that lead a caller to the suite's server."""
    if suite == "stdio":
        yield ["stdio", sys.executable, "-c", f"{FIXED}stdio()"]
        return
    port = free_port()
    own = ["-m", "erlmcp", "serve", str(SERVERS / "echo_erlmcp.py"), "--port", str(port), "--http2"]
    with served([sys.executable, *(own if suite == "http2" else ["-c", f"{FIXED}http({port})"])], port) as url:
        yield ["http", url]


def measure(
    suite: str, callers: Sequence[Caller], inflight: Sequence[int], options: argparse.Namespace, say: TextIO
) -> list[Row]:
    """All rows of one suite, its callers round robin. A row that failed once is not measured again."""
    what = {"http": "HTTP, the C server", "stdio": "stdio, the C server", "http2": "HTTP, our server"}[suite]
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        target = stack.enter_context(target_of(suite))
        running: dict[str, Running] = {}
        for caller in callers:
            made = [Row(f"{what}, {count} in flight", caller.name, "-") for count in inflight]
            rows += made
            try:
                one = running[caller.name] = Running(caller, target, options.python, options.node, folder)
                stack.callback(one.stop)
                for row in made:
                    row.version = one.version
            except PeerError as error:
                for row in made:
                    row.error = str(error)
            print(f"  {suite}: {caller.name} {made[0].error or 'is up'}", file=say, flush=True)
        for turn in range(options.rounds):
            for count in inflight:
                print(f"  round {turn + 1} of {options.rounds}: {what}, {count} in flight", file=say, flush=True)
                for row in rows:
                    if row.error or not row.case.endswith(f", {count} in flight"):
                        continue
                    try:
                        if turn == 0:
                            running[row.client].turn(count, min(WARM_UP_S, options.seconds))
                        row.add(running[row.client].turn(count, options.seconds))
                    except PeerError as error:
                        row.error = str(error)
    for row in rows:
        row.settle()
    return rows


def report(rows: Sequence[Row], out: TextIO) -> None:
    """One table for each case."""
    heads = ["client", "version", "calls/s", "the first is", "p50 us", "p99 us", "CPU us", "calls/write", "reuse %"]
    for case in dict.fromkeys(row.case for row in rows):
        here = [row for row in rows if row.case == case]
        cells = [
            [
                row.client,
                row.version,
                table.number(row.rate),
                table.ratio(here[0].rate, row.rate),
                *(table.number(one) for one in (row.p50_us, row.p99_us, row.cpu_us, row.calls_per_write)),
                table.number(None if row.reuse is None else 100 * row.reuse, 4),
            ]
            for row in here
        ]
        table.write(out, case, heads, cells, [f"{row.client}: {row.error}" for row in here if row.error])


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="erlmcp bench clients", description="Measure our client beside its peers.")
    made.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that has the peers")
    made.add_argument(
        "--node",
        default=os.environ.get("ERLMCP_NODE_MODULES"),
        metavar="FOLDER",
        help="whose node_modules has the TypeScript clients; default: ERLMCP_NODE_MODULES",
    )
    made.add_argument("--only", metavar="NAMES", help=f"of {', '.join(caller.name for caller in CLIENTS)}")
    made.add_argument("--suite", choices=SUITES, action="append", help="may be repeated; default: all")
    made.add_argument("--inflight", type=numbers, default=[1, 16], metavar="N,N", help="default 1,16")
    made.add_argument("--seconds", type=float, default=2.0, help="of each measurement; default 2")
    made.add_argument("--rounds", type=int, default=3, help="default 3")
    made.add_argument("--json", metavar="FILE", help="write all results there")
    return made


def chosen(names: str | None) -> list[Caller]:
    """The clients that ``--only`` names. Raises ValueError for a name that is none."""
    wanted = [caller.name for caller in CLIENTS] if names is None else names.split(",")
    unknown = set(wanted) - {caller.name for caller in CLIENTS}
    if unknown:
        known = ", ".join(caller.name for caller in CLIENTS)
        raise ValueError(f"unknown client {', '.join(sorted(unknown))}; expected of {known}")
    return [caller for caller in CLIENTS if caller.name in wanted]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 0, or 1 where a client that is installed failed."""
    made = parser()
    options = made.parse_args(argv)
    try:
        callers = chosen(options.only)
    except ValueError as error:
        made.error(str(error))
    out, say = sys.stdout, sys.stderr
    print(result.title("clients"), file=out)
    print(f"{options.rounds} rounds of {options.seconds:g} s", file=out, flush=True)
    rows: list[Row] = []
    for suite in options.suite or SUITES:
        is_two = suite == "http2"
        rows += measure(suite, TWO if is_two else callers, [STREAM_COUNT] if is_two else options.inflight, options, say)
    report(rows, out)
    if options.json:
        found: list[dict[str, Any]] = [asdict(row) for row in rows]
        result.write(options.json, result.document("clients", vars(options), found))
    return 1 if any(row.error and row.error != "not installed" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
