"""Tables: a title, aligned columns, notes below. Drawn by rich on a terminal, plain text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

STYLES = {"met": "green", "missed": "bold red", "WORSE": "bold red", "not built": "dim"}


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


def write(
    out: TextIO, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> None:
    """Print one table, the first column aligned left, the others right, and below it the notes, a line each."""
    if out.isatty():
        _draw(out, title, heads, rows, notes)
        return
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join([cells[0].ljust(widths[0]), *rest]).rstrip()

    out.write(f"\n{title}\n")
    out.write(line(heads) + "\n" + "-" * (sum(widths) + 2 * (len(widths) - 1)) + "\n")
    for row in rows:
        out.write(line(row) + "\n")
    for note in notes:
        out.write(f"{note}\n")
    out.flush()


def _draw(out: TextIO, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out)
    drawn = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, head in enumerate(heads):
        drawn.add_column(Text(head), justify="left" if index == 0 else "right", no_wrap=index > 0)
    for row in rows:
        drawn.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console.print(drawn)
    for note in notes:
        console.print(Text(note, style="dim"))
