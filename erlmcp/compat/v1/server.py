"""``FastMCP``: the shape of ``mcp.server.fastmcp.FastMCP`` (mcp 1.x) over our server.

What differs from the second line: settings in the constructor and in the environment, ordinary functions on the loop
and not in threads, exceptions whose text reaches the client, and answers of the in-process calls.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, TypeVar

from erlmcp.client.client import CLIENT_INFO
from erlmcp.compat.sdk import types
from erlmcp.compat.sdk.base import BaseServer
from erlmcp.compat.sdk.context import OUTSIDE, BaseContext
from erlmcp.compat.sdk.exceptions import (
    ResourceError,
    UrlElicitationRequiredError,
    as_protocol_error,
    kind_of,
)
from erlmcp.compat.sdk.front import Setting, who_may_ask
from erlmcp.compat.sdk.record import give
from erlmcp.compat.sdk.routes import MESSAGE_PATH, NO_EVENT_STORE, NO_RETRY, SSE_PATH, configure_logging
from erlmcp.errors import ConfigurationError, McpError
from erlmcp.runtime.exchange import text_of

L = TypeVar("L")
F = TypeVar("F", bound=Callable[..., Any])
ENVIRONMENT = "FASTMCP_"
_TRUE, _FALSE = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")
_VARIABLE = re.compile(r"\{(\w+)\}")


@dataclass
class Settings:
    """What the constructor was given; ``FASTMCP_PORT=9000`` and its like stand in for what it was not."""

    debug: bool = False
    log_level: str = "INFO"
    host: str = "127.0.0.1"
    port: int = 8000
    mount_path: str = "/"
    sse_path: str = SSE_PATH
    message_path: str = MESSAGE_PATH
    streamable_http_path: str = "/mcp"
    json_response: bool = False
    stateless_http: bool = False
    max_request_body_size: int = 4 * 1024 * 1024
    session_idle_timeout: float | None = 1800.0
    max_sessions: int | None = 10_000
    warn_on_duplicate_resources: bool = True
    warn_on_duplicate_tools: bool = True
    warn_on_duplicate_prompts: bool = True
    dependencies: list[str] = field(default_factory=list)
    lifespan: Any = None
    auth: Any = None
    transport_security: Any = None


class Context(BaseContext):
    """The context of ``FastMCP``: a parameter annotated with it takes it."""

    camel = True

    @property
    def fastmcp(self) -> Any:
        if self._face is None:
            raise ValueError(OUTSIDE)
        return self._face

    @property
    def client_id(self) -> str | None:
        """What the client calls itself in the request's ``_meta``."""
        found: str | None = self.inner.meta.get("client_id")
        return found

    async def log(self, level: str, message: Any, *, logger_name: str | None = None) -> None:
        await self.inner.log(level, message, logger_name)

    async def debug(self, message: Any, **extra: Any) -> None:
        await self.log("debug", message, **extra)

    async def info(self, message: Any, **extra: Any) -> None:
        await self.log("info", message, **extra)

    async def warning(self, message: Any, **extra: Any) -> None:
        await self.log("warning", message, **extra)

    async def error(self, message: Any, **extra: Any) -> None:
        await self.log("error", message, **extra)


class FastMCP(BaseServer[L], Generic[L]):
    """A server with the constructor, the decorators and the methods of mcp 1.x. It speaks the newer era besides.

    What is not served raises ConfigurationError, with the reason and what to do instead, where it is asked for.
    """

    context_class: ClassVar[Any] = Context
    runs_in_thread: ClassVar[bool | None] = False
    camel: ClassVar[bool] = True
    takes_context_everywhere: ClassVar[bool] = True

    def __init__(
        self,
        name: str | None = None,
        instructions: str | None = None,
        website_url: str | None = None,
        icons: Any = None,
        auth_server_provider: Any = None,
        token_verifier: Any = None,
        event_store: Any = None,
        retry_interval: int | None = None,
        *,
        tools: list[Any] | None = None,
        dependencies: Collection[str] = (),
        lifespan: Callable[[Any], Any] | None = None,
        auth: Any = None,
        transport_security: Any = None,
        **settings: Any,
    ) -> None:
        if event_store is not None:
            raise ConfigurationError(NO_EVENT_STORE)
        if retry_interval is not None:
            raise ConfigurationError(NO_RETRY)
        self.settings = read_settings(
            settings,
            dependencies=list(dependencies),
            lifespan=lifespan,
            auth=auth,
            transport_security=transport_security,
        )
        self.dependencies = self.settings.dependencies
        self._begin(
            name or "FastMCP",
            auth=auth,
            token_verifier=token_verifier,
            auth_server_provider=auth_server_provider,
            lifespan=lifespan,
            instructions=instructions,
            website_url=website_url,
            icons=icons,
            version=CLIENT_INFO["version"],
        )
        self._patterns: dict[str, re.Pattern[str]] = {}
        configure_logging(self.settings.log_level)
        for tool in tools or ():
            self.add_tool(tool.fn, tool.name, tool.title, tool.description, tool.annotations, tool.icons, tool.meta)

    # -- what fails ----------------------------------------------------------------------------------------------------

    def judge_failure(self, name: str, error: BaseException) -> tuple[McpError | None, str | None]:
        """The text of whatever was raised; a request for a URL is a protocol error."""
        if issubclass(kind_of(error), UrlElicitationRequiredError):
            return as_protocol_error(error), None
        return None, f"Error executing tool {name}: {text_of(error)}"

    def _prompt_text(self, name: str, error: Exception) -> str:
        return f"Error rendering prompt {name}: {text_of(error)}"

    def resource_failure(self, uri: str, error: Exception, *, is_template: bool) -> Exception:
        what = "Error creating resource from template: " if is_template else "Error reading resource "
        return ResourceError(what + (text_of(error) if is_template else f"{uri}: {text_of(error)}"))

    def resource_code(self, error: ResourceError) -> int:
        return 0

    def _find(self, uri: str) -> tuple[Any, dict[str, Any]]:
        """As the first line has it: ``{name}`` is anything but a slash, taken as it stands."""
        plan = self.kernel.resources.get(uri)
        if plan is not None:
            return plan, {}
        for template in self.kernel.templates.values():
            pattern = self._patterns.get(template.uri)
            if pattern is None:
                parts = _VARIABLE.split(template.uri)
                text = "".join(f"(?P<{part}>[^/]+)" if at % 2 else re.escape(part) for at, part in enumerate(parts))
                pattern = self._patterns[template.uri] = re.compile(text)
            match = pattern.fullmatch(uri)
            if match:
                return template, match.groupdict()
        raise ResourceError(f"Unknown resource: {uri}")

    # -- within the process --------------------------------------------------------------------------------------------

    def get_context(self) -> Context:
        """A context without a request: handlers ask for theirs by annotation."""
        return Context(mcp_server=self)

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> Any:
        """The content blocks, or (blocks, structured content) where the tool has an output schema. Raises ToolError."""
        found = await self._call(name, arguments, None)
        tool = self.kernel.tools[name]
        result = give(types.CallToolResult, {"isError": False, **found}, camel=True)
        if "structuredContent" in found and tool.plan.conversion.output_schema is not None:
            return result.content, found["structuredContent"]
        return result if "isError" in found else result.content

    async def read_resource(self, uri: Any, context: Any = None) -> Any:
        """What is in a resource: objects with ``content`` and ``mime_type``. Raises ResourceError."""
        return await self._read_here(uri, context)

    async def get_prompt(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """The GetPromptResult. Raises ValueError."""
        return await self._prompt_here(name, arguments, None)

    def prompt(
        self, name: str | None = None, title: str | None = None, description: str | None = None, icons: Any = None
    ) -> Callable[[F], F]:
        """``@mcp.prompt()``."""
        return self._prompt_decorator(name, title, description, icons)

    # -- serving -------------------------------------------------------------------------------------------------------

    def run(self, transport: str = "stdio", mount_path: str | None = None) -> None:
        """Serve until it ends: "stdio", "sse" or "streamable-http", where the settings say."""
        if transport == "stdio":
            self._run(self.run_stdio_async())
        elif transport == "sse":
            self._run(self.run_sse_async(mount_path))
        elif transport == "streamable-http":
            self._run(self.run_streamable_http_async())
        else:
            raise ValueError(f"Unknown transport: {transport}")

    def _who(self) -> dict[str, Any]:
        return who_may_ask(self.settings.host, self.settings.transport_security)

    def _http_setting(self) -> Setting:
        found = self.settings
        self._limit(
            body_bytes=found.max_request_body_size, idle_s=found.session_idle_timeout, sessions=found.max_sessions
        )
        return Setting(found.streamable_http_path, stateless=found.stateless_http, **self._who())

    def _sse_setting(self, mount_path: str | None) -> Setting:
        found = self.settings
        if mount_path is not None:
            found.mount_path = mount_path
        path = "" if found.mount_path == "/" else found.mount_path
        return self._sse(found.sse_path, found.message_path, path, found.max_request_body_size, self._who())

    async def run_streamable_http_async(self) -> Any:
        """Serve Streamable HTTP at ``settings.host`` and ``settings.port``."""
        return await self._run_http(self._http_setting(), self.settings.host, self.settings.port)

    async def run_sse_async(self, mount_path: str | None = None) -> Any:
        """Serve the HTTP+SSE transport there."""
        return await self._run_http(self._sse_setting(mount_path), self.settings.host, self.settings.port)

    def streamable_http_app(self) -> Any:
        """The endpoint as an ASGI application (Starlette's, where it is installed)."""
        return self._application(self._http_setting())

    def sse_app(self, mount_path: str | None = None) -> Any:
        """HTTP+SSE as an ASGI application; clients are told to post below ``mount_path``."""
        return self._application(self._sse_setting(mount_path))


def read_settings(given: dict[str, Any], **own: Any) -> Settings:
    """The settings, from the constructor and, for what it does not say, the environment.

    Raises TypeError for an unknown one, ValueError for one that cannot be read.
    """
    known = {each.name: each.default for each in fields(Settings)}
    for name in given:
        if name not in known or name in own:
            raise TypeError(f"FastMCP.__init__() got an unexpected keyword argument {name!r}")
    found: dict[str, Any] = {}
    for name, default in known.items():
        text = os.environ.get(ENVIRONMENT + name.upper())
        if text is not None and name not in given and isinstance(default, bool | int | float | str):
            found[name] = _read(name, text, default)
    return Settings(**{**found, **given, **own})


def _read(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        word = text.strip().lower()
        if word not in (*_TRUE, *_FALSE):
            raise ValueError(f"{ENVIRONMENT}{name.upper()}={text!r} is no boolean")
        return word in _TRUE
    return type(default)(text)
