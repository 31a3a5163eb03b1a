"""Resource plans: a function behind a URI, or behind a URI template, ready to be listed and read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from erlmcp import core
from erlmcp.errors import ConfigurationError, ErlmcpError
from erlmcp.server.bind import Binder, Binding, Bound, Overrides
from erlmcp.server.content import (
    OCTETS,
    ResourceContents,
    _Media,
    block_of,
    dump_model,
    is_protocol_model,
    resource_contents,
    write_json,
)
from erlmcp.server.depend import is_async_call
from erlmcp.server.docstring import parse_docstring
from erlmcp.server.jsonable import to_jsonable
from erlmcp.server.plan import RunSync, doc_of, refuse_generator, to_thread, tool_name
from erlmcp.server.schema import Json
from erlmcp.server.source import Invoke, compile_invoke, must_await
from erlmcp.server.uri import UriTemplate


@dataclass(slots=True, eq=False)
class ResourcePlan(Bound):
    """A resource, or a template of resources (``is_template``). ``invoke(variables, context)`` as in ToolPlan.

    ``kept`` has the ready answers of one that ``is_static``, by whether the peer is modern.
    """

    uri: str
    name: str
    is_template: bool
    template: UriTemplate | None
    safe: bool
    descriptor: Json
    mime_type: str | None
    invoke: Invoke
    is_async: bool
    in_thread: bool
    tags: frozenset[str]
    binding: Binding
    is_static: bool
    _recompile: Callable[[Overrides], ResourcePlan]
    kept: dict[bool, core.Template] = field(default_factory=dict)

    def match(self, uri: str) -> dict[str, Any] | None:
        """The variables for ``invoke`` where this plan serves the URI, else None."""
        if self.template is None:
            return {} if uri == self.uri else None
        return self.template.match(uri, safe=self.safe)

    def convert(self, value: Any, uri: str) -> list[Json]:
        """A returned value -> ``contents``: text for a string, a blob for bytes, JSON text for other values.

        A list that holds ``ResourceContents``, media or content models gives one entry for each. Raises ErlmcpError for
        what cannot be sent.
        """
        try:
            return contents_of(value, uri, self.mime_type)
        except (TypeError, ValueError, OSError, RecursionError) as error:
            raise ErlmcpError(f"{self.binding.label} returned what cannot be sent: {error}") from error

    def result(self, value: Any, uri: str) -> Json:
        """A returned value -> ``{"contents": [...]}``; a result of ``mcp_types`` as it is."""
        if is_protocol_model(value) and not hasattr(value, "uri") and block_of(value) is None:
            made: Json = dump_model(value)
            return made
        return {"contents": self.convert(value, uri)}

    def override(self, overrides: Overrides) -> ResourcePlan:
        """The same resource with some dependencies replaced, for tests."""
        return self._recompile(overrides)


def compile_resource(
    fn: Callable[..., Any],
    uri: str,
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    mime_type: str | None = None,
    icons: object = None,
    annotations: object = None,
    size: int | None = None,
    meta: Mapping[str, Any] | None = None,
    tags: Iterable[str] = (),
    run_in_thread: bool | None = None,
    safe: bool = True,
    static: bool = False,
    is_context: Callable[[Any], bool] = lambda _: False,
    run_sync: RunSync | None = None,
    overrides: Overrides | None = None,
) -> ResourcePlan:
    """Plan a resource from a function. ``uri`` with ``{...}`` in it is a template, whose variables must be the
    function's parameters. ``safe`` refuses traversal in the variables (see ``UriTemplate.match``). ``static``: it is
    read once, for everybody, until it is said to have changed.

    Raises ConfigurationError for a malformed URI or template, where variables and parameters differ, and for what is
    static and may differ by request.
    """
    given = {key: value for key, value in locals().items() if key not in ("fn", "uri", "overrides")}
    name = tool_name(fn, name)
    is_template = "{" in uri or "}" in uri
    label = f"resource {'template ' if is_template else ''}{uri!r}"
    refuse_generator(fn, label)
    _check_uri(uri, label)
    template = UriTemplate(uri) if is_template else None
    binding = Binder(label, is_context, overrides).bind(fn)
    _check_variables(binding, template, label)
    if static and (is_template or binding.needs_context or binding.dependencies):
        raise ConfigurationError(f"{label}: what is static has no variables, takes no Context and no dependencies")
    descriptor = {
        "uriTemplate" if is_template else "uri": uri,
        "name": name,
        "title": title,
        "description": parse_docstring(doc_of(fn)).text or None if description is None else description,
        "mimeType": mime_type,
        "size": None if is_template else size,
        "annotations": dump_model(annotations),
        "icons": dump_model(icons),
        "_meta": dump_model(meta),
    }
    fn_async = is_async_call(fn)
    in_thread = not fn_async and run_in_thread is not False
    awaits = must_await(binding, fn_async)
    return ResourcePlan(
        uri=uri,
        name=name,
        is_template=is_template,
        template=template,
        safe=safe,
        descriptor={key: value for key, value in descriptor.items() if value is not None},
        mime_type=mime_type,
        invoke=compile_invoke(binding, is_async=fn_async, run_sync=(run_sync or to_thread) if in_thread else None),
        is_async=fn_async or awaits,
        in_thread=in_thread and not awaits,
        tags=frozenset(tags),
        binding=binding,
        is_static=static,
        _recompile=lambda overrides: compile_resource(fn, uri, **given, overrides=overrides),
    )


def _check_uri(uri: str, label: str) -> None:
    scheme, colon, _ = uri.partition(":")
    if not colon or not scheme[:1].isalpha() or not scheme.isascii() or any(c in "/?#{} " for c in scheme):
        raise ConfigurationError(f"{label}: a URI begins with a scheme, as in 'data://{uri}'")


def _check_variables(binding: Binding, template: UriTemplate | None, label: str) -> None:
    if template is None:
        if binding.arguments:
            names = ", ".join(each.name for each in binding.arguments)
            raise ConfigurationError(
                f"{label}: nobody can give the parameters {names}; put them into the URI as {{name}}"
            )
        return
    template.check_matchable()
    variables = set(template.variables)
    required = {each.key for each in binding.arguments if each.required}
    known = {each.key for each in binding.arguments}
    if required - variables:
        raise ConfigurationError(f"{label}: parameters {sorted(required - variables)} are not in the template")
    if variables - known:
        raise ConfigurationError(f"{label}: variables {sorted(variables - known)} are no parameters of the function")
    loose = template.optional_variables & required
    if loose:
        raise ConfigurationError(
            f"{label}: variables {sorted(loose)} may be absent, so their parameters need a default"
        )


def contents_of(value: Any, uri: str, mime_type: str | None) -> list[Json]:
    """Any returned value -> contents. Raises TypeError or ValueError for what has no JSON form."""
    if isinstance(value, list | tuple) and any(_is_entry(each) for each in value):
        return [entry for each in value for entry in contents_of(each, uri, mime_type)]
    if value is None:
        return []
    return [_entry(value, uri, mime_type)]


def _is_entry(value: Any) -> bool:
    return isinstance(value, ResourceContents | _Media | bytes) or is_protocol_model(value)


def _entry(value: Any, uri: str, mime_type: str | None) -> Json:
    if isinstance(value, ResourceContents):
        made = _entry(value.data, value.uri or uri, value.mime_type or mime_type)
        return {**made, "_meta": dict(value.meta)} if value.meta is not None else made
    if isinstance(value, str):
        return {"uri": uri, "mimeType": mime_type or "text/plain", "text": value}
    if isinstance(value, bytes | bytearray | memoryview):
        made = resource_contents(uri, bytes(value), OCTETS)
        return {**made, "mimeType": mime_type or OCTETS}
    if isinstance(value, _Media):
        return resource_contents(uri, value.read(), value.mime_type)
    if isinstance(value, os.PathLike):
        with open(value, "rb") as file:
            return resource_contents(uri, file.read(), mime_type or OCTETS)
    if is_protocol_model(value):
        dumped: Json = dump_model(value)
        entry: Json = dumped.get("resource", dumped)
        return entry
    return {"uri": uri, "mimeType": mime_type or "application/json", "text": write_json(to_jsonable(value))}
