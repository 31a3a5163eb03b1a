"""``MCPServer``: the shape of ``mcp.server.mcpserver.MCPServer`` (mcp 2.3) over our server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from erlmcp.compat.sdk import types
from erlmcp.compat.sdk.base import BaseServer
from erlmcp.compat.sdk.context import Context
from erlmcp.compat.sdk.extension import intercepts, validate_extension_identifier
from erlmcp.compat.sdk.front import Setting, who_may_ask
from erlmcp.compat.sdk.middleware import as_ours, interceptor
from erlmcp.compat.sdk.record import give
from erlmcp.compat.sdk.request_state import RequestStateSecurity
from erlmcp.compat.sdk.resources import DEFAULT_RESOURCE_SECURITY, ResourceSecurity
from erlmcp.compat.sdk.routes import MESSAGE_PATH, NO_EVENT_STORE, NO_RETRY, SSE_PATH, configure_logging
from erlmcp.errors import ConfigurationError
from erlmcp.spec import method as m

L = TypeVar("L")
BODY_BYTES_MAX, SESSION_IDLE_S, SESSION_COUNT_MAX = 4 * 1024 * 1024, 1800.0, 10_000
CACHEABLE = (m.DISCOVER, m.TOOLS_LIST, m.RESOURCES_LIST, m.TEMPLATES_LIST, m.RESOURCES_READ, m.PROMPTS_LIST)
_MISSING_AUDIENCE = (
    "request_state_security is given, but the server has no name: state of another service with the same keys would be "
    "taken for its own; name the server, or set RequestStateSecurity(audience=...)"
)


@dataclass(frozen=True)
class CacheHint:
    """For how long (milliseconds), and by whom ("public" or "private"), a result may be kept."""

    ttl_ms: int = 0
    scope: str = "private"

    def __post_init__(self) -> None:
        if self.ttl_ms < 0:
            raise ValueError(f"ttl_ms must be >= 0, got {self.ttl_ms}")
        if self.scope not in ("public", "private"):
            raise ValueError(f"scope must be 'public' or 'private', got {self.scope!r}")


@dataclass
class Settings:
    """What the constructor was given."""

    debug: bool = False
    log_level: str = "INFO"
    warn_on_duplicate_resources: bool = True
    warn_on_duplicate_tools: bool = True
    warn_on_duplicate_prompts: bool = True
    dependencies: list[str] = field(default_factory=list)
    lifespan: Any = None
    auth: Any = None


def _renewing(change: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a list, after which the server goes by what is in it."""

    def renew(self: MiddlewareList, *given: Any) -> Any:
        found = change(self, *given)
        self.face._install_middleware()
        return found

    return renew


class MiddlewareList(list[Any]):
    """The middleware of a server; what is put in or taken out counts at once."""

    def __init__(self, face: MCPServer[Any]) -> None:
        super().__init__()
        self.face = face

    append = _renewing(list.append)
    extend = _renewing(list.extend)
    insert = _renewing(list.insert)
    remove = _renewing(list.remove)
    pop = _renewing(list.pop)
    clear = _renewing(list.clear)
    __iadd__ = _renewing(list.__iadd__)
    __setitem__ = _renewing(list.__setitem__)
    __delitem__ = _renewing(list.__delitem__)


class MCPServer(BaseServer[L], Generic[L]):
    """A server with the constructor, the decorators and the methods of mcp 2.3.

    What is not served raises ConfigurationError, with the reason and what to do instead, where it is asked for.
    ``kernel`` is our own server beneath.
    """

    context_class: ClassVar[Any] = Context

    def __init__(
        self,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        instructions: str | None = None,
        website_url: str | None = None,
        icons: Any = None,
        version: str = "",
        auth_server_provider: Any = None,
        token_verifier: Any = None,
        *,
        tools: list[Any] | None = None,
        resources: list[Any] | None = None,
        extensions: Sequence[Any] | None = None,
        debug: bool = False,
        log_level: str = "INFO",
        warn_on_duplicate_resources: bool = True,
        warn_on_duplicate_tools: bool = True,
        warn_on_duplicate_prompts: bool = True,
        dependencies: list[str] | None = None,
        lifespan: Callable[[Any], Any] | None = None,
        auth: Any = None,
        resource_security: ResourceSecurity = DEFAULT_RESOURCE_SECURITY,
        request_state_security: RequestStateSecurity | None = None,
        cache_hints: Mapping[str, Any] | None = None,
        subscriptions: Any = None,
        middleware: Sequence[Any] | None = None,
    ) -> None:
        self.settings = Settings(
            debug,
            log_level,
            warn_on_duplicate_resources,
            warn_on_duplicate_tools,
            warn_on_duplicate_prompts,
            list(dependencies or ()),
            lifespan,
            auth,
        )
        self.dependencies = self.settings.dependencies
        self._default_policy = resource_security
        if request_state_security is not None and not name and request_state_security.audience is None:
            raise ValueError(_MISSING_AUDIENCE)
        self._begin(
            name or "mcp-server",
            security=request_state_security,
            subscriptions=subscriptions,
            auth=auth,
            token_verifier=token_verifier,
            auth_server_provider=auth_server_provider,
            lifespan=lifespan,
            title=title,
            description=description,
            instructions=instructions,
            website_url=website_url,
            icons=icons,
            version=version,
        )
        self.kernel.cache_hints = _read_hints(cache_hints)
        configure_logging(log_level)
        self.middleware = MiddlewareList(self)
        for tool in tools or ():
            self._add_tool_object(tool)
        for resource in resources or ():
            self.add_resource(resource)
        for extension in extensions or ():
            self._apply(extension)
        self.middleware.extend(middleware or ())

    def _add_tool_object(self, tool: Any) -> None:
        options = {"structured_output": getattr(tool, "structured_output", None)}
        self.add_tool(
            tool.fn, tool.name, tool.title, tool.description, tool.annotations, tool.icons, tool.meta, **options
        )

    def _apply(self, extension: Any) -> None:
        """Take over what an extension contributes. Raises ValueError for one that is there, or a method that is."""
        identifier = getattr(extension, "identifier", None)
        validate_extension_identifier(identifier, owner=type(extension).__name__)
        if any(each.identifier == identifier for each in self._extensions):
            raise ValueError(f"Extension {identifier!r} is already registered")
        self._extensions.append(extension)
        for method in extension.methods():
            if method.method in self.kernel.service.methods:
                raise ValueError(f"Extension {identifier!r} binds {method.method!r}, which is already registered")
            self.kernel.bind_method(method)
        for tool in extension.tools():
            self.add_tool(tool.fn, meta=tool.meta, **tool.kwargs)
        for resource in extension.resources():
            self.add_resource(resource.resource)

    def _install_middleware(self) -> None:
        kernel = self.kernel
        own = [each for each in kernel.middleware if not getattr(each, "is_of_face", False)]
        made = [as_ours(self, each) for each in self.middleware]
        made += [interceptor(self, each) for each in self._extensions if intercepts(each)]
        for each in made:
            each.is_of_face = True  # type: ignore[attr-defined]
        kernel.middleware = [*own, *made]
        kernel.install()

    @property
    def title(self) -> str | None:
        return self.kernel.info.get("title")

    @property
    def description(self) -> str | None:
        return self.kernel.info.get("description")

    @property
    def version(self) -> str:
        return self.kernel.version

    # -- within the process --------------------------------------------------------------------------------------------

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """The CallToolResult (or InputRequiredResult). Raises ToolError, UnexpectedToolError, MCPError."""
        found = await self._call(name, arguments, context)
        if isinstance(found, types.InputRequiredResult):
            return found
        return give(types.CallToolResult, {"isError": False, **found})

    async def read_resource(self, uri: Any, context: Any = None) -> Any:
        """What is in a resource: objects with ``content`` and ``mime_type``. Raises ResourceError, MCPError."""
        return await self._read_here(uri, context)

    async def get_prompt(self, name: str, arguments: dict[str, Any] | None = None, context: Any = None) -> Any:
        """The GetPromptResult. Raises ValueError, MCPError."""
        return await self._prompt_here(name, arguments, context)

    def remove_prompt(self, name: str) -> None:
        """Raises ValueError where there is no such prompt."""
        if name not in self.kernel.prompts:
            raise ValueError(f"Unknown prompt: {name}")
        self.kernel.remove_prompt(name)

    def prompt(
        self, name: str | None = None, title: str | None = None, description: str | None = None, icons: Any = None
    ) -> Callable[[Any], Any]:
        """``@mcp.prompt()``."""
        return self._prompt_decorator(name, title, description, icons)

    # -- serving -------------------------------------------------------------------------------------------------------

    def run(self, transport: str = "stdio", **options: Any) -> None:
        """Serve until it ends; ``options`` are those of ``run_sse_async`` or ``run_streamable_http_async``."""
        if transport == "stdio":
            self._run(self.run_stdio_async())
        elif transport == "sse":
            self._run(self.run_sse_async(**options))
        elif transport == "streamable-http":
            self._run(self.run_streamable_http_async(**options))
        else:
            raise ValueError(f"Unknown transport: {transport}")

    async def run_streamable_http_async(self, *, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> Any:
        """Serve Streamable HTTP; ``options`` are those of ``streamable_http_app``."""
        return await self._run_http(self._http_setting(host=host, **options), host, port)

    def streamable_http_app(self, *, host: str = "127.0.0.1", **options: Any) -> Any:
        """The endpoint as an ASGI application (Starlette's, where it is installed).

        ``options``: streamable_http_path, json_response, stateless_http, max_request_body_size, session_idle_timeout,
        max_sessions, transport_security. Answers are JSON wherever nothing else has to be sent before them.
        """
        return self._application(self._http_setting(host=host, **options))

    def _http_setting(
        self,
        *,
        host: str,
        streamable_http_path: str = "/mcp",
        json_response: bool = False,
        stateless_http: bool = False,
        event_store: Any = None,
        retry_interval: int | None = None,
        max_request_body_size: int = BODY_BYTES_MAX,
        session_idle_timeout: float | None = SESSION_IDLE_S,
        max_sessions: int | None = SESSION_COUNT_MAX,
        transport_security: Any = None,
    ) -> Setting:
        if event_store is not None:
            raise ConfigurationError(NO_EVENT_STORE)
        if retry_interval is not None:
            raise ConfigurationError(NO_RETRY)
        self._limit(body_bytes=max_request_body_size, idle_s=session_idle_timeout, sessions=max_sessions)
        return Setting(streamable_http_path, stateless=stateless_http, **who_may_ask(host, transport_security))

    async def run_sse_async(self, *, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> Any:
        """Serve the HTTP+SSE transport of 2024-11-05."""
        return await self._run_http(self._sse_setting(host=host, **options), host, port)

    def sse_app(self, *, host: str = "127.0.0.1", **options: Any) -> Any:
        """The same as an ASGI application."""
        return self._application(self._sse_setting(host=host, **options))

    def _sse_setting(
        self,
        *,
        host: str,
        sse_path: str = SSE_PATH,
        message_path: str = MESSAGE_PATH,
        max_request_body_size: int = BODY_BYTES_MAX,
        transport_security: Any = None,
    ) -> Setting:
        return self._sse(sse_path, message_path, "", max_request_body_size, who_may_ask(host, transport_security))


def _read_hints(hints: Mapping[str, Any] | None) -> dict[str, Any]:
    for method in hints or ():
        if method not in CACHEABLE:
            raise ValueError(f"cache_hints: {method!r} has no cacheable result; expected one of {', '.join(CACHEABLE)}")
    return dict(hints or {})
