"""Smaller promises: words without an answer, answers in other shapes, kept connections that are looked at."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from scripted import (
    LATEST,
    META,
    WAIT_S,
    Asked,
    Line,
    fault,
    nothing_left,
    once,
    reply,
    scripted,
    talking,
    whole,
)

from erlmcp.errors import InvalidParamsError, SessionLostError


def hello(line: Line, asked: Asked) -> bool:
    """The answers that every session needs; whether this was one of them."""
    if asked.verb == "DELETE":
        line.answer(200)
    elif asked.verb == "GET":
        line.answer(405)
    elif asked.json.get("method") == "initialize":
        line.result(asked, {"protocolVersion": LATEST, "capabilities": {}}, Mcp_Session_Id="s1")
    elif asked.json.get("method") == "notifications/initialized":
        line.answer(202)
    else:
        return False
    return True


@pytest.mark.parametrize(
    "shape",
    [
        lambda id: json.dumps(json.loads(reply(id, {"n": 1})), indent=2).encode(),
        lambda id: b"\r\n " + reply(id, {"n": 1}) + b"\r\n",
        lambda id: b"[" + reply(id, {"n": 1}) + b"]",
        lambda id: b'[{"jsonrpc":"2.0","method":"notifications/message"},' + reply(id, {"n": 1}) + b"]",
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
async def test_an_answer_may_be_spread_over_lines_or_stand_in_an_array(shape: Any, kind: str) -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.answer(200, shape(asked.id), kind)

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url) as talk:
        assert (await talk.call()).result == {"n": 1}


async def test_an_event_may_hold_a_message_over_several_lines() -> None:
    def answer(line: Line, asked: Asked) -> None:
        text = json.dumps(json.loads(reply(asked.id, {"n": 1})), indent=1)
        line.begin_stream()
        line.event("\ndata: ".join(text.split("\n")))
        line.end_stream()

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url) as talk:
        assert (await talk.call()).result == {"n": 1}


async def test_an_answer_to_the_server_may_be_an_error_and_what_json_cannot_hold_is_refused() -> None:
    def answer(line: Line, asked: Asked) -> None:
        if not hello(line, asked):
            line.answer(202)

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url, is_modern=False) as talk:
        await talk.shake_hands()
        talk.channel.answer(b'"q"', None, InvalidParamsError("no", {"x": 1}))
        with pytest.raises(ValueError, match="object"):
            talk.channel.answer(b"7", object())
        with pytest.raises(ValueError, match="object"):
            talk.begin("x", {"bad": object()})
        assert talk.channel.stats()["inflight_count"] == 0
        while (asked := await peer.next_asked()).body == b"" or "error" not in asked.json:
            pass
        assert asked.json["error"] == {"code": -32602, "message": "no", "data": {"x": 1}}
    # Where the conversation is over, nothing happens.
    talk.channel.answer(b"1", {})
    talk.channel.notify("notifications/x", None)


async def test_a_404_for_a_notification_ends_the_session_too() -> None:
    def answer(line: Line, asked: Asked) -> None:
        if not hello(line, asked):
            line.answer(404, fault(None, -32001))

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url, is_modern=False) as talk:
        await talk.shake_hands()
        talk.channel.notify("notifications/roots/list_changed", None)
        async with asyncio.timeout(WAIT_S):
            while not talk.front.losses:
                await asyncio.sleep(0)
        assert isinstance(talk.front.losses[0], SessionLostError)


async def test_a_word_is_said_again_where_its_kept_connection_was_stale(loop_kind: str) -> None:
    async def serve(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            is_start = asked.body and asked.json.get("method") == "notifications/initialized"
            if is_start and line.number == 1:
                line.abort()
                return
            if not hello(line, asked):
                line.result(asked)

    async with nothing_left(), scripted(serve) as peer, talking(peer.url, is_modern=False) as talk:
        await talk.shake_hands()
        assert (await talk.call()).kind == 3
        said = [asked for asked in peer.requests if asked.body and "initialized" in asked.json.get("method", "")]
        assert len(said) == 2


async def test_a_word_that_is_not_taken_is_no_end() -> None:
    def answer(line: Line, asked: Asked) -> None:
        if asked.body and asked.json.get("method") == "notifications/initialized":
            line.answer(500, b"<html>", "text/html")
        elif not hello(line, asked):
            line.result(asked)

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url, is_modern=False) as talk:
        await talk.shake_hands()
        assert (await talk.call()).kind == 3
        assert talk.front.losses == []


async def test_a_word_that_is_not_acknowledged_holds_nothing_up_for_longer_than_its_timeout() -> None:
    async def serve(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            if asked.body and asked.json.get("method") == "notifications/initialized":
                await line.until_closed()
            elif not hello(line, asked):
                line.result(asked)

    limits = {"exchange_timeout_s": 0.05}
    async with nothing_left(), scripted(serve) as peer, talking(peer.url, is_modern=False, limits=limits) as talk:
        await talk.shake_hands()
        assert (await talk.call()).kind == 3


async def test_a_resumption_that_fails_is_tried_again(loop_kind: str) -> None:
    resumed = 0

    async def serve(line: Line) -> None:
        nonlocal resumed
        while (asked := await line.asked()) is not None:
            if "last-event-id" in asked.headers:
                resumed += 1
                if resumed < 3:
                    line.abort()
                    return
                line.begin_stream()
                line.event(json.loads(reply(2, "late")))
                line.end_stream()
            elif not hello(line, asked):
                line.begin_stream()
                line.event("", id="e1", retry=1)
                line.end_stream()

    async with nothing_left(), scripted(serve) as peer, talking(peer.url, is_modern=False) as talk:
        await talk.shake_hands()
        assert (await talk.call()).result == "late"
        assert resumed == 3


async def test_a_kept_connection_is_looked_at_before_it_is_used(loop_kind: str) -> None:
    """The server's close has arrived, and the loop has not told of it yet."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        async with nothing_left(), talking(url) as talk:
            first, _ = listener.accept()
            assert talk.channel.pool._idle[0].is_alive()
            first.close()
            talk.channel.pool._tick += 1
            request = talk.begin("tools/call", {"name": "pay", "_meta": META}, name="pay")
            assert not request.is_sent
            listener.setblocking(False)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(WAIT_S):
                second, _ = await loop.sock_accept(listener)
                with second:
                    data = b""
                    while b'"pay"' not in data:
                        data += await loop.sock_recv(second, 65536)
                    await loop.sock_sendall(second, whole(200, reply(request.id, "paid")))
                    assert (await request.future).result == "paid"
