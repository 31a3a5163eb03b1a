"""The corridor's way out: answers -> bytes."""

from __future__ import annotations

import importlib
import json
import sys
import tracemalloc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp._core import memory
from erlmcp.errors import JsonError, LimitError

Impl = Callable[[str], ModuleType]


def dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def both(room: str) -> tuple[ModuleType, ModuleType]:
    return importlib.import_module(f"erlmcp._core.{room}"), importlib.import_module(f"erlmcp._model.{room}")


FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "newline": lambda body: body + b"\n",
    "content_length": lambda body: b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
    "none": lambda body: body,
    "http": lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
    "sse": lambda body: b"data: %b\n\n" % body,
}


def outbound_of(room: ModuleType, framing: str, **limits: int) -> Any:
    outbound = room.Outbound(framing=framing, **limits)
    outbound.prefix = b"HTTP/1.1 200 OK\r\nContent-Length: "
    return outbound


@pytest.mark.parametrize("framing", list(FRAMES))
def test_every_message_is_framed(impl: Impl, framing: str) -> None:
    room = impl("corridor_out")
    outbound = outbound_of(room, framing)
    outbound.result(b"1", {"a": [1, None, "é\n"]})
    outbound.error(b"null", -32700, 'no "JSON"')
    outbound.error(b'"x"', -1, "m", {"d": 1})
    outbound.request("q", "roots/list")
    outbound.request(5, "m", {"p": 1})
    outbound.notification("n")
    outbound.notification("n", [1])
    outbound.message(b'{"whole":1}')
    bodies = [
        b'{"jsonrpc":"2.0","id":1,"result":{"a":[1,null,"\xc3\xa9\\n"]}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no \\"JSON\\""}}',
        b'{"jsonrpc":"2.0","id":"x","error":{"code":-1,"message":"m","data":{"d":1}}}',
        b'{"jsonrpc":"2.0","id":"q","method":"roots/list"}',
        b'{"jsonrpc":"2.0","id":5,"method":"m","params":{"p":1}}',
        b'{"jsonrpc":"2.0","method":"n"}',
        b'{"jsonrpc":"2.0","method":"n","params":[1]}',
        b'{"whole":1}',
    ]
    expected = b"".join(map(FRAMES[framing], bodies))
    assert len(outbound) == len(expected)
    assert outbound.take() == expected
    assert (len(outbound), outbound.take()) == (0, b"")
    outbound.raw(b"as it is")
    assert outbound.take() == b"as it is"


@pytest.mark.parametrize("framing", list(FRAMES))
@pytest.mark.parametrize("text", ["hi", "", 'a "b" \\ \n é 😀', "x" * 1000, "y" * 20_000])
def test_a_template_is_filled(impl: Impl, framing: str, text: str) -> None:
    room = impl("corridor_out")
    template = room.Template(
        [b'{"content":[{"type":"text","text":', (room.TEXT, 0), b'}],"structuredContent":', (room.VALUE, 1),
         b',"again":', (room.TEXT, 0), b',"text":', (room.VALUE_AS_TEXT, 1), b"}"]
    )  # fmt: skip
    assert template.slot_count == 4
    outbound = outbound_of(room, framing)
    value = {"result": text, "n": [1, 2.5]}
    outbound.fill(b"42", template, (text, value))
    outbound.fill(b'"a"', template, (text, value))
    shown = {
        "content": [{"type": "text", "text": text}],
        "structuredContent": value,
        "again": text,
        "text": dump(value).decode(),
    }
    expected = b"".join(FRAMES[framing](dump({"jsonrpc": "2.0", "id": id, "result": shown})) for id in (42, "a"))
    assert outbound.take() == expected


def test_a_template_checks_its_pieces_and_its_values(impl: Impl) -> None:
    room = impl("corridor_out")
    for wrong in (["str"], [5], [(0,)], [(0, 0, 0)], [("0", 0)]):
        with pytest.raises(TypeError):
            room.Template(wrong)
    for bad in ([(3, 0)], [(-1, 0)], [(0, -1)]):
        with pytest.raises(ValueError):
            room.Template(bad)
    assert room.Template([]).slot_count == 0
    template = room.Template([b"[", (room.TEXT, 0), b",", (room.VALUE, 1), b"]"])
    outbound = room.Outbound()
    outbound.message(b"1")
    with pytest.raises(IndexError):
        outbound.fill(b"1", template, ("a",))
    with pytest.raises(JsonError):
        outbound.fill(b"1", template, (5, 1))
    with pytest.raises(JsonError):
        outbound.fill(b"1", template, ("a", object()))
    with pytest.raises(JsonError):
        outbound.fill(b"1", template, ("\ud800", 1))
    assert outbound.take() == b"1\n"


@pytest.mark.parametrize("framing", list(FRAMES))
def test_a_call_that_raises_leaves_the_rest_untouched(impl: Impl, framing: str) -> None:
    room = impl("corridor_out")
    outbound = outbound_of(room, framing, bytes_max=200)
    outbound.message(b"1")
    expected = FRAMES[framing](b"1")
    for bad in (object(), float("nan"), {"a": {"b": [object()]}}, {1: 2}, "\udc00"):
        with pytest.raises(JsonError):
            outbound.result(b"1", bad)
    with pytest.raises(LimitError, match="bytes_max=200"):
        outbound.result(b"1", "x" * 200)
    with pytest.raises(LimitError, match="bytes_max=200"):
        outbound.raw(b"x" * 200)
    with pytest.raises(JsonError):
        outbound.notification("n", object())
    with pytest.raises(JsonError):
        outbound.error(b"1", 1, "m", object())
    assert len(outbound) == len(expected)
    outbound.raw(b"x" * (200 - len(expected)))
    assert outbound.take() == expected + b"x" * (200 - len(expected))


@pytest.mark.parametrize("framing", ["newline", "sse"])
def test_line_ends_within_a_message_do_not_break_its_frame(impl: Impl, framing: str) -> None:
    room = impl("corridor_out")
    raw = impl("json").Raw(b'{\n"a":\r\n1}')
    outbound = outbound_of(room, framing)
    outbound.message(b"[1,\n2]")
    outbound.result(b"1", [raw, "\n"])
    outbound.fill(b"1", room.Template([b"[\n", (room.VALUE, 0), b"]"]), (raw,))
    bodies = [
        b"[1, 2]",
        b'{"jsonrpc":"2.0","id":1,"result":[{ "a":  1},"\\n"]}',
        b'{"jsonrpc":"2.0","id":1,"result":[ { "a":  1}]}',
    ]
    assert outbound.take() == b"".join(map(FRAMES[framing], bodies))


def test_a_slot_may_stand_many_times_and_in_every_kind(impl: Impl) -> None:
    room = impl("corridor_out")
    pieces: list[Any] = [b"["]
    for kind in (room.VALUE, room.TEXT, room.VALUE_AS_TEXT, room.VALUE, room.VALUE_AS_TEXT) * 5:
        pieces += [(kind, 1), b","]
    outbound = room.Outbound(framing="none")
    outbound.fill(b"1", room.Template([*pieces, b"0]"]), (object(), 'é"'))
    plain, quoted = 'é"', '"é\\""'
    expected = [*[plain, plain, quoted, plain, quoted] * 5, 0]
    assert json.loads(outbound.take())["result"] == expected
    with pytest.raises(JsonError):
        outbound.fill(b"1", room.Template([(room.VALUE, 0), b",", (room.TEXT, 0)]), (5,))
    assert outbound.take() == b""


def test_wrong_types_are_refused(impl: Impl) -> None:
    room = impl("corridor_out")
    outbound = room.Outbound()
    with pytest.raises(TypeError):
        outbound.request(None, "m")
    with pytest.raises(TypeError):
        outbound.request(1.5, "m")
    with pytest.raises(TypeError):
        outbound.notification(b"m")
    with pytest.raises(TypeError):
        outbound.error(b"1", -1, None)
    with pytest.raises(ValueError):
        room.Outbound(bytes_max=0)
    with pytest.raises(ValueError):
        room.Outbound(depth_max=0)
    assert len(outbound) == 0


def test_a_head_of_any_length_precedes_bodies_of_any_length(impl: Impl) -> None:
    room = impl("corridor_out")
    outbound = outbound_of(room, "http")
    sizes = [1, 9, 10, 99, 100, 1000, 5, 100_000, 3]
    for size in sizes:
        outbound.message(b"1" * size)
    outbound.prefix = b"L: "
    outbound.message(b"22")
    expected = b"".join(FRAMES["http"](b"1" * size) for size in sizes)
    assert outbound.take() == expected + b"L: 2\r\n\r\n22"


def test_nesting_of_what_is_written_is_bounded(impl: Impl) -> None:
    room = impl("corridor_out")
    outbound = room.Outbound(depth_max=4)
    outbound.result(b"1", [[[1]]])
    with pytest.raises((JsonError, LimitError)):
        outbound.result(b"1", [[[[[[1]]]]]])
    assert outbound.take() == b'{"jsonrpc":"2.0","id":1,"result":[[[1]]]}\n'


def test_raw_values_are_spliced(impl: Impl) -> None:
    room = impl("corridor_out")
    raw = impl("json").Raw(b'{"made":  "before"}')
    outbound = room.Outbound()
    outbound.result(b"1", {"a": raw})
    assert outbound.take() == b'{"jsonrpc":"2.0","id":1,"result":{"a":{"made":  "before"}}}\n'


@given(st.sampled_from(list(FRAMES)), st.lists(st.tuples(st.text(), st.integers(), st.floats()), max_size=8))
def test_written_bytes_are_those_of_the_model(framing: str, rows: list[tuple[str, int, float]]) -> None:
    taken = []
    for room in both("corridor_out"):
        outbound = outbound_of(room, framing, bytes_max=700)
        template = room.Template([b"[", (room.TEXT, 0), b",", (room.VALUE, 1), b",", (room.VALUE_AS_TEXT, 2), b"]"])
        for text, number, real in rows:
            for write in (
                lambda o, m=template, t=text, n=number, r=real: o.fill(b"1", m, (t, n, r)),  # type: ignore[misc]
                lambda o, t=text, n=number, r=real: o.result(b'"x"', {t: [n, {t: r}]}),  # type: ignore[misc]
                lambda o, t=text, n=number: o.notification(t, [n]),  # type: ignore[misc]
            ):
                try:
                    write(outbound)
                except (JsonError, LimitError):
                    continue
        taken.append(outbound.take())
    assert taken[0] == taken[1]


TWICE = [b'{"text":', (0, 0), b',"again":{"result":', (0, 0), b',"value":', (1, 0), b"}}"]


@pytest.mark.parametrize("framing", FRAMES)
@given(
    rows=st.lists(
        st.one_of(
            st.tuples(st.just("fill"), st.text(max_size=8), st.integers(0, 300)),
            st.tuples(st.just("result"), st.text(max_size=8), st.integers(0, 300)),
            st.tuples(st.just("fail"), st.just(""), st.integers(0, 300)),
            st.tuples(st.just("static"), st.just(""), st.just(0)),
            st.tuples(st.just("take"), st.just(""), st.just(0)),
        ),
        max_size=12,
    ),
    split_bytes=st.integers(1, 200),
)
def test_parts_joined_are_the_bytes_of_the_model(framing: str, rows: Any, split_bytes: int) -> None:
    core, model = both("corridor_out")
    pair = [outbound_of(room, framing, split_bytes=split_bytes) for room in (core, model)]
    templates = [room.Template(TWICE) for room in (core, model)]
    statics = [room.Template([b'{"a":"' + b"s" * 150 + b'"}']) for room in (core, model)]
    for act, tail, count in rows:
        text = "x" * count + tail
        said = []
        for outbound, template, static in zip(pair, templates, statics, strict=True):
            if act == "fill":
                outbound.fill(b"1", template, (text,))
            elif act == "static":
                outbound.fill(b"2", static, ())
            elif act == "result":
                outbound.result(b'"x"', {"text": text})
            elif act == "fail":
                with pytest.raises(JsonError):
                    outbound.fill(b"3", template, (text + "\ud800",))
            else:
                said.append(b"".join(outbound.take_parts()))
        assert len(set(said)) <= 1
        assert len(pair[0]) == len(pair[1])
    assert pair[0].take() == pair[1].take()
    assert pair[0].take_parts() == []


def test_what_an_author_returned_is_sent_from_where_it_lies() -> None:
    room, _ = both("corridor_out")
    text = "x" * 100_000
    outbound = outbound_of(room, "http", split_bytes=65_536)
    outbound.fill(b"1", room.Template(TWICE), (text,))
    parts = outbound.take_parts()
    large = [part for part in parts if len(part) == len(text)]
    assert len(large) == 3
    assert all(isinstance(part, memoryview) and part.readonly for part in large)
    addresses = {numpy.frombuffer(part, numpy.uint8).ctypes.data for part in large}
    assert len(addresses) == 1  # three times the same bytes, and no copy of them
    held = sys.getrefcount(text)
    del large, parts
    assert sys.getrefcount(text) == held - 3


@pytest.mark.parametrize(
    "text", ["x" * 99_999 + '"', "x" * 99_999 + "\n", "é" * 100_000, "x" * 99_999 + "\ud83d\ude00"]
)
def test_a_string_that_needs_escapes_is_copied_once_and_handed_over(text: str) -> None:
    room, model = both("corridor_out")
    outbound = outbound_of(room, "newline", split_bytes=65_536)
    try:
        outbound.result(b"1", {"text": text})
    except JsonError:
        assert len(outbound) == 0
        return
    tracemalloc.start()
    try:
        parts = outbound.take_parts()
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()
    other = outbound_of(model, "newline")
    other.result(b"1", {"text": text})
    assert b"".join(parts) == other.take()


def test_the_limit_counts_what_is_not_copied() -> None:
    room, _ = both("corridor_out")
    outbound = outbound_of(room, "newline", split_bytes=1_000, bytes_max=10_000)
    template = room.Template([b'{"text":', (0, 0), b"}"])
    outbound.fill(b"1", template, ("x" * 6_000,))
    held = len(outbound)
    with pytest.raises(LimitError, match="bytes_max=10000"):
        outbound.fill(b"2", template, ("y" * 6_000,))
    with pytest.raises(LimitError, match="bytes_max=10000"):
        outbound.raw(b"z" * 6_000)
    assert len(outbound) == held
    assert b"x" * 6_000 in b"".join(outbound.take_parts())
    assert len(outbound) == 0


def test_references_to_what_was_never_sent_are_given_back() -> None:
    room, _ = both("corridor_out")
    text = "x" * 100_000
    held = sys.getrefcount(text)
    outbound = outbound_of(room, "newline", split_bytes=1_000)
    for _ in range(40):
        outbound.fill(b"1", room.Template(TWICE), (text,))
    with pytest.raises(JsonError):
        outbound.fill(b"1", room.Template([(0, 0), (0, 1)]), (text, 3))
    assert sys.getrefcount(text) == held + 120
    del outbound
    assert sys.getrefcount(text) == held


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
def test_whichever_allocation_fails_what_was_gathered_stays_and_nothing_is_lost() -> None:
    room, _ = both("corridor_out")
    before = memory.live_blocks()
    text = "x" * 5_000
    held = sys.getrefcount(text)
    template = room.Template(TWICE)
    failures = 0
    for count in range(1, 12):
        outbound = outbound_of(room, "http", split_bytes=1_000)
        outbound.fill(b"1", template, ("first",))
        whole = len(outbound)
        memory.fail_after(count)
        try:
            for _ in range(8):
                outbound.fill(b"2", template, (text,))
                whole = len(outbound)
            outbound.result(b"3", {"text": "é" * 70_000})
            whole = len(outbound)
        except MemoryError:
            failures += 1
        finally:
            memory.fail_never()
        assert len(outbound) == whole
        assert len(b"".join(outbound.take_parts())) == whole
        del outbound
    assert failures > 2
    del template
    assert memory.live_blocks() == before
    assert sys.getrefcount(text) == held


def test_what_is_large_says_so(impl: Impl) -> None:
    outbound = outbound_of(impl("corridor_out"), "none", split_bytes=1_000)
    assert not outbound.is_large
    outbound.raw(b"x" * 65_535)
    assert not outbound.is_large
    outbound.raw(b"x")
    assert outbound.is_large
    outbound.take()
    assert not outbound.is_large
