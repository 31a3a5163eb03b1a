"""erlmcp beside its peers: the same tool in several servers, measured alternately in one run.

    python -m erlmcp.bench.peers --python PATH --rounds 3 --seconds 2 --json peers.json

Every server runs in a process of its own; all of them stay up while the load goes round them, round after round, so
that a drift of the machine meets all alike. Each answer is checked (status, id, text). Reported is the median of the
rounds. CPU is that of the server and its children, for one right answer: the steadiest figure on a machine with other
work. A server that is not installed, does not start, dies or answers wrong has a row that says so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, TextIO

from erlmcp.bench import message, result, table
from erlmcp.bench.load import http_load, lines_load
from erlmcp.bench.process import PEERS, Peer, PeerError, Running, interpreter, version_of

if TYPE_CHECKING:
    from erlmcp.bench.load import Load

MIB = 1 << 20
WARM_UP_S = 0.5
SUITES = ("echo", "large", "sessions")


@dataclass(frozen=True)
class Case:
    """One table: what is sent, how, and how much of it at once."""

    title: str
    mode: str
    concurrency: int
    body: bytes
    expect: bytes
    rate: float | None = None


@dataclass
class Row:
    """One server in one table: medians over the rounds, or the reason why there are none."""

    case: str
    server: str
    version: str
    is_limit: bool
    error: str = ""
    rate: float | None = None
    p50_us: float | None = None
    p95_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    server_cpu_us: float | None = None
    client_cpu_us: float | None = None
    rss_mb: float | None = None
    first_answer_s: float | None = None
    unsent: int = 0
    rounds: list[dict[str, float]] = field(default_factory=list)

    def settle(self) -> None:
        """Take the medians."""
        for name in self.rounds[0] if self.rounds and not self.error else ():
            setattr(self, name, statistics.median(one[name] for one in self.rounds))


def run_load(running: Running, case: Case, seconds: float) -> Load:
    """One measurement. Raises PeerError for a dead server and for any answer that is not right."""
    try:
        if case.mode == "stdio":
            assert running.process.stdin is not None
            assert running.process.stdout is not None
            fds = (running.process.stdout.fileno(), running.process.stdin.fileno())
            load = lines_load(
                case.body, fds=fds, inflight=case.concurrency, seconds=seconds, expect=case.expect, rate=case.rate
            )
        else:
            load = http_load(
                "127.0.0.1",
                running.port,
                running.requests(case.body, case.concurrency),
                connections=case.concurrency,
                seconds=seconds,
                expect=case.expect,
                rate=case.rate,
            )
    except OSError as error:
        running.check()
        raise PeerError(f"{type(error).__name__}: {error}") from error
    running.check()
    if load["errors"] or load["unmatched"]:
        raise PeerError(
            f"{load['errors']} of {load['sent']} failed {load['error_kinds']}, {load['unmatched']} unmatched: "
            f"{load['first_error'][-160:]!r}"
        )
    if not load["count"]:
        raise PeerError("no answer within the run")
    return load


def measure(running: Running, case: Case, seconds: float) -> dict[str, float]:
    """One round of one row."""
    before = running.cpu_s()
    load = run_load(running, case, seconds)
    return {
        "rate": load["rate"],
        "p50_us": load["p50_us"],
        "p95_us": load["p95_us"],
        "p99_us": load["p99_us"],
        "p999_us": load["p999_us"],
        "server_cpu_us": (running.cpu_s() - before) / load["count"] * 1e6,
        "client_cpu_us": load["cpu_us"],
        "rss_mb": running.rss_mb(),
        "unsent": load["unsent"],
    }


class Field:
    """The servers of one mode, started one after the other; in order, with those that failed and why."""

    def __init__(
        self, peers: Sequence[Peer], mode: str, options: argparse.Namespace, extra: dict[str, str], say: TextIO
    ) -> None:
        python, cpu = options.python, server_cpu(options)
        self.mode = mode
        self.running: dict[str, Running] = {}
        self.versions: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.peers = peers
        for peer in self.peers:
            self.versions[peer.name] = "-"
            try:
                self.versions[peer.name] = version_of(peer, interpreter(peer, python))
                one = Running(peer, mode, interpreter(peer, python), extra, cpu)
                one.start()
                self.running[peer.name] = one
            except PeerError as error:
                self.errors[peer.name] = str(error)
            print(f"  {mode}: {peer.name} {self.errors.get(peer.name, 'is up')}", file=say, flush=True)

    def stop(self) -> None:
        for one in self.running.values():
            one.stop()

    def again(self, name: str) -> None:
        """Start a server that failed afresh: what it still owed must not reach the next measurement."""
        one = self.running.pop(name)
        one.stop()
        try:
            one.start()
            self.running[name] = one
        except PeerError as error:
            self.errors[name] = str(error)

    def row(self, peer: Peer, case: Case) -> Row:
        row = Row(case.title, peer.name, self.versions[peer.name], peer.is_limit, self.errors.get(peer.name, ""))
        if peer.name in self.running:
            row.first_answer_s = self.running[peer.name].first_answer_s
        return row


def go_round(servers: Field, cases: Sequence[Case], rounds: int, seconds: float, say: TextIO, rows: list[Row]) -> None:
    """All cases over all servers, round robin, into ``rows``. A row that failed once is not measured again."""
    found = {(case.title, peer.name): servers.row(peer, case) for case in cases for peer in servers.peers}
    rows += found.values()
    try:
        for turn in range(rounds):
            for case in cases:
                print(f"  round {turn + 1} of {rounds}: {case.title}", file=say, flush=True)
                for peer in servers.peers:
                    row = found[case.title, peer.name]
                    if row.error or peer.name not in servers.running:
                        row.error = row.error or servers.errors[peer.name]
                        continue
                    try:
                        if turn == 0:
                            run_load(servers.running[peer.name], case, min(WARM_UP_S, seconds))
                        row.rounds.append(measure(servers.running[peer.name], case, seconds))
                    except PeerError as error:
                        row.error = str(error)
                        servers.again(peer.name)
    finally:
        for row in found.values():
            row.settle()


# ---------------------------------------------------------------------------------------------------- suites
def echo_cases(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, str], list[Case]]]:
    """(mode, environment, cases) of the echo suite."""
    modern = message.call("echo", {"text": message.TEXT})
    legacy = message.call("echo", {"text": message.TEXT}, era=message.LEGACY)
    at = f", open loop at {options.rate:g}/s" if options.rate else ""
    for mode, body, what in (
        ("stateless", modern, f"HTTP, {message.MODERN}"),
        ("stateful", legacy, f"HTTP, {message.LEGACY} with sessions and SSE"),
        ("stdio", modern, f"stdio, {message.MODERN}"),
    ):
        if options.transport and (mode == "stdio") != (options.transport == "stdio"):
            continue
        unit = "in flight" if mode == "stdio" else "at once"
        counts = options.inflight if mode == "stdio" else options.connections
        yield (
            mode,
            {},
            [Case(f"echo over {what}, {n} {unit}{at}", mode, n, body, message.EXPECT, options.rate) for n in counts],
        )


def large_cases(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, str], list[Case]]]:
    """A result of 1 MiB; a list of 1,000 tools, and a call of one of them."""
    blob = message.call("blob", {"size": MIB})
    text = b'"text":"' + b"x" * MIB + b'"'
    names = message.request("tools/list", {})
    one = message.call("echo", {"text": message.TEXT})
    for mode, where in (("stateless", "HTTP"), ("stdio", "stdio")):
        if options.transport and (mode == "stdio") != (options.transport == "stdio"):
            continue
        extra = {"BENCH_BLOB": "1", "BENCH_BLOB_BYTES": str(MIB)}
        yield mode, extra, [Case(f"1 MiB result over {where}, 1 at a time", mode, 1, blob, text)]
        listed = Case(f"tools/list of 1,000 tools over {where}, 1 at a time", mode, 1, names, b'"tool_0999"')
        called = Case(f"echo with 1,000 tools registered over {where}, 1 at a time", mode, 1, one, message.EXPECT)
        yield mode, {"BENCH_TOOLS": "1000"}, [listed, called]


def echo_or_large(options: argparse.Namespace, peers: Sequence[Peer], say: TextIO, *, suite: str) -> list[Row]:
    """All rows; where it is interrupted, those with what was measured until then."""
    rows: list[Row] = []
    for mode, extra, cases in (echo_cases if suite == "echo" else large_cases)(options):
        is_fixed = suite == "echo" or "BENCH_BLOB" in extra  # an answer that a limit has
        kept = [peer for peer in peers if mode in peer.modes and (is_fixed or not peer.is_limit)]
        if not kept:
            continue
        servers = Field(kept, mode, options, extra, say)
        try:
            with pinned(options):
                go_round(servers, cases, options.rounds, options.seconds, say, rows)
        except KeyboardInterrupt:
            print("  interrupted: what follows is what was measured until then", file=say, flush=True)
            break
        finally:
            servers.stop()
    return rows


def report(rows: Sequence[Row], out: TextIO) -> None:
    """One table for each case."""
    heads = ["server", "version", "req/s", "erlmcp is", "p50 ms", "p99 ms", "p99.9 ms"]
    heads += ["CPU us", "CPU ratio", "RSS MB", "start s"]
    for case in dict.fromkeys(row.case for row in rows):
        here = [row for row in rows if row.case == case]
        ours = next((row for row in here if row.server == "erlmcp"), Row(case, "erlmcp", "", False))
        cells = []
        for row in here:
            ms = [table.number(one / 1e3 if one is not None else None) for one in (row.p50_us, row.p99_us, row.p999_us)]
            cells.append(
                [
                    row.server,
                    row.version,
                    table.number(row.rate),
                    table.ratio(ours.rate, row.rate),
                    *ms,
                    table.number(row.server_cpu_us),
                    table.ratio(row.server_cpu_us, ours.server_cpu_us),
                    table.number(row.rss_mb),
                    table.number(row.first_answer_s),
                ]
            )
        notes = [f"{row.server}: {row.error}" for row in here if row.error]
        notes += [f"{row.server}: {row.unsent:,.0f} requests were due and not sent" for row in here if row.unsent]
        table.write(out, case, heads, cells, notes)


def server_cpu(options: argparse.Namespace) -> int | None:
    """The CPU that servers are bound to, if any: the last one. The generator is bound to the first, or to it too."""
    return None if options.pin is None else max(os.sched_getaffinity(0))


@contextlib.contextmanager
def pinned(options: argparse.Namespace) -> Iterator[None]:
    """Bind the generator's thread for as long as a measurement lasts; servers were bound at their start."""
    here = os.sched_getaffinity(0)
    if options.pin is not None:
        os.sched_setaffinity(0, {min(here) if options.pin == "apart" else max(here)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, here)


def numbers(text: str) -> list[int]:
    """``1,16,64`` as a list of positive ints. Raises argparse's error for anything else."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"expected positive numbers with commas between, got {text!r}")
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="erlmcp bench peers", description="Measure erlmcp beside its peers.")
    made.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that has the peers")
    made.add_argument("--suite", choices=SUITES, default="echo")
    made.add_argument("--only", metavar="NAMES", help=f"of {', '.join(peer.name for peer in PEERS)}")
    made.add_argument("--transport", choices=("http", "stdio"), help="default: both")
    made.add_argument("--connections", type=numbers, default=[1, 16, 64], metavar="N,N", help="HTTP; default 1,16,64")
    made.add_argument("--inflight", type=numbers, default=[1, 64], metavar="N,N", help="stdio; default 1,64")
    made.add_argument("--seconds", type=float, default=2.0, help="of each measurement; default 2")
    made.add_argument("--rounds", type=int, default=3, help="default 3")
    made.add_argument("--rate", type=float, help="open loop: so many requests a second, latency from when each was due")
    made.add_argument("--sessions", type=int, default=1000, help="how many the sessions suite opens; default 1000")
    made.add_argument(
        "--pin",
        choices=("apart", "together"),
        help="bind servers to one CPU and the generator to another, or to the same; default: as the kernel likes",
    )
    made.add_argument("--json", metavar="FILE", help="write all results there")
    made.add_argument(
        "--libraries",
        action="store_true",
        help="not servers: the libraries beside our parts; takes the options of bench components",
    )
    return made


def without(peer: Peer, mode: str) -> Peer:
    """The same server without one of its modes."""
    return replace(peer, modes=tuple(one for one in peer.modes if one != mode))


def chosen(names: str | None) -> list[Peer]:
    """The peers that ``--only`` names. Raises ValueError for a name that is none."""
    if names is None:
        return list(PEERS)
    wanted = names.split(",")
    unknown = set(wanted) - {peer.name for peer in PEERS}
    if unknown:
        known = ", ".join(peer.name for peer in PEERS)
        raise ValueError(f"unknown server {', '.join(sorted(unknown))}; expected of {known}")
    return [peer for peer in PEERS if peer.name in wanted]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 0, or 1 where a server that is installed failed."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--libraries" in words:
        from erlmcp.bench import components

        return components.main(words)
    made = parser()
    options = made.parse_args(words)
    try:
        peers = chosen(options.only)
    except ValueError as error:
        made.error(str(error))
    out, say = sys.stdout, sys.stderr
    print(result.title("peers"), file=out)
    shape = (
        f"suite {options.suite}, {options.rounds} rounds of {options.seconds:g} s, pinned {options.pin or 'not at all'}"
    )
    print(shape, file=out, flush=True)
    if options.suite == "sessions":
        from erlmcp.bench import idle

        rows = idle.measure_all(options, peers, say)
        idle.report(rows, out)
        results: list[dict[str, object]] = [asdict(row) for row in rows]
        errors = [row.error for row in rows]
    else:
        measured = echo_or_large(options, peers, say, suite=options.suite)
        report(measured, out)
        results = [asdict(row) for row in measured]
        errors = [row.error for row in measured]
    if options.json:
        result.write(options.json, result.document("peers", vars(options), results))
    return 1 if any(error and error != "not installed" for error in errors) else 0


if __name__ == "__main__":
    sys.exit(main())
