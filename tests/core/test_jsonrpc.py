"""The jsonrpc room: envelopes, their shape, their limits, and the compiled room in step with its twin."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

Impl = Callable[[str], ModuleType]
CORE = importlib.import_module("erlmcp._core.jsonrpc")
MODEL = importlib.import_module("erlmcp._model.jsonrpc")
REQUEST, NOTIFICATION, RESULT, ERROR, BATCH, INVALID = range(1, 7)

PARTS: tuple[str, ...] = (
    "kind",
    "code",
    "message",
    "position",
    "id",
    "id_kind",
    "is_response",
    "method",
    "params",
    "result",
    "error",
)
PARTS += ("name", "uri", "arguments", "meta", "protocol_version", "progress_token", "meta_hit", "items")

CALL = (
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"text":"h\\u00e9","n":[1,{}]},'
    b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":"p1","x/y":{"a":[]}}}}'
)
READ = b' { "params" : { "uri" : "file:///\\u20ac" } , "method" : "resources/read" , "id" : "a" , "jsonrpc" : "2.0" } '
NOTE = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"\xc3\xa9"}}'
DONE = b'{"jsonrpc":"2.0","id":7,"result":{"content":[],"name":"not of params"}}'
FAIL = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}'
MANY = b"[" + CALL + b" , " + NOTE + b"," + DONE + b",[], 5 ]"
VALID = [CALL, READ, NOTE, DONE, FAIL, MANY]


@pytest.fixture
def room(impl: Impl) -> ModuleType:
    return impl("jsonrpc")


def told(envelope: Any) -> dict[str, object]:
    return {part: getattr(envelope, part) for part in PARTS}


def message(**members: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode()


def refused(room: ModuleType, data: bytes, code: int = -32600, **limits: int) -> Any:
    envelope = room.scan(data, **limits)
    assert (envelope.kind, envelope.code) == (INVALID, code), envelope.message
    assert envelope.message.startswith("Parse error: " if code == -32700 else "Invalid Request: ")
    return envelope


# --- what is valid ---


def test_a_request_shows_all_that_it_is_routed_by(room: ModuleType) -> None:
    envelope = room.scan(CALL)
    assert (envelope.kind, envelope.id, envelope.id_kind, envelope.method) == (REQUEST, b"7", room.ID_INT, "tools/call")
    assert (envelope.name, envelope.uri) == ("echo", None)
    assert envelope.arguments == b'{"text":"h\\u00e9","n":[1,{}]}'
    assert json.loads(envelope.params)["name"] == "echo"
    assert json.loads(envelope.meta)["x/y"] == {"a": []}
    assert (envelope.protocol_version, envelope.progress_token) == ("2026-07-28", b'"p1"')
    assert (envelope.code, envelope.message, envelope.result, envelope.error) == (0, None, None, None)


def test_members_may_stand_in_any_order_with_blanks_around(room: ModuleType) -> None:
    envelope = room.scan(READ)
    assert (envelope.kind, envelope.id, envelope.id_kind, envelope.method) == (
        REQUEST,
        b'"a"',
        room.ID_STRING,
        "resources/read",
    )
    assert (envelope.uri, envelope.name, envelope.arguments, envelope.meta) == ("file:///€", None, None, None)
    assert envelope.params == b'{ "uri" : "file:///\\u20ac" }'


def test_the_other_kinds_are_told_apart(room: ModuleType) -> None:
    note, done, fail = room.scan(NOTE), room.scan(DONE), room.scan(FAIL)
    assert (note.kind, note.id, note.id_kind) == (NOTIFICATION, None, room.ID_NONE)
    assert (done.kind, done.id, done.name) == (RESULT, b"7", None)
    assert done.result == b'{"content":[],"name":"not of params"}'
    assert (fail.kind, fail.id, fail.id_kind) == (ERROR, b"null", room.ID_NULL)
    assert fail.error == b'{"code":-32600,"message":"no"}'
    assert room.scan(message(error={})).id_kind == room.ID_NONE


def test_a_batch_gives_its_items_to_be_scanned_one_by_one(room: ModuleType) -> None:
    envelope = room.scan(b" \n" + MANY + b"\n")
    assert envelope.kind == BATCH
    assert envelope.items == [CALL, NOTE, DONE, b"[]", b"5"]
    assert [room.scan(item).kind for item in envelope.items] == [REQUEST, NOTIFICATION, RESULT, INVALID, INVALID]
    assert room.scan(b"[1]").items == [b"1"]
    assert room.scan(CALL).items == []


def test_params_may_be_an_array_which_names_nothing(room: ModuleType) -> None:
    envelope = room.scan(message(id=1, method="m", params=[{"name": "x"}]))
    assert (envelope.kind, envelope.params, envelope.name) == (REQUEST, b'[{"name": "x"}]', None)


def test_unknown_members_are_passed_over(room: ModuleType) -> None:
    envelope = room.scan(
        message(id=1, method="m", extra={"id": 2, "method": 3}, params={"other": {"name": 1, "_meta": 2}})
    )
    assert (envelope.kind, envelope.id, envelope.method, envelope.name, envelope.meta) == (
        REQUEST,
        b"1",
        "m",
        None,
        None,
    )


@pytest.mark.parametrize("name", ["Id", "ID", "id ", "", "i", "jsonrpc2", "JSONRPC", "results"])
def test_keys_are_compared_exactly(room: ModuleType, name: str) -> None:
    assert room.scan(message(method="m", **{name: 5})).kind == NOTIFICATION


@pytest.mark.parametrize("value", [1, None, ["echo"], {"a": "b"}, True])
def test_a_name_that_is_not_a_string_is_no_name(room: ModuleType, value: object) -> None:
    envelope = room.scan(message(id=1, method="m", params={"name": value, "uri": value, "_meta": value}))
    assert (envelope.kind, envelope.name, envelope.uri) == (REQUEST, None, None)
    assert json.loads(envelope.meta) == value
    meta = dict.fromkeys(("io.modelcontextprotocol/protocolVersion", "progressToken"), value)
    envelope = room.scan(message(id=1, method="m", params={"_meta": meta}))
    assert envelope.protocol_version is None
    assert json.loads(envelope.progress_token) == value


def test_escaped_keys_and_texts_count_as_what_they_say(room: ModuleType) -> None:
    envelope = room.scan(
        b'{"json\\u0072pc":"2\\u002e0","\\u0069d":5,"m\\u0065thod":"tools\\/call","\\u0070arams":{"n\\u0061me":"a\\nb",'
        b'"_\\u006deta":{"\\u0069o.modelcontextprotocol\\/protocolVersion":"\\u0032026"}}}'
    )
    assert (envelope.kind, envelope.id, envelope.method, envelope.name) == (REQUEST, b"5", "tools/call", "a\nb")
    assert envelope.protocol_version == "2026"
    spelled = "".join(f"\\u{ord(c):04x}" for c in "io.modelcontextprotocol/protocolVersion").encode()
    envelope = room.scan(b'{"jsonrpc":"2.0","method":"m","params":{"_meta":{"' + spelled + b'":"v"}}}')
    assert envelope.protocol_version == "v"
    long = b"\\u0069" * 300
    assert room.scan(b'{"jsonrpc":"2.0","method":"m","' + long + b'":1}').kind == NOTIFICATION


@pytest.mark.parametrize("token", [b"0", b"-1", b"-0", b"9" * 1000, b'""', b'"a\\u0000b"', b'"' + b"x" * 1022 + b'"'])
def test_an_id_is_kept_as_it_was_written(room: ModuleType, token: bytes) -> None:
    envelope = room.scan(b'{"jsonrpc":"2.0","id": ' + token + b' ,"method":"m"}')
    assert (envelope.kind, envelope.id) == (REQUEST, token)


# --- what is not ---


@pytest.mark.parametrize("token", [b"1.5", b"1.0", b"1e2", b"true", b"[]", b"{}", b'"' + b"x" * 1023 + b'"'])
def test_an_id_that_is_neither_string_nor_integer_is_refused(room: ModuleType, token: bytes) -> None:
    for rest in (b'"method":"m"', b'"result":{}', b'"error":{}'):
        envelope = refused(room, b'{"jsonrpc":"2.0","id":' + token + b"," + rest + b"}")
        assert (envelope.id, envelope.id_kind) == (None, room.ID_BAD)
        assert "id must be" in envelope.message


def test_only_an_error_may_have_no_id(room: ModuleType) -> None:
    assert "null" in refused(room, message(id=None, method="m")).message
    assert refused(room, message(id=None, method="m")).id is None
    assert "must have an id" in refused(room, message(id=None, result={})).message
    assert "must have an id" in refused(room, message(result={})).message


SHAPES: list[tuple[bytes, str]] = [
    (b"1", "must be an object"),
    (b' "x" ', "must be an object"),
    (b"null", "must be an object"),
    (b"[ ]", "empty batch"),
    (b"{}", "jsonrpc must be"),
    (b'{"id":1,"method":"m"}', "jsonrpc must be"),
    (b'{"jsonrpc":"1.0","id":1,"method":"m"}', "jsonrpc must be"),
    (b'{"jsonrpc":"2.00","id":1,"method":"m"}', "jsonrpc must be"),
    (b'{"jsonrpc":2.0,"id":1,"method":"m"}', "jsonrpc must be"),
    (b'{"jsonrpc":null,"id":1,"method":"m"}', "jsonrpc must be"),
    (b'{"jsonrpc":"","id":1,"method":"m"}', "jsonrpc must be"),
    (b'{"jsonrpc":"2\\u002e1","id":1,"method":"m"}', "jsonrpc must be"),
    (message(id=1), "neither method"),
    (message(), "neither method"),
    (message(id=1, params={}), "neither method"),
    (message(id=1, method=None), "method must be a string"),
    (message(id=1, method=5), "method must be a string"),
    (message(id=1, method=["m"]), "method must be a string"),
    (message(id=1, method="m", result=1), "method together"),
    (message(id=1, method="m", error={}), "method together"),
    (message(id=1, result=1, error={}), "result together"),
    (message(id=1, error=None), "error must be an object"),
    (message(id=1, error=[1]), "error must be an object"),
    (message(id=1, error="no"), "error must be an object"),
    (message(id=1, method="m", params=None), "params must be"),
    (message(id=1, method="m", params=5), "params must be"),
    (message(id=1, method="m", params="x"), "params must be"),
]


@pytest.mark.parametrize(("data", "words"), SHAPES, ids=lambda item: repr(item)[:50])
def test_a_message_of_another_shape_is_refused_and_says_why(room: ModuleType, data: bytes, words: str) -> None:
    envelope = refused(room, data)
    assert words in envelope.message
    assert envelope.id == (b"1" if b'"id"' in data else None)
    assert envelope.is_response == ((b'"result"' in data or b'"error"' in data) and b'"method"' not in data)
    assert envelope.method is None


TWICE = [b'"jsonrpc":"2.0"', b'"id":1', b'"method":"m"', b'"params":{}', b'"result":1', b'"error":{}']


@pytest.mark.parametrize("member", TWICE)
@pytest.mark.parametrize("spell", [False, True])
def test_a_key_of_the_message_that_stands_there_twice_is_refused(room: ModuleType, member: bytes, spell: bool) -> None:
    again = b'"\\u00%02x' % member[1] + member[2:] if spell else member
    envelope = refused(room, b'{"jsonrpc":"2.0","id":1,"method":"m","params":{},' + member + b"," + again + b"}")
    assert "twice" in envelope.message
    assert envelope.id == (None if member == b'"id":1' else b"1")


@pytest.mark.parametrize("member", [b'"name":"a"', b'"uri":"a"', b'"arguments":{}', b'"_meta":{}'])
@pytest.mark.parametrize("spell", [False, True])
def test_a_key_of_params_that_stands_there_twice_is_refused(room: ModuleType, member: bytes, spell: bool) -> None:
    again = b'"\\u00%02x' % member[1] + member[2:] if spell else member
    start = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{'
    assert "twice" in refused(room, start + member + b',"x":1,' + again + b"}}").message
    assert room.scan(start + member + b',"x":{' + member + b"}}}").kind == REQUEST
    assert room.scan(start + member + b"," + member[:2] + b"_" + member[2:] + b"}}").kind == REQUEST


@pytest.mark.parametrize("key", ["io.modelcontextprotocol/protocolVersion", "progressToken"])
def test_a_key_of_meta_that_stands_there_twice_is_refused(room: ModuleType, key: str) -> None:
    member = f'"{key}":"a"'.encode()
    data = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{' + member + b"," + member + b"}}}"
    assert "twice" in refused(room, data).message


def test_other_keys_may_stand_there_twice(room: ModuleType) -> None:
    assert (
        room.scan(b'{"jsonrpc":"2.0","method":"m","x":1,"x":2,"params":{"y":1,"y":2,"_meta":{"z":1,"z":2}}}').kind
        == NOTIFICATION
    )


NOT_JSON = [b"", b" ", b"{", b"{}}", b"[1", b"[1}", b"[1] 2", b"[] 2", b"1 2", b"nul", b"\xef\xbb\xbf{}"]
NOT_JSON += [b'{"a":"\xff"}', b'{"id":01}', b'{"id":1.}', b'{"id":"\\ud800"}', b'{"params":{"_meta":{"a":}}}']
NOT_JSON += [b'{"params":{"name":"\n"}}', b"{'a':1}", b'{"a":1,"a"}', b'{"jsonrpc":"2.0"', b'{"jsonrpc":"2.0']
NOT_JSON += [b'{"jsonrpc":"2.0",}', '{"é":1'.encode()]


@pytest.mark.parametrize("data", NOT_JSON)
def test_what_is_not_json_is_a_parse_error_without_an_id(room: ModuleType, data: bytes) -> None:
    envelope = refused(room, data, -32700)
    assert (envelope.id, envelope.id_kind, envelope.is_response) == (None, room.ID_NONE, False)
    assert envelope.position <= len(data)


def test_a_parse_error_after_a_wrong_shape_is_still_a_parse_error(room: ModuleType) -> None:
    refused(room, b'{"jsonrpc":"1.0","id":1,"id":2,"method":5,"params":[}', -32700)
    refused(room, message(id=1, result=1) + b"x", -32700)


@given(st.sampled_from(VALID))
def test_every_beginning_of_a_message_is_a_parse_error(data: bytes) -> None:
    for size in range(len(data.rstrip())):
        for room in (CORE, MODEL):
            assert room.scan(data[:size]).code == -32700


def test_limits_are_named_and_the_id_before_them_is_told(room: ModuleType) -> None:
    deep = b"[" * 200 + b"]" * 200
    envelope = refused(room, b'{"jsonrpc":"2.0","id":9,"method":"m","params":' + deep + b"}")
    assert (envelope.message, envelope.id) == ("Invalid Request: limit depth_max exceeded", b"9")
    envelope = refused(room, b'{"params":' + deep + b',"jsonrpc":"2.0","id":9,"method":"m"}')
    assert (envelope.id, envelope.is_response) == (None, False)
    assert refused(room, b'{"jsonrpc":"2.0","id":9,"error":' + deep + b"}").is_response
    assert refused(room, b"[" * 200).message.endswith("limit depth_max exceeded")
    envelope = refused(room, message(id=9, method="m" * 9), string_bytes_max=8)
    assert envelope.message == "Invalid Request: limit string_bytes_max exceeded"
    assert refused(room, message(id=123456, method="m"), number_bytes_max=5).id is None
    assert refused(room, b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"n":123456}}', number_bytes_max=5).id == b"1"
    assert refused(room, b'{"id":1,"id":' + deep + b"}").id is None


@pytest.mark.parametrize(("depth_max", "kind"), [(1, INVALID), (2, INVALID), (3, INVALID), (4, REQUEST)])
def test_the_depth_limit_counts_from_the_message(room: ModuleType, depth_max: int, kind: int) -> None:
    data = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"a":{}}}}'
    assert room.scan(data, depth_max=depth_max).kind == kind
    assert room.scan(data.replace(b"_meta", b"other"), depth_max=depth_max).kind == kind


def test_limits_out_of_range_and_data_of_another_type_are_refused(room: ModuleType) -> None:
    for limits in ({"depth_max": 0}, {"depth_max": 1000}, {"string_bytes_max": -1}, {"number_bytes_max": 0}):
        with pytest.raises(ValueError):
            room.scan(CALL, **limits)
    with pytest.raises(TypeError):
        room.scan(CALL.decode())
    assert room.scan(bytearray(CALL)).kind == room.scan(memoryview(CALL)).kind == REQUEST


# --- meta seen before ---


def test_meta_that_was_seen_before_is_compared_and_tells_the_same(room: ModuleType) -> None:
    first = room.scan(CALL)
    other = b'{"params":{"_meta":' + first.meta + b',"uri":"u"},"jsonrpc":"2.0","id":"long","method":"m"}'
    plain, hinted = room.scan(other), room.scan(other, like=first)
    assert hinted.meta_hit
    assert not plain.meta_hit
    assert {**told(plain), "meta_hit": True} == told(hinted)
    again = room.scan(CALL, like=hinted)
    assert {**told(first), "meta_hit": True} == told(again)


@pytest.mark.parametrize("like", [NOTE, message(id=1, method="m", params={"_meta": 5}), b"{}", MANY])
def test_a_message_without_meta_is_like_nothing(room: ModuleType, like: bytes) -> None:
    assert told(room.scan(CALL, like=room.scan(like))) == told(room.scan(CALL))


def test_meta_that_differs_is_scanned(room: ModuleType) -> None:
    first = room.scan(CALL)
    for meta in (first.meta[:-1] + b',"x":1}', first.meta.replace(b"p1", b"p2"), b"{}", first.meta[:-2], b"[]"):
        data = CALL.replace(first.meta, meta)
        assert told(room.scan(data, like=first)) == told(room.scan(data))
    broken = CALL.replace(first.meta, first.meta + b"x")
    refused(room, broken, -32700)
    assert room.scan(broken, like=first).code == -32700
    twice = CALL.replace(b'"_meta"', b'"_meta":' + first.meta + b',"_meta"')
    assert "twice" in room.scan(twice, like=first).message


# --- both rooms in step ---

PIECES = [
    b'"id":1',
    b'"id":null,',
    b'"jsonrpc":"2.0",',
    b'"method":"x",',
    b'"params":{},',
    b'"params":[],',
    b'"result":1,',
]
PIECES += [
    b'"error":{},',
    b'"name":"n",',
    b'"uri":5,',
    b'"_meta":{},',
    b'"progressToken":1,',
    b'"arguments":[1],',
    b'"\\u0069d":2,',
]
PIECES += [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b" ",
    b"\t\r\n",
    b"0",
    b"1.5",
    b"-",
    b"e",
    b"null",
    b"true",
    b"\xff",
]
PIECES += [b"\xc3\xa9", b"\x00", b"[[[[", b"]]]]", b'"2.0"', b"\\ud800", b"12345678"]


def mutated(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(out) + 1)
        what = rng.randrange(6)
        if what == 0:
            out[at:at] = rng.choice(PIECES)
        elif what == 1:
            del out[at : at + rng.randint(1, 5)]
        elif what == 2 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif what == 3:
            del out[at:]
        elif what == 4:  # a piece between two marks stands there twice
            marks = [i for i, byte in enumerate(out) if byte in b",{}"] + [0, len(out)]
            first, last = sorted(rng.sample(marks, 2)) if len(marks) > 1 else (0, 0)
            out[last:last] = out[first:last]
        else:
            marks = [i for i, byte in enumerate(out) if byte in b'{}[],:"'] or [0]
            at = rng.choice(marks)
            out[at:at] = rng.choice((b" ", b"\n", b"\r\n\t ", b",", b'"x":1,'))
    return bytes(out)


def test_both_rooms_tell_the_same_of_mutated_messages() -> None:
    rng = random.Random(11)
    like_core, like_model = CORE.scan(CALL), MODEL.scan(CALL)
    for _ in range(4_000):
        data = mutated(rng, rng.choice(VALID))
        assert told(CORE.scan(data, like=like_core)) == told(MODEL.scan(data, like=like_model)), data


def test_both_rooms_tell_the_same_under_tight_limits() -> None:
    rng = random.Random(12)
    for _ in range(2_000):
        data = mutated(rng, rng.choice(VALID))
        limits = {
            "depth_max": rng.randint(1, 5),
            "string_bytes_max": rng.randint(5, 60),
            "number_bytes_max": rng.randint(1, 7),
        }
        assert told(CORE.scan(data, **limits)) == told(MODEL.scan(data, **limits)), (data, limits)


@pytest.mark.deep
def test_both_rooms_tell_the_same_of_very_many_mutated_messages() -> None:
    rng = random.Random(13)
    for _ in range(40_000):
        data = mutated(rng, mutated(rng, rng.choice(VALID)))
        assert told(CORE.scan(data)) == told(MODEL.scan(data)), data


MEMBERS = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "name", "uri", "_meta", "other"])
SCALARS = st.sampled_from(["2.0", 1, -1, 1.5, None, True, "tools/call", "", "x" * 40])
TREES = st.recursive(
    SCALARS, lambda inner: st.dictionaries(MEMBERS, inner, max_size=6) | st.lists(inner, max_size=2), max_leaves=8
)


@given(st.dictionaries(MEMBERS, TREES, max_size=6), st.booleans())
def test_both_rooms_tell_the_same_of_any_tree(members: dict[str, object], is_version_2: bool) -> None:
    data = json.dumps({**members, "jsonrpc": "2.0"} if is_version_2 else members).encode()
    assert told(CORE.scan(data)) == told(MODEL.scan(data))
