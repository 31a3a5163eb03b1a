"""Rows of the whole way of a message, bytes in to bytes out, without a socket."""

from __future__ import annotations

from collections.abc import Callable

from erlmcp.bench.components.row import BATCH, OURS, Row, Ways, marks
from erlmcp.bench.timing import Timed, closing
from erlmcp.bench.worker import Worker


def remote(kind: str, batch: int, *, is_plain_json: bool = False, **environment: str) -> Callable[[], Timed]:
    """A maker of a variant that runs in a process of its own, which ends when the candidate is dropped."""

    def make() -> Timed:
        worker = Worker(environment=environment)
        try:
            return closing(worker.timed("erlmcp.bench.journey:made", kind, batch, is_plain_json), worker.close)
        except BaseException:
            worker.close()
            raise

    return make


def _ways(ways: Ways, kind: str) -> None:
    for who in OURS:
        ways.own("call", who, remote(kind, 1, ERLMCP_CORE=who))
        ways.own("batch", who, remote(kind, BATCH, ERLMCP_CORE=who))


WORDS = f"a process of its own, one connection (call: one message a read; batch: {BATCH:,} messages a read)"
ROWS = [
    Row(
        "network-ping",
        "network",
        f"bytes in -> bytes out, no socket: ping, answered natively; {WORDS}",
        lambda ways: _ways(ways, "ping"),
        marks(batch=5),
    ),
    Row(
        "network-echo",
        "network",
        f"bytes in -> bytes out, no socket: tools/call of an async Python handler; {WORDS}",
        lambda ways: _ways(ways, "echo"),
        marks(batch=2),
    ),
]
