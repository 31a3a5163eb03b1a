"""The room ``http1``: requests, what is refused, and every way to cut the input. Bodies: test_http1_bodies.py."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from erlmcp._core import http1 as core
from erlmcp._model import http1 as model

Impl = Callable[[str], ModuleType]

HOST = b"Host: h\r\n"
TYPICAL = (
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: python-httpx/0.28.1\r\nAccept-Encoding: gzip\r\n"
    b"Connection: keep-alive\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
    b"MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: 1868a90c\r\nContent-Length: 13\r\n\r\n"
    b'{"jsonrpc":2}'
)
CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n000\r\nTrailer: x\r\n\r\n"
)


def plain(event: Any) -> tuple[Any, ...]:
    """An event of either implementation as a tuple that compares."""
    name = type(event).__name__
    if name == "HttpError":
        return name, event.status
    if name == "Request":
        head = event.verb, event.target, event.expect_continue
    elif name == "Response":
        head = event.status, event.reason, None
    else:
        return name, getattr(event, "data", None)
    return name, *head, event.version, event.keep_alive, event.fields, event.headers, event.body


def joined(events: list[Any]) -> list[tuple[Any, ...]]:
    """Neighbouring parts of a streamed body put together: where they are cut depends on the reads."""
    found: list[tuple[Any, ...]] = []
    for event in map(plain, events):
        if event[0] == "BodyPart" and found and found[-1][0] == "BodyPart":
            event = ("BodyPart", found.pop()[1] + event[1])
        found.append(event)
    return found


def feed_in_cuts(parser: Any, data: bytes, cuts: list[int]) -> tuple[list[Any], list[str]]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    events: list[Any] = []
    for start, end in pairwise(edges):
        events += parser.feed(data[start:end])
    return joined(events), [event.message for event in events if type(event).__name__ == "HttpError"]


def agree(make: Callable[[ModuleType], Any], data: bytes, cuts: list[int], state: tuple[str, ...]) -> None:
    """Whole, byte by byte and in cuts, compiled and plain: the same events, errors and state."""
    expected, seen = None, None
    for room in core, model:
        told: list[str] | None = None
        for way in [], cuts, list(range(len(data))):
            parser = make(room)
            events, messages = feed_in_cuts(parser, data, way)
            now = {name: getattr(parser, name) for name in state}
            if hasattr(parser, "finish"):
                events += joined(parser.finish())
            if expected is None:
                expected, seen = events, now
            if told is None:
                told = messages
            assert events == expected
            assert now == seen
            assert messages == told


def refuse(room: ModuleType, data: bytes, **limits: int) -> int:
    """The status that ``data`` is refused with, as the only event; 0 where it is not."""
    parser = room.RequestParser(**limits)
    events = parser.feed(data)
    if [type(event).__name__ for event in events] != ["HttpError"]:
        return 0
    assert parser.closed
    assert parser.buffered == 0
    assert parser.feed(TYPICAL) == []
    assert events[0].message
    return int(events[0].status)


class TestRequests:
    def test_a_typical_request_comes_out_whole(self, impl: Impl) -> None:
        (request,) = impl("http1").RequestParser().feed(TYPICAL)
        assert (request.verb, request.target, request.version) == ("POST", "/mcp", 11)
        assert request.keep_alive
        assert not request.expect_continue
        assert request.body == b'{"jsonrpc":2}'
        assert request.fields[0] == ("Host", "127.0.0.1:8000")
        assert request.headers["mcp-session-id"] == "1868a90c"
        assert len(request.fields) == 9

    @pytest.mark.parametrize("data", [TYPICAL, CHUNKED, b"\r\nGET / HTTP/1.0\r\n\r\n"])
    def test_no_prefix_of_a_request_gives_an_event(self, impl: Impl, data: bytes) -> None:
        room = impl("http1")
        for size in range(len(data)):
            assert room.RequestParser().feed(data[:size]) == []
        parser = room.RequestParser()
        assert [event for byte in data[:-1] for event in parser.feed(bytes([byte]))] == []
        assert len(parser.feed(data[-1:])) == 1
        assert parser.buffered == 0

    def test_pipelined_requests_come_out_in_order(self, impl: Impl) -> None:
        events = impl("http1").RequestParser().feed(TYPICAL + CHUNKED + TYPICAL + b"GET")
        assert [event.body for event in events] == [b'{"jsonrpc":2}', b"hello0123456789", b'{"jsonrpc":2}']

    def test_repeated_fields_are_joined_and_blanks_trimmed(self, impl: Impl) -> None:
        (request,) = (
            impl("http1")
            .RequestParser()
            .feed(b"GET / HTTP/1.1\r\nHost:h\r\nX: \t a b \t\r\nx:\xe9\r\nY:\r\nZ:  \r\n\r\n")
        )
        assert request.headers == {"host": "h", "x": "a b, \xe9", "y": "", "z": ""}
        assert request.body == b""

    @pytest.mark.parametrize(
        ("version", "connection", "is_kept"),
        [
            (b"1.1", b"", True),
            (b"1.1", b"Connection: close\r\n", False),
            (b"1.1", b"Connection: x , CLOSE\r\n", False),
            (b"1.1", b"Connection: closed\r\n", True),
            (b"1.1", b"Connection: x\r\nConnection: close\r\n", False),
            (b"1.0", b"", False),
            (b"1.0", b"Connection: Keep-Alive\r\n", True),
            (b"1.0", b"Connection: keep-alive, close\r\n", False),
        ],
    )
    def test_the_connection_is_kept_by_the_rules(
        self, impl: Impl, version: bytes, connection: bytes, is_kept: bool
    ) -> None:
        parser = impl("http1").RequestParser()
        data = b"GET / HTTP/" + version + b"\r\n" + HOST + connection + b"\r\n"
        events = parser.feed(data + data)
        assert len(events) == (2 if is_kept else 1)
        assert events[0].keep_alive is is_kept
        assert parser.closed is not is_kept

    def test_a_continue_is_wanted_until_the_body_is_there(self, impl: Impl) -> None:
        parser = impl("http1").RequestParser()
        head = (
            b"POST / HTTP/1.%d\r\n"
            + HOST
            + b"Expect: 100-Continue\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n"
        )
        assert not parser.wants_continue
        assert parser.feed(head % 1) == []
        assert parser.wants_continue
        assert parser.feed(b"x")[0].expect_continue
        assert not parser.wants_continue
        assert parser.feed(head % 0) == []
        assert not parser.wants_continue

    @pytest.mark.parametrize(
        "data",
        [
            b"GET /" + b"x" * 120,
            b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 100,
            b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 66 + b"\r\n\r\n",
        ],
    )
    def test_a_head_over_the_limit_is_refused(self, impl: Impl, data: bytes) -> None:
        expected = 414 if b"\n" not in data else 431
        assert refuse(impl("http1"), data, head_bytes_max=97) == expected

    def test_a_head_of_just_the_limit_is_read(self, impl: Impl) -> None:
        data = b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 66 + b"\r\n\r\n"
        assert refuse(impl("http1"), data, head_bytes_max=len(data)) == 0
        assert refuse(impl("http1"), data, head_bytes_max=len(data) - 1) == 431

    def test_the_count_of_headers_is_bounded(self, impl: Impl) -> None:
        data = b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 4 + b"\r\n"
        assert refuse(impl("http1"), data, header_count_max=5) == 0
        assert refuse(impl("http1"), data, header_count_max=4) == 431

    def test_a_body_over_the_limit_is_refused_before_it_comes(self, impl: Impl) -> None:
        room = impl("http1")
        assert refuse(room, TYPICAL, body_bytes_max=13) == 0
        assert refuse(room, TYPICAL[:-13], body_bytes_max=12) == 413
        assert refuse(room, CHUNKED, body_bytes_max=15) == 0
        assert refuse(room, CHUNKED, body_bytes_max=14) == 413

    @pytest.mark.parametrize("limits", [(0,), (1, 0), (1, 1, 0), (True,), ("1",), (1 << 31,)])
    def test_a_limit_that_is_no_positive_number_is_refused(self, impl: Impl, limits: tuple[Any, ...]) -> None:
        with pytest.raises(ValueError, match="whole number"):
            impl("http1").RequestParser(*limits)


def head(*lines: bytes, first: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""])


TE = b"Transfer-Encoding: chunked"
REFUSED = {
    # Two lengths, or a length that two readers read differently.
    "a length beside a coding": (400, head(b"Host: h", b"Content-Length: 5", TE)),
    "a coding beside a length": (400, head(b"Host: h", TE, b"content-length: 5")),
    "a coding on 1.0": (400, head(b"Host: h", TE, first=b"POST / HTTP/1.0")),
    "two codings": (400, head(b"Host: h", TE, TE)),
    "a second coding": (400, head(b"Host: h", TE, b"Transfer-Encoding: identity")),
    "an unknown coding": (501, head(b"Host: h", b"Transfer-Encoding: gzip, chunked")),
    "chunked twice": (501, head(b"Host: h", b"Transfer-Encoding: chunked, chunked")),
    "almost chunked": (501, head(b"Host: h", b"Transfer-Encoding: xchunked")),
    "chunked in quotes": (501, head(b"Host: h", b'Transfer-Encoding: "chunked"')),
    "chunked with a parameter": (501, head(b"Host: h", b"Transfer-Encoding: chunked;q=1")),
    "chunked with a vertical tab": (400, head(b"Host: h", b"Transfer-Encoding: \x0bchunked")),
    "a coding with a blank before its colon": (400, head(b"Host: h", b"Transfer-Encoding : chunked")),
    "a coding folded": (400, head(b"Host: h", b"Transfer-Encoding:", b" chunked")),
    "an empty coding": (501, head(b"Host: h", b"Transfer-Encoding:")),
    "lengths that differ": (400, head(b"Host: h", b"Content-Length: 5", b"Content-Length: 6")),
    "lengths that repeat": (400, head(b"Host: h", b"Content-Length: 5", b"Content-Length: 5")),
    "a length with a plus": (400, head(b"Host: h", b"Content-Length: +5")),
    "a length with a minus": (400, head(b"Host: h", b"Content-Length: -5")),
    "a list of lengths": (400, head(b"Host: h", b"Content-Length: 5,5")),
    "a length with a blank within": (400, head(b"Host: h", b"Content-Length: 5 5")),
    "a length in hexadecimal": (400, head(b"Host: h", b"Content-Length: 0x5")),
    "a length with an underscore": (400, head(b"Host: h", b"Content-Length: 1_0")),
    "a length in other digits": (400, head(b"Host: h", b"Content-Length: \xb2")),
    "an empty length": (400, head(b"Host: h", b"Content-Length:")),
    "a length with a form feed": (400, head(b"Host: h", b"Content-Length: \x0c5")),
    "a length over 2 to the 62nd": (413, head(b"Host: h", b"Content-Length: 4611686018427387905")),
    "a length over 2 to the 64th": (413, head(b"Host: h", b"Content-Length: 18446744073709551621")),
    "a length of many digits": (413, head(b"Host: h", b"Content-Length: " + b"9" * 5000)),
    "a length with a wrong last digit": (400, head(b"Host: h", b"Content-Length: 99999999999999999999x")),
    "a length over the limit": (413, head(b"Host: h", b"Content-Length: 4194305")),
    # Lines.
    "a folded line": (400, head(b"Host: h", b"X: a", b" b")),
    "a line folded with a tab": (400, head(b"Host: h", b"X: a", b"\tb")),
    "a blank before the first header": (400, head(b" Host: h", b"Host: h")),
    "a bare CR in a value": (400, head(b"Host: h", b"X: a\rb")),
    "a bare LF in a value": (400, head(b"Host: h", b"X: a\nb")),
    "a bare LF after a line": (400, b"GET / HTTP/1.1\r\nHost: h\n\r\n"),
    "a bare LF after the first line": (400, b"GET / HTTP/1.1\nHost: h\r\n\r\n"),
    "nothing but LFs": (400, b"GET / HTTP/1.1\nHost: h\n\n"),
    "a bare LF at the end": (400, b"GET / HTTP/1.1\r\nHost: h\r\n\n"),
    "a CR at the start of a line": (400, head(b"Host: h", b"\rX: y")),
    "a NUL in a value": (400, head(b"Host: h", b"X: a\0b")),
    "a control character in a value": (400, head(b"Host: h", b"X: a\x01b")),
    "a DEL in a long value": (400, head(b"Host: h", b"X: " + b"a" * 40 + b"\x7f")),
    "a NUL in a name": (400, head(b"Host: h", b"X\0: a")),
    "a blank before a colon": (400, head(b"Host: h", b"X : a")),
    "a tab before a colon": (400, head(b"Host: h", b"X\t: a")),
    "an empty name": (400, head(b"Host: h", b": a")),
    "no colon": (400, head(b"Host: h", b"X")),
    "a name with a slash": (400, head(b"Host: h", b"X/Y: a")),
    "a name with obs-text": (400, head(b"Host: h", b"X\xe9: a")),
    # First lines.
    "two blank lines before": (400, b"\r\n\r\n" + head(b"Host: h")),
    "a bare LF before": (400, b"\n" + head(b"Host: h")),
    "a CR before": (400, b"\r" + head(b"Host: h")),
    "a blank before": (400, b" " + head(b"Host: h")),
    "no method": (400, head(b"Host: h", first=b" / HTTP/1.1")),
    "a method with a bracket": (400, head(b"Host: h", first=b"GE(T / HTTP/1.1")),
    "a method with a colon": (400, head(b"Host: h", first=b"GET: / HTTP/1.1")),
    "two blanks after the method": (400, head(b"Host: h", first=b"GET  / HTTP/1.1")),
    "a blank in the target": (400, head(b"Host: h", first=b"GET /a b HTTP/1.1")),
    "a tab for a blank": (400, head(b"Host: h", first=b"GET\t/ HTTP/1.1")),
    "two blanks before the version": (400, head(b"Host: h", first=b"GET /  HTTP/1.1")),
    "a target with obs-text": (400, head(b"Host: h", first=b"GET /" + b"a" * 20 + b"\xe9 HTTP/1.1")),
    "a target with a NUL": (400, head(b"Host: h", first=b"GET /\0 HTTP/1.1")),
    "a first line of HTTP/0.9": (400, head(first=b"GET /")),
    "a first line without a version": (400, head(b"Host: h", first=b"GET / ")),
    "a version cut short": (400, b"GET / HTTP/1\r\n\r\n"),
    "a version in small letters": (400, head(b"Host: h", first=b"GET / http/1.1")),
    "a version with more digits": (400, head(b"Host: h", first=b"GET / HTTP/1.10")),
    "a blank after the version": (400, head(b"Host: h", first=b"GET / HTTP/1.1 ")),
    "version 2.0": (505, head(b"Host: h", first=b"GET / HTTP/2.0")),
    "version 1.2": (505, head(b"Host: h", first=b"GET / HTTP/1.2")),
    "the preface of HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    # Fields.
    "no Host": (400, head(b"X: y")),
    "two Hosts": (400, head(b"Host: h", b"Host: h")),
    "two Hosts on 1.0": (400, head(b"Host: h", b"Host: h", first=b"GET / HTTP/1.0")),
    "a Host with a slash": (400, head(b"Host: h/x")),
    "a Host with a user": (400, head(b"Host: u@h")),
    "a Host with a blank": (400, head(b"Host: a b")),
    "another expectation": (417, head(b"Host: h", b"Expect: 200-ok")),
    "two expectations": (417, head(b"Host: h", b"Expect: 100-continue", b"Expect: x")),
}


class TestRefusals:
    @pytest.mark.parametrize("case", REFUSED)
    def test_what_breaks_a_rule_is_refused_with_its_status(self, impl: Impl, case: str) -> None:
        status, data = REFUSED[case]
        assert refuse(impl("http1"), data + b"5\r\nhello\r\n0\r\n\r\n") == status
        agree(lambda room: room.RequestParser(), data, [len(data) // 2, 1, 2], ("closed", "buffered"))

    @pytest.mark.parametrize(
        "line",
        [
            b"Content-Length:5",
            b"Content-Length: \t 5 \t",
            b"Content-Length: 005",
            b"CONTENT-length: 5",
            b"X-Content-Length: 6",
            b"Host-: h",
            b"Expect: 100-continue",
            b"Connection:",
            b"Connection: ,,",
        ],
    )
    def test_what_is_unusual_and_unambiguous_is_read(self, impl: Impl, line: bytes) -> None:
        (request, *_) = impl("http1").RequestParser().feed(head(b"Host: h", line) + b"hello")
        assert request.body == (b"hello" if line[:8].lower() == b"content-" else b"")

    def test_the_first_rule_broken_decides(self, impl: Impl) -> None:
        room = impl("http1")
        assert refuse(room, head(b"X : y", first=b"GET / HTTP/3.0")) == 505
        assert refuse(room, head(b"Expect: x", TE, b"Content-Length: 1")) == 400
        assert refuse(room, b"G@T /" + b"x" * 200, head_bytes_max=100) == 400


CUTS = st.lists(st.integers(0, 600), max_size=6)
SEEDS = [
    TYPICAL,
    CHUNKED,
    TYPICAL + CHUNKED,
    b"\r\nGET /a?b=c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + TYPICAL,
    head(b"Host: h", b"Expect: 100-continue", TE, b"Connection: close") + b"1;x\r\na\r\n0\r\nA: b\r\n\r\n",
    head(b"Host: [::1]:80", b"X: " + b"y" * 40, b"Content-Length: 3", first=b"PUT * HTTP/1.1") + b"abc" + CHUNKED,
]
ANSWERS = [
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 \r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\naHTTP/1.0 200\r\n\r\nrest",
    b"HTTP/1.1 404 Gone\r\ncontent-type: text/event-stream;x\r\nContent-Length: 4\r\n\r\ndataHTTP/1.1 304 x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n",
]
SCRAPS = [
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"0",
    b"5",
    b"f",
    b";",
    b",",
    b"/",
    b"\xe9",
    b"\r\n\r\n",
    b"HTTP/1.1",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: h\r\n",
    b"Connection: close\r\n",
    b"Expect: x\r\n",
]


HEAD_WITHOUT_LENGTH = head(b"Host: h", b"X: y", first=b"GET / HTTP/1.1")


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A right message with a few bytes taken out, put in, or replaced."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.sampled_from([0, 0, 1, 1, 2, 5]))
        data = (
            data[:at]
            + draw(st.one_of(st.just(b""), st.sampled_from(SCRAPS), st.binary(max_size=2)))
            + data[at + size :]
        )
    return data


def make_request_parser(room: ModuleType) -> Any:
    return room.RequestParser(head_bytes_max=320, header_count_max=10, body_bytes_max=24)


def make_response_parser(room: ModuleType) -> Any:
    parser = room.ResponseParser(80, 3, 8, stream_events=True)
    parser.expect("GET")
    parser.expect("HEAD")
    return parser


class TestRepeatedHeads:
    def test_a_head_with_another_length_is_the_same_head(self, impl: Impl) -> None:
        match_head = impl("http1").match_head
        old = TYPICAL[:-13]
        assert match_head(old, TYPICAL) == (len(old), 13)
        assert match_head(old, old.replace(b": 13\r", b": 00123\r") + b"x") == (len(old) + 3, 123)
        assert match_head(HEAD_WITHOUT_LENGTH, HEAD_WITHOUT_LENGTH + b"x") == (len(HEAD_WITHOUT_LENGTH), -1)

    @pytest.mark.parametrize("length", [b"", b"+1", b"1 ", b"1,1", b"1\r\nX: y", b"9" * 19])
    def test_a_head_with_no_plain_length_is_another_head(self, impl: Impl, length: bytes) -> None:
        old = TYPICAL[:-13]
        assert impl("http1").match_head(old, old.replace(b": 13\r", b": " + length + b"\r") + b"x" * 40) is None

    @given(mutated([TYPICAL, HEAD_WITHOUT_LENGTH]))
    def test_a_head_that_matches_is_read_the_same(self, data: bytes) -> None:
        for old in TYPICAL[:-13], HEAD_WITHOUT_LENGTH:
            for size in 0, 20, len(old) - 3, len(data):
                found = core.match_head(old, data[:size])
                assert found == model.match_head(old, data[:size])
                if found is None:
                    continue
                whole = data[: found[0]] + b"x" * max(found[1], 0)
                (request,) = core.RequestParser().feed(whole)
                (before,) = core.RequestParser().feed(old + b"x" * 13 * (found[1] >= 0))
                assert len(request.body) == max(found[1], 0)
                assert {**request.headers, "content-length": ""} == {**before.headers, "content-length": ""}


class TestEveryCut:
    REQUEST_STATE = ("closed", "buffered", "wants_continue")
    RESPONSE_STATE = ("closed", "buffered")

    @given(mutated(SEEDS), CUTS)
    @example(b"\n\nGET", [1])
    @example(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"x" * 400, [319, 320, 321])
    def test_requests_are_the_same_for_every_cut(self, data: bytes, cuts: list[int]) -> None:
        agree(make_request_parser, data, cuts, self.REQUEST_STATE)

    @given(mutated(ANSWERS), CUTS)
    def test_responses_are_the_same_for_every_cut(self, data: bytes, cuts: list[int]) -> None:
        agree(make_response_parser, data, cuts, self.RESPONSE_STATE)

    @pytest.mark.deep
    @settings(max_examples=10_000)
    @given(mutated(SEEDS), CUTS)
    def test_requests_are_the_same_for_every_cut_for_long(self, data: bytes, cuts: list[int]) -> None:
        agree(make_request_parser, data, cuts, self.REQUEST_STATE)

    @pytest.mark.deep
    @settings(max_examples=10_000)
    @given(mutated(ANSWERS), CUTS)
    def test_responses_are_the_same_for_every_cut_for_long(self, data: bytes, cuts: list[int]) -> None:
        agree(make_response_parser, data, cuts, self.RESPONSE_STATE)

    @given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.binary(max_size=4), CUTS)
    def test_a_chunked_body_is_read_back(self, parts: list[bytes], rest: bytes, cuts: list[int]) -> None:
        wire = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        for room in core, model:
            assert room.decode_chunked(wire + rest) == (b"".join(parts), len(wire))
