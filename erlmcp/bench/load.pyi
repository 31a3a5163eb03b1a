"""The load generator: one thread, raw sockets and pipes, epoll, no Python on the way of a message."""

from collections.abc import Sequence
from typing import Final, TypedDict

from erlmcp._core.meter import Histogram

ID_SLOT: Final[bytes]
"""``b"1000000000"``: where it stands in a request, each send puts a unique, increasing ten-digit id there."""

class Load(TypedDict):
    """What a run measured. ``count + errors == sent`` always; latencies are of right answers only."""

    sent: int
    count: int  # right answers
    errors: int  # the sum of error_kinds
    error_kinds: dict[str, int]  # status, wrong, closed, timeout, malformed: only those that happened
    first_error: bytes  # the first bytes of the first answer that was not right
    unmatched: int  # answers to nothing that was asked; not part of errors, and never zero on a sane server
    notices: int  # messages with a method and no id of ours, passed over (newline framing only)
    reconnects: int
    unsent: int  # fixed rate only: sends that were due within the run, but no connection was free for them
    seconds: float  # from the first send to the last answer
    rate: float  # right answers a second; in a timed run those that came within it
    cpu_us: float  # the generator's own CPU time per right answer
    mean_us: float
    p50_us: float
    p95_us: float
    p99_us: float
    p999_us: float
    max_us: float
    latencies: Histogram

def http_load(
    host: str,
    port: int,
    request: bytes | Sequence[bytes],
    *,
    connections: int = 1,
    seconds: float | None = None,
    count: int | None = None,
    expect: bytes = b"",
    status: int = 200,
    pipeline: int = 1,
    rate: float | None = None,
    timeout_s: float = 10.0,
) -> Load:
    """Send whole HTTP/1.1 requests over keep-alive connections and check each answer.

    ``request`` is a head and a body; of a list, connection i sends request ``i % len``. Where ``ID_SLOT`` stands in it,
    the answer must hold the id that was sent. An answer is right when its status is ``status`` and its body
    (Content-Length, chunked, or up to the close) holds ``expect``.

    Without ``rate`` the loop is closed: each connection keeps ``pipeline`` requests outstanding. With it (requests a
    second over all connections) the loop is open: latency counts from the moment the request was due, so a stall of the
    server is seen by all that it delayed. The run ends after ``seconds``, or ``count`` sends, whichever is given or
    comes first; what is outstanding then is waited for.

    Raises OSError where no connection can be opened at the start, ValueError for arguments that make no sense.
    """

def lines_load(
    message: bytes,
    *,
    fds: tuple[int, int] | None = None,
    address: tuple[str, int] | None = None,
    path: str | None = None,
    connections: int = 1,
    inflight: int = 1,
    seconds: float | None = None,
    count: int | None = None,
    expect: bytes = b"",
    rate: float | None = None,
    timeout_s: float = 10.0,
) -> Load:
    """Send newline-framed messages over a pair of pipes, TCP or a Unix socket, and match the answers by id, in any
    order.

    ``message`` holds ``ID_SLOT`` once, and no newline. Exactly one of ``fds`` (to read from, to write to), ``address``
    and ``path`` is given; ``fds`` stay open and get their blocking mode back. On each of ``connections`` (one, where
    ``fds`` are given) ``inflight`` messages are kept outstanding (with ``rate``: at most so many). An answer is right
    when it has the id of an outstanding message and holds ``expect``.

    Raises OSError where the connection cannot be opened, ValueError for arguments that make no sense.
    """
