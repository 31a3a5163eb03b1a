"""The metrics of several processes as one: texts of this package's own exposition, put together.

Histograms and counters add up. A gauge is a number of now, and of one process: each keeps its own, with a label
``worker``. Of a process that is gone only what adds up is left, so that no counter ever goes backwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from erlmcp.metrics.prometheus import number

GONE: Final = ""  # the worker of a text whose process is gone
EOF: Final = "# EOF"
ADDED_UP: Final = ("histogram", "counter")


class _Family:
    def __init__(self) -> None:
        self.head: list[str] = []
        self.kind = ""
        self.values: dict[str, float] = {}
        self.examples: dict[str, str] = {}


def merged(texts: Iterable[tuple[str, str]]) -> str:
    """One text of several, each with the name of its worker; all in the same format."""
    families: dict[str, _Family] = {}
    is_ended = False
    for worker, text in texts:
        family = _Family()
        for line in filter(None, text.split("\n")):
            if line == EOF:
                is_ended = True
            elif line.startswith("# "):
                family = _described(families, line)
            elif family.kind in ADDED_UP:
                name, value, example = _parts(line)
                family.values[name] = family.values.get(name, 0.0) + value
                if example:
                    family.examples[name] = example
            elif worker != GONE:
                name, value, _ = _parts(line)
                family.values[_labelled(name, worker)] = value
    lines = [line for family in families.values() if family.values for line in _lines(family)]
    return "".join(f"{line}\n" for line in ([*lines, EOF] if is_ended else lines))


def _described(families: dict[str, _Family], line: str) -> _Family:
    """A line of help, type or unit, and the family that it is of."""
    _, word, name, *rest = line.split(" ", 3)
    family = families.setdefault(name, _Family())
    if not any(known.startswith(f"# {word} ") for known in family.head):
        family.head.append(line)
    if word == "TYPE":
        family.kind = rest[0]
    return family


def _parts(line: str) -> tuple[str, float, str]:
    """A sample's name with its labels, its value, and its example (" # {...} ..."). Values of labels may hold all of
    what stands between the parts."""
    end = _end_of_labels(line)
    value, mark, example = line[end:].strip().partition(" # ")
    return line[:end], float(value), f" # {example}" if mark else ""


def _end_of_labels(line: str) -> int:
    brace, blank = line.find("{"), line.find(" ")
    if brace < 0 or 0 <= blank < brace:
        return blank
    is_quoted, at = False, brace
    while is_quoted or line[at] != "}":
        if line[at] == "\\":
            at += 1
        elif line[at] == '"':
            is_quoted = not is_quoted
        at += 1
    return at + 1


def _labelled(name: str, worker: str) -> str:
    return f'{name[:-1]},worker="{worker}"}}' if name.endswith("}") else f'{name}{{worker="{worker}"}}'


def _lines(family: _Family) -> list[str]:
    return family.head + [
        f"{name} {number(value)}{family.examples.get(name, '')}" for name, value in family.values.items()
    ]
