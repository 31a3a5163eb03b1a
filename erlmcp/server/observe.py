"""What a server shows of itself: its recorder, the numbers of now, and its sessions page by page."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
import platform
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.errors import ConfigurationError
from erlmcp.metrics.recorder import Recorder
from erlmcp.metrics.series import NO_LABELS, Labels
from erlmcp.runtime.current import known_here, known_of
from erlmcp.server.gauging import add_gauges
from erlmcp.server.shown import Section, sections_of

if TYPE_CHECKING:
    from erlmcp.server.app import Server

OFF: Final = ("off", "0", "no", "false")
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/=]{12,512}")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def wants_metrics(given: bool | None) -> bool:
    """Whether to record: as given, else unless ERLMCP_METRICS says "off"."""
    return os.environ.get("ERLMCP_METRICS", "").lower() not in OFF if given is None else given


def read_token(given: str | None) -> str | None:
    """Who brings it may see the metrics: as given, else ERLMCP_METRICS_TOKEN. ConfigurationError where it is too short
    to be a secret, or cannot stand in a header."""
    token = given or os.environ.get("ERLMCP_METRICS_TOKEN") or None
    if token is not None and not _TOKEN.fullmatch(token):
        raise ConfigurationError(
            "metrics_token (or ERLMCP_METRICS_TOKEN) has 12 to 512 of the characters A-Z a-z 0-9 - . _ ~ + / ="
        )
    return token


class Board:
    """What a server shows: its recorder, and what its listeners and endpoints hold now."""

    def __init__(self, server: Server) -> None:
        limits = server.limits
        self.server = server
        self.recorder = recorder = Recorder(
            series_max=limits.metric_series_max, trace_max=limits.trace_count_max, slow_s=limits.slow_call_s
        )
        self.endpoints: list[Any] = []  # with ``sessions`` and ``requests``
        self.listeners: dict[str, list[Any]] = {}  # kind of transport -> those with ``connections``
        self.port = 0  # of an address of its own
        self.sections: dict[str, Section] = {}  # tables of the dashboard, in this order
        gauges = (
            ("erlmcp_info", "Versions and the kind of core.", self._info),
            ("erlmcp_start_time_seconds", "When the server was made, in seconds since 1970.", self._start),
            ("erlmcp_inflight_requests", "Requests whose handler waits or runs in a thread.", self._inflight),
            ("erlmcp_inflight_max", "How many may be in flight now.", lambda: server.turn.load.inflight_max),
            ("erlmcp_overload_level", "0: it keeps up, 3: it refuses calls.", lambda: server.overload),
            ("erlmcp_thread_calls", "Calls that run in a thread or wait for one.", self._threads),
            ("erlmcp_thread_count_max", "Threads for ordinary functions, at most.", self._threads_max),
            ("erlmcp_sessions", "Open sessions of handshake clients over HTTP.", self._sessions),
            ("erlmcp_connections", "Open connections by transport.", self._connections),
            ("erlmcp_subscriptions", "Open subscriptions.", lambda: len(server.hub)),
            ("erlmcp_tools", "Registered tools.", lambda: len(server.tool_names())),
            ("erlmcp_flag", "Feature switches, 1 is on.", self._flags),
            ("erlmcp_metric_series", "Label sets kept.", lambda: len(recorder.meter)),
            ("process_resident_memory_bytes", "Resident memory.", resident_bytes),
        )
        for name, help, read in gauges:
            recorder.gauge(name, help, read)
        add_gauges(server, recorder)
        self.sections |= sections_of(server)
        recorder.gauge(
            "erlmcp_metric_collapsed_total", "Records whose label set was one too many.", self._collapsed, "counter"
        )
        recorder.gauge(
            "erlmcp_shed_total",
            "Requests refused under overload since it runs.",
            lambda: server.turn.load.shed_count,
            "counter",
        )
        recorder.gauge("process_cpu_seconds_total", "CPU time, user and system.", time.process_time, "counter")

    @contextlib.asynccontextmanager
    async def shown_apart(self) -> AsyncIterator[None]:
        """Show it at ``Server.metrics_address`` within this context; nowhere, unless there is one."""
        address = self.server.metrics_address
        if address is None:
            yield
            return
        from erlmcp.server.apart import shown_apart

        async with shown_apart(self.server, *address) as listener:
            self.port = listener.port
            yield

    @property
    def is_draining(self) -> bool:
        """Whether one of its listeners accepts no more."""
        listeners = [each for listeners in self.listeners.values() for each in listeners]
        return any(getattr(each, "is_closing", False) for each in listeners)

    # -- what it looks at ----------------------------------------------------------------------------------------------

    def show(self, kind: str, listener: Any, endpoint: Any = None) -> None:
        """Show what these hold, too."""
        if listener is not None:
            self.listeners.setdefault(kind, []).append(listener)
        if endpoint is not None:
            self.endpoints.append(endpoint)

    @contextlib.contextmanager
    def showing(self, kind: str, listener: Any, endpoint: Any = None) -> Iterator[None]:
        """``show`` within this context."""
        self.show(kind, listener, endpoint)
        try:
            yield
        finally:
            self.listeners[kind].remove(listener)
            if endpoint is not None:
                self.endpoints.remove(endpoint)

    # -- numbers of now ------------------------------------------------------------------------------------------------

    def _info(self) -> Mapping[Labels, float]:
        return {
            (
                ("core", core.IMPLEMENTATION),
                ("python", platform.python_version()),
                ("server", self.server.name),
                ("version", own_version()),
            ): 1
        }

    def _start(self) -> float:
        return self.recorder.started_s

    def _inflight(self) -> float:
        return self.server.turn.load.inflight

    def _threads(self) -> float:
        return len(self.server.lanes)

    def _threads_max(self) -> float:
        return self.server.limits.thread_count_max

    def _sessions(self) -> float:
        return sum(len(endpoint.sessions) for endpoint in self.endpoints)

    def _connections(self) -> Mapping[Labels, float]:
        return {
            (("transport", kind),): sum(len(listener.connections) for listener in listeners)
            for kind, listeners in sorted(self.listeners.items())
        }

    def _flags(self) -> Mapping[Labels, float]:
        return {(("flag", name),): float(value) for name, value in self.flags().items()}

    def _collapsed(self) -> float:
        return self.recorder.meter.collapsed

    def numbers(self) -> dict[str, float]:
        """The gauges that are one number, by name."""
        return {
            gauge.name: values[0][1]
            for gauge, values in self.recorder.read_gauges()
            if len(values) == 1 and values[0][0] == NO_LABELS
        }

    def connections(self) -> dict[str, int]:
        return {dict(labels)["transport"]: int(value) for labels, value in self._connections().items()}

    # -- lists ---------------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What does not change while it runs."""
        return {
            "name": self.server.name,
            "version": self.server.version,
            "erlmcp": own_version(),
            "core": core.IMPLEMENTATION,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "started": self.recorder.started_s,
        }

    def flags(self) -> dict[str, bool]:
        flags = self.server.flags
        return {name: bool(getattr(flags, name)) for name in sorted(flags.__dataclass_fields__)}

    def tools(self) -> list[str]:
        return self.server.tool_names()

    def sessions(self, cursor: str | None, count: int) -> dict[str, Any]:
        """A page of the sessions, and the cursor of the next one: O(count), however many there are. ValueError for a
        cursor that is none. Ids are shown as digests: who reads the page must not be able to take a session over."""
        following, found = self.server.session_rolls.page(cursor, count)
        now_ns = time.perf_counter_ns()
        rows = [
            {
                "id": masked(session.id) if session.id else "",
                "transport": session.kind,
                "version": session.connection.version,
                "client": _client_of(session),
                "inflight": len(session.inflight),
                "age_s": round((now_ns - session.opened_ns) / 1e9),
            }
            for session in found
        ]
        return {"sessions": rows, "next": following}


def tell_requests() -> None:
    """Have the records of logs tell the request that they belong to."""
    from erlmcp.metrics import log

    def request_of(record: logging.LogRecord) -> dict[str, str]:
        exchange = getattr(record, "exchange", None)
        return known_here() if exchange is None else known_of(exchange)

    log.request_of = request_of


def own_version() -> str:
    """Of this package."""
    return str(importlib.import_module("erlmcp").__version__)


def _client_of(session: Any) -> str:
    peer = session.connection.peer
    info = peer.info if peer is not None and isinstance(peer.info, dict) else {}
    return f"{info.get('name', '')} {info.get('version', '')}".strip()[:100]


def masked(id: str) -> str:
    """A session's id as it may be shown: enough to tell two of them apart, nothing to use."""
    return hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()[:12]


def resident_bytes() -> float:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
