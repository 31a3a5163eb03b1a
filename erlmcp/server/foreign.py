"""Types that only pydantic understands: models, validators in ``Annotated``, constrained types, network types.

The one place of the author side that imports pydantic, and only when such a type was found in a signature.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from erlmcp.errors import ConfigurationError
from erlmcp.server.scalar import Mismatch, Problem, read_json


def adapter_of(hint: Any) -> Any:
    """pydantic's TypeAdapter of ``hint``. Raises ConfigurationError where pydantic refuses it as well."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError

    try:
        adapter: Any = TypeAdapter(hint)
        adapter.rebuild(raise_errors=True)
        return adapter
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError, TypeError) as error:
        detail = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"type {hint!r} has no meaning in JSON: {detail}; use a JSON type, a dataclass, a TypedDict or a model"
        ) from error


def foreign_schema(hint: Any, *, output: bool) -> dict[str, Any]:
    """The JSON Schema by pydantic, its references into ``#/$defs/``. Raises ConfigurationError where it has none."""
    from pydantic.errors import PydanticInvalidForJsonSchema

    adapter = adapter_of(hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # defaults that are not JSON are left out, which is what we want
            schema: dict[str, Any] = adapter.json_schema(mode="serialization" if output else "validation")
    except PydanticInvalidForJsonSchema as error:
        raise ConfigurationError(f"type {hint!r} has no JSON Schema: {error}") from error
    return schema


def foreign_dump(hint: Any) -> Callable[[Any], Any]:
    """A function from a value of the type to JSON-native values. It raises Mismatch for what is no such value."""
    serializer = adapter_of(hint).serializer
    decode = foreign_decoder(hint, lax=False)
    cls = hint if isinstance(hint, type) else ()

    def dump(value: Any) -> Any:
        if not isinstance(value, cls):
            value = decode(value)
        return serializer.to_python(value, mode="json", by_alias=True)

    return dump


def foreign_decoder(hint: Any, lax: bool) -> Callable[[Any], Any]:
    """A decoder that raises Mismatch; with ``lax`` a string that is refused is read as JSON and tried again."""
    from pydantic import ValidationError

    validate = adapter_of(hint).validator.validate_python

    def decode(value: Any) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            refusal = error
        if lax and isinstance(value, str):
            try:
                return validate(read_json(value))
            except (ValueError, RecursionError) as error:
                if isinstance(error, ValidationError):
                    refusal = error
        raise Mismatch(_problems(refusal)) from None

    return decode


def _problems(error: Any) -> list[Problem]:
    found: list[Problem] = []
    for each in error.errors(include_url=False, include_context=False):
        shown = repr(each["input"])
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        text = "missing" if each["type"] == "missing" else f"{each['msg']}, got {shown}"
        found.append((tuple(each["loc"]), text))
    return found
