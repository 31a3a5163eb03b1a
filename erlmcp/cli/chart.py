"""A histogram on a terminal: log-linear rows, drawn with eighths of a block."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Final

from erlmcp.cli.paint import paint

ROWS_MAX: Final = 24
SUB_BITS: Final = (3, 2, 1, 0)  # 8, 4, 2 rows to each power of two, or one
BAR_CHARS_MAX: Final = 60
BAR_CHARS_MIN: Final = 10
EIGHTHS: Final = " ▏▎▍▌▋▊▉"
FULL: Final = "█"

Row = tuple[int, int, int]


def rows_of(buckets: Sequence[Row], rows_max: int = ROWS_MAX) -> list[Row]:
    """The (first, last, count) of a ``Histogram.buckets()`` put together into at most ``rows_max`` rows, if each power
    of two being one row is few enough; the empty ones between are there too."""
    rows: list[Row] = []
    for sub_bits in SUB_BITS:
        rows = _rows(buckets, sub_bits)
        if len(rows) <= rows_max:
            break
    return rows


def _rows(buckets: Sequence[Row], sub_bits: int) -> list[Row]:
    """A bucket of the histogram lies within one row: its edges have more digits of the same kind."""
    if not buckets:
        return []
    counts: dict[int, int] = {}
    for first, _, count in buckets:
        start = first - first % _width(first, sub_bits)
        counts[start] = counts.get(start, 0) + count
    rows = []
    start = min(counts)
    while start <= max(counts):
        width = _width(start, sub_bits)
        rows.append((start, start + width - 1, counts.get(start, 0)))
        start += width
    return rows


def _width(value: int, sub_bits: int) -> int:
    return 1 << max(0, value.bit_length() - 1 - sub_bits)


def draw(rows: Sequence[tuple[str, int]]) -> list[str]:
    """A line for each (label, count): the label, a bar, the count and its share."""
    total = sum(count for _, count in rows)
    highest = max((count for _, count in rows), default=0)
    labels = max((len(label) for label, _ in rows), default=0)
    digits = len(f"{highest:,}")
    room = shutil.get_terminal_size((100, 24)).columns - labels - digits - 14
    width = max(BAR_CHARS_MIN, min(room, BAR_CHARS_MAX))
    lines = []
    for label, count in rows:
        shown = paint(bar(count / highest if highest else 0.0, width), "cyan")
        lines.append(f"  {label:>{labels}}  {shown} {count:>{digits},}  {100 * count / total if total else 0:5.1f} %")
    return lines


def bar(share: float, width: int) -> str:
    """``share`` (0 to 1) of ``width`` characters, filled up with blanks; what is more than nothing is seen."""
    try:
        FULL.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ("#" * (max(1, round(share * width)) if share else 0)).ljust(width)
    eighths = max(1, round(share * width * 8)) if share else 0
    full, rest = divmod(eighths, 8)
    return (FULL * full + (EIGHTHS[rest] if rest else "")).ljust(width)
