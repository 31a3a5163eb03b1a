"""The room ``http1``: chunked bodies, responses, and the writing of heads."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from erlmcp._core import http1 as core
from erlmcp._model import http1 as model
from erlmcp.errors import LimitError

Impl = Callable[[str], ModuleType]

START = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def refuse(room: ModuleType, data: bytes) -> int:
    """The status that a request is refused with, as the only event; 0 where it is not."""
    parser = room.RequestParser()
    events = parser.feed(data)
    if [type(event).__name__ for event in events] != ["HttpError"]:
        return 0
    assert parser.closed
    return int(events[0].status)


def streamed(events: list[Any]) -> tuple[bytes, bool]:
    """The parts of a streamed body together, and whether its end came, and came last."""
    *parts, last = events
    is_ended = type(last).__name__ == "BodyEnd"
    return b"".join(part.data for part in (parts if is_ended else events)), is_ended


class TestChunks:
    def test_a_body_is_put_together(self, impl: Impl) -> None:
        decode = impl("http1").decode_chunked
        assert decode(b"0\r\n\r\nrest") == (b"", 5)
        assert decode(b"3\r\nabc\r\n1;x\r\nd\r\n00\r\nA: b\r\nC:\r\n\r\n") == (b"abcd", 32)
        assert decode(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n")[0] == b"0123456789" * 2

    @pytest.mark.parametrize(
        "data",
        [
            b"\r\n\r\n",
            b" 1\r\na\r\n0\r\n\r\n",
            b"1 \r\na\r\n0\r\n\r\n",
            b"1 ;x\r\na\r\n0\r\n\r\n",
            b"+1\r\na\r\n0\r\n\r\n",
            b"0x1\r\na\r\n0\r\n\r\n",
            b"-1\r\na\r\n0\r\n\r\n",
            b"1\na\r\n0\r\n\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\nab\r\n0\r\n\r\n",
            b"1\r\na0\r\n\r\n",
            b"1\r\na\rX0\r\n\r\n",
            b"1\rXa\r\n0\r\n\r\n",
            b"1;\0\r\na\r\n0\r\n\r\n",
            b"1;a\nb\r\na\r\n0\r\n\r\n",
            b"0\r\nX\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
            b"0\r\n X: y\r\n\r\n",
            b"0\r\nX: \0\r\n\r\n",
            b"0\r\nX: y\n\r\n",
            b"0\r\n: y\r\n\r\n",
            b"0\r\n\n",
            b"0\r\n\rX",
            b"0000000000000001\r\na\r\n0\r\n\r\n",
            b"FFFFFFFFFFFFFFFF1\r\na",
            b"g\r\n",
            b";\r\n",
            b"1_0\r\n",
        ],
    )
    def test_a_broken_coding_is_refused(self, impl: Impl, data: bytes) -> None:
        room = impl("http1")
        with pytest.raises(ValueError) as caught:
            room.decode_chunked(data)
        assert not isinstance(caught.value, LimitError)
        assert "not ended" not in str(caught.value)
        assert refuse(room, START + data) == 400

    @pytest.mark.parametrize("data", [b"", b"5", b"5\r\nhell", b"5\r\nhello\r\n0\r\n", b"0\r\nX: y\r\n\r"])
    def test_a_body_cut_short_is_told_apart(self, impl: Impl, data: bytes) -> None:
        with pytest.raises(ValueError, match="not ended"):
            impl("http1").decode_chunked(data)

    def test_the_body_is_bounded_by_its_sum(self, impl: Impl) -> None:
        decode = impl("http1").decode_chunked
        assert decode(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 5)[0] == b"abcde"
        for data in b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFF\r\n":
            with pytest.raises(LimitError, match="body_bytes_max=4"):
                decode(data, 4)

    def test_extensions_and_trailers_are_bounded_by_their_sum(self, impl: Impl) -> None:
        room = impl("http1")
        assert refuse(room, START + b"1;" + b"x" * 4096 + b"\r\na\r\n0\r\n\r\n") == 0
        assert refuse(room, START + (b"1;" + b"x" * 2048 + b"\r\na\r\n") * 2 + b"0;x\r\n\r\n") == 413
        assert refuse(room, START + b"0\r\nX:" + b"x" * 8190 + b"\r\n\r\n") == 0
        assert refuse(room, START + b"0\r\n" + (b"X:" + b"x" * 4094 + b"\r\n") * 2 + b"X:\r\n\r\n") == 431
        with pytest.raises(ValueError, match="4096"):
            room.decode_chunked(b"1;" + b"x" * 4097)


class TestResponses:
    def test_each_kind_of_body_is_read(self, impl: Impl) -> None:
        parser = impl("http1").ResponseParser()
        for verb in "GET", "HEAD", "POST", "GET", "GET":
            parser.expect(verb)
        events = parser.feed(
            b"HTTP/1.1 100 Continue\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
            b"HTTP/1.1 202\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
            b"HTTP/1.1 204 No Content\r\n\r\n"
            b"HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n"
            b"HTTP/1.1 200 It is \xe9\r\n\r\nuntil"
        )
        assert [(event.status, event.body) for event in events] == [
            (100, b""),
            (200, b"ok"),
            (200, b""),
            (202, b"ab"),
            (204, b""),
            (304, b""),
        ]
        assert parser.feed(b" close") == []
        (last,) = parser.finish()
        assert (last.reason, last.body, last.keep_alive) == ("It is \xe9", b"until close", False)
        assert parser.closed
        assert parser.finish() == parser.feed(b"x") == []

    @pytest.mark.parametrize(
        ("status", "data"),
        [
            (400, b"HTTP/1.1 20 OK\r\n\r\n"),
            (400, b"HTTP/1.1 099 OK\r\n\r\n"),
            (400, b"HTTP/1.1 600 OK\r\n\r\n"),
            (400, b"HTTP/1.1 2000 OK\r\n\r\n"),
            (400, b"HTTP/1.1  200 OK\r\n\r\n"),
            (400, b"HTTP/1.1 200 O\0K\r\n\r\n"),
            (400, b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
            (400, b"ICY 200 OK\r\n\r\n     "),
            (400, b"HTTP/1.1 200 OK\n\n"),
            (505, b"HTTP/2.0 200 OK\r\n\r\n"),
            (501, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
            (400, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"),
            (400, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
            (413, b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n"),
            (431, b"HTTP/1.1 200 " + b"x" * 100),
            (413, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101),
        ],
    )
    def test_a_broken_response_is_refused(self, impl: Impl, status: int, data: bytes) -> None:
        parser = impl("http1").ResponseParser(100, 10, 100)
        (error,) = parser.feed(data)
        assert error.status == status
        assert parser.closed
        assert parser.finish() == []

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ],
    )
    def test_a_message_cut_short_is_an_error_at_the_end(self, impl: Impl, data: bytes) -> None:
        parser = impl("http1").ResponseParser()
        assert parser.feed(data) == []
        assert [error.status for error in parser.finish()] == [400]

    @pytest.mark.parametrize(
        ("fields", "body", "is_ended"),
        [
            (b"Content-Length: 6\r\n", b"data:x", True),
            (b"Transfer-Encoding: chunked\r\n", b"2\r\nda\r\n4\r\nta:x\r\n0\r\n\r\n", True),
            (b"", b"data:x", False),
        ],
    )
    def test_an_event_stream_is_handed_out_as_it_comes(
        self, impl: Impl, fields: bytes, body: bytes, is_ended: bool
    ) -> None:
        parser = impl("http1").ResponseParser(body_bytes_max=1, stream_events=True)
        (response,) = parser.feed(b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; x\r\n" + fields + b"\r\n")
        assert response.body is None
        events = parser.feed(body[:8]) + parser.feed(body[8:]) + ([] if is_ended else parser.finish())
        assert streamed(events) == (b"data:x", True)
        assert parser.closed is not is_ended

    def test_other_types_are_not_streamed(self, impl: Impl) -> None:
        for media in b"text/event-streams", b"application/json":
            parser = impl("http1").ResponseParser(stream_events=True)
            (response,) = parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Type: " + media + b"\r\n\r\nx")
            assert response.body == b"x"

    def test_nothing_comes_after_the_protocol_was_switched(self, impl: Impl) -> None:
        parser = impl("http1").ResponseParser()
        (response,) = parser.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nother bytes")
        assert not response.keep_alive
        assert parser.closed


class TestWriting:
    def test_heads_are_written(self, impl: Impl) -> None:
        room = impl("http1")
        assert room.response_head(200, [("A", "b"), ("C", "")]) == b"HTTP/1.1 200 OK\r\nA: b\r\nC: \r\n\r\n"
        assert room.response_head(299, []) == b"HTTP/1.1 299 \r\n\r\n"
        assert room.response_head(404, [], "Gone \xe9") == b"HTTP/1.1 404 Gone \xe9\r\n\r\n"
        assert room.request_head("GET", "/?a", [("Host", "h")]) == b"GET /?a HTTP/1.1\r\nHost: h\r\n\r\n"

    @pytest.mark.parametrize("bad", ["a\r\nX: y", "a\n", "a\r", "a\0", "\x7f", "\u20ac"])
    def test_a_line_cannot_be_smuggled_in(self, impl: Impl, bad: str) -> None:
        room = impl("http1")
        for write in (
            lambda: room.response_head(200, [("X", bad)]),
            lambda: room.response_head(200, [(bad, "x")]),
            lambda: room.response_head(200, [], bad),
            lambda: room.request_head(bad, "/", []),
            lambda: room.request_head("GET", bad, []),
        ):
            with pytest.raises(ValueError):
                write()

    @pytest.mark.parametrize(
        ("verb", "target", "name"),
        [
            ("", "/", "X"),
            ("GET", "", "X"),
            ("GET", "/", ""),
            ("G T", "/", "X"),
            ("GET", "/a b", "X"),
            ("GET", "/", "X:"),
        ],
    )
    def test_each_part_holds_only_what_its_place_allows(self, impl: Impl, verb: str, target: str, name: str) -> None:
        with pytest.raises(ValueError):
            impl("http1").request_head(verb, target, [(name, "x")])

    @pytest.mark.parametrize("field", [(None, "x"), ("X", None), (b"X", "x"), ("X", 1)])
    def test_a_field_that_is_no_text_is_refused(self, impl: Impl, field: tuple[Any, Any]) -> None:
        with pytest.raises((TypeError, AttributeError)):
            impl("http1").response_head(200, [field])

    @pytest.mark.parametrize("status", [99, 600, -1])
    def test_a_status_out_of_range_is_refused(self, impl: Impl, status: int) -> None:
        with pytest.raises(ValueError, match="100 to 599"):
            impl("http1").response_head(status, [])

    def test_both_implementations_know_the_same_reasons(self) -> None:
        assert core.REASONS == model.REASONS
