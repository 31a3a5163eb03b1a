"""Completions by one handler: what it is given, and what becomes of what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erlmcp.errors import InvalidParamsError

VALUE_COUNT_MAX = 100  # spec: server/utilities/completion


class Part:
    """A reference, an argument or a context of a completion, by its Python names."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)

    def __repr__(self) -> str:
        return f"Part({self.__dict__!r})"


def given_of(params: Mapping[str, Any]) -> tuple[Part, Part, Part | None]:
    """(reference, argument, context) of a request. Raises InvalidParamsError."""
    ref, argument, context = params.get("ref"), params.get("argument"), params.get("context")
    if not isinstance(ref, dict) or not isinstance(argument, dict):
        raise InvalidParamsError("Invalid params: ref and argument must be objects")
    made = None if not isinstance(context, dict) else Part(arguments=context.get("arguments"))
    return Part(**ref), Part(**argument), made


def completion_of(value: Any) -> dict[str, Any]:
    """A list of values, or a Completion of ``mcp_types`` -> a Completion as JSON."""
    if value is None:
        return {"values": []}
    if hasattr(value, "values") and not isinstance(value, Mapping):
        found = {"values": list(value.values), "total": value.total, "hasMore": value.has_more}
        return {name: each for name, each in found.items() if each is not None}
    if isinstance(value, str | Mapping):
        raise TypeError(f"a completion handler returns values or None, got {type(value).__name__}")
    every = [str(each) for each in value]
    made: dict[str, Any] = {"values": every[:VALUE_COUNT_MAX]}
    if len(every) > VALUE_COUNT_MAX:
        made |= {"total": len(every), "hasMore": True}
    return made
