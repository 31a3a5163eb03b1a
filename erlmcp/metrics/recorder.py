"""What is recorded of a server's or client's work: durations by labels, points on the way of a message, gauges.

Operations wanted: record a duration in some nanoseconds from C and in a few hundred from Python; read totals since the
beginning (an exporter), sliding spans (a dashboard) and what goes on just now. Plan: a *series* has a hot histogram
that its writer alone writes, and once a second its values are moved to the total and, sparse, to the window. Who writes
many asks for the hot histogram once and keeps it: ``slot`` does that for the compiled short way.

Labels are bounded whatever arrives: a method that MCP does not know is "_other", a tool or prompt that nobody
registered is "_unknown", ids of sessions, URIs and request ids are never labels, and a family has at most
``series_max`` series, beyond which all further ones are "other" (``core.Meter``).

All but ``record_*`` belongs to the thread of the server's loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from time import perf_counter_ns
from typing import Any, Final, Protocol

from erlmcp import core
from erlmcp.metrics import family as f
from erlmcp.metrics.hold import Holds
from erlmcp.metrics.sent import Sent
from erlmcp.metrics.series import NO_GROUP, NO_LABELS, SUB_BITS, VALUE_MAX, Gauge, Group, Labels, Series, Values
from erlmcp.metrics.trace import SAMPLE, Traces
from erlmcp.metrics.window import MINUTE, Counts, add, merged, percentiles, seconds_of
from erlmcp.spec import method as m
from erlmcp.spec.trace import trace_id
from erlmcp.spec.version import KNOWN_VERSIONS, LATEST_MODERN

TICK_S: Final = 1.0
SERIES_A_TURN: Final = 32  # that a tick looks at before it lets the loop go on
HISTORY_SECONDS: Final = 300
STATUS_COUNT_MAX: Final = 64  # codes of errors, of which those of a gateway's upstreams come from outside
SAMPLE_EVERY: Final = 64  # request of the general way whose way is looked at in detail
SHOWN_MAX: Final = 100  # errors a second that leave a trace each; of a flood of refusals one of SAMPLE_EVERY does
VERSION_COUNT: Final = len(KNOWN_VERSIONS)
SLOT_COUNT: Final = VERSION_COUNT * len(f.KINDS)
SLOT_OF_VERSION: Final = {version: index for index, version in enumerate(KNOWN_VERSIONS)}
SLOT_OF_KIND: Final = {kind: index * VERSION_COUNT for index, kind in enumerate(f.KINDS)}

Key = tuple[str | None, str, str, str, str, str | None]  # method, name, error, status, kind, version
EVERYTHING: Final = ("all", "")


class Clock(Protocol):
    """What a recorder needs of an event loop."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> Any: ...
    def call_soon(self, callback: Callable[[], object], /) -> Any: ...


class Observer(Protocol):
    """Who is told of requests that begin and end, of notifications (whose route it calls), and of ended sessions."""

    def begin(self, exchange: Any) -> None: ...
    def notified(self, route: Callable[[Any, Any], None], session: Any, call: Any) -> None: ...
    def finished(self, exchange: Any, error: str, status: str, message: str, duration_ns: int) -> None: ...
    def session_ended(self, kind: str, version: str, duration_ns: int) -> None: ...
    async def asking(self, send: Any, session: Any, method: str, params: Any) -> dict[str, Any]: ...


class Recorder:
    """The metrics of one server or client.

    ``series_max`` bounds the label sets of a family, ``trace_max`` the ring of traces; a call that takes ``slow_s`` or
    longer is kept there.
    """

    slot_count = SLOT_COUNT
    slot_of_kind = SLOT_OF_KIND
    slot_of_version = SLOT_OF_VERSION
    modern_slot = SLOT_OF_VERSION[LATEST_MODERN]

    def __init__(
        self,
        *,
        series_max: int = 2000,
        trace_max: int = 256,
        slow_s: float = 0.1,
    ) -> None:
        self.meter = core.Meter(
            names_max=len(f.FAMILIES), series_max=series_max, value_max=VALUE_MAX, sub_bits=SUB_BITS
        )
        self.series_max = series_max
        self.traces = Traces(trace_max, int(slow_s * 1e9))
        self.gauges: dict[str, Gauge] = {}
        self.second = 0
        self.started_s = time.time()
        self.history: list[tuple[int, int, int, float, float, float]] = []  # second, calls, errors, p50, p95, p99
        self.after_tick: list[Callable[[], None]] = []
        self.observers: list[Observer] = []
        self.began_ns = 0  # when the call in hand began on the short way; 0 where none did
        self.groups: dict[tuple[str, str], Group] = {}  # (kind of group, its name), "all" is everything
        self.sent = Sent(self)  # what is asked of others
        self.asking = self.sent.asking
        self.holds = Holds(self)  # pools and caches of the program's
        self._series: dict[int, Series] = {}  # by the identity of the total, which the meter keeps
        self._known: dict[Key, Series] = {}
        self._statuses: set[str] = set()
        self._known_max = 2 * series_max
        self.turn_count = 0  # requests that went the general way
        self._shown_left = SHOWN_MAX
        self._session_point: core.Histogram | None = None
        self._clock: Clock | None = None
        self._user_count = 0
        self._timer: Any = None
        self._due_s = 0.0

    # -- time ----------------------------------------------------------------------------------------------------------

    def start(self, clock: Clock) -> None:
        """Tick once a second on this loop, until as many stopped as started it."""
        self._user_count += 1
        if self._clock is not None:
            return
        self._clock = clock
        self._due_s = clock.time() + TICK_S
        self._timer = clock.call_at(self._due_s, self._ticks)

    @property
    def is_ticking(self) -> bool:
        return self._clock is not None

    def stop(self) -> None:
        self._user_count -= 1
        if self._user_count > 0:
            return
        self._user_count = 0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock = None

    def tick(self) -> None:
        """Move a second on, at once."""
        for _ in self._tick():
            pass

    def _ticks(self) -> None:
        assert self._clock is not None
        self._due_s += TICK_S  # what a stall of the loop held up is made up for
        self._timer = self._clock.call_at(self._due_s, self._ticks)
        self._turn(self._tick())

    def _turn(self, parts: Iterator[None]) -> None:
        """A tick over very many series lets the loop go on in between."""
        for _ in parts:
            if self._clock is not None:
                self._clock.call_soon(lambda: self._turn(parts))
            return

    def _tick(self) -> Iterator[None]:
        self.second += 1
        self._shown_left = SHOWN_MAX
        for number, series in enumerate(list(self._series.values()), 1):
            fresh = series.drain(self.second)
            if fresh is not None:
                is_error = series.groups and series.label(f.ERROR)
                for group in series.groups:
                    add(group.fresh, fresh)
                    if is_error:
                        add(group.fresh_errors, fresh)
            if not number % SERIES_A_TURN:
                yield
        everything = self.groups.get(EVERYTHING, NO_GROUP)
        p50, p95, p99 = percentiles(everything.fresh, (50.0, 95.0, 99.0))
        calls, errors = sum(everything.fresh.values()), sum(everything.fresh_errors.values())
        self.history.append((self.second, calls, errors, p50, p95, p99))
        for group in self.groups.values():
            group.settle(self.second)
        del self.history[:-HISTORY_SECONDS]
        for each in list(self.after_tick):
            each()

    # -- recording -----------------------------------------------------------------------------------------------------

    def series_of(self, family: f.Family, labels: Mapping[str, str]) -> Series:
        """The series of these labels, new where there is none; the one of all others where there are too many.

        ConfigurationError where the family has other label names; TypeError for a value that is no str.
        """
        before = self.meter.collapsed
        total = self.meter.histogram(family.name, dict(labels))
        found = self._series.get(id(total))
        if found is None:
            is_other = self.meter.collapsed != before
            kept = tuple((key, "other") for key in sorted(labels)) if is_other else tuple(sorted(labels.items()))
            found = self._series[id(total)] = Series(family, kept, total)
            if family is f.OPERATION:
                found.groups = [self.groups.setdefault(key, Group()) for key in _groups_of(found)]
        return found

    def operation(
        self, method: str | None, name: str | None, error: str, status: str, kind: str, version: str | None
    ) -> Series:
        """The series of a request's outcome. ``name`` is that of a registered tool or prompt, None for others; ``kind``
        the transport's."""
        key = (method, name or "", error, status, kind, version)
        found = self._known.get(key)
        return self._open(key, error) if found is None else found

    def _open(self, key: Key, error: str) -> Series:
        method, name, _, status, kind, version = key
        known = self.known_status(status)
        if known != status:
            status, error = known, error and known
        is_tool, is_prompt = method == m.TOOLS_CALL, method == m.PROMPTS_GET
        if not (is_tool or is_prompt):
            name = ""
        elif not name:
            name = f.UNKNOWN
        transport, protocol, protocol_version = f.NETWORK[kind]
        found = self.series_of(
            f.OPERATION,
            {
                f.METHOD: method if method is not None and method in f.METHODS else f.OTHER_METHOD,
                f.TOOL: name if is_tool else "",
                f.PROMPT: name if is_prompt else "",
                f.ERROR: error,
                f.STATUS: status,
                f.TRANSPORT: transport,
                f.PROTOCOL: protocol,
                f.PROTOCOL_VERSION: protocol_version,
                f.VERSION: version if version is not None and version in SLOT_OF_VERSION else "",
            },
        )
        is_bounded = method in f.METHODS and version in SLOT_OF_VERSION and status == key[3]
        if is_bounded and len(self._known) < self._known_max:
            self._known[key] = found
        return found

    def known_status(self, status: str) -> str:
        """A code as a label: itself, or ``_OTHER`` where there are very many already."""
        if status in self._statuses:
            return status
        if len(self._statuses) < STATUS_COUNT_MAX:
            self._statuses.add(status)
            return status
        return f.OTHER_ERROR

    def slot(self, method: str, name: str | None, slot: int) -> core.Histogram:
        """Where the compiled short way records the successes of a method or tool: of the transport's kind and the
        revision that ``slot`` stands for."""
        kind, version = f.KINDS[slot // VERSION_COUNT], KNOWN_VERSIONS[slot % VERSION_COUNT]
        return self.operation(method, name, "", "", kind, version).hot

    def notice(self, call: Any, name: str | None, slot: int, duration_ns: int, rooms: dict[str, int] | None) -> None:
        """A call of the short way that took long, is followed, or is a sample."""
        kind, version = f.KINDS[slot // VERSION_COUNT], KNOWN_VERSIONS[slot % VERSION_COUNT]
        reason = self.traces.reason_of(duration_ns, "") or SAMPLE
        trace = trace_id(call.meta)
        self.operation(call.method, name, "", "", kind, version).keep(trace, duration_ns)
        what = {"method": call.method, "name": name, "id": call.id, "kind": kind, "version": version, "rooms": rooms}
        what["trace"] = trace
        self.traces.put(reason, duration_ns, **what)

    def point(self, name: str) -> core.Histogram:
        """Where the durations of a point on the way are recorded."""
        return self.series_of(f.POINT, {"point": name}).hot

    def finish(self, exchange: Any, error: str, status: str, message: str) -> None:
        """A request that went the general way was answered, or cancelled: ``error`` is tool_error, cancelled or "",
        ``status`` the code of an error answer."""
        now_ns = perf_counter_ns()
        duration_ns = now_ns - exchange.began_ns or 1
        call, kind, version = exchange.call, exchange.channel.kind, exchange.peer.version
        name = call.name if call.entry is not None else ""
        key = (call.method, name, error, status, kind, version)
        found = self._known.get(key)
        if found is None:
            if not kind:  # a copy, whose answer goes nowhere
                return
            found = self._open(key, error or self._error_of(status))
        found.hot.record(duration_ns)
        self.turn_count += 1
        is_shown = bool(error or status) and self._shown_left > 0
        self._shown_left -= is_shown
        is_plain = not (is_shown or self.observers) and self.turn_count % SAMPLE_EVERY
        if not is_plain or duration_ns >= self.traces.floor_ns:
            self._look(exchange, found, error or self._error_of(status), status, message, now_ns, duration_ns)

    @staticmethod
    def _error_of(status: str) -> str:
        """What a code means for the server: its own error, or none."""
        return "" if status in f.CALLER_FAULTS else status

    def _look(
        self, exchange: Any, series: Series, error: str, status: str, message: str, now_ns: int, duration_ns: int
    ) -> None:
        """Tell the observers; keep a trace where there is a reason; look into the rooms now and then."""
        for observer in self.observers:
            observer.finished(exchange, error, status, message, duration_ns)
        reason = self.traces.reason_of(duration_ns, error)
        if not reason and self.turn_count % SAMPLE_EVERY:
            return
        rooms = self._rooms(exchange, now_ns)
        for point, spent_ns in rooms.items():
            self.point(point).record(max(1, spent_ns))
        call = exchange.call
        trace = trace_id(call.meta)
        series.keep(trace, duration_ns)
        self.traces.put(
            reason or SAMPLE,
            duration_ns,
            method=call.method,
            name=call.name if call.entry is not None else None,
            id=call.id,
            kind=exchange.channel.kind,
            version=exchange.peer.version,
            error=error,
            message=message,
            rooms=rooms,
            trace=trace,
        )

    @staticmethod
    def _rooms(exchange: Any, now_ns: int) -> dict[str, int]:
        """Where an exchange spent its time, as far as it went."""
        began_ns, handler_ns, handled_ns = exchange.began_ns, exchange.handler_ns, exchange.handled_ns or now_ns
        rooms = {}
        if handler_ns:
            rooms["queue"], began_ns = handler_ns - began_ns, handler_ns
        rooms["handler"] = handled_ns - began_ns - exchange.upstream_ns
        if exchange.upstream_ns:
            rooms["upstream"] = exchange.upstream_ns
        if handled_ns != now_ns:
            rooms["encode"] = now_ns - handled_ns
        return rooms

    @property
    def is_sampling(self) -> bool:
        """Whether the request of the general way that is in hand is looked at in detail."""
        return self.turn_count % SAMPLE_EVERY == SAMPLE_EVERY - 1

    def found_session(self, began_ns: int) -> None:
        """A session was looked up by its id, from then on."""
        if self._session_point is None:
            self._session_point = self.point("session")
        self._session_point.record(max(1, perf_counter_ns() - began_ns))

    def end_session(self, kind: str, version: str, duration_ns: int) -> None:
        """A session of a handshake revision ended."""
        transport, protocol, protocol_version = f.NETWORK[kind]
        labels = {
            f.TRANSPORT: transport,
            f.PROTOCOL: protocol,
            f.PROTOCOL_VERSION: protocol_version,
            f.VERSION: version,
        }
        self.series_of(f.SESSION, labels).hot.record(max(1, duration_ns))
        for observer in self.observers:
            observer.session_ended(kind, version, duration_ns)

    # -- recording, for anybody ----------------------------------------------------------------------------------------

    def record_transport_operation(self, id: str, kind: str, op: str, duration_ns: int) -> None:
        """Record an operation (``send``, ``connect``) of a transport of your own. From any thread."""
        self._record(f.TRANSPORT_OPERATION, {"transport": id, "kind": kind, "operation": op}, duration_ns)

    def record_server_operation(
        self, id: str, op: str, duration_ns: int, labels: Mapping[str, str] | None = None
    ) -> None:
        """Record an operation of a server. The label names of all records must be the same. From any thread."""
        self._record(f.SERVER_OPERATION, {**(labels or {}), "server": id, "operation": op}, duration_ns)

    def record_registry_operation(self, op: str, duration_ns: int, labels: Mapping[str, str] | None = None) -> None:
        """Record an operation of a registry. The label names of all records must be the same. From any thread."""
        self._record(f.REGISTRY_OPERATION, {**(labels or {}), "operation": op}, duration_ns)

    def _record(self, family: f.Family, labels: dict[str, str], duration_ns: int) -> None:
        self.series_of(family, labels).hot.record(max(1, duration_ns))

    def gauge(self, name: str, help: str, read: Callable[[], Values], kind: str = "gauge") -> None:
        """Give ``read()`` as a metric: a number, or a number for each label set. An exception of it leaves it out."""
        self.gauges[name] = Gauge(name, help, kind, read)

    # -- reading -------------------------------------------------------------------------------------------------------

    def families(self) -> list[tuple[f.Family, list[Series]]]:
        """Each family in use with its series."""
        found: dict[str, list[Series]] = {}
        for series in self._series.values():
            found.setdefault(series.family.name, []).append(series)
        return [(each, found[each.name]) for each in f.FAMILIES.values() if each.name in found]

    def read_gauges(self) -> list[tuple[Gauge, list[tuple[Labels, float]]]]:
        found: list[tuple[Gauge, list[tuple[Labels, float]]]] = []
        for gauge in self.gauges.values():
            try:
                values = gauge.read()
                if isinstance(values, Mapping):
                    values = {labels: float(value) for labels, value in values.items()}
            except Exception:
                continue  # what it asks is not there any more
            shown = values.items() if isinstance(values, Mapping) else [(NO_LABELS, float(values))]
            found.append((gauge, [*islice(shown, self.series_max)]))
        return found

    def series(self, family: f.Family) -> list[Series]:
        """The series of one family."""
        return [series for series in self._series.values() if series.family is family]

    def operations(self) -> Iterable[Series]:
        """The series of requests."""
        return self.series(f.OPERATION)

    def span_counts(self, series: Iterable[Series], span: str = MINUTE) -> Counts:
        """What the given series counted within a span."""
        return merged(each.window.counts(span, self.second) for each in series if each.window is not None)

    def seconds_of(self, span: str) -> int:
        """How many seconds a span covers now."""
        return seconds_of(span, self.second)

    def tools(self) -> dict[str, list[Series]]:
        """The series of requests by tool."""
        found: dict[str, list[Series]] = {}
        for series in self.operations():
            name = series.label(f.TOOL)
            if name:
                found.setdefault(name, []).append(series)
        return found


def _groups_of(series: Series) -> list[tuple[str, str]]:
    """The groups that a series of requests belongs to."""
    label = series.label
    transport = " ".join(filter(None, (label(f.TRANSPORT), label(f.PROTOCOL), label(f.PROTOCOL_VERSION))))
    ways = [("transport", transport), ("version", label(f.VERSION)), ("method", label(f.METHOD))]
    return [EVERYTHING, *((kind, name or "-") for kind, name in ways)]
