"""What is wrong with a configuration: where, what, and the mend. All of it at once, not the first alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from erlmcp.errors import ConfigurationError

SHOWN_COUNT_MAX: Final = 12


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. ``key`` is the way to it (``mcpServers.files.command``), ``line`` 0 where it is not known."""

    file: str
    line: int
    key: str
    text: str
    mend: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key + ': ' if self.key else ''}{self.text}{'; ' + self.mend if self.mend else ''}"


class ConfigError(ConfigurationError):
    """A configuration that cannot be used. ``problems`` has every mistake that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def nearest(wanted: str, names: Iterable[str]) -> str:
    """What may have been meant, or what there is."""
    known = sorted(names)
    close = get_close_matches(wanted, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not known:
        return "there is none"
    return f"expected one of {', '.join(known[:SHOWN_COUNT_MAX])}{', ...' if len(known) > SHOWN_COUNT_MAX else ''}"
