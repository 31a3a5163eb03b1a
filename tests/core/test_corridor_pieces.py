"""The corridor's chunking property: however the input is cut, the calls are those of the twin, fed the whole."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
CALL = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "tools/call",
    "params": {"name": "echo", "arguments": {"text": "hi", "n": [1, 2.5, None]}, "_meta": META},
}


def dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def routes_of(room: ModuleType) -> Any:
    routes = room.Routes()
    routes.set_method("tools/call", "CALL", "name")
    routes.set_method("resources/read", "READ", "uri")
    routes.set_method("ping", "PING")
    routes.set_entry("tools/call", "echo", "ECHO")
    routes.set_entry("resources/read", "file:///é", "FILE")
    return routes


def seen(call: Any) -> tuple[object, ...]:
    """All that a call says, for comparison."""
    return (
        call.kind, call.id, type(call.id), call.id_raw, call.method, call.route, call.name, call.entry,
        None if call.meta is None else (call.meta.raw, call.meta.values, call.meta.protocol_version),
        call.code, call.message, call.is_response, call.pending, call.has_params, repr(call.params),
        repr(call.arguments), repr(call.result), repr(call.error), call.raw, [seen(item) for item in call.items],
    )  # fmt: skip


def cut(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    edges = [0, *sorted({at % (len(data) + 1) for at in cuts}), len(data)]
    return (data[a:b] for a, b in pairwise(edges))


def both(room: str) -> tuple[ModuleType, ModuleType]:
    return importlib.import_module(f"erlmcp._core.{room}"), importlib.import_module(f"erlmcp._model.{room}")


LINES = st.sampled_from(
    [
        dump(CALL),
        dump({**CALL, "id": "ü", "params": {"_meta": {"progressToken": 1, **META}, "name": "nobody"}}),
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
        b'{"jsonrpc" : "2.0" , "id" : 1 , "result" : {"a":[]} }',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}',
        b'[{"jsonrpc":"2.0","id":-1,"method":"ping"},{"jsonrpc":"2.0","id":1,"method":"tools/call"}, 3]',
        b"[" * 200,
        b"",
        b"\r",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"' + b"x" * 700 + b'"}}',
        b"\xff\xfe",
        b'{"jsonrpc":"2.0","id":01,"method":"ping"}',
    ]
)
FRAMES = st.lists(
    st.one_of(
        LINES.map(lambda line: b"Content-Length: %d\r\n\r\n" % len(line) + line),
        st.sampled_from([b"Content-Length: x\r\n\r\n", b"A: b\r\n\r\n", b"content-length:1\r\nA:b\r\n\r\n5"]),
    ),
    max_size=5,
)
CUTS = st.one_of(st.just([]), st.just(range(4000)), st.lists(st.integers(0, 4000), max_size=12))


def compare_lines(lines: list[bytes], cuts: Iterable[int]) -> None:
    core, model = both("corridor")
    data = b"\n".join(lines)
    found = core.Inbound(routes_of(core), message_bytes_max=600)
    whole = model.Inbound(routes_of(model), message_bytes_max=600)
    calls = [seen(call) for part in cut(data, cuts) for call in found.feed(part)]
    assert calls == [seen(call) for call in whole.feed(data)]
    assert found.buffered == whole.buffered


def compare_frames(frames: list[bytes], cuts: Iterable[int]) -> None:
    core, model = both("corridor")
    data = b"".join(frames)
    found = core.Inbound(routes_of(core), framing="content_length", message_bytes_max=600)
    whole = model.Inbound(routes_of(model), framing="content_length", message_bytes_max=600)
    calls = [seen(call) for part in cut(data, cuts) for call in found.feed(part)]
    assert calls == [seen(call) for call in whole.feed(data)]
    assert found.closed == whole.closed


@given(st.lists(st.one_of(LINES, st.binary(max_size=30)), max_size=6), CUTS)
def test_lines_in_any_pieces_give_the_calls_of_the_model(lines: list[bytes], cuts: Iterable[int]) -> None:
    compare_lines(lines, cuts)


@given(FRAMES, CUTS)
def test_lengths_in_any_pieces_give_the_calls_of_the_model(frames: list[bytes], cuts: Iterable[int]) -> None:
    compare_frames(frames, cuts)


@pytest.mark.deep
@settings(max_examples=10_000)
@given(st.lists(st.one_of(LINES, st.binary(max_size=30)), max_size=6), CUTS)
def test_many_lines_in_any_pieces_give_the_calls_of_the_model(lines: list[bytes], cuts: Iterable[int]) -> None:
    compare_lines(lines, cuts)


@pytest.mark.deep
@settings(max_examples=10_000)
@given(FRAMES, CUTS)
def test_many_lengths_in_any_pieces_give_the_calls_of_the_model(frames: list[bytes], cuts: Iterable[int]) -> None:
    compare_frames(frames, cuts)
