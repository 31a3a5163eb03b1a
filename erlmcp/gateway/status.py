"""What is told of an upstream: for the control socket, the command line and programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.gateway.upstream import Upstream


def status_of(upstream: Upstream) -> dict[str, Any]:
    """JSON values: its state and since when, what it offers, what is under way, its guards and its canary; why it is
    down, and when it is tried again (seconds since 1970)."""
    lines = upstream.shared_lines
    found: dict[str, Any] = {
        "name": upstream.name,
        "kind": upstream.config.kind,
        "state": upstream.state,
        "since": upstream.since,
        "starts": upstream.start_count,
        "inflight": sum(len(line.forwards) for line in lines),
        **{kind: len(items) for kind, items in upstream.catalog.items()},
    }
    if lines:
        found["version"] = lines[0].conversation.version
    if upstream.replicas is not None:
        found["replicas"] = upstream.replicas.report(upstream.main_lines)
    if guards := upstream.protection.report():
        found["guards"] = guards
    trial = upstream.trial
    if trial is not None and trial.old is upstream:
        found["canary"] = {"upstream": status_of(trial.new), **trial.rollout.status()}
    if upstream.why:
        found["why"] = upstream.why
    if upstream.next_try is not None:
        found["next_try"] = upstream.next_try
    return found
