"""From a server object to a process that serves: loops, signals, drain."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from erlmcp.wire.header import LOOPBACK_NAMES, Gate

if TYPE_CHECKING:
    import ssl

    from erlmcp.metrics.desk import Desk
    from erlmcp.runtime.endpoint import Endpoint
    from erlmcp.runtime.lane import ThreadLanes
    from erlmcp.server.app import Server
    from erlmcp.transports.asgi import AsgiApp
    from erlmcp.transports.listener import HttpListener
    from erlmcp.transports.stream import Listener

log = logging.getLogger("erlmcp.server")


def run(main: Coroutine[Any, Any, ThreadLanes]) -> None:
    """Run on uvloop where it is installed and ERLMCP_LOOP is not "asyncio"."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if os.environ.get("ERLMCP_LOOP") != "asyncio":
        with contextlib.suppress(ImportError):
            import uvloop

            factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        lanes = runner.run(main)
    if len(lanes) and _is_main_thread():
        # Calls that still run in threads cannot be cancelled, nobody waits for them, and the interpreter would.
        log.info("%d calls in threads are left behind", len(lanes))
        logging.shutdown()
        sys.stderr.flush()
        os._exit(0)


def settle() -> None:
    """Take what was made at start out of the collector's sight: its passes are what stalls a busy server."""
    gc.collect()
    gc.freeze()


def make_gate(server: Server, path: str, host: str | None) -> Gate:
    """Who may speak to the endpoint: loopback names only where it is bound to loopback."""
    hosts = (*server.allowed_hosts, *_words("ERLMCP_ALLOWED_HOSTS"))
    origins = (*server.allowed_origins, *_words("ERLMCP_ALLOWED_ORIGINS"))
    return _gate("/" + path.strip("/"), host is None or host in LOOPBACK_NAMES, hosts, origins)


@functools.lru_cache
def _gate(path: str, local: bool, hosts: tuple[str, ...], origins: tuple[str, ...]) -> Gate:
    """Equal gates are one: listeners that share a gate share its verdicts."""
    return Gate(path, local, hosts, origins)


def _words(name: str) -> list[str]:
    return [word.strip() for word in os.environ.get(name, "").split(",") if word.strip()]


@asynccontextmanager
async def http(
    server: Server,
    host: str | None = "127.0.0.1",
    port: int = 0,
    path: str = "/mcp",
    unix: str | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    http2: bool = False,
    make_endpoint: Callable[[Gate], Endpoint] | None = None,
) -> AsyncIterator[HttpListener]:
    """Serve Streamable HTTP within this context; ``.port`` of its value is the port. Leaving it drains.

    ``http2`` (extra ``http2``): by ALPN with ``tls``, whose context is told so, and by prior knowledge without.
    ``make_endpoint`` gives what takes the requests, the server's own endpoint where it is not said.
    """
    from erlmcp.runtime.quick import make_http_stride
    from erlmcp.transports.listener import HttpListener
    from erlmcp.transports.stream import bind_unix

    async with server.running():
        gate = make_gate(server, path, host)
        endpoint = (make_endpoint or server.make_endpoint)(gate)
        handler: Any = endpoint
        if server.sse_transport:
            from erlmcp.runtime.oldsse import OldSse

            handler = OldSse(server, endpoint)
        stride = make_http_stride(server, endpoint) if endpoint.is_quick else None
        listener = HttpListener(
            handler, server.routes, server.limits, server.turn, stride, lambda: server.flags.zero_copy
        )
        place = server.connection_rolls.put(listener.connections)
        endpoint.desk = make_desk(server, endpoint.gate, lambda: "draining" if listener.is_closing else "")
        is_one_of_many = server.worker is not None
        sock = bind_unix(unix) if unix else None
        await listener.listen(host, port, sock, tls=tls, http2=http2, reuse_port=is_one_of_many)
        try:
            async with server.worker.open(server, endpoint) if server.worker else contextlib.nullcontext():
                with server.board.showing("http", listener, endpoint):
                    try:
                        yield listener
                    finally:
                        await listener.close(server.limits.drain_timeout_s, _end_streams(server, handler))
        finally:
            handler.close()
            server.connection_rolls.take(place)
            if unix:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(unix)


def make_desk(server: Server, gate: Gate, ready: Callable[[], str]) -> Desk:
    """What answers the paths beside the endpoint."""
    from erlmcp.dashboard.page import pages
    from erlmcp.metrics.desk import Desk

    shown = pages(server.board) if server.recorder is not None else {}
    desk = Desk(gate, server.recorder, token=server.metrics_token, ready=ready, pages=shown)
    if server.worker is not None:
        desk.together = functools.partial(server.worker.expose, server)
    return desk


def _end_streams(server: Server, handler: Any) -> Callable[[], None]:
    """Streams that stay open by themselves end first, so that what is left to drain are calls."""

    def end() -> None:
        server.hub.close()
        handler.end_streams()

    return end


def asgi(server: Server, path: str) -> AsgiApp:
    """The endpoint for another ASGI server. Which hosts may be asked for is that server's business, unless
    ``allowed_hosts`` says so; Origins are checked against the Host."""
    from erlmcp.transports.asgi import AsgiApp

    gate = make_gate(server, path, "asgi")

    def make_handler() -> Any:
        endpoint = server.make_endpoint(gate)
        server.board.show("asgi", None, endpoint)
        endpoint.desk = make_desk(server, gate, lambda: "")
        return endpoint

    return AsgiApp(make_handler, server.routes, server.limits, path, server.start, server.stop)


@asynccontextmanager
async def tcp(server: Server, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Listener]:
    """Serve newline-framed MCP over TCP within this context."""
    from erlmcp.transports.stream import listen_tcp

    async with server.running():
        limits = server.limits
        listener = await listen_tcp(
            functools.partial(server.link, kind="tcp"),
            host,
            port,
            connection_count_max=limits.connection_count_max,
            outbox_bytes_max=limits.outbox_bytes_max,
            outbox_pause_bytes=int(limits.outbox_pause_bytes),
        )
        with server.board.showing("tcp", listener):
            try:
                yield listener
            finally:
                await listener.close(server.limits.drain_timeout_s)


@asynccontextmanager
async def unix(server: Server, path: str) -> AsyncIterator[Listener]:
    """Serve newline-framed MCP on a Unix socket within this context."""
    from erlmcp.transports.stream import listen_unix

    async with server.running():
        limits = server.limits
        listener = await listen_unix(
            functools.partial(server.link, kind="unix"),
            path,
            connection_count_max=limits.connection_count_max,
            outbox_bytes_max=limits.outbox_bytes_max,
            outbox_pause_bytes=int(limits.outbox_pause_bytes),
        )
        with server.board.showing("unix", listener):
            try:
                yield listener
            finally:
                await listener.close(server.limits.drain_timeout_s)


async def stdio(server: Server) -> ThreadLanes:
    """Serve over standard input and output until the input ends or the output breaks; the threads that served."""
    from erlmcp.transports.stdio import StdioConnection, take_descriptors

    read_fd, write_fd = take_descriptors()
    with contextlib.ExitStack() as signals:
        async with server.running():
            lanes = server.lanes
            connection = StdioConnection(
                functools.partial(server.link, kind="stdio"),
                read_fd,
                write_fd,
                outbox_bytes_max=server.limits.outbox_bytes_max,
                drain_timeout_s=server.limits.drain_timeout_s,
            )
            stopped = signals.enter_context(_stop_signals())
            await asyncio.wait(
                [asyncio.ensure_future(stopped.wait()), connection.finished], return_when=asyncio.FIRST_COMPLETED
            )
            connection.close()
    return lanes


@contextlib.contextmanager
def _stop_signals() -> Any:
    """An event that SIGINT and SIGTERM set; a second one of them ends the process at once. Only the main thread hears
    signals: in another one nothing sets it."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            os._exit(130)
        stopped.set()

    numbers = (signal.SIGINT, signal.SIGTERM) if _is_main_thread() else ()
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield stopped
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


async def until_stopped(server: Server, opening: Any, announce: Callable[[Any], str]) -> ThreadLanes:
    """Serve within ``opening`` until SIGINT or SIGTERM; ``announce`` gives the line that says where."""
    with contextlib.ExitStack() as signals:  # heard until the drain is over
        async with opening as listener:
            lanes = server.lanes
            settle()
            stopped = signals.enter_context(_stop_signals())  # before it is told: who hears it may end it
            sys.stderr.write(f"{announce(listener)}\n")  # at once: other workers write, too
            sys.stderr.flush()
            await stopped.wait()
    return lanes


def run_http(
    server: Server, host: str, port: int, path: str, *, tls: ssl.SSLContext | None = None, http2: bool | None = None
) -> None:
    """``http2`` None: with ``tls``, where the library is installed and the flag is on."""
    from erlmcp import core

    shown = f"[{host}]" if ":" in host else host
    route = ("http" if tls is None else "https") + "://" + shown
    speaks = server.flags.http2 and (tls is not None and find_spec("h2") is not None if http2 is None else http2)

    def announce(listener: Any) -> str:
        which = "" if server.worker is None else f", worker {server.worker.place.index}"
        return f"{server.name}: serving {route}:{listener.port}/{path.strip('/')} ({core.IMPLEMENTATION}{which})"

    run(until_stopped(server, http(server, host, port, path, tls=tls, http2=speaks), announce))


def run_tcp(server: Server, host: str, port: int) -> None:
    run(
        until_stopped(
            server, tcp(server, host, port), lambda listener: f"{server.name}: serving tcp://{host}:{listener.port}"
        )
    )


def run_unix(server: Server, path: str) -> None:
    run(until_stopped(server, unix(server, path), lambda _listener: f"{server.name}: serving unix:{path}"))


def run_stdio(server: Server) -> None:
    run(stdio(server))
