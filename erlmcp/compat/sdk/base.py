"""What the façades of both lines of the SDK have in common: what is registered, and the calls within the process."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from erlmcp.compat.sdk import types
from erlmcp.compat.sdk.absent import INNER, NOT_CALLED
from erlmcp.compat.sdk.auth import NO_ISSUER, Bearer
from erlmcp.compat.sdk.context import BaseContext, is_context
from erlmcp.compat.sdk.convert import Asked, is_named
from erlmcp.compat.sdk.exceptions import (
    MCPError,
    PromptError,
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedResourceError,
    UnexpectedToolError,
    as_protocol_error,
    kind_of,
)
from erlmcp.compat.sdk.kernel import Kernel, authorized, judge_tool_error, rendered_messages
from erlmcp.compat.sdk.plan import (
    compile_sdk_prompt,
    compile_sdk_resource,
    compile_sdk_tool,
    entry_of,
    is_resource,
)
from erlmcp.compat.sdk.prompts.base import Prompt
from erlmcp.compat.sdk.record import give, give_all
from erlmcp.compat.sdk.request_state import RequestStateSecurity
from erlmcp.compat.sdk.resources import FunctionResource, ResourceSecurity
from erlmcp.compat.sdk.routes import Routes
from erlmcp.compat.sdk.subscriptions import InMemorySubscriptionBus, method_of
from erlmcp.errors import INTERNAL_ERROR, INVALID_PARAMS, ConfigurationError, McpError, MethodNotFoundError
from erlmcp.server.bind import read_signature
from erlmcp.server.content import dump_model
from erlmcp.server.uri import UriTemplate
from erlmcp.spec import method as m

log = logging.getLogger("erlmcp.compat")
F = TypeVar("F", bound=Callable[..., Any])
L = TypeVar("L")


@dataclass
class Contents:
    """What ``read_resource`` gives: one entry of a resource's contents."""

    content: str | bytes
    mime_type: str | None = None
    meta: dict[str, Any] | None = None


class BaseServer(Routes, Generic[L]):
    """The façade over one kernel (``kernel``, an ``erlmcp.Server``)."""

    context_class: ClassVar[type[BaseContext]] = BaseContext
    runs_in_thread: ClassVar[bool | None] = None  # None: as our own server does
    camel: ClassVar[bool] = False  # whether the fields of its objects have the wire's names
    takes_context_everywhere: ClassVar[bool] = False  # resources without variables as well
    kernel: Kernel
    settings: Any

    def __init_subclass__(cls, **options: Any) -> None:
        """Raises ConfigurationError for an override that no request would come by."""
        super().__init_subclass__(**options)
        if not cls.__module__.startswith("erlmcp.compat."):
            for name in sorted(NOT_CALLED & cls.__dict__.keys()):
                raise ConfigurationError(
                    f"{cls.__name__}.{name}: requests do not come by this method; wrap the tools, or use middleware="
                )

    def __getattr__(self, name: str) -> Any:
        if name in INNER:
            raise AttributeError(f"{name}: {INNER[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _begin(
        self,
        name: str,
        *,
        security: RequestStateSecurity | None = None,
        subscriptions: Any = None,
        auth: Any = None,
        token_verifier: Any = None,
        auth_server_provider: Any = None,
        lifespan: Any = None,
        **options: Any,
    ) -> None:
        """Make the kernel. Raises ConfigurationError or ValueError for what cannot be."""
        if auth_server_provider is not None:
            raise ConfigurationError(f"auth_server_provider: {NO_ISSUER}")
        if auth is not None and token_verifier is None:
            raise ValueError("Must specify either auth_server_provider or token_verifier when auth is enabled")
        if token_verifier is not None and auth is None:
            raise ValueError("Cannot specify auth_server_provider or token_verifier without auth settings")
        self._begin_routes()
        self.bearer = None if token_verifier is None else Bearer(token_verifier, auth)
        self.completer: Callable[..., Any] | None = None
        self.listens = subscriptions is not False
        self.bus: Any = InMemorySubscriptionBus() if subscriptions in (None, False) else subscriptions
        self._extensions: list[Any] = []
        self._policies: dict[str, ResourceSecurity] = {}
        face = self

        def enter(_kernel: Any) -> Any:
            return lifespan(face)

        options["lifespan"] = None if lifespan is None else enter
        self.kernel = Kernel(self, name, security or RequestStateSecurity.ephemeral(), **options)
        self.bus.subscribe(self._published)
        if self.bearer is not None:
            self.kernel.add_middleware(authorized)

    def _published(self, event: Any) -> None:
        method, uri = method_of(event)
        self.kernel._changed(method, uri)

    def extension_settings(self) -> dict[str, Any]:
        return {each.identifier: each.settings() for each in self._extensions}

    def judge_failure(self, name: str, error: BaseException) -> tuple[McpError | None, str | None]:
        return judge_tool_error(name, error)

    @property
    def name(self) -> str:
        return self.kernel.name

    @property
    def instructions(self) -> str | None:
        return self.kernel.instructions

    @property
    def website_url(self) -> str | None:
        return self.kernel.info.get("websiteUrl")

    @property
    def icons(self) -> Any:
        found = self.kernel.info.get("icons")
        return None if found is None else give_all(types.Icon, found, camel=self.camel)

    # -- tools ---------------------------------------------------------------------------------------------------------

    def add_tool(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: Any = None,
        icons: Any = None,
        meta: dict[str, Any] | None = None,
        structured_output: bool | None = None,
    ) -> None:
        """Register a function as a tool; a name that is taken stays what it is, with a warning."""
        plan = compile_sdk_tool(
            self.kernel,
            fn,
            name=name,
            title=title,
            description=description,
            annotations=annotations,
            icons=icons,
            meta=meta,
            structured_output=structured_output,
        )
        if plan.name in self.kernel.tools:
            if self.settings.warn_on_duplicate_tools:
                log.warning("Tool already exists: %s", plan.name)
            return
        self.kernel.place_tool(plan)

    def remove_tool(self, name: str) -> None:
        """Raises ToolError where there is no such tool."""
        if name not in self.kernel.tools:
            raise ToolError(f"Unknown tool: {name}")
        self.kernel.remove_tool(name)

    def tool(
        self,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: Any = None,
        icons: Any = None,
        meta: dict[str, Any] | None = None,
        structured_output: bool | None = None,
    ) -> Callable[[F], F]:
        """``@mcp.tool()``; see ``add_tool``."""
        _refuse_bare("tool", name)

        def register(fn: F) -> F:
            self.add_tool(fn, name, title, description, annotations, icons, meta, structured_output)
            return fn

        return register

    async def list_tools(self) -> list[Any]:
        return give_all(types.Tool, self.kernel.tool_list.descriptors.values(), camel=self.camel)

    async def _call(self, name: str, arguments: dict[str, Any], context: Any) -> Any:
        """The wire's result of a tool, or an ``InputRequiredResult``. Raises as the SDK's ``call_tool`` does."""
        tool = self.kernel.tools.get(name)
        if tool is None:
            raise ToolError(f"Unknown tool: {name}")
        plan = tool.plan
        try:
            value = await _invoked(plan, arguments, context or self.context_class(mcp_server=self))
            return plan.convert(value)
        except Asked as asked:
            return asked.value
        except Exception as error:
            protocol, text = self.judge_failure(name, error)
            if protocol is not None:
                raise protocol from error
            if text is None or issubclass(kind_of(error), UnexpectedToolError | UnexpectedResourceError):
                raise UnexpectedToolError(text or f"Error executing tool {name}") from error
            raise ToolError(text) from error

    # -- resources -----------------------------------------------------------------------------------------------------

    def add_resource(self, resource: Any) -> None:
        """Register a resource object: a TextResource, a FileResource, one of an author's own class."""
        fn = resource.fn if isinstance(resource, FunctionResource) else resource.read
        uri = str(resource.uri)
        if uri in self.kernel.resources:
            if self.settings.warn_on_duplicate_resources:
                log.warning("Resource already exists: %s", uri)
            return
        plan = compile_sdk_resource(
            self.kernel,
            fn,
            uri,
            name=resource.name or uri,
            mime_type=resource.mime_type,
            title=resource.title,
            description=resource.description,
            icons=resource.icons,
            annotations=resource.annotations,
            meta=resource.meta,
        )
        if resource.description is None:
            plan.descriptor = {key: value for key, value in plan.descriptor.items() if key != "description"}
        self.kernel.place_resource(plan)

    def resource(
        self,
        uri: str,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        icons: Any = None,
        annotations: Any = None,
        meta: dict[str, Any] | None = None,
        security: ResourceSecurity | None = None,
    ) -> Callable[[F], F]:
        """``@mcp.resource("scheme://{variable}")``. Raises ValueError where variables and parameters differ."""
        _refuse_bare("resource", uri)
        options = {"title": title, "description": description, "icons": icons, "annotations": annotations, "meta": meta}
        variables = set(UriTemplate(uri).variables)

        def register(fn: F) -> F:
            parameters = inspect.signature(fn).parameters
            hints = read_signature(fn, f"resource {uri!r}")[1]
            own = {each for each in parameters if not is_context(hints.get(each))}
            if variables != own:
                raise ValueError(
                    f"Mismatch between URI parameters {variables} and function parameters {own}"
                    if variables
                    else f"Resource {uri!r} has no URI template variables, but its function has parameters {own}"
                )
            if not variables and len(own) != len(parameters) and not self.takes_context_everywhere:
                raise ValueError(f"Resource {uri!r} has no URI template variables and takes no Context")
            plan = compile_sdk_resource(self.kernel, fn, uri, name=name, mime_type=mime_type, **options)
            if plan.is_template:
                self._policies[uri] = security or self._default_policy
            elif uri in self.kernel.resources:
                if self.settings.warn_on_duplicate_resources:
                    log.warning("Resource already exists: %s", uri)
                return fn
            self.kernel.place_resource(plan)
            return fn

        return register

    _default_policy = ResourceSecurity()

    async def list_resources(self) -> list[Any]:
        return give_all(types.Resource, self.kernel.resource_list.descriptors.values(), camel=self.camel)

    async def list_resource_templates(self) -> list[Any]:
        return give_all(types.ResourceTemplate, self.kernel.template_list.descriptors.values(), camel=self.camel)

    async def find_and_read(self, uri: str, inner: Any, context: Any = None) -> tuple[Any, Any]:
        """(plan, value) of a resource. Raises a ResourceError, or McpError; leaves by InputRequired where the client
        is to be asked and ``inner`` can."""
        plan, variables = self._find(uri)
        context = context or self.context_class(mcp_server=self, inner=inner)
        try:
            value = await _invoked(plan, variables, context)
            if is_resource(value):
                found = value.read()
                found = await found if inspect.isawaitable(found) else found
                value = entry_of(found, plan.mime_type, plan.descriptor.get("_meta"))
            if not plan.is_template and is_named(value, "InputRequiredResult"):
                raise ValueError("static resources cannot return InputRequiredResult; only templates can")
        except Exception as error:
            protocol = as_protocol_error(error)
            if protocol is not None:
                raise protocol from error
            raise self.resource_failure(uri, error, is_template=plan.is_template) from error
        if inner is not None and is_named(value, "InputRequiredResult"):
            raise self.kernel.service.asked(inner, value)  # type: ignore[attr-defined]
        return plan, value

    def resource_failure(self, uri: str, error: Exception, *, is_template: bool) -> Exception:
        """What is raised for the exception of a resource's function."""
        if issubclass(kind_of(error), ResourceError):
            return _own(error)
        what = "creating resource from template" if is_template else "reading resource"
        return UnexpectedResourceError(f"Error {what} {uri}")

    def resource_code(self, error: ResourceError) -> int:
        """The code of the protocol error that it becomes."""
        return INVALID_PARAMS if isinstance(error, ResourceNotFoundError) else INTERNAL_ERROR

    def _find(self, uri: str) -> tuple[Any, dict[str, Any]]:
        plan = self.kernel.resources.get(uri)
        if plan is not None:
            return plan, {}
        for template in self.kernel.templates.values():
            variables = template.match(uri)
            if variables is not None:
                if self._policies.get(template.uri, self._default_policy).validate(variables) is not None:
                    break
                return template, variables
        raise ResourceNotFoundError(f"Unknown resource: {uri}")

    async def _read_here(self, uri: Any, context: Any) -> Any:
        plan, value = await self.find_and_read(str(uri), None, context)
        if is_named(value, "InputRequiredResult"):
            return value
        return [Contents(value.data, plan.mime_type, None if value.meta is None else dict(value.meta))]

    # -- prompts -------------------------------------------------------------------------------------------------------

    def add_prompt(self, prompt: Any) -> None:
        """Register a ``Prompt``."""
        plan = compile_sdk_prompt(
            self.kernel,
            prompt.fn,
            name=prompt.name,
            title=prompt.title,
            description=prompt.description,
            icons=prompt.icons,
        )
        if plan.name in self.kernel.prompts:
            if self.settings.warn_on_duplicate_prompts:
                log.warning("Prompt already exists: %s", plan.name)
            return
        self.kernel.place_prompt(plan)

    def _prompt_decorator(
        self, name: str | None, title: str | None, description: str | None, icons: Any
    ) -> Callable[[F], F]:
        _refuse_bare("prompt", name)

        def register(fn: F) -> F:
            self.add_prompt(Prompt(fn=fn, name=name, title=title, description=description, icons=icons))
            return fn

        return register

    async def list_prompts(self) -> list[Any]:
        return give_all(types.Prompt, self.kernel.prompt_list.descriptors.values(), camel=self.camel)

    async def render_prompt(
        self, name: str, arguments: Mapping[str, Any], inner: Any, context: Any = None
    ) -> dict[str, Any]:
        """The wire's result of a prompt. Raises PromptError (a ValueError), MCPError."""
        plan = self.kernel.prompts.get(name)
        if plan is None:
            raise PromptError(f"Unknown prompt: {name}")
        keys = {each.key for each in plan.binding.arguments}
        missing = {each.key for each in plan.binding.arguments if each.required} - arguments.keys()
        if missing:
            raise PromptError(f"Missing required arguments: {missing}")
        context = context or self.context_class(mcp_server=self, inner=inner)
        try:
            if arguments.keys() - keys:
                raise ValueError(f"unknown arguments: {sorted(arguments.keys() - keys)}")
            value = await _invoked(plan, arguments, context)
            if is_named(value, "InputRequiredResult"):
                if inner is None:
                    return {"asked": value}
                raise self.kernel.service.asked(inner, value)  # type: ignore[attr-defined]
            return rendered_messages(plan, value)
        except Exception as error:
            protocol = as_protocol_error(error)
            if protocol is not None:
                raise protocol from error
            raise PromptError(self._prompt_text(name, error)) from error

    def _prompt_text(self, name: str, error: Exception) -> str:
        """What is said of a prompt whose function failed."""
        return f"Error rendering prompt {name}"

    async def _prompt_here(self, name: str, arguments: Mapping[str, Any] | None, context: Any) -> Any:
        found = await self.render_prompt(name, arguments or {}, None, context)
        return found["asked"] if "asked" in found else give(types.GetPromptResult, found, camel=self.camel)

    # -- completion ----------------------------------------------------------------------------------------------------

    def completion(self) -> Callable[[F], F]:
        """``@mcp.completion()``: ``async fn(ref, argument, context)`` completes whatever is asked for."""

        def register(fn: F) -> F:
            self.completer = fn
            self.kernel.install()  # It is declared from now on.
            return fn

        return register

    async def complete(self, params: dict[str, Any]) -> dict[str, Any]:
        """The result of completion/complete."""
        if self.completer is None:
            raise MethodNotFoundError(m.COMPLETE)
        ref, argument, chosen = params.get("ref"), params.get("argument"), params.get("context")
        if not isinstance(ref, dict) or not isinstance(argument, dict):
            raise MCPError(-32602, "Invalid params: completion needs ref and argument")
        kind = types.PromptReference if ref.get("type") == "ref/prompt" else types.ResourceTemplateReference
        given = [
            give(kind, ref, camel=self.camel),
            give(types.CompletionArgument, argument, camel=self.camel),
            None if chosen is None else give(types.CompletionContext, chosen, camel=self.camel),
        ]
        try:
            found = await self.completer(*given)
        except Exception as error:
            protocol = as_protocol_error(error)
            if protocol is not None:
                raise protocol from error
            log.exception("the completion of %r failed", argument.get("name"))
            raise MCPError(INTERNAL_ERROR, f"Error completing argument {argument.get('name')}") from error
        return {"completion": {"values": []} if found is None else dump_model(found)}


def _refuse_bare(name: str, value: Any) -> None:
    if callable(value):
        raise TypeError(
            f"The @{name} decorator was used incorrectly. Did you forget to call it? Use @{name}() instead of @{name}"
        )


def _own(error: Exception) -> Exception:
    """A ResourceError of ``mcp`` as the one of ours."""
    kind: Any = kind_of(error)
    return error if isinstance(error, kind) else kind(str(error))  # type: ignore[no-any-return]


async def _invoked(plan: Any, arguments: Mapping[str, Any], context: Any) -> Any:
    """Call a plan's function, in a thread where it is to be there."""
    kernel = context._face.kernel
    if plan.in_thread:
        if kernel._loop is not None:
            return await kernel.lanes.call(plan.invoke, (arguments, context))
        return await asyncio.to_thread(plan.invoke, arguments, context)
    value = plan.invoke(arguments, context)
    return await value if inspect.isawaitable(value) else value
