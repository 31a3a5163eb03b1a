"""Bounds on values: minimum, length, pattern. Checked after decoding, or inlined where that is cheap."""

from __future__ import annotations

import decimal
import operator
import re
from collections.abc import Callable, Sized
from typing import Any

from erlmcp.server.param import Facts

_COMPARE: dict[str, tuple[str, str, Callable[[Any, Any], bool]]] = {
    "ge": (">=", "greater than or equal to", operator.ge),
    "gt": (">", "greater than", operator.gt),
    "le": ("<=", "less than or equal to", operator.le),
    "lt": ("<", "less than", operator.lt),
}


def bound_check(facts: Facts) -> Callable[[Any], str | None]:
    """A function that gives None for a value within the bounds, else what was expected.

    As in JSON Schema, a bound says nothing about values of another kind: a minimum lets a string pass.
    """
    numeric = [(words, test, getattr(facts, name)) for name, (_, words, test) in _COMPARE.items()]
    numeric = [each for each in numeric if each[2] is not None]
    least, most = facts.min_length, facts.max_length
    search = re.compile(facts.pattern).search if facts.pattern is not None else None

    def check(value: Any) -> str | None:
        if isinstance(value, str):
            if search is not None and search(value) is None:
                return f"expected a string that matches {facts.pattern!r}"
        elif isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool):
            for words, test, bound in numeric:
                if not test(value, bound):
                    return f"expected a number {words} {bound}"
            if facts.multiple_of is not None and not is_multiple(value, facts.multiple_of):
                return f"expected a multiple of {facts.multiple_of}"
            return None
        if isinstance(value, Sized):
            if least is not None and len(value) < least:
                return f"expected at least {least} {_unit(value)}"
            if most is not None and len(value) > most:
                return f"expected at most {most} {_unit(value)}"
        return None

    return check


def _unit(value: object) -> str:
    return "characters" if isinstance(value, str) else "items"


def is_multiple(value: Any, step: float) -> bool:
    """Is ``value`` a whole multiple of ``step``, counted in decimals (0.3 is a multiple of 0.1)?"""
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    ratio = decimal.Decimal(str(value)) / decimal.Decimal(str(step))
    return ratio == ratio.to_integral_value()


def fast_bounds(fast: str, facts: Facts) -> str:
    """The expression ``fast``, with the bounds added; empty where a bound is too costly to inline."""
    parts = [fast]
    for name, bound in facts.bounds.items():
        if name in _COMPARE:
            parts.append(f"{{v}} {_COMPARE[name][0]} {bound!r}")
        elif name == "min_length":
            parts.append(f"len({{v}}) >= {bound!r}")
        elif name == "max_length":
            parts.append(f"len({{v}}) <= {bound!r}")
        else:
            return ""
    return f"({' and '.join(parts)})" if fast else ""
