"""What a user made of a question: accepted with data, declined, or cancelled."""

from __future__ import annotations

import sys
import typing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from erlmcp.compat.sdk.lenient import LenientBuilder
from erlmcp.compat.sdk.schema import form_schema
from erlmcp.errors import ConfigurationError
from erlmcp.server.scalar import Mismatch
from erlmcp.server.shape import Reader

T = TypeVar("T")
_HOME = "mcp.server.elicitation"
_FLAT = ("string", "number", "integer", "boolean")


class OutcomeType(type):
    """An outcome of ``mcp.server.elicitation`` is an instance of the class of its name here: an app may hold either."""

    def __instancecheck__(cls, value: object) -> bool:
        own = type(value)
        is_foreign = own.__module__ == _HOME and own.__name__.partition("[")[0] == cls.__name__
        return is_foreign or type.__instancecheck__(cls, value)


@dataclass(frozen=True)
class AcceptedElicitation(Generic[T], metaclass=OutcomeType):
    """The user said yes, and ``data`` is what he filled in."""

    data: T
    action: str = "accept"


@dataclass(frozen=True)
class DeclinedElicitation(metaclass=OutcomeType):
    """The user said no."""

    action: str = "decline"


@dataclass(frozen=True)
class CancelledElicitation(metaclass=OutcomeType):
    """The user gave no answer."""

    action: str = "cancel"


@dataclass(frozen=True)
class AcceptedUrlElicitation(metaclass=OutcomeType):
    """The user agreed to visit the URL."""

    action: str = "accept"


OUTCOMES = (AcceptedElicitation, DeclinedElicitation, CancelledElicitation)


if typing.TYPE_CHECKING:
    ElicitationResult = AcceptedElicitation[T] | DeclinedElicitation | CancelledElicitation
    UrlElicitationResult = AcceptedUrlElicitation | DeclinedElicitation | CancelledElicitation
else:

    class ElicitationResult(Generic[T]):
        """Any of the three, as an annotation: ``ElicitationResult[Booking]``."""

    class UrlElicitationResult:
        """The same for a URL."""


def rendered(schema: Any) -> dict[str, Any]:
    """The ``requestedSchema`` of a type. Raises TypeError for what is no flat form."""
    if isinstance(schema, dict):
        return schema
    try:
        found = form_schema(Reader().read(schema))
    except ConfigurationError as error:
        raise TypeError(f"Elicitation schema {schema!r}: {error}") from error
    if found.get("type") != "object":
        raise TypeError(f"Elicitation schema {schema!r} is no object with named fields")
    for name, part in found["properties"].items():
        if not is_primitive(part):
            raise TypeError(
                f"Elicitation schema field {name!r} rendered as {part!r}, which is not a string, a number, a boolean "
                "or a choice: forms are flat"
            )
    return found


def is_primitive(part: dict[str, Any]) -> bool:
    """Is it what a form may have for a field (spec: client/elicitation)?"""
    if part.get("type") == "array":
        items = part.get("items", {})
        return "enum" in items or "anyOf" in items
    return part.get("type") in _FLAT or "enum" in part or "const" in part or "oneOf" in part


def read_form(schema: Any, content: Any) -> Any:
    """The filled form as the type that was asked for. Raises ValueError where it does not fit."""
    if content is None:
        raise ValueError("Received an accepted elicitation with no content")
    if isinstance(schema, dict):
        return content
    decode = LenientBuilder().build(Reader().read(schema)).call
    try:
        return content if decode is None else decode(content)
    except Mismatch as error:
        raise ValueError(
            f"Received an accepted elicitation whose content does not match the requested schema: {error}"
        ) from None


def made(kind: Any, **fields: Any) -> Any:
    """An outcome for the author: of the class of this name that his program imported from ``mcp``, else of ours."""
    foreign = getattr(sys.modules.get(_HOME), kind.__name__, None)
    return kind(**fields) if foreign is None else foreign.model_construct(**fields)


def outcome(schema: Any, answer: dict[str, Any]) -> Any:
    """A client's answer -> one of the three."""
    action = answer.get("action")
    if action == "accept":
        return made(AcceptedElicitation, data=read_form(schema, answer.get("content")))
    return made(DeclinedElicitation if action == "decline" else CancelledElicitation)


def url_outcome(answer: dict[str, Any]) -> Any:
    """The same for a URL."""
    action = answer.get("action")
    if action == "accept":
        return made(AcceptedUrlElicitation)
    return made(DeclinedElicitation if action == "decline" else CancelledElicitation)
