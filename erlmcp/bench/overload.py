"""``erlmcp bench overload``: our server with more to do than it can, and what the critical lane feels of it.

*Saturated*: 64 connections keep 16 echo calls in flight each (HTTP: pipelined), so that the server is busy all the
time, while one more connection asks ``server/discover`` at a fixed rate. With the flag ``priority_messages`` and
without it, by turns: what the flag costs the crowd, and what it gives the one.

*Overload*: a tool that costs CPU time on the event loop. Its peak is measured in a closed loop; then calls arrive at a
fixed rate of so many times that peak, whether they are answered or not, while one connection asks ``server/discover``.
Goodput are right answers within the deadline, counted from when the call was due. With ``backpressure`` and
``priority_messages``, and without both.

The generator's threads share a machine with the server. ``--realtime`` gives all of them a place before everything else
on the machine (as root, and for less than a second at a time): without it other programs are in the tail of each row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from erlmcp.bench import message, result, table
from erlmcp.bench.load import http_load, lines_load
from erlmcp.bench.peers import numbers
from erlmcp.bench.process import PeerError, Running, free_port, own_peer

if TYPE_CHECKING:
    from erlmcp.bench.load import Load

CONNECTIONS, DEPTH = 64, 16
PROBE_EXPECT = b"supportedVersions"
ON, OFF = "on", "off"
SATURATED_OFF, OVERLOAD_OFF = "-priority_messages", "-priority_messages,-backpressure"
WORKER = own_peer("work_erlmcp.py")


@dataclass
class SaturatedRow:
    """One way under a crowd, flags on or off: medians over the rounds."""

    way: str
    flags: str
    rate: float  # the crowd's calls a second
    p50_us: float  # of the probe
    p99_us: float
    answered: int  # probes, all rounds
    errors: int


@dataclass
class OverloadRow:
    """One multiple of the peak, flags on or off."""

    flags: str
    multiple: int  # 0: the closed loop that finds the peak
    offered: float  # calls a second
    goodput: float  # right answers within the deadline, a second
    late: float  # right answers after it
    refused: float  # honest errors
    unsent: float  # due, but no connection had room
    broken: int  # everything else; 0 on a sane server
    probe_p50_us: float
    probe_p99_us: float
    rss_mb: float


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="erlmcp bench overload", description=(__doc__ or "").split("\n", 1)[0])
    made.add_argument("--suite", choices=("all", "saturated", "overload"), default="all")
    made.add_argument("--ways", default="tcp,unix,http", help="of saturated; default tcp,unix,http")
    made.add_argument("--multiples", type=numbers, default=[2, 5], metavar="N,N", help="of the peak; default 2,5")
    made.add_argument("--work-us", type=float, default=300.0, help="CPU time of the tool; default 300")
    made.add_argument("--deadline-ms", type=float, default=500.0, help="of an answer that counts; default 500")
    made.add_argument("--delay-max-s", type=float, default=0.1, help="the server's queue_delay_max_s; default 0.1")
    made.add_argument("--seconds", type=float, default=0.8, help="of each measurement; default 0.8")
    made.add_argument("--rounds", type=int, default=5, help="of saturated; default 5")
    made.add_argument("--probe-rate", type=float, default=500.0, help="probes a second; default 500")
    made.add_argument("--realtime", action="store_true", help="before all other programs, where that is allowed")
    made.add_argument("--json", metavar="FILE", help="write all results there")
    return made


class House:
    """A started server, and the ways to it."""

    def __init__(self, flags: str, folder: str, options: argparse.Namespace) -> None:
        self.path = str(Path(folder) / f"{'off' if flags else 'on'}.sock")
        self.lines_port = free_port()
        self.options = options
        extra = {
            "BENCH_WORK_US": str(options.work_us),
            "BENCH_LINES_PORT": str(self.lines_port),
            "BENCH_LINES_PATH": self.path,
            "ERLMCP_FLAGS": flags,
            "ERLMCP_QUEUE_DELAY_MAX_S": str(options.delay_max_s),
        }
        self.running = Running(WORKER, "stateless", sys.executable, extra)
        self.running.start()
        if options.realtime:
            os.sched_setscheduler(self.running.process.pid, os.SCHED_RR, os.sched_param(5))

    def send(self, way: str, body: bytes, *, connections: int, depth: int, **options: Any) -> Load:
        if way == "http":
            port = self.running.port
            data = message.http(port, body)
            return http_load("127.0.0.1", port, data, connections=connections, pipeline=depth, **options)
        if way == "tcp":
            options["address"] = ("127.0.0.1", self.lines_port)
        else:
            options["path"] = self.path
        return lines_load(body, connections=connections, inflight=depth, **options)

    def beside(self, way: str, crowd: Callable[[], Load]) -> tuple[Load, Load]:
        """A crowd, and a probe beside it."""
        options = self.options
        if options.realtime:
            time.sleep(1.0)  # Linux stops what runs so for more than 0.95 s of a second
        found: dict[str, Load] = {}
        errors: list[BaseException] = []

        def run(name: str, priority: int, act: Callable[[], Load]) -> None:
            try:
                if options.realtime:
                    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))
                found[name] = act()
            except BaseException as error:
                errors.append(error)

        def probe() -> Load:
            time.sleep(0.05)  # the crowd begins
            body = message.request("server/discover", {})
            rate, seconds = options.probe_rate, max(0.1, options.seconds - 0.1)
            return self.send(way, body, connections=1, depth=1, rate=rate, seconds=seconds, expect=PROBE_EXPECT)

        threads = [
            threading.Thread(target=run, args=("crowd", 5, crowd)),
            threading.Thread(target=run, args=("probe", 10, probe)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return found["crowd"], found["probe"]


def saturated(options: argparse.Namespace, say: TextIO) -> list[SaturatedRow]:
    """Raises PeerError and OSError."""
    rows = []
    body = message.call("echo", {"text": message.TEXT})
    with tempfile.TemporaryDirectory() as folder:
        houses = {ON: House("", folder, options), OFF: House(SATURATED_OFF, folder, options)}
        try:
            for way in options.ways.split(","):
                found: dict[str, list[tuple[Load, Load]]] = {ON: [], OFF: []}
                for turn in range(options.rounds):
                    for flags in (ON, OFF) if turn % 2 == 0 else (OFF, ON):
                        say.write(f"\rsaturated, {way}, round {turn + 1}, priority_messages {flags}   ")
                        found[flags].append(houses[flags].beside(way, _crowd(houses[flags], way, body, options)))
                rows += [_saturated_row(way, flags, loads) for flags, loads in found.items()]
        finally:
            for house in houses.values():
                house.running.stop()
    say.write("\r" + " " * 60 + "\r")
    return rows


def _crowd(house: House, way: str, body: bytes, options: argparse.Namespace) -> Callable[[], Load]:
    return lambda: house.send(
        way, body, connections=CONNECTIONS, depth=DEPTH, seconds=options.seconds, expect=message.EXPECT
    )


def _saturated_row(way: str, flags: str, loads: list[tuple[Load, Load]]) -> SaturatedRow:
    return SaturatedRow(
        way,
        flags,
        statistics.median(crowd["rate"] for crowd, _ in loads),
        statistics.median(probe["p50_us"] for _, probe in loads),
        statistics.median(probe["p99_us"] for _, probe in loads),
        sum(probe["count"] for _, probe in loads),
        sum(crowd["errors"] + probe["errors"] for crowd, probe in loads),
    )


def overload(options: argparse.Namespace, say: TextIO) -> list[OverloadRow]:
    """Raises PeerError and OSError."""
    rows = []
    body = message.call("work", {"text": message.TEXT})
    for flags in (ON, OFF):
        with tempfile.TemporaryDirectory() as folder:
            house = House("" if flags == ON else OVERLOAD_OFF, folder, options)
            try:
                say.write(f"\roverload, flags {flags}, peak      ")
                row = _overload_row(house, flags, 0, body, None)
                rows.append(row)
                for multiple in options.multiples:
                    say.write(f"\roverload, flags {flags}, {multiple} times the peak   ")
                    rows.append(_overload_row(house, flags, multiple, body, multiple * row.goodput))
            finally:
                house.running.stop()
    say.write("\r" + " " * 60 + "\r")
    return rows


def _overload_row(house: House, flags: str, multiple: int, body: bytes, rate: float | None) -> OverloadRow:
    options = house.options
    depth = DEPTH if rate else 1
    crowd, probe = house.beside(
        "http",
        lambda: house.send(
            "http",
            body,
            connections=CONNECTIONS,
            depth=depth,
            seconds=options.seconds,
            rate=rate,
            expect=message.EXPECT,
        ),
    )
    in_time = crowd["latencies"].counts_upto([int(options.deadline_ms * 1e6)])[0]
    refused = crowd["error_kinds"].get("status", 0)
    seconds = crowd["seconds"] if rate is None else max(options.seconds, crowd["seconds"])
    return OverloadRow(
        flags,
        multiple,
        rate or crowd["rate"],
        in_time / seconds,
        (crowd["count"] - in_time) / seconds,
        refused / seconds,
        crowd["unsent"] / seconds,
        crowd["errors"] - refused + crowd["unmatched"] + probe["errors"],
        probe["p50_us"],
        probe["p99_us"],
        house.running.rss_mb(),
    )


def report(rows: Sequence[SaturatedRow], loads: Sequence[OverloadRow], out: TextIO) -> None:
    if rows:
        cells = []
        rates = {(row.way, row.flags): row.rate for row in rows}
        for row in rows:
            kept = table.ratio(row.rate, rates[row.way, OFF])
            probe = [table.number(row.p50_us / 1e3), table.number(row.p99_us / 1e3)]
            cells.append([row.way, row.flags, table.number(row.rate), kept, *probe, str(row.errors)])
        heads = ["way", "priority_messages", "calls/s", "to off", "probe p50 ms", "p99 ms", "errors"]
        table.write(out, f"{CONNECTIONS} connections with {DEPTH} calls in flight each", heads, cells)
    if loads:
        cells = []
        peaks = {row.flags: row.goodput for row in loads if not row.multiple}
        for each in loads:
            share = f"{each.goodput / peaks[each.flags]:.0%}" if peaks[each.flags] else "-"
            rates_of = [each.offered, each.goodput]
            rest = [each.late, each.refused, each.unsent]
            probe = [table.number(each.probe_p50_us / 1e3), table.number(each.probe_p99_us / 1e3)]
            name = f"{each.multiple} x peak" if each.multiple else "peak"
            figures = [*map(table.number, rates_of), share, *map(table.number, rest), *probe]
            cells.append([name, each.flags, *figures, table.number(each.rss_mb), str(each.broken)])
        heads = ["load", "flags", "offered/s", "goodput/s", "of peak", "late/s", "refused/s", "unsent/s"]
        heads += ["probe p50 ms", "p99 ms", "RSS MB", "broken"]
        table.write(out, "a tool that costs CPU time, calls that arrive at a fixed rate", heads, cells)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 where a server failed or an answer was neither right nor an honest refusal."""
    options = parser().parse_args(argv)
    out, say = sys.stdout, sys.stderr
    print(result.title("overload"), file=out, flush=True)
    try:
        rows = saturated(options, say) if options.suite != "overload" else []
        loads = overload(options, say) if options.suite != "saturated" else []
    except (PeerError, OSError) as error:
        print(f"erlmcp bench overload: {error}", file=say)
        return 1
    report(rows, loads, out)
    if options.json:
        found = [*map(asdict, rows), *map(asdict, loads)]
        result.write(options.json, result.document("overload", vars(options), found, versions=result.versions()))
    return 1 if any(row.errors for row in rows) or any(each.broken for each in loads) else 0
