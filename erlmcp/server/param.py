"""What an author writes beside a type: descriptions, bounds, names. Read from every dialect, kept as one record.

``Annotated[T, ...]`` may carry a plain string (the description), our own ``Param``, pydantic's ``Field``, the classes
of ``annotated_types``, PEP 727's ``Doc``. ``facts_of`` folds them into ``Facts``. pydantic is recognised by name and
never imported here; metadata that only pydantic understands (validators, ``StringConstraints``) sets
``Facts.foreign``, and the whole hint is then left to pydantic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from erlmcp.errors import ConfigurationError


class Missing:
    """The type of ``MISSING``: nothing was given, not even None."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()

HEADER_KEY = "x-mcp-header"
# Facts' bound -> its JSON Schema keyword.
NUMBER_KEYWORDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_BOUNDS = (*NUMBER_KEYWORDS, "min_length", "max_length", "pattern")


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter's description, bounds and names, without pydantic: ``Annotated[int, Param("Page number", ge=1)]``.

    ``min_length`` and ``max_length`` bound strings, arrays and objects; ``pattern`` is searched for, as JSON Schema
    does. ``alias`` is the name the caller uses instead of the Python one. ``header`` mirrors the argument into the
    HTTP header ``Mcp-Param-<header>`` (the ``x-mcp-header`` keyword of 2026-07-28; only for str, int and bool).
    ``schema_extra`` is merged into the property's schema as it is.
    """

    description: str | None = None
    title: str | None = field(default=None, kw_only=True)
    alias: str | None = field(default=None, kw_only=True)
    header: str | None = field(default=None, kw_only=True)
    ge: float | None = field(default=None, kw_only=True)
    gt: float | None = field(default=None, kw_only=True)
    le: float | None = field(default=None, kw_only=True)
    lt: float | None = field(default=None, kw_only=True)
    multiple_of: float | None = field(default=None, kw_only=True)
    min_length: int | None = field(default=None, kw_only=True)
    max_length: int | None = field(default=None, kw_only=True)
    pattern: str | None = field(default=None, kw_only=True)
    examples: Sequence[object] | None = field(default=None, kw_only=True)
    schema_extra: Mapping[str, object] | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class Facts:
    """Everything that was said beside one type."""

    description: str | None = None
    title: str | None = None
    alias: str | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    examples: list[object] | None = None
    deprecated: bool = False
    extra: dict[str, object] = field(default_factory=dict)
    extra_call: Callable[[dict[str, Any]], object] | None = None
    default: object = MISSING
    default_factory: Callable[[], object] | None = None
    marks: tuple[object, ...] = ()
    foreign: bool = False

    @property
    def bounds(self) -> dict[str, Any]:
        """The bounds that were set, by their names here."""
        return {name: value for name in _BOUNDS if (value := getattr(self, name)) is not None}


def is_field_info(value: object) -> bool:
    """Is this what pydantic's ``Field(...)`` gives?"""
    return any(cls.__name__ == "FieldInfo" and cls.__module__ == "pydantic.fields" for cls in type(value).__mro__)


def facts_of(metadata: Iterable[object]) -> Facts:
    """Fold the metadata of an ``Annotated`` (outermost last, so that it wins) into one record.

    Raises ConfigurationError for a pattern that is not a regular expression.
    """
    facts = Facts()
    for item in metadata:
        _fold(facts, item)
    for name, bound in facts.bounds.items():
        if name == "pattern":
            _check_pattern(bound)
        elif isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            facts.foreign = True
    return facts


def _check_pattern(pattern: object) -> None:
    try:
        re.compile(pattern)  # type: ignore[call-overload]
    except (re.error, TypeError) as error:
        raise ConfigurationError(f"pattern {pattern!r} is not a regular expression: {error}") from None


def _fold(facts: Facts, item: object) -> None:
    if isinstance(item, str):
        facts.description = item
    elif isinstance(item, Param):
        _fold_param(facts, item)
    elif is_field_info(item):
        _fold_field_info(facts, item)
    elif isinstance(item, type):
        facts.foreign = facts.foreign or hasattr(item, "__get_pydantic_core_schema__")
    else:
        _fold_other(facts, item)


def _fold_param(facts: Facts, item: Param) -> None:
    for name in ("description", "title", "alias", *_BOUNDS):
        if (value := getattr(item, name)) is not None:
            setattr(facts, name, value)
    if item.examples is not None:
        facts.examples = list(item.examples)
    if item.schema_extra is not None:
        facts.extra.update(item.schema_extra)
    if item.header is not None:
        facts.extra[HEADER_KEY] = item.header


def _fold_field_info(facts: Facts, item: Any) -> None:
    for name in ("description", "title"):
        if getattr(item, name) is not None:
            setattr(facts, name, getattr(item, name))
    alias = item.validation_alias if isinstance(item.validation_alias, str) else item.alias
    if alias is not None:
        facts.alias = alias
    if item.examples is not None:
        facts.examples = list(item.examples)
    if getattr(item, "deprecated", None):
        facts.deprecated = True
    if isinstance(item.json_schema_extra, Mapping):
        facts.extra.update(item.json_schema_extra)
    elif item.json_schema_extra is not None:
        facts.extra_call = item.json_schema_extra
    if item.default is not ... and type(item.default).__name__ != "PydanticUndefinedType":
        facts.default = item.default
    if item.default_factory is not None:
        facts.default_factory = item.default_factory
    if getattr(item, "discriminator", None) is not None:
        facts.foreign = True
    for inner in item.metadata:
        _fold(facts, inner)


def _fold_other(facts: Facts, item: Any) -> None:
    module = type(item).__module__
    name = type(item).__name__
    if module == "annotated_types":
        if hasattr(item, "__iter__"):  # Interval, Len: groups
            for inner in item:
                _fold(facts, inner)
        elif name in ("Ge", "Gt", "Le", "Lt", "MultipleOf", "MinLen", "MaxLen"):
            for key in _BOUNDS:
                if hasattr(item, key):
                    setattr(facts, key, getattr(item, key))
        else:
            facts.foreign = True
    elif name.lower().endswith("generalmetadata") and module.startswith("pydantic"):
        rest = {key: value for key, value in vars(item).items() if value is not None}
        pattern = rest.pop("pattern", None)
        if pattern is not None:
            facts.pattern = getattr(pattern, "pattern", pattern)
        facts.foreign = facts.foreign or bool(rest)
    elif name == "Doc" and isinstance(getattr(item, "documentation", None), str):
        facts.description = item.documentation
    elif module.startswith("pydantic") or hasattr(item, "__get_pydantic_core_schema__"):
        facts.foreign = True
    else:
        facts.marks = (*facts.marks, item)
