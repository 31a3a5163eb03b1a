"""Whatever a handler does, its request is answered once and its connection is free again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from rawpeer import (
    House,
    ask_once,
    delete,
    dial,
    get,
    initialize,
    legacy,
    make_house,
    modern,
    modern_post,
    note,
    post,
    text_of,
    tool,
)

from erlmcp import Server
from erlmcp.errors import McpError, ToolError
from erlmcp.server.serve import http


async def opened(port: int, version: str = "2025-11-25", **headers: str) -> dict[str, str]:
    """The headers of a session."""
    answer = await ask_once(port, post(initialize(version), headers))
    assert answer.status == 200
    return {"Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": version, **headers}


NONE: Any = None
WORD: Any = "x"


class Mute(ToolError):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("mute")


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    "error",
    [McpError(-32000, NONE), McpError(WORD, "y"), McpError(1 << 80, "z"), McpError(1, "q", object()), Mute()],
    ids=["no message", "code a word", "code too large", "data no json", "mute"],
)
async def test_an_error_that_cannot_be_written_is_answered_as_an_internal_one(
    error: Exception, waits: bool, quiet: None
) -> None:
    house = make_house(mask_errors=False)

    @house.server.tool
    async def fail() -> str:
        if waits:
            await asyncio.sleep(0)
        raise error

    async with http(house.server) as listener, dial(listener.port) as peer:
        for _ in range(2):
            answer = await peer.ask(modern_post(modern(1, "tools/call", tool("fail"))))
            assert answer.json["id"] == 1
            assert answer.json.get("error", {}).get("code", -32603) in (-32603, 1 << 80)


async def test_an_answer_under_way_while_the_server_drains_says_that_the_connection_closes() -> None:
    house = make_house()
    async with contextlib.AsyncExitStack() as stack:
        listener = await stack.enter_async_context(http(house.server))
        peer = await stack.enter_async_context(dial(listener.port))
        peer.send(modern_post(modern(1, "tools/call", tool("wait"))))
        await house.begun.wait()
        closing = asyncio.ensure_future(listener.close(10))
        await asyncio.sleep(0)
        house.go.set()
        answer = await peer.answer()
        assert (answer.status, answer.headers.get("connection")) == (200, "close")
        assert await peer.is_closed()
        await closing


@pytest.mark.parametrize(("version", "store"), [("2025-06-18", True), ("2025-11-25", False)])
async def test_a_stream_that_the_client_could_not_come_back_to_is_not_closed_early(version: str, store: bool) -> None:
    house = make_house(event_store=store)
    async with http(house.server) as listener:
        session = await opened(listener.port, version)
        async with dial(listener.port) as peer:
            peer.send(post(legacy(5, "tools/call", tool("leave")), session))
            await house.begun.wait()
            house.go.set()
            answer = await peer.answer()
            assert b"left and came back" in answer.body


async def test_a_listener_that_takes_no_stream_is_told_so() -> None:
    house = make_house()
    message = modern("L", "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    async with http(house.server) as listener, dial(listener.port) as peer:
        answer = await peer.ask(modern_post(message, {"Accept": "application/json"}))
        assert answer.code is not None
        assert not len(house.server.hub)


@pytest.mark.parametrize("field", ["clientInfo", "capabilities"])
async def test_a_client_that_says_too_much_of_itself_opens_no_session(field: str) -> None:
    house = make_house()
    message = initialize()
    message["params"][field] = {"name": "x", "version": "1", "experimental": {"x": "y" * 100_000}}
    async with http(house.server) as listener:
        answer = await ask_once(listener.port, post(message))
        assert answer.code == -32602
        assert "mcp-session-id" not in answer.headers
        assert not len(listener.handler.sessions)  # type: ignore[attr-defined]
        assert not house.server.hub._sessions


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_uri_that_is_too_long_is_not_subscribed_to(era: str, talk: Any) -> None:
    house = make_house()
    uri = "house://" + "x" * 100_000
    if era == "legacy":
        async with talk(house.server, "2025-11-25") as client:
            assert (await client.error("resources/subscribe", {"uri": uri}))["code"] == -32602
    else:
        async with talk(house.server) as client:
            wanted = {"notifications": {"resourceSubscriptions": [uri]}}
            assert (await client.error("subscriptions/listen", wanted))["code"] == -32602


async def test_the_events_that_a_session_keeps_are_bounded_in_bytes() -> None:
    house = make_house()
    async with http(house.server) as listener:
        session = await opened(listener.port)
        async with dial(listener.port) as peer:
            for id in range(8):
                answer = await peer.ask(post(legacy(id, "tools/call", tool("big", size=1)), session))
                call = legacy(id, "tools/call", tool("count", steps=3, size=0))
                call["params"]["_meta"] = {"progressToken": "x" * 1_000_000}
                answer = await peer.ask(post(call, session))
                assert answer.body.count(b"data: {") == 4
        kept = listener.handler.sessions.get(session["Mcp-Session-Id"])  # type: ignore[attr-defined]
        sizes = [len(event) for stream in kept.streams._streams.values() for _, event in stream._events]
        assert sum(sizes) <= 4_200_000, sizes


async def test_an_old_stream_belongs_to_the_credential_that_opened_it() -> None:
    house = make_house(sse_transport=True)
    async with http(house.server) as listener, dial(listener.port) as peer:
        peer.send(get({"Authorization": "Bearer one"}, target="/sse"))
        assert (await peer.head()).status == 200
        event = await peer.event()
        assert event is not None
        for headers, status in (
            ({}, 404),
            ({"Authorization": "Bearer two"}, 404),
            ({"Authorization": "Bearer one"}, 202),
        ):
            answer = await ask_once(listener.port, post(initialize("2024-11-05"), headers, target=event.data))
            assert answer.status == status


async def test_100_continue_does_not_overtake_answers_that_wait_for_the_client_to_read() -> None:
    from erlmcp.transports.http1 import HttpConnection
    from erlmcp.transports.listener import HttpListener

    house = make_house()
    written: list[bytes] = []

    class Pipe(asyncio.Transport):
        def write(self, data: Any) -> None:
            written.append(bytes(data))

        def is_closing(self) -> bool:
            return False

        def pause_reading(self) -> None: ...
        def resume_reading(self) -> None: ...
        def get_write_buffer_size(self) -> int:
            return 0

    async with http(house.server) as listener:
        connection = HttpConnection(listener)
        connection.connection_made(Pipe())
        connection.pause_writing()
        call = modern_post(modern(1, "tools/call", tool("echo", text="first")))
        late = modern_post(modern(2, "tools/call", tool("echo", text="late")), {"Expect": "100-continue"})
        head, _, body = late.partition(b"\r\n\r\n")
        connection.data_received(call + call)
        connection.data_received(head + b"\r\n\r\n")
        assert not any(b"100 Continue" in each for each in written)
        connection.resume_writing()
        sent = b"".join(written)
        assert sent.count(b"first") == 4
        assert sent.endswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.data_received(body)
        assert b"late" in written[-1]
        assert isinstance(listener, HttpListener)
        listener.connections.discard(connection)


async def test_a_handler_that_sends_without_waiting_is_not_held_back_by_the_outbox() -> None:
    house = make_house({"outbox_bytes_max": 1 << 20})
    call = modern(1, "tools/call", tool("count", steps=200, size=20_000))
    call["params"]["_meta"]["progressToken"] = "p"
    async with http(house.server) as listener, dial(listener.port) as peer:
        body = (await peer.ask(modern_post(call))).body
        assert body.count(b"notifications/progress") == 200
        assert b"counted to 200" in body


async def test_a_session_with_a_call_under_way_outlives_an_idle_time_shorter_than_the_beat() -> None:
    house = make_house({"session_idle_s": 0.3, "sse_keepalive_s": 60})
    async with http(house.server) as listener:
        session = await opened(listener.port)
        async with dial(listener.port) as peer:
            peer.send(post(legacy(5, "tools/call", tool("wait")), session))
            await house.begun.wait()
            for _ in range(3):
                await asyncio.sleep(0.2)  # The idle time is of the wall's clock: nothing else can pass it.
                answer = await ask_once(listener.port, post(note("notifications/progress"), None))
                assert answer.status == 400
            house.go.set()
            assert text_of((await peer.answer()).json) == "waited"


async def test_an_idle_session_is_closed_soon_after_its_time() -> None:
    house = make_house({"session_idle_s": 0.2, "sse_keepalive_s": 60})
    async with http(house.server) as listener:
        await opened(listener.port)
        async with asyncio.timeout(10):
            while len(listener.handler.sessions):  # type: ignore[attr-defined]
                await asyncio.sleep(0.02)
        assert not house.server.hub._sessions


async def test_two_starts_at_once_enter_the_lifespan_once_and_both_wait_for_it() -> None:
    entered: list[str] = []
    gate = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> Any:
        entered.append("in")
        await gate.wait()
        yield "value"
        entered.append("out")

    server = Server("s", lifespan=lifespan)
    first, second = asyncio.ensure_future(server.start()), asyncio.ensure_future(server.start())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not second.done()
    gate.set()
    await asyncio.gather(first, second)
    assert server.lifespan_value == "value"
    await server.stop()
    assert entered == ["in"]
    await server.stop()
    assert entered == ["in", "out"]


async def test_a_start_that_fails_fails_for_itself_and_the_next_one_may_try_again() -> None:
    tries: list[int] = []

    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> Any:
        tries.append(1)
        await asyncio.sleep(0)
        if len(tries) < 3:
            raise OSError("no database")
        yield

    server = Server("s", lifespan=lifespan)
    found = await asyncio.gather(server.start(), server.start(), server.start(), return_exceptions=True)
    assert [type(each) for each in found] == [OSError, OSError, type(None)]
    await server.stop()
    with pytest.raises(Exception, match="not running"):
        _ = server.loop
    await server.stop()  # One too many does nothing.
    async with server.running():
        assert server.loop
    assert len(tries) == 4


async def test_a_stop_that_is_cancelled_still_leaves_the_lifespan() -> None:
    left: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> Any:
        yield
        left.append("left")

    server = Server("s", lifespan=lifespan)
    begun = asyncio.Event()
    go = asyncio.Event()

    @server.tool
    async def stubborn() -> str:
        begun.set()
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()
        return "x"

    await server.start()
    link = server.link(lambda data: None)
    import json

    link.feed(json.dumps(modern(1, "tools/call", tool("stubborn"))).encode() + b"\n")
    await begun.wait()
    stopping = asyncio.ensure_future(server.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert left == ["left"]
    go.set()
    await asyncio.sleep(0)
    async with server.running():
        pass
    assert left == ["left", "left"]


async def test_deleting_a_session_with_a_batch_under_way_ends_the_answer_of_the_batch() -> None:
    house = make_house()
    async with http(house.server) as listener:
        session = await opened(listener.port, "2025-03-26")
        async with dial(listener.port) as peer:
            calls = [legacy(1, "tools/call", tool("wait")), legacy(2, "tools/call", tool("echo", text="x"))]
            peer.send(post(calls, session))
            await house.begun.wait()
            assert (await ask_once(listener.port, delete(session))).status == 200
            found = await peer.answer()
            assert [each["id"] for each in found.json] == [2]
            assert (await peer.ask(modern_post(modern(1, "tools/call", tool("echo", text="x"))))).status == 200


async def test_a_batch_whose_requests_were_all_cancelled_ends_without_an_answer() -> None:
    house = make_house()
    async with http(house.server) as listener:
        session = await opened(listener.port, "2025-03-26")
        async with dial(listener.port) as peer:
            peer.send(post([legacy(1, "tools/call", tool("wait")), legacy(2, "tools/call", tool("wait"))], session))
            await house.begun.wait()
            for id in (1, 2):
                cancelled = note("notifications/cancelled", {"requestId": id})
                assert (await ask_once(listener.port, post(cancelled, session))).status == 202
            assert (await peer.answer()).status == 202
            assert (await peer.ask(modern_post(modern(1, "tools/call", tool("echo", text="x"))))).status == 200


@pytest.mark.parametrize("state", ["e1.\u00e9.x", "e1.x.\u00e9", "e1..", "e1.x", ".", 5, [], {}, True])
async def test_any_request_state_that_is_not_ours_is_an_invalid_parameter(state: Any, talk: Any) -> None:
    house: House = make_house()
    async with talk(house.server, "2026-07-28", {"elicitation": {}}) as client:
        found = await client.error("tools/call", {"name": "name", "arguments": {}, "requestState": state})
        assert found["code"] == -32602


async def test_a_lifespan_may_use_the_server_that_it_belongs_to() -> None:
    import json

    seen: list[Any] = []

    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> Any:
        async with server.memory() as wire:
            wire.send(json.dumps(modern(1, "tools/list")).encode() + b"\n")
            seen.append(json.loads(await wire.receive())["result"]["tools"])
        yield

    server = Server("s", lifespan=lifespan)
    async with asyncio.timeout(10), server.running():
        assert server.loop
    assert seen == [[]]
