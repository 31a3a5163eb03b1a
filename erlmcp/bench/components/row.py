"""A row of the table of components: an operation in words, and the ways of doing it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

from erlmcp.bench import room
from erlmcp.bench.timing import Timed

SEED = 7
BATCH = 1024
COLUMNS = ("call", "batch", "core")
OURS = ("core", "model")

Maker = Callable[[], Timed]


@dataclass(frozen=True)
class Mark:
    """What the plan asks of a cell: ``rate`` operations a second, at most ``factor`` times the time of ``peer``, or a
    p99 of single calls of at most ``p99_ns``."""

    rate: float | None = None
    peer: str = ""
    factor: float = 1.0
    p99_ns: float | None = None

    def __str__(self) -> str:
        if self.p99_ns is not None:
            return f"p99 <= {self.p99_ns / 1e6:g} ms"
        if self.rate is not None:
            return f">= {self.rate / 1e6:g} M/s"
        return f"<= {self.factor:g}x {self.peer}"


@dataclass(frozen=True)
class Way:
    """One way to do the operation: by whom ("core", "model" or a library), and in which column.

    ``module`` is the library's, whose version is printed. A limit is no library but what the machine gives at best.
    """

    column: str
    who: str
    make: Maker
    module: str = ""
    is_limit: bool = False


@dataclass
class Ways:
    """The ways of a row, collected."""

    found: list[Way] = field(default_factory=list)

    def both(self, column: str, name: str, part: str, make: Callable[[Any], Timed]) -> None:
        """Ours and its twin: ``make`` is given the class or function ``part`` of the room ``name`` of each."""
        for who in OURS:
            self.found.append(Way(column, who, partial(_make, make, who, name, part)))

    def core(self, name: str, make: Callable[[Any], Timed]) -> None:
        """The column "core": ``make`` is given the compiled loop of this name."""
        self.found.append(Way("core", "core", lambda: make(room.loop(name))))

    def peer(self, column: str, who: str, module: str, make: Callable[[ModuleType], Timed]) -> None:
        """A library: ``make`` is given its module."""
        self.found.append(Way(column, who, lambda: make(room.library(module)), module))

    def own(self, column: str, who: str, make: Maker, module: str = "") -> None:
        """Any other way."""
        self.found.append(Way(column, who, make, module))

    def limit(self, column: str, who: str, make: Maker) -> None:
        """What the machine gives at best: told beside ours, and beaten by nobody."""
        self.found.append(Way(column, who, make, is_limit=True))


def _make(make: Callable[[Any], Timed], implementation: str, name: str, part: str) -> Timed:
    return make(room.part(implementation, name, part))


@dataclass(frozen=True)
class Row:
    """``operation`` says in words what is counted, with sizes, distribution and threads; ``collect`` adds the ways."""

    key: str
    family: str
    operation: str
    collect: Callable[[Ways], None]
    marks: dict[str, Mark] = field(default_factory=dict)
    threads: int = 1
    batch: int = BATCH  # the n of the column "batch"
    entries: int = 0  # what the structure holds, where that is a size to speak of
    is_slow: bool = False  # left out by --quick: making it takes seconds

    def ways(self) -> list[Way]:
        made = Ways()
        self.collect(made)
        return made.found


def marks(**given: float) -> dict[str, Mark]:
    """Marks in millions a second by column."""
    return {column: Mark(rate=rate * 1e6) for column, rate in given.items()}


def names(count: int) -> list[str]:
    """``count`` different names of the length that tools have."""
    draw = random.Random(SEED)
    return [f"tool_{draw.getrandbits(32):08x}_{i:07d}" for i in range(count)]


def asked(known: list[str], count: int) -> list[str]:
    """As many names drawn evenly at random: equal to those known, and not the same objects."""
    return [name.encode().decode() for name in random.Random(SEED + 1).choices(known, k=count)]


def chunks(whole: list[Any], size: int = BATCH) -> list[list[Any]]:
    return [whole[at : at + size] for at in range(0, len(whole) - size + 1, size)]
