"""``erlmcp bench chaos``: load with faults, and what the healthy tools feel of them.

One server, five tools. Two are healthy: ``echo`` on the event loop, ``digest`` in a thread. ``flaky``, ``upstream`` and
``large`` have fixed rates; beside these, the healthy ones in a closed loop tell the *capacity*. Then both get a share
of it (80 %) at a fixed rate, whether they are answered or not, in three runs by turns, each with a server of its own:

- *fault-free*: with all protections;
- *faults*: every fifth call of ``flaky`` fails, the service behind ``upstream`` stalls for two thirds of the time,
  eight clients ask for large results and do not read them, the memory of the server is limited, and a thread that runs
  tools is killed twice a second;
- *unprotected*: the same, the tools without guards, and the flags of protection off.

Goodput are right answers within the deadline, counted from when the call was due. *Answered* is the share of the calls
sent that got a result or an honest error; calls without an answer are those whose connection broke or whose time ran
out. Of the clients that do not read nobody expects answers. The p99 of two runs are compared round by round, by the
median of the ratios and an interval that holds the true one nine times of ten; a mark within that interval is undecided
(more rounds narrow it). Exit code 1 where a mark is not met. Where a call's time ran out, stderr tells what each thread
of that server was at.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from erlmcp.bench import message, result, table
from erlmcp.bench.load import http_load
from erlmcp.bench.mark import BARE, CALM, FAULTS, Mark, Row, marks
from erlmcp.bench.process import PeerError, Running, own_peer

if TYPE_CHECKING:
    from erlmcp.bench.load import Load

OFF = "circuit_breaker,adaptive_timeouts,rate_limit,backpressure,work_stealing,priority_messages,priority_queues"
LARGE_BYTES = 1 << 18
STACK_LINES = 200
DEAF_COUNT, DEAF_CALLS = 8, 50
STALLS = ((0.1, 0.45), (0.55, 0.9))  # of a round
KILL_EVERY_S = 0.5
AUTOGROUP = "/proc/self/autogroup"
FAULT_NAMES = ("fail", "stall", "deaf", "memory", "kill")
CHAOS = own_peer("chaos_erlmcp.py")


@dataclass(frozen=True)
class Tool:
    """One tool of the server, and how it is called."""

    name: str
    arguments: dict[str, object]
    expect: bytes
    connections: int
    depth: int  # requests outstanding on a connection at most, at a fixed rate
    rate: float | None = None  # None: healthy, a share of the capacity

    @property
    def is_healthy(self) -> bool:
        return self.rate is None

    def requests(self, port: int, fails: bool) -> list[bytes]:
        """One for each connection."""
        if self.name != "flaky":
            return [message.http(port, message.call(self.name, self.arguments))]
        told = [{"fails": fails and turn % 5 == 0} for turn in range(self.connections)]
        return [message.http(port, message.call(self.name, {**each})) for each in told]


TOOLS = (
    Tool("echo", {"text": message.TEXT}, message.EXPECT, 16, 16),
    Tool("digest", {"text": message.TEXT}, hashlib.sha256(message.TEXT.encode()).hexdigest().encode(), 8, 16),
    Tool("flaky", {}, b'"text":"done"', 10, 8, 300.0),
    Tool("upstream", {"text": message.TEXT}, message.EXPECT, 16, 8, 60.0),
    Tool("large", {"size": LARGE_BYTES}, b'"text":"xxxx', 4, 4, 40.0),
)


class Upstream:
    """Another service: answers a line with the same line, or, while it stalls, with nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._held: list[socket.socket] = []
        self._lock = threading.Lock()
        self._stalls = False
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                made, _ = self._listener.accept()
            except OSError:  # it was closed
                return
            with self._lock:
                if self._stalls:
                    self._held.append(made)
                    continue
            with made, contextlib.suppress(OSError):
                made.settimeout(1.0)
                made.sendall(made.recv(4096))

    def stall(self, stalls: bool) -> None:
        """Begin to, or drop whoever waits and work again."""
        with self._lock:
            self._stalls = stalls
            for each in self._held:
                each.close()
            self._held.clear()

    def close(self) -> None:
        self.stall(False)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@dataclass
class House:
    """A started server, its loads of all rounds by tool, and the faults that it meets."""

    name: str
    upstream: Upstream
    options: argparse.Namespace
    loads: dict[str, list[Load]] = field(default_factory=dict)
    kill_count: int = 0
    rss_peak_mb: float = 0.0
    stacks: str = ""

    def __post_init__(self) -> None:
        extra = {"CHAOS_UPSTREAM": str(self.upstream.port), "ERLMCP_FLAGS": ""}
        if "memory" in self.faults:
            extra["CHAOS_MEMORY_MB"] = str(self.options.memory_mb)
        if self.name == BARE:
            extra["CHAOS_GUARDS"] = "0"
            extra["ERLMCP_FLAGS"] = ",".join(f"-{flag}" for flag in OFF.split(","))
        self.running = Running(CHAOS, "stateless", sys.executable, extra)
        self.running.start()

    @property
    def faults(self) -> frozenset[str]:
        return frozenset() if self.name == CALM else self.options.faults

    def send(self, tool: Tool, seconds: float, rate: float | None) -> Load:
        return http_load(
            "127.0.0.1",
            self.running.port,
            tool.requests(self.running.port, "fail" in self.faults),
            connections=tool.connections,
            pipeline=1 if rate is None else tool.depth,
            seconds=seconds,
            rate=rate,
            expect=tool.expect,
            timeout_s=self.options.timeout_s,
        )

    def round(self, seconds: float, rates: dict[str, float | None]) -> dict[str, Load]:
        """All tools at once, with the faults where this house has them. Raises PeerError and OSError."""
        found: dict[str, Load] = {}
        acts: list[Callable[[], object]] = [self._caller(tool, seconds, rates[tool.name], found) for tool in TOOLS]
        if "stall" in self.faults:
            acts.append(lambda: self._stall(seconds))
        if "kill" in self.faults:
            acts.append(lambda: self._kill(time.monotonic() + seconds))
        with self._deaf() if "deaf" in self.faults else contextlib.nullcontext():
            together(acts)
        self.running.check()
        if not self.stacks and any("timeout" in load["error_kinds"] for load in found.values()):
            self.running.process.send_signal(signal.SIGUSR1)
            time.sleep(0.2)
            self.stacks = self.running.last_words(STACK_LINES)
        self.rss_peak_mb = peak_mb(self.running.process.pid)
        return found

    def _caller(self, tool: Tool, seconds: float, rate: float | None, found: dict[str, Load]) -> Callable[[], object]:
        return lambda: found.update({tool.name: self.send(tool, seconds, rate)})

    def _stall(self, seconds: float) -> None:
        began = time.monotonic()
        try:
            for at, stalls in (
                (at, stalls) for stall in STALLS for at, stalls in zip(stall, (True, False), strict=True)
            ):
                time.sleep(max(0.0, began + at * seconds - time.monotonic()))
                self.upstream.stall(stalls)
        finally:
            self.upstream.stall(False)

    def _kill(self, end: float) -> None:
        body = message.call("kill_worker", {})
        while time.monotonic() + KILL_EVERY_S < end:
            time.sleep(KILL_EVERY_S)
            with contextlib.suppress(OSError):  # what the tools feel of it is measured, not this
                self.kill_count += self.running.post(body)[0] == 200

    @contextlib.contextmanager
    def _deaf(self) -> Iterator[None]:
        """Clients that ask for large results and read nothing."""
        asked = message.http(self.running.port, message.call("large", {"size": 4 * LARGE_BYTES})) * DEAF_CALLS
        with contextlib.ExitStack() as opened:
            for _ in range(DEAF_COUNT):
                made = opened.enter_context(socket.create_connection(("127.0.0.1", self.running.port), 10))
                made.setblocking(False)
                made.send(asked)
            yield


def together(acts: Sequence[Callable[[], object]]) -> None:
    """Each in a thread of its own. Raises what the first of them raised."""
    errors: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextlib.contextmanager
def session_nice(value: int) -> Iterator[None]:
    """Linux shares the processors among sessions before it looks at the nice value of a process: set the session's, as
    long as this lasts. Raises OSError where that may not be."""
    if not value:
        yield
        return
    with open(AUTOGROUP) as found:
        was = found.read().split()[-1]
    with open(AUTOGROUP, "w") as file:
        file.write(str(value))
    try:
        yield
    finally:
        with contextlib.suppress(OSError), open(AUTOGROUP, "w") as file:
            file.write(was)


def peak_mb(pid: int) -> float:
    """The most memory that a process had resident. Raises OSError."""
    with open(f"/proc/{pid}/status") as found:
        return next(int(line.split()[1]) for line in found if line.startswith("VmHWM:")) * 1024 / 1e6


def measure(options: argparse.Namespace, say: TextIO) -> tuple[list[Row], int]:
    """(rows, threads killed). Raises PeerError and OSError."""
    upstream = Upstream()
    houses: list[House] = []
    try:
        for name in (CALM, FAULTS, BARE):
            houses.append(House(name, upstream, options))
        say.write("\rchaos: capacity          ")
        rates = rates_of(houses[0], options)
        seconds = options.seconds / options.rounds
        for turn in range(options.rounds):
            for house in houses[turn % 3 :] + houses[: turn % 3]:
                say.write(f"\rchaos: round {turn + 1} of {options.rounds}, {house.name}          ")
                for name, load in house.round(seconds, rates).items():
                    house.loads.setdefault(name, []).append(load)
        say.write("\r" + " " * 50 + "\r")
        for house in houses:
            if house.stacks:
                say.write(f"{house.name}, when the time of calls ran out:\n{house.stacks}\n")
        return [row_of(house, tool, rates[tool.name] or 0.0) for house in houses for tool in TOOLS], sum(
            house.kill_count for house in houses
        )
    finally:
        for house in houses:
            house.running.stop()
        upstream.close()


def rates_of(house: House, options: argparse.Namespace) -> dict[str, float | None]:
    """What each tool is offered a second; the capacity is the median of three measurements after a first one."""
    fixed = {tool.name: tool.rate for tool in TOOLS}
    found = [house.round(options.seconds / 40, fixed) for _ in range(4)][1:]
    return {
        tool.name: tool.rate or max(1.0, options.share * statistics.median(each[tool.name]["rate"] for each in found))
        for tool in TOOLS
    }


def row_of(house: House, tool: Tool, rate: float) -> Row:
    loads = house.loads[tool.name]
    deadline_ns = int(house.options.deadline_ms * 1e6)
    in_time = sum(load["latencies"].counts_upto([deadline_ns])[0] for load in loads)
    kinds = [load["error_kinds"] for load in loads]
    refused, failed = (sum(each.get(kind, 0) for each in kinds) for kind in ("status", "wrong"))
    errors = sum(load["errors"] + load["unmatched"] for load in loads)
    first = next((load["first_error"] for load in loads if load["errors"] and load["first_error"]), b"")
    return Row(
        house.name,
        tool.name,
        tool.is_healthy,
        rate,
        in_time / house.options.seconds,
        statistics.median(load["p50_us"] for load in loads),
        statistics.median(load["p99_us"] for load in loads),
        sum(load["sent"] for load in loads),
        sum(load["count"] for load in loads),
        refused,
        failed,
        errors - refused - failed,
        sum(load["unsent"] for load in loads),
        house.rss_peak_mb,
        [load["p99_us"] for load in loads],
        first[-200:].decode(errors="replace"),
    )


def report(rows: Sequence[Row], found: Sequence[Mark], out: TextIO) -> None:
    heads = ["run, tool", "offered/s", "goodput/s", "p50 ms", "p99 ms", "answered", "refused", "failed", "unanswered"]
    heads += ["unsent", "peak MB"]
    cells = [
        [
            f"{row.run}, {row.tool}{'' if row.is_healthy else ' *'}",
            table.number(row.offered),
            table.number(row.goodput),
            table.number(row.p50_us / 1e3),
            table.number(row.p99_us / 1e3),
            f"{row.answered:.3%}",
            *(f"{count:,}" for count in (row.refused, row.failed, row.unanswered, row.unsent)),
            table.number(row.rss_peak_mb),
        ]
        for row in rows
    ]
    table.write(out, "Load with faults", heads, cells, ["* the faults are in this tool"])
    lines = [[mark.name, mark.wanted, mark.found, mark.verdict] for mark in found]
    table.write(out, "Marks, beside the fault-free run", ["mark", "wanted", "found", "verdict"], lines)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="erlmcp bench chaos", description=(__doc__ or "").split("\n", 1)[0])
    made.add_argument("--seconds", type=float, default=60.0, help="of each run; default 60")
    made.add_argument("--rounds", type=int, default=12, help="turns that each run is cut into; default 12")
    made.add_argument("--share", type=float, default=0.8, help="of the capacity; default 0.8")
    made.add_argument("--deadline-ms", type=float, default=500.0, help="of an answer that counts; default 500")
    made.add_argument("--timeout-s", type=float, default=15.0, help="a call without an answer for so long is lost")
    made.add_argument("--memory-mb", type=int, default=160, help="that a server with faults may take on; default 160")
    made.add_argument("--nice", type=int, default=0, help="of the session, which has to be allowed; default 0")
    names = ",".join(FAULT_NAMES)
    made.add_argument("--faults", type=fault_names, default=names, metavar="NAME,NAME", help=f"of {names}; default all")
    made.add_argument("--json", metavar="FILE", help="write all results there")
    return made


def fault_names(text: str) -> frozenset[str]:
    """Raises argparse's error for what is none."""
    found = frozenset(text.split(","))
    if found - {*FAULT_NAMES}:
        raise argparse.ArgumentTypeError(f"expected of {', '.join(FAULT_NAMES)} with commas between, got {text!r}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 0, or 1 where a mark is not met or a server died."""
    made = parser()
    options = made.parse_args(argv)
    if options.seconds <= 0 or options.rounds < 1 or options.share <= 0:
        made.error("expected seconds and share above 0, and rounds from 1")
    out, say = sys.stdout, sys.stderr
    print(result.title("chaos"), file=out)
    print(f"{options.seconds:g} s a run in {options.rounds} turns, {options.share:.0%} of the capacity", file=out)
    out.flush()
    try:
        with session_nice(options.nice):
            rows, kill_count = measure(options, say)
    except (PeerError, OSError) as error:
        print(f"erlmcp bench chaos: {error}", file=say)
        return 1
    found = marks(rows)
    report(rows, found, out)
    print(f"{kill_count} threads killed", file=out)
    if options.json:
        more: dict[str, Any] = {"marks": [asdict(mark) for mark in found], "killed": kill_count}
        settings = {**vars(options), "faults": sorted(options.faults)}
        more["versions"] = result.versions()
        result.write(options.json, result.document("chaos", settings, [asdict(row) for row in rows], **more))
    return 0 if all(mark.is_met for mark in found) else 1


if __name__ == "__main__":
    sys.exit(main())
