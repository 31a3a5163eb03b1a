"""Rows of the native JSON codec."""

from __future__ import annotations

import json
import random
from functools import partial
from types import ModuleType
from typing import Any

from erlmcp.bench import message, room
from erlmcp.bench.components.row import OURS, SEED, Mark, Row, Ways, marks
from erlmcp.bench.timing import Timed, timed

PLAIN = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 42,
        "method": "tools/call",
        "params": {"name": "search_documents", "arguments": {"query": message.TEXT, "limit": 10, "exact": False}},
    },
    separators=(",", ":"),
).encode()
RESULT: Any = {
    "jsonrpc": "2.0",
    "id": 42,
    "result": {
        "content": [{"type": "text", "text": message.TEXT}],
        "structuredContent": {"result": message.TEXT},
        "isError": False,
    },
}
TOOLS: Any = {
    "tools": [
        {
            "name": f"tool_{number:04}",
            "description": "Give the text back, as often as it is asked for, and say what was done with it." * 3,
            "inputSchema": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "count": {"type": "integer", "default": 1}},
                "required": ["text"],
            },
        }
        for number in range(50)
    ]
}
TOOLS_TEXT = json.dumps(TOOLS, separators=(",", ":")).encode()


_random = random.Random(SEED)
FLOATS = [_random.random() for _ in range(1000)]
ITEMS = [{"id": number, "name": f"item {number}"} for number in range(1000)]

PLAIN_WORDS = ["alpha", "beta", "gamma", "delta", "line\n", "plain", "text", "and so on"]
MIXED_WORDS = ["alpha", "déjà", "gamma", "数据", "line\n", '"quoted"', "plain", "text"]


def long_text(words: list[str]) -> str:
    """A text of 1 MiB characters."""
    return " ".join(random.Random(SEED).choices(words, k=1 << 18))[: 1 << 20]


def _times(function: Any, value: Any, count: int) -> None:
    for _ in range(count):
        function(value)


def _of(function: Any, value: Any, count: int = 64) -> Timed:
    function(value)
    return timed(count, _times, function, value, count, single=lambda: function(value))


def _envelope(implementation: str) -> Timed:
    scan = room.part(implementation, "jsonrpc", "scan")
    decode = room.part(implementation, "json", "decode")

    def both(data: bytes) -> object:
        return decode(scan(data).arguments)

    return _of(both, PLAIN)


def _msgspec(module: ModuleType) -> Timed:
    decoder = module.json.Decoder(_struct(module))
    decode = module.json.decode

    def both(data: bytes) -> object:
        return decode(decoder.decode(data).params.arguments)

    return _of(both, PLAIN)


def _struct(module: ModuleType) -> Any:
    params = module.defstruct("Params", [("name", str), ("arguments", module.Raw)])
    return module.defstruct("Request", [("jsonrpc", str), ("id", int), ("method", str), ("params", params)])


def request(ways: Ways) -> None:
    for who in OURS:
        ways.own("call", who, partial(_envelope, who))
    ways.peer("call", "msgspec", "msgspec", _msgspec)
    ways.peer("call", "orjson", "orjson", lambda lib: _of(lib.loads, PLAIN))
    ways.peer("call", "ujson", "ujson", lambda lib: _of(lib.loads, PLAIN))
    ways.own("call", "json", lambda: _of(json.loads, PLAIN))
    ways.core("envelope_scan", lambda loop: timed(1024, loop, PLAIN, 1024))


def decoding(ways: Ways, data: bytes, count: int) -> None:
    ways.both("call", "json", "decode", lambda decode: _of(decode, data, count))
    ways.peer("call", "orjson", "orjson", lambda lib: _of(lib.loads, data, count))
    ways.peer("call", "msgspec", "msgspec", lambda lib: _of(lib.json.decode, data, count))
    ways.peer("call", "ujson", "ujson", lambda lib: _of(lib.loads, data, count))
    ways.own("call", "json", lambda: _of(json.loads, data, count))


def encoding(ways: Ways, value: Any, count: int) -> None:
    ways.both("call", "json", "encode", lambda encode: _of(encode, value, count))
    ways.peer("call", "orjson", "orjson", lambda lib: _of(lib.dumps, value, count))
    ways.peer("call", "msgspec", "msgspec", lambda lib: _of(lib.json.encode, value, count))
    ways.peer("call", "ujson", "ujson", lambda lib: _of(lib.dumps, value, count))
    ways.own("call", "json", lambda: _of(json.dumps, value, count))


def list_decoding(ways: Ways, value: Any) -> None:
    decoding(ways, json.dumps(value, separators=(",", ":")).encode(), 4)


def list_encoding(ways: Ways, value: Any) -> None:
    encoding(ways, value, 4)


def text_decoding(ways: Ways, words: list[str]) -> None:
    decoding(ways, json.dumps(long_text(words), ensure_ascii=False).encode(), 1)


def text_encoding(ways: Ways, words: list[str]) -> None:
    encoding(ways, long_text(words), 1)


SCAN = 2e9 / len(PLAIN)  # 2 GB/s as messages a second
AS_QUICK = Mark(peer="orjson")
LARGE = Mark(peer="orjson", factor=1.2)
ROWS = [
    Row(
        "json-request",
        "json",
        f"a tools/call request of {len(PLAIN)} bytes: its envelope and its arguments (core: the envelope's scan alone,"
        " which validates; the mark is 2 GB/s)",
        request,
        {**marks(call=1e3 / 300), "core": Mark(rate=SCAN)},
    ),
    Row(
        "json-result-encode",
        "json",
        "a tools/call result encoded",
        lambda ways: encoding(ways, RESULT, 64),
        marks(call=1e3 / 150),
    ),
    Row(
        "json-request-decode",
        "json",
        f"the same request of {len(PLAIN)} bytes decoded whole",
        lambda ways: decoding(ways, PLAIN, 64),
    ),
    Row(
        "json-list-encode",
        "json",
        f"tools/list of 50 tools encoded, {len(TOOLS_TEXT):,} bytes",
        lambda ways: encoding(ways, TOOLS, 4),
        {"call": AS_QUICK},
    ),
    Row(
        "json-list-decode",
        "json",
        f"tools/list of 50 tools decoded, {len(TOOLS_TEXT):,} bytes",
        lambda ways: decoding(ways, TOOLS_TEXT, 4),
        {"call": LARGE},
    ),
    *(
        Row(f"json-{name}-{verb}", "json", f"{what} {verb}d", partial(collect, value=value), {"call": mark})
        for name, value, what in (
            ("floats", FLOATS, "a list of 1,000 random doubles"),
            ("objects", ITEMS, "a list of 1,000 objects of an id and a name"),
        )
        for verb, collect, mark in (("encode", list_encoding, AS_QUICK), ("decode", list_decoding, LARGE))
    ),
    *(
        Row(
            f"json-{name}-{verb}",
            "json",
            f"a text of 1 MiB characters {verb}d, {what}",
            partial(collect, words=words),
            {"call": mark},
        )
        for name, words, what in (
            ("text", PLAIN_WORDS, "ASCII with a line end now and then"),
            ("mixed", MIXED_WORDS, "words of several scripts, quotes and line ends"),
        )
        for verb, collect, mark in (("encode", text_encoding, AS_QUICK), ("decode", text_decoding, LARGE))
    ),
]
