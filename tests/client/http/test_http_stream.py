"""Sessions and streams against a scripted server: resumption, the server's own stream, 404, redirects, the old pair."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from scripted import (
    LATEST,
    META,
    WAIT_S,
    Asked,
    Line,
    Peer,
    Script,
    Talk,
    fault,
    nothing_left,
    once,
    reply,
    scripted,
    talking,
)

from erlmcp.errors import (
    CallTimeoutError,
    ConnectionClosedError,
    HttpStatusError,
    InvalidAnswerError,
    LimitError,
    SessionLostError,
)

NOTE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}}


def session(answer: Any, *, stream: Any = None, name: str = "s1") -> Script:
    """A server with a session; ``answer`` serves the calls, ``stream`` the GETs (405 where there is none)."""

    async def serve(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            if asked.verb == "GET":
                if stream is None:
                    line.answer(405)
                else:
                    await stream(line, asked)
            elif asked.verb == "DELETE":
                line.answer(200)
            elif asked.json.get("method") == "initialize":
                line.result(asked, {"protocolVersion": LATEST, "capabilities": {}}, Mcp_Session_Id=name)
            elif "id" not in asked.json or "method" not in asked.json:
                line.answer(202)
            else:
                found = answer(line, asked)
                if found is not None:
                    await found

    return serve


async def hear(talk: Talk, peer: Peer, verb: str) -> Asked:
    while True:
        asked = await peer.next_asked()
        if asked.verb == verb:
            return asked


async def test_each_request_of_a_session_says_its_name_and_the_revision(loop_kind: str) -> None:
    async with nothing_left(), scripted(session(lambda line, asked: line.result(asked))) as peer:
        async with talking(peer.url, is_modern=False, headers={"Authorization": "Bearer t"}) as talk:
            await talk.shake_hands()
            await hear(talk, peer, "GET")
            await talk.call()
        hello, start, *rest = peer.requests
        assert "mcp-session-id" not in hello.headers
        assert "mcp-protocol-version" not in hello.headers
        assert start.json == {"jsonrpc": "2.0", "method": "notifications/initialized"}
        for asked in [start, *rest]:
            assert asked.headers["mcp-session-id"] == "s1"
            assert asked.headers["mcp-protocol-version"] == LATEST
            assert asked.headers["authorization"] == "Bearer t"
            assert "mcp-method" not in asked.headers
        assert sorted(asked.verb for asked in rest) == ["DELETE", "GET", "POST"]


async def test_no_request_overtakes_the_end_of_the_handshake() -> None:
    async def serve(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            if asked.json.get("method") == "initialize":
                line.result(asked, {"protocolVersion": LATEST, "capabilities": {}})
            elif "id" not in asked.json:
                assert len(peer.requests) == 2
                for _ in range(50):
                    await asyncio.sleep(0)
                assert len(peer.requests) == 2, "a request came before the notification was acknowledged"
                line.answer(202)
            else:
                line.result(asked)

    async with nothing_left(), scripted(serve) as peer, talking(peer.url, is_modern=False) as talk:
        await talk.shake_hands()
        assert all(call.kind == 3 for call in await asyncio.gather(*(talk.call() for _ in range(5))))


# ---- streams that are resumed


def first_events(line: Line, asked: Asked) -> Any:
    """A stream that names its first event and a time to wait, then ends by itself."""
    line.begin_stream()
    line.event("", id="e1", retry=20)
    line.end_stream()


async def test_a_stream_that_ends_early_is_resumed_after_the_time_that_the_server_asked_for(loop_kind: str) -> None:
    times: list[float] = []
    rounds = iter(["e2", "e3", ""])

    def answer(line: Line, asked: Asked) -> None:
        times.append(asyncio.get_running_loop().time())
        first_events(line, asked)

    async def stream(line: Line, asked: Asked) -> None:
        if "last-event-id" not in asked.headers:
            line.answer(405)
            return
        times.append(asyncio.get_running_loop().time())
        line.begin_stream()
        name = next(rounds)
        if name:
            line.event(NOTE, id=name)
            line.end_stream()
        else:
            call = next(item for item in line.peer.requests if item.body and item.json.get("method") == "tools/call")
            line.event(json.loads(reply(call.id, {"n": 1})), id="e4")
            line.end_stream()

    async with nothing_left(), scripted(session(answer, stream=stream)) as peer:
        async with talking(peer.url, is_modern=False, limits={"retry_s": 5.0}) as talk:
            await talk.shake_hands()
            assert (await talk.call()).result == {"n": 1}
            assert talk.front.calls.qsize() == 2
        asked = [asked.headers["last-event-id"] for asked in peer.requests if "last-event-id" in asked.headers]
        assert asked == ["e1", "e2", "e3"]
        assert all(later - earlier >= 0.015 for earlier, later in itertools.pairwise(times))


async def test_a_stream_that_is_cut_within_an_event_is_resumed_from_the_last_whole_one(loop_kind: str) -> None:
    async def answer(line: Line, asked: Asked) -> None:
        line.begin_stream()
        line.event(NOTE, id="e1")
        line.send(b'ff\r\nid: e2\ndata: {"jsonrpc"')
        await line.writer.drain()
        line.abort()

    async def stream(line: Line, asked: Asked) -> None:
        if "last-event-id" in asked.headers:
            line.begin_stream()
            line.event(json.loads(reply(2, {"from": asked.headers["last-event-id"]})))
            line.end_stream()
        else:
            line.answer(405)

    async with (
        nothing_left(),
        scripted(session(answer, stream=stream)) as peer,
        talking(peer.url, is_modern=False) as talk,
    ):
        await talk.shake_hands()
        assert (await talk.call()).result == {"from": "e1"}


async def test_resumption_is_bounded_where_nothing_comes_of_it() -> None:
    async def stream(line: Line, asked: Asked) -> None:
        if "last-event-id" in asked.headers:
            line.begin_stream()
            line.end_stream()
        else:
            line.answer(405)

    def answer(line: Line, asked: Asked) -> None:
        line.begin_stream()
        line.event("", id="e1", retry=1)
        line.end_stream()

    async with nothing_left(), scripted(session(answer, stream=stream)) as peer:
        async with talking(peer.url, is_modern=False, limits={"resume_count_max": 3}) as talk:
            await talk.shake_hands()
            with pytest.raises(ConnectionClosedError, match="without an answer"):
                await talk.call()
        assert sum("last-event-id" in asked.headers for asked in peer.requests) == 3


@pytest.mark.parametrize(("status", "error"), [(404, SessionLostError), (400, HttpStatusError), (405, HttpStatusError)])
async def test_a_refused_resumption_ends_the_call_which_may_have_been_acted_on(
    status: int, error: type[Exception]
) -> None:
    async def stream(line: Line, asked: Asked) -> None:
        line.answer(status if "last-event-id" in asked.headers else 405)

    async with (
        nothing_left(),
        scripted(session(first_events, stream=stream)) as peer,
        talking(peer.url, is_modern=False) as talk,
    ):
        await talk.shake_hands()
        with pytest.raises(error):
            await talk.call()


async def test_a_call_that_waits_for_its_resumption_ends_at_its_deadline() -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.begin_stream()
        line.event("", id="e1", retry=60_000)
        line.end_stream()

    async with nothing_left(), scripted(session(answer)) as peer, talking(peer.url, is_modern=False) as talk:
        await talk.shake_hands()
        with pytest.raises(CallTimeoutError):
            await talk.ask("tools/call", {"name": "x"}, name="x", timeout_s=0.05)


async def test_in_2026_07_28_a_broken_stream_is_a_lost_call() -> None:
    async with nothing_left(), scripted(once(first_events)) as peer, talking(peer.url) as talk:
        with pytest.raises(ConnectionClosedError, match="without an answer"):
            await talk.call()
        assert [asked.verb for asked in peer.requests] == ["POST"]


async def test_a_stream_that_goes_on_after_the_answer_is_given_up_and_its_place_is_free() -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.begin_stream()
        line.event(json.loads(reply(asked.id)))

    limits = {"connection_count_max": 1, "linger_s": 0.02}
    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url, limits=limits) as talk:
        assert (await talk.call()).kind == 3
        assert (await talk.call()).kind == 3
        assert peer.line_count == 2


async def test_an_answer_on_another_stream_settles_its_call() -> None:
    asked_first: list[Asked] = []

    def answer(line: Line, asked: Asked) -> None:
        if not asked_first:
            asked_first.append(asked)
            line.begin_stream()
            return
        line.begin_stream()
        line.event(json.loads(reply(asked_first[0].id, "first")))
        line.event(json.loads(reply(asked_first[0].id, "again")))
        line.event(json.loads(reply(asked.id, "second")))
        line.end_stream()

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url) as talk:
        first = talk.begin("tools/list", {"_meta": META})
        await peer.next_asked()
        assert (await talk.call()).result == "second"
        assert (await first.future).result == "first"


# ---- the server's own stream


async def test_the_stream_of_the_session_is_opened_again_with_the_last_id(loop_kind: str) -> None:
    async def stream(line: Line, asked: Asked) -> None:
        line.begin_stream()
        if "last-event-id" in asked.headers:
            line.event({**NOTE, "method": "notifications/tools/list_changed"})
            await line.until_closed()
        else:
            line.event(NOTE, id="g1", retry=10)
            await line.close()

    async with nothing_left(), scripted(session(lambda line, asked: line.result(asked), stream=stream)) as peer:
        async with talking(peer.url, is_modern=False) as talk:
            await talk.shake_hands()
            assert (await talk.front.call()).method == "notifications/message"
            assert (await talk.front.call()).method == "notifications/tools/list_changed"
        last = [asked.headers.get("last-event-id") for asked in peer.requests if asked.verb == "GET"]
        assert last == [None, "g1"]


async def test_no_call_overtakes_the_stream_that_the_server_speaks_on(loop_kind: str) -> None:
    """A question of the server's that belongs to no stream would be lost before that one is there."""
    is_open = asyncio.Event()

    async def stream(line: Line, asked: Asked) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        is_open.set()
        line.begin_stream()
        await line.until_closed()

    def answer(line: Line, asked: Asked) -> None:
        line.result(asked, {"in_time": is_open.is_set()})

    async with (
        nothing_left(),
        scripted(session(answer, stream=stream)) as peer,
        talking(peer.url, is_modern=False, limits={"listen_wait_s": WAIT_S}) as talk,
    ):
        await talk.shake_hands()
        assert (await talk.call()).result == {"in_time": True}


async def test_a_stream_whose_head_does_not_come_holds_the_calls_back_for_a_moment_only() -> None:
    async def stream(line: Line, asked: Asked) -> None:
        await line.until_closed()

    async with (
        nothing_left(),
        scripted(session(lambda line, asked: line.result(asked), stream=stream)) as peer,
        talking(peer.url, is_modern=False, limits={"listen_wait_s": 0.01}) as talk,
    ):
        await talk.shake_hands()
        assert (await talk.call()).kind == 3


async def test_a_server_without_that_stream_is_asked_once() -> None:
    async with nothing_left(), scripted(session(lambda line, asked: line.result(asked))) as peer:
        async with talking(peer.url, is_modern=False) as talk:
            await talk.shake_hands()
            await hear(talk, peer, "GET")
            for _ in range(3):
                await talk.call()
        assert sum(asked.verb == "GET" for asked in peer.requests) == 1


async def test_the_server_asks_on_its_own_stream_and_is_answered() -> None:
    async def stream(line: Line, asked: Asked) -> None:
        line.begin_stream()
        line.event({"jsonrpc": "2.0", "id": "q", "method": "ping"})
        await line.until_closed()

    async with (
        nothing_left(),
        scripted(session(lambda line, asked: line.result(asked), stream=stream)) as peer,
        talking(peer.url, is_modern=False) as talk,
    ):
        await talk.shake_hands()
        question = await talk.front.call()
        talk.channel.answer(question.id_raw, {})
        while (asked := await hear(talk, peer, "POST")).json.get("id") != "q":
            pass
        assert asked.json == {"jsonrpc": "2.0", "id": "q", "result": {}}
        assert asked.headers["mcp-session-id"] == "s1"


async def test_what_is_no_message_on_that_stream_is_passed_over() -> None:
    async def stream(line: Line, asked: Asked) -> None:
        line.begin_stream()
        line.event("garbage")
        line.event("x" * 2000)
        line.event(NOTE)
        await line.until_closed()

    limits = {"event_bytes_max": 1000}
    async with (
        nothing_left(),
        scripted(session(lambda line, asked: line.result(asked), stream=stream)) as peer,
        talking(peer.url, is_modern=False, limits=limits) as talk,
    ):
        await talk.shake_hands()
        assert (await talk.front.call()).method == "notifications/message"


# ---- the session's end


async def test_a_404_ends_the_conversation_once_and_initialize_begins_another(loop_kind: str) -> None:
    is_gone = False

    def answer(line: Line, asked: Asked) -> Any:
        if not is_gone:
            return line.result(asked)
        if asked.headers.get("mcp-session-id") == "s1" and asked.json["params"]["name"] != "stall":
            return line.answer(404, fault(None, -32001, "Session not found"))
        return line.until_closed()

    limits = {"linger_s": 0.05}
    async with (
        nothing_left(),
        scripted(session(answer)) as peer,
        talking(peer.url, is_modern=False, limits=limits) as talk,
    ):
        await talk.shake_hands()
        await talk.call()
        is_gone = True
        stalled = talk.begin("tools/call", {"name": "stall"}, name="stall")
        requests = [talk.begin("tools/call", {"name": "x"}, name="x") for _ in range(5)]
        for request in [*requests, stalled]:
            with pytest.raises(SessionLostError):
                await request.future
        assert not any(request.is_sent for request in requests), "the server refused them: they may be sent again"
        assert [type(error) for error in talk.front.losses] == [SessionLostError]
        assert stalled.is_sent, "nobody knows whether the server acted on it"
        is_gone = False
        await talk.shake_hands()
        assert (await talk.call()).kind == 3


async def test_a_method_that_is_not_there_is_no_lost_session() -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.answer(404, fault(asked.id, -32601))

    async with nothing_left(), scripted(session(answer)) as peer, talking(peer.url, is_modern=False) as talk:
        await talk.shake_hands()
        assert (await talk.call()).error["code"] == -32601
        assert talk.front.losses == []


async def test_a_server_that_does_not_answer_the_farewell_costs_the_close_timeout() -> None:
    async def serve(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            if asked.verb == "DELETE":
                await line.until_closed()
                return
            if asked.verb == "GET":
                line.answer(405)
            elif "id" in asked.json:
                line.result(asked, {"protocolVersion": LATEST}, Mcp_Session_Id="s1")
            else:
                line.answer(202)

    async with nothing_left(), scripted(serve) as peer:
        async with talking(peer.url, is_modern=False, limits={"close_timeout_s": 0.05}) as talk:
            await talk.shake_hands()
        assert peer.requests[-1].verb == "DELETE"


# ---- redirects


async def test_a_redirect_within_the_origin_is_followed_and_remembered() -> None:
    def answer(line: Line, asked: Asked) -> None:
        if asked.target == "/mcp":
            line.answer(307, Location="/mcp/")
        else:
            line.result(asked)

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url) as talk:
        assert (await talk.call()).kind == 3
        assert (await talk.call()).kind == 3
        assert [asked.target for asked in peer.requests] == ["/mcp", "/mcp/", "/mcp/"]


async def test_redirects_in_a_circle_end() -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.answer(308, Location=asked.target + "x")

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url) as talk:
        with pytest.raises(HttpStatusError, match="308"):
            await talk.call()
        assert len(peer.requests) == 4


# ---- the pair of endpoints of 2024-11-05


def old_pair(endpoint: str, *, cut: bool = False) -> Script:
    streams: list[Line] = []

    async def serve(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            if asked.verb == "GET":
                streams.append(line)
                line.begin_stream()
                text = f"event: endpoint\ndata: {endpoint}\n\n".encode()
                line.send(b"%x\r\n%b\r\n" % (len(text), text))
                await line.until_closed()
            elif asked.target == "/mcp":
                line.answer(405)
            else:
                line.answer(202)
                if "id" in asked.json and cut and asked.json["method"] != "initialize":
                    streams[0].abort()
                elif "id" in asked.json:
                    streams[0].event(json.loads(reply(asked.id, {"protocolVersion": "2024-11-05"})))

    return serve


async def test_the_old_pair_is_found_by_a_refused_post(loop_kind: str) -> None:
    async with nothing_left(), scripted(old_pair("/messages?session=7")) as peer:
        async with talking(peer.url, is_modern=False) as talk:
            await talk.shake_hands("2024-11-05")
            assert (await talk.call()).kind == 3
        targets = [asked.target for asked in peer.requests if asked.verb == "POST"]
        assert targets == ["/mcp"] + ["/messages?session=7"] * 3


async def test_with_its_stream_the_old_conversation_ends(loop_kind: str) -> None:
    async with (
        nothing_left(),
        scripted(old_pair("/messages", cut=True)) as peer,
        talking(peer.url, is_modern=False) as talk,
    ):
        await talk.shake_hands("2024-11-05")
        with pytest.raises(ConnectionClosedError, match="broke its stream off"):
            await talk.call()
        assert len(talk.front.losses) == 1


async def test_an_endpoint_of_another_origin_is_refused() -> None:
    async with (
        nothing_left(),
        scripted(old_pair("http://evil.example/steal")) as peer,
        talking(peer.url, is_modern=False) as talk,
    ):
        with pytest.raises(InvalidAnswerError, match="another origin"):
            await talk.ask("initialize", {})


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(405, b"", HttpStatusError), (404, b"<html>", HttpStatusError), (400, fault(None, -32000), None)],
)
async def test_where_there_is_no_old_pair_either_the_first_refusal_holds(
    status: int, body: bytes, error: type[Exception] | None
) -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.answer(status if asked.verb == "POST" else 404, body)

    async with nothing_left(), scripted(once(answer)) as peer, talking(peer.url, is_modern=False) as talk:
        if error is None:
            assert (await talk.ask("initialize", {})).error["code"] == -32000
        else:
            with pytest.raises(error, match=str(status)):
                await talk.ask("initialize", {})
        assert [asked.verb for asked in peer.requests] == ["POST", "GET"]


async def test_a_stream_that_names_no_endpoint_costs_the_exchange_timeout() -> None:
    async def serve(line: Line) -> None:
        while (asked := await line.asked()) is not None:
            if asked.verb == "GET":
                await line.until_closed()
                return
            line.answer(405)

    limits = {"exchange_timeout_s": 0.05}
    async with nothing_left(), scripted(serve) as peer, talking(peer.url, is_modern=False, limits=limits) as talk:
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(HttpStatusError, match="405"):
                await talk.ask("initialize", {})


def test_a_limit_is_a_positive_number() -> None:
    from erlmcp.client.http_limit import HttpLimits
    from erlmcp.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="connect_timeout_s"):
        HttpLimits(connect_timeout_s=0)
    with pytest.raises(ConfigurationError, match="connection_count_min=9"):
        HttpLimits(connection_count_min=9, connection_count_max=8)
    assert HttpLimits(connection_count_min=0).connection_count_min == 0
    assert issubclass(LimitError, ValueError)
