"""Colours where a terminal shows them, and columns."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Final, TextIO

FIRST_CHARS_MAX: Final = 44
SECOND_CHARS_MIN: Final = 20
_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}


def wants_colour(stream: TextIO) -> bool:
    """A terminal that is not dumb, and no ``NO_COLOR`` in the environment."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """``text`` in a colour, where ``stream`` (stdout by default) shows colours."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if wants_colour(stream or sys.stdout) else text


def columns(rows: Sequence[tuple[str, str]], colour: str = "cyan") -> list[str]:
    """Rows as lines of two aligned columns, the first coloured, the second cut to the terminal's width.

    A first cell that is much longer than the others has a line to itself.
    """
    width = min(max((len(first) for first, _ in rows), default=0), FIRST_CHARS_MAX)
    room = max(shutil.get_terminal_size((100, 24)).columns - width - 4, SECOND_CHARS_MIN)
    lines = []
    for first, second in rows:
        shown = second if len(second) <= room else second[: room - 3] + "..."
        if len(first) > width:
            lines.append("  " + paint(first, colour))
            first = ""
        lines.append(f"  {paint(first.ljust(width), colour)}  {shown}".rstrip())
    return lines
