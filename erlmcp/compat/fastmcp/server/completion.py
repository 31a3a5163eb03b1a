"""Completions by one handler: what it is given, and what becomes of what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erlmcp.client.result import typed
from erlmcp.errors import InvalidAnswerError, InvalidParamsError

VALUE_COUNT_MAX = 100  # spec: server/utilities/completion


class Part:
    """A reference, an argument or a context of a completion, by its Python names."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)

    def __repr__(self) -> str:
        return f"Part({self.__dict__!r})"


def given_of(params: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """(reference, argument, context) of a request. Raises InvalidParamsError."""
    ref, argument, context = params.get("ref"), params.get("argument"), params.get("context")
    if not isinstance(ref, dict) or not isinstance(argument, dict):
        raise InvalidParamsError("Invalid params: ref and argument must be objects")
    is_prompt = ref.get("type") == "ref/prompt"
    return (
        _made("PromptReference" if is_prompt else "ResourceTemplateReference", ref),
        _made("CompletionArgument", argument),
        _made("CompletionContext", context) if isinstance(context, dict) else None,
    )


def _made(kind: str, given: dict[str, Any]) -> Any:
    """An object of ``mcp_types``, or what stands for it where that is not installed."""
    try:
        return typed(kind, given)
    except ImportError:
        return Part(**given)
    except InvalidAnswerError as error:
        raise InvalidParamsError(f"Invalid params: {error}") from error


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
