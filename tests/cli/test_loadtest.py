"""The load test's parts: rows of a histogram, bars, times, what is counted and what a terminal sees."""

from __future__ import annotations

import asyncio
import io
import itertools
import sys
from typing import Any

import pytest

from erlmcp.cli import loadtest
from erlmcp.cli.chart import bar, draw, rows_of
from erlmcp.cli.loadtest import KINDS_MAX, Report, as_json, as_text, measure, progress, time_text
from erlmcp.core import Histogram
from erlmcp.errors import ConnectionClosedError, McpError, ToolError


def test_rows_are_log_linear_without_gaps_and_hold_every_value() -> None:
    histogram = Histogram()
    for value in (1000, 1001, 1500, 4000):
        histogram.record(value)
    rows = rows_of(histogram.buckets())
    assert rows[0] == (960, 1023, 2)
    assert all(last + 1 == following for (_, last, _), (following, _, _) in itertools.pairwise(rows))
    assert sum(count for _, _, count in rows) == 4
    assert rows[-1][0] <= 4000 <= rows[-1][1]


@pytest.mark.parametrize("rows_max", [3, 10, 20, 50])
def test_a_wide_range_is_put_into_few_rows(rows_max: int) -> None:
    histogram = Histogram()
    for power in range(10, 13):
        for value in range(1 << power, 2 << power, 1 << (power - 5)):
            histogram.record(value)
    rows = rows_of(histogram.buckets(), rows_max)
    assert 0 < len(rows) <= rows_max
    assert sum(count for _, _, count in rows) == 96


def test_nothing_measured_has_no_rows() -> None:
    assert rows_of([]) == []
    assert draw([]) == []


def test_the_longest_bar_fills_the_width_and_the_least_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert bar(1.0, 4) == "████"
    assert bar(0.5, 4) == "██  "
    assert bar(1e-9, 4) == "▏   "
    assert bar(0.0, 4) == "    "


def test_a_terminal_without_blocks_gets_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert bar(0.5, 4) == "##  "
    assert bar(0.0, 4) == "    "


def test_a_chart_is_aligned_and_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    lines = draw([("9 ms", 1), ("10 ms", 1000)])
    assert len(lines) == 2
    assert {len(line) for line in lines} == {50}
    assert lines[0].startswith("   9 ms  ")
    assert lines[1].endswith(" 1,000   99.9 %")


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [(7, "7 ns"), (1500, "1.5 µs"), (65_536, "65.5 µs"), (2.5e6, "2.5 ms"), (3e9, "3 s"), (5e12, "5,000 s")],
)
def test_a_time_has_three_digits_and_a_unit(value_ns: float, text: str) -> None:
    assert time_text(value_ns) == text


async def test_every_call_is_made_once_and_errors_are_counted_by_kind() -> None:
    report = Report("call of x", 4, Histogram(), 0.001)
    ways = [None, ToolError("it\nbroke"), McpError(-32602, "no"), ConnectionClosedError("gone")]
    made = 0

    async def one(client: Any) -> None:
        nonlocal made
        way = ways[made % len(ways)]
        made += 1
        await asyncio.sleep(0)
        if way is not None:
            raise way

    told: list[int] = []
    client: Any = None
    await measure(client, one, 40, report, told.append)
    assert (made, report.done_count, report.latency.count, told[-1]) == (40, 40, 10, 40)
    assert report.errors == {
        "the tool failed": 10,
        "the server refused (-32602)": 10,
        "ConnectionClosedError": 10,
    }
    assert as_json(report)["errors"] == report.errors
    text = "\n".join(as_text(report))
    assert "errors (30)" in text
    assert "10  the tool failed, such as: it broke" in text


def test_the_kinds_of_errors_are_bounded() -> None:
    report = Report("x", 1, Histogram(), 0.0)
    for number in range(2 * KINDS_MAX):
        report.add_error(McpError(number, "no"))
    assert len(report.errors) == len(report.examples) == KINDS_MAX + 1
    assert report.errors["other errors"] == KINDS_MAX


def test_a_test_in_which_everything_failed_has_no_percentiles() -> None:
    report = Report("x", 1, Histogram(), 0.0, 1.0, 2, {"the tool failed": 2}, {"the tool failed": "no"})
    text = "\n".join(as_text(report))
    assert "2 failed" in text
    assert "p50" not in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar_and_a_file_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, is_shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(loadtest.sys, "stderr", stream)
        with progress(10, "ping") as tell:
            tell(5)
        assert ("5/10" in stream.getvalue()) is is_shown
