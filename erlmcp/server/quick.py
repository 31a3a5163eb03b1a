"""The quick way through a structure: a function written for its fields, as ``invoke`` is for a tool's arguments.

It takes the values that are right, and leaves everything else to the slow decoder, which knows how to complain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from erlmcp.server.param import MISSING
from erlmcp.server.scalar import Call, Decoder
from erlmcp.server.shape import Field

# A Mismatch is a ValueError; the others are what a constructor raises to refuse.
_BROKEN = (KeyError, ValueError, TypeError, AssertionError)
_IS_CLASS = re.compile(r"\{v\}\.__class__ is (\w+)")


def negation(fast: str, value: str) -> str:
    """The test that is true where a value needs its decoder; "" where none does."""
    if not fast:
        return "True"
    if fast == "True":
        return ""
    simple = _IS_CLASS.fullmatch(fast)
    if simple:
        return f"{value}.__class__ is not {simple[1]}"
    return f"not ({fast.replace('{v}', value)})"


def compile_struct(fields: Sequence[tuple[Field, Decoder]], make: Callable[..., Any] | None, slow: Call) -> Call:
    """A decoder of objects. ``make`` is called with the fields by name; None makes a dict."""
    names: dict[str, Any] = {"make": make, "slow": slow, "BROKEN": _BROKEN, "MISSING": MISSING}
    lines: list[str] = []
    late: list[str] = []
    given: list[str] = []
    for index, (field, decoder) in enumerate(fields):
        value = f"v{index}"
        test = negation(decoder.fast, value) if decoder.call is not None else ""
        decode = f"{value} = d{index}({value})"
        names[f"d{index}"] = decoder.call
        names[f"x{index}"] = field.default
        names[f"f{index}"] = field.factory
        if make is None and not field.required:
            late += [f"if {field.key!r} in value:", f"    {value} = value[{field.key!r}]"]
            late += [f"    if {test}:", f"        {decode}"] if test else []
            late.append(f"    made[{field.name!r}] = {value}")
            continue
        if field.required:
            lines.append(f"{value} = value[{field.key!r}]")
            lines += [f"if {test}:", f"    {decode}"] if test else []
        elif field.factory is not None:
            lines += [
                f"{value} = value.get({field.key!r}, MISSING)",
                f"if {value} is MISSING:",
                f"    {value} = f{index}()",
            ]
            lines += [f"elif {test}:", f"    {decode}"] if test else []
        else:
            lines.append(f"{value} = value.get({field.key!r}, x{index})")
            lines += [f"if {test} and {value} is not x{index}:", f"    {decode}"] if test else []
        given.append(f"{field.name!r}: {value}" if make is None else f"{field.name}={value}")
    if make is None:
        lines += [f"made = {{{', '.join(given)}}}", *late, "return made"]
    else:
        lines.append(f"return make({', '.join(given)})")
    source = [
        "def decode(value):",
        "    if value.__class__ is not dict:",
        "        return slow(value)",
        "    try:",
        *(f"        {line}" for line in lines),
        "    except BROKEN:",
        "        pass",
        "    return slow(value)",
    ]
    exec(compile("\n".join(source), "<erlmcp structure>", "exec"), names)
    made: Call = names["decode"]
    return made
