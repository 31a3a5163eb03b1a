"""Templates of resources: URIs with variables, as FastMCP writes them.

``{name}`` is one segment of a path, ``{name*}`` one or more, ``{?a,b}`` parameters of the query, which may be absent.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, quote, unquote, unquote_plus

from erlmcp.compat.fastmcp.component import Component, Json
from erlmcp.compat.fastmcp.described import docstring_of
from erlmcp.compat.fastmcp.exceptions import Unfit
from erlmcp.compat.fastmcp.resources.base import (
    TEXT,
    FunctionResource,
    Reading,
    Resource,
    ResourceResult,
    check_options,
    name_of,
    result_of,
)
from erlmcp.compat.fastmcp.tools.function_tool import mark_of, refuse_unnamed
from erlmcp.server.content import dump_model

_QUERY = re.compile(r"\{\?([^}]+)\}")
_VARIABLE = re.compile(r"(\{[^}]+\})")
_KEPT = ":/?#[]@!$&'()*+,;=%"  # what a literal part of a URI may hold as it is


@dataclass(frozen=True)
class ResourceSecurity:
    """What the variables of a template may not be: a way up (``..``), an absolute path, or hold a NUL.
    ``exempt_params`` are not looked at."""

    reject_path_traversal: bool = True
    reject_absolute_paths: bool = True
    reject_null_bytes: bool = True
    exempt_params: frozenset[str] = frozenset()

    def validate(self, params: Mapping[str, Any]) -> str | None:
        """The name of the first variable that breaks a rule."""
        for name, value in params.items():
            if name in self.exempt_params:
                continue
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str) and self._breaks(each):
                    return name
        return None

    def _breaks(self, value: str) -> bool:
        if self.reject_null_bytes and "\0" in value:
            return True
        if self.reject_path_traversal and ".." in re.split(r"[/\\]", value):
            return True
        return self.reject_absolute_paths and (
            value.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", value) is not None
        )


DEFAULT_SECURITY: Final = ResourceSecurity()


class InheritSecurity:
    """The type of what says that a template's rules are the server's."""


INHERIT: Final = InheritSecurity()


def query_names(template: str) -> list[str]:
    """The parameters of the query, a ``*`` at those that may come several times."""
    return [name.strip() for found in _QUERY.findall(template) for name in found.split(",")]


def path_names(template: str) -> list[str]:
    """The variables of the path."""
    return [part[1:-1].removesuffix("*") for part in _VARIABLE.findall(_QUERY.sub("", template))]


@lru_cache(maxsize=4096)
def pattern_of(template: str) -> re.Pattern[str] | None:
    """The expression that the path of a URI matches; None where the names cannot be."""
    made = ""
    for part in _VARIABLE.split(_QUERY.sub("", template)):
        if not part.startswith("{"):
            made += "".join(_either(each) for each in part)
        elif part.endswith("*}"):
            made += f"(?P<{_python(part[1:-2])}>.+)"
        else:
            made += f"(?P<{_python(part[1:-1])}>[^/]+)"
    try:
        return re.compile(made)
    except re.error:
        return None


def _either(character: str) -> str:
    """A character as it is, or escaped where a URI needs that."""
    escaped = quote(character, safe=_KEPT)
    return re.escape(character) if escaped == character else f"(?:{re.escape(character)}|(?i:{escaped}))"


def _python(name: str) -> str:
    return name.replace("-", "_")


def match_uri_template(uri: str, uri_template: str, *, list_params: Collection[str] = ()) -> dict[str, Any] | None:
    """The variables by their Python names, or None where the URI is not one of the template's. ``list_params`` are
    parameters of the query whose one value is a list with commas."""
    if "#" not in uri_template:
        uri = uri.partition("#")[0]
    path, _, query = uri.partition("?")
    pattern = pattern_of(uri_template)
    found = pattern.fullmatch(path) if pattern is not None else None
    if found is None:
        return None
    variables: dict[str, Any] = {name: unquote(value) for name, value in found.groupdict().items()}
    given = parse_qs(query, keep_blank_values=True) if query else {}
    for name in query_names(uri_template):
        bare = name.removesuffix("*")
        if bare not in given or _python(bare) in variables:
            continue
        if name.endswith("*"):
            variables[_python(bare)] = given[bare]
        elif bare in list_params:
            raw = next(value for key, _, value in _pairs(query) if unquote_plus(key) == bare)
            variables[_python(bare)] = [unquote_plus(each) for each in raw.split(",")] if raw else []
        else:
            variables[_python(bare)] = given[bare][0]
    return variables


def _pairs(query: str) -> list[tuple[str, str, str]]:
    return [pair.partition("=") for pair in query.split("&")]


def _holds_lists(hint: Any) -> bool:
    """Whether a parameter only takes a list."""
    if typing.get_origin(hint) is typing.Annotated:
        return _holds_lists(typing.get_args(hint)[0])
    return hint is list or typing.get_origin(hint) is list


class ResourceTemplate(Component):
    """A template. A subclass with a ``read(arguments)`` of its own is served as it is."""

    KEY_PREFIX: ClassVar[str] = "template"

    def __init__(
        self,
        *,
        uri_template: str,
        name: str | None = None,
        mime_type: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        annotations: Any = None,
        security: Any = INHERIT,
        **options: Any,
    ) -> None:
        super().__init__(name=name or uri_template, **options)
        self.uri_template = uri_template
        self.own_name = uri_template
        self.own_template = uri_template
        self.mime_type = mime_type or TEXT
        self.parameters: Json = dict(parameters or {})
        self.annotations = annotations
        self.security = security
        self.list_params: frozenset[str] = frozenset()

    @property
    def identifier(self) -> str:
        return self.uri_template

    def descriptor(self) -> Json:
        """Its entry in resources/templates/list."""
        return {
            "uriTemplate": self.uri_template,
            "name": self.name,
            **self.public(mimeType=self.mime_type, annotations=dump_model(self.annotations)),
        }

    def to_mcp_template(self, **overrides: Any) -> Any:
        """The ResourceTemplate of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed("ResourceTemplate", {**self.descriptor(), **dump_model(overrides)})

    def matches(self, uri: str) -> dict[str, Any] | None:
        """The variables of a URI of this template, else None."""
        return match_uri_template(uri, self.uri_template, list_params=self.list_params)

    def resolve_security(self, default: ResourceSecurity | None) -> ResourceSecurity | None:
        """Its own rules, or the server's."""
        return default if isinstance(self.security, InheritSecurity) else self.security

    async def read(self, arguments: dict[str, Any]) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no read(arguments)")

    async def _read(self, uri: str, variables: dict[str, Any]) -> ResourceResult:
        """As a server reads it."""
        if self.owner is not None:
            found: ResourceResult = await self.owner.read_resource(self.own_uri(uri))
            return found
        return self.convert_result(await self.read(variables))

    def own_uri(self, uri: str) -> str:
        """The URI as the server that owns the template knows it."""
        listed, own = self.uri_template.partition("{")[0], self.own_template.partition("{")[0]
        return own + uri.removeprefix(listed) if uri.startswith(listed) else uri

    def convert_result(self, value: Any) -> ResourceResult:
        return result_of(value, self.mime_type, self.meta)

    async def create_resource(self, uri: str, params: dict[str, Any]) -> Resource:
        """The resource that these variables name."""
        return FunctionResource(
            lambda: self.read(params),
            uri=uri,
            name=self.name,
            mime_type=self.mime_type,
            description=self.description,
            title=self.title,
            tags=self.tags,
            meta=self.meta,
        )

    @classmethod
    def from_function(cls, fn: Callable[..., Any], uri_template: str, **options: Any) -> FunctionResourceTemplate:
        """A template from a function whose parameters are the variables."""
        return FunctionResourceTemplate.from_function(fn, uri_template, **options)


class FunctionResourceTemplate(ResourceTemplate):
    """A template whose ``fn`` is called with the variables."""

    def __init__(self, fn: Callable[..., Any], **options: Any) -> None:
        super().__init__(**options)
        self.fn = fn
        self._reading = Reading(fn, f"resource template {self.uri_template!r}")
        arguments = self._reading.binding.arguments
        self.list_params = frozenset(each.name for each in arguments if _holds_lists(each.hint))
        _check_variables(self.uri_template, self._reading)

    @classmethod
    def from_function(cls, fn: Callable[..., Any], uri_template: str, **options: Any) -> FunctionResourceTemplate:
        refuse_unnamed(fn, "resource templates")
        check_options(options)
        named = name_of(fn, options.pop("name", None))
        described = options.pop("description", None)
        text = docstring_of(fn) if described is None else described
        return cls(fn, uri_template=uri_template, name=named, description=text, **options)

    async def read(self, arguments: dict[str, Any]) -> Any:
        return await self._reading.call(arguments)


def _check_variables(template: str, reading: Reading) -> None:
    """Raises Unfit where variables and parameters differ."""
    in_path = {_python(each) for each in path_names(template)}
    in_query = {_python(each.removesuffix("*")) for each in query_names(template)}
    if not in_path | in_query:
        raise Unfit(f"resource template {template!r}: URI template must contain at least one parameter")
    required = {each.name for each in reading.binding.arguments if each.required}
    known = {each.name for each in reading.binding.arguments}
    loose = in_query & required
    if loose:
        raise Unfit(
            f"resource template {template!r}: Query parameters {sorted(loose)} may be absent, so they need a default"
        )
    if required - in_path:
        raise Unfit(
            f"resource template {template!r}: Required function arguments {sorted(required)} must be a subset of the "
            f"URI path parameters {sorted(in_path)}"
        )
    if (in_path | in_query) - known:
        raise Unfit(
            f"resource template {template!r}: URI parameters {sorted((in_path | in_query) - known)} must be a subset "
            f"of the function arguments {sorted(known)}"
        )


def resource_or_template(fn: Any, uri: str | None = None, **options: Any) -> Resource | ResourceTemplate:
    """What a function is: a template where the URI has variables, or the function parameters."""
    if uri is None:
        marked = mark_of(fn, "resource")
        if marked is None:
            raise Unfit(f"{fn!r} is no resource: decorate it with @resource('data://...')")
        return resource_or_template(fn, **marked)
    if not isinstance(uri, str):
        raise Unfit("use the decorator as @mcp.resource('data://...')")
    given = {key: each for key, each in options.items() if each is not None or key == "security"}
    if "{" in uri or "}" in uri or _takes_arguments(fn):
        return FunctionResourceTemplate.from_function(fn, uri, **given)
    return FunctionResource.from_function(fn, uri, **given)


def _takes_arguments(fn: Any) -> bool:
    target = fn.__func__ if isinstance(fn, staticmethod) else fn
    return bool(inspect.signature(target).parameters) and bool(Reading(fn, "resource").binding.arguments)
