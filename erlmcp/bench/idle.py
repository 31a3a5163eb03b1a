"""Stateful sessions (2025-11-25): what opening one costs, what an idle one weighs without and with its GET stream."""

from __future__ import annotations

import argparse
import resource
import socket
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from erlmcp.bench import message, table
from erlmcp.bench.load import http_load
from erlmcp.bench.process import Peer, PeerError, Running, interpreter, version_of


@dataclass
class IdleRow:
    """One server. ``open_us`` is initialize alone, from request to answer, one after the other on one connection."""

    server: str
    version: str
    error: str = ""
    open_us: float | None = None
    open_cpu_us: float | None = None
    session_kb: float | None = None
    streamed_kb: float | None = None


def _stream(running: Running, session: str) -> socket.socket:
    """An open GET stream of the session. Raises PeerError."""
    made = socket.create_connection(("127.0.0.1", running.port), timeout=10)
    head = (
        f"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nAccept: text/event-stream\r\n"
        f"Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: {message.LEGACY}\r\n\r\n"
    )
    made.sendall(head.encode())
    answer = made.recv(4096)
    if b" 200 " not in answer[:16]:
        made.close()
        raise PeerError(f"GET answered {answer[:160]!r}")
    return made


def measure_one(running: Running, count: int, rounds: int) -> dict[str, float]:
    """All figures of one server, which is fresh. Raises PeerError and OSError."""
    body = message.http(running.port, message.initialize(), era=message.LEGACY)
    opened, cpu = [], []
    for _ in range(rounds):
        before = running.cpu_s()
        load = http_load("127.0.0.1", running.port, body, count=count, expect=b'"protocolVersion":"2025-11-25"')
        if load["errors"]:
            raise PeerError(f"{load['errors']} of {load['sent']} failed {load['error_kinds']}: {load['first_error']!r}")
        opened.append(load["p50_us"])
        cpu.append((running.cpu_s() - before) / count * 1e6)
    running.stop()
    running.start()
    for _ in range(20):
        running.open_session()
    before_mb = running.rss_mb()
    sessions = [running.open_session() for _ in range(count)]
    opened_mb = running.rss_mb()
    streams: list[socket.socket] = []
    try:
        for session in sessions:
            streams.append(_stream(running, session))
        streamed_mb = running.rss_mb()
    finally:
        for one in streams:
            one.close()
    return {
        "open_us": statistics.median(opened),
        "open_cpu_us": statistics.median(cpu),
        "session_kb": (opened_mb - before_mb) * 1e3 / count,
        "streamed_kb": (streamed_mb - before_mb) * 1e3 / count,
    }


def measure_all(options: argparse.Namespace, peers: Sequence[Peer], say: TextIO) -> list[IdleRow]:
    """One server after the other: each is measured alone, as memory is its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = []
    for peer in peers:
        if "stateful" not in peer.modes:
            continue
        row = IdleRow(peer.name, "-")
        rows.append(row)
        try:
            row.version = version_of(peer, interpreter(peer, options.python))
            running = Running(peer, "stateful", interpreter(peer, options.python))
            running.start()
        except PeerError as error:
            row.error = str(error)
            continue
        try:
            for name, value in measure_one(running, options.sessions, options.rounds).items():
                setattr(row, name, value)
        except (PeerError, OSError) as error:
            row.error = str(error)
        finally:
            running.stop()
        print(f"  sessions: {peer.name} {row.error or 'done'}", file=say, flush=True)
    return rows


def report(rows: Sequence[IdleRow], out: TextIO) -> None:
    """One table."""
    heads = ["server", "version", "open us", "ratio", "CPU us", "idle KB", "with GET stream KB"]
    ours = next((row for row in rows if row.server == "erlmcp"), IdleRow("erlmcp", ""))
    cells = [
        [
            row.server,
            row.version,
            table.number(row.open_us),
            table.ratio(row.open_us, ours.open_us),
            table.number(row.open_cpu_us),
            table.number(row.session_kb),
            table.number(row.streamed_kb),
        ]
        for row in rows
    ]
    notes = [f"{row.server}: {row.error}" for row in rows if row.error]
    table.write(out, "stateful sessions over HTTP, 2025-11-25", heads, cells, notes)
