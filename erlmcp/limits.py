"""Every bound that erlmcp puts on what comes from outside: one frozen record, each bound with a name and a default."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace

from erlmcp.errors import ConfigurationError

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on input, sessions, queues and waits. Each can be set by argument or by ``ERLMCP_<NAME>`` in capitals."""

    # JSON
    message_bytes_max: int = 4 * MIB
    depth_max: int = 128
    string_bytes_max: int = 4 * MIB
    number_bytes_max: int = 1024
    batch_count_max: int = 100
    # HTTP
    head_bytes_max: int = 32 * KIB
    header_count_max: int = 100
    body_bytes_max: int = 4 * MIB
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    keepalive_timeout_s: float = 75.0
    pipeline_count_max: int = 64
    stream_count_max: int = 128
    connection_count_max: int = 10_000
    # Work in progress
    turn_count_max: int = 256
    turn_time_s: float = 0.00025
    backlog_count_max: int = 256
    backlog_bytes_max: int = 1 * MIB
    queue_delay_max_s: float = 1.0
    inflight_count_max: int = 1024
    total_inflight_count_min: int = 1024
    total_inflight_count_max: int = 10_000
    outbox_bytes_max: int = 64 * MIB
    outbox_pause_bytes: int = 64 * KIB
    outbox_timeout_s: float = 60.0
    thread_count_max: int = 32
    thread_queue_max: int = 1024
    thread_idle_s: float = 30.0
    job_count_max: int = 10_000
    job_running_max: int = 64
    request_timeout_s: float = 300.0
    input_round_max: int = 16
    drain_timeout_s: float = 10.0
    # Sessions and streams
    session_count_max: int = 10_000
    session_idle_s: float = 1800.0
    event_count_max: int = 256
    event_age_s: float = 3600.0
    subscription_count_max: int = 1024
    sse_keepalive_s: float = 15.0
    # Who may come in
    auth_failure_count_max: int = 20
    auth_failure_s: float = 60.0
    # Metrics
    metric_series_max: int = 2000
    trace_count_max: int = 128
    slow_call_s: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ConfigurationError(f"limit {field.name} must be a positive number, got {value!r}")

    @classmethod
    def load(cls, **given: float | None) -> Limits:
        """The defaults, overridden by the environment, overridden by the arguments that are not None."""
        found: dict[str, int | float] = {}
        for field in fields(cls):
            text = os.environ.get("ERLMCP_" + field.name.upper())
            if text is None:
                continue
            try:
                found[field.name] = float(text) if isinstance(field.default, float) else int(text)
            except ValueError:
                raise ConfigurationError(
                    f"ERLMCP_{field.name.upper()}={text!r} is not a number; expected one like {field.default}"
                ) from None
        known = {field.name for field in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise ConfigurationError(f"unknown limit {name!r}; expected one of {', '.join(sorted(known))}")
            if value is not None:
                found[name] = value
        return replace(cls(), **found)  # type: ignore[arg-type]
