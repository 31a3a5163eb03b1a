"""Objects of the protocol for apps that have no ``mcp_types``: fields by their Python names, kept by their wire names.

``TextContent(text="hi")``, ``tool.input_schema`` and ``tool.inputSchema`` all work, so that one set of classes serves
the shapes of both lines of the SDK. They validate nothing but the names of their fields.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from erlmcp.server.content import dump_model, is_protocol_model


def wire_name(name: str) -> str:
    """``input_schema`` -> ``inputSchema``, ``meta`` -> ``_meta``."""
    if name in ("meta", "_meta"):
        return "_meta"
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def python_name(name: str) -> str:
    """The other way."""
    if name == "_meta":
        return "meta"
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)


class RecordType(type):
    """An object of ``mcp_types`` is an instance of the record that has its class's name: an app may hold either."""

    def __instancecheck__(cls, value: object) -> bool:
        if type.__instancecheck__(cls, value):
            return True
        names = (base.__name__ for base in type(value).__mro__)
        return is_protocol_model(value) and cls.__name__ in names


class Record(metaclass=RecordType):
    """One object of the protocol. A field that was not given is None."""

    names: ClassVar[frozenset[str]] = frozenset()  # of the fields, on the wire
    fixed: ClassVar[dict[str, Any]] = {}  # what each of them says
    parts: ClassVar[dict[str, Any]] = {}  # field -> the class of what it holds, or of each entry of a list
    is_open: ClassVar[bool] = False  # whether it may have fields of any name

    def __init_subclass__(cls, fields: str = "", fixed: dict[str, Any] | None = None, **parts: Any) -> None:
        super().__init_subclass__()
        cls.fixed = fixed or cls.fixed
        if fields:
            cls.names = cls.names | frozenset(wire_name(name) for name in fields.split()) | {"_meta"}
        cls.parts = {**cls.parts, **{wire_name(name): part for name, part in parts.items()}}

    def __init__(self, **fields: Any) -> None:
        values = dict(self.fixed)
        for name, value in fields.items():
            key = wire_name(name)
            if key not in self.names and key not in self.fixed and not self.is_open:
                known = ", ".join(sorted(python_name(each) for each in self.names))
                raise TypeError(f"{type(self).__name__} has no field {name!r}; it has {known}")
            if value is not None:
                values[key] = value
        self.__dict__["_wire"] = values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_wire":
            raise AttributeError(name)
        key = wire_name(name)
        if key in self._wire:
            return self._wire[key]
        if key in self.names:
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        key = wire_name(name)
        if key not in self.names and not self.is_open:
            raise AttributeError(f"{type(self).__name__!r} object has no field {name!r}")
        self._wire[key] = value

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._wire == other._wire

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{python_name(name)}={value!r}" for name, value in self._wire.items())
        return f"{type(self).__name__}({shown})"

    def model_dump(self, *, by_alias: bool = False, exclude_none: bool = False, **_options: Any) -> dict[str, Any]:
        """As pydantic's: a dict, with the wire's names where ``by_alias``; what is None stands in it unless
        ``exclude_none``."""
        wire = {name: dump_model(value) for name, value in self._wire.items()}
        if not exclude_none:
            wire = {**dict.fromkeys(sorted(self.names - wire.keys())), **wire}
        return wire if by_alias else {python_name(name): value for name, value in wire.items()}

    @classmethod
    def model_validate(cls, value: Any) -> Any:
        """A record of this class from the wire's object (or from one of these)."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"{cls.__name__} is made of an object, not of a {type(value).__name__}")
        made = cls.__new__(cls)
        given = {name: each for name, each in value.items() if each is not None}
        made.__dict__["_wire"] = {name: _part(cls.parts.get(name), each) for name, each in given.items()}
        return made


def _part(kind: Any, value: Any) -> Any:
    if kind is None or value is None:
        return value
    if isinstance(value, list):
        return [_part(kind, each) for each in value]
    if isinstance(value, Mapping):
        return kind.model_validate(value) if hasattr(kind, "model_validate") else kind(value)
    return value


def is_snake(module: Any) -> bool:
    """Does this package of types name its fields as mcp 2 does?"""
    return "input_schema" in module.Tool.model_fields


def loaded_types(*, camel: bool) -> Any:
    """The package of types that the program itself has imported, where it fits the façade (``camel``: mcp 1.x); None.

    Nothing is imported to find out: who imported it compares with its classes, who did not cannot.
    """
    for name in ("mcp_types", "mcp.types"):
        module = sys.modules.get(name)
        if module is not None and hasattr(module, "Tool") and is_snake(module) is not camel:
            return module
    return None


def give(kind: type[Record], wire: Any, *, camel: bool = False) -> Any:
    """An object for the author: of the class of this name that his program imported, else a record."""
    module = loaded_types(camel=camel)
    found = getattr(module, kind.__name__, None) if module is not None else None
    return (found or kind).model_validate(wire)


def give_all(kind: type[Record], wires: Iterable[Any], *, camel: bool = False) -> list[Any]:
    return [give(kind, wire, camel=camel) for wire in wires]
