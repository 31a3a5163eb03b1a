"""The ends of connections, calls and processes, where two of them come at once."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rawpeer import make_house, modern, modern_post, process, tool

from erlmcp import Context, Server
from erlmcp.runtime.turn import Turn
from erlmcp.server.serve import http
from erlmcp.transports.http1 import HttpConnection
from erlmcp.transports.listener import HttpListener


class Pipe(asyncio.Transport):
    """The server's end of a connection whose bytes are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.aborted or self.closed

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0


def connect(listener: HttpListener) -> tuple[HttpConnection, Pipe]:
    connection, pipe = HttpConnection(listener), Pipe()
    connection.connection_made(pipe)
    return connection, pipe


CALL = modern_post(modern(1, "tools/call", tool("echo", text="x")))


async def test_a_stream_that_fails_is_cut_and_no_second_head_is_written_into_it(quiet: None) -> None:
    house = make_house()

    class Broken:
        def handle(self, request: Any, reply: Any) -> None:
            reply.open(b"")
            reply.send(b"data: x\n\n")
            raise RuntimeError("broken")

        def front_of(self, request: Any, reply: Any) -> Any: ...

    listener = HttpListener(Broken(), house.server.routes, house.server.limits, Turn(house.server))
    connection, pipe = connect(listener)
    connection.data_received(CALL * 2)
    assert pipe.aborted
    assert pipe.written.count(b"HTTP/1.1") <= 1
    connection.connection_lost(None)


async def test_a_timeout_of_a_late_request_is_not_written_in_the_place_of_answers_that_wait() -> None:
    house = make_house({"head_timeout_s": 1, "keepalive_timeout_s": 1})
    async with http(house.server) as listener:
        connection, pipe = connect(listener)
        connection.pause_writing()
        connection.data_received(CALL + b"POST /mcp HTTP/1.1\r\n")
        for second in range(6):
            connection.sweep(time.monotonic() + 2 * second, house.server.limits)
        assert b"408" not in pipe.written
        assert pipe.is_closing()
        connection.connection_lost(None)


async def test_an_answer_that_comes_after_the_connection_was_lost_goes_nowhere() -> None:
    house = make_house()
    async with http(house.server) as listener:
        first, lost = connect(listener)
        first.data_received(modern_post(modern(1, "tools/call", tool("wait"))))
        await house.begun.wait()
        first.connection_lost(None)
        house.go.set()
        async with asyncio.timeout(5):
            await house.cancelled.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        second, pipe = connect(listener)
        second.data_received(CALL)
        assert lost.written == b""
        assert pipe.written.count(b"HTTP/1.1 200") == 1
        second.connection_lost(None)


async def test_answers_carry_the_lines_of_their_own_request(loop_kind: str) -> None:
    house = make_house()
    calls = []
    for at in range(40):
        origin = f"http://localhost:{at % 3}" if at % 3 else None
        name, arguments = ("echo", {"text": "x"}) if at % 5 else ("count", {"steps": 0})
        message = modern(at, "tools/call" if at % 7 else "tools/list", tool(name, **arguments) if at % 7 else None)
        calls.append((at, origin, modern_post(message, {"Origin": origin})))
    async with http(house.server) as listener:
        connection, pipe = connect(listener)
        for size in (1, 3, 40):
            pipe.written = b""
            for start in range(0, len(calls), size):
                connection.data_received(b"".join(data for _, _, data in calls[start : start + size]))
            parts = pipe.written.split(b"HTTP/1.1 ")[1:]
            assert len(parts) == len(calls)
            for (at, origin, _), part in zip(calls, parts, strict=True):
                head, _, body = part.partition(b"\r\n\r\n")
                assert body.startswith(b'{"jsonrpc":"2.0","id":%d,' % at)
                allowed = [line for line in head.split(b"\r\n") if line.startswith(b"Access-Control-Allow-Origin")]
                assert allowed == ([f"Access-Control-Allow-Origin: {origin}".encode()] if origin else [])
        connection.connection_lost(None)


async def test_a_cancelled_prompt_that_waits_for_a_thread_never_runs(talk: Any) -> None:
    from erlmcp import Limits

    server = Server("one thread", limits=Limits(thread_count_max=1))
    ran: list[str] = []
    busy, go = threading.Event(), threading.Event()

    @server.tool
    def block() -> str:
        busy.set()
        go.wait(10)
        return "x"

    @server.prompt
    def late() -> str:
        ran.append("late")
        return "x"

    async with talk(server) as client:
        first = client.post("tools/call", {"name": "block", "arguments": {}})
        await asyncio.to_thread(busy.wait, 10)
        second = client.post("prompts/get", {"name": "late"})
        client.notify("notifications/cancelled", {"requestId": second})
        for _ in range(5):
            await asyncio.sleep(0)
        go.set()
        await client.answer(first)
        await client.call("block")
        assert not ran
        async with asyncio.timeout(10):
            while len(server.lanes):
                await asyncio.sleep(0)


async def test_a_handler_may_use_the_context_after_its_request_was_answered(talk: Any) -> None:
    """By a task that it left behind: what it says is dropped."""
    server = Server("s")
    kept: list[Context] = []

    @server.tool
    async def keep(ctx: Context) -> str:
        kept.append(ctx)
        return "x"

    async with talk(server) as client:
        await client.call("keep", meta={"progressToken": 1, "io.modelcontextprotocol/logLevel": "debug"})
        await kept[0].progress(1)
        await kept[0].info("late")
        await kept[0].close_stream()
        assert await client.settle() == []


PROGRAM = """
import asyncio, sys, threading, urllib.request
from erlmcp import Server
server = Server("process")

@server.tool
async def stubborn() -> str:
    print("begun", file=sys.stderr, flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

if __name__ == "__main__":
    threading.Thread(target=server.run_http, args=("127.0.0.1", int(sys.argv[1])), daemon=True).start()
    for line in sys.stdin:
        pass
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until_refused(port: int) -> None:
    for _ in range(1000):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionError:
            return
        time.sleep(0.01)
    raise AssertionError("the process still listens")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_that_still_drains(tmp_path: Path, number: int) -> None:
    port = free_port()
    environment = {"ERLMCP_DRAIN_TIMEOUT_S": "60"}
    words = ("serve", "FILE", "--port", str(port))
    with process(tmp_path, *words, program=PROGRAM, env=environment, stdin=subprocess.DEVNULL) as running:
        assert "serving" in running.say_line()
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(modern_post(modern(1, "tools/call", tool("stubborn"))))
            assert running.say_line() == "begun\n"
            running.signal(number)
            until_refused(port)
            running.signal(number)
            assert running.process.wait(10) == 130


def test_a_server_may_run_in_a_thread_beside_the_main_one(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, str(file), str(port)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": root, "PATH": ""},
        text=True,
    ) as running:
        assert running.stderr is not None
        assert running.stdin is not None
        said = running.stderr.readline()
        try:
            assert "serving" in said, said + running.stderr.readline()
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                sock.sendall(modern_post(modern(1, "tools/list")))
                assert sock.recv(12) == b"HTTP/1.1 200"
        finally:
            running.stdin.close()
            running.wait(10)


async def test_a_connection_that_comes_while_the_listener_drains_does_not_hold_it_up() -> None:
    house = make_house({"drain_timeout_s": 60})
    async with http(house.server) as listener:
        first, _ = connect(listener)
        closing = asyncio.ensure_future(listener.close(60))
        await asyncio.sleep(0)
        late, pipe = connect(listener)
        assert pipe.closed
        for each in (first, late):
            each.connection_lost(None)
        async with asyncio.timeout(10):
            await closing


async def test_the_headers_that_a_handler_sees_cannot_be_changed_for_the_next_request() -> None:
    house = make_house()

    @house.server.tool
    async def change(ctx: Context) -> str:
        headers: Any = ctx.headers
        try:
            headers["authorization"] = "Bearer mine"
        except TypeError:
            return "refused"
        return "changed"

    async with http(house.server) as listener:
        connection, pipe = connect(listener)
        for _ in range(2):
            pipe.written = b""
            connection.data_received(modern_post(modern(1, "tools/call", tool("change"))))
            assert b'"refused"' in pipe.written
        connection.connection_lost(None)
