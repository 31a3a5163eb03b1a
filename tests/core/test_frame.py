"""The room ``frame``: newline and Content-Length framing, and server-sent events."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from erlmcp._core import frame as core
from erlmcp._model import frame as model
from erlmcp.errors import LimitError

Impl = Callable[[str], ModuleType]


def plain(events: list[Any]) -> list[Any]:
    """Events of either implementation as values that compare."""
    found: list[Any] = []
    for event in events:
        if isinstance(event, LimitError):
            found.append(("limit", event.limit, event.maximum, event.detail))
        elif isinstance(event, ValueError):
            found.append(("broken", str(event)))
        elif isinstance(event, bytes):
            found.append(event)
        else:
            found.append((event.event, event.data, event.id, event.retry_ms))
    return found


def feed_in_cuts(framer: Any, data: bytes, cuts: list[int]) -> list[Any]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    found: list[Any] = []
    for start, end in pairwise(edges):
        found += framer.feed(data[start:end])
    return plain(found)


def agree(make: Callable[[ModuleType], Any], data: bytes, cuts: list[int], state: tuple[str, ...]) -> None:
    """Whole, byte by byte and in cuts, compiled and plain: the same events and the same state after them."""
    expected, seen = None, None
    for room in core, model:
        for way in [], cuts, list(range(len(data))):
            framer = make(room)
            events = feed_in_cuts(framer, data, way)
            now = {name: getattr(framer, name) for name in state}
            if expected is None:
                expected, seen = events, now
            assert events == expected
            assert now == seen


def pieces(*parts: bytes) -> st.SearchStrategy[bytes]:
    """Text that is nearly right: the parts in any order, with other bytes between."""
    return st.lists(st.one_of(st.sampled_from(parts), st.binary(max_size=3)), max_size=14).map(b"".join)


CUTS = st.lists(st.integers(0, 400), max_size=6)
LINES = pieces(b"\n", b"\r\n", b"\r", b'{"id":1}', b"12345678", b"123456789", b" ", b"\t", b"\n\n")
BLOCKS = pieces(
    b"Content-Length: 3\r\n\r\nabc",
    b"content-length:2\r\n",
    b"Content-Length: 9\r\n\r\n",
    b"123456789",
    b"\r\n",
    b"\n",
    b"Content-Type: x; charset=utf-8\r\n",
    b"Content-Length:  0  \r\n\r\n",
    b"Content-Length: 8\r\n\r\n12345678",
    b":",
    b" ",
)
STREAMS = pieces(
    b"data: one\n",
    b"data\n",
    b"data:\n",
    b"data:two\r\n",
    b"event: e\n",
    b"event\r",
    b"id: 7\n",
    b"id: \0\n",
    b"id\n",
    b"retry: 10\n",
    b"retry: 1x\n",
    b": comment\n",
    b"\n",
    b"\r",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xef\xbb",
    b"dat",
    b"a: x",
)


class TestLines:
    def test_complete_lines_come_out_in_order_without_their_ends(self, impl: Impl) -> None:
        framer = impl("frame").LineFramer()
        assert framer.feed(b'{"a":1}\n{"b":2}\r\nrest') == [b'{"a":1}', b'{"b":2}']
        assert framer.buffered == 4
        assert framer.feed(b" of it\n") == [b"rest of it"]
        assert framer.buffered == 0

    def test_blank_lines_are_passed_over(self, impl: Impl) -> None:
        assert impl("frame").LineFramer().feed(b"\n\r\n \t \n\r\r\n x \n") == [b" x "]

    def test_only_one_cr_belongs_to_the_end_of_a_line(self, impl: Impl) -> None:
        assert impl("frame").LineFramer().feed(b"x\r\r\n\ry\n") == [b"x\r", b"\ry"]

    def test_a_line_over_the_limit_becomes_one_error_in_its_place(self, impl: Impl) -> None:
        framer = impl("frame").LineFramer(message_bytes_max=4)
        assert plain(framer.feed(b"1234\n12345\n1234\r\n12345\r\n1\n")) == [
            b"1234",
            ("limit", "message_bytes_max", 4, "a line was dropped"),
            b"1234",
            ("limit", "message_bytes_max", 4, "a line was dropped"),
            b"1",
        ]

    def test_an_endless_line_is_not_kept(self, impl: Impl) -> None:
        framer = impl("frame").LineFramer(message_bytes_max=10)
        for _ in range(100):
            assert framer.feed(b"x" * 50) == []
            assert framer.buffered == 0
        assert [type(event) for event in framer.feed(b"\nshort\n")] == [LimitError, bytes]

    @pytest.mark.parametrize("limit", [0, -1, True, 1.5, "8", 1 << 48])
    def test_a_limit_that_is_no_positive_number_is_refused(self, impl: Impl, limit: object) -> None:
        with pytest.raises(ValueError, match="message_bytes_max"):
            impl("frame").LineFramer(limit)

    @given(LINES, CUTS)
    @example(b"12345678\r\n", [9])
    @example(b"12345678\r1\n", [9])
    def test_every_way_to_cut_the_input_gives_the_same_lines(self, data: bytes, cuts: list[int]) -> None:
        agree(lambda room: room.LineFramer(message_bytes_max=8), data, cuts, ("buffered",))

    @pytest.mark.deep
    @settings(max_examples=10_000)
    @given(LINES, CUTS)
    def test_every_way_to_cut_gives_the_same_lines_for_long(self, data: bytes, cuts: list[int]) -> None:
        agree(lambda room: room.LineFramer(message_bytes_max=8), data, cuts, ("buffered",))


class TestLengths:
    def test_messages_come_out_in_order(self, impl: Impl) -> None:
        framer = impl("frame").LengthFramer()
        wire = (
            b"Content-Length: 2\r\n\r\n{}content-LENGTH:3\r\nContent-Type: a/b\r\n\r\n[1]Content-Length: 0\r\n\r\nCon"
        )
        assert framer.feed(wire) == [b"{}", b"[1]", b""]
        assert framer.buffered == 3
        assert not framer.closed

    @pytest.mark.parametrize(
        "header",
        [
            b"\r\n",
            b"Content-Type: x\r\n\r\n",
            b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"Content-Length: +1\r\n\r\n",
            b"Content-Length: 1 1\r\n\r\n",
            b"Content-Length: \r\n\r\n",
            b"Content-Length: 1234567890123456789\r\n\r\n",
            b"Content-Length : 1\r\n\r\n",
            b" Content-Length: 1\r\n\r\n",
            b"Content-Length: 1\n\n",
            b"Content-Length: 1\r\n\n",
            b"Content-Length: 1\r\n folded\r\n\r\n",
            b"Content-Length: 1\rX: 2\r\n\r\n",
            b"Content-Length\r\n\r\n",
            b"X: \0\r\nContent-Length: 1\r\n\r\n",
            b"X" * 64,
        ],
    )
    def test_a_broken_header_is_one_error_and_the_end(self, impl: Impl, header: bytes) -> None:
        framer = impl("frame").LengthFramer(header_bytes_max=64)
        data = b"Content-Length: 1\r\n\r\na" + header + b"z" * (80 if header == b"\r\n" else 0)
        *before, error = framer.feed(data)
        assert before == [b"a"]
        assert isinstance(error, ValueError)
        assert not isinstance(error, LimitError)
        assert framer.closed
        assert framer.feed(b"Content-Length: 1\r\n\r\na") == []
        assert framer.buffered == 0

    def test_a_message_over_the_limit_is_dropped_to_its_end(self, impl: Impl) -> None:
        framer = impl("frame").LengthFramer(message_bytes_max=4)
        assert framer.feed(b"Content-Length: 100000\r\n\r\n" + b"x" * 99_999) == []
        assert framer.buffered == 0
        assert plain(framer.feed(b"xContent-Length: 4\r\n\r\nabcd")) == [
            ("limit", "message_bytes_max", 4, "a message was dropped"),
            b"abcd",
        ]

    def test_a_header_of_just_the_limit_is_read(self, impl: Impl) -> None:
        header = b"Content-Length: 1\r\n\r\n"
        assert impl("frame").LengthFramer(header_bytes_max=len(header)).feed(header + b"x") == [b"x"]
        assert impl("frame").LengthFramer(header_bytes_max=len(header) - 1).feed(header + b"x") != [b"x"]

    @given(BLOCKS, CUTS)
    @example(b"Content-Length: 3\n\nabc", [19])
    def test_every_way_to_cut_the_input_gives_the_same_messages(self, data: bytes, cuts: list[int]) -> None:
        agree(lambda room: room.LengthFramer(8, 48), data, cuts, ("buffered", "closed"))

    @pytest.mark.deep
    @settings(max_examples=10_000)
    @given(BLOCKS, CUTS)
    def test_every_way_to_cut_gives_the_same_messages_for_long(self, data: bytes, cuts: list[int]) -> None:
        agree(lambda room: room.LengthFramer(8, 48), data, cuts, ("buffered", "closed"))


class TestEventStream:
    # The first four are the examples of WHATWG HTML, section 9.2.6.
    @pytest.mark.parametrize(
        ("stream", "events"),
        [
            (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", b"YHOO\n+2\n10", "", None)]),
            (
                b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
                [
                    ("message", b"first event", "1", None),
                    ("message", b"second event", "", None),
                    ("message", b" third event", "", None),
                ],
            ),
            (b"data\n\ndata\ndata\n\ndata:", [("message", b"", "", None), ("message", b"\n", "", None)]),
            (b"data:test\n\ndata: test\n\n", [("message", b"test", "", None)] * 2),
            (b"event: ping\r\ndata: x\r\n\r\n", [("ping", b"x", "", None)]),
            (b"event: ping\rdata: x\r\r", [("ping", b"x", "", None)]),
            (b"\xef\xbb\xbfdata: x\n\n", [("message", b"x", "", None)]),
            (b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", []),
            (b"\xef\xbbdata: x\n\ndata: y\n\n", [("message", b"y", "", None)]),
            (b"id: 4\nretry: 500\ndata:\n\n", [("message", b"", "4", 500)]),
            (b"id: 4\n\ndata: x\n\n", [("message", b"x", "4", None)]),
            (b"id: 4\n\nid: a\0b\ndata: x\n\n", [("message", b"x", "4", None)]),
            (b"event: a\n\ndata: x\n\n", [("message", b"x", "", None)]),
            (b"event:\ndata: x\n\n", [("message", b"x", "", None)]),
            (b"retry: 5x\nretry: -5\nretry:\nretry: \xd9\xa1\ndata: x\n\n", [("message", b"x", "", None)]),
            (b"Data: x\ndata : x\n data: x\nunknown: x\n\n", []),
            (b"data: \xff\xfe\nid: \xff\n\n", [("message", b"\xff\xfe", "\ufffd", None)]),
            (b"data: never ended\n", []),
        ],
    )
    def test_streams_are_read_by_the_rules(self, impl: Impl, stream: bytes, events: list[Any]) -> None:
        assert plain(impl("frame").SseFramer().feed(stream)) == events

    def test_id_and_retry_stay_for_the_reconnection(self, impl: Impl) -> None:
        framer = impl("frame").SseFramer()
        assert (framer.last_event_id, framer.retry_ms) == ("", None)
        framer.feed(b"id: 1\nretry: 20\ndata: x\n\ndata: y\n\nid: 2\n")
        assert (framer.last_event_id, framer.retry_ms) == ("1", 20)
        framer.feed(b"\n")
        assert framer.last_event_id == "2"

    def test_an_event_over_the_limit_is_one_error_in_its_place(self, impl: Impl) -> None:
        framer = impl("frame").SseFramer(event_bytes_max=10)
        assert framer.feed(b"id: 1\ndata: 1234567890") == []
        for _ in range(50):
            assert framer.feed(b"1234567890") == []
        assert framer.buffered == 0
        assert plain(framer.feed(b"\n\ndata: 1234\n\n")) == [
            ("limit", "event_bytes_max", 10, "an event was dropped"),
            ("message", b"1234", "", None),
        ]

    def test_comments_count_for_nothing_and_are_not_kept(self, impl: Impl) -> None:
        framer = impl("frame").SseFramer(event_bytes_max=10)
        framer.feed(b": " + b"x" * 1000)
        assert framer.buffered == 0
        assert plain(framer.feed(b"\n: x\ndata: 1234\n\n")) == [("message", b"1234", "", None)]

    @given(STREAMS, CUTS)
    @example(b"\xef\xbb\xbfdata: x\r\n\r\n", [1, 2, 12])
    def test_every_way_to_cut_the_input_gives_the_same_events(self, data: bytes, cuts: list[int]) -> None:
        state = ("buffered", "last_event_id", "retry_ms")
        agree(lambda room: room.SseFramer(event_bytes_max=24), data, cuts, state)

    @pytest.mark.deep
    @settings(max_examples=10_000)
    @given(STREAMS, CUTS)
    def test_every_way_to_cut_gives_the_same_events_for_long(self, data: bytes, cuts: list[int]) -> None:
        state = ("buffered", "last_event_id", "retry_ms")
        agree(lambda room: room.SseFramer(event_bytes_max=24), data, cuts, state)


class TestWritingEvents:
    def test_the_lines_stand_in_a_fixed_order(self, impl: Impl) -> None:
        frame_sse = impl("frame").frame_sse
        assert frame_sse(b"{}") == b"event: message\ndata: {}\n\n"
        assert frame_sse(b"{}", event=None) == b"data: {}\n\n"
        assert frame_sse(b"", event="e", id="1", retry_ms=0) == b"event: e\nid: 1\nretry: 0\ndata: \n\n"
        assert frame_sse(b"x", id="", retry_ms=9223372036854775807).endswith(b"retry: 9223372036854775807\ndata: x\n\n")

    def test_data_of_many_lines_becomes_many_data_lines(self, impl: Impl) -> None:
        assert (
            impl("frame").frame_sse(b"a\nb\r\nc\rd\n", event=None) == b"data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"
        )

    @pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b", "\n"])
    def test_a_line_cannot_be_smuggled_in(self, impl: Impl, bad: str) -> None:
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            impl("frame").frame_sse(b"x", event=bad)
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            impl("frame").frame_sse(b"x", id=bad)

    def test_a_negative_retry_is_refused(self, impl: Impl) -> None:
        with pytest.raises(ValueError, match="retry_ms"):
            impl("frame").frame_sse(b"x", retry_ms=-1)

    @given(st.binary(max_size=40), st.text(max_size=8), st.text(max_size=8), st.integers(0, 10**15 - 1))
    def test_what_is_written_is_read_back(self, data: bytes, event: str, id: str, retry_ms: int) -> None:
        for text in "\r", "\n", "\0":
            event, id = event.replace(text, "-"), id.replace(text, "-")
        event = event.encode(errors="replace").decode()
        id = id.encode(errors="replace").decode()
        wire = core.frame_sse(data, event=event, id=id, retry_ms=retry_ms)
        assert wire == model.frame_sse(data, event=event, id=id, retry_ms=retry_ms)
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        assert plain(core.SseFramer().feed(wire)) == [(event or "message", lines, id, retry_ms)]
