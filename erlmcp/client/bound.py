"""Every bound that a client puts on what comes from a server, and on its own waiting."""

from __future__ import annotations

from dataclasses import dataclass, fields

from erlmcp.errors import ConfigurationError

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """One frozen record; the errors that a bound leads to name its field."""

    # Messages
    message_bytes_max: int = 64 * MIB  # of one answer
    outbox_bytes_max: int = 64 * MIB  # of one write; a server that leaves twice as much unread is cut off
    depth_max: int = 128
    # Calls
    timeout_s: float = 60.0  # each request, where the call does not say otherwise
    timeout_s_max: float = 600.0  # as far as progress, where it is followed, extends that
    inflight_count_max: int = 1000  # sent and not answered, on one connection
    inflight_count_min: int = 1000  # where it is less: of a byte stream, the limit goes by latency between the two
    queue_count_max: int = 10_000  # waiting for their turn behind those
    batch_count_max: int = 100  # requests of one JSON-RPC array (2025-03-26), where those are asked for
    input_round_max: int = 10  # of a request that the server answers with questions (2026-07-28, mrtr)
    task_count_max: int = 1024  # questions of the server and coroutine callbacks that run at a time
    page_count_max: int = 1000  # of one list
    # Connections
    connect_timeout_s: float = 30.0  # until the handshake is over
    probe_timeout_s: float = 5.0  # silence that long after server/discover is a server of the handshake era
    # A server that was started as a process, at its end
    close_timeout_s: float = 2.0  # after its standard input was closed: SIGTERM
    term_timeout_s: float = 2.0  # after that: SIGKILL
    kill_timeout_s: float = 5.0
    stderr_bytes_max: int = 64 * KIB  # kept, the latest
    # What is kept
    cache_count_max: int = 1000
    cache_bytes_max: int = 64 * MIB  # all of it together, as JSON; a larger answer is not kept
    event_count_max: int = 1024  # of one subscription, not taken by its reader yet

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ConfigurationError(f"limit {field.name} must be a positive number, got {value!r}")
