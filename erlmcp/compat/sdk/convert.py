"""What a tool returns -> its result, by the SDK's rules: text in blocks of its own making, and the checked value.

The text of what is no string is JSON with an indent of two; a list gives a block for each entry. Structured content is
what the return annotation describes, wrapped as ``{"result": value}`` where that is no object.
"""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import inspect
import json
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from erlmcp.compat.sdk.exceptions import InvalidSignature
from erlmcp.compat.sdk.lenient import LenientBuilder, bytes_as_text, holds_bytes
from erlmcp.compat.sdk.record import Record
from erlmcp.compat.sdk.schema import is_model, output_schema
from erlmcp.compat.sdk.types import CallToolResult, InputRequiredResult
from erlmcp.errors import ConfigurationError
from erlmcp.server.content import OCTETS, _Media, block_of, dump_model, is_protocol_class, is_protocol_model
from erlmcp.server.convert import CONVERT, TEXT, TEXT_ONLY, VALUE, Conversion
from erlmcp.server.foreign import adapter_of
from erlmcp.server.jsonable import to_jsonable
from erlmcp.server.schema import Json
from erlmcp.server.shape import Reader, hints_of, unwrap

EMPTY = inspect.Parameter.empty
_UNIONS = (typing.Union, types.UnionType)
_SCALARS = {int: int, float: float, bool: bool}
_IMAGES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}
_SOUNDS = {".wav": "wav", ".mp3": "mpeg", ".ogg": "ogg", ".flac": "flac", ".aac": "aac", ".m4a": "mp4"}


class _Helper(_Media):
    """A medium whose type comes from a short table of endings, as the SDK's does."""

    suffixes: ClassVar[dict[str, str]] = {}

    def __init__(self, path: Any = None, data: bytes | None = None, format: str | None = None) -> None:
        super().__init__(data, path=path or None, format=format)

    def _guess(self, format: str | None) -> str:
        if format:
            return f"{self.kind}/{format.lower()}"
        if self.path is None:
            return self.default_type
        found = self.suffixes.get(self.path.suffix.lower())
        return f"{self.kind}/{found}" if found else OCTETS


class Image(_Helper):
    """A picture that a tool returns: ``Image(path="plot.png")``, ``Image(data=png, format="png")``."""

    kind, default_type, suffixes = "image", "image/png", _IMAGES

    def to_image_content(self) -> Any:
        from erlmcp.compat.sdk.types import ImageContent

        return ImageContent.model_validate(self.to_content())


class Audio(_Helper):
    """A sound that a tool returns."""

    kind, default_type, suffixes = "audio", "audio/wav", _SOUNDS

    def to_audio_content(self) -> Any:
        from erlmcp.compat.sdk.types import AudioContent

        return AudioContent.model_validate(self.to_content())


def is_named(value: object, name: str) -> bool:
    """Is it a result of this class, ours or of ``mcp_types``?"""
    return any(base.__name__ == name for base in type(value).__mro__) and (
        isinstance(value, Record) or is_protocol_model(value)
    )


def is_named_class(hint: object, kind: type[Record]) -> bool:
    """Is it this class, or the one of ``mcp_types`` that has its name?"""
    if not isinstance(hint, type) or typing.get_args(hint):
        return False
    return issubclass(hint, kind) or (is_protocol_class(hint) and hint.__name__ == kind.__name__)


def indented(value: Any) -> str:
    """JSON text with an indent of two, of anything: what has no JSON form by its ``str()``."""
    made = _finite(to_jsonable(bytes_as_text(value), fallback=str))
    return json.dumps(made, indent=2, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


def content_of(value: Any) -> list[Json]:
    """Any returned value -> content blocks."""
    if value is None:
        return []
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    block = block_of(value) or _foreign_medium(value)
    if block is not None:
        return [block]
    if isinstance(value, list | tuple):
        return [block for each in value for block in content_of(each)]
    return [{"type": "text", "text": indented(value)}]


def _foreign_medium(value: Any) -> Json | None:
    """``Image`` and ``Audio`` of the SDK itself, where an app left that import as it was."""
    make = getattr(value, "to_image_content", None) or getattr(value, "to_audio_content", None)
    return dump_model(make()) if make is not None else None


class Asked(Exception):
    """A tool's value is a question to the client: an ``InputRequiredResult``."""

    def __init__(self, value: Any) -> None:
        super().__init__("the tool asks the client first")
        self.value = value


@dataclass(slots=True, eq=False)
class SdkConversion(Conversion):
    """``structure`` checks a value and gives it as JSON; None: there is no structured content."""

    structure: Callable[[Any], Any] | None = None

    def result(self, value: Any) -> Json:
        """The CallToolResult. Raises whatever the value is refused with: it is the tool's fault, and masked."""
        if is_named(value, "CallToolResult"):
            made: Json = dump_model(value)
            if self.structure is not None and not made.get("isError"):
                whole = made.get("structuredContent")
                self.structure(whole["result"] if self.wraps and isinstance(whole, dict) else whole)
            return made
        if is_named(value, "InputRequiredResult"):
            raise Asked(value)
        content = content_of(value)
        if self.structure is None:
            return {"content": content}
        plain = self.structure(value)
        return {"content": content, "structuredContent": {"result": plain} if self.wraps else plain}


def plan_result(label: str, fn_name: str, hint: Any, structured: bool | None) -> SdkConversion:
    """Plan from the return annotation. ``structured`` True: InvalidSignature where it has no schema."""
    hint, holds = _sift(label, hint)
    if structured is False or holds == "control":
        is_text = structured is False and hint is str
        return SdkConversion(label, TEXT_ONLY if is_text else CONVERT, False, str if is_text else None)
    if hint is EMPTY and structured:
        raise InvalidSignature(f"{label}: structured output needs a return annotation")
    if structured is None and _returns_content(hint):
        return SdkConversion(label)
    try:
        made = None if hint is EMPTY else _structured(label, fn_name, hint)
    except (ConfigurationError, TypeError, ValueError, NameError) as error:
        if structured:
            raise InvalidSignature(f"{label}: its return type {hint!r} has no schema: {error}") from error
        return SdkConversion(label)
    if made is None and structured:
        raise InvalidSignature(f"{label}: its return type {hint!r} is not serializable for structured output")
    return made or SdkConversion(label)


def _sift(label: str, hint: Any) -> tuple[Any, str]:
    """Take what is no data out of a return annotation: (the rest, "control" where nothing is left)."""
    bare, metadata = unwrap(hint)
    if is_named_class(bare, InputRequiredResult):
        return hint, "control"
    if typing.get_origin(bare) in _UNIONS:
        arms = typing.get_args(bare)
        rest = [arm for arm in arms if not is_named_class(unwrap(arm)[0], InputRequiredResult)]
        if len(rest) > 1 and any(is_named_class(arm, CallToolResult) for arm in rest):
            raise InvalidSignature(f"{label}: CallToolResult cannot be one of several return types")
        if len(rest) == 1 and len(arms) > 1 and len(rest) != len(arms):
            return _sift(label, rest[0])
        if rest and len(rest) != len(arms):
            hint = typing.Union[tuple(rest)]  # noqa: UP007
            bare = hint
    if is_named_class(bare, CallToolResult):
        if not metadata:
            return hint, "control"
        return metadata[0] if len(metadata) == 1 else typing.Annotated[tuple(metadata)], "data"
    return hint, "data"


def _returns_content(hint: Any) -> bool:
    """Content blocks and helpers, alone or within lists, tuples and unions."""
    bare, _ = unwrap(hint)
    origin = typing.get_origin(bare)
    if origin in (*_UNIONS, list, tuple, abc.Sequence):
        return any(_returns_content(each) for each in typing.get_args(bare))
    if not isinstance(bare, type) or origin is not None:
        return False
    return issubclass(bare, _Media) or hasattr(bare, "to_content") or _is_foreign_content(bare)


def _is_foreign_content(cls: Any) -> bool:
    if hasattr(cls, "to_image_content") or hasattr(cls, "to_audio_content"):
        return True
    return is_protocol_class(cls) and "type" in getattr(cls, "model_fields", {})


def _structured(label: str, fn_name: str, hint: Any) -> SdkConversion | None:
    bare, _ = unwrap(hint)
    origin, args = typing.get_origin(bare), typing.get_args(bare)
    if isinstance(bare, types.GenericAlias) and origin is dict and len(args) == 2 and args[0] is str:
        return _planned(label, fn_name, hint, wraps=False, title=f"{fn_name}DictOutput")
    is_class = isinstance(bare, type) and not args
    if not is_class or bare in (str, int, float, bool, bytes, type(None)):
        return _planned(label, fn_name, hint, wraps=True)
    if hasattr(bare, "model_fields") or typing.is_typeddict(bare) or hasattr(bare, "__total__"):
        return _planned(label, fn_name, hint, wraps=False)
    fields = hints_of(bare)
    if not fields:
        return None
    parts = [
        (name, each, dataclasses.field(default=getattr(bare, name))) if hasattr(bare, name) else (name, each)
        for name, each in fields.items()
        if not name.startswith("_")
    ]
    mirror = dataclasses.make_dataclass(bare.__name__, parts, kw_only=True)
    names = tuple(part[0] for part in parts)
    made = _planned(label, fn_name, mirror, wraps=False)
    check = made.structure
    assert check is not None
    made.structure = lambda value: check(_attributes(value, names))
    return made


def _attributes(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, abc.Mapping):
        return value
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _planned(label: str, fn_name: str, hint: Any, *, wraps: bool, title: str | None = None) -> SdkConversion:
    shape = Reader().read(hint)
    schema = output_schema(shape, fn_name, wraps=wraps, title=title)
    made = SdkConversion(label, CONVERT, wraps, None, schema)
    if shape.kind == "str":
        made.kind, made.result_class = TEXT, str
    elif unwrap(hint)[0] in _SCALARS and shape.kind != "bounded":
        made.kind, made.result_class = VALUE, _SCALARS[unwrap(hint)[0]]
    made.structure = _model_structure(shape.hint) if is_model(shape) else _shape_structure(shape)
    return made


def _shape_structure(shape: Any) -> Callable[[Any], Any]:
    """Read the value by its type, as an argument would be, and write it again."""
    if holds_bytes(shape):
        return lambda value: to_jsonable(bytes_as_text(value))
    decode = LenientBuilder().build(shape).call

    def structure(value: Any) -> Any:
        plain = to_jsonable(value)
        return plain if decode is None else to_jsonable(decode(plain))

    return structure


def _model_structure(cls: Any) -> Callable[[Any], Any]:
    """pydantic does both; an instance of a subclass keeps its own fields."""
    adapter = adapter_of(cls)

    def structure(value: Any) -> Any:
        found = adapter.validate_python(value, by_alias=True, by_name=True)
        return found.model_dump(mode="json", by_alias=True)

    return structure
