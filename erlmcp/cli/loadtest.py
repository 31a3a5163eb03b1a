"""A small load test: many calls over one client, a bar while they run, then rates, percentiles and a histogram."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from erlmcp.cli.chart import draw, rows_of
from erlmcp.cli.dial import dial
from erlmcp.cli.fault import TOOL_FAILED
from erlmcp.cli.paint import paint
from erlmcp.errors import ErlmcpError, McpError, ToolError

if TYPE_CHECKING:
    from erlmcp.client.client import Client
    from erlmcp.core import Histogram

REPEAT: Final = 1000  # where only --concurrency is given
TICK_S: Final = 0.1
KINDS_MAX: Final = 50  # of errors; what more there are is counted together
EXAMPLE_CHARS_MAX: Final = 200
PERCENTS: Final = (50, 95, 99)

# One call; what goes wrong is an ErlmcpError.
One = Callable[["Client"], Awaitable[Any]]


@dataclass
class Report:
    """What was measured. Times are seconds, those of ``latency`` nanoseconds; calls that failed are not in it."""

    what: str
    concurrency: int
    latency: Histogram
    connect_s: float
    elapsed_s: float = 0.0
    done_count: int = 0
    errors: dict[str, int] = field(default_factory=dict)  # by kind
    examples: dict[str, str] = field(default_factory=dict)  # the first of each kind

    def add_error(self, error: ErlmcpError) -> None:
        kind = kind_of(error)
        if kind not in self.errors:
            if len(self.errors) >= KINDS_MAX:
                kind = "other errors"
            self.examples.setdefault(kind, " ".join(str(error).split())[:EXAMPLE_CHARS_MAX])
        self.errors[kind] = self.errors.get(kind, 0) + 1


def attack(options: argparse.Namespace, target: Any, what: str, one: One) -> int:
    """``--repeat`` calls, ``--concurrency`` at a time; 1 where any of them failed."""
    repeat = REPEAT if options.repeat is None else options.repeat
    concurrency = min(options.concurrency or 1, repeat)

    async def work(client: Client, connect_s: float) -> int:
        from erlmcp.core import Histogram

        report = Report(what, concurrency, Histogram(), connect_s)
        try:
            with progress(repeat, what) as tell:
                await measure(client, one, repeat, report, tell)
        finally:  # Interrupted, too: it tells what was measured until then.
            if options.json:
                print(json.dumps(as_json(report), indent=2, ensure_ascii=False))
            else:
                print("\n".join(as_text(report)))
        return TOOL_FAILED if report.errors else 0

    return dial(options, target, work, is_measured=True)


async def measure(client: Client, one: One, repeat: int, report: Report, tell: Callable[[int], None]) -> None:
    """Fill the report; ``tell`` hears now and then how many calls are done."""
    left = iter(range(repeat))
    clock_ns, record = time.perf_counter_ns, report.latency.record

    async def worker() -> None:
        for _ in left:
            started_ns = clock_ns()
            try:
                await one(client)
            except ErlmcpError as error:
                report.add_error(error)
            else:
                record(clock_ns() - started_ns)
            report.done_count += 1

    async def watch() -> None:
        while True:
            tell(report.done_count)
            await asyncio.sleep(TICK_S)

    started_ns = clock_ns()
    watching = asyncio.ensure_future(watch())
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(report.concurrency):
                group.create_task(worker())
    finally:
        report.elapsed_s = (clock_ns() - started_ns) / 1e9
        watching.cancel()
    tell(report.done_count)


def kind_of(error: ErlmcpError) -> str:
    """What errors are counted by: whose they are, with a refusal's code."""
    if isinstance(error, ToolError):
        return "the tool failed"
    return f"the server refused ({error.code})" if isinstance(error, McpError) else type(error).__name__


@contextlib.contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Gives a function of how many are done; a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done, refresh=True)


# ---- what was found


def as_json(report: Report) -> dict[str, Any]:
    latency = report.latency
    percentiles = latency.percentiles(PERCENTS)
    return {
        "what": report.what,
        "calls": report.done_count,
        "concurrency": report.concurrency,
        "seconds": round(report.elapsed_s, 6),
        "calls_per_second": round(rate_of(report), 1),
        "connect_ms": round(report.connect_s * 1e3, 3),
        "latency_ms": {
            "mean": _ms(latency.mean),
            **{f"p{percent}": _ms(value) for percent, value in zip(PERCENTS, percentiles, strict=True)},
            "max": _ms(latency.max),
        },
        "errors": report.errors,
        "error_examples": report.examples,
        "histogram": [
            {"from_ms": _ms(first), "to_ms": _ms(last + 1), "count": count}
            for first, last, count in rows_of(latency.buckets())
        ],
    }


def as_text(report: Report) -> list[str]:
    latency = report.latency
    failed = sum(report.errors.values())
    lines = [
        paint(f"{report.what}: {rate_of(report):,.0f} calls/s", "bold"),
        f"  {report.done_count:,} calls in {report.elapsed_s:.2f} s, {report.concurrency} at a time, "
        f"{failed:,} failed; connected in {report.connect_s * 1e3:.1f} ms",
    ]
    if latency.count:
        told = [
            f"p{percent} {time_text(value)}"
            for percent, value in zip(PERCENTS, latency.percentiles(PERCENTS), strict=True)
        ]
        lines += [f"  {'   '.join([*told, f'max {time_text(latency.max)}'])}", ""]
        lines += draw([(time_text(first), count) for first, _, count in rows_of(latency.buckets())])
    if report.errors:
        lines += ["", paint(f"errors ({failed:,})", "red")]
        by_count = sorted(report.errors.items(), key=lambda item: -item[1])
        lines += [f"  {count:>8,}  {kind}, such as: {report.examples[kind]}" for kind, count in by_count]
    return lines


def rate_of(report: Report) -> float:
    return report.done_count / report.elapsed_s if report.elapsed_s else 0.0


def _ms(value_ns: float) -> float:
    return round(value_ns / 1e6, 6)


def time_text(value_ns: float) -> str:
    """A time of three digits or so, with its unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if value_ns >= size:
            return f"{value_ns / size:.3g} {unit}" if value_ns < 1000 * size else f"{value_ns / size:,.0f} {unit}"
    return f"{value_ns:.0f} ns"
