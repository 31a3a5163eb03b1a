"""The server: what an author registers, and the ways to serve it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from erlmcp import core
from erlmcp.errors import ConfigurationError
from erlmcp.flags import Flags
from erlmcp.limits import Limits
from erlmcp.metrics.recorder import Recorder
from erlmcp.runtime.executor import Done, Executor
from erlmcp.runtime.lane import ThreadLanes
from erlmcp.runtime.load import admission_of
from erlmcp.runtime.quick import Stride, make_stride
from erlmcp.runtime.scheduler import Scheduler
from erlmcp.runtime.subscription import Hub
from erlmcp.runtime.timers import Timers
from erlmcp.runtime.turn import Turn
from erlmcp.server.agenda import Agenda
from erlmcp.server.content import dump_model
from erlmcp.server.context import Context, is_context
from erlmcp.server.door import Doors, make_keeper
from erlmcp.server.guarding import Guarding
from erlmcp.server.listing import Listing
from erlmcp.server.observe import Board, read_token, wants_metrics
from erlmcp.server.plan import ToolPlan, compile_tool
from erlmcp.server.prompt import PromptPlan, compile_prompt
from erlmcp.server.resource import ResourcePlan, compile_resource
from erlmcp.server.roster import Roster
from erlmcp.server.service import Service
from erlmcp.server.stopped import STOPPED, not_running
from erlmcp.server.switch import Switched
from erlmcp.server.tool import Tool
from erlmcp.spec import method as m
from erlmcp.spec.descriptor import fit_other, fit_tool

if TYPE_CHECKING:
    from erlmcp.auth.rule import Auth
    from erlmcp.policy.protection import Guards
    from erlmcp.policy.timeouts import TimeoutRule

F = TypeVar("F", bound=Callable[..., Any])
Middleware = Callable[[Context, Callable[[Context], Awaitable[Any]]], Awaitable[Any]]
Lifespan = Callable[["Server"], AbstractAsyncContextManager[Any]]


def read_secret(given: bytes | str | None) -> bytes:
    """With what states are sealed: what was given, that of the environment, or one that ends with the process."""
    found = given or os.environ.get("ERLMCP_STATE_SECRET")
    secret = found.encode() if isinstance(found, str) else found
    return secret or secrets.token_bytes(32)


class Server(Doors, Agenda, Roster, Switched):
    """An MCP server of both eras.

    ``name``, ``version``, ``title``, ``description``, ``website_url`` and ``icons`` are its Implementation;
    ``instructions`` are for the client's model. ``lifespan(server)`` is an async context manager around serving; its
    value is ``ctx.lifespan``. ``middleware`` are ``async (ctx, call_next)`` functions around every request, outermost
    first. ``mask_errors`` hides the text of unexpected exceptions from clients. ``page_size`` splits lists.
    ``cache_ttl_ms`` and ``cache_scope`` are the caching hints of 2026-07-28. ``state_secret`` signs the requestState of
    multi-round requests: give the same to all processes behind one address. ``event_store`` lets legacy HTTP clients
    resume streams. ``guards`` protect each tool that does not say otherwise (docs/protection.md). ``allowed_hosts`` and
    ``allowed_origins`` extend what is let in over HTTP (docs/security.md). ``admission`` moves the limit of calls in
    flight: "gradient", "aimd" or "fixed" (docs/execution.md). ``metrics=False`` records and shows nothing;
    ``metrics_token`` is what who wants to see them must bring: the only way where the address is not local
    (docs/metrics.md). ``auth`` lets in over HTTP only who shows an access token that it takes (docs/security.md).
    """

    service_class: type[Service] = Service
    client_requests = m.CLIENT_REQUESTS

    def __init__(
        self,
        name: str,
        *,
        version: str = "0",
        title: str | None = None,
        description: str | None = None,
        instructions: str | None = None,
        website_url: str | None = None,
        icons: Any = None,
        lifespan: Lifespan | None = None,
        middleware: Iterable[Middleware] = (),
        limits: Limits | None = None,
        flags: Flags | None = None,
        guards: Guards | None = None,
        mask_errors: bool = True,
        page_size: int | None = None,
        cache_ttl_ms: int = 0,
        cache_scope: str = "private",
        state_secret: bytes | str | None = None,
        event_store: bool = True,
        sse_transport: bool = False,
        allowed_hosts: Iterable[str] | None = None,
        allowed_origins: Iterable[str] | None = None,
        admission: str = "gradient",
        metrics: bool | None = None,
        metrics_token: str | None = None,
        auth: Auth | None = None,
    ) -> None:
        if cache_scope not in ("public", "private"):
            raise ConfigurationError(f"cache_scope must be 'public' or 'private', got {cache_scope!r}")
        if page_size is not None and page_size < 1:
            raise ConfigurationError(f"page_size must be at least 1, got {page_size}")
        self.name = name
        self.version = version
        self.instructions = instructions
        info = {
            "name": name,
            "version": version,
            "title": title,
            "description": description,
            "websiteUrl": website_url,
            "icons": dump_model(icons),
        }
        self.info: dict[str, Any] = {key: value for key, value in info.items() if value is not None}
        self.limits = limits or Limits.load()
        self.mask_errors = mask_errors
        self.cache_ttl_ms = max(0, cache_ttl_ms)
        self.cache_scope = cache_scope
        self.event_store = event_store
        self.sse_transport = sse_transport
        self.admission = admission_of(admission)
        self.allowed_hosts, self.allowed_origins = tuple(allowed_hosts or ()), tuple(allowed_origins or ())
        self.metrics_token = read_token(metrics_token)
        self.state_secret = read_secret(state_secret)
        self.lifespan_value: Any = None
        self.middleware: list[Middleware] = list(middleware)
        stamp = {"resultType": "complete", "_meta": {"io.modelcontextprotocol/serverInfo": self.info}}
        self.modern_suffix = b"," + core.encode(stamp)[1:-1]
        self._lifespan = lifespan
        self._make_tables(page_size)
        self._make_rolls()
        self.guarding = Guarding(guards, self.tools)
        self.board = Board(self)
        self.metrics = self.board.recorder
        self.recorder: Recorder | None = self.metrics if wants_metrics(metrics) else None
        self.keeper = make_keeper(self, auth)
        self.service = self.service_class(self)
        self._begin_flags(flags)

    def _make_tables(self, page_size: int | None) -> None:
        self.routes = self.stack.Routes()
        self.hub = Hub(self.limits.subscription_count_max)
        self.tools: dict[str, Tool] = {}
        self.prompts: dict[str, PromptPlan] = {}
        self.resources: dict[str, ResourcePlan] = {}
        self.templates: dict[str, ResourcePlan] = {}
        self.completions: dict[tuple[str, str | None], Callable[..., Any]] = {}
        self.tool_list = Listing("tools", fit_tool, page_size)
        self.prompt_list = Listing("prompts", fit_other, page_size)
        self.resource_list = Listing("resources", fit_other, page_size)
        self.template_list = Listing("resourceTemplates", fit_other, page_size)
        self._users = 0
        self._lock: tuple[Any, asyncio.Lock] = (None, asyncio.Lock())  # of this loop
        self._starting: tuple[asyncio.Task[Any] | None, ...] = ()
        self._running: contextlib.AsyncExitStack | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.executor: Executor = STOPPED
        self.lanes: ThreadLanes = STOPPED
        self.timers: Timers = STOPPED
        self.scheduler = Scheduler(int(self.limits.job_count_max), int(self.limits.job_running_max))
        self.turn: Turn = STOPPED
        self.quick_route: object = None
        self.stride: Stride | None = None

    # -- registration --------------------------------------------------------------------------------------------------

    @overload
    def tool(self, fn: F, /) -> F: ...
    @overload
    def tool(self, fn: None = None, /, **options: Any) -> Callable[[F], F]: ...
    def tool(self, fn: Any = None, /, **options: Any) -> Any:
        """Register a function as a tool: ``@server.tool``, or ``@server.tool(name=..., ...)``.

        Options: name, title, description, annotations, icons, meta, input_schema, output_schema, structured_output,
        tags, priority ("critical", "normal" or "bulk"), timeout (seconds, or "adaptive"), guards and fallback
        (docs/protection.md), run_in_thread, strict. Raises
        ConfigurationError, naming the tool, for what cannot be served.
        """
        return self._decorate(self.add_tool, fn, options)

    def add_tool(
        self,
        fn: Callable[..., Any],
        *,
        timeout: float | str | TimeoutRule | None = None,
        guards: Guards | None = None,
        fallback: Callable[..., Any] | None = None,
        **options: Any,
    ) -> ToolPlan:
        """Register a tool; see ``tool``. Clients that asked are told that the list changed."""
        guards, timeout_s = self.guarding.timed(guards, timeout)
        plan = self._compile(fn, timeout=timeout_s, **options)
        if plan.name in self.tools:
            raise ConfigurationError(
                f"tool {plan.name!r} is registered already; remove_tool first, or name it otherwise"
            )
        self._place_tool(plan.name, Tool(self, plan, self.guarding.make(plan.name, guards, fallback, self.flags)))
        self.tool_list.put(plan.name, plan.descriptor)
        self._changed(m.TOOLS_CHANGED)
        return plan

    def _compile(self, fn: Callable[..., Any], *, timeout: float | None = None, **options: Any) -> ToolPlan:
        return compile_tool(fn, timeout_s=timeout, is_context=is_context, run_sync=self.in_thread, **options)

    def remove_tool(self, name: str) -> None:
        """Raises KeyError where there is no such tool. Calls in flight end as they would have."""
        del self.tools[name]
        self.tool_list.remove(name)
        self._drop_entry(m.TOOLS_CALL, name)
        self._changed(m.TOOLS_CHANGED)

    def resource(self, uri: str, /, **options: Any) -> Callable[[F], F]:
        """Register a function as a resource, or as a template where the URI has RFC 6570 expressions.

        Options: name, title, description, mime_type, icons, annotations, size, meta, tags, static (it is read once, and
        again after ``resource_updated``).
        """

        def register(fn: F) -> F:
            self.add_resource(fn, uri, **options)
            return fn

        return register

    def add_resource(self, fn: Callable[..., Any], uri: str, **options: Any) -> ResourcePlan:
        plan = compile_resource(fn, uri, is_context=is_context, run_sync=self.in_thread, **options)
        known, listing = (
            (self.templates, self.template_list) if plan.is_template else (self.resources, self.resource_list)
        )
        if uri in known:
            raise ConfigurationError(f"resource {uri!r} is registered already; remove_resource first")
        known[uri] = plan
        listing.put(uri, plan.descriptor)
        self._changed(m.RESOURCES_CHANGED)
        return plan

    def remove_resource(self, uri: str) -> None:
        """Of a resource or a template; raises KeyError where there is none."""
        known, listing = (
            (self.templates, self.template_list) if uri in self.templates else (self.resources, self.resource_list)
        )
        del known[uri]
        listing.remove(uri)
        self._changed(m.RESOURCES_CHANGED)

    @overload
    def prompt(self, fn: F, /) -> F: ...
    @overload
    def prompt(self, fn: None = None, /, **options: Any) -> Callable[[F], F]: ...
    def prompt(self, fn: Any = None, /, **options: Any) -> Any:
        """Register a function as a prompt. Options: name, title, description, icons, meta, tags."""
        return self._decorate(self.add_prompt, fn, options)

    def add_prompt(self, fn: Callable[..., Any], **options: Any) -> PromptPlan:
        plan = compile_prompt(fn, is_context=is_context, run_sync=self.in_thread, **options)
        if plan.name in self.prompts:
            raise ConfigurationError(f"prompt {plan.name!r} is registered already; remove_prompt first")
        self._place_prompt(plan.name, plan)
        self.prompt_list.put(plan.name, plan.descriptor)
        self._changed(m.PROMPTS_CHANGED)
        return plan

    def remove_prompt(self, name: str) -> None:
        del self.prompts[name]
        self.prompt_list.remove(name)
        self._drop_entry(m.PROMPTS_GET, name)
        self._changed(m.PROMPTS_CHANGED)

    def completion(
        self, *, prompt: str | None = None, resource: str | None = None, argument: str | None = None
    ) -> Callable[[F], F]:
        """Register ``fn(value, context_arguments) -> values`` for an argument of a prompt or a variable of a resource
        template (for all of them where ``argument`` is None)."""
        target = prompt if resource is None else resource
        if target is None or (prompt is not None and resource is not None):
            raise ConfigurationError("completion needs either prompt= (a name) or resource= (a URI template)")

        def register(fn: F) -> F:
            self.completions[target, argument] = fn
            return fn

        return register

    def add_middleware(self, middleware: Middleware) -> None:
        """Add a middleware inside those that are there."""
        self.middleware.append(middleware)
        self.install()

    def _place_tool(self, name: str, tool: Tool) -> None:
        self.tools[name] = tool
        self._set_entry(m.TOOLS_CALL, name, tool)

    def _place_prompt(self, name: str, plan: PromptPlan) -> None:
        self.prompts[name] = plan
        self._set_entry(m.PROMPTS_GET, name, plan)

    @staticmethod
    def _decorate(add: Callable[..., Any], fn: Any, options: dict[str, Any]) -> Any:
        if fn is not None and not callable(fn):
            raise ConfigurationError(f"use the decorator as @server.tool or @server.tool(name={fn!r})")

        def register(fn: Any) -> Any:
            add(fn, **options)
            return fn

        return register if fn is None else register(fn)

    def resource_updated(self, uri: str) -> None:
        """The contents of a resource changed: tell those who subscribed to it, and read it anew where it is static."""
        plan = self.resources.get(uri)
        if plan is not None:
            plan.kept = {}
        self._changed(m.RESOURCE_UPDATED, uri)

    def _changed(self, method: str, uri: str | None = None) -> None:
        if self._loop is None:
            return
        try:
            is_here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_here = False
        if is_here:
            self.hub.publish(method, uri)
        else:  # A tool in a thread lane changed the lists.
            self._loop.call_soon_threadsafe(self.hub.publish, method, uri)

    # -- what it offers ------------------------------------------------------------------------------------------------

    def tool_names(self) -> list[str]:
        return list(self.tools)

    @property
    def has_resources(self) -> bool:
        return bool(self.resources or self.templates)

    @property
    def has_prompts(self) -> bool:
        return bool(self.prompts)

    def capabilities(self, version: str) -> dict[str, Any]:
        """The ServerCapabilities of a revision: what is registered, and what can change."""
        found: dict[str, Any] = {"logging": {}, "tools": {"listChanged": True}}
        if self.has_prompts:
            found["prompts"] = {"listChanged": True}
        if self.has_resources:
            found["resources"] = {"listChanged": True, "subscribe": True}
        if self.completions and version >= "2025-03-26":
            found["completions"] = {}
        return found

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """The descriptors of everything registered."""
        return {
            "tools": list(self.tool_list.descriptors.values()),
            "resources": list(self.resource_list.descriptors.values()),
            "resourceTemplates": list(self.template_list.descriptors.values()),
            "prompts": list(self.prompt_list.descriptors.values()),
        }

    # -- running -------------------------------------------------------------------------------------------------------

    @property
    def overload(self) -> int:
        """How far it is from keeping up: 0 (it keeps up) to 3 (it refuses calls)."""
        return self.turn.load.level

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise not_running()
        return self._loop

    async def start(self) -> None:
        """Enter the lifespan. Every ``start`` is to be matched by a ``stop``; only the first and the last do
        something."""
        if asyncio.current_task() in self._starting:  # The lifespan uses the server that it belongs to.
            self._users += 1
            return
        async with self._turn():
            if self._users == 0:
                self._starting = (asyncio.current_task(),)
                try:
                    await self._open()
                finally:
                    self._starting = ()
            self._users += 1

    def _turn(self) -> asyncio.Lock:
        """Starts and stops take turns."""
        loop = asyncio.get_running_loop()
        if self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        return self._lock[1]

    async def _open(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.executor = Executor(loop)
        self.timers = Timers(loop)
        if self.recorder is not None:
            self.recorder.start(loop)
        self.stride = make_stride(self)
        self.turn = Turn(self)
        threads, queue, idle_s = (self.limits.thread_count_max, self.limits.thread_queue_max, self.limits.thread_idle_s)
        self.lanes = ThreadLanes(loop, int(threads), int(queue), self, idle_s=idle_s)
        self._running = contextlib.AsyncExitStack()
        try:
            if self._lifespan is not None:
                self.lifespan_value = await self._running.enter_async_context(self._lifespan(self))
            self.scheduler.start(self.timers, self.drive, self.lanes)
            await self._running.enter_async_context(self._controlled())
            await self._running.enter_async_context(self.board.shown_apart())
        except BaseException:
            await self._running.aclose()
            self._close()
            raise

    async def stop(self) -> None:
        """Leave the lifespan when the last user stops; handlers that still run are cancelled first."""
        if asyncio.current_task() in self._starting:
            self._users -= 1
            return
        async with self._turn():
            self._users = max(0, self._users - 1)
            if self._users == 0 and self._running is not None:
                try:
                    await self._stop_handlers()
                finally:
                    stack, self._running = self._running, None
                    try:
                        await stack.aclose()
                    finally:
                        self._close()

    async def _stop_handlers(self) -> None:
        self.scheduler.stop()
        self.hub.close()
        if running := list(self.executor.running):
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=self.limits.drain_timeout_s)

    def _close(self) -> None:
        if self.recorder is not None:
            self.recorder.stop()
        if self.keeper is not None:
            self.keeper.close()
        self.executor.close()
        self.lanes.close()
        self.timers.close()
        self.turn.load.close()
        self.executor = self.lanes = self.timers = self.turn = STOPPED
        self._loop = self._running = self.stride = self.lifespan_value = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        """``start`` and ``stop`` as a context."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    def drive(self, coro: Coroutine[Any, Any, Any], done: Done) -> asyncio.Task[None] | None:
        """Run a handler: to its first wait at once, or (``async_execution`` off) in a task of its own."""
        if self.flags.async_execution:
            return self.executor.start(coro, done)
        return self.executor.spawn(coro, done)

    async def in_thread(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a function in a thread lane and wait for it."""
        return await self.lanes.call(partial(fn, **kwargs) if kwargs else fn, args)
