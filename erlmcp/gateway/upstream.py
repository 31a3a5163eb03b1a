"""One server behind the gateway: kept alive, its lines lent to calls, its lists known.

States: ``idle`` (lazy, not asked for yet), ``starting``, ``up``, ``down`` (with why, and when it is tried again) and
``stopped``. Each instance has a task that opens its shared line, watches it, and opens another after a wait that
doubles up to ``restart_max_s``. What one upstream does never blocks another: nothing here is waited for but by its own
callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from erlmcp.client.bound import ClientLimits
from erlmcp.client.subscription import Subscription
from erlmcp.errors import SERVER_BUSY, ErlmcpError, McpError
from erlmcp.gateway.config import Credential, UpstreamConfig, hidden, secrets_of
from erlmcp.gateway.guarding import Protection
from erlmcp.gateway.line import Line, Voice, is_open, joined, take_idle
from erlmcp.gateway.mount import CHANGED_OF, LISTS, Catalog, fetch
from erlmcp.gateway.way import channel_of
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.client.channel import Channel
    from erlmcp.flags import Flags
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.canary import Canary
    from erlmcp.runtime.session import Session

log = logging.getLogger("erlmcp.gateway")

IDLE, STARTING, UP, DOWN, STOPPED = "idle", "starting", "up", "down", "stopped"
PROBE_COUNT_MAX: Final = 2  # probes without an answer, one after the other, that a line outlives not
PROBE_S: Final = 5.0
DRAIN_STEP_S: Final = 0.02
REST_S: Final = 60.0  # that a line which is lent to single calls may rest
NO_CREDENTIAL: Final = ""


class Upstream:
    """``config`` is what the operator wrote; ``make_channel`` opens the way there with its credential."""

    def __init__(self, config: UpstreamConfig, gateway: Gateway, *, as_whom: str = NO_CREDENTIAL) -> None:
        self.config = config
        self.name = config.name
        self.place = f"{config.name}\0{as_whom}"  # of what is kept of its answers
        self.gateway = gateway
        self.as_whom = as_whom  # the caller with whose credential its lines are opened
        self.trial: Canary | None = None  # of which this is the old version or the new one
        self._secrets = secrets_of(config, gateway.credential_of(as_whom, config.name))
        self.protection = Protection(config, gateway.flags)
        self.limits = ClientLimits(timeout_s=config.timeout_s, connect_timeout_s=config.start_timeout_s)
        self.state = IDLE
        self.why = ""
        self.since = time.time()
        self.next_try: float | None = None  # of time.time()
        self.start_count = 0
        self.catalog: Catalog = {kind: [] for kind in LISTS}
        self.is_http = config.kind == "http"
        self.is_modern = False
        self.instructions: str | None = None
        self.server_info: dict[str, Any] = {}
        self._main: list[Line | None] = [None] * config.instances
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_started = False
        self._turn = 0
        self._verdict = asyncio.Event()  # set once each instance is up, or was found down
        self._judged_count = 0
        self._moved = asyncio.Event()  # set, and another made, with each change of the state
        self._spoken: dict[Voice, asyncio.Task[Line]] = {}  # shared over HTTP, by voice
        self._resting: dict[Voice, list[Line]] = {}
        self._lent: set[Line] = set()
        self._owned: dict[Session, asyncio.Task[Line]] = {}
        self._dirty: set[str] = set()
        self._held: dict[str, int] = {}  # URIs that somebody downstream is subscribed to
        self._following: dict[str, asyncio.Task[None]] = {}

    # -- the way there -------------------------------------------------------------------------------------------------

    def make_channel(self, index: int | None = None) -> Channel:
        """The way to one of its instances; without an index to one that is up, in turn."""
        credential = self.gateway.credential_of(self.as_whom, self.name) or Credential()
        return channel_of(self.gateway, self.config, credential, self.limits, self._some(index))

    def _some(self, index: int | None) -> int:
        if index is not None:
            return index
        up = [index for index, line in enumerate(self._main) if line is not None]
        self._turn += 1
        return up[self._turn % len(up)] if up else self._turn % len(self._main)

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to keep it alive; nothing where that has begun."""
        if not self._is_started:
            self._is_started = True
            self._set(STARTING)
            for index in range(self.config.instances):
                self.spawn(self._keep_alive(index))
            if self._canary is not None:
                self._canary.start()

    @property
    def shared_lines(self) -> list[Line]:
        """Those that are open."""
        return [line for line in self._main if line is not None]

    @property
    def _canary(self) -> Upstream | None:
        """The version that is on trial beside this one."""
        return self.trial.new if self.trial is not None and self.trial.old is self else None

    async def judged(self, timeout_s: float) -> None:
        """Wait until it is up or was found down, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._verdict.wait()

    async def aclose(self) -> None:
        self._set(STOPPED)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        lines = self._lines()
        self._main = [None] * len(self._main)
        for kept in (self._resting, self._spoken, self._owned, self._lent):
            kept.clear()
        await asyncio.gather(*(line.aclose() for line in lines), return_exceptions=True)
        if self._canary is not None:
            await self._canary.aclose()

    async def drain(self, timeout_s: float) -> None:
        """Close it once nothing waits on it, at most ``timeout_s`` from now; nothing is restarted meanwhile."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            opening = [task for task in (*self._spoken.values(), *self._owned.values()) if not task.done()]
            if not (opening or self._lent or any(line.forwards for line in self._lines())):
                break
            await asyncio.sleep(DRAIN_STEP_S)
        await self.aclose()

    def _lines(self) -> list[Line]:
        """All that are open: shared, of sessions, and at rest; those that are lent are their calls'."""
        found = self.shared_lines
        found += [line for group in self._resting.values() for line in group]
        tasks = [*self._spoken.values(), *self._owned.values()]
        return [*found, *(task.result() for task in tasks if task.done() and is_open(task)), *self._lent]

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def hidden(self, text: str) -> str:
        """A message without the secrets of this upstream: for clients, and for logs."""
        return hidden(text, self._secrets)

    def _set(self, state: str, why: str = "") -> None:
        why = self.hidden(why)
        if (state, why) != (self.state, self.why):
            self.state, self.why, self.since = state, why, time.time()
            self._moved.set()
            self._moved = asyncio.Event()
            level = logging.WARNING if state == DOWN else logging.INFO
            log.log(level, "%s is %s%s", self.name, state, f": {why}" if why else "")

    async def _keep_alive(self, index: int) -> None:
        config = self.config
        wait_s, is_judged = config.restart_s, False
        while True:
            line = Line(self, index=index)
            began = time.monotonic()
            try:
                await self._open(line, index)
            except asyncio.CancelledError:
                await line.aclose()
                raise
            except Exception as error:
                await line.aclose()
                why = str(error) or type(error).__name__
                if not isinstance(error, ErlmcpError | OSError | TimeoutError):
                    log.exception("%s could not be started", self.name)
            else:
                self._judge(is_judged)
                is_judged = True
                why = await self._watch(line)
                self._main[index] = None
                await line.aclose()
                if time.monotonic() - began > config.restart_max_s:
                    wait_s = 0.0  # What lasted is opened again at once.
            pause_s = wait_s * random.uniform(0.75, 1.25)
            if not any(self._main):
                self.next_try = time.time() + pause_s
                self._set(DOWN, why)
            self._judge(is_judged)
            is_judged = True
            await asyncio.sleep(pause_s)
            wait_s = min(2 * wait_s or config.restart_s, config.restart_max_s)
            if not any(self._main):
                self._set(STARTING)

    def _judge(self, is_judged: bool) -> None:
        if not is_judged:
            self._judged_count += 1
            if self._judged_count >= len(self._main):
                self._verdict.set()

    async def _open(self, line: Line, index: int) -> None:
        await line.open()
        self.start_count += 1
        talk = line.conversation
        if not any(self._main):
            async with asyncio.timeout(self.config.start_timeout_s):
                catalog = await fetch(talk, LISTS)
            self.is_modern = line.is_modern
            self.server_info, self.instructions = talk.server_info, talk.instructions
            self.catalog = catalog
        self.gateway.answers.drop(self.place)
        self._main[index] = line
        self.next_try = None
        self._set(UP)
        self.gateway.rebuild()
        if line.is_modern:
            self.spawn(self._listen(line))
        for uri in self._held:
            self._follow(uri, line)

    async def _watch(self, line: Line) -> str:
        """Until the line is gone or does not answer; why."""
        missed_count, answer_count = 0, line.answer_count
        while True:
            await asyncio.wait([line.gone], timeout=self.config.health_s)
            if line.gone.done():
                return line.gone.result()
            if line.answer_count == answer_count:
                missed_count = 0 if await self._probe(line) else missed_count + 1
                if missed_count >= PROBE_COUNT_MAX:
                    return f"it did not answer {PROBE_COUNT_MAX} probes of health"
            else:
                missed_count, answer_count = 0, line.answer_count

    async def _probe(self, line: Line) -> bool:
        try:
            await line.conversation.ask(m.DISCOVER if line.is_modern else m.PING, None, timeout_s=PROBE_S)
        except McpError:
            return True  # It answered.
        except ErlmcpError:
            return False
        return True

    # -- lines ---------------------------------------------------------------------------------------------------------

    def quick(self) -> Line | None:
        """A shared line that is ready: the one with the fewest calls on it."""
        main = self._main
        if len(main) == 1:
            return main[0]
        ready = self.shared_lines
        return min(ready, key=lambda line: len(line.forwards)) if ready else None

    async def shared(self) -> Line:
        """A shared line, waited for while the upstream starts. Raises McpError where it is down."""
        self.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.start_timeout_s):
                while self.quick() is None and self.state == STARTING:
                    await self._moved.wait()
        line = self.quick()
        if line is None:
            raise self.is_down()
        return line

    def is_down(self) -> McpError:
        wait_s = max(0.0, self.next_try - time.time()) if self.next_try is not None else None
        when = "" if wait_s is None else f"; the next try is in {wait_s:.1f} s"
        return McpError(SERVER_BUSY, f"{self.name} is {self.state}{': ' + self.why if self.why else ''}{when}")

    async def spoken(self, voice: Voice) -> Line:
        """Over HTTP: the line that all share who declare the same."""
        task = self._spoken.pop(voice, None)
        if task is None or (task.done() and not is_open(task)):
            self._check_room()
            task = self.spawn(self._opened(voice, None))
        self._spoken[voice] = task  # the last used is the last
        return await joined(task)

    async def owned(self, session: Session, voice: Voice) -> Line:
        """The line of one handshake session, until ``release``."""
        task = self._owned.get(session)
        if task is None or (task.done() and not is_open(task)):
            self._check_room()
            task = self._owned[session] = self.spawn(self._opened(voice, session))
        return await joined(task)

    def line_of(self, session: Session) -> Line | None:
        """The line that a session has already."""
        task = self._owned.get(session)
        return task.result() if task is not None and task.done() and is_open(task) else None

    def release(self, session: Session) -> None:
        task = self._owned.pop(session, None)
        if task is not None:
            task.cancel()
            if task.done() and not task.cancelled() and task.exception() is None:
                self.spawn(task.result().aclose())

    async def _opened(self, voice: Voice, session: Session | None) -> Line:
        line = Line(self, voice, session)
        await self._open_line(line)
        return line

    async def _open_line(self, line: Line) -> None:
        """Raises McpError, for whoever waits for it."""
        try:
            await line.open()
        except McpError:
            raise
        except ErlmcpError as error:
            raise McpError(SERVER_BUSY, f"{self.name}: {self.hidden(str(error))}") from error

    async def lend(self, voice: Voice) -> Line:
        """A line for one call alone, to be given back."""
        resting = self._resting.get(voice)
        while resting:
            line = resting.pop()
            if not line.gone.done():
                line.is_lent = True
                self._lent.add(line)
                return line
        self._check_room()
        line = Line(self, voice)
        line.is_lent = True
        self._lent.add(line)
        try:
            await self._open_line(line)
        except BaseException:
            self._lent.discard(line)
            raise
        return line

    def give_back(self, line: Line, *, is_whole: bool = True) -> None:
        """The call is over. A line that is still whole rests for a while, for the next call of the same voice: not one
        whose call was given up, as what is still asked for that would be asked of the next caller."""
        line.is_lent = False
        self._lent.discard(line)
        if not is_whole or line.gone.done() or self.state == STOPPED:
            self._close_soon(line)
            return
        self._resting.setdefault(line.voice, []).append(line)
        asyncio.get_running_loop().call_later(REST_S, self._retire, line, line.answer_count)

    def _retire(self, line: Line, answer_count: int) -> None:
        resting = self._resting.get(line.voice, [])
        if line in resting and line.answer_count == answer_count:
            resting.remove(line)
            if not resting:
                self._resting.pop(line.voice, None)
            self._close_soon(line)

    def _close_soon(self, line: Line) -> None:
        if self.state != STOPPED:
            self.spawn(line.aclose())

    def _has_room(self) -> bool:
        resting_count = sum(map(len, self._resting.values()))
        return len(self._lent) + resting_count + len(self._owned) + len(self._spoken) < self.config.line_count_max

    def _check_room(self) -> None:
        if not self._has_room():
            idle = take_idle(self._resting, self._spoken, self._owned)
            if idle is not None:
                self._close_soon(idle)
        if not self._has_room():
            text = f"{self.name} is busy: line_count_max={self.config.line_count_max} connections are open to it"
            raise McpError(SERVER_BUSY, text)

    def lost(self, line: Line) -> None:
        """A line is gone by itself. The shared ones have their watchers; of the others nothing is left."""
        for group in self._resting.values():
            if line in group:
                group.remove(line)
        if line not in self._main:
            self._close_soon(line)

    # -- changes -------------------------------------------------------------------------------------------------------

    def changed(self, line: Line, method: str, params: dict[str, Any]) -> None:
        """A list, or a resource, is not what it was."""
        if method == m.RESOURCE_UPDATED:
            uri = params.get("uri")
            if isinstance(uri, str):
                self.gateway.upstream_updated(line, uri)
            return
        if method == m.RESOURCES_CHANGED:
            self.gateway.answers.drop(self.place)
        if not self._dirty:
            self.spawn(self._refresh())
        self._dirty.update(CHANGED_OF[method])

    async def _refresh(self) -> None:
        """Read again what changed; what changes meanwhile, too."""
        while self._dirty:
            await asyncio.sleep(0)  # Notifications of one read are one change.
            line, kinds = self.quick(), sorted(self._dirty)
            self._dirty.clear()
            if line is None:
                return
            try:
                self.catalog = {**self.catalog, **await fetch(line.conversation, kinds)}
            except ErlmcpError as error:
                log.warning("the lists of %s could not be read again: %s", self.name, error)
                return
            self.gateway.rebuild()

    async def _listen(self, line: Line) -> None:
        """Of a 2026-07-28 server: hear of changes of its lists, for as long as the line lasts."""
        offered = line.conversation.capabilities
        methods = frozenset(
            method for method, kinds in CHANGED_OF.items() if _tells(offered, LISTS[kinds[0]][2], "listChanged")
        )
        if methods:
            await self._subscribed(line, methods, frozenset())

    @staticmethod
    async def _subscription(line: Line, methods: frozenset[str], uris: frozenset[str]) -> Subscription:
        async def connect() -> Any:
            return line.conversation

        return await Subscription(connect, methods, uris).open()

    async def _subscribed(
        self, line: Line, methods: frozenset[str], uris: frozenset[str], events: Subscription | None = None
    ) -> None:
        """Keep a subscription open; it may be there already."""
        while not line.gone.done():
            try:
                async with contextlib.aclosing(events or await self._subscription(line, methods, uris)) as opened:
                    async for _ in opened:
                        pass  # The line heard it first.
            except ErlmcpError as error:
                log.debug("%s does not tell of changes: %s", self.name, error)
                if isinstance(error, McpError):
                    return
            events = None
            await asyncio.wait([line.gone], timeout=self.config.restart_s)

    # -- subscriptions to resources ------------------------------------------------------------------------------------

    async def hold(self, uri: str) -> None:
        """One more downstream wants to hear of a resource. Raises McpError where the upstream refuses."""
        self._held[uri] = self._held.get(uri, 0) + 1
        if uri in self._following:
            return
        try:
            line = await self.shared()
            events = await self._subscription(line, frozenset(), frozenset([uri]))
        except BaseException:
            self.drop(uri)
            raise
        self._follow(uri, line, events)

    def _follow(self, uri: str, line: Line, events: Subscription | None = None) -> None:
        before = self._following.get(uri)
        if before is not None:
            before.cancel()
        self._following[uri] = self.spawn(self._subscribed(line, frozenset(), frozenset([uri]), events))

    def drop(self, uri: str) -> None:
        count = self._held.get(uri, 0)
        if count > 1:
            self._held[uri] = count - 1
            return
        self._held.pop(uri, None)
        task = self._following.pop(uri, None)
        if task is not None:
            task.cancel()

    def use_flags(self, flags: Flags) -> None:
        """Other flags from the next call on."""
        self.protection.switch(flags)
        if self._canary is not None:
            self._canary.use_flags(flags)
        for talk in [line.talk for line in self._lines()]:
            channel: Any = None if talk is None else talk.channel
            if channel is not None:
                channel.use_flags(flags)


def _tells(offered: dict[str, Any], capability: str, what: str) -> bool:
    found = offered.get(capability)
    return isinstance(found, dict) and found.get(what) is True
