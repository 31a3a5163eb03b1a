"""URI templates by RFC 6570, all four levels: expanding them, and matching URIs against them.

Matching is not in the RFC; these are the rules here. ``{id}`` takes one or more characters other than ``/ ? #``;
``{+path}`` takes anything, and as much as it can; ``{/seg}``, ``{.ext}``, ``{;p}`` and ``{#f}`` may be absent, and
then so are their variables; an exploded list (``{/seg*}``) gives a list. Query expressions stand last; their
parameters come in any order, each may be absent, unknown ones are passed over. Values are percent-decoded.

Matching takes time proportional to the URI's length times the number of expressions. A template in which what follows
each expression cannot be part of it becomes a regular expression with possessive quantifiers. Any other is matched
from the right, token by token: ``reach[i][p]`` says whether the tokens from i on can match the URI from position p
on; a walk from the left then takes for each token the longest extent from which the rest can be reached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from erlmcp.errors import ConfigurationError

URI_CHARS_MAX = 8192  # a longer URI matches no template

_RESERVED = ":/?#[]@!$&'()*+,;="
_VARIABLE = re.compile(
    r"((?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:\.?(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2}))*)(\*|:[1-9][0-9]{0,3})?"
)
_BAD_LITERAL = re.compile(r"[\x00-\x20\x7f{}]")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True)
class _Operator:
    """RFC 6570, appendix A: what comes first, between, whether names are written, and what stays unescaped."""

    first: str
    between: str
    named: bool
    if_empty: str
    safe: str


_OPERATORS = {
    "": _Operator("", ",", False, "", ""),
    "+": _Operator("", ",", False, "", _RESERVED),
    "#": _Operator("#", ",", False, "", _RESERVED),
    ".": _Operator(".", ".", False, "", ""),
    "/": _Operator("/", "/", False, "", ""),
    ";": _Operator(";", ";", True, "", ""),
    "?": _Operator("?", "&", True, "=", ""),
    "&": _Operator("&", "&", True, "=", ""),
}


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of an expression; ``length`` is the prefix modifier, 0 for none."""

    name: str
    explode: bool = False
    length: int = 0


@dataclass(frozen=True, slots=True)
class Expression:
    """``{?q,lang}``: an operator and its variables."""

    operator: str
    variables: tuple[Variable, ...]

    @property
    def is_query(self) -> bool:
        return self.operator in ("?", "&")


@dataclass(slots=True)
class _Token:
    """A part of a template as the matcher sees it: a literal, or a run of characters outside ``stop``."""

    literal: str = ""
    expression: Expression | None = None
    prefix: str = ""
    stop: frozenset[str] = field(default_factory=frozenset)

    @property
    def optional(self) -> bool:
        return bool(self.prefix)

    def takes(self, char: str) -> bool:
        return char not in self.stop


class UriTemplate:
    """``UriTemplate("users://{id}/posts{?page}")``. Raises ConfigurationError for a malformed template."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts = _parse(text)
        names = [each.name for part in self.parts if isinstance(part, Expression) for each in part.variables]
        self.variables: tuple[str, ...] = tuple(dict.fromkeys(names))
        self.query_variables, self._tokens, self._trouble = _plan(self.parts)
        self._pattern = None if self._trouble else _unambiguous_pattern(self._tokens)

    def __repr__(self) -> str:
        return f"UriTemplate({self.text!r})"

    @property
    def optional_variables(self) -> frozenset[str]:
        """The variables that a matching URI may lack."""
        found: set[str] = set()
        for part in self.parts:
            if isinstance(part, Expression) and part.operator not in ("", "+"):
                found.update(each.name for each in part.variables)
        return frozenset(found)

    def expand(self, /, **values: Any) -> str:
        """The URI with these values: strings, numbers, booleans, sequences and mappings of them; None is undefined.

        Raises ValueError for a prefix modifier on a sequence or mapping.
        """
        return "".join(part if isinstance(part, str) else _expand(part, values) for part in self.parts)

    def check_matchable(self) -> None:
        """Raises ConfigurationError for a template that expands, but that no URI can be matched against."""
        if self._trouble:
            raise ConfigurationError(f"URI template {self.text!r} cannot be matched: {self._trouble}")

    def match(self, uri: str, *, safe: bool = True) -> dict[str, Any] | None:
        """The values by variable (strings, and lists for exploded ones), or None where the URI is no instance.

        With ``safe`` a value is refused, and with it the URI, that holds a NUL, a ``..`` segment or an absolute path
        after decoding: what a handler joins to a directory must stay in it.
        """
        self.check_matchable()
        if len(uri) > URI_CHARS_MAX:
            return None
        uri = _normalise(uri)
        query = fragment = None
        if self.query_variables:
            uri, mark, rest = uri.partition("#")
            fragment = mark + rest
            uri, query = _split_query(uri, any("?" in token.literal for token in self._tokens))
            if self._tokens and self._tokens[-1].prefix == "#":
                uri, fragment = uri + fragment, ""
            if fragment:
                return None
        texts = self._extents(uri)
        if texts is None:
            return None
        found: dict[str, Any] = {}
        try:
            for expression, text in texts:
                if not _read(expression, text, found):
                    return None
            if query:
                _read_query(query, self.query_variables, found)
        except UnicodeDecodeError:
            return None
        if safe and any(_is_unsafe(value) for value in found.values()):
            return None
        return found

    def _extents(self, uri: str) -> list[tuple[Expression, str | None]] | None:
        if self._pattern is not None:
            found = self._pattern.fullmatch(uri)
            if found is None:
                return None
            expressions = [token.expression for token in self._tokens if token.expression is not None]
            return list(zip(expressions, found.groups(), strict=True))
        return _walk(self._tokens, uri)


def _parse(text: str) -> tuple[str | Expression, ...]:
    parts: list[str | Expression] = []
    at = 0
    while at < len(text):
        start = text.find("{", at)
        literal = text[at:] if start < 0 else text[at:start]
        bad = _BAD_LITERAL.search(literal)
        if bad:
            raise ConfigurationError(f"URI template {text!r}: {bad[0]!r} cannot stand at {at + bad.start()}")
        if literal:
            parts.append(_normalise(literal))
        if start < 0:
            break
        end = text.find("}", start)
        if end < 0:
            raise ConfigurationError(f"URI template {text!r}: the '{{' at {start} is not closed")
        parts.append(_parse_expression(text[start + 1 : end], text))
        at = end + 1
    return tuple(parts)


def _parse_expression(body: str, text: str) -> Expression:
    operator = body[0] if body[:1] and body[0] in "+#./;?&" else ""
    if body[:1] and body[0] in "=,!@|":
        raise ConfigurationError(f"URI template {text!r}: operator {body[0]!r} is reserved by RFC 6570")
    variables = []
    for each in body[len(operator) :].split(","):
        found = _VARIABLE.fullmatch(each)
        if found is None:
            raise ConfigurationError(f"URI template {text!r}: {each!r} is no variable name in {{{body}}}")
        modifier = found[2] or ""
        variables.append(Variable(found[1], modifier == "*", int(modifier[1:]) if modifier[:1] == ":" else 0))
    return Expression(operator, tuple(variables))


def _normalise(text: str) -> str:
    """Percent-encode what is not ASCII, and write escapes in capitals."""
    if not text.isascii() or " " in text:
        text = quote(text, safe="!\"#$%&'()*+,/:;<=>?@[\\]^_`{|}~-.")
    return _ESCAPE.sub(lambda found: found[0].upper(), text) if "%" in text else text


# -- expanding ---------------------------------------------------------------------------------------------------------


def _scalar(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _escape(value: object, safe: str) -> str:
    text = _scalar(value)
    if not safe:
        return quote(text, safe="")
    at, parts = 0, []
    for found in _ESCAPE.finditer(text):  # reserved expansion keeps escapes
        parts += [quote(text[at : found.start()], safe=safe), found[0]]
        at = found.end()
    return "".join([*parts, quote(text[at:], safe=safe)])


def _expand(expression: Expression, values: Mapping[str, Any]) -> str:
    operator = _OPERATORS[expression.operator]
    parts = []
    for variable in expression.variables:
        value = values.get(variable.name)
        if value is None or (isinstance(value, list | tuple | Mapping) and not value):
            continue
        if isinstance(value, Mapping | list | tuple):
            if variable.length:
                raise ValueError(f"{variable.name!r} has a prefix modifier and cannot be {type(value).__name__}")
            parts.append(_expand_many(variable, value, operator))
        else:
            text = _scalar(value)
            text = _escape(text[: variable.length] if variable.length else text, operator.safe)
            parts.append(_name(variable.name, text, operator) if operator.named else text)
    return operator.first + operator.between.join(parts) if parts else ""


def _name(name: str, text: str, operator: _Operator) -> str:
    return f"{name}={text}" if text else name + operator.if_empty


def _expand_many(variable: Variable, value: Any, operator: _Operator) -> str:
    if isinstance(value, Mapping):
        pairs = [(_escape(key, operator.safe), _escape(each, operator.safe)) for key, each in value.items()]
        if variable.explode:
            return operator.between.join(f"{key}={each}" for key, each in pairs)
        text = ",".join(part for pair in pairs for part in pair)
    else:
        items = [_escape(each, operator.safe) for each in value]
        if variable.explode:
            named = [_name(variable.name, each, operator) for each in items] if operator.named else items
            return operator.between.join(named)
        text = ",".join(items)
    return _name(variable.name, text, operator) if operator.named else text


# -- matching ----------------------------------------------------------------------------------------------------------

_PATH_STOP = frozenset("/?#")


def _plan(parts: Sequence[str | Expression]) -> tuple[frozenset[Variable], list[_Token], str]:
    """Query variables, tokens for everything else, and why the template cannot be matched ("" where it can)."""
    query: set[Variable] = set()
    tokens: list[_Token] = []
    for part in parts:
        if isinstance(part, Expression) and part.is_query:
            query.update(part.variables)
        elif query and not (isinstance(part, Expression) and part.operator == "#"):
            return frozenset(), [], "query expressions must stand last"
        elif isinstance(part, str):
            tokens.append(_Token(literal=part))
        else:
            tokens.append(_token_of(part))
    return frozenset(query), tokens, ""


def _token_of(expression: Expression) -> _Token:
    operator = expression.operator
    stop = _PATH_STOP
    if operator in ("+", "#"):
        stop = frozenset()
    elif operator == "/" and (len(expression.variables) > 1 or expression.variables[0].explode):
        stop = frozenset("?#")
    return _Token(expression=expression, prefix=_OPERATORS[operator].first, stop=stop)


def _unambiguous_pattern(tokens: Sequence[_Token]) -> re.Pattern[str] | None:
    parts = []
    for index, token in enumerate(tokens):
        if token.expression is None:
            parts.append(re.escape(token.literal))
            continue
        follower = tokens[index + 1] if index + 1 < len(tokens) else None
        if follower is not None and (follower.expression is not None or token.takes(follower.literal[0])):
            return None
        run = f"[^{re.escape(''.join(sorted(token.stop)))}]" if token.stop else r"[\s\S]"
        if token.optional:
            parts.append(f"(?:{re.escape(token.prefix)}({run}*+))?+")
        else:
            parts.append(f"({run}++)")
    return re.compile("".join(parts))


def _walk(tokens: Sequence[_Token], uri: str) -> list[tuple[Expression, str | None]] | None:
    size = len(uri)
    last = bytearray(size + 1)
    last[size] = 1
    reach = [last]
    for token in reversed(tokens):
        reach.append(_reach(token, uri, reach[-1]))
    reach.reverse()
    if not reach[0][0]:
        return None
    texts: list[tuple[Expression, str | None]] = []
    at = 0
    for index, token in enumerate(tokens):
        if token.expression is None:
            at += len(token.literal)
            continue
        start = at + len(token.prefix)
        end = _longest(token, uri, start, reach[index + 1]) if uri.startswith(token.prefix, at) else -1
        if end < 0:  # absent
            texts.append((token.expression, None))
            continue
        texts.append((token.expression, uri[start:end]))
        at = end
    return texts


def _reach(token: _Token, uri: str, after: bytearray) -> bytearray:
    size = len(uri)
    here = bytearray(size + 1)
    if token.expression is None:
        width = len(token.literal)
        at = uri.find(token.literal)
        while at >= 0:
            here[at] = after[at + width]
            at = uri.find(token.literal, at + 1)
        return here
    run = bytearray(size + 1)  # from here a run of the token's characters, perhaps empty, reaches the rest
    run[size] = after[size]
    for at in range(size - 1, -1, -1):
        run[at] = after[at] or (run[at + 1] and uri[at] not in token.stop)
    for at in range(size + 1):
        if token.optional:
            here[at] = after[at] or (at < size and uri[at] == token.prefix and run[at + 1])
        else:
            here[at] = at < size and uri[at] not in token.stop and run[at + 1]
    return here


def _longest(token: _Token, uri: str, start: int, after: bytearray) -> int:
    best = start if token.optional and after[start] else -1
    for end in range(start + 1, len(uri) + 1):
        if uri[end - 1] in token.stop:
            break
        if after[end]:
            best = end
    return best


def _decode(text: str) -> str:
    return unquote(text, errors="strict")


def _read(expression: Expression, text: str | None, found: dict[str, Any]) -> bool:
    """Put the expression's values into ``found``; False where the text is no expansion of it."""
    if text is None:
        return True
    variables = expression.variables
    operator = _OPERATORS[expression.operator]
    if operator.named:  # {;x,y}
        _read_pairs(text.split(operator.between), frozenset(variables), found)
        return True
    if len(variables) == 1 and not variables[0].explode:
        return _keep(variables[0].name, _decode(text), found)
    parts = [_decode(each) for each in text.split(operator.between)]
    if variables[-1].explode:
        head = len(variables) - 1
        if len(parts) > head and not _keep(variables[-1].name, parts[head:], found):
            return False
        variables, parts = variables[:-1], parts[:head]
    if len(parts) > len(variables):
        return False
    return all(_keep(variable.name, part, found) for variable, part in zip(variables, parts, strict=False))


def _keep(name: str, value: Any, found: dict[str, Any]) -> bool:
    """A variable that stands twice must have one value."""
    return bool(found.setdefault(name, value) == value)


def _split_query(uri: str, has_literal_query: bool) -> tuple[str, str]:
    """What the positional tokens match, and the query parameters that ``{?...}`` or ``{&...}`` read."""
    head, _, query = uri.partition("?")
    if not has_literal_query:
        return head, query
    fixed, _, rest = query.partition("&")
    return f"{head}?{fixed}", rest


def _read_query(query: str, variables: frozenset[Variable], found: dict[str, Any]) -> None:
    _read_pairs(query.split("&"), variables, found)


def _read_pairs(pairs: Sequence[str], variables: frozenset[Variable], found: dict[str, Any]) -> None:
    known = {variable.name: variable for variable in variables}
    for pair in pairs:
        name, _, text = pair.partition("=")
        variable = known.get(name) or known.get(_decode(name))
        if variable is None:
            continue
        if variable.explode:
            found.setdefault(variable.name, []).append(_decode(text))
        else:
            found.setdefault(variable.name, _decode(text))


def _is_unsafe(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_unsafe(each) for each in value)
    if "\0" in value or value[:1] in ("/", "\\") or re.match(r"[A-Za-z]:[\\/]", value):
        return True
    return ".." in value and ".." in re.split(r"[\\/]", value)
