"""What a gateway's metrics tell of its upstreams: how long they take, in what state they are, and what refuses.

The names of upstreams are those of the configuration; codes of errors, which upstreams choose, are told where they are
of the protocol, and are ``_OTHER`` else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from erlmcp import errors
from erlmcp.errors import CallTimeoutError, ErlmcpError, McpError
from erlmcp.metrics import family as f

if TYPE_CHECKING:
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.forward import Forward
    from erlmcp.gateway.upstream import Upstream
    from erlmcp.metrics.recorder import Recorder
    from erlmcp.metrics.series import Labels, Row, Series

STATES: Final = ("idle", "starting", "up", "down", "stopped")
KNOWN_CODES: Final = frozenset(
    value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)
)
PARTS: Final = ("breaker", "rate", "bulkhead")
Sum = Callable[[Sequence["Series"]], "Row"]
COLUMNS: Final = [
    ("name", "Upstream", "text"), ("state", "State", "state"), ("rate", "A second", "count"),
    ("errors", "Errors", "count"), ("p50", "p50", "time"), ("p95", "p95", "time"), ("p99", "p99", "time"),
    ("inflight", "In flight", "count"), ("lines", "Lines", "count"), ("restarts", "Restarts", "count"),
    ("breaker", "Breaker", "state"), ("refused", "Refused", "count"), ("cache", "Cache hits", "share"),
    ("canary", "Canary", "text"),
]  # fmt: skip


class Tally:
    """Records what was asked of one upstream, by method and error."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder = recorder
        self._name = name
        self._known: dict[tuple[str, str], Callable[[int], None]] = {}

    def answered(self, forward: Forward, error: str) -> None:
        """A request ended: ``error`` is "", tool_error, cancelled, or what ``error_name`` gives."""
        spent_ns = monotonic_ns() - forward.began_ns or 1
        exchange = forward.exchange
        if exchange is not None:
            exchange.upstream_ns += spent_ns
        record = self._known.get((forward.method, error))
        if record is None:
            labels = {"upstream": self._name, f.METHOD: forward.method, f.ERROR: error}
            record = self._recorder.series_of(f.UPSTREAM_OPERATION, labels).hot.record
            self._known[forward.method, error] = record
        record(spent_ns)


def code_name(code: object) -> str:
    """An error answer's code as a label."""
    return str(code) if code in KNOWN_CODES else f.OTHER_ERROR


def error_name(error: BaseException) -> str:
    """Why there is no answer, as a label: one of a few."""
    if isinstance(error, McpError):
        return code_name(error.code)
    if isinstance(error, CallTimeoutError):
        return "timeout"
    return type(error).__name__ if isinstance(error, ErlmcpError) else f.OTHER_ERROR


def add_gauges(gateway: Gateway, recorder: Recorder) -> None:
    """Show the state of each upstream."""
    shown = (
        ("erlmcp_upstream_state", "Whether an upstream is in this state.", "gauge", _states),
        ("erlmcp_upstream_inflight", "Requests that an upstream has not answered.", "gauge", _inflight),
        ("erlmcp_upstream_lines", "Open connections to an upstream, by what they are for.", "gauge", _lines),
        ("erlmcp_upstream_line_count_max", "Of those beside the shared ones, at most.", "gauge", _lines_max),
        ("erlmcp_upstream_restarts_total", "Starts of an upstream's instances but the first.", "counter", _restarts),
        ("erlmcp_upstream_breaker_state", "Whether an upstream's breaker is in this state.", "gauge", _breakers),
        ("erlmcp_upstream_refusals_total", "Requests that a guard kept from an upstream.", "counter", _refusals),
        ("erlmcp_upstream_running", "Requests within the bulkhead before an upstream.", "gauge", _running),
        ("erlmcp_upstream_waiting", "Requests that wait for a place in that bulkhead.", "gauge", _waiting),
        ("erlmcp_upstream_cache_hits_total", "Reads that a kept answer was given to.", "counter", _hits),
        ("erlmcp_upstream_cache_misses_total", "Reads that found no kept answer.", "counter", _misses),
        ("erlmcp_upstream_canary_share", "Share of the calls that the version on trial gets.", "gauge", _shares),
        ("erlmcp_upstream_canary_errors_total", "Calls of a side of a trial that failed.", "counter", _failed),
    )  # fmt: skip
    for name, help, kind, read in shown:
        recorder.gauge(name, help, _reader(read, gateway), kind)
    recorder.gauge("erlmcp_gateway_cache_entries", "Answers of upstreams that are kept.", lambda: len(gateway.answers))
    shown_rows = "Upstreams", COLUMNS, lambda add_up: _rows(gateway, recorder, add_up)
    gateway.board.sections = {"upstreams": shown_rows, **gateway.board.sections}


def _reader(read: Any, gateway: Gateway) -> Any:
    def values() -> Mapping[Labels, float]:
        found: dict[Labels, float] = {}
        for upstream in gateway.known_upstreams():  # those of callers have the name of the one that they are like
            for labels, value in read(upstream):
                key = (*sorted(labels.items()), ("upstream", upstream.name))
                found[key] = max(found.get(key, 0.0), value) if read is _states else found.get(key, 0.0) + value
        return found

    return values


Values = Iterator[tuple[dict[str, str], float]]


def _states(upstream: Upstream) -> Values:
    for state in STATES:
        yield {"state": state}, float(upstream.state == state)


def _inflight(upstream: Upstream) -> Values:
    yield {}, _inflight_count(upstream)


def _inflight_count(upstream: Upstream) -> int:
    return sum(len(line.forwards) for line in upstream.lines())


def _lines(upstream: Upstream) -> Values:
    for kind, count in _census(upstream).items():
        yield {"kind": kind}, count


def _census(upstream: Upstream) -> dict[str, int]:
    """Open connections by what they are for."""
    resting = sum(map(len, upstream._resting.values()))
    groups = {
        "shared": upstream.shared_lines,
        "voice": upstream._spoken,
        "session": upstream._owned,
        "lent": upstream._lent,
    }
    return {**{name: len(group) for name, group in groups.items()}, "resting": resting}


def _lines_max(upstream: Upstream) -> Values:
    yield {}, upstream.config.line_count_max


def _restarts(upstream: Upstream) -> Values:
    yield {}, _restart_count(upstream)


def _restart_count(upstream: Upstream) -> int:
    return max(0, upstream.start_count - upstream.config.instances)


def _guards(upstream: Upstream, part: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(tool, what its guard tells of one part); the tool is "" for the guard before all of them."""
    for name, told in upstream.protection.report().items():
        if isinstance(told.get(part), dict):
            yield "" if name == upstream.config.name else name, told[part]


def _breakers(upstream: Upstream) -> Values:
    for tool, told in _guards(upstream, "breaker"):
        for state in ("closed", "open", "half-open"):
            yield {"tool": tool, "state": state}, float(told["state"] == state)


def _refusals(upstream: Upstream) -> Values:
    for part in PARTS:
        for tool, told in _guards(upstream, part):
            yield {"tool": tool, "reason": part}, told["refused"]


def _running(upstream: Upstream) -> Values:
    for tool, told in _guards(upstream, "bulkhead"):
        yield {"tool": tool}, told["running"]


def _waiting(upstream: Upstream) -> Values:
    for tool, told in _guards(upstream, "bulkhead"):
        yield {"tool": tool}, told["waiting"]


def _hits(upstream: Upstream) -> Values:
    yield {}, upstream.cache_hit_count


def _misses(upstream: Upstream) -> Values:
    yield {}, upstream.cache_miss_count


def _trial(upstream: Upstream) -> dict[str, Any] | None:
    trial = upstream.trial
    return trial.rollout.status() if trial is not None and trial.old is upstream else None


def _shares(upstream: Upstream) -> Values:
    told = _trial(upstream)
    if told is not None:
        yield {"state": str(told["state"])}, told["share"]


def _failed(upstream: Upstream) -> Values:
    told = _trial(upstream)
    for side in ("old", "new") if told is not None else ():
        yield {"side": side}, told[side]["errors"]  # type: ignore[index]


# -- the dashboard -----------------------------------------------------------------------------------------------------


def _rows(gateway: Gateway, recorder: Recorder, add_up: Sum) -> list[Row]:
    """A row for each upstream, and for each version on trial."""
    series: dict[str, list[Series]] = {}
    for each in recorder.series(f.UPSTREAM_OPERATION):
        series.setdefault(each.label("upstream"), []).append(each)
    groups: dict[str, list[Upstream]] = {}
    for upstream in gateway.known_upstreams():
        groups.setdefault(upstream.name, []).append(upstream)
    return [_row(name, group, add_up(series.get(name, ()))) for name, group in groups.items()]


def _row(name: str, group: list[Upstream], times: Row) -> Row:
    first = group[0]
    hits, misses = (
        sum(each) for each in zip(*((one.cache_hit_count, one.cache_miss_count) for one in group), strict=True)
    )
    states = [told["state"] for one in group for _, told in _guards(one, "breaker")]
    told = _trial(first)
    return {
        **times,
        "name": name,
        "state": first.state,
        "why": first.why,
        "inflight": sum(map(_inflight_count, group)),
        "lines": sum(sum(_census(each).values()) for each in group),
        "restarts": sum(_restart_count(each) for each in group),
        "breaker": next((state for state in ("open", "half-open", "closed") if state in states), ""),
        "refused": sum(told["refused"] for one in group for part in PARTS for _, told in _guards(one, part)),
        "cache": hits / (hits + misses) if hits + misses else None,
        "canary": "" if told is None else f"{told['state']}, {told['share']:.0%}",
    }
