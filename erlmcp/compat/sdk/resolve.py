"""``Resolve(fn)``: a tool's parameter that is filled by running ``fn`` first, which may ask the client.

Resolvers form a graph without cycles: one takes the context, arguments of the tool by their names, and what others
give. What it returns is the value, or a question (``Elicit``, ``Sample``, ``ListRoots``), whose answer is the value
then. All questions that can be asked are asked in one round; with the answers the walk begins again. In 2026-07-28 a
round ends the request, and resolvers run again with the next one: an answer counts only for the very question that it
was given to (its digest travels in the sealed state).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import typing
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from erlmcp.compat.sdk import types
from erlmcp.compat.sdk.ask import Question, ask, form_params, sealed_round
from erlmcp.compat.sdk.context import is_context
from erlmcp.compat.sdk.convert import is_named_class
from erlmcp.compat.sdk.elicitation import OUTCOMES, ElicitationResult, made, outcome, rendered
from erlmcp.compat.sdk.exceptions import InvalidSignature, ToolError
from erlmcp.compat.sdk.record import give, wire_name
from erlmcp.server.content import dump_model
from erlmcp.server.depend import is_async_call
from erlmcp.server.input import sampling_messages
from erlmcp.server.shape import hints_of, unwrap
from erlmcp.spec import method as m

T = TypeVar("T")
ASKED = "asked"  # where the digests of what was asked stand in the state
RunSync = Callable[..., Awaitable[Any]]


class Resolve:
    """In ``Annotated[T, Resolve(fn)]``: run ``fn`` for this parameter."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn


class Elicit(Generic[T]):
    """A resolver's question to the user."""

    def __init__(self, message: str, schema: type[T]) -> None:
        self.message = message
        self.schema = schema


class Sample:
    """A resolver's question to the client's model; the options are fields of sampling/createMessage."""

    def __init__(self, messages: Any, *, max_tokens: int, **options: Any) -> None:
        given = {wire_name(name): dump_model(value) for name, value in options.items() if value is not None}
        self.params = {"messages": sampling_messages(messages), "maxTokens": max_tokens, **given}


class ListRoots:
    """A resolver's question for the client's roots."""


MARKERS = (Elicit, Sample, ListRoots)


@dataclass(slots=True)
class Parameter:
    """Where a parameter of a resolver comes from: "context", "argument" or "resolver"."""

    source: str
    resolver: Resolver | None = None
    wants_outcome: bool = False


@dataclass(slots=True, eq=False)
class Resolver:
    """One resolver of a tool. ``key`` names its question."""

    fn: Callable[..., Any]
    key: str
    is_async: bool
    parameters: dict[str, Parameter] = field(default_factory=dict)


class _Pending(Exception):
    """A value waits for an answer."""


def marked(hint: Any) -> tuple[Resolve | None, bool]:
    """The ``Resolve`` of a hint, and whether the outcome itself is wanted. Raises InvalidSignature for one of another
    package."""
    bare, metadata = unwrap(hint)
    for mark in metadata:
        if isinstance(mark, Resolve):
            return mark, _wants_outcome(bare)
        if type(mark).__name__ == "Resolve" and type(mark).__module__.startswith("mcp."):
            raise InvalidSignature("Resolve comes from mcp; import it from where the server comes from")
    return None, False


def _wants_outcome(bare: Any) -> bool:
    origin = typing.get_origin(bare) or bare
    if origin is ElicitationResult:
        return True
    members = typing.get_args(bare) if origin not in OUTCOMES else ()
    return any((typing.get_origin(each) or each) in OUTCOMES for each in (origin, *members))


def _hides_mark(hint: Any) -> bool:
    return marked(hint)[0] is not None or any(_hides_mark(each) for each in typing.get_args(unwrap(hint)[0]))


def resolved_parameters(label: str, hints: Mapping[str, Any]) -> dict[str, tuple[Resolve, bool]]:
    """The parameters of a tool that resolvers fill. Raises InvalidSignature where a mark stands within a union."""
    found: dict[str, tuple[Resolve, bool]] = {}
    for name, hint in hints.items():
        mark, wants_outcome = marked(hint)
        if mark is not None and name != "return":
            found[name] = mark, wants_outcome
        elif name != "return" and any(_hides_mark(each) for each in typing.get_args(unwrap(hint)[0])):
            raise InvalidSignature(
                f"{label}: parameter {name!r} has Resolve(...) within its type; write Annotated[T, Resolve(...)]"
            )
    return found


class ResolverGraph:
    """The resolvers of one tool, read when it is registered."""

    def __init__(self, label: str, wanted: Mapping[str, tuple[Resolve, bool]], arguments: set[str]) -> None:
        self._label = label
        self._arguments = arguments
        self._known: dict[Hashable, Resolver] = {}
        self._counts: dict[str, int] = {}
        self.wanted = {
            name: Parameter("resolver", self._read(mark.fn, ()), wants) for name, (mark, wants) in wanted.items()
        }

    def _read(self, fn: Callable[..., Any], above: tuple[Hashable, ...]) -> Resolver:
        identity = _identity(fn)
        name = getattr(fn, "__name__", None) or type(fn).__name__
        if identity in above:
            raise InvalidSignature(f"{self._label}: resolver {name!r} has a cyclic dependency")
        if identity in self._known:
            return self._known[identity]
        hints = hints_of(fn if inspect.isroutine(fn) else type(fn).__call__)
        found = Resolver(fn, self._key(fn), is_async_call(fn))
        self._check_return(name, hints.get("return"))
        for each in inspect.signature(fn).parameters:
            found.parameters[each] = self._parameter(name, each, hints.get(each), (*above, identity))
        self._known[identity] = found
        return found

    def _parameter(self, fn_name: str, name: str, hint: Any, above: tuple[Hashable, ...]) -> Parameter:
        bare = unwrap(hint)[0]
        if any(is_context(each) for each in (bare, *typing.get_args(bare))):
            return Parameter("context")
        mark, wants_outcome = marked(hint)
        if mark is not None:
            return Parameter("resolver", self._read(mark.fn, above), wants_outcome)
        if name in self._arguments:
            return Parameter("argument")
        raise InvalidSignature(
            f"{self._label}: resolver {fn_name!r} parameter {name!r} cannot be resolved: it is no Context, no "
            "Annotated[_, Resolve(...)] and no argument of the tool"
        )

    def _check_return(self, name: str, hint: Any) -> None:
        arms = typing.get_args(hint) if typing.get_origin(hint) is not Elicit else (hint,)
        if sum(1 for arm in arms if (typing.get_origin(arm) or arm) in MARKERS) > 1:
            raise InvalidSignature(f"{self._label}: resolver {name!r} asks more than one question; split it")

    def _key(self, fn: Any) -> str:
        module = getattr(fn, "__module__", None) or type(fn).__module__
        base = f"{module}:{getattr(fn, '__qualname__', None) or type(fn).__qualname__}"
        self._counts[base] = count = self._counts.get(base, -1) + 1
        return base if count == 0 else f"{base}#{count}"

    async def values(self, arguments: Mapping[str, Any], context: Any, run_sync: RunSync) -> dict[str, Any]:
        """The values of the tool's parameters. Leaves by ``InputRequired`` where a round ends."""
        answers: dict[str, Any] = {}
        while True:
            walk = _Walk(arguments, context, run_sync, answers)
            found: dict[str, Any] = {}
            for name, parameter in self.wanted.items():
                try:
                    found[name] = await walk.value(name, parameter)
                except _Pending:
                    continue
            if not walk.pending:
                return found
            answers.update(await walk.ask())


class _Walk:
    """One walk along the graph, with the answers that there are."""

    def __init__(self, arguments: Mapping[str, Any], context: Any, run_sync: RunSync, answers: dict[str, Any]) -> None:
        self._arguments = arguments
        self._context = context
        self._run_sync = run_sync
        self._answers = answers
        self._made: dict[Resolver, Any] = {}
        self.pending: dict[str, Question] = {}

    async def value(self, name: str, parameter: Parameter) -> Any:
        if parameter.source == "context":
            return self._context
        if parameter.source == "argument":
            return self._arguments[name]
        resolver = parameter.resolver
        assert resolver is not None
        if resolver not in self._made:
            self._made[resolver] = await self._run(resolver)
        found = self._made[resolver]
        if parameter.wants_outcome:
            return found
        if found.action != "accept":
            raise ToolError(f"Resolver for parameter {name!r} could not resolve: elicitation was {found.action}")
        return found.data

    async def _run(self, resolver: Resolver) -> Any:
        if resolver.key in self.pending:
            raise _Pending
        given: dict[str, Any] = {}
        waits = False
        for name, parameter in resolver.parameters.items():
            try:  # All are looked at, so that their questions get into one round.
                given[name] = await self.value(name, parameter)
            except _Pending:
                waits = True
        if waits:
            raise _Pending
        if resolver.is_async:
            found = await resolver.fn(**given)
        else:
            found = await self._run_sync(resolver.fn, **given)
        if not isinstance(found, MARKERS):
            return made(OUTCOMES[0], data=found)
        return self._answered(resolver.key, found)

    def _answered(self, key: str, marker: Any) -> Any:
        question = self._question(marker)
        if key not in self._answers:
            self.pending[key] = question
            raise _Pending
        asked, answer = self._answers[key]
        if asked != question:
            raise ToolError(f"Resolver {key!r} asks another question than the one that was answered")
        if not isinstance(marker, Elicit):
            kind = types.ListRootsResult if isinstance(marker, ListRoots) else types.CreateMessageResult
            return made(OUTCOMES[0], data=give(kind, answer))
        try:
            return outcome(marker.schema, answer)
        except ValueError as error:
            raise ToolError(f"Resolver {key!r}: {error}") from error

    def _question(self, marker: Any) -> Question:
        if isinstance(marker, Elicit):
            return m.ELICIT, form_params(self._context.inner, marker.message, rendered(marker.schema))
        return (m.SAMPLE, marker.params) if isinstance(marker, Sample) else (m.ROOTS_LIST, None)

    async def ask(self) -> dict[str, Any]:
        inner = self._context.inner
        if inner.era == "modern":
            found = sealed_round(inner)
            asked = found.state.setdefault(ASKED, {})
            for key, question in self.pending.items():
                mark = _digest(question)
                if asked.get(key) != mark:
                    found.responses.pop(key, None)
                asked[key] = mark
        answers = await ask(inner, self.pending)
        return {key: (question, answers[key]) for key, question in self.pending.items()}


def _digest(question: Question) -> str:
    text = json.dumps(question, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _identity(fn: Any) -> Hashable:
    """What makes two mentions of a resolver one: a bound method is another object each time."""
    owner = getattr(fn, "__self__", None)
    if owner is None:
        return id(fn)
    own = getattr(fn, "__func__", None)
    return (id(own) if own is not None else getattr(fn, "__name__", id(fn)), id(owner))


def asks_by_itself(hint: Any) -> bool:
    """Does a return annotation have an ``InputRequiredResult`` in it?"""
    bare = unwrap(hint)[0]
    return is_named_class(bare, types.InputRequiredResult) or any(asks_by_itself(e) for e in typing.get_args(bare))
