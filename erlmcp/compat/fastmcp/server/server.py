"""``FastMCP``: the server that an app written for FastMCP 4 finds here."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn, Self, TypeVar, overload
from weakref import ref

from erlmcp.compat.fastmcp.exceptions import Unfit, unsupported
from erlmcp.compat.fastmcp.prompts.base import Prompt
from erlmcp.compat.fastmcp.resources.base import Resource
from erlmcp.compat.fastmcp.resources.template import (
    DEFAULT_SECURITY,
    INHERIT,
    ResourceSecurity,
    ResourceTemplate,
    resource_or_template,
)
from erlmcp.compat.fastmcp.server.catalog import Catalog, mounted
from erlmcp.compat.fastmcp.server.engine import FastService
from erlmcp.compat.fastmcp.server.providers import MountProvider, Provider
from erlmcp.compat.fastmcp.server.serving import Serving
from erlmcp.compat.fastmcp.server.transforms.base import Transform
from erlmcp.compat.fastmcp.server.transforms.namespace import Namespace
from erlmcp.compat.fastmcp.server.transforms.visibility import Visibility
from erlmcp.compat.fastmcp.shape import VERSION, settings
from erlmcp.compat.fastmcp.tools.base import Tool, as_tools
from erlmcp.compat.fastmcp.tools.function_tool import mark_of, naming
from erlmcp.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])
# Arguments of the constructor that earlier releases had, and what came in their place.
_REMOVED = {
    "host": "run(host=...)",
    "port": "run(port=...)",
    "log_level": "run(log_level=...)",
    "debug": "FASTMCP_DEBUG",
    "sse_path": "run(path=...)",
    "message_path": "FASTMCP_MESSAGE_PATH",
    "streamable_http_path": "run(path=...)",
    "json_response": "run(json_response=...)",
    "stateless_http": "run(stateless_http=...)",
    "on_duplicate_tools": "on_duplicate=",
    "on_duplicate_resources": "on_duplicate=",
    "on_duplicate_prompts": "on_duplicate=",
    "tool_serializer": "a ToolResult from the tool",
    "include_tags": "server.enable(tags=..., only=True)",
    "exclude_tags": "server.disable(tags=...)",
    "tool_transformations": "server.add_transform(ToolTransform(...))",
}
_ELSEWHERE = {
    "auth": ("it is checked before the server", "the front door of the gateway (docs/gateway.md)"),
    "tasks": ("background tasks need a queue beside the server", "server.schedule(fn, ...)"),
    "session_state_store": ("state is kept in the process of its conversation", "a store of your own in the lifespan"),
    "request_state_security": ("requestState is sealed by the server", "state_secret of erlmcp.Server"),
    "experimental_capabilities": ("it offers none", "no such argument"),
}


class FastMCP(Serving, Catalog):
    """A server in the shape of FastMCP 4.1, on erlmcp's core: see docs/moving.md for what differs.

    It is an ``erlmcp.Server`` too: ``erlmcp serve``, ``erlmcp.Client(mcp)`` and the metrics take it as one.
    """

    service_class = FastService

    def __init__(
        self,
        name: str | None = None,
        instructions: str | None = None,
        *,
        version: str | float | None = None,
        website_url: str | None = None,
        icons: Sequence[Any] | None = None,
        auth: Any = None,
        middleware: Sequence[Any] | None = None,
        providers: Sequence[Provider] | None = None,
        transforms: Sequence[Transform] | None = None,
        lifespan: Callable[[Any], Any] | None = None,
        tools: Sequence[Tool | Callable[..., Any]] | None = None,
        on_duplicate: str | None = None,
        mask_error_details: bool | None = None,
        dereference_schemas: bool = True,
        strict_input_validation: bool | None = None,
        list_page_size: int | None = None,
        resource_security: ResourceSecurity | None = DEFAULT_SECURITY,
        request_state_security: Any = None,
        cache_ttl: int | None = None,
        cache_scope: str | None = None,
        tasks: bool | None = None,
        session_state_store: Any = None,
        client_log_level: str | None = None,
        experimental_capabilities: Mapping[str, Any] | None = None,
        **removed: Any,
    ) -> None:
        """Raises Unsupported for an argument whose feature is not here, TypeError for one that FastMCP has not."""
        _refuse(
            removed,
            list_page_size,
            auth=auth,
            tasks=tasks,
            session_state_store=session_state_store,
            request_state_security=request_state_security,
            experimental_capabilities=experimental_capabilities,
        )
        masks, strict = settings.chosen(mask_error_details, strict_input_validation)
        self.chain: list[Any] = []
        self.strict_input_validation = strict
        self.dereference_schemas = dereference_schemas
        self.resource_security = resource_security
        self.client_log_level = client_log_level
        self.completion_handler = None
        self.lifespan_result: Any = None
        self._own_lifespan = lifespan
        self._open_count = 0
        self._open_stack: AsyncExitStack | None = None
        self._begin_catalog(on_duplicate or "warn")
        super().__init__(
            name or self.generate_name(),
            version=VERSION if version is None else str(version),
            instructions=instructions,
            website_url=website_url,
            icons=icons,
            lifespan=lambda server: self.entered(),
            mask_errors=masks,
            page_size=list_page_size,
            cache_ttl_ms=(cache_ttl or 0) * 1000,
            cache_scope=cache_scope or "private",
        )
        self._begin_serving()
        self.transforms.extend(transforms or ())
        self.providers.extend(providers or ())
        self.chain.extend(middleware or ())
        for tool in as_tools(tools or ()):
            self.add_tool(tool)
        self.choose_way()

    @classmethod
    def generate_name(cls, name: str | None = None) -> str:
        """A name for a server that has none."""
        return f"{cls.__name__}{'' if name is None else '-' + name}-{secrets.token_hex(2)}"

    @property
    def website_url(self) -> str | None:
        return self.info.get("websiteUrl")

    @property
    def icons(self) -> list[Any]:
        return list(self.info.get("icons", ()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    # -- tools ---------------------------------------------------------------------------------------------------------

    @overload
    def tool(self, name_or_fn: F, *, name: str | None = None, **options: Any) -> F: ...
    @overload
    def tool(self, name_or_fn: str | None = None, *, name: str | None = None, **options: Any) -> Callable[[F], F]: ...
    def tool(self, name_or_fn: Any = None, *, name: str | None = None, **options: Any) -> Any:
        """``@mcp.tool``, ``@mcp.tool()``, ``@mcp.tool("name")``, ``@mcp.tool(name=..., ...)`` or ``mcp.tool(fn)``.

        Options: version, title, description, icons, tags, output_schema (None for no structured output), annotations,
        meta, timeout (seconds), run_in_thread. The function stays as it is.
        """

        def register(fn: Any, found: str | None) -> Any:
            self._refuse_unbound(fn)
            self.add_tool(Tool.from_function(fn, **{**(mark_of(fn, "tool") or {}), **named(found), **options}))
            return fn

        return naming(name_or_fn, name, register)

    @staticmethod
    def _refuse_unbound(fn: Any) -> None:
        code = getattr(fn, "__code__", None)
        first = code.co_varnames[:1] if code is not None and code.co_argcount else ()
        if first in (("self",), ("cls",)) and not hasattr(fn, "__self__"):
            raise Unfit(
                f"{fn.__name__!r} is a method without its object: make the object first, "
                f"then mcp.add_tool(object.{fn.__name__})"
            )

    def add_tool(self, tool: Tool | Callable[..., Any], **options: Any) -> Tool:  # type: ignore[override]
        """Register a tool or a function."""
        added: Tool = self._added(tool if isinstance(tool, Tool) else Tool.from_function(tool, **options))
        return added

    def remove_tool(self, name: str, version: str | None = None) -> None:
        """Take a tool out; KeyError where there is none."""
        self.local_provider.remove_tool(name, version)

    def _added(self, component: Any) -> Any:
        if component.home is None:
            component.home = ref(self)
        elif component.home() is not self:
            component = component.model_copy(update={"home": ref(self)})
        added = self.local_provider.add(component)
        if component.version is not None:
            self.choose_way()
        return added

    # -- resources -----------------------------------------------------------------------------------------------------

    def resource(  # type: ignore[override]
        self, uri: str, *, security: Any = INHERIT, **options: Any
    ) -> Callable[[F], F]:
        """``@mcp.resource("data://x")``, or a template: ``@mcp.resource("data://{id}{?format}")``.

        Options: name, version, title, description, icons, mime_type, tags, annotations, meta; security for a template.
        """
        if not isinstance(uri, str):
            raise TypeError(
                "The @resource decorator was used incorrectly: use @resource('uri://...') instead of @resource"
            )

        def register(fn: F) -> F:
            given = dict(options) if security is INHERIT else {**options, "security": security}
            self._added(resource_or_template(fn, uri, **given))
            return fn

        return register

    def add_resource(self, resource: Any, uri: str | None = None, **options: Any) -> Any:  # type: ignore[override]
        """Register a resource, a template, or a function that ``@resource`` marked."""
        if isinstance(resource, Resource | ResourceTemplate):
            return self._added(resource)
        return self._added(resource_or_template(resource, uri, **options))

    def add_template(self, template: ResourceTemplate) -> ResourceTemplate:
        """Register a template."""
        return self._added(template)  # type: ignore[no-any-return]

    def remove_resource(self, uri: str, version: str | None = None) -> None:
        """Take a resource or a template out; KeyError where there is none."""
        try:
            self.local_provider.remove_resource(uri, version)
        except KeyError:
            self.local_provider.remove_template(uri, version)

    @property
    def has_resources(self) -> bool:
        return True

    # -- prompts and completion ----------------------------------------------------------------------------------------

    @overload
    def prompt(self, name_or_fn: F, *, name: str | None = None, **options: Any) -> F: ...
    @overload
    def prompt(self, name_or_fn: str | None = None, *, name: str | None = None, **options: Any) -> Callable[[F], F]: ...
    def prompt(self, name_or_fn: Any = None, *, name: str | None = None, **options: Any) -> Any:
        """``@mcp.prompt`` in the forms of ``@mcp.tool``. Options: version, title, description, icons, tags, meta."""

        def register(fn: Any, found: str | None) -> Any:
            self._refuse_unbound(fn)
            self.add_prompt(Prompt.from_function(fn, **{**(mark_of(fn, "prompt") or {}), **named(found), **options}))
            return fn

        return naming(name_or_fn, name, register)

    def add_prompt(self, prompt: Prompt | Callable[..., Any], **options: Any) -> Prompt:  # type: ignore[override]
        """Register a prompt or a function."""
        added: Prompt = self._added(prompt if isinstance(prompt, Prompt) else Prompt.from_function(prompt, **options))
        return added

    def remove_prompt(self, name: str, version: str | None = None) -> None:
        """Take a prompt out; KeyError where there is none."""
        self.local_provider.remove_prompt(name, version)

    @property
    def has_prompts(self) -> bool:
        return True

    def completion(self, handler: Any = None, **options: Any) -> Any:
        """``@mcp.completion``: one ``handler(ref, argument, context)`` for all prompts and templates."""
        if options:
            raise ConfigurationError("FastMCP has one completion handler, which is told the reference and the argument")

        def register(fn: Any) -> Any:
            self.add_completion_handler(fn)
            return fn

        return register if handler is None else register(handler)

    def add_completion_handler(self, handler: Callable[..., Any]) -> None:
        self.completion_handler = handler
        self.install()

    def capabilities(self, version: str) -> dict[str, Any]:
        found = super().capabilities(version)
        if self.completion_handler is not None and version >= "2025-03-26":
            found["completions"] = {}
        return found

    # -- what stands around, and what changes things -----------------------------------------------------------------

    def add_middleware(self, middleware: Any) -> None:
        """Add a middleware inside those that are there."""
        self.chain.append(middleware)
        self.touch_all()

    def add_transform(self, transform: Transform) -> None:
        """Change what is listed and called from here on."""
        self.transforms.append(transform)
        self.touch_all()

    def add_provider(self, provider: Provider, *, namespace: str = "") -> None:
        """Offer what a provider has."""
        if not isinstance(provider, Provider):
            unsupported(
                f"{type(provider).__name__} as a provider", "it is none of this façade's", "a subclass of Provider"
            )
        if namespace:
            provider.add_transform(Namespace(namespace))
        self.providers.append(provider)
        self.touch_all()

    def enable(self, *, only: bool = False, **which: Any) -> Self:
        """Show what matches all of names, keys, version, tags and components; ``only`` hides the rest."""
        if only:
            kinds = which.get("components")
            self.transforms.append(
                Visibility(False, components=kinds) if kinds is not None else Visibility(False, match_all=True)
            )
        self.add_transform(Visibility(True, **which))
        return self

    def disable(self, **which: Any) -> Self:
        """Hide what matches."""
        self.add_transform(Visibility(False, **which))
        return self

    def mount(
        self,
        server: FastMCP,
        namespace: str | None = None,
        tool_names: dict[str, str] | None = None,
        prefix: str | None = None,
    ) -> None:
        """Offer what another server does, now and later: its tools as ``namespace_name``, its URIs as
        ``scheme://namespace/...``. ``tool_names`` gives single tools other names."""
        if not isinstance(server, FastMCP):
            raise TypeError(f"mount() takes a FastMCP server, got {type(server).__name__}")
        if server is self:
            raise ValueError("a server cannot be mounted in itself")
        mounted(self, server, MountProvider(server, namespace or prefix, tool_names))

    async def import_server(self, server: FastMCP, prefix: str | None = None) -> None:
        """Take over what another server offers now; later changes of it are not seen."""
        from erlmcp.compat.fastmcp.server.providers import LISTERS

        provider = MountProvider(server, prefix, None)
        for kind in LISTERS:
            for component in provider.own(kind):
                self._added(component)

    # -- life ----------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[Any]:
        """The lifespan, and those of the servers that are mounted; once, however many serve it."""
        self.settle()
        if self._open_count == 0:
            self._open_stack = AsyncExitStack()
            await self._open_stack.__aenter__()
            try:
                if self._own_lifespan is not None:
                    self.lifespan_result = await self._open_stack.enter_async_context(self._own_lifespan(self))
                for provider in self.providers:
                    if isinstance(provider, MountProvider):
                        await self._open_stack.enter_async_context(provider.child.entered())
                    elif hasattr(provider, "lifespan"):
                        await self._open_stack.enter_async_context(provider.lifespan())
            except BaseException:
                await self._open_stack.aclose()
                raise
        self._open_count += 1
        try:
            yield self.lifespan_result
        finally:
            self._open_count -= 1
            if self._open_count == 0:
                stack, self._open_stack = self._open_stack, None
                self.lifespan_result = None
                if stack is not None:
                    await stack.aclose()

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        self.settle()
        return super().describe()

    # -- other sources -------------------------------------------------------------------------------------------------

    @classmethod
    def as_proxy(cls, target: Any, **options: Any) -> FastMCP:
        """As ``create_proxy``."""
        from erlmcp.compat.fastmcp.server.proxy import create_proxy

        return create_proxy(target, **options)

    @classmethod
    def from_openapi(cls, *_: Any, **__: Any) -> NoReturn:
        """Not in this façade."""
        unsupported("from_openapi()", "tools from a specification need an HTTP client beside it", "stock FastMCP")

    @classmethod
    def from_fastapi(cls, *_: Any, **__: Any) -> NoReturn:
        """Not in this façade."""
        unsupported("from_fastapi()", "tools from an app need an HTTP client beside it", "stock FastMCP")

    def override_dependencies(self, overrides: Any) -> NoReturn:
        """Not in this façade."""
        unsupported(
            "override_dependencies()", "it is erlmcp.Server's, for plans of its own", "erlmcp.Server in that test"
        )

    def add_extension(self, extension: Any) -> NoReturn:
        """Not in this façade."""
        unsupported("add_extension()", "extensions reach into FastMCP's own dispatch", "a Middleware")


def named(name: str | None) -> dict[str, Any]:
    """The option of a name, where there is one."""
    return {} if name is None else {"name": name}


def _refuse(removed: Mapping[str, Any], list_page_size: int | None, **absent: Any) -> None:
    if list_page_size is not None and list_page_size <= 0:
        raise ValueError("list_page_size must be a positive integer")
    for what, given in absent.items():
        if given:
            unsupported(f"FastMCP({what}=)", *_ELSEWHERE[what])
    for what in removed:
        if what in _REMOVED:
            raise TypeError(f"FastMCP() no longer accepts `{what}`. Use {_REMOVED[what]} instead.")
        raise TypeError(f"FastMCP.__init__() got an unexpected keyword argument {what!r}")
