"""A request on its way to another worker: its answer, its stream, and what happens where one of the two ends leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from erlmcp.server.handover import Handover, fetch
from erlmcp.server.worker import bury_numbers, read_numbers, write_numbers

WAIT_S = 30
BODY = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


class Reply:
    """The client's side, and what came of it."""

    def __init__(self) -> None:
        self.gone: Callable[[], None] | None = None
        self.said: list[Any] = []
        self.is_over = asyncio.Event()

    def plain(self, status: int, body: bytes, extra: bytes = b"", content_type: bytes = b"text/plain") -> None:
        self.said.append((status, body, extra, content_type))
        self.is_over.set()

    def open(self, extra: bytes) -> None:
        self.said.append(extra)

    def send(self, data: bytes) -> None:
        self.said.append(data)
        self.is_over.set()

    def finish(self) -> None:
        self.said.append("finished")
        self.is_over.set()


def take(path: Path, id: str = "1.abc") -> tuple[bool, Reply]:
    """Hand a request over to the worker at a path, from worker 0 of 2."""
    headers = {"host": "localhost:8080", "mcp-session-id": id, "connection": "keep-alive", "x-mine": "a"}
    request: Any = SimpleNamespace(
        head=SimpleNamespace(verb="POST", target="/mcp", headers=headers), call=SimpleNamespace(raw=BODY)
    )
    verdict: Any = SimpleNamespace(session_id=id)
    reply = Reply()
    return Handover(0, 2, lambda index: str(path)).take(request, verdict, reply), reply


@asynccontextmanager
async def worker(path: Path, *answers: bytes, ends: bool = True) -> AsyncIterator[list[bytes]]:
    """A worker that answers with these bytes; the value are the requests that came, b"" for an end."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            seen.append(await reader.readuntil(b"\r\n\r\n"))
        for each in answers:
            writer.write(each)
            await writer.drain()
        if not ends:
            seen.append((await reader.read())[len(BODY) :])
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield seen
    finally:
        server.close()


async def over(reply: Reply) -> list[Any]:
    async with asyncio.timeout(WAIT_S):
        await reply.is_over.wait()
    return reply.said


async def test_an_answer_comes_back_with_its_fields_but_those_of_the_connection(tmp_path: Path) -> None:
    fields = b"Content-Type: application/json\r\nMcp-Session-Id: 1.abc\r\nDate: x\r\nContent-Length: 2\r\n"
    answer = b"HTTP/1.1 200 OK\r\n%b\r\n{}" % fields
    async with worker(tmp_path / "1", answer) as seen:
        is_taken, reply = take(tmp_path / "1")
        assert await over(reply) == [(200, b"{}", b"Mcp-Session-Id: 1.abc\r\n", b"application/json")]
    assert is_taken
    lines = seen[0].lower().split(b"\r\n")
    assert lines[0] == b"post /mcp http/1.1"
    assert {b"x-mine: a", b"mcp-session-id: 1.abc", b"content-length: %d" % len(BODY)} <= set(lines)
    assert not any(line.startswith(b"connection") for line in lines)
    assert reply.gone is None


async def test_a_stream_comes_back_part_by_part(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with worker(tmp_path / "1", head, b"9\r\ndata: 1\n\n\r\n", b"0\r\n\r\n"):
        _, reply = take(tmp_path / "1")
        async with asyncio.timeout(WAIT_S):
            while "finished" not in reply.said:
                await asyncio.sleep(0)
    assert reply.said == [b"Content-Type: text/event-stream\r\n", b"data: 1\n\n", "finished"]


async def test_a_stream_that_breaks_off_is_ended_for_the_client(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with worker(tmp_path / "1", head, b"9\r\ndata: 1\n\n\r\n"):
        _, reply = take(tmp_path / "1")
        async with asyncio.timeout(WAIT_S):
            while "finished" not in reply.said:
                await asyncio.sleep(0)
    assert reply.said[-1] == "finished"
    assert reply.said.count("finished") == 1


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", b"nonsense\r\n\r\n"])
async def test_a_worker_that_is_gone_took_its_sessions_along(tmp_path: Path, answer: bytes | None) -> None:
    if answer is None:
        _, reply = take(tmp_path / "nobody")
        said = await over(reply)
    else:
        async with worker(tmp_path / "1", answer):
            _, reply = take(tmp_path / "1")
            said = await over(reply)
    ((status, body, _, _),) = said
    assert (status, body) == (404, b"Session not found; send initialize again")


async def test_a_client_that_leaves_takes_its_request_back(tmp_path: Path) -> None:
    async with worker(tmp_path / "1", ends=False) as seen:
        _, reply = take(tmp_path / "1")
        async with asyncio.timeout(WAIT_S):
            while not seen:
                await asyncio.sleep(0)
            assert reply.gone is not None
            reply.gone()
            while len(seen) < 2:
                await asyncio.sleep(0)
    assert (seen[1], reply.said) == (b"", [])


async def test_a_client_that_leaves_at_once_leaves_nothing_behind(tmp_path: Path) -> None:
    async with worker(tmp_path / "1", ends=False):
        _, reply = take(tmp_path / "1")
        assert reply.gone is not None
        reply.gone()
        for _ in range(10):
            await asyncio.sleep(0)
    assert reply.said == []


@pytest.mark.parametrize("id", ["", "abc", "0.abc", "2.abc", "-1.abc", ".abc", "99999.abc", "\u0661.abc"])
async def test_what_belongs_here_or_to_nobody_is_not_taken(tmp_path: Path, id: str) -> None:
    is_taken, reply = take(tmp_path / "1", id)
    assert not is_taken
    assert reply.said == []


async def test_a_worker_that_answers_with_a_fault_is_not_believed(tmp_path: Path) -> None:
    for answer, error in ((b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", ValueError), (b"", EOFError)):
        path = tmp_path / error.__name__
        async with worker(path, answer):
            with pytest.raises(error):
                await fetch(str(path), "/x")


def test_numbers_of_the_dead_are_added_up_and_kept(tmp_path: Path) -> None:
    text = "# HELP a A.\n# TYPE a counter\na %d\n"
    for pid, count in ((1, 2), (2, 3), (3, 4)):
        write_numbers(str(tmp_path), f"0-{pid}", {"text": text % count, "openmetrics": text % count})
    bury_numbers(str(tmp_path), 1)
    bury_numbers(str(tmp_path), 2)
    bury_numbers(str(tmp_path), 77)
    found = read_numbers(str(tmp_path))
    assert set(found) == {"gone", "0-3"}
    assert found["gone"]["text"].endswith("a 5\n")
    assert found["0-3"]["text"].endswith("a 4\n")
