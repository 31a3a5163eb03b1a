"""Every bound of the HTTP client: one frozen record, each bound with a name and a default."""

from __future__ import annotations

from dataclasses import dataclass, fields

from erlmcp.errors import ConfigurationError
from erlmcp.limits import KIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds on connections, waits and what a server may send. A call's own deadline comes from its caller."""

    # Connections
    connection_count_max: int = 64
    connection_count_min: int = 1
    opening_count_max: int = 16
    spare_count_max: int = 8  # beside the others, for answers to the server while all of those are taken
    waiter_count_max: int = 4096
    idle_s: float = 60.0
    age_s: float = 3600.0
    # Waits
    connect_timeout_s: float = 10.0  # name, TCP and TLS together
    exchange_timeout_s: float = 30.0  # a notification, an answer, the head of a stream, a DELETE
    listen_wait_s: float = 0.25  # that a session's first requests wait for the stream that the server speaks on
    linger_s: float = 1.0  # between the answer on an event stream and the end of the stream
    close_timeout_s: float = 2.0
    leak_s: float = 10.0  # that what is over may hold its connection
    # What a server may send
    head_bytes_max: int = 32 * KIB
    header_count_max: int = 100
    body_bytes_max: int = 64 * MIB
    event_bytes_max: int = 16 * MIB
    depth_max: int = 128
    # Event streams
    retry_s: float = 1.0  # where the server names no time of its own
    retry_s_max: float = 30.0
    resume_count_max: int = 20  # resumptions in a row without an event
    redirect_count_max: int = 3
    # HTTP/2
    stream_count_max: int = 100  # at the same time on one connection, where the server allows as many
    window_bytes: int = 1 * MIB
    ping_s: float = 30.0  # of silence, before a connection is asked whether it is alive; as long again for its answer
    # What is sent
    request_bytes_max: int = 64 * MIB
    inflight_count_max: int = 100_000
    batch_count_max: int = 100  # requests of one JSON-RPC array

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            lowest_is_fine = value == 0 and item.name in ("connection_count_min", "redirect_count_max")
            if isinstance(value, bool) or not isinstance(value, int | float) or (value <= 0 and not lowest_is_fine):
                raise ConfigurationError(f"limit {item.name} must be a positive number, got {value!r}")
        if self.connection_count_min > self.connection_count_max:
            raise ConfigurationError(
                f"connection_count_min={self.connection_count_min} is above "
                f"connection_count_max={self.connection_count_max}"
            )
