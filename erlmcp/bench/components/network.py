"""Rows of the whole way of a message, bytes in to bytes out: without a socket, and over TCP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from erlmcp.bench import message
from erlmcp.bench.components.row import BATCH, OURS, Row, Ways, marks
from erlmcp.bench.load import ID_SLOT, lines_load
from erlmcp.bench.process import ROOT, SERVERS, free_port
from erlmcp.bench.timing import Timed, closing
from erlmcp.bench.worker import Worker

INFLIGHT = 1000
SENDS = 20_000  # messages of one repeat over TCP
PING = b'{"jsonrpc":"2.0","id":%s,"method":"ping"}' % ID_SLOT
START_TIMEOUT_S = 30.0


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


# ---------------------------------------------------------------------------------------------------- over TCP
def _connected(port: int, process: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_S)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _shaken(made: socket.socket) -> None:
    """The handshake of a revision that has a ping."""
    made.sendall(message.initialize() + b"\n" + message.INITIALIZED + b"\n")
    read = b""
    while not read.endswith(b"\n"):
        part = made.recv(65536)
        if not part:
            raise OSError("the server closed the connection in the handshake")
        read += part


def _served(who: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    port = free_port()
    given = {**os.environ, "ERLMCP_CORE": who, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    words = [sys.executable, "-m", "erlmcp", "serve", str(SERVERS / "echo_erlmcp.py"), "--tcp", f"127.0.0.1:{port}"]
    process = subprocess.Popen(words, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process, _connected(port, process)
    except BaseException:
        process.kill()
        process.wait()
        raise


def _limit() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """C that answers each line with one fixed line, over the same kind of socket."""
    given = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with theirs:
        words = [sys.executable, "-c", "from erlmcp.bench import limit; limit.stdio()"]
        fd = theirs.fileno()
        return subprocess.Popen(words, env=given, stdin=fd, stdout=fd, stderr=subprocess.DEVNULL), ours


def over_tcp(kind: str, who: str) -> Timed:
    """``SENDS`` messages over one connection to a server process, ``INFLIGHT`` of them always outstanding."""
    process, made = _limit() if who == "C" else _served(who)
    made.settimeout(None)
    fds = made.fileno(), os.dup(made.fileno())

    def close() -> None:
        made.close()
        os.close(fds[1])
        process.kill()
        process.wait()

    asked = PING if kind == "ping" else message.call("echo", {"text": message.TEXT})
    expect = b"" if who == "C" else b'"result":{}' if kind == "ping" else message.EXPECT

    def elapsed(repeats: int) -> int:
        load = lines_load(asked, fds=fds, inflight=INFLIGHT, count=repeats * SENDS, expect=expect)
        if load["count"] != repeats * SENDS:
            raise RuntimeError(f"{load['error_kinds']}: {load['first_error']!r}")
        return int(load["seconds"] * 1e9)

    try:
        if kind == "ping" and who != "C":
            _shaken(made)
        return closing(Timed(SENDS, elapsed), close)
    except BaseException:
        close()
        raise


def _tcp_ways(ways: Ways, kind: str) -> None:
    for who in OURS:
        ways.own("batch", who, partial(over_tcp, kind, who))
    ways.limit("batch", "C with a fixed answer", partial(over_tcp, kind, "C"))


WORDS = f"a process of its own, one connection (call: one message a read; batch: {BATCH:,} messages a read)"
TCP_WORDS = f"over TCP, {INFLIGHT:,} in flight on one connection, the generator (compiled) on the same machine"
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
    Row(
        "network-tcp-ping",
        "network",
        f"ping, answered natively, {TCP_WORDS}",
        lambda ways: _tcp_ways(ways, "ping"),
        marks(batch=5),
        batch=INFLIGHT,
    ),
    Row(
        "network-tcp-echo",
        "network",
        f"tools/call of an async Python handler, {TCP_WORDS}",
        lambda ways: _tcp_ways(ways, "echo"),
        marks(batch=1),
        batch=INFLIGHT,
    ),
]
