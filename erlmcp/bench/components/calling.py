"""Rows of a client's calls, end to end."""

from __future__ import annotations

from collections.abc import Callable

from erlmcp.bench.components.row import OURS, Row, Ways, marks
from erlmcp.bench.timing import Timed, closing
from erlmcp.bench.worker import Worker

MEASURED = "erlmcp.bench.calling"


def remote(kind: str, inflight: int = 1, *, is_plain_json: bool = False, **environment: str) -> Callable[[], Timed]:
    """A maker of a variant that runs in a process of its own, which ends when the candidate is dropped."""

    def make() -> Timed:
        worker = Worker(environment=environment)
        try:
            return closing(worker.timed(f"{MEASURED}:made", kind, inflight, is_plain_json), worker.close)
        except BaseException:
            worker.close()
            raise

    return make


def _ways(ways: Ways, kind: str, inflight: int) -> None:
    for who in OURS:
        ways.own("call", who, remote(kind, inflight, ERLMCP_CORE=who))
    if kind != "stdio":
        ways.own("call", "mcp", remote("mcp"), "mcp")


WORDS = "await client.call_tool(...) to its result, tools/call of an async Python handler"
ROWS = [
    Row(
        "client-objects",
        "network",
        f"{WORDS} in the same process, objects only",
        lambda ways: _ways(ways, "objects", 1),
        marks(call=2),
    ),
    Row(
        "client-bytes",
        "network",
        f"{WORDS} in the same process, through real bytes",
        lambda ways: _ways(ways, "bytes", 1),
        marks(call=1 / 1.2),
    ),
    Row(
        "client-stdio-1",
        "network",
        f"{WORDS} in a process over stdio, 1 in flight",
        lambda ways: _ways(ways, "stdio", 1),
        marks(call=0.04),
    ),
    Row(
        "client-stdio-16",
        "network",
        f"{WORDS} in a process over stdio, 16 in flight",
        lambda ways: _ways(ways, "stdio", 16),
        marks(call=0.15),
    ),
]
