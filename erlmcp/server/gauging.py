"""The numbers of what protects a server and of what is rolled out, as gauges of its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.metrics.recorder import Recorder
    from erlmcp.metrics.series import Labels
    from erlmcp.server.app import Server


def add_gauges(server: Server, recorder: Recorder) -> None:
    """Give the state of each guarded tool and each roll-out; without any of them nothing is shown; and what
    stands in line."""
    shown = (
        ("erlmcp_thread_queue", "Calls that wait for a thread, by lane.", "gauge", _lanes),
        ("erlmcp_turn_queue", "Connections that stand in line for their turn.", "gauge", _turns),
        ("erlmcp_breaker_state", "Whether a tool's breaker is in this state.", "gauge", _breakers),
        ("erlmcp_guard_refusals_total", "Calls that a tool's guard refused.", "counter", _refusals),
        ("erlmcp_guard_running", "Calls within a tool's bulkhead.", "gauge", _running),
        ("erlmcp_guard_waiting", "Calls that wait for a place in a tool's bulkhead.", "gauge", _waiting),
        ("erlmcp_guard_timeout_seconds", "What a tool's timeout is now.", "gauge", _timeouts),
        ("erlmcp_rollout_share", "Share of the calls that the new side of a roll-out gets.", "gauge", _shares),
        ("erlmcp_rollout_errors_total", "Calls of a side of a roll-out that failed.", "counter", _errors),
    )
    for name, help, kind, read in shown:
        recorder.gauge(name, help, _reader(read, server), kind)


def _reader(read: Any, server: Server) -> Any:
    def values() -> Mapping[Labels, float]:
        return dict(read(server))

    return values


def _lanes(server: Server) -> Iterator[tuple[Labels, float]]:
    for lane, count in server.lanes.waiting.items():
        yield (("lane", lane),), count


def _turns(server: Server) -> Iterator[tuple[Labels, float]]:
    yield (), len(server.turn)


def _parts(server: Server, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(tool, what its guard tells of one part)."""
    for tool, told in server.guarding.report().items():
        if isinstance(told.get(name), dict):
            yield tool, told[name]


def _breakers(server: Server) -> Iterator[tuple[Labels, float]]:
    if not server.guarding.report():
        return
    from erlmcp.policy.breaker import CLOSED, HALF_OPEN, OPEN  # not before there is a guard

    for tool, breaker in _parts(server, "breaker"):
        for state in (CLOSED, OPEN, HALF_OPEN):
            yield (("state", state), ("tool", tool)), float(breaker["state"] == state)


def _refusals(server: Server) -> Iterator[tuple[Labels, float]]:
    for part in ("breaker", "rate", "bulkhead"):
        for tool, told in _parts(server, part):
            yield (("reason", part), ("tool", tool)), told["refused"]


def _running(server: Server) -> Iterator[tuple[Labels, float]]:
    for tool, told in _parts(server, "bulkhead"):
        yield (("tool", tool),), told["running"]


def _waiting(server: Server) -> Iterator[tuple[Labels, float]]:
    for tool, told in _parts(server, "bulkhead"):
        yield (("tool", tool),), told["waiting"]


def _timeouts(server: Server) -> Iterator[tuple[Labels, float]]:
    for tool, told in server.guarding.report().items():
        if told.get("timeout_s"):
            yield (("tool", tool),), told["timeout_s"]


def _shares(server: Server) -> Iterator[tuple[Labels, float]]:
    for name, trial in server.trials.items():
        told = trial.status()
        yield (("rollout", name), ("state", str(told["state"]))), told["share"]


def _errors(server: Server) -> Iterator[tuple[Labels, float]]:
    for name, trial in server.trials.items():
        told = trial.status()
        for side in ("old", "new"):
            yield (("rollout", name), ("side", side)), told[side]["errors"]
