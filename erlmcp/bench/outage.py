"""``erlmcp bench gateway --faults``: an upstream of a gateway is killed, and what the calls of another feel of it.

Two upstreams behind one gateway, each an echo server: the *steady* one, over HTTP, and the *victim*, over HTTP or
started over stdio. Both in a closed loop tell the capacity. Then both get a share of it (50 %) at a fixed rate, whether
they are answered or not, in two runs by turns: *undisturbed*, and *killed*, where the victim is killed (SIGKILL) twice.
A victim over stdio is started again by the gateway, one over HTTP by the benchmark, a second later.

Latency counts from when a call was due. The p99 of the two runs are compared round by round, by the median of the
ratios. Exit code 1 where a call of the steady upstream failed, its p99 is twice the undisturbed one or more, or the
victim did not come back.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from erlmcp.bench import message, result, table
from erlmcp.bench.chaos import session_nice, together
from erlmcp.bench.load import http_load
from erlmcp.bench.mark import Mark, times
from erlmcp.bench.process import PEERS, ROOT, SERVERS, Peer, PeerError, Running

if TYPE_CHECKING:
    from erlmcp.bench.load import Load

STEADY, VICTIM = "steady", "victim"
CALM, KILLED = "undisturbed", "killed"
KILLS = (0.2, 0.6)  # of a run
DOWN_S = 1.0  # before a victim over HTTP is started again
BACK_S = 30.0
CONNECTIONS = 32  # of each upstream's callers
DEPTH = 64  # calls under way on each of them, in an open loop
P99_MARK = 2.0
UPSTREAM = [sys.executable, "-m", "erlmcp", "run", str(SERVERS / "echo_erlmcp.py")]


@dataclass
class Row:
    """What the calls of one upstream found in one run, all rounds."""

    way: str
    run: str
    upstream: str
    offered: float
    sent: int
    right: int
    failed: int
    unsent: int
    p50_us: float  # medians over the rounds
    p99_us: float
    p99s_us: list[float]
    kinds: dict[str, int]
    first_error: str = ""


class Stage:
    """A gateway before both upstreams. To be closed by its owner."""

    def __init__(self, way: str, folder: str, options: argparse.Namespace) -> None:
        self.way = way
        self.options = options
        self.kill_count = 0
        self.running: list[Running] = []
        entries: dict[str, dict[str, Any]] = {}
        self._victim: Running | None = None
        try:
            entries[STEADY] = {"url": self._http().url}
            if way == "http":
                self._victim = self._http()
                entries[VICTIM] = {"url": self._victim.url}
            else:
                environment = {"PYTHONPATH": str(ROOT)}
                entries[VICTIM] = {"command": UPSTREAM[0], "args": UPSTREAM[1:], "env": environment}
            file = Path(folder) / f"{way}.json"
            file.write_text(json.dumps({"mcpServers": entries}), encoding="utf-8")
            words = ["-m", "erlmcp", "gateway", str(file), "--no-watch", "--log-level", "critical", "--port"]
            gate = Peer("gateway", "erlmcp", ("stateless",), lambda mode, port: [*words, str(port)], is_own=True)
            self.gateway = Running(gate, "stateless", sys.executable, tool=f"{STEADY}_echo")
            self.gateway.start()
            self.running.append(self.gateway)
            self.wait_for_victim()
        except BaseException:
            self.close()
            raise

    def _http(self) -> Running:
        made = Running(PEERS[0], "stateless", sys.executable)
        made.start()
        self.running.append(made)
        return made

    def close(self) -> None:
        for one in reversed(self.running):
            one.stop()

    def send(self, upstream: str, seconds: float, rate: float | None) -> Load:
        return http_load(
            "127.0.0.1",
            self.gateway.port,
            message.http(self.gateway.port, body_of(upstream)),
            connections=CONNECTIONS,
            pipeline=1 if rate is None else DEPTH,
            seconds=seconds,
            rate=rate,
            expect=message.EXPECT,
        )

    def round(self, seconds: float, rates: dict[str, float | None], is_killed: bool) -> dict[str, Load]:
        """Raises PeerError and OSError."""
        found: dict[str, Load] = {}
        acts: list[Callable[[], object]] = [
            lambda name=name: found.update({name: self.send(name, seconds, rates[name])})  # type: ignore[misc]
            for name in (STEADY, VICTIM)
        ]
        if is_killed:
            acts.append(lambda: self._kill(seconds))
        together(acts)
        self.gateway.check()
        self.wait_for_victim()
        return found

    def _kill(self, seconds: float) -> None:
        began = time.monotonic()
        for at in KILLS:
            time.sleep(max(0.0, began + at * seconds - time.monotonic()))
            if self._victim is None:
                self._kill_child()
                continue
            self._victim.process.kill()
            self.kill_count += 1
            time.sleep(min(DOWN_S, seconds / 10))
            self._victim.start_again()

    def _kill_child(self) -> None:
        """The victim that the gateway started, once there is one. Raises PeerError."""
        deadline = time.monotonic() + BACK_S
        while time.monotonic() < deadline:
            for pid in self.gateway.children()[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.kill_count += 1
                    return
            time.sleep(0.02)
        raise PeerError(f"the {VICTIM} was not started again in {BACK_S:g} s")

    def wait_for_victim(self) -> None:
        """Until it answers through the gateway. Raises PeerError."""
        deadline, answer = time.monotonic() + BACK_S, b""
        while time.monotonic() < deadline:
            try:
                _, _, answer = self.gateway.post(body_of(VICTIM))
            except OSError as error:
                answer = str(error).encode()
            if message.EXPECT in answer:
                return
            time.sleep(0.05)
        raise PeerError(f"the {VICTIM} did not come back in {BACK_S:g} s: {answer[:200]!r}")


def body_of(upstream: str) -> bytes:
    return message.call(f"{upstream}_echo", {"text": message.TEXT})


def measure(options: argparse.Namespace, say: TextIO) -> tuple[list[Row], list[Mark]]:
    """Raises PeerError and OSError."""
    rows: list[Row] = []
    marks: list[Mark] = []
    for way in options.ways:
        with tempfile.TemporaryDirectory() as folder:
            stage = Stage(way, folder, options)
            try:
                here = _measure_one(stage, options, say)
            finally:
                stage.close()
        rows += here
        marks += marks_of(here)
    return rows, marks


def _measure_one(stage: Stage, options: argparse.Namespace, say: TextIO) -> list[Row]:
    say.write(f"\rfaults, {stage.way}: capacity          ")
    closed: dict[str, float | None] = {STEADY: None, VICTIM: None}
    first = [stage.round(max(0.2, options.seconds / 30), closed, False) for _ in range(3)][1:]
    rates: dict[str, float | None] = {
        name: max(1.0, options.share * statistics.median(each[name]["rate"] for each in first)) for name in closed
    }
    loads: dict[tuple[str, str], list[Load]] = {(run, name): [] for run in (CALM, KILLED) for name in closed}
    for turn in range(options.rounds):
        for run in (CALM, KILLED):
            say.write(f"\rfaults, {stage.way}: round {turn + 1} of {options.rounds}, {run}          ")
            say.flush()
            for name, load in stage.round(options.seconds, rates, run == KILLED).items():
                loads[run, name].append(load)
    say.write("\r" + " " * 60 + "\r")
    assert stage.kill_count == len(KILLS) * options.rounds, stage.kill_count
    return [row_of(stage.way, *place, rates[place[1]] or 0.0, each) for place, each in loads.items()]


def row_of(way: str, run: str, upstream: str, rate: float, loads: Sequence[Load]) -> Row:
    kinds: dict[str, int] = {}
    for load in loads:
        for kind, count in load["error_kinds"].items():
            kinds[kind] = kinds.get(kind, 0) + count
    return Row(
        way,
        run,
        upstream,
        rate,
        sum(load["sent"] for load in loads),
        sum(load["count"] for load in loads),
        sum(load["errors"] + load["unmatched"] for load in loads),
        sum(load["unsent"] for load in loads),
        statistics.median(load["p50_us"] for load in loads),
        statistics.median(load["p99_us"] for load in loads),
        [load["p99_us"] for load in loads],
        kinds,
        next((load["first_error"][-200:].decode(errors="replace") for load in loads if load["errors"]), ""),
    )


def marks_of(rows: Sequence[Row]) -> list[Mark]:
    """The verdicts on one way."""
    by = {(row.run, row.upstream): row for row in rows}
    calm, killed = by[CALM, STEADY], by[KILLED, STEADY]
    ratio = times(killed.p99s_us, calm.p99s_us)
    failed = f"{killed.failed} of {killed.sent:,}"
    return [
        Mark(f"{calm.way}: failed calls of the steady upstream", "0", failed, not killed.failed),
        Mark(f"{calm.way}: its p99", f"< {P99_MARK:g} x", f"{ratio:.2f} x", ratio < P99_MARK),
    ]


def report(rows: Sequence[Row], marks: Sequence[Mark], out: TextIO) -> None:
    heads = ["victim over, run, upstream", "offered/s", "sent", "right", "failed", "unsent", "p50 ms", "p99 ms"]
    cells = [
        [
            f"{row.way}, {row.run}, {row.upstream}",
            table.number(row.offered),
            *(f"{count:,}" for count in (row.sent, row.right, row.failed, row.unsent)),
            table.number(row.p50_us / 1e3),
            table.number(row.p99_us / 1e3),
        ]
        for row in rows
    ]
    notes = [f"{row.way}, {row.run}, {row.upstream}: {row.kinds} {row.first_error}" for row in rows if row.failed]
    table.write(out, "An upstream is killed twice", heads, cells, notes)
    lines = [[mark.name, mark.wanted, mark.found, "met" if mark.is_met else "missed"] for mark in marks]
    table.write(out, "Marks", ["mark", "wanted", "found", "verdict"], lines)


def run(options: argparse.Namespace) -> int:
    """Measure and print. Returns 0, or 1 where a mark is missed."""
    out, say = sys.stdout, sys.stderr
    print(result.title("gateway --faults"), file=out)
    print(f"{options.rounds} rounds of {options.seconds:g} s, {options.share:.0%} of the capacity", file=out)
    out.flush()
    try:
        with session_nice(options.nice):
            rows, marks = measure(options, say)
    except (PeerError, OSError) as error:
        print(f"erlmcp bench gateway --faults: {error}", file=say)
        return 1
    report(rows, marks, out)
    if options.json:
        found = result.document(
            "gateway-faults", vars(options), [asdict(row) for row in rows], marks=[asdict(mark) for mark in marks]
        )
        result.write(options.json, found)
    return 0 if all(mark.is_met for mark in marks) else 1
