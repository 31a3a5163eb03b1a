"""Type hints read once into shapes; schema, decoder and output conversion all start from the same shape.

A shape is a node of a small graph: a *kind* and its parts. The typing module's many spellings (Optional, ``X | Y``,
NewType, PEP 695 aliases, type variables, ``Required[...]``) end here. A recursive type is a cycle in the graph:
``Reader`` keeps one shape per structure, and hands out the unfinished one when a structure is met inside itself.
Whatever is not known here is of kind "foreign" and belongs to pydantic, which is imported only then.
"""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import pathlib
import sys
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from erlmcp.errors import ConfigurationError
from erlmcp.server.param import MISSING, Facts, facts_of

SCALARS: dict[Any, str] = {
    Any: "any",
    object: "any",
    None: "none",
    type(None): "none",
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    bytes: "bytes",
    bytearray: "bytes",
    dt.datetime: "datetime",
    dt.date: "date",
    dt.time: "time",
    dt.timedelta: "timedelta",
    uuid.UUID: "uuid",
    decimal.Decimal: "decimal",
}
_ARRAYS: dict[Any, Callable[[list[Any]], object]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Iterable: list,
    abc.Collection: list,
    abc.Set: set,
    abc.MutableSet: set,
}
_MAPS = (dict, abc.Mapping, abc.MutableMapping)
_WRAPPERS = {typing.Required, typing.NotRequired, typing.Final, typing.ClassVar}


@dataclass(slots=True)
class Field:
    """One named member of a structure. ``key`` is its name in JSON, ``name`` in Python."""

    name: str
    key: str
    shape: Shape
    required: bool
    default: object = MISSING
    factory: Callable[[], object] | None = None
    description: str | None = None


@dataclass(slots=True, eq=False)
class Shape:
    """What a hint means. ``items`` and ``fields`` hold the parts; which are used depends on ``kind``.

    any, none, str, int, float, bool, bytes, datetime, date, time, timedelta, uuid, decimal, path: no parts (``make``
    of a path is its class). literal and enum: ``values`` is JSON value -> Python value as pairs. union: the members
    in ``items``. array: one item; ``make`` builds the collection. tuple: one item per place. map: key and value.
    struct (dataclass, TypedDict) and record (NamedTuple): ``fields``, ``make``. alias: one item, possibly a cycle.
    bounded: one item and ``facts``. foreign: ``hint`` goes to pydantic.
    """

    kind: str
    hint: Any = None
    items: tuple[Shape, ...] = ()
    fields: tuple[Field, ...] = ()
    values: tuple[tuple[Any, Any], ...] = ()
    make: Callable[..., Any] | None = None
    facts: Facts | None = None
    name: str = ""
    description: str | None = None


def base_name(hint: Any) -> str:
    """How a hint is called in messages."""
    return getattr(hint, "__name__", None) or str(hint)


def unwrap(hint: Any) -> tuple[Any, list[object]]:
    """Take ``Annotated``, ``Required`` and their like off: the bare hint, and the metadata, innermost first."""
    metadata: list[object] = []
    while True:
        origin = typing.get_origin(hint)
        if hasattr(hint, "__metadata__"):
            metadata[:0] = hint.__metadata__
            hint = hint.__origin__
        elif origin in _WRAPPERS or getattr(origin, "_name", None) == "ReadOnly":
            hint = typing.get_args(hint)[0]
        else:
            return hint, metadata


def or_none(hint: Any) -> Any:
    """``x: int = None`` means ``int | None``."""
    bare, metadata = unwrap(hint)
    if bare in (Any, object, None) or type(None) in typing.get_args(bare):
        return hint
    optional: Any = typing.Optional[bare]  # noqa: UP045
    return typing.Annotated[(optional, *metadata)] if metadata else optional


def substitute(hint: Any, bound: Mapping[Any, Any]) -> Any:
    """Put ``bound`` in the place of type variables; an unbound one becomes its bound, its constraints, or Any."""
    if isinstance(hint, typing.TypeVar):
        if hint in bound:
            return bound[hint]
        if hint.__constraints__:
            return typing.Union[hint.__constraints__]  # noqa: UP007
        return Any if hint.__bound__ is None else hint.__bound__
    parameters = getattr(hint, "__parameters__", ())
    if parameters and not isinstance(hint, type) and typing.get_origin(hint) is not None:
        return hint[tuple(substitute(each, bound) for each in parameters)]
    return hint


def hints_of(owner: Any, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The evaluated annotations of a function or class.

    A name that the module does not know is looked for in the function's closure and in the calling frames, which
    makes types that are local to a function usable. Raises ConfigurationError where it is nowhere.
    """
    local = dict(names or {})
    code = getattr(owner, "__code__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(owner, "__closure__", None) or (), strict=False):
        try:
            local[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for each in getattr(owner, "__mro__", (owner,)):  # PEP 695; get_type_hints itself looks there from 3.13 on
        for parameter in getattr(each, "__type_params__", ()):
            local.setdefault(parameter.__name__, parameter)
    try:
        return typing.get_type_hints(owner, localns=local or None, include_extras=True)
    except NameError:
        pass
    except TypeError as error:
        raise ConfigurationError(f"the annotations of {base_name(owner)!r} cannot be evaluated: {error}") from error
    try:
        return typing.get_type_hints(owner, localns={**_frame_names(), **local}, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"an annotation of {base_name(owner)!r} names something unknown ({error}); import it at run time, "
            "not only under TYPE_CHECKING"
        ) from None


def _evaluate(hint: Any, module: str) -> Any:
    """A hint that was written as a string, or has strings in it, by the names of its module."""
    holder = types.SimpleNamespace(__annotations__={"value": hint})
    names = vars(sys.modules[module]) if module in sys.modules else {}
    try:
        return typing.get_type_hints(holder, names, _frame_names(), include_extras=True)["value"]
    except NameError as error:
        raise ConfigurationError(f"type {hint!r} names something unknown ({error})") from None


def _frame_names(depth_max: int = 32) -> dict[str, Any]:
    found: dict[str, Any] = {}
    frame: types.FrameType | None = sys._getframe(1)
    for _ in range(depth_max):
        if frame is None:
            break
        if not str(frame.f_globals.get("__name__", "")).startswith("erlmcp."):
            for name, value in frame.f_locals.items():
                found.setdefault(name, value)
        frame = frame.f_back
    return found


class Reader:
    """Reads hints into shapes; one reader per function, as shapes of structures are shared within it."""

    def __init__(self) -> None:
        self._known: dict[Any, Shape] = {}
        self._depth = 0

    def read(self, hint: Any) -> Shape:
        """Raises ConfigurationError for a hint that has no meaning in JSON."""
        self._depth += 1
        if self._depth > 100:
            raise ConfigurationError(f"type {base_name(hint)} is nested too deeply")
        try:
            bare, metadata = unwrap(hint)
            if not metadata:
                return self._read_bare(bare)
            facts = facts_of(metadata)
            if facts.foreign:
                return Shape("foreign", hint)
            inner = self._read_bare(bare)
            if facts == Facts(marks=facts.marks):
                return inner
            return Shape("bounded", hint, items=(inner,), facts=facts)
        finally:
            self._depth -= 1

    def _read_bare(self, hint: Any) -> Shape:
        try:
            kind = SCALARS.get(hint)
        except TypeError:
            kind = None
        if kind is not None:
            return Shape(kind, hint)
        if isinstance(hint, typing.TypeVar):
            return self.read(substitute(hint, {}))
        if hint is inspect.Parameter.empty:
            return Shape("any", Any)
        if hasattr(hint, "__supertype__"):
            return self.read(hint.__supertype__)
        origin = typing.get_origin(hint)
        if hasattr(hint, "__value__") or hasattr(origin, "__value__"):
            return self._read_alias(hint, origin)
        if origin is None and isinstance(hint, type):
            return self._read_class(hint, hint, ())
        if origin in (typing.Union, types.UnionType):
            return Shape("union", hint, items=tuple(self.read(each) for each in typing.get_args(hint)))
        if origin is typing.Literal:
            values = tuple((v.value if isinstance(v, enum.Enum) else v, v) for v in typing.get_args(hint))
            return Shape("literal", hint, values=values)
        if isinstance(origin, type):
            return self._read_class(hint, origin, typing.get_args(hint))
        if inspect.isroutine(hint):
            raise ConfigurationError(f"{hint!r} is a function, not a type")
        if isinstance(hint, str | typing.ForwardRef):
            raise ConfigurationError(f"forward reference {hint!r} could not be resolved")
        return Shape("foreign", hint)

    def _read_alias(self, hint: Any, origin: Any) -> Shape:
        known = self._known.get(hint)
        if known is not None:
            return known
        alias = hint if hasattr(hint, "__value__") and origin is None else origin
        shape = self._known[hint] = Shape("alias", hint, name=alias.__name__)
        bound = dict(zip(alias.__type_params__, typing.get_args(hint), strict=False))
        value = _evaluate(alias.__value__, alias.__module__)
        shape.items = (self.read(substitute(value, bound)),)
        return shape

    def _read_class(self, hint: Any, cls: type, args: tuple[Any, ...]) -> Shape:
        if issubclass(cls, enum.Enum):
            return Shape("enum", hint, values=tuple((m.value, m) for m in cls), make=cls, name=cls.__name__)
        if cls in _ARRAYS:
            return Shape("array", hint, items=(self.read(args[0] if args else Any),), make=_ARRAYS[cls])
        if cls is tuple:
            return self._read_tuple(hint, args)
        if cls in _MAPS:
            key, value = args or (str, Any)
            return Shape("map", hint, items=(self.read(str if key is Any else key), self.read(value)), make=dict)
        if issubclass(cls, pathlib.PurePath):
            return Shape("path", hint, make=cls)
        if typing.is_typeddict(cls) or hasattr(cls, "__required_keys__"):
            return self._read_struct(hint, cls, args, self._typed_dict_fields, as_dict)
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            return self._read_struct(hint, cls, args, self._record_fields, cls, kind="record")
        if dataclasses.is_dataclass(cls) and not hasattr(cls, "__pydantic_validator__"):
            return self._read_struct(hint, cls, args, self._dataclass_fields, cls)
        return Shape("foreign", hint)

    def _read_tuple(self, hint: Any, args: tuple[Any, ...]) -> Shape:
        if not args and hint is not tuple and hint is not typing.Tuple:  # noqa: UP006 - tuple[()]
            return Shape("tuple", hint)
        if not args or (len(args) == 2 and args[1] is ...):
            return Shape("array", hint, items=(self.read(args[0] if args else Any),), make=tuple)
        return Shape("tuple", hint, items=tuple(self.read(each) for each in args))

    def _read_struct(
        self,
        hint: Any,
        cls: Any,
        args: tuple[Any, ...],
        fields_of: Callable[[Any, Mapping[str, Any], Mapping[Any, Any]], tuple[Field, ...]],
        make: Callable[..., Any],
        kind: str = "struct",
    ) -> Shape:
        known = self._known.get(hint)
        if known is not None:
            return known
        shape = self._known[hint] = Shape(kind, hint, make=make, name=cls.__name__, description=_own_doc(cls))
        bound = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))
        hints = hints_of(cls, {cls.__name__: cls})
        shape.fields = fields_of(cls, hints, bound)
        return shape

    def _field(self, name: str, hint: Any, default: object, required: bool, extra: Mapping[Any, Any]) -> Field:
        facts = facts_of(unwrap(hint)[1])
        factory = None
        if default is MISSING and facts.default is not MISSING:
            default, required = facts.default, False
        elif facts.default_factory is not None:
            factory, required = facts.default_factory, False
        if default is None:
            hint = or_none(hint)
        described = extra.get("description")
        return Field(name, extra.get("alias") or name, self.read(hint), required, default, factory, described)

    def _dataclass_fields(self, cls: Any, hints: Mapping[str, Any], bound: Mapping[Any, Any]) -> tuple[Field, ...]:
        found = []
        for each in dataclasses.fields(cls):
            if not each.init:
                continue
            default = MISSING if each.default is dataclasses.MISSING else each.default
            required = default is MISSING and each.default_factory is dataclasses.MISSING
            hint = substitute(hints[each.name], bound)
            if isinstance(hint, dataclasses.InitVar):
                hint = hint.type
            field = self._field(each.name, hint, default, required, each.metadata)
            if each.default_factory is not dataclasses.MISSING:
                field.factory = each.default_factory
            found.append(field)
        return tuple(found)

    def _typed_dict_fields(self, cls: Any, hints: Mapping[str, Any], bound: Mapping[Any, Any]) -> tuple[Field, ...]:
        found = []
        for name, hint in hints.items():
            required = _required_mark(hint)
            if required is None:
                required = name in cls.__required_keys__
            found.append(self._field(name, substitute(hint, bound), MISSING, required, {}))
        return tuple(found)

    def _record_fields(self, cls: Any, hints: Mapping[str, Any], bound: Mapping[Any, Any]) -> tuple[Field, ...]:
        defaults = cls._field_defaults
        return tuple(
            self._field(
                name, substitute(hints.get(name, Any), bound), defaults.get(name, MISSING), name not in defaults, {}
            )
            for name in cls._fields
        )


def as_dict(**fields: object) -> dict[str, object]:
    """What makes a TypedDict."""
    return fields


def _required_mark(hint: Any) -> bool | None:
    """Does the hint say Required or NotRequired itself? (``__required_keys__`` misses it in string annotations.)"""
    while True:
        origin = typing.get_origin(hint)
        if getattr(origin, "_name", None) in ("Required", "NotRequired"):
            return bool(origin._name == "Required")
        if hasattr(hint, "__metadata__"):
            hint = hint.__origin__
        elif getattr(origin, "_name", None) == "ReadOnly":
            hint = typing.get_args(hint)[0]
        else:
            return None


def _own_doc(cls: type) -> str | None:
    doc = cls.__dict__.get("__doc__")
    if not doc or doc.startswith(f"{cls.__name__}("):  # what dataclass and NamedTuple write by themselves
        return None
    return inspect.cleandoc(doc)
