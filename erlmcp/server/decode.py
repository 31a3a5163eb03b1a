"""JSON values -> Python values, by shape: one small function per type, built once.

The rules, in the order they are tried:

1. a value of the JSON type that the schema asks for is taken (an integral 5.0 is an integer, an integer is a number,
   a bool is neither);
2. a string where the type takes no string is read as JSON and tried again, since models send ``"5"`` and ``"[1, 2]"``;
3. anything else is a ``Mismatch`` that names the place, what was expected and what came.

A union tries the members whose own JSON type came first, then all of them, and only then rule 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from erlmcp.server.bound import bound_check, fast_bounds
from erlmcp.server.foreign import foreign_decoder
from erlmcp.server.param import Facts
from erlmcp.server.quick import compile_struct
from erlmcp.server.scalar import (
    SCALARS,
    TAKES_TEXT,
    TEXT,
    Call,
    Decoder,
    Mismatch,
    Problem,
    bool_word,
    describe,
    from_text,
    parsing,
    wrong,
)
from erlmcp.server.shape import Shape, as_dict, base_name


class Builder:
    """Builds decoders; ``lax`` says whether rule 2 holds. Those of structures are shared: so recursion ends.

    With ``plain`` structures stay dicts, and what belongs to pydantic passes: that checks values without making any.
    """

    def __init__(self, lax: bool = True, plain: bool = False) -> None:
        self.lax = lax
        self.plain = plain
        self._known: dict[int, Decoder] = {}
        self._keep: list[Shape] = []  # a shape's id is a key only while it lives
        self._strict: Builder | None = None

    @property
    def strict(self) -> Builder:
        if not self.lax:
            return self
        if self._strict is None:
            self._strict = Builder(lax=False, plain=self.plain)
        return self._strict

    def build(self, shape: Shape) -> Decoder:
        """Raises ConfigurationError for a type that pydantic does not know either."""
        known = self._known.get(id(shape))
        if known is not None:
            return known
        if shape.kind in SCALARS:
            return self._finish(shape, SCALARS[shape.kind])
        self._keep.append(shape)
        if shape.kind in ("struct", "record", "alias"):
            return self._build_knot(shape)
        made: Decoder = getattr(self, f"_build_{shape.kind}")(shape)
        self._known[id(shape)] = made
        return made

    def _finish(self, shape: Shape, base: Decoder) -> Decoder:
        """Add rule 2 where it is on and the type takes no strings."""
        if not self.lax or base.call is None or shape.kind in TAKES_TEXT:
            return base
        call = bool_word if shape.kind == "bool" else parsing(base.call, base.expected)
        return Decoder(call, base.expected, base.fast, base.classes)

    def _build_knot(self, shape: Shape) -> Decoder:
        """A type that may contain itself: what is built inside sees a forwarder to what is not finished yet."""
        cell: list[Call | None] = []
        home = TEXT if shape.kind == "alias" else frozenset({list} if shape.kind == "record" else {dict})
        forward = self._known[id(shape)] = Decoder(
            lambda value: cell[0](value) if cell[0] is not None else value, shape.name, "", home
        )
        made: Decoder = getattr(self, f"_build_{shape.kind}")(shape)
        cell.append(made.call)
        forward.classes, forward.expected = made.classes, made.expected
        self._known[id(shape)] = made
        return made

    def _build_alias(self, shape: Shape) -> Decoder:
        return self.build(shape.items[0])

    def _build_path(self, shape: Shape) -> Decoder:
        return Decoder(from_text(shape.make or str, "path"), "path", "", TEXT)

    def _build_literal(self, shape: Shape) -> Decoder:
        return self._choice(shape, [value for value, _ in shape.values])

    _build_enum = _build_literal

    def _choice(self, shape: Shape, values: list[Any]) -> Decoder:
        expected = "one of " + ", ".join(json.dumps(value, default=repr) for value in values)
        choices = {(value.__class__, value): member for value, member in shape.values}
        classes = frozenset(value.__class__ for value in values)
        if float not in classes:  # an integral 5.0 stands for 5
            choices.update({(float, v): m for (cls, v), m in choices.items() if cls is int})

        def decode(value: Any) -> Any:
            try:
                return choices[(value.__class__, value)]
            except (KeyError, TypeError):
                raise wrong(expected, value) from None

        fast = ""
        if shape.kind == "literal" and classes == {str}:
            fast = "({v}.__class__ is str and {v} in {c})"
        call: Call = decode
        if self.lax:
            call = _choicefrom_text(decode, parsing(decode, expected), str in classes)
        return Decoder(call, expected, fast.replace("{c}", repr(tuple(values))), classes)

    def _build_union(self, shape: Shape) -> Decoder:
        members = [self.strict.build(each) for each in shape.items]
        expected = " or ".join(dict.fromkeys(each.expected for each in members))
        if any(each.call is None for each in members):
            return Decoder(None, "any value", "True", None)
        late = [self.build(each).call for each in shape.items] if self.lax else []
        homes: dict[type, tuple[Call | None, ...]] = {}
        for cls in (str, int, float, bool, type(None), list, dict):
            native = [m.call for m in members if m.classes is None or cls in m.classes]
            homes[cls] = (*native, *(m.call for m in members if m.call not in native), *late)
        default = (*(m.call for m in members), *late)

        def decode(value: Any) -> Any:
            best: Mismatch | None = None
            for call in homes.get(value.__class__, default):
                try:
                    return call(value)  # type: ignore[misc]
                except Mismatch as problem:
                    if best is None and any(path for path, _ in problem.problems):
                        best = problem
            raise best or wrong(expected, value)

        classes = frozenset().union(*(m.classes or () for m in members))
        parts = [m.fast for m in members if m.fast]
        return Decoder(decode, expected, f"({' or '.join(parts)})" if parts else "", classes)

    def _build_array(self, shape: Shape) -> Decoder:
        item = self.build(shape.items[0])
        make = shape.make or list
        exact = {item.exact} if item.exact is not None else None

        def decode(value: Any) -> Any:
            if not isinstance(value, list | tuple):
                if isinstance(value, set | frozenset):  # from a caller within the same process
                    value = list(value)
                else:
                    raise wrong("array", value)
            call = item.call
            if call is not None and (exact is None or not exact.issuperset(map(type, value))):
                try:
                    value = [call(each) for each in value]
                except Mismatch:
                    raise Mismatch(_problems_of(enumerate(value), call)) from None
            try:
                return make(value)
            except TypeError:
                raise wrong("array of hashable values", value) from None

        made = self._wrap(decode, "array", frozenset({list}))
        if item.call is None and make is list:
            made.fast = "{v}.__class__ is list"
        return made

    def _wrap(self, decode: Call, expected: str, classes: frozenset[type]) -> Decoder:
        return Decoder(parsing(decode, expected) if self.lax else decode, expected, "", classes)

    def _build_tuple(self, shape: Shape) -> Decoder:
        items = [self.build(each) for each in shape.items]
        expected = f"array of {len(items)}"

        def decode(value: Any) -> Any:
            if not isinstance(value, list | tuple) or len(value) != len(items):
                raise wrong(expected, value)
            return tuple(_decode_each(enumerate(value), [item.call for item in items]))

        return self._wrap(decode, expected, frozenset({list}))

    def _build_map(self, shape: Shape) -> Decoder:
        key_call = None if shape.items[0].kind in ("str", "any") else self.build(shape.items[0]).call
        item = self.build(shape.items[1])

        def decode(value: Any) -> Any:
            if not isinstance(value, dict):
                raise wrong("object", value)
            call = item.call
            if key_call is None and call is None:
                return dict(value)
            keys = value if key_call is None else _decode_each(((k, k) for k in value), [key_call] * len(value))
            return dict(zip(keys, _decode_each(value.items(), [call] * len(value)), strict=True))

        made = self._wrap(decode, "object", frozenset({dict}))
        if key_call is None and item.call is None:
            made.fast = "{v}.__class__ is dict"
        return made

    def _build_struct(self, shape: Shape) -> Decoder:
        plan = [(each.key, each.name, self.build(each.shape), each) for each in shape.fields]
        make = as_dict if self.plain else shape.make or as_dict
        expected = f"object ({shape.name})"

        def decode(value: Any) -> Any:
            if not isinstance(value, dict):
                if value.__class__ is shape.hint:  # from a caller within the same process
                    return value
                raise wrong(expected, value)
            found: dict[str, Any] = {}
            problems: list[Problem] = []
            for key, name, decoder, field in plan:
                if key not in value:
                    if field.required:
                        problems.append(((key,), f"missing, expected {decoder.expected}"))
                    continue
                item = value[key]
                if decoder.call is not None:
                    try:
                        item = decoder.call(item)
                    except Mismatch as problem:
                        problems.extend(((key, *path), text) for path, text in problem.problems)
                        continue
                found[name] = item
            if problems:
                raise Mismatch(problems)
            return _construct(make, found)

        made = None if shape.make is as_dict or self.plain else shape.make
        quick = compile_struct([(each, decoder) for _, _, decoder, each in plan], made, decode)
        return self._wrap(quick, expected, frozenset({dict}))

    def _build_record(self, shape: Shape) -> Decoder:
        calls = [self.build(each.shape).call for each in shape.fields]
        make: Callable[..., Any] = (lambda *values: values) if self.plain else shape.make or tuple
        least = sum(1 for each in shape.fields if each.required)
        expected = f"array of {len(calls)} ({shape.name})"
        by_name = self._build_struct(shape)

        def decode(value: Any) -> Any:
            if isinstance(value, dict):
                return by_name.call(value)  # type: ignore[misc]
            if not isinstance(value, list | tuple) or not least <= len(value) <= len(calls):
                raise wrong(expected, value)
            return make(*_decode_each(enumerate(value), calls))

        return self._wrap(decode, expected, frozenset({list}))

    def _build_bounded(self, shape: Shape) -> Decoder:
        base = self.build(shape.items[0])
        facts = shape.facts or Facts()
        if not facts.bounds:
            return base
        call = base.call
        check = bound_check(facts)

        def decode(value: Any) -> Any:
            made = value if call is None else call(value)
            problem = check(made)
            if problem:
                raise Mismatch([((), f"{problem}, got {describe(value)}")])
            return made

        fast = ""
        if shape.items[0].kind in ("int", "float", "str"):
            fast = fast_bounds(base.fast, facts)
        return Decoder(decode, base.expected, fast, base.classes)

    def _build_foreign(self, shape: Shape) -> Decoder:
        if self.plain:
            return Decoder(None, base_name(shape.hint), "True", None)
        return Decoder(foreign_decoder(shape.hint, self.lax), base_name(shape.hint), "", None)


def _choicefrom_text(exact: Call, parsing: Call, takes_text: bool) -> Call:
    if not takes_text:
        return parsing

    def decode(value: Any) -> Any:
        try:
            return exact(value)
        except Mismatch as problem:
            if not isinstance(value, str):
                raise
            try:
                return parsing(value)
            except Mismatch:
                raise problem from None

    return decode


def _construct(make: Callable[..., Any], fields: dict[str, Any]) -> Any:
    try:
        return make(**fields)
    except Mismatch:
        raise
    except (ValueError, TypeError, AssertionError) as error:  # what a __post_init__ raises to refuse
        raise Mismatch([((), str(error) or type(error).__name__)]) from error


def _decode_each(pairs: Iterable[tuple[Any, Any]], calls: list[Call | None]) -> list[Any]:
    found: list[Any] = []
    problems: list[Problem] = []
    for (place, value), call in zip(pairs, calls, strict=False):
        try:
            found.append(value if call is None else call(value))
        except Mismatch as problem:
            problems.extend(((place, *path), text) for path, text in problem.problems)
    if problems:
        raise Mismatch(problems)
    return found


def _problems_of(pairs: Iterable[tuple[Any, Any]], call: Call) -> list[Problem]:
    problems: list[Problem] = []
    for place, value in pairs:
        try:
            call(value)
        except Mismatch as problem:
            problems.extend(((place, *path), text) for path, text in problem.problems)
    return problems
