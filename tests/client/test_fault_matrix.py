"""A server that is killed, stalls or answers wrong at each point of a call, over each transport: the call ends in a
typed error within its deadline, the next one works, and no task, descriptor or process is left."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ways import connected

from erlmcp import Client
from erlmcp.client.http import HttpChannel
from erlmcp.client.http_limit import HttpLimits
from erlmcp.errors import CallTimeoutError, ConnectionClosedError, InvalidAnswerError, ServerExitedError

pytestmark = pytest.mark.usefixtures("nothing_left")

FAULTY = str(Path(__file__).with_name("faulty.py"))
TRANSPORTS = ("stdio", "tcp", "unix", "http", "http2")
DEADLINE_S = 0.15
TCP_REPAIR = 19
# What a call comes to at each point: over a byte stream, over HTTP; None: its answer.
POINTS: dict[str, tuple[Any, Any]] = {
    "before": (None, None),
    "sent": (ConnectionClosedError, ConnectionClosedError),
    "half": (ConnectionClosedError, ConnectionClosedError),
    "answered": (None, None),
    "stalled": (CallTimeoutError, CallTimeoutError),
    "garbage": (CallTimeoutError, InvalidAnswerError),  # Lines of noise are passed over.
    "wrong id": (CallTimeoutError, InvalidAnswerError),
    "twice": (None, None),
    "swapped": (None, None),
}
KILLED = {"before", "sent", "half", "answered"}


class Place:
    """Where the server is, and how it gets there again."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.process: subprocess.Popen[bytes] | None = None
        if kind == "stdio":
            self.target: Any = [sys.executable, FAULTY, "stdio"]
            return
        self.path = folder / "s"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        host = f"127.0.0.1:{self.port}"
        self.target = {"tcp": f"tcp://{host}", "unix": f"unix:{self.path}"}.get(kind, f"http://{host}/mcp")

    def start(self) -> None:
        if self.kind == "stdio":
            return  # by its client
        self.path.unlink(missing_ok=True)
        where = str(self.path) if self.kind == "unix" else str(self.port)
        self.process = subprocess.Popen([sys.executable, FAULTY, self.kind, where], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"listening\n"

    def stop(self) -> None:
        if self.process is not None:
            assert self.process.stdout is not None
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def kill(self) -> None:
        if self.kind == "stdio":
            [child] = [each for each in psutil.Process().children() if FAULTY in each.cmdline()]
            child.kill()
        else:
            self.stop()

    @property
    def options(self) -> dict[str, Any]:
        return {"http2": True} if self.kind == "http2" else {}


@pytest.fixture(params=TRANSPORTS)
def place(request: pytest.FixtureRequest, tmp_path: Path, nothing_left: None) -> Iterator[Place]:
    if request.param == "http2":
        pytest.importorskip("h2")
    found = Place(request.param, tmp_path)
    found.start()
    yield found
    found.stop()


@pytest.mark.parametrize("point", list(POINTS))
async def test_the_call_ends_and_the_next_one_works(place: Place, point: str, loop_kind: str) -> None:
    is_http = place.kind.startswith("http")
    error = POINTS[point][is_http]
    async with connected(place.target, **place.options) as client:
        assert (await client.call_tool("fine")).text == "fine"
        if point == "before":
            place.kill()
            place.start()
            await until_known(client)
        began = asyncio.get_running_loop().time()
        if point == "swapped":
            found = await client.call_many([("swapped 1", None), ("swapped 2", None)])
            assert [result.text for result in found] == ["swapped 1", "swapped 2"]
        elif error is None:
            assert (await client.call_tool(point)).text == point
        else:
            with pytest.raises(error) as caught:
                await client.call_tool(point, timeout_s=DEADLINE_S if error is CallTimeoutError else 10.0)
            assert str(caught.value)
            assert (type(caught.value) is ServerExitedError) is (place.kind == "stdio" and point in KILLED)
        if error is CallTimeoutError:
            assert asyncio.get_running_loop().time() - began >= DEADLINE_S * 0.9
        if point in KILLED - {"before"} and place.kind != "stdio":
            assert place.process is not None
            await asyncio.to_thread(place.process.wait)
            place.stop()
            place.start()
        if point == "answered":
            await until_known(client)
        try:
            assert (await client.call_tool("fine")).text == "fine"
        except InvalidAnswerError:  # The second answer came to it.
            assert (place.kind, point) == ("http", "twice")
            assert (await client.call_tool("fine")).text == "fine"
        assert inflight(client) == 0


async def until_known(client: Client) -> None:
    """The loss is known as soon as the loop has read it."""
    channel: Any = client.channel
    while client.channel is channel and channel is not None and not is_lost(channel):
        await asyncio.sleep(0)


def is_lost(channel: Any) -> bool:
    return not channel.pool._connections if channel.is_http else channel._lost is not None


def inflight(client: Client) -> int:
    channel: Any = client.channel
    return channel.stats()["inflight_count"] if channel.is_http else channel.inflight_count


@pytest.mark.parametrize("kind", ["tcp", "http", "http2"])
async def test_a_connection_whose_other_end_is_gone_without_a_word_costs_the_deadline(
    kind: str, tmp_path: Path, loop_kind: str
) -> None:
    """Half open: the server's kernel has forgotten the connection and said nothing (``TCP_REPAIR``)."""
    place = Place(kind, tmp_path)
    place.start()
    try:
        async with connected(place.target, **place.options) as client:
            assert (await client.call_tool("fine")).text == "fine"
            call = asyncio.ensure_future(client.call_tool("stalled", timeout_s=DEADLINE_S))
            await asyncio.sleep(0.05)
            vanish(place)
            place.start()
            with pytest.raises(CallTimeoutError):
                await call
            for _ in range(2):  # The next bytes are answered by a reset, which is a loss.
                try:
                    assert (await client.call_tool("fine", timeout_s=30)).text == "fine"
                except ConnectionClosedError:
                    continue
                break
            else:
                raise AssertionError("the next call does not work")
    finally:
        place.stop()


def vanish(place: Place) -> None:
    """Take the server's sockets of established connections away, and the server with them."""
    assert place.process is not None
    pidfd = os.pidfd_open(place.process.pid)
    try:
        for connection in psutil.Process(place.process.pid).net_connections("tcp"):
            if connection.status != psutil.CONN_ESTABLISHED:
                continue
            try:
                copied = pidfd_getfd(pidfd, connection.fd)
                with socket.socket(fileno=copied) as ours:
                    ours.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            except OSError as error:
                pytest.skip(f"TCP_REPAIR is not allowed here: {error}")
    finally:
        os.close(pidfd)
    place.stop()


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A descriptor of another process, here (Linux 5.6)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(438, pidfd, fd, 0)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


async def test_a_pool_of_many_connections_loses_them_all_and_works_on(tmp_path: Path, loop_kind: str) -> None:
    place = Place("http", tmp_path)
    place.start()
    try:
        channel = HttpChannel(place.target, limits=HttpLimits(connection_count_max=20))
        async with connected(channel) as client:
            calls = [("stalled", None)] * 19 + [("sent", None)]
            found = await client.call_many(calls, timeout_s=10, raise_on_error=False)
            assert {type(each) for each in found} == {ConnectionClosedError}
            place.stop()
            place.start()
            again = await client.call_many([("fine", None)] * 40)
            assert [result.text for result in again] == ["fine"] * 40
    finally:
        place.stop()
