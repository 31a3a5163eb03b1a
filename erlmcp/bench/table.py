"""Plain-text tables: a title, aligned columns, colour only where a terminal reads along."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

BOLD, RED, DIM, PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


def number(value: float | None, digits: int = 3) -> str:
    """At least ``digits`` significant ones, with thousands separated; a dash where there is none."""
    if value is None:
        return "-"
    if abs(value) >= 10 ** (digits - 1) or value == 0:
        return f"{value:,.0f}"
    whole = len(f"{abs(value):.0f}") if abs(value) >= 1 else 0
    return f"{value:.{digits - whole}f}"


def ratio(ours: float | None, theirs: float | None) -> str:
    """``12.3x``, or a dash where either is missing."""
    return f"{number(ours / theirs)}x" if ours and theirs else "-"


def is_coloured(out: TextIO) -> bool:
    """A terminal, and NO_COLOR not set."""
    return out.isatty() and not os.environ.get("NO_COLOR")


def write(
    out: TextIO, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> None:
    """Print one table, the first column aligned left, the others right, and below it the notes, a line each."""
    bold, red, plain = (BOLD, RED, PLAIN) if is_coloured(out) else ("", "", "")
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join([cells[0].ljust(widths[0]), *rest]).rstrip()

    out.write(f"\n{bold}{title}{plain}\n")
    out.write(line(heads) + "\n" + "-" * (sum(widths) + 2 * (len(widths) - 1)) + "\n")
    for row in rows:
        out.write(line(row) + "\n")
    for note in notes:
        out.write(f"{red}{note}{plain}\n")
    out.flush()
