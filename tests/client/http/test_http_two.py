"""HTTP/2: many exchanges on one connection, windows, GOAWAY, refused and reset streams, PING, loss."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("h2", reason="HTTP/2 needs the extra http2")
from h2.errors import ErrorCodes
from scripted import META, WAIT_S, nothing_left, reply, talking
from scripted2 import Asked2, Side, scripted2

from erlmcp.client.http import HttpChannel
from erlmcp.errors import ConnectionClosedError, HttpStatusError, InvalidAnswerError, LimitError


def echo(side: Side, asked: Asked2) -> None:
    side.result(asked, asked.json["params"].get("name"))


async def test_a_hundred_calls_at_a_time_share_one_connection(loop_kind: str) -> None:
    waiting: list[tuple[Side, Asked2]] = []

    def answer(side: Side, asked: Asked2) -> None:
        waiting.append((side, asked))
        if len(waiting) == 100:
            for item in reversed(waiting):
                echo(*item)

    async with nothing_left(), scripted2(answer) as peer, talking(peer.url, http2=True) as talk:
        requests = [talk.begin("tools/call", {"name": f"t{n}", "_meta": META}, name=f"t{n}") for n in range(100)]
        async with asyncio.timeout(WAIT_S):
            found = [await request.future for request in requests]
        assert [call.result for call in found] == [f"t{n}" for n in range(100)]
        assert len(peer.sides) == 1
        stats = talk.channel.stats()
        assert (stats["opened_total"], stats["sent_total"]) == (1, 100)
        asked = peer.requests[0].headers
        assert asked[":method"] == "POST"
        assert asked[":path"] == "/mcp"
        assert asked[":authority"] == f"127.0.0.1:{peer.port}"
        assert asked["mcp-name"] == "t0"


async def test_no_more_streams_are_opened_than_the_server_allows() -> None:
    async with nothing_left(), scripted2(echo, MAX_CONCURRENT_STREAMS=3) as peer:
        async with talking(peer.url, http2=True, limits={"connection_count_max": 1}) as talk:
            found = await asyncio.gather(*(talk.call(f"t{n}") for n in range(50)))
            assert [call.result for call in found] == [f"t{n}" for n in range(50)]
        assert peer.open_peak <= 3
        assert len(peer.sides) == 1


async def test_where_one_connection_is_full_another_is_opened() -> None:
    held: list[tuple[Side, Asked2]] = []

    def answer(side: Side, asked: Asked2) -> None:
        held.append((side, asked))
        if len(held) == 4:
            for item in held:
                echo(*item)

    async with nothing_left(), scripted2(answer, MAX_CONCURRENT_STREAMS=2) as peer:
        async with talking(peer.url, http2=True) as talk:
            await asyncio.gather(*(talk.call(f"t{n}") for n in range(4)))
        assert len(peer.sides) == 2


async def test_bodies_larger_than_the_windows_pass_both_ways(loop_kind: str) -> None:
    def answer(side: Side, asked: Asked2) -> None:
        side.head(asked)
        data = reply(asked.json["id"], len(asked.json["params"]["text"]))
        data = data[:-1] + b" " * 300_000 + data[-1:]
        rest = memoryview(data)

        def push() -> None:
            nonlocal rest
            while rest:
                size = min(len(rest), side.h2.local_flow_control_window(asked.stream), side.h2.max_outbound_frame_size)
                if not size:
                    asyncio.get_running_loop().call_later(0.001, push)
                    break
                side.h2.send_data(asked.stream, rest[:size].tobytes(), end_stream=size == len(rest))
                rest = rest[size:]
            side.flush()

        push()

    settings = {"INITIAL_WINDOW_SIZE": 1000}
    async with (
        nothing_left(),
        scripted2(answer, **settings) as peer,
        talking(peer.url, http2=True, limits={"window_bytes": 20_000}) as talk,
    ):
        found = await asyncio.gather(*(talk.ask("x", {"text": "y" * 200_000}) for _ in range(3)))
        assert [call.result for call in found] == [200_000] * 3


async def test_events_come_as_they_are_sent() -> None:
    def answer(side: Side, asked: Asked2) -> None:
        side.head(asked, kind="text/event-stream")
        side.data(asked, b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\nda')
        side.data(asked, b"ta: " + reply(asked.json["id"], 1) + b"\n\n", is_end=True)

    async with nothing_left(), scripted2(answer) as peer, talking(peer.url, http2=True) as talk:
        assert (await talk.call()).result == 1
        assert (await talk.front.call()).method == "notifications/message"


async def test_cancelling_resets_the_stream_and_nothing_else(loop_kind: str) -> None:
    def answer(side: Side, asked: Asked2) -> None:
        if asked.json["method"] != "stall":
            echo(side, asked)

    async with nothing_left(), scripted2(answer) as peer, talking(peer.url, http2=True) as talk:
        request = talk.begin("stall", {"_meta": META})
        await talk.call()
        talk.channel.cancel(request, "enough")
        assert (await talk.call("t")).result == "t"
        assert peer.resets == [peer.requests[0].stream]
        assert len(peer.sides) == 1


async def test_what_a_goaway_leaves_out_is_sent_on_another_connection(loop_kind: str) -> None:
    def answer(side: Side, asked: Asked2) -> None:
        if side.number == 0 and asked.json["params"]["name"] == "t2":
            # The first is answered after the GOAWAY, the others were not looked at.
            first = peer.requests[0]
            side.h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=first.stream)
            side.flush()
            frames = b"".join(frame.serialize() for frame in answer_frames(first))
            side.transport.write(frames)
        elif side.number == 1:
            echo(side, asked)

    async with nothing_left(), scripted2(answer) as peer, talking(peer.url, http2=True) as talk:
        found = await asyncio.gather(*(talk.call(f"t{n}") for n in range(3)))
        assert [call.result for call in found] == ["t0", "t1", "t2"]
        assert [asked.json["params"]["name"] for asked in peer.requests] == ["t0", "t1", "t2", "t1", "t2"]
        async with asyncio.timeout(WAIT_S):
            await peer.sides[0].closed.wait()


def answer_frames(asked: Asked2) -> list[Any]:
    """An answer, frame by frame: the library writes none after its GOAWAY."""
    from hpack import Encoder
    from hyperframe.frame import DataFrame, HeadersFrame

    head = HeadersFrame(asked.stream, flags=["END_HEADERS"])
    head.data = Encoder().encode([(":status", "200"), ("content-type", "application/json")])
    body = DataFrame(asked.stream, flags=["END_STREAM"])
    body.data = reply(asked.json["id"], asked.json["params"]["name"])
    return [head, body]


async def test_a_refused_stream_is_sent_again_and_not_for_ever() -> None:
    refusals = iter([True, False])

    def answer(side: Side, asked: Asked2) -> None:
        if asked.json["params"]["name"] == "never" or next(refusals):
            side.h2.reset_stream(asked.stream, ErrorCodes.REFUSED_STREAM)
        else:
            echo(side, asked)

    async with nothing_left(), scripted2(answer) as peer, talking(peer.url, http2=True) as talk:
        assert (await talk.call("t")).result == "t"
        assert len(peer.requests) == 2
        request = talk.begin("tools/call", {"name": "never", "_meta": META}, name="never")
        with pytest.raises(ConnectionClosedError, match="REFUSED_STREAM"):
            await request.future
        assert not request.is_sent
        assert len(peer.requests) == 5


async def test_a_reset_stream_fails_its_call_alone() -> None:
    def answer(side: Side, asked: Asked2) -> None:
        if asked.json["method"] == "bad":
            side.h2.reset_stream(asked.stream, ErrorCodes.INTERNAL_ERROR)
        else:
            echo(side, asked)

    async with nothing_left(), scripted2(answer) as peer, talking(peer.url, http2=True) as talk:
        with pytest.raises(ConnectionClosedError, match="INTERNAL_ERROR"):
            await talk.ask("bad", {})
        assert (await talk.call("t")).result == "t"
        assert len(peer.sides) == 1


async def test_a_lost_connection_fails_all_its_calls_and_the_next_one_works(loop_kind: str) -> None:
    def answer(side: Side, asked: Asked2) -> None:
        if side.number == 0:
            if len(peer.requests) == 20:
                side.transport.abort()
        else:
            echo(side, asked)

    async with nothing_left(), scripted2(answer) as peer, talking(peer.url, http2=True) as talk:
        requests = [talk.begin("x", {"name": "x", "_meta": META}) for _ in range(20)]
        for request in requests:
            with pytest.raises(ConnectionClosedError):
                await request.future
        assert (await talk.call("t")).result == "t"


async def test_a_silent_connection_is_asked_and_then_given_up() -> None:
    def answer(side: Side, asked: Asked2) -> None:
        if asked.json["method"] == "deaf":
            side.is_deaf = True

    async with nothing_left(), scripted2(answer) as peer, talking(peer.url, http2=True, limits={"ping_s": 10}) as talk:
        stalled = talk.begin("stall", {"_meta": META})
        await talk_until(lambda: len(peer.requests) == 1)
        connection = talk.channel.pool._shared[0]
        now_s = connection._heard_s
        connection.keep_up(now_s + 9, talk.channel.limits, True)
        assert peer.ping_count == 0
        connection.keep_up(now_s + 11, talk.channel.limits, True)
        await talk_until(lambda: peer.ping_count == 1)
        await talk_until(lambda: connection._ping_s == 0.0)  # it was answered
        deaf = talk.begin("deaf", {"_meta": META})
        await talk_until(lambda: peer.sides[0].is_deaf)
        now_s = connection._heard_s
        connection.keep_up(now_s + 11, talk.channel.limits, True)
        connection.keep_up(now_s + 22, talk.channel.limits, True)
        for request in (stalled, deaf):
            with pytest.raises(ConnectionClosedError, match="ping_s=10"):
                await request.future


async def talk_until(is_so: Any) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_so():
            await asyncio.sleep(0)


async def test_an_idle_connection_is_closed_unless_it_is_needed() -> None:
    async with nothing_left(), scripted2(echo) as peer, talking(peer.url, http2=True, limits={"idle_s": 5}) as talk:
        await talk.call()
        connection = talk.channel.pool._shared[0]
        connection.keep_up(connection._used_s + 6, talk.channel.limits, True)
        assert connection.is_open
        connection.keep_up(connection._used_s + 6, talk.channel.limits, False)
        assert not connection.is_open
        async with asyncio.timeout(WAIT_S):
            await peer.sides[0].closed.wait()
        assert (await talk.call("t")).result == "t"
        assert len(peer.sides) == 2


@pytest.mark.parametrize(
    ("answer", "error", "what"),
    [
        (lambda side, asked: side.head(asked, 500, "text/html", is_end=True), HttpStatusError, "500"),
        (
            lambda side, asked: side.transport.write(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x"),
            InvalidAnswerError,
            "broke HTTP/2",
        ),
        (lambda side, asked: side.data_of(asked), LimitError, "body_bytes_max=1000"),
        (lambda side, asked: side.transport.close(), ConnectionClosedError, "closed the connection"),
    ],
)
async def test_a_bad_answer_ends_the_call_in_a_typed_error(answer: Any, error: type[Exception], what: str) -> None:
    limits = {"body_bytes_max": 1000}
    async with nothing_left(), scripted2(answer) as peer, talking(peer.url, http2=True, limits=limits) as talk:
        with pytest.raises(error, match=what):
            await talk.call()


def data_of(side: Side, asked: Asked2) -> None:
    side.head(asked)
    side.data(asked, b"x" * 2000)


Side.data_of = data_of  # type: ignore[attr-defined]


async def test_a_server_that_speaks_no_http_2_is_a_typed_error() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with nothing_left(), server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises((InvalidAnswerError, ConnectionClosedError), match=r"broke HTTP/2|closed the connection"):
            async with talking(url, http2=True):
                pass


async def test_a_server_that_never_says_its_settings_costs_the_connect_timeout(loop_kind: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with nothing_left(), server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(ConnectionClosedError, match="connect_timeout_s"):
            async with talking(url, http2=True, limits={"connect_timeout_s": 0.05}):
                pass


async def test_a_header_that_http_1_refuses_is_refused_here_too() -> None:
    async with scripted2(echo) as peer, talking(peer.url, http2=True) as talk:
        with pytest.raises(Exception, match="cannot be sent"):
            talk.begin("tools/call", {"_meta": META}, headers={"Mcp-Param-X": "a\r\nb"})
        assert isinstance(talk.channel, HttpChannel)
        assert talk.channel.stats()["inflight_count"] == 0
