"""HttpChannel against a server that fails on purpose: each call ends in a typed error, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import (
    META,
    WAIT_S,
    Asked,
    Line,
    Talk,
    chunk,
    fault,
    fds,
    nothing_left,
    once,
    reply,
    scripted,
    talking,
    whole,
)

from erlmcp.errors import (
    CallTimeoutError,
    ConnectionClosedError,
    ErlmcpError,
    HttpStatusError,
    InvalidAnswerError,
    LimitError,
)

HTML = b"<html><body>It works!</body></html>"


def respond(data: Callable[[Any], bytes], *, ends: str = "") -> Any:
    """A script that answers the first request of a connection with raw bytes, then closes, aborts, or keeps it."""

    async def script(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            line.send(data(asked.id))
            if ends == "abort":
                await line.writer.drain()
                line.abort()
            elif ends == "close":
                await line.close()
            if ends:
                return

    return script


@pytest.mark.parametrize(
    ("data", "ends", "error", "what"),
    [
        (lambda id: b"", "close", ConnectionClosedError, "before it answered"),
        (lambda id: b"", "abort", ConnectionClosedError, "before it answered"),
        (lambda id: whole(200, reply(id))[:-5], "close", ConnectionClosedError, "within its answer"),
        (lambda id: whole(200, reply(id))[:40], "close", ConnectionClosedError, "within its answer"),
        (lambda id: whole(200, None) + chunk(reply(id))[:-9], "close", ConnectionClosedError, "within its answer"),
        (lambda id: whole(200, None) + b"zz\r\n", "", InvalidAnswerError, "not HTTP"),
        (lambda id: b"garbage\r\n\r\n", "", InvalidAnswerError, "not HTTP"),
        (lambda id: b"\x16\x03\x01\x00\xff" * 20 + b"\r\n\r\n", "", InvalidAnswerError, "not HTTP"),
        (lambda id: b"HTTP/1.1 101 Switching\r\n\r\n", "", InvalidAnswerError, "101"),
        (lambda id: whole(200, b"not json"), "", InvalidAnswerError, "no message"),
        (lambda id: whole(200, b"{}"), "", InvalidAnswerError, "no message"),
        (lambda id: whole(200, b""), "", InvalidAnswerError, "answered tools/list"),
        (lambda id: whole(200, reply(id + 1000)), "", InvalidAnswerError, "answered tools/list"),
        (lambda id: whole(200, reply(str(id))), "", InvalidAnswerError, "answered tools/list"),
        (lambda id: whole(200, HTML, "text/html"), "", HttpStatusError, "text/html where JSON"),
        (lambda id: whole(202, b""), "", HttpStatusError, "202"),
        (lambda id: whole(500, HTML, "text/html"), "", HttpStatusError, "500 Because: <html>"),
        (lambda id: whole(503, fault(None, -32000)), "", HttpStatusError, "503"),
        (lambda id: whole(401, fault(None, -32000)), "", HttpStatusError, "401"),
        (lambda id: whole(403, b"", WWW_Authenticate="x"), "", HttpStatusError, "403"),
        (lambda id: whole(302, b"", Location="/other"), "", HttpStatusError, "to /other, which is not followed"),
        (lambda id: whole(307, b"", Location="http://evil.example/"), "", HttpStatusError, "not followed"),
        (lambda id: whole(308, b"", Location="/mcp"), "", HttpStatusError, "not followed"),
        (
            lambda id: whole(200, None, "text/event-stream") + chunk(b"data: {\n\n"),
            "",
            InvalidAnswerError,
            "no message",
        ),
        (
            lambda id: whole(200, None, "text/event-stream") + b"0\r\n\r\n",
            "",
            ConnectionClosedError,
            "without an answer",
        ),
        (lambda id: whole(200, None, "text/event-stream"), "abort", ConnectionClosedError, "within its answer"),
        (lambda id: whole(200, None, "text/event-stream") + b"zz\r\n", "", InvalidAnswerError, "not HTTP"),
    ],
)
async def test_a_bad_answer_ends_the_call_in_a_typed_error(
    data: Any, ends: str, error: type[Exception], what: str
) -> None:
    async with nothing_left(), scripted(respond(data, ends=ends)) as peer, talking(peer.url) as talk:
        for _ in range(2):
            with pytest.raises(error, match=what):
                await talk.ask("tools/list", {"_meta": META})
        assert talk.channel.stats()["inflight_count"] == 0
        assert talk.front.losses == []


async def test_after_each_fault_the_next_call_works(loop_kind: str) -> None:
    faults = iter([b"", b"garbage\r\n\r\n", whole(200, b"{")[:-1], whole(500, HTML, "text/html", Connection="close")])

    async def script(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            if asked.json["method"] == "tools/list":
                line.send(next(faults))
                await line.close()
                return
            line.result(asked)

    async with nothing_left(), scripted(script) as peer, talking(peer.url) as talk:
        for _ in range(4):
            with pytest.raises(ErlmcpError):
                await talk.ask("tools/list", {"_meta": META})
            assert (await talk.call()).kind == 3


async def test_what_a_refusal_says_is_kept_in_its_error() -> None:
    challenge = 'Bearer resource_metadata="https://example.com/.well-known/oauth-protected-resource"'
    script = respond(lambda id: whole(401, b'{"error":"invalid_token"}', WWW_Authenticate=challenge, Retry_After="7"))
    async with scripted(script) as peer, talking(peer.url) as talk:
        with pytest.raises(HttpStatusError) as caught:
            await talk.call()
    assert caught.value.status == 401
    assert caught.value.headers["www-authenticate"] == challenge
    assert caught.value.headers["retry-after"] == "7"
    assert caught.value.body == b'{"error":"invalid_token"}'


@pytest.mark.parametrize("status", [200, 400, 404, 500])
async def test_an_error_that_names_the_request_is_its_answer_whatever_the_status(status: int) -> None:
    async with scripted(respond(lambda id: whole(status, fault(id, -32603)))) as peer, talking(peer.url) as talk:
        assert (await talk.call()).error["code"] == -32603


async def test_an_error_without_an_id_is_the_answer_of_the_request_it_comes_for() -> None:
    async with scripted(respond(lambda id: whole(400, fault(None, -32600)))) as peer, talking(peer.url) as talk:
        assert (await talk.call()).error["code"] == -32600
    async with scripted(respond(lambda id: whole(200, fault(None, -32600)))) as peer, talking(peer.url) as talk:
        assert (await talk.call()).error["code"] == -32600


async def test_a_server_that_stalls_costs_the_deadline_and_no_more(loop_kind: str) -> None:
    async def script(line: Line) -> None:
        await line.asked()
        await line.until_closed()

    async with nothing_left(), scripted(script) as peer, talking(peer.url) as talk:
        with pytest.raises(CallTimeoutError, match="tools/call"):
            await talk.ask("tools/call", {"_meta": META}, name="echo", timeout_s=0.02)
        requests = [talk.begin("tools/list", {"_meta": META}, timeout_s=0.02 + 0.01 * n) for n in range(5)]
        for request in reversed(requests):
            with pytest.raises(CallTimeoutError):
                await request.future
        assert talk.channel.stats()["inflight_count"] == 0


async def test_a_host_that_does_not_take_the_connection_costs_the_connect_timeout(loop_kind: str) -> None:
    # A listener whose queue is full answers no further SYN.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            async with nothing_left():
                with pytest.raises(ConnectionClosedError, match=r"connect_timeout_s=0\.05 passed"):
                    async with talking(f"http://127.0.0.1:{address[1]}/", limits={"connect_timeout_s": 0.05}):
                        pass
        finally:
            for filler in fillers:
                filler.close()


# ---- kept connections that the server has closed


def closes_after_each(line: Line, asked: Asked) -> Any:
    line.result(asked)
    return line.close()


async def test_a_connection_that_the_server_closed_in_the_pause_is_not_used(loop_kind: str) -> None:
    async with nothing_left(), scripted(once(closes_after_each)) as peer, talking(peer.url) as talk:
        for _ in range(5):
            assert (await talk.call()).kind == 3
            async with asyncio.timeout(WAIT_S):
                while talk.channel.stats()["count"]:
                    await asyncio.sleep(0)
        assert peer.line_count == 5


def stale_on_second(answered_method: str) -> Any:
    """Each connection answers its first request and is closed at its second one, unanswered."""

    async def script(line: Line) -> None:
        asked = await line.asked()
        if asked is not None:
            line.result(asked)
            await line.asked()
            line.abort()

    return script


async def test_what_is_idempotent_is_sent_again_where_its_kept_connection_was_stale(loop_kind: str) -> None:
    async with nothing_left(), scripted(stale_on_second("")) as peer, talking(peer.url) as talk:
        assert (await talk.call()).kind == 3
        found = await talk.ask("tools/list", {"_meta": META}, is_idempotent=True)
        assert found.kind == 3
        assert [asked.id for asked in peer.requests] == [1, 2, 2]


async def test_what_is_not_idempotent_is_never_sent_twice() -> None:
    async with nothing_left(), scripted(stale_on_second("")) as peer, talking(peer.url) as talk:
        assert (await talk.call()).kind == 3
        request = talk.begin("tools/call", {"name": "pay", "_meta": META}, name="pay")
        with pytest.raises(ConnectionClosedError, match="before it answered"):
            await request.future
        assert request.is_sent
        assert [asked.id for asked in peer.requests] == [1, 2]


async def test_an_answer_to_another_request_ends_its_connection() -> None:
    """The answers on it may be one behind: with the next request it would be the same."""

    def answer(line: Line, asked: Asked) -> None:
        line.answer(200, reply(asked.id if line.number > 1 else asked.id - 1, {"n": line.number}))

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url) as talk:
        with pytest.raises(InvalidAnswerError):
            await talk.call()
        assert (await talk.call()).result == {"n": 2}
        assert (await talk.call()).result == {"n": 2}


async def test_what_comes_while_nothing_was_asked_ends_the_connection() -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.result(asked)
        if len(line.peer.requests) == 1:
            line.answer(200, reply(2, "forged"))

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url) as talk:
        assert (await talk.call()).result == {}
        assert (await talk.call()).result == {}
        assert peer.line_count == 2


# ---- bounds


@pytest.mark.parametrize(
    ("data", "limits", "error", "what"),
    [
        (lambda id: whole(200, reply(id, "x" * 500)), {"body_bytes_max": 400}, LimitError, "400"),
        (lambda id: whole(200, reply(id), X="x" * 500), {"head_bytes_max": 400}, LimitError, "400"),
        (
            lambda id: whole(200, None, "text/event-stream") + chunk(b"data: " + reply(id, "x" * 500) + b"\n\n"),
            {"event_bytes_max": 400},
            LimitError,
            "400",
        ),
    ],
)
async def test_what_a_server_sends_is_bounded(data: Any, limits: Any, error: type[Exception], what: str) -> None:
    async with nothing_left(), scripted(respond(data)) as peer, talking(peer.url, limits=limits) as talk:
        with pytest.raises(error, match=what):
            await talk.call()


async def test_the_line_of_those_who_wait_is_bounded() -> None:
    async def script(line: Line) -> None:
        await line.until_closed()

    limits = {"connection_count_max": 1, "waiter_count_max": 3}
    async with nothing_left(), scripted(script) as peer, talking(peer.url, limits=limits) as talk:
        requests = [talk.begin("tools/list", {"_meta": META}, timeout_s=0.05) for _ in range(1 + 3)]
        with pytest.raises(LimitError, match="waiter_count_max=3"):
            talk.begin("tools/list", {"_meta": META})
        for request in requests:
            with pytest.raises(CallTimeoutError):
                await request.future
        assert talk.channel.stats()["waiting_count"] == 0


async def test_what_waits_for_answers_is_bounded() -> None:
    async def script(line: Line) -> None:
        await line.until_closed()

    async with nothing_left(), scripted(script) as peer, talking(peer.url, limits={"inflight_count_max": 2}) as talk:
        requests = [talk.begin("tools/list", {"_meta": META}) for _ in range(2)]
        with pytest.raises(LimitError, match="inflight_count_max=2"):
            talk.begin("tools/list", {"_meta": META})
        for request in requests:
            request.future.cancel()


async def test_who_waits_while_none_can_be_opened_is_served_once_one_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(line: Line, asked: Asked) -> None:
        if asked.json["method"] != "stall":
            line.result(asked)

    async def refuse() -> Any:
        refused.set()
        raise ConnectionClosedError("cannot reach it for now")

    refused = asyncio.Event()
    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url) as talk:
        pool = talk.channel.pool
        stalled = talk.begin("stall", {"_meta": META})
        await peer.next_asked()
        with monkeypatch.context() as patch:
            patch.setattr(pool, "_connect", refuse)
            waiting = talk.begin("tools/list", {"_meta": META})
            await refused.wait()
        await asyncio.sleep(0)
        assert not waiting.future.done()
        pool.size.opened()  # the pause after a failure is over
        assert pool._beat is not None
        pool._beat.cancel()
        pool._keep_up()
        assert (await waiting.future).kind == 3
        stalled.future.cancel()


async def test_what_is_idle_old_or_too_much_is_closed_down_to_the_least() -> None:
    limits = {"connection_count_min": 1, "connection_count_max": 8, "idle_s": 5.0}
    async with (
        nothing_left(),
        scripted(once(lambda line, asked: line.result(asked))) as peer,
        talking(peer.url, limits=limits) as talk,
    ):
        pool = talk.channel.pool
        await asyncio.gather(*(talk.call() for _ in range(8)))
        assert pool.stats()["idle_count"] == 8
        assert pool._beat is not None
        for _ in range(6):
            pool._beat.cancel()
            pool._keep_up()
        assert pool.stats()["idle_count"] == 1
        pool._idle[0].opened_s -= 4000
        pool._beat.cancel()
        pool._keep_up()
        assert pool.stats()["idle_count"] == 0
        assert (await talk.call()).kind == 3


async def test_who_waits_for_a_connection_is_cancelled_unsent() -> None:
    async def script(line: Line) -> None:
        asked = await line.asked()
        await line.asked() if asked is None else None
        await line.peer.go.wait()  # type: ignore[attr-defined]
        assert asked is not None
        line.result(asked)
        await line.until_closed()

    async with nothing_left(), scripted(script) as peer:
        peer.go = asyncio.Event()  # type: ignore[attr-defined]
        async with talking(peer.url, limits={"connection_count_max": 1}) as talk:
            first = talk.begin("tools/list", {"_meta": META})
            second = talk.begin("tools/list", {"_meta": META})
            await peer.next_asked()
            talk.channel.cancel(second, "enough")
            peer.go.set()  # type: ignore[attr-defined]
            assert (await first.future).kind == 3
            assert not second.is_sent
            second.future.cancel()
        assert len(peer.requests) == 1


async def test_a_thousand_calls_cancelled_at_random_each_end_once(loop_kind: str) -> None:
    chance = random.Random(7)
    ended = {"answered": 0, "cancelled": 0}

    async def follow(talk: Talk, request: Any) -> None:
        if chance.random() < 0.5:
            for _ in range(chance.randrange(50)):
                await asyncio.sleep(0)
            if not request.future.done():
                request.future.cancel()
                talk.channel.cancel(request, "enough")
        try:
            assert (await request.future).id == request.id
            ended["answered"] += 1
        except asyncio.CancelledError:
            ended["cancelled"] += 1

    answering = once(lambda line, asked: line.result(asked))
    limits = {"connection_count_max": 8}
    async with nothing_left(), scripted(answering) as peer, talking(peer.url, limits=limits) as talk:
        requests = [talk.begin("tools/list", {"_meta": META}) for _ in range(1000)]
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*(follow(talk, request) for request in requests))
        assert sum(ended.values()) == 1000
        assert min(ended.values()) > 0
        assert talk.channel.stats()["inflight_count"] == 0


# ---- all at once


async def misbehave(line: Line, asked: Asked, chance: random.Random) -> bool:
    """Answer in one of many ways; whether the connection goes on."""
    kind = chance.choice(
        ["fine", "fine", "stream", "half", "cut stream", "garbage", "page", "other id", "twice", "gone"]
    )
    good = whole(200, reply(asked.id, "fine"))
    if kind == "fine":
        line.send(good)
    elif kind == "stream":
        line.send(stream_answer(asked.id))
    elif kind == "half":
        line.send(good[: chance.randrange(1, len(good))])
    elif kind == "cut stream":
        data = stream_answer(asked.id)
        line.send(data[: chance.randrange(1, len(data))])
    elif kind == "garbage":
        line.send(chance.randbytes(100) + b"\r\n\r\n")
    elif kind == "page":
        line.send(whole(502, HTML, "text/html"))
    elif kind == "other id":
        line.send(whole(200, reply(asked.id + 1000)))
    elif kind == "twice":
        line.send(good + good)
    if kind in ("half", "cut stream", "garbage", "gone"):
        with contextlib.suppress(ConnectionError):
            await line.writer.drain()
        line.abort() if chance.random() < 0.5 else await line.close()
        return False
    return True


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_a_server_does_each_call_ends_and_the_next_one_works(seed: int, loop_kind: str) -> None:
    chance = random.Random(seed)
    is_good = False

    async def script(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            if is_good:
                line.result(asked)
            elif not await misbehave(line, asked, chance):
                return

    errors: list[ErlmcpError] = []

    async def calls(talk: Talk, count: int) -> int:
        fine = 0
        for _ in range(count):
            try:
                call = await talk.ask("tools/list", {"_meta": META}, is_idempotent=chance.random() < 0.5)
                assert call.result in ("fine", {"n": 1})
                fine += 1
            except ErlmcpError as error:
                errors.append(error)
        return fine

    async with nothing_left(), scripted(script) as peer, talking(peer.url, limits={"connection_count_max": 5}) as talk:
        async with asyncio.timeout(6 * WAIT_S):
            fine = await asyncio.gather(*(calls(talk, 30) for _ in range(10)))
        assert sum(fine) > 0
        assert sum(fine) + len(errors) == 300
        assert errors
        assert not any(isinstance(error, CallTimeoutError) for error in errors)
        assert talk.channel.stats()["inflight_count"] == 0
        assert talk.channel.stats()["waiting_count"] == 0
        is_good = True
        assert (await talk.call()).kind == 3


# ---- cuts


STREAM = [
    {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "ä\u2028 one"}},
    {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "two"}},
]


def stream_answer(id: Any) -> bytes:
    events = b"".join(b"event: message\ndata: %b\n\n" % json.dumps(item).encode() for item in STREAM)
    events += b": a comment\n\ndata: " + reply(id, {"n": 1}) + b"\r\n\r\n"
    return whole(200, None, "text/event-stream") + chunk(events[:50]) + chunk(events[50:]) + b"0\r\n\r\n"


@pytest.mark.parametrize("make", [lambda id: whole(200, reply(id, {"n": 1})), stream_answer])
@given(cuts=st.lists(st.integers(0, 600), max_size=8))
@settings(max_examples=25, deadline=None)
def test_an_answer_is_the_same_wherever_it_is_cut(make: Any, cuts: list[int]) -> None:
    async def main() -> None:
        async def script(line: Line) -> None:
            while (asked := await line.asked()) is not None:
                data = make(asked.id)
                places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
                for start, end in itertools.pairwise(places):
                    line.send(data[start:end])
                    await line.writer.drain()
                    await asyncio.sleep(0)

        async with scripted(script) as peer, talking(peer.url) as talk:
            for _ in range(2):
                assert (await talk.call()).result == {"n": 1}
            calls = [talk.front.calls.get_nowait().params for _ in range(talk.front.calls.qsize())]
            expected = [item["params"] for item in STREAM] * 2 if make is stream_answer else []
            assert calls == expected
            # A call that is answered before its stream has ended leaves the next one to another connection.
            assert peer.line_count == 1 if expected == [] else peer.line_count <= 2

    asyncio.run(main())


async def test_files_are_counted_at_all() -> None:
    before = fds()
    async with scripted(once(lambda line, asked: line.result(asked))):
        assert len(fds()) > len(before)
