"""Tasks: calls that are answered at once, with the name of what goes on, and asked for later.

There are two kinds, the experimental one of 2025-11-25 and the extension of 2026-07-28. Both name a task by an id that
its upstream gave, and whatever is asked of it has to go to that upstream, and with replicas to that replica. So the
gateway remembers whose a task is: which upstream's, and which caller's. Ids and messages go through as they are. A task
is known to who made it alone, by its credential; who has none is told apart by nobody, and the id, which upstreams must
make unguessable, is the key. Both ends of a task are of one era, as neither kind has words for the other.

It is remembered in this process: another one, or this after a restart, knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.errors import InvalidParamsError
from erlmcp.gateway.mount import Mount
from erlmcp.spec import method as m
from erlmcp.spec.version import LATEST_LEGACY

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.gateway.access import Caller
    from erlmcp.gateway.forward import Forward
    from erlmcp.gateway.line import Line
    from erlmcp.gateway.service import GatewayService
    from erlmcp.gateway.upstream import Upstream
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.session import Session

TASK: Final = "task"
EXTENSION: Final = "io.modelcontextprotocol/tasks"
TASK_COUNT_MAX: Final = 10_000  # the oldest is forgotten
REPEATABLE: Final = frozenset({m.TASK_GET, m.TASK_RESULT})


@dataclass(slots=True)
class Known:
    """A task: who has it, whose it is, and the handshake session that hears of it. ``place`` is the name of the
    upstream itself, ``name`` that of its new version where that is on trial and has the task."""

    place: str
    name: str
    index: int | None  # of the replica
    whose: str
    is_modern: bool
    session: Session | None


class Tasks:
    """The tasks of all upstreams, by id."""

    def __init__(self, service: GatewayService) -> None:
        self._service = service
        self._known: dict[str, Known] = {}
        self._of: dict[Session, set[str]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def offered(self, version: str) -> dict[str, Any]:
        """The capabilities of this revision that tell of tasks, where an upstream has some."""
        upstreams = self._service.gateway.upstreams.values()
        if version > LATEST_LEGACY:
            has = any(EXTENSION in _object(each.capabilities.get("extensions")) for each in upstreams if each.is_modern)
            return {"extensions": {EXTENSION: {}}} if has else {}
        offers = [_object(each.capabilities.get("tasks")) for each in upstreams if not each.is_modern]
        if version != LATEST_LEGACY or not any(_object(each.get("requests")).get("tools") for each in offers):
            return {}
        found: dict[str, Any] = {"requests": {"tools": {"call": {}}}}
        if any("cancel" in each for each in offers):
            found["cancel"] = {}
        return {"tasks": found}

    def note(self, forward: Forward, exchange: Exchange, call: Call) -> None:
        """A tool was called, and its result is there: remember a task that it tells of."""
        text = core.result_text(call)
        if text is None or b'"taskId"' not in text:
            return
        result = _object(call.result)
        is_modern = forward.line.is_modern
        given = result if is_modern else _object(result.get(TASK))
        id = given.get("taskId")
        if isinstance(id, str) and (not is_modern or result.get("resultType") == TASK):
            self._remember(id, forward, exchange)

    def _remember(self, id: str, forward: Forward, exchange: Exchange) -> None:
        service, line = self._service, forward.line
        if len(self._known) >= TASK_COUNT_MAX:
            self._forget(next(iter(self._known)))
        session = None if exchange.peer.modern else exchange.session
        whose = service.whose(exchange, service.caller_of(exchange))
        place, name = forward.mount.upstream.name, line.upstream.name
        self._known[id] = Known(place, name, line.index, whose, line.is_modern, session)
        if session is not None:
            self._of.setdefault(session, set()).add(id)

    def _forget(self, id: str) -> None:
        known = self._known.pop(id)
        if known.session is not None:
            self._of[known.session].discard(id)

    def leave(self, session: Session) -> None:
        """A handshake session has ended; its tasks go on, and nobody hears of them."""
        for id in self._of.pop(session, ()):
            self._known[id].session = None

    def clear(self) -> None:
        self._known.clear()
        self._of.clear()

    # -- what is asked of a task ---------------------------------------------------------------------------------------

    def relay(self, exchange: Exchange) -> None:
        """``tasks/get`` and its like. InvalidParamsError for a task that is unknown, or another's."""
        self._service.drive(exchange, self._relay_slowly(exchange, *self._find(exchange)))

    def _find(self, exchange: Exchange) -> tuple[Mount, int | None]:
        """The task that a request names, and the replica that has it."""
        service, id = self._service, exchange.call.name
        if id is None:
            raise InvalidParamsError("Invalid params: taskId must be a string")
        caller = service.caller_of(exchange)
        known = self._known.get(id)
        is_his = known is not None and known.whose == service.whose(exchange, caller)
        upstream = self._upstream_of(known, caller) if known is not None and is_his else None
        if known is None or upstream is None or known.is_modern != exchange.peer.modern:
            raise InvalidParamsError(f"Unknown task: {id}")
        mount = Mount(upstream, TASK, id, id, {}, is_http=False)
        mount.is_idempotent = exchange.call.method in REPEATABLE
        return mount, known.index

    def _upstream_of(self, known: Known, caller: Caller) -> Upstream | None:
        """Who has a task now: the configuration may be another one since it was made."""
        gateway = self._service.gateway
        found = gateway.upstreams.get(known.place)
        if found is None or known.name == known.place:
            return None if found is None else gateway.upstream_for(found, caller)
        new = None if found.trial is None else found.trial.new
        return new if new is not None and new.name == known.name else None

    async def _relay_slowly(self, exchange: Exchange, mount: Mount, index: int | None) -> None:
        self._service.send(exchange, mount, *await self._line_of(exchange, mount, index))

    async def way(self, exchange: Exchange) -> tuple[Mount, Line, float | None]:
        """Where a request that names a task goes by now. Raises McpError."""
        mount, index = self._find(exchange)
        return mount, *await self._line_of(exchange, mount, index)

    async def _line_of(self, exchange: Exchange, mount: Mount, index: int | None) -> tuple[Line, float | None]:
        service, upstream = self._service, mount.upstream
        first = upstream.quick_to(index) or await upstream.shared()
        line, wait_s = await service.gateway.line_for(exchange, upstream, first, service.may_share)
        if exchange.call.method == m.TASK_RESULT:  # which waits for the end of the task
            wait_s = max(service.gateway.limits.request_timeout_s, upstream.config.timeout_s)
        return line, wait_s

    def told(self, line: Line, params: dict[str, Any]) -> None:
        """An upstream of 2025-11-25 tells how a task is getting on."""
        id = params.get("taskId")
        known = self._known.get(id) if isinstance(id, str) else None
        if known is not None and known.name == line.upstream.name and known.session is not None:
            standalone = known.session.standalone
            if standalone is not None:
                standalone.notify(m.TASK_STATUS, params)


def has_tasks(capabilities: dict[str, Any]) -> bool:
    """Whether a server that declares these may make tasks, of either kind."""
    return "tasks" in capabilities or EXTENSION in _object(capabilities.get("extensions"))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
