"""Who is here: sessions, connections, open questions and jobs of a server, walked and by pages."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from erlmcp import ConfigurationError, Context, Flags, Server
from erlmcp.server.serve import http, tcp

LEGACY = "2025-06-18"


def make(**options: Any) -> Server:
    server = Server("roster", **options)

    @server.tool
    async def ask(ctx: Context) -> str:
        return str((await ctx.elicit("sure?")).action)

    return server


def everything(server: Server, what: str, count: int) -> list[dict[str, Any]]:
    cursor, found = server.page(what, None, count)
    while cursor is not None:
        cursor, more = server.page(what, cursor, count)
        found += more
    return found


@pytest.mark.parametrize("iterators", [True, False])
async def test_byte_streams_and_http_sessions_are_walked(loop_kind: str, talk: Any, iterators: bool) -> None:
    server = make(flags=Flags(iterators=iterators))
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(http(server))
        raw = await stack.enter_async_context(tcp(server))
        await stack.enter_async_context(talk(server, LEGACY))
        await stack.enter_async_context(talk(server, LEGACY))
        _raw_reader, raw_writer = await asyncio.open_connection("127.0.0.1", raw.port)
        _reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        body = (
            b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
            b'"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}'
        )
        head = (
            b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Accept: application/json, text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        writer.write(head + body)
        await _reader.readuntil(b"\r\n\r\n")
        while len(list(server.connections())) < 4:
            await asyncio.sleep(0)
        sessions = list(server.sessions())
        assert len(sessions) == 4
        assert [session.id is not None for session in sessions] == [False, False, False, True]
        assert sorted(each["kind"] for each in everything(server, "connections", 2)) == ["http", *["stream"] * 3]
        found = everything(server, "sessions", 1)
        assert [each["version"] for each in found] == [LEGACY, LEGACY, None, LEGACY]
        assert found[3]["id"] == str(sessions[3].id)[:8]
        for each in (writer, raw_writer):
            each.close()
            await each.wait_closed()
    assert list(server.sessions()) == list(server.connections()) == []


@pytest.mark.parametrize("iterators", [True, False])
async def test_open_questions_are_walked_over_all_sessions(talk: Any, iterators: bool) -> None:
    server = make(flags=Flags(iterators=iterators))
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(talk(server, LEGACY, {"elicitation": {}})) for _ in range(4)]
        for number, client in enumerate(clients):
            for _ in range(number):
                client.post("tools/call", {"name": "ask", "arguments": {}})
        while len(list(server.pending())) < 6:
            await asyncio.sleep(0)
        for count in (1, 2, 3, 100):
            found = everything(server, "pending", count)
            assert len(found) == 6
        pairs = {(id(each.session), each.id) for each in server.pending()}
        assert len(pairs) == 6
        assert all(not each.future.done() for each in server.pending())
        assert len({session for session, _id in pairs}) == 3


async def test_a_session_that_ends_between_two_pages_takes_no_question_of_another(talk: Any) -> None:
    server = make()
    async with AsyncExitStack() as stack, AsyncExitStack() as first:
        clients = [await first.enter_async_context(talk(server, LEGACY, {"elicitation": {}}))]
        clients += [await stack.enter_async_context(talk(server, LEGACY, {"elicitation": {}})) for _ in range(2)]
        for client in clients:
            for _ in range(3):
                client.post("tools/call", {"name": "ask", "arguments": {}})
        while len(list(server.pending())) < 9:
            await asyncio.sleep(0)
        kept = list(server.pending())[3:]
        cursor, found = server.page("pending", None, 2)
        await first.aclose()
        while cursor is not None:
            cursor, more = server.page("pending", cursor, 2)
            found += more
        assert len(found) == 2 + len(kept)


async def test_jobs_are_paged_with_the_rest() -> None:
    server = make()
    for number in range(5):
        server.schedule(len, "abc", name=f"job {number}", every_s=5)
    assert [job["name"] for job in everything(server, "jobs", 2)] == [f"job {number}" for number in range(5)]


def test_a_word_a_count_or_a_cursor_that_makes_no_sense_is_refused() -> None:
    server = make()
    with pytest.raises(ConfigurationError, match="expected sessions, connections, pending or jobs, got 'tools'"):
        server.page("tools")
    with pytest.raises(ValueError, match="count is 1 or more, got 0"):
        server.page("sessions", None, 0)
    for what in ("sessions", "connections", "pending", "jobs"):
        with pytest.raises(ValueError, match="is not a cursor of these pages"):
            server.page(what, "x")
        assert server.page(what) == (None, [])


def test_without_iterators_a_list_is_made_first() -> None:
    for iterators in (True, False):
        server = make(flags=Flags(iterators=iterators))
        for walk in (server.sessions(), server.connections(), server.pending()):
            assert isinstance(walk, type(iter([]))) is not iterators
