"""How far an app, and each of its tools, can be taken; and the switch that says how far it may be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from erlmcp.errors import ConfigurationError

OFF: Final = "off"
L1: Final = "l1"
L3: Final = "l3"
LEVELS: Final = (OFF, L1, L3)
VARIABLE: Final = "ERLMCP_ACCEL"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The level of one tool, and why it is no higher; ``note`` says what is worth knowing of its plan."""

    name: str
    level: str
    why: str = ""
    note: str = ""


def wanted_level(given: str) -> str:
    """How far to go at most: "auto" and "l3" mean as far as each tool allows. ``ERLMCP_ACCEL`` has the last word.

    Raises ConfigurationError for another word.
    """
    value, source = os.environ.get(VARIABLE, ""), VARIABLE
    if not value:
        value, source = given, "level"
    level = L3 if value.lower() == "auto" else value.lower()
    if level not in LEVELS:
        raise ConfigurationError(f"{source}={value!r}: expected auto, {', '.join(LEVELS)}")
    return level


def name_of(thing: Any) -> str:
    """What a middleware, transform or extension is called in a reason."""
    return getattr(thing, "__name__", None) or type(thing).__name__
