"""Resources, and what reading them gives."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from erlmcp.compat.fastmcp import values
from erlmcp.compat.fastmcp.component import Component, Json
from erlmcp.compat.fastmcp.current import current_context, is_context
from erlmcp.compat.fastmcp.described import docstring_of
from erlmcp.compat.fastmcp.exceptions import Unfit, unsupported
from erlmcp.compat.fastmcp.thread import in_thread
from erlmcp.compat.fastmcp.tools.function_tool import mark, mark_of, refuse_unnamed
from erlmcp.errors import ArgumentError, ConfigurationError
from erlmcp.server.bind import Binder, Binding
from erlmcp.server.content import dump_model, is_protocol_model
from erlmcp.server.depend import is_async_call
from erlmcp.server.jsonable import to_jsonable
from erlmcp.server.source import Invoke, compile_invoke, must_await

TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
TEXT, OCTETS, JSON = "text/plain", "application/octet-stream", "application/json"


class ResourceContent:
    """One entry of a resource's contents: text, bytes, or any value, which is written as JSON."""

    __slots__ = ("content", "meta", "mime_type")

    def __init__(self, content: Any, mime_type: str | None = None, meta: Mapping[str, Any] | None = None) -> None:
        if isinstance(content, str):
            kind = TEXT
        elif isinstance(content, bytes):
            kind = OCTETS
        else:
            kind, content = JSON, values.json_text(content)
        self.content: str | bytes = content
        self.mime_type = mime_type or kind
        self.meta: Json | None = None if meta is None else dict(meta)

    def to_wire(self, uri: str) -> Json:
        """The entry as JSON."""
        made: Json = {"uri": uri, "mimeType": self.mime_type}
        if isinstance(self.content, str):
            made["text"] = self.content
        else:
            made["blob"] = base64.b64encode(self.content).decode("ascii")
        if self.meta is not None:
            made["_meta"] = to_jsonable(self.meta)
        return made

    def to_mcp_resource_contents(self, uri: Any) -> Any:
        """The entry of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed(
            "TextResourceContents" if isinstance(self.content, str) else "BlobResourceContents", self.to_wire(str(uri))
        )

    @classmethod
    def from_wire(cls, entry: Mapping[str, Any]) -> ResourceContent:
        data = entry["text"] if "text" in entry else base64.b64decode(entry.get("blob", ""))
        return cls(data, entry.get("mimeType"), entry.get("_meta"))

    def __repr__(self) -> str:
        return f"ResourceContent({self.content!r}, {self.mime_type!r})"


class ResourceResult:
    """All that reading a resource gives."""

    __slots__ = ("contents", "meta")

    def __init__(
        self, contents: str | bytes | Sequence[ResourceContent], meta: Mapping[str, Any] | None = None
    ) -> None:
        given = [ResourceContent(contents)] if isinstance(contents, str | bytes) else list(contents)
        for index, each in enumerate(given):
            if not isinstance(each, ResourceContent):
                raise TypeError(
                    f"contents[{index}] must be ResourceContent, got {type(each).__name__}; "
                    f"wrap it as ResourceContent({each!r})"
                )
        self.contents: list[ResourceContent] = given
        self.meta: Json | None = None if meta is None else dict(meta)

    def to_wire(self, uri: str) -> Json:
        """The ReadResourceResult as JSON."""
        made: Json = {"contents": [each.to_wire(uri) for each in self.contents]}
        if self.meta is not None:
            made["_meta"] = to_jsonable(self.meta)
        return made

    def to_mcp_result(self, uri: Any) -> Any:
        """The ReadResourceResult of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed("ReadResourceResult", self.to_wire(str(uri)))

    def __repr__(self) -> str:
        return f"ResourceResult({self.contents!r})"


def public_meta(meta: Mapping[str, Any] | None) -> Json | None:
    """What of a component's meta goes to its contents: all but what is FastMCP's own."""
    found = {key: each for key, each in (meta or {}).items() if key != "fastmcp"}
    return found or None


def result_of(value: Any, mime_type: str, meta: Mapping[str, Any] | None) -> ResourceResult:
    """A returned value -> a ResourceResult with the resource's own type and meta."""
    if isinstance(value, ResourceResult):
        return value
    own = public_meta(meta)
    if isinstance(value, list) and value and isinstance(value[0], ResourceContent):
        found = ResourceResult(value)
        if own is not None:
            found.contents = [
                ResourceContent(each.content, each.mime_type, {**own, **(each.meta or {})}) for each in found.contents
            ]
        return found
    if isinstance(value, str | bytes):
        return ResourceResult([ResourceContent(value, mime_type, own)])
    if is_protocol_model(value):
        raise TypeError(
            f"a resource returned a {type(value).__name__}; return str, bytes, a value, or a ResourceResult"
        )
    return ResourceResult([ResourceContent(spaced_json(value), mime_type, own)])


def spaced_json(value: Any) -> str:
    """JSON with blanks, as FastMCP writes values of resources."""
    import json

    return json.dumps(to_jsonable(value))


class Reading:
    """How a resource's function is called: its arguments are the variables of the URI."""

    def __init__(self, fn: Callable[..., Any], label: str) -> None:
        try:
            self.binding: Binding = Binder(label, is_context).bind(fn)
        except ConfigurationError as error:
            raise Unfit(str(error)) from error
        is_async = is_async_call(fn)
        self.invoke: Invoke = compile_invoke(self.binding, is_async=is_async, run_sync=None if is_async else in_thread)
        self.in_thread = not is_async and not must_await(self.binding, is_async)

    async def call(self, variables: Mapping[str, Any]) -> Any:
        """Raises ValueError for variables that do not fit."""
        context = current_context()
        variables = self._read(variables)
        try:
            if not self.in_thread:
                value = self.invoke(variables, context)
            else:
                value = await in_thread(self.invoke, variables, context)
            return await value if hasattr(value.__class__, "__await__") else value
        except ArgumentError as error:
            raise ValueError(str(error)) from error

    def _read(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables with numbers and truths read as Python reads them. Raises ValueError."""
        found = dict(variables)
        for each in self.binding.arguments:
            value = found.get(each.key)
            if not isinstance(value, str) or each.hint not in (int, float, bool):
                continue
            if each.hint is not bool:
                found[each.key] = each.hint(value)
            elif value.lower() in TRUTHS:
                found[each.key] = TRUTHS[value.lower()]
            else:
                raise ValueError(f"Invalid boolean value for {each.key}: {value!r}")
        return found


class Resource(Component):
    """A resource. A subclass with a ``read()`` of its own is served as it is."""

    KEY_PREFIX: ClassVar[str] = "resource"

    def __init__(
        self,
        *,
        uri: Any,
        name: str | None = None,
        mime_type: str | None = None,
        annotations: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(name=name or str(uri), **options)
        self.uri = str(uri)
        self.own_name = self.uri
        self.mime_type = mime_type or TEXT
        self.annotations = annotations

    @property
    def identifier(self) -> str:
        return self.uri

    def descriptor(self) -> Json:
        """Its entry in resources/list."""
        return {
            "uri": self.uri,
            "name": self.name,
            **self.public(mimeType=self.mime_type, annotations=dump_model(self.annotations)),
        }

    def to_mcp_resource(self, **overrides: Any) -> Any:
        """The Resource of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed("Resource", {**self.descriptor(), **dump_model(overrides)})

    async def read(self) -> Any:
        """The content: str, bytes, a ResourceResult, or a value."""
        raise NotImplementedError(f"{type(self).__name__} has no read()")

    async def _read(self) -> ResourceResult:
        """As a server reads it."""
        if self.owner is not None:
            found: ResourceResult = await self.owner.read_resource(self.own_name)
            return found
        return self.convert_result(await self.read())

    def convert_result(self, value: Any) -> ResourceResult:
        return result_of(value, self.mime_type, self.meta)

    @classmethod
    def from_function(cls, fn: Callable[..., Any], uri: Any = None, **options: Any) -> FunctionResource:
        """A resource from a function without arguments."""
        return FunctionResource.from_function(fn, uri, **options)


class FunctionResource(Resource):
    """A resource whose ``fn`` is called for each read."""

    def __init__(self, fn: Callable[..., Any], **options: Any) -> None:
        super().__init__(**options)
        self.fn = fn
        self._reading = Reading(fn, f"resource {self.uri!r}")
        if self._reading.binding.arguments:
            names = ", ".join(each.name for each in self._reading.binding.arguments)
            raise Unfit(
                f"resource {self.uri!r}: nobody can give the parameters {names}; put them into the URI as {{name}}"
            )

    @classmethod
    def from_function(cls, fn: Callable[..., Any], uri: Any = None, **options: Any) -> FunctionResource:
        if uri is None:
            marked = mark_of(fn, "resource")
            if marked is None:
                raise Unfit(f"{fn!r}: a resource needs its URI")
            return cls.from_function(fn, **marked)
        check_options(options)
        named = name_of(fn, options.pop("name", None))
        options.pop("security", None)
        described = options.pop("description", None)
        return cls(fn, uri=uri, name=named, description=docstring_of(fn) if described is None else described, **options)

    async def read(self) -> Any:
        return await self._reading.call({})


def check_options(options: Mapping[str, Any]) -> None:
    """Raises Unsupported for an option of a resource that is not here."""
    if options.get("app"):
        unsupported("app=", "MCP Apps are an extension of their own", "a resource with the app's ui:// URI")
    if options.get("enabled") is not None:
        unsupported("enabled=", "FastMCP 4 took it away too", "mcp.disable(names={...})")


def name_of(fn: Any, name: str | None) -> str:
    """The given name, or the function's own. Raises Unfit for a lambda without one."""
    while name is None and isinstance(fn, functools.partial):
        fn = fn.func
    found = name or getattr(fn, "__name__", None) or type(fn).__name__
    if found == "<lambda>":
        raise Unfit("You must provide a name for lambda functions")
    return str(found)


def resource(uri: str, **options: Any) -> Callable[[Any], Any]:
    """Mark a function as a resource, or as a template; ``mcp.add_resource`` registers it."""
    if not isinstance(uri, str):
        raise Unfit("use the decorator as @resource('data://...')")

    def apply(fn: Any) -> Any:
        refuse_unnamed_but_rest(fn)
        return mark(fn, "resource", {**options, "uri": uri})

    return apply


def refuse_unnamed_but_rest(fn: Any) -> None:
    """As ``refuse_unnamed``, for what takes the variables of a URI."""
    refuse_unnamed(fn, "resource templates")
