"""``erlmcp top``: the dashboard of a running server in the terminal."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from erlmcp.cli.watch import duration, events

if TYPE_CHECKING:
    from rich.console import RenderableType

ROWS_MIN: Final = 5
SPARKS: Final = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
HISTORY_MAX: Final = 60
SECTION_ROWS_MAX: Final = 12
BAD: Final = ("open", "down", "back")
NUMBERS: Final = (("rate", "a second"), ("calls", "calls"), ("errors", "errors"))
TIMES: Final = ("p50", "p95", "p99", "p999")


class Screen:
    """What was heard of the server so far."""

    def __init__(self, url: str, sort: str) -> None:
        self.url = url
        self.sort = sort
        self.facts: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.tools: dict[str, dict[str, Any]] = {}
        self.history: list[list[float]] = []
        self.lost_s: float | None = None

    def take(self, event: str, data: Any) -> None:
        if event == "lost":
            self.lost_s = data
            return
        self.lost_s = None
        if event == "first":
            self.facts, self.tools, self.history = data["facts"], {}, []
        self.last = data
        self.tools |= {row["name"]: row for row in data["tools"]}
        for name in data["gone"]:
            self.tools.pop(name, None)
        self.history = (self.history + data["history"])[-HISTORY_MAX:]

    def draw(self, height: int) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(expand=True, box=None, header_style="bold")
        table.add_column("tool", ratio=1, no_wrap=True)
        for _, label in NUMBERS:
            table.add_column(label, justify="right", no_wrap=True)
        for label in TIMES:
            table.add_column(label, justify="right", no_wrap=True)
        key = self.sort
        rows = sorted(self.tools.values(), key=lambda row: (-row[key], row["name"]))
        for row in rows[: max(ROWS_MIN, height - 10)]:
            numbers = [f"{row['rate']:,.1f}", f"{row['calls']:,}", f"{row['errors']:,}"]
            style = "red" if row["errors"] else ""
            table.add_row(Text(clean(row["name"])), *numbers, *(duration(row[name]) for name in TIMES), style=style)
        lines = (Text(line, no_wrap=True, overflow="ellipsis") for line in self._lines())
        return Group(*lines, "", table, *map(section_table, self.last["sections"]))

    def _lines(self) -> list[str]:
        last, facts = self.last, self.facts
        span, numbers = last["spans"][last["span"]], last["numbers"]
        state = "live" if self.lost_s is None else f"lost for {self.lost_s:.0f} s"
        connections = ", ".join(f"{name} {count}" for name, count in last["connections"].items()) or "none"
        memory = numbers.get("process_resident_memory_bytes", 0) / 2**20
        share = 100 * span["errors"] / span["calls"] if span["calls"] else 0.0
        times = ", ".join(f"{name} {duration(span[name])}" for name in TIMES)
        threads = f"{numbers['erlmcp_thread_calls']:.0f} of {numbers['erlmcp_thread_count_max']:.0f}"
        return [
            f"{clean(facts['name'])} {clean(facts['version'])}   {self.url}   {state}   span {last['span']}",
            f"{span['rate']:,.1f} requests a second, {share:.2f} % errors   {times}",
            f"in flight {numbers['erlmcp_inflight_requests']:.0f}   threads {threads}"
            f"   sessions {numbers['erlmcp_sessions']:.0f}   connections {connections}   memory {memory:.1f} MiB",
            "requests  " + spark([entry[1] for entry in self.history]),
        ]


def section_table(section: dict[str, Any]) -> RenderableType:
    """One of the tables that the server describes: pools, guards, upstreams."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=section["title"], title_justify="left", expand=True, box=None, header_style="bold")
    for _, label, kind in section["columns"]:
        table.add_column(label, justify="left" if kind in ("text", "state") else "right", no_wrap=True)
    for row in section["rows"][:SECTION_ROWS_MAX]:
        cells = [(row.get(key), kind) for key, _, kind in section["columns"]]
        why = row.get("why")
        is_bad = any(kind == "state" and value in BAD for value, kind in cells)
        table.add_row(*(Text(shown(*cell)) for cell in cells), style="red" if is_bad else "")
        if is_bad and why:
            table.add_row("", Text(clean(str(why)), style="dim"))
    return table


def shown(value: Any, kind: str) -> str:
    """A value of a section's row."""
    if value is None or value == "":
        return ""
    if kind == "time":
        return duration(value)
    if kind == "share":
        return f"{value:.0%}"
    return f"{value:,.10g}" if kind == "count" else clean(str(value))


def clean(text: str) -> str:
    """A name without what would steer the terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)


def spark(values: list[float]) -> str:
    """Values as a line of blocks, the highest one full."""
    highest = max(values, default=0)
    return "".join(SPARKS[round(8 * value / highest)] if highest else SPARKS[0] for value in values)


def run(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    screen = Screen(options.url, options.sort)
    heard = events(options, "/metrics/dashboard/feed", {"span": options.span})
    if options.once:
        screen.take(*next(heard))
        console.print(screen.draw(1000))
        return 0
    with Live(console=console, screen=console.is_terminal, auto_refresh=False, transient=True) as live:
        for event, data in heard:
            screen.take(event, data)
            live.update(screen.draw(console.height), refresh=True)
    return 0
