"""What a server offers: found among its providers, shown to lists, called, read and rendered."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from erlmcp.compat.fastmcp.component import newest
from erlmcp.compat.fastmcp.current import CONTEXT, SERVERS
from erlmcp.compat.fastmcp.exceptions import (
    NotFoundError,
    PromptError,
    ResourceError,
    ResourceSecurityError,
    ToolError,
)
from erlmcp.compat.fastmcp.prompts.base import Prompt, PromptResult
from erlmcp.compat.fastmcp.resources.base import Resource, ResourceResult
from erlmcp.compat.fastmcp.resources.template import ResourceSecurity, ResourceTemplate
from erlmcp.compat.fastmcp.schema import dereferenced
from erlmcp.compat.fastmcp.server.context import Context
from erlmcp.compat.fastmcp.server.engine import ServedTool, failed
from erlmcp.compat.fastmcp.server.middleware.middleware import (
    CallToolRequestParams,
    GetPromptRequestParams,
    ListRequest,
    MiddlewareContext,
    ReadResourceRequestParams,
    chain,
)
from erlmcp.compat.fastmcp.server.providers import LISTERS, LocalProvider, MountProvider, Provider, applied, newest_of
from erlmcp.compat.fastmcp.server.transforms.base import Transform, VersionSpec
from erlmcp.compat.fastmcp.thread import in_thread
from erlmcp.compat.fastmcp.tools.base import Tool
from erlmcp.server.app import Server
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.compat.fastmcp.server.server import FastMCP

log = logging.getLogger("erlmcp.compat.fastmcp")
LIST_METHODS = {
    "tool": m.TOOLS_LIST,
    "resource": m.RESOURCES_LIST,
    "template": m.TEMPLATES_LIST,
    "prompt": m.PROMPTS_LIST,
}
CHANGED = {
    "tool": m.TOOLS_CHANGED,
    "resource": m.RESOURCES_CHANGED,
    "template": m.RESOURCES_CHANGED,
    "prompt": m.PROMPTS_CHANGED,
}
_BY_FIELD = {"tools": "tool", "resources": "resource", "resourceTemplates": "template", "prompts": "prompt"}


class Catalog(Server):
    """The half of ``FastMCP`` that looks things up."""

    chain: list[Any]
    resource_security: ResourceSecurity | None
    completion_handler: Callable[..., Any] | None
    on_duplicate: str
    dereference_schemas: bool

    def _begin_catalog(self, on_duplicate: str) -> None:
        self.on_duplicate = on_duplicate
        self.local_provider = LocalProvider(on_duplicate, self.touch)
        self.providers: list[Provider] = [self.local_provider]
        self.transforms: list[Transform] = []
        self._standing: dict[str, list[Any]] = {}
        self._stale = set(LISTERS)
        self._parents: WeakSet[Any] = WeakSet()
        self._has_session_rules = False
        SERVERS.add(self)

    @property
    def _fastmcp(self) -> FastMCP:
        return self  # type: ignore[return-value]

    # -- what there is -------------------------------------------------------------------------------------------------

    @property
    def is_plain(self) -> bool:
        """Whether nothing stands around its components."""
        return not self.chain

    @property
    def stands(self) -> bool:
        """Whether what it offers is the same for every request."""
        return all(each.stands for each in self.providers) and all(each.is_static for each in self.transforms)

    def standing(self, kind: str) -> list[Any]:
        """All that is seen of a kind, where that stands."""
        found = self._standing.get(kind)
        if found is None:
            every = [each for provider in self.providers if provider.stands for each in provider.standing(kind)]
            shown = [applied(self.transforms, each) for each in every] if self.stands else every
            found = self._standing[kind] = [each for each in shown if each is not None and each.is_enabled]
        return found

    async def seen(self, kind: str) -> Sequence[Any]:
        """All that is seen of a kind in the request at hand."""
        rules = self._rules()
        if self.stands and not rules:
            return self.standing(kind)
        found: list[Any] = []
        for provider in self.providers:
            found += await provider.components(kind)
        for transform in self.transforms:
            found = list(await getattr(transform, LISTERS[kind])(found))
        return [made for each in found if (made := applied(rules, each)) is not None and made.is_enabled]

    def _rules(self) -> list[Any]:
        context = CONTEXT.get() if self._has_session_rules else None
        return [] if context is None else context.rules

    def touch(self, kind: str) -> None:
        """Something of a kind changed: what serves is made anew, at once where it serves already."""
        self._standing.pop(kind, None)
        self._stale.add(kind)
        for parent in self._parents:
            parent.touch(kind)
        if self._loop is not None:
            self.settle()

    def touch_all(self) -> None:
        for kind in LISTERS:
            self.touch(kind)
        self.choose_way()

    def has_session_rules(self) -> None:
        """Some conversation sees other things than the rest: from now on lists are made for each request."""
        if not self._has_session_rules:
            self._has_session_rules = True
            self.choose_way()

    def choose_way(self) -> None:
        """The short way, or the general one."""
        versions = any(each.version is not None for kind in LISTERS for each in self.standing(kind))
        is_general = bool(self.chain) or not self.stands or self._has_session_rules or versions
        if is_general is not bool(self.middleware):
            self.middleware[:] = [self.service.through] if is_general else []  # type: ignore[attr-defined]
        self.install()
        for parent in self._parents:
            parent.touch_all()

    # -- what serves ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Bring the tables and lists of the server up to what is offered; who asked is told of what changed."""
        stale, self._stale = self._stale, set()
        if not stale:
            return
        for kind in stale:
            shown = newest(self.standing(kind), lambda each: each.identifier)
            if kind == "tool":
                self._place_tools(shown)
            listing = self._listing(kind)
            descriptors = self._described(shown)
            if listing.descriptors != descriptors or list(listing.descriptors) != list(descriptors):
                for name in list(listing.descriptors):
                    listing.remove(name)
                for name, descriptor in descriptors.items():
                    listing.put(name, descriptor)
                self._changed(CHANGED[kind])
        if any(each.version is not None for kind in stale for each in self.standing(kind)):
            self.choose_way()

    def _listing(self, kind: str) -> Any:
        return {
            "tool": self.tool_list,
            "resource": self.resource_list,
            "template": self.template_list,
            "prompt": self.prompt_list,
        }[kind]

    def _place_tools(self, shown: dict[str, Tool]) -> None:
        for name in [name for name in self.tools if name not in shown]:
            del self.tools[name]
            self._drop_entry(m.TOOLS_CALL, name)
        for name, component in shown.items():
            placed = self.tools.get(name)
            if not (isinstance(placed, ServedTool) and placed.component is component):
                home = component.home() if component.home is not None else None
                self._place_tool(name, ServedTool(self, component, home or self._fastmcp))

    def replace_tools(self) -> None:
        """Make the entries of all tools anew."""
        for name, placed in list(self.tools.items()):
            if isinstance(placed, ServedTool):
                self._place_tool(name, placed.again(self, placed.guard))

    async def descriptors(self, field: str) -> dict[str, dict[str, Any]]:
        """What a list shows in the request at hand, behind the middleware."""
        found = await getattr(self, LISTERS[_BY_FIELD[field]])()
        return self._described(newest(found, lambda each: each.identifier))

    def _described(self, shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Descriptors, their schemas without references where that is wanted."""
        found = {name: each.descriptor() for name, each in shown.items()}
        if self.dereference_schemas:
            for descriptor in found.values():
                for key in ("inputSchema", "outputSchema"):
                    if key in descriptor:
                        descriptor[key] = dereferenced(descriptor[key])
        return found

    # -- lists ---------------------------------------------------------------------------------------------------------

    async def list_tools(self, *, run_middleware: bool = True) -> Sequence[Tool]:
        """All tools that are seen here."""
        return await self._listed("tool", run_middleware)

    async def list_resources(self, *, run_middleware: bool = True) -> Sequence[Resource]:
        return await self._listed("resource", run_middleware)

    async def list_resource_templates(self, *, run_middleware: bool = True) -> Sequence[ResourceTemplate]:
        return await self._listed("template", run_middleware)

    async def list_prompts(self, *, run_middleware: bool = True) -> Sequence[Prompt]:
        return await self._listed("prompt", run_middleware)

    async def _listed(self, kind: str, run_middleware: bool) -> Sequence[Any]:
        with self._within() as context:
            if not (run_middleware and self.chain):
                return list(await self.seen(kind))

            async def innermost(_: MiddlewareContext[Any]) -> Any:
                return list(await self.seen(kind))

            cursor = context._core.params.get("cursor") if context._core is not None else None
            found: Sequence[Any] = await self._around(
                LIST_METHODS[kind], ListRequest(cursor=cursor), innermost, context
            )
            return found

    @contextmanager
    def _within(self) -> Iterator[Context]:
        """The context of this server, in the request at hand where there is one."""
        context = CONTEXT.get()
        if context is not None and context.fastmcp is self:
            yield context
            return
        made = Context(self._fastmcp) if context is None else context.within(self._fastmcp)
        token = CONTEXT.set(made)
        try:
            yield made
        finally:
            CONTEXT.reset(token)

    async def _around(self, method: str, message: Any, innermost: Any, context: Context) -> Any:
        given = MiddlewareContext(message=message, method=method, fastmcp_context=context)
        return await chain(self.chain, innermost)(given)

    # -- one of them ---------------------------------------------------------------------------------------------------

    async def get_tool(self, name: str, version: Any = None) -> Tool | None:
        """The tool that is called by this name, or None; a VersionSpec or a version chooses."""
        found: Tool | None = await self._found("tool", name, version)
        return found

    async def get_resource(self, uri: str, version: Any = None) -> Resource | None:
        found: Resource | None = await self._found("resource", uri, version)
        return found

    async def get_prompt(self, name: str, version: Any = None) -> Prompt | None:
        found: Prompt | None = await self._found("prompt", name, version)
        return found

    async def get_resource_template(self, uri: str, version: Any = None) -> ResourceTemplate | None:
        """The template that a URI is one of, or that has this very text."""
        with self._within():
            for each in await self.seen("template"):
                if each.uri_template == uri or each.matches(uri) is not None:
                    found: ResourceTemplate = each
                    return found
        return None

    async def _found(self, kind: str, identifier: str, version: Any) -> Any:
        with self._within():
            every = [each for each in await self.seen(kind) if each.identifier == identifier]
            best = newest_of([each for each in every if _is_wanted(each.version, version)], None)
            if best is not None or not any(not each.is_static for each in self.transforms):
                return best
            return await self._found_by_transforms(kind, identifier, version)

    async def _found_by_transforms(self, kind: str, identifier: str, version: Any) -> Any:
        """By the transforms of one's own, which may know what they do not list."""

        async def look(name: str, *, version: Any = None) -> Any:
            found = [each for provider in self.providers for each in await provider.components(kind)]
            named = [each for each in found if each.identifier == name and each.is_enabled]
            return newest_of([each for each in named if _is_wanted(each.version, version)], None)

        call_next: Any = look
        for transform in self.transforms:
            call_next = partial(getattr(transform, f"get_{kind}"), call_next=call_next)
        found = await call_next(identifier, version=version)
        return found if found is not None and found.is_enabled else None

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def call_tool(
        self, name: str, arguments: dict[str, Any] | None = None, *, version: Any = None, run_middleware: bool = True
    ) -> Any:
        """A ToolResult. Raises NotFoundError, ToolError, ValidationError."""
        with self._within() as context:
            if not (run_middleware and self.chain):
                return await self._call(name, arguments or {}, version)

            async def innermost(given: MiddlewareContext[Any]) -> Any:
                return await self._call(given.message.name, given.message.arguments or {}, version)

            message = CallToolRequestParams(name=name, arguments=arguments or {}, meta=_meta(context))
            return await self._around(m.TOOLS_CALL, message, innermost, context)

    async def _call(self, name: str, arguments: dict[str, Any], version: Any) -> Any:
        tool = await self.get_tool(name, version)
        if tool is None:
            raise NotFoundError(f"Unknown tool: {name!r}")
        home = tool.home() if tool.home is not None and tool.owner is None else None
        try:
            with (home or self)._within():
                return await tool._run(arguments)
        except Exception as error:
            shown = name if home is None or home is self else tool.own_name
            found = failed(f"Error calling tool {shown!r}", error, self.mask_errors, ToolError)
            if found is error:
                raise
            log.error("Error calling tool %r", name, exc_info=error)
            raise found from error

    async def read_resource(self, uri: Any, *, version: Any = None, run_middleware: bool = True) -> ResourceResult:
        """A ResourceResult. Raises NotFoundError, ResourceError."""
        with self._within() as context:
            if not (run_middleware and self.chain):
                return await self._read(str(uri), version)

            async def innermost(given: MiddlewareContext[Any]) -> Any:
                return await self._read(str(given.message.uri), version)

            message = ReadResourceRequestParams(uri=str(uri), meta=_meta(context))
            found: ResourceResult = await self._around(m.RESOURCES_READ, message, innermost, context)
            return found

    async def _read(self, uri: str, version: Any) -> ResourceResult:
        resource = await self.get_resource(uri, version)
        template = None if resource is not None else await self.get_resource_template(uri, version)
        component: Any = resource or template
        if component is None:
            raise NotFoundError(f"Unknown resource: {uri!r}")
        variables = None if template is None else template.matches(uri)
        if template is not None:
            security = template.resolve_security(self.resource_security)
            if variables is None or (security is not None and security.validate(variables) is not None):
                raise ResourceSecurityError(f"Unknown resource: {uri!r}")
        home = component.home() if component.home is not None and component.owner is None else None
        try:
            with (home or self)._within():
                read = component._read() if template is None else component._read(uri, variables)
                found: ResourceResult = await read
                return found
        except Exception as error:
            own = component.own_name if template is None else template.own_uri(uri)
            shown = uri if home is None or home is self else own
            found_error = failed(f"Error reading resource {shown!r}", error, self.mask_errors, ResourceError)
            if found_error is error:
                raise
            log.error("Error reading resource %r", uri, exc_info=error)
            raise found_error from error

    async def render_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, *, version: Any = None, run_middleware: bool = True
    ) -> PromptResult:
        """A PromptResult. Raises NotFoundError, PromptError."""
        with self._within() as context:
            if not (run_middleware and self.chain):
                return await self._render(name, arguments, version)

            async def innermost(given: MiddlewareContext[Any]) -> Any:
                return await self._render(given.message.name, given.message.arguments, version)

            message = GetPromptRequestParams(name=name, arguments=arguments, meta=_meta(context))
            found: PromptResult = await self._around(m.PROMPTS_GET, message, innermost, context)
            return found

    async def _render(self, name: str, arguments: dict[str, Any] | None, version: Any) -> PromptResult:
        prompt = await self.get_prompt(name, version)
        if prompt is None:
            raise NotFoundError(f"Unknown prompt: {name!r}")
        home = prompt.home() if prompt.home is not None and prompt.owner is None else None
        try:
            with (home or self)._within():
                return await prompt._render(arguments)
        except Exception as error:
            shown = name if home is None or home is self else prompt.own_name
            found = failed(f"Error rendering prompt {shown!r}", error, self.mask_errors, PromptError)
            if found is error:
                raise
            log.error("Error rendering prompt %r", name, exc_info=error)
            raise found from error

    async def complete(self, params: dict[str, Any]) -> dict[str, Any]:
        """The Completion of the one handler."""
        from erlmcp.compat.fastmcp.server.completion import completion_of, given_of

        handler: Any = self.completion_handler
        given: Any = given_of(params)
        if inspect.iscoroutinefunction(handler):
            return completion_of(await handler(*given))
        value = await in_thread(handler, *given)
        return completion_of(await value if inspect.isawaitable(value) else value)


def _is_wanted(version: str | None, wanted: Any) -> bool:
    if wanted is None:
        return True
    spec = wanted if isinstance(wanted, VersionSpec) else VersionSpec(eq=str(wanted))
    return spec.matches(version, match_none=wanted is None)


def _meta(context: Context) -> dict[str, Any] | None:
    return None if context._core is None else context._core.meta


def mounted(parent: Catalog, child: Catalog, provider: MountProvider) -> None:
    """Let a server that is mounted tell the one it is mounted in of what changes."""
    child._parents.add(parent)
    parent.providers.append(provider)
    parent.touch_all()
