"""The gateway: a server whose methods are answered by other servers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from erlmcp.errors import ConfigurationError, McpError
from erlmcp.gateway.access import NOBODY, Access, Caller
from erlmcp.gateway.audit import Audit
from erlmcp.gateway.cache import Answers
from erlmcp.gateway.canary import Canary
from erlmcp.gateway.config import Credential, GatewayConfig, UpstreamConfig
from erlmcp.gateway.follow import Followers, GatewayHub
from erlmcp.gateway.gauging import add_gauges
from erlmcp.gateway.line import Line, log_level_of, voice_of
from erlmcp.gateway.mount import TOOL
from erlmcp.gateway.mounts import Mounts
from erlmcp.gateway.service import GatewayService
from erlmcp.gateway.status import status_of
from erlmcp.gateway.upstream import Upstream
from erlmcp.limits import Limits
from erlmcp.server.app import Server
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.flags import Flags, Traced
    from erlmcp.gateway.reload import Watcher
    from erlmcp.runtime.endpoint import Endpoint
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.session import Session
    from erlmcp.wire.header import Gate

log = logging.getLogger("erlmcp.gateway")


class Gateway(Server):
    """Serves what the upstreams of ``config`` offer, as one server. It is served as any other: ``run_http``,
    ``run_stdio``, ``erlmcp.gateway.serve.http``. What it offers comes from its upstreams alone; to add a tool of your
    own, put a ``Server`` object behind it: ``UpstreamConfig("own", "server", target=server)``.

    ``load_server`` turns the ``target`` of an upstream of this process into a Server where it is no Server yet.
    ``watcher`` reads the files again when they change, and at SIGHUP.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        limits: Limits | None = None,
        flags: Flags | None = None,
        load_server: Callable[[str], Any] | None = None,
        watcher: Watcher | None = None,
        **options: Any,
    ) -> None:
        if "auth" in options:
            raise ConfigurationError("a gateway asks for the tokens of its configuration: GatewayConfig(oauth=...)")
        self.config = config
        limits = limits or Limits.load(**config.limits)
        self.access = Access(config, limits)
        self.upstreams: dict[str, Upstream] = {}
        self._of_callers: dict[tuple[str, str], Upstream] = {}  # (upstream, caller) with credentials of their own
        self.audit: Audit | None = None
        self.doors: set[Any] = set()  # the endpoints that are open
        self._watcher = watcher
        super().__init__(
            config.name,
            limits=limits,
            flags=flags,
            lifespan=self._life,
            allowed_hosts=config.allowed_hosts,
            allowed_origins=config.allowed_origins,
            **options,
        )
        self._load_server = load_server
        self._servers: dict[Any, Any] = {}
        self._closings: set[asyncio.Task[None]] = set()
        self.hub = GatewayHub(self, self.limits.subscription_count_max)
        self.followers = Followers(self)
        self.answers = Answers()
        self.mounts = Mounts(self.routes, config.collision)
        self.service: GatewayService = GatewayService(self)
        self.service.install()
        self.quick_route = None
        add_gauges(self, self.metrics)

    def add_tool(self, fn: Callable[..., Any], **options: Any) -> Any:
        raise ConfigurationError("a gateway has no tools of its own; put a Server with them behind it")

    def add_prompt(self, fn: Callable[..., Any], **options: Any) -> Any:
        raise ConfigurationError("a gateway has no prompts of its own; put a Server with them behind it")

    def add_resource(self, fn: Callable[..., Any], uri: str, **options: Any) -> Any:
        raise ConfigurationError("a gateway has no resources of its own; put a Server with them behind it")

    def capabilities(self, version: str) -> dict[str, Any]:
        """All that can be handed through; what an upstream that is not up yet will offer is not known."""
        found: dict[str, Any] = {
            "tools": {"listChanged": True},
            "prompts": {"listChanged": True},
            "resources": {"listChanged": True, "subscribe": True},
            "logging": {},
        }
        if version >= "2025-03-26":
            found["completions"] = {}
        return {**found, **self.service.tasks.offered(version)}

    def tool_names(self) -> list[str]:
        return list(self.mounts.tables[TOOL])

    @property
    def has_resources(self) -> bool:
        return True

    @property
    def has_prompts(self) -> bool:
        return True

    def make_endpoint(self, gate: Gate) -> Endpoint:
        """One that looks at keys and tokens."""
        from erlmcp.gateway.serve import Door

        return Door(self, gate, event_store=self.event_store)

    # -- life ----------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _life(self, _server: Server) -> AsyncIterator[None]:
        """Start the upstreams side by side, and wait until each was up or down once, at most ``start_timeout_s``."""
        config = self.config
        try:
            if config.audit is not None:
                self.audit = Audit(config.audit, with_arguments=config.audit_arguments)
            for each in config.upstreams:
                self.upstreams[each.name] = self._make(each)
            self.service.install_lists()
            eager = [each for each in self.upstreams.values() if not each.config.lazy]
            await self._start(eager)
            self._introduce()
            if self._watcher is not None:
                self._watcher.start(self)
            yield
        finally:
            if self._watcher is not None:
                self._watcher.stop()
            self.access.close()
            self.service.rounds.close()
            self.service.reads.clear()
            self.service.tasks.clear()
            await asyncio.gather(*(each.aclose() for each in self.everybody()), *self._closings)
            self.upstreams.clear()
            self._of_callers.clear()
            self.answers.clear()
            self.mounts.rebuild([])
            if self.audit is not None:
                self.audit.close()
                self.audit = None

    def _make(self, config: UpstreamConfig) -> Upstream:
        made = Upstream(config, self)
        if config.canary is not None:
            Canary(made, config.canary, self)
        return made

    async def _start(self, upstreams: list[Upstream]) -> None:
        for each in upstreams:
            each.start()
        await asyncio.gather(*(each.judged(self.config.start_timeout_s) for each in upstreams))

    @property
    def has_idle(self) -> bool:
        """Whether an upstream waits to be asked for, or was, and is not known to be up or down yet."""
        return any(each.is_awaited for each in self.upstreams.values())

    async def start_idle(self) -> None:
        await self._start([each for each in self.upstreams.values() if each.is_awaited])
        self.service.install_lists()

    def _introduce(self) -> None:
        """What the gateway says of how to use it: the operator's words, else those of the upstreams."""
        said = [
            each.instructions if len(self.upstreams) == 1 else f"# {each.name}\n{each.instructions}"
            for each in self.upstreams.values()
            if each.instructions
        ]
        self.instructions = self.config.instructions or "\n\n".join(said) or None

    def rebuild(self) -> None:
        """An upstream offers other things than before."""
        for method in self.mounts.rebuild(self.upstreams.values()):
            self.hub.publish(method)
        self._introduce()

    def _use(self, traced: Traced) -> None:
        super()._use(traced)
        for upstream in self.everybody():
            upstream.use_flags(traced.flags)

    def everybody(self) -> list[Upstream]:
        """The upstreams, and those of callers with credentials of their own."""
        return [*self.upstreams.values(), *self._of_callers.values()]

    def known_upstreams(self) -> list[Upstream]:
        """All of them, with the versions on trial."""
        everybody = self.everybody()
        trials = [each.trial for each in everybody if each.trial is not None]
        return everybody + [trial.new for trial in trials]

    # -- reloading -----------------------------------------------------------------------------------------------------

    def reload(self, config: GatewayConfig) -> list[str]:
        """Become what another configuration says; calls in flight end as they would have. The names of the upstreams
        that were added, changed or removed. What a listener is bound to (host, port, path) stays as it is."""
        wanted = {each.name: each for each in config.upstreams}
        touched = [name for name, each in self.upstreams.items() if wanted.get(name) != each.config]
        touched += [name for name in wanted if name not in self.upstreams]
        old_upstreams = self.upstreams
        access = Access(config, self.limits)  # before anything is changed: this may be impossible, or one of those
        upstreams = {
            name: old_upstreams[name] if name not in touched else self._make(each) for name, each in wanted.items()
        }
        credentials = {key.name: key.credentials for key in config.keys}
        of_callers = [
            self._of_callers.pop((name, caller))
            for name, caller in list(self._of_callers)
            if name in touched or credentials.get(caller, {}).get(name) != self.credential_of(caller, name)
        ]
        access.succeed(self.access)
        self.config, self.access = config, access
        self.mounts.collision = config.collision
        self.upstreams = upstreams
        for name, upstream in old_upstreams.items():
            if name in touched:
                self._replace(upstream, self.upstreams.get(name))
        for upstream in of_callers:
            if upstream.as_whom in credentials and upstream.name in self.upstreams:
                self.followers.move(upstream, self._of_caller(self.upstreams[upstream.name], upstream.as_whom))
            self._retire(upstream)
        for upstream in self.upstreams.values():
            if not upstream.config.lazy:
                upstream.start()
        for door in self.doors:
            door.renew()
        self.service.install_lists()
        self.rebuild()
        return touched

    def _replace(self, old: Upstream, new: Upstream | None) -> None:
        """Until the new one is up its lists are those of the old one, so that nothing vanishes for a moment."""
        if new is not None:
            new.catalog, new.is_modern = old.catalog, old.is_modern
            self.followers.move(old, new)
        self._retire(old)

    def _retire(self, upstream: Upstream) -> None:
        """Close it once the calls on it have ended, or ``drain_timeout_s`` has passed."""
        task = asyncio.get_running_loop().create_task(upstream.drain(self.limits.drain_timeout_s))
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    # -- what the service asks for -------------------------------------------------------------------------------------

    def credential_of(self, caller: str, upstream: str) -> Credential | None:
        """With what a caller's calls to an upstream are made; None for the upstream's own."""
        for key in self.config.keys:
            if caller and key.name == caller:
                return key.credentials.get(upstream)
        return None

    def upstream_for(self, upstream: Upstream, caller: Caller) -> Upstream:
        """The lines that a caller's calls go on: those of its credential, and nobody else's."""
        if caller is NOBODY or caller.config is None or upstream.name not in caller.config.credentials:
            return upstream
        return self._of_caller(upstream, caller.name)

    def _of_caller(self, upstream: Upstream, caller: str) -> Upstream:
        """As ``upstream_for``, of the caller whose key has this name."""
        if self.credential_of(caller, upstream.name) is None:
            return upstream
        place = upstream.name, caller
        found = self._of_callers.get(place)
        if found is None:
            found = self._of_callers[place] = Upstream(upstream.config, self, as_whom=caller)
        return found

    async def first_line(self, upstream: Upstream, caller: Caller, call: Call) -> Line:
        """A shared line of an upstream, or of what took its place while it was waited for. Raises McpError where it is
        down."""
        while True:
            found = self.upstream_for(upstream, caller)
            try:
                return found.quick(call) or await found.shared()
            except McpError:
                now = self.upstreams.get(upstream.name)
                if now is None or self.upstream_for(now, caller) is found:
                    raise
                upstream = now

    def server_of(self, config: UpstreamConfig) -> Any:
        """The Server of an upstream of this process."""
        target = config.target
        if not isinstance(target, str):
            return target
        if target not in self._servers:
            if self._load_server is None:
                raise ConfigurationError(f"{config.name}: {target} cannot be loaded here; give the Server itself")
            self._servers[target] = self._load_server(target)
        return self._servers[target]

    async def line_for(
        self, exchange: Exchange, upstream: Upstream, first: Line, may_share: Callable[[Exchange, Line], bool]
    ) -> tuple[Line, float | None]:
        """The line of a request, and how long its answer may take where a client may be asked meanwhile."""
        if may_share(exchange, first):
            return first, None
        peer, session = exchange.peer, exchange.session
        voice = voice_of(peer, log_level_of(peer, session.log_level))
        wait_s = max(self.limits.request_timeout_s, upstream.config.timeout_s)
        if not peer.modern:
            return await upstream.owned(session, voice), wait_s
        if upstream.is_http and not first.is_modern:
            return await upstream.spoken(voice), wait_s
        return await upstream.lend(voice), wait_s

    def session_ended(self, session: Session) -> None:
        self.followers.leave(session)
        self.service.tasks.leave(session)
        for upstream in self.everybody():
            upstream.release(session)

    async def set_level(self, session: Session, level: str | None) -> None:
        """Tell the upstreams that a session has a line of its own to."""
        for upstream in self.everybody():
            line = upstream.line_of(session)
            if line is not None and level is not None and "logging" in line.conversation.capabilities:
                line.tell_level(level)

    def upstream_updated(self, line: Line, uri: str) -> None:
        uri = line.upstream.config.uri_prefix + uri
        self.answers.drop(line.upstream.place, uri)
        session = line.session
        if session is None:
            self.hub.publish(m.RESOURCE_UPDATED, uri)
        elif session.standalone is not None and uri in (session.resources or ()):
            session.standalone.notify(m.RESOURCE_UPDATED, {"uri": uri})

    def control_words(self) -> dict[str, Any]:
        return {"gateway/status": lambda _params: {"upstreams": self.status()}}

    def status(self) -> list[dict[str, Any]]:
        """Of each upstream: its state, why, when it is tried again, and what it offers."""
        return [status_of(each) for each in self.upstreams.values()]


def gateway_of(servers: Mapping[str, Any], **options: Any) -> Gateway:
    """A gateway of Server objects and ``UpstreamConfig`` records, by name; names are prefixed with theirs."""
    made = [
        each if isinstance(each, UpstreamConfig) else UpstreamConfig(name, "server", target=each, prefix=f"{name}_")
        for name, each in servers.items()
    ]
    return Gateway(GatewayConfig(tuple(made)), **options)
