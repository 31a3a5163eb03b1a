"""The load generator against small servers that do as they are told: every answer is counted as what it is."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from erlmcp.bench import load

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BODY = b'{"jsonrpc":"2.0","id":1000000000,"method":"echo"}'
REQUEST = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


@contextmanager
def listening(handler: Handler, path: str | None = None) -> Iterator[int]:
    """A server of this handler in a thread of its own; gives its port (0 for a Unix socket)."""
    loop = asyncio.new_event_loop()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def listen() -> asyncio.Server:
        if path is not None:
            return await asyncio.start_unix_server(guarded, path)
        return await asyncio.start_server(guarded, "127.0.0.1", 0)

    server = loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def shut() -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    try:
        yield 0 if path is not None else server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(shut(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The body of one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"Content-Length: (\d+)", head)
    assert found
    return await reader.readexactly(int(found[1]))


def plain(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n%s\r\n%s" % (status, len(body), more, body)


def chunked(body: bytes) -> bytes:
    pieces = [body[i : i + 7] for i in range(0, len(body), 7)]
    parts = b"".join(b"%x;note=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"


def answering(make: Callable[[int, bytes], bytes]) -> Handler:
    """A handler that answers the n-th request of a connection with ``make(n, body)``; b"" ends the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        n = 0
        while True:
            answer = make(n, await read_request(reader))
            n += 1
            if not answer:
                return
            writer.write(answer)
            await writer.drain()
            if b"Connection: close" in answer:
                return

    return handle


def echo(body: bytes) -> bytes:
    return body.replace(b'"method":"echo"', b'"result":"right"')


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("make", [plain, chunked], ids=["content_length", "chunked"])
def test_every_right_answer_is_counted_once(connections: int, make: Callable[[bytes], bytes]) -> None:
    with listening(answering(lambda n, body: make(echo(body)))) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, connections=connections, count=100, expect=b'"right"')
    assert (got["sent"], got["count"], got["errors"], got["unmatched"]) == (100, 100, 0, 0)
    assert got["latencies"].count == 100
    assert 0 < got["p50_us"] <= got["p95_us"] <= got["p99_us"] <= got["max_us"]
    assert got["rate"] == pytest.approx(100 / got["seconds"])


def test_requests_in_a_pipeline_are_answered_in_order() -> None:
    with listening(answering(lambda n, body: plain(echo(body)))) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, connections=2, pipeline=5, count=101, expect=b'"right"')
    assert (got["count"], got["errors"]) == (101, 0)


def test_each_request_has_an_id_of_its_own_and_each_connection_its_own_request() -> None:
    seen: list[bytes] = []
    other = REQUEST.replace(b"Host: x", b"Host: y")

    def make(n: int, body: bytes) -> bytes:
        seen.append(body)
        return plain(echo(body))

    with listening(answering(make)) as port:
        got = load.http_load("127.0.0.1", port, [REQUEST, other], connections=2, count=50, expect=b'"right"')
    ids = [int(body.split(b'"id":')[1][:10]) for body in seen]
    assert got["count"] == 50
    assert sorted(ids) == list(range(1_000_000_000, 1_000_000_050))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda body: plain(echo(body), b"500 Oops"), "status"),
        (lambda body: plain(body), "wrong"),
        (lambda body: plain(b'{"id":7,"result":"right"}'), "wrong"),
        (lambda body: chunked(body), "wrong"),
        (lambda body: b"SSH-2.0-none of this is HTTP\r\n\r\n", "malformed"),
        (lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n", "malformed"),
        (lambda body: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed"),
        (lambda body: b"", "closed"),
        (lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nright", "closed"),
    ],
    ids=["status", "text", "id", "chunks", "no http", "length", "chunk size", "closed", "cut short"],
)
def test_an_answer_that_is_not_right_is_an_error_of_its_kind(answer: Callable[[bytes], bytes], kind: str) -> None:
    def make(n: int, body: bytes) -> bytes:
        return answer(body)

    with listening(answering(make)) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, count=10, expect=b'"right"')
    assert got["error_kinds"] == {kind: 10}
    assert (got["sent"], got["count"], got["errors"]) == (10, 0, 10)
    if kind not in ("closed",):
        assert got["first_error"].startswith(answer(BODY)[:12])


def test_right_and_wrong_answers_are_told_apart() -> None:
    with listening(answering(lambda n, body: plain(echo(body) if n % 3 else body))) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, count=30, expect=b'"right"')
    assert (got["count"], got["error_kinds"]) == (20, {"wrong": 10})


@pytest.mark.parametrize(
    "ending",
    [
        lambda body: plain(body, more=b"Connection: close\r\n"),
        lambda body: b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body,
    ],
    ids=["content_length", "up to the close"],
)
def test_a_connection_that_ends_after_its_answer_is_opened_again_without_an_error(
    ending: Callable[[bytes], bytes],
) -> None:
    with listening(answering(lambda n, body: ending(echo(body)))) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, connections=2, count=20, expect=b'"right"')
    assert (got["count"], got["errors"]) == (20, 0)
    assert got["reconnects"] >= 18


def test_interim_responses_are_passed_over() -> None:
    with listening(answering(lambda n, body: b"HTTP/1.1 100 Continue\r\n\r\n" + plain(echo(body)))) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, count=10, expect=b'"right"')
    assert (got["count"], got["errors"], got["unmatched"]) == (10, 0, 0)


def test_an_answer_to_nothing_is_unmatched() -> None:
    with listening(answering(lambda n, body: plain(echo(body)) * 2)) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, count=1, expect=b'"right"')
    assert (got["sent"], got["count"], got["unmatched"]) == (1, 1, 1)


def test_answers_split_at_any_byte_are_put_together() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for make in (plain, chunked) * 5:
            answer = make(echo(await read_request(reader)))
            for i in range(len(answer)):
                writer.write(answer[i : i + 1])
                await writer.drain()

    with listening(handle) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, count=10, expect=b'"right"')
    assert (got["count"], got["errors"]) == (10, 0)


def one_chunk(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("make", [plain, one_chunk])
def test_an_answer_larger_than_any_buffer_arrives_whole(make: Callable[[bytes], bytes]) -> None:
    text = b"x" * 3_000_000
    with listening(answering(lambda n, body: make(echo(body) + text + b"end"))) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, count=5, expect=b"xend")
    assert (got["count"], got["errors"]) == (5, 0)


def test_a_server_that_falls_silent_is_a_timeout() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            writer.write(plain(echo(await read_request(reader))))
        await asyncio.Event().wait()

    with listening(handle) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, count=10, expect=b'"right"', timeout_s=0.5)
    assert (got["sent"], got["count"], got["error_kinds"]) == (4, 3, {"timeout": 1})


def test_a_run_of_seconds_counts_what_came_within_it() -> None:
    with listening(answering(lambda n, body: plain(echo(body)))) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, seconds=0.2, expect=b'"right"')
    assert got["errors"] == 0
    assert got["count"] == got["sent"]
    assert got["count"] - 1 <= got["rate"] * 0.2 <= got["count"] + 1e-6


def test_at_a_fixed_rate_a_stall_is_seen_by_all_that_it_delayed() -> None:
    """Ten are due while the first is held back: closed loops would count one slow answer, this counts ten."""
    released = threading.Event()

    def make(n: int, body: bytes) -> bytes:
        if n == 0:
            released.wait(0.1)
        return plain(echo(body))

    with listening(answering(make)) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, count=20, rate=200, expect=b'"right"')
    assert (got["count"], got["errors"]) == (20, 0)
    slow = sum(count for first, _, count in got["latencies"].buckets() if first > 20e6)
    assert slow >= 10


def test_at_a_fixed_rate_what_could_not_be_sent_is_told() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(echo(await read_request(reader))))
        await read_request(reader)
        await asyncio.Event().wait()

    with listening(handle) as port:
        got = load.http_load("127.0.0.1", port, REQUEST, seconds=0.1, rate=100, expect=b'"right"', timeout_s=0.3)
    assert (got["count"], got["error_kinds"]) == (1, {"timeout": 1})
    assert got["sent"] + got["unsent"] == 10


# ---------------------------------------------------------------------------------------------------- lines
LINE = b'{"jsonrpc":"2.0","id":1000000000,"method":"echo"}'


def lines_of(make: Callable[[list[bytes]], list[bytes]]) -> Handler:
    """A handler that answers what it has read, all at once."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = b""
        while data := await reader.read(65536):
            *lines, held = (held + data).split(b"\n")
            writer.write(b"".join(line + b"\n" for line in make(lines)))
            await writer.drain()

    return handle


@pytest.mark.parametrize("inflight", [1, 64])
def test_lines_are_matched_by_id_in_any_order(inflight: int) -> None:
    with listening(lines_of(lambda lines: [echo(line) for line in reversed(lines)])) as port:
        got = load.lines_load(LINE, address=("127.0.0.1", port), inflight=inflight, count=1000, expect=b'"right"')
    assert (got["sent"], got["count"], got["errors"], got["unmatched"]) == (1000, 1000, 0, 0)


def test_lines_go_over_as_many_connections_as_are_asked_for(tmp_path: Path) -> None:
    heard: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(heard)
        heard.append(0)
        while line := await reader.readline():
            heard[number] += 1
            writer.write(echo(line.rstrip()) + b"\n")
            await writer.drain()

    with listening(handle) as port:
        got = load.lines_load(LINE, address=("127.0.0.1", port), connections=5, inflight=4, count=1000, expect=b"right")
    assert (got["count"], got["errors"], sum(heard)) == (1000, 0, 1000)
    assert len(heard) == 5
    assert min(heard) > 20
    path = str(tmp_path / "s")
    with listening(handle, path):
        assert load.lines_load(LINE, path=path, connections=3, count=30)["count"] == 30
    assert len(heard) == 8


def test_a_straggler_keeps_its_id_while_others_overtake_it() -> None:
    late: list[bytes] = []
    seen: list[int] = []

    def make(lines: list[bytes]) -> list[bytes]:
        seen.extend(int(line.split(b'"id":')[1][:10]) for line in lines)
        if not late:
            late.append(lines.pop(0))
        last = [echo(late[0])] if len(seen) == 200 else []
        return [echo(line) for line in lines] + last

    with listening(lines_of(make)) as port:
        got = load.lines_load(LINE, address=("127.0.0.1", port), inflight=4, count=200, expect=b'"right"')
    assert (got["count"], got["errors"]) == (200, 0)
    assert seen == sorted(set(seen))


def test_a_unix_socket_and_a_pair_of_pipes_carry_lines_too(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with listening(lines_of(lambda lines: [echo(line) for line in lines]), path):
        got = load.lines_load(LINE, path=path, inflight=8, count=100, expect=b'"right"')
    assert (got["count"], got["errors"]) == (100, 0)

    to_server, from_server = os.pipe(), os.pipe()

    def serve() -> None:
        while data := os.read(to_server[0], 65536):
            os.write(from_server[1], data)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        got = load.lines_load(LINE, fds=(from_server[0], to_server[1]), inflight=8, count=100, expect=b'"echo"')
        assert (got["count"], got["errors"]) == (100, 0)
        assert os.get_blocking(from_server[0])
        assert os.get_blocking(to_server[1])
    finally:
        os.close(to_server[1])
        thread.join(10)
        for fd in (to_server[0], *from_server):
            os.close(fd)


def test_lines_that_are_no_answers_are_kept_apart() -> None:
    notice = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"id":3}}'
    stranger = b'{"jsonrpc":"2.0","id":7,"result":"right"}'
    with listening(lines_of(lambda lines: [out for line in lines for out in (notice, stranger, echo(line))])) as port:
        got = load.lines_load(LINE, address=("127.0.0.1", port), count=10, expect=b'"right"')
    assert (got["count"], got["errors"], got["notices"], got["unmatched"]) == (10, 0, 10, 10)


def test_a_wrong_line_is_an_error_and_a_lost_stream_fails_what_it_owed() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.write(echo(await reader.readline()))

    with listening(handle) as port:
        got = load.lines_load(LINE, address=("127.0.0.1", port), inflight=5, count=100, expect=b'"right"')
    assert got["error_kinds"]["wrong"] == 1
    assert got["sent"] == got["count"] + got["errors"]
    assert got["error_kinds"]["closed"] >= 4


# ---------------------------------------------------------------------------------------------------- arguments
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"count": 0},
        {"seconds": -1},
        {"count": 1, "rate": 0},
        {"count": 1, "connections": 0},
        {"count": 1, "pipeline": 0},
        {"count": 1, "timeout_s": 0},
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        load.http_load("127.0.0.1", 1, REQUEST, **arguments)  # type: ignore[arg-type]


def test_a_message_without_an_id_or_with_a_newline_is_refused() -> None:
    for message in (b'{"id":1}', LINE + b"\n", LINE + LINE):
        with pytest.raises(ValueError, match="ID_SLOT"):
            load.lines_load(message, path="/nowhere", count=1)
    with pytest.raises(ValueError, match="exactly one"):
        load.lines_load(LINE, count=1)
    with pytest.raises(ValueError, match="exactly one"):
        load.lines_load(LINE, path="/nowhere", fds=(0, 1), count=1)
    for arguments in ({"path": "/nowhere", "connections": 0}, {"fds": (0, 1), "connections": 2}):
        with pytest.raises(ValueError, match="connections >= 1"):
            load.lines_load(LINE, count=1, **arguments)  # type: ignore[arg-type]


def test_a_server_that_is_not_there_raises() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(OSError):
            load.http_load("127.0.0.1", bound.getsockname()[1], REQUEST, count=1)
