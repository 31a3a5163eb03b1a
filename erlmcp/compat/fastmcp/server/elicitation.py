"""Questions to the user: from the type that FastMCP's ``ctx.elicit`` takes to a form, and from the answer to its
value."""

from __future__ import annotations

import dataclasses
import enum
import typing
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from erlmcp.errors import ConfigurationError
from erlmcp.server.decode import Builder
from erlmcp.server.form import form_schema
from erlmcp.server.scalar import Mismatch
from erlmcp.server.schema import SchemaBuilder
from erlmcp.server.shape import Reader

T = TypeVar("T")
Json = dict[str, Any]


@dataclass
class AcceptedElicitation(Generic[T]):
    """The user answered."""

    data: T
    action: Literal["accept"] = "accept"


@dataclass
class DeclinedElicitation:
    """The user would not answer."""

    action: Literal["decline"] = "decline"


@dataclass
class CancelledElicitation:
    """The user left the question."""

    action: Literal["cancel"] = "cancel"


@dataclass(frozen=True)
class Form:
    """``schema`` is what is asked, ``hint`` what the answer is read as, ``is_value`` whether it is below ``value``."""

    schema: Json
    hint: Any
    is_value: bool


def form_of(wanted: Any, title: str | None = None, description: str | None = None) -> Form:
    """From a type, a list of choices, or a dict of choices with titles. Raises TypeError for what is no flat form."""
    if wanted is None:
        wanted = dict
    if isinstance(wanted, dict):
        part, hint = {"type": "string", "oneOf": _titled(wanted)}, Literal[tuple(wanted)]
        return _value_form(part, hint, title, description)
    if isinstance(wanted, list):
        part, hint = _listed(wanted)
        is_plain = part["type"] == "string"
        return _value_form(part, hint, title or ("Value" if is_plain else None), description)
    if wanted is dict:
        _refuse_label(title, description)
        return Form({"type": "object", "properties": {}}, None, False)
    if _is_record(wanted):
        _refuse_label(title, description)
        try:
            return Form(_with_titles(form_schema(wanted), wanted), wanted, False)
        except ConfigurationError as error:
            raise TypeError(str(error)) from error
    builder = SchemaBuilder()
    part = builder.finish(builder.build(Reader().read(wanted)))
    if part.get("type") not in ("string", "number", "integer", "boolean", "array") and "enum" not in part:
        raise TypeError(f"{wanted!r} is no flat form: ask for a scalar, choices, or a record of them")
    named = wanted.__name__ if isinstance(wanted, type) and issubclass(wanted, enum.Enum) else "Value"
    return _value_form(part, wanted, title or named, description)


def _titled(choices: dict[str, Any]) -> list[Json]:
    return [{"const": name, "title": (each or {}).get("title", name)} for name, each in choices.items()]


def _listed(wanted: list[Any]) -> tuple[Json, Any]:
    """The schema of the value, and its type, of the short forms with lists."""
    first: Any = wanted[0] if len(wanted) == 1 else None
    if isinstance(first, list | dict):
        choices: Any = Literal[tuple(first)]
        items = {"enum": first} if isinstance(first, list) else {"anyOf": _titled(first)}
        return {"type": "array", "items": items}, list[choices]
    if wanted and all(isinstance(each, str) for each in wanted):
        return {"type": "string", "enum": wanted}, Literal[tuple(wanted)]
    raise TypeError(f"{wanted!r} is no list of choices")


def _is_record(wanted: Any) -> bool:
    if not isinstance(wanted, type) or issubclass(wanted, enum.Enum):
        return False
    return dataclasses.is_dataclass(wanted) or hasattr(wanted, "model_fields") or typing.is_typeddict(wanted)


def _refuse_label(title: str | None, description: str | None) -> None:
    if title is not None or description is not None:
        raise TypeError("response_title and response_description are for a single value; name the fields of a record")


def _value_form(part: Json, hint: Any, title: str | None, description: str | None) -> Form:
    labelled = part if title is None else {"title": title, **part}
    if description is not None:
        labelled["description"] = description
    return Form({"type": "object", "properties": {"value": labelled}, "required": ["value"]}, hint, True)


def _with_titles(schema: Json, wanted: Any) -> Json:
    """Each field with a title, as clients show them, and the record with its name."""
    properties = {
        name: {"title": name.replace("_", " ").title(), **part} for name, part in schema.get("properties", {}).items()
    }
    return {**schema, "title": wanted.__name__, "properties": properties}


def answer_of(form: Form, action: str, content: Json | None) -> Any:
    """The user's answer. Raises ValueError for one that does not fit the form."""
    if action == "decline":
        return DeclinedElicitation()
    if action == "cancel":
        return CancelledElicitation()
    if action != "accept":
        raise ValueError(f"Unexpected elicitation action: {action}")
    given: Any = content or {}
    if form.is_value:
        if "value" not in given:
            raise ValueError("Elicitation response missing required 'value' field.")
        given = given["value"]
    elif form.hint is None:
        if given:
            raise ValueError(f"Elicitation expected an empty response, but received: {given}")
        return AcceptedElicitation({})
    decode = Builder().build(Reader().read(form.hint)).call
    try:
        return AcceptedElicitation(given if decode is None else decode(given))
    except Mismatch as error:
        raise ValueError(f"the client's answer does not fit the form: {error}") from None
