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
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from erlmcp.client.bound import ClientLimits
from erlmcp.errors import SERVER_BUSY, ErlmcpError, McpError
from erlmcp.gateway.config import Credential, UpstreamConfig, hidden, secrets_of
from erlmcp.gateway.gauging import Tally
from erlmcp.gateway.guarding import Protection
from erlmcp.gateway.hearing import Hearing
from erlmcp.gateway.line import Line, Voice, is_open, joined, take_idle
from erlmcp.gateway.mount import LISTS, Catalog, fetch
from erlmcp.gateway.replicas import Replicas
from erlmcp.gateway.task import has_tasks
from erlmcp.gateway.way import channel_of
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.client.channel import Channel
    from erlmcp.core import Call
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
RELEASE_COUNT: Final = 16  # calls that go on in one turn of the loop, of those that waited for a start
UNREACHED_COUNT_MAX: Final = 3  # connections that were refused in a row, with no answer in between
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
        self.tally = None if gateway.recorder is None else Tally(gateway.recorder, config.name)
        self.protection = Protection(config, gateway.flags)
        self.limits = ClientLimits(timeout_s=config.timeout_s, connect_timeout_s=config.start_timeout_s)
        self.state = IDLE
        self.why = ""
        self.since = time.time()
        self.next_try: float | None = None  # of time.time()
        self.start_count = self.cache_hit_count = self.cache_miss_count = 0  # hits of reads that may be kept
        self.catalog: Catalog = {kind: [] for kind in LISTS}
        self.is_http = config.kind == "http"
        self.is_modern = False
        self.instructions: str | None = None
        self.server_info: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.has_tasks = False
        self._main: list[Line | None] = [None] * config.instances
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_started = False
        # None where there is one.
        self.replicas = Replicas(self.name, config.instances, config.balance) if config.instances > 1 else None
        self._verdict = asyncio.Event()  # set once each instance is up, or was found down
        self._judged_count = 0
        self._waiters: deque[asyncio.Future[None]] = deque()  # calls that wait for a start, the first come first
        self._spoken: dict[Voice, asyncio.Task[Line]] = {}  # shared over HTTP, by voice
        self._resting: dict[Voice, list[Line]] = {}
        self._lent: set[Line] = set()
        self._owned: dict[Session, asyncio.Task[Line]] = {}
        self.hearing = Hearing(self)

    # -- the way there -------------------------------------------------------------------------------------------------

    def make_channel(self, line: Line) -> Channel:
        """The way to one of its instances: the line's own, for as long as it lasts."""
        if line.index is None:
            line.index = 0 if self.replicas is None else self.replicas.place(self._main, line.session)
        credential = self.gateway.credential_of(self.as_whom, self.name) or Credential()
        return channel_of(self.gateway, self.config, credential, self.limits, line.index)

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
    def main_lines(self) -> list[Line | None]:
        """The shared lines, by instance; None where it is not up."""
        return self._main

    @property
    def shared_lines(self) -> list[Line]:
        """Those that are open."""
        return [line for line in self._main if line is not None]

    @property
    def _canary(self) -> Upstream | None:
        """The version that is on trial beside this one."""
        return self.trial.new if self.trial is not None and self.trial.old is self else None

    @property
    def is_awaited(self) -> bool:
        """Whether it is lazy, and what it offers is not known yet."""
        return self.config.lazy and not self._verdict.is_set()

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
        lines = self.lines()
        self._main = [None] * len(self._main)
        for kept in (self._resting, self._spoken, self._owned, self._lent):
            kept.clear()
        await asyncio.gather(*(line.aclose() for line in lines), *self._closing, return_exceptions=True)
        if self._canary is not None:
            await self._canary.aclose()

    async def drain(self, timeout_s: float) -> None:
        """Close it once nothing waits on it, at most ``timeout_s`` from now; nothing is restarted meanwhile."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            opening = [task for task in (*self._spoken.values(), *self._owned.values()) if not task.done()]
            if not (opening or self._lent or any(line.forwards for line in self.lines())):
                break
            await asyncio.sleep(DRAIN_STEP_S)
        await self.aclose()

    def lines(self) -> list[Line]:
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
            if state != STARTING:
                self._release()
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
                await asyncio.shield(self._close(line))
                why = str(error) or type(error).__name__
                if not isinstance(error, ErlmcpError | OSError | TimeoutError):
                    log.exception("%s could not be started", self.name)
            else:
                self._judge(is_judged)
                is_judged = True
                why = await self._watch(line)
                self._main[index] = None
                await asyncio.shield(self._close(line))
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
            self.capabilities = talk.capabilities
            self.has_tasks = has_tasks(talk.capabilities)
            self.catalog = catalog
        self.gateway.answers.drop(self.place)
        if self.replicas is not None:
            self.replicas.balance.renew(index)
        self._main[index] = line
        self.next_try = None
        self._set(UP)
        self.gateway.rebuild()
        self.hearing.begin(line)

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

    def quick(self, call: Call | None = None) -> Line | None:
        """A shared line that is ready; with replicas that on which a call is answered soonest, or has to go."""
        replicas = self.replicas
        if replicas is None:
            return self._main[0]
        return replicas.pick(self._main, None if call is None else replicas.home_of(call))

    def quick_to(self, index: int | None) -> Line | None:
        """A shared line that is ready, to a certain replica."""
        if index is None or self.replicas is None or index >= len(self._main):
            return self.quick()
        return self._main[index]

    async def shared(self) -> Line:
        """A shared line, waited for while the upstream starts. Raises McpError where it is down."""
        self.start()
        with contextlib.suppress(TimeoutError):
            if self.state == STARTING and self.quick() is None:
                async with asyncio.timeout(self.config.start_timeout_s):
                    while self.quick() is None and self.state == STARTING:
                        await self._started()
        line = self.quick()
        if line is None:
            raise self.is_down()
        return line

    async def _started(self) -> None:
        """Until it is up or down. Raises McpError where too many wait for that."""
        count_max = self.config.start_queue_max
        if len(self._waiters) >= count_max:
            text = f"{self.name} is starting, and start_queue_max={count_max} calls wait for it"
            raise McpError(SERVER_BUSY, text)
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if not waiter.done() or waiter.cancelled():
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)

    def _release(self) -> None:
        """Let those go on who waited for a start: a few each turn, as other upstreams have calls, too."""
        waiters = self._waiters
        for _ in range(min(RELEASE_COUNT, len(waiters))):
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
        if waiters:
            asyncio.get_running_loop().call_soon(self._release)

    @property
    def inflight_count(self) -> int:
        """Calls of many clients' that are under way, or wait for a start."""
        return sum(len(line.forwards) for line in self._main if line is not None) + len(self._waiters)

    # -- what calls tell -----------------------------------------------------------------------------------------------

    def unreached(self, line: Line, error: Exception) -> None:
        """Over HTTP no connection could be opened for a call, and none was there that could carry it. A server of which
        that is all that is heard is gone: the calls that come are told so, and try no more."""
        line.unreached_count = line.unreached_count + 1 if line.unreached_at == line.answer_count else 1
        line.unreached_at = line.answer_count
        if line.unreached_count >= UNREACHED_COUNT_MAX and line in self._main and not line.gone.done():
            line.gone.set_result(str(error))

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
        if self.replicas is not None:
            self.replicas.leave(session)
        task = self._owned.pop(session, None)
        if task is not None:
            task.cancel()
            if task.done() and not task.cancelled() and task.exception() is None:
                self._close(task.result())

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
            self._close(line)

    def _close(self, line: Line) -> asyncio.Task[None]:
        """Where it began it goes on to its end: a process that is left in the midst of it would stay."""
        task = asyncio.get_running_loop().create_task(line.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def _has_room(self) -> bool:
        resting_count = sum(map(len, self._resting.values()))
        return len(self._lent) + resting_count + len(self._owned) + len(self._spoken) < self.config.line_count_max

    def _check_room(self) -> None:
        if not self._has_room() and (idle := take_idle(self._resting, self._spoken, self._owned)) is not None:
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
            self.gateway.followers.lost(line)
            self._close_soon(line)

    def use_flags(self, flags: Flags) -> None:
        """Other flags from the next call on."""
        self.protection.switch(flags)
        if self._canary is not None:
            self._canary.use_flags(flags)
        for talk in [line.talk for line in self.lines()]:
            channel: Any = None if talk is None else talk.channel
            if channel is not None:
                channel.use_flags(flags)
