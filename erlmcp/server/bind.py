"""A function's parameters bound to their sources, and the code that calls it.

Each parameter takes its value from one place: an argument of the caller (decoded), the context, or a dependency.
``bind`` finds out which, once; ``Binding.compile`` writes the Python source that does just that for one function, as
dataclasses write their ``__init__``. A call with good arguments runs no loop and no lookup by name of type; a call
with a bad one is decoded again, slowly, to name everything that is wrong with it.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from erlmcp.errors import ArgumentError, ConfigurationError
from erlmcp.server.decode import Builder
from erlmcp.server.depend import DependsMark, Node, kind_of, target_of
from erlmcp.server.param import MISSING, Facts, facts_of, is_field_info
from erlmcp.server.scalar import Decoder, Mismatch, describe, join_path
from erlmcp.server.shape import Reader, Shape, hints_of, or_none, unwrap

Overrides = Mapping[Callable[..., Any], Callable[..., Any]]


@dataclass(slots=True)
class Argument:
    """A value that the caller sends. ``key`` is its name in JSON."""

    key: str
    name: str
    hint: Any
    facts: Facts
    shape: Shape
    decoder: Decoder
    default: object = MISSING
    default_factory: Callable[[], object] | None = None
    index: int = -1

    @property
    def required(self) -> bool:
        return self.default is MISSING and self.default_factory is None


@dataclass(slots=True)
class Slot:
    """A parameter of the function or of a dependency. ``source``: "argument", "context", "dependency", "default" (left
    to the function), "rest" (``**kwargs``), "whole" (the arguments object)."""

    name: str
    by_name: bool
    source: str
    argument: Argument | None = None
    node: Node | None = None


@dataclass(slots=True, eq=False)
class Binding:
    """Where every value comes from. ``nodes`` are in the order in which they must run."""

    call: Callable[..., Any]
    label: str
    arguments: list[Argument] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    context_names: tuple[str, ...] = ()
    return_hint: Any = inspect.Parameter.empty
    strict: bool = False
    whole: bool = False  # the function takes the arguments object as it came
    check: Callable[[Any], list[str]] | None = None  # against a schema given by the author

    @property
    def needs_context(self) -> bool:
        slots = [*self.slots, *(slot for node in self.nodes for slot in node.arguments)]
        return any(slot.source == "context" for slot in slots)

    @property
    def dependencies(self) -> tuple[Callable[..., Any], ...]:
        return tuple(dict.fromkeys(node.call for node in self.nodes))

    def decode(self, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        """Arguments as sent -> values by parameter name, with defaults. Raises ArgumentError naming every bad one."""
        found, problems = self._decode(arguments)
        if problems:
            raise ArgumentError(f"Invalid arguments for {self.label}: {'; '.join(problems)}")
        return found

    def _decode(self, arguments: Any) -> tuple[dict[str, Any], list[str]]:
        given = {} if arguments is None else arguments
        if not isinstance(given, Mapping):
            return {}, [f"expected an object, got {describe(given)}"]
        found: dict[str, Any] = {}
        problems: list[str] = []
        for each in self.arguments:
            if each.key not in given:
                if each.required:
                    problems.append(f"{each.key}: missing, expected {each.decoder.expected}")
                else:
                    found[each.name] = each.default if each.default_factory is None else each.default_factory()
                continue
            value = given[each.key]
            try:
                found[each.name] = value if each.decoder.call is None else each.decoder.call(value)
            except Mismatch as mismatch:
                problems.extend(f"{join_path((each.key, *path))}: {text}" for path, text in mismatch.problems)
        if self.strict:
            known = {each.key for each in self.arguments}
            problems.extend(f"{key}: unknown argument" for key in given if key not in known)
        if self.check is not None and not problems:
            problems.extend(self.check(given))
        return found, problems

    def explain(self, arguments: Any, cause: Exception | None) -> Exception:
        """Why a call could not be made: an ArgumentError, or ``cause`` where the arguments are not to blame."""
        _, problems = self._decode(arguments)
        if problems:
            return ArgumentError(f"Invalid arguments for {self.label}: {'; '.join(problems)}")
        if cause is None:
            return ArgumentError(f"Invalid arguments for {self.label}")
        return cause


class Bound:
    """What plans tell of their ``binding``."""

    __slots__ = ()
    binding: Binding

    @property
    def context_names(self) -> tuple[str, ...]:
        """The function's parameters that take the context."""
        return self.binding.context_names

    @property
    def needs_context(self) -> bool:
        """Does the function, or a dependency, take the context?"""
        return self.binding.needs_context

    @property
    def dependencies(self) -> tuple[Callable[..., Any], ...]:
        """All dependencies, in the order in which they run."""
        return self.binding.dependencies


class Binder:
    """Reads signatures. One per function: shapes and decoders are shared by the function and its dependencies."""

    def __init__(
        self,
        label: str,
        is_context: Callable[[Any], bool],
        overrides: Overrides | None = None,
        free_names: bool = False,
    ) -> None:
        self.reader = Reader()
        self.builder = Builder()
        self._label = label
        self._is_context = is_context
        self._overrides = overrides or {}
        self._free_names = free_names  # a schema was given: **kwargs are allowed
        self._nodes: list[Node] = []
        self._cached: dict[Callable[..., Any], Node] = {}
        self._open: list[Callable[..., Any]] = []

    def bind(self, call: Callable[..., Any]) -> Binding:
        """Raises ConfigurationError for a signature that cannot be served."""
        signature, hints = read_signature(call, self._label)
        binding = Binding(call, self._label, return_hint=hints.get("return", signature.return_annotation))
        later: list[tuple[Slot, DependsMark]] = []
        bound = _bound_names(call)
        for parameter in signature.parameters.values():
            slot = Slot(parameter.name, parameter.kind is parameter.KEYWORD_ONLY, "default")
            hint = hints.get(parameter.name, Any)
            mark = _mark_of(parameter, hint)
            if parameter.name in bound:
                pass
            elif parameter.kind is parameter.VAR_KEYWORD and self._free_names:
                slot.source = "rest"
            elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                star = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
                raise ConfigurationError(
                    f"{self._label}: {star}{parameter.name} has no schema; name the parameters, or take a dict"
                )
            elif mark is not None:
                slot.source = "dependency"
                later.append((slot, mark))
            elif self._takes_context(hint):
                slot.source = "context"
            else:
                slot.source = "argument"
                slot.argument = self._argument(parameter, hint)
                binding.arguments.append(slot.argument)
            binding.slots.append(slot)
        _refuse_doubles(binding)
        by_name = {each.name: each for each in binding.arguments}
        for slot, mark in later:
            slot.node = self._node(mark, by_name)
        binding.nodes = self._nodes
        binding.context_names = tuple(slot.name for slot in binding.slots if slot.source == "context")
        return binding

    def _takes_context(self, hint: Any) -> bool:
        bare, _ = unwrap(hint)
        origin = typing.get_origin(bare)
        if origin in (typing.Union, types.UnionType):
            return any(self._takes_context(each) for each in typing.get_args(bare))
        found = bare if origin is None else origin
        return isinstance(found, type) and self._is_context(found)

    def _argument(self, parameter: inspect.Parameter, hint: Any) -> Argument:
        default = MISSING if parameter.default is parameter.empty else parameter.default
        factory = None
        metadata = unwrap(hint)[1]
        if is_field_info(default):  # x: int = Field(5, ge=1)
            hint = typing.Annotated[hint, default]
            metadata = [*metadata, default]
            default = MISSING
        try:
            facts = facts_of(metadata)
            if default is MISSING:
                default, factory = facts.default, facts.default_factory
            if default is None:
                hint = or_none(hint)
            shape = self.reader.read(hint)
            decoder = self.builder.build(shape)
        except ConfigurationError as error:
            raise ConfigurationError(f"{self._label}, parameter {parameter.name!r}: {error}") from error
        return Argument(facts.alias or parameter.name, parameter.name, hint, facts, shape, decoder, default, factory)

    def _node(self, mark: DependsMark, arguments: Mapping[str, Argument]) -> Node:
        call = self._overrides.get(mark.call, mark.call)
        if call in self._open:
            ring = " -> ".join(getattr(each, "__name__", repr(each)) for each in (*self._open, call))
            raise ConfigurationError(f"{self._label}: dependencies form a cycle: {ring}")
        if mark.use_cache and call in self._cached:
            return self._cached[call]
        node = Node(call, kind_of(call))
        self._open.append(call)
        try:
            name = getattr(call, "__name__", repr(call))
            signature, hints = read_signature(call, f"{self._label}, dependency {name!r}", lenient=True)
            for parameter in signature.parameters.values():
                slot = self._node_slot(parameter, hints.get(parameter.name, Any), arguments, name)
                if slot is not None:
                    node.arguments.append(slot)
        finally:
            self._open.pop()
        node.index = len(self._nodes)
        self._nodes.append(node)
        if mark.use_cache:
            self._cached[call] = node
        return node

    def _node_slot(
        self, parameter: inspect.Parameter, hint: Any, arguments: Mapping[str, Argument], name: str
    ) -> Slot | None:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return None
        by_name = parameter.kind is not parameter.POSITIONAL_ONLY
        mark = _mark_of(parameter, hint)
        if mark is not None:
            return Slot(parameter.name, by_name, "dependency", node=self._node(mark, arguments))
        if self._takes_context(hint):
            return Slot(parameter.name, by_name, "context")
        if parameter.name in arguments:
            return Slot(parameter.name, by_name, "argument", argument=arguments[parameter.name])
        if parameter.default is not parameter.empty:
            return None
        raise ConfigurationError(
            f"{self._label}: dependency {name!r} wants {parameter.name!r}, which is no context, no dependency, and no "
            f"argument of the function ({', '.join(arguments) or 'it has none'})"
        )


def _mark_of(parameter: inspect.Parameter, hint: Any) -> DependsMark | None:
    if isinstance(parameter.default, DependsMark):
        return parameter.default
    marks = [each for each in unwrap(hint)[1] if isinstance(each, DependsMark)]
    return marks[-1] if marks else None


def _bound_names(call: Any) -> set[str]:
    """The parameters that a functools.partial fills by name."""
    names: set[str] = set()
    while hasattr(call, "func") and hasattr(call, "keywords"):
        names.update(call.keywords)
        call = call.func
    return names


def _refuse_doubles(binding: Binding) -> None:
    seen: set[str] = set()
    for each in binding.arguments:
        if each.key in seen:
            raise ConfigurationError(f"{binding.label}: two parameters have the name {each.key!r} in JSON")
        seen.add(each.key)


def read_signature(call: Any, label: str, *, lenient: bool = False) -> tuple[inspect.Signature, dict[str, Any]]:
    """Parameters and evaluated annotations of anything callable.

    Raises ConfigurationError where there is no signature; with ``lenient`` a builtin without one takes no parameters.
    """
    if not callable(call) and not isinstance(call, staticmethod | classmethod):
        raise ConfigurationError(f"{label}: expected a function, got {call!r}")
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 14):
        import annotationlib

        options["annotation_format"] = annotationlib.Format.FORWARDREF
    try:
        signature = inspect.signature(call, **options)
    except (TypeError, ValueError) as error:
        if lenient:
            return inspect.Signature(), {}
        raise ConfigurationError(f"{label}: {error}") from error
    target = inspect.unwrap(target_of(call))
    owner = target.__init__ if inspect.isclass(target) else target
    hints = hints_of(owner) if hasattr(owner, "__code__") else {}
    return signature, hints
