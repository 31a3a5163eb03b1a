"""The corridor: bytes of a stream -> calls."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Impl = Callable[[str], ModuleType]

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


# -- Calls


def test_a_request_is_scanned_routed_and_decoded_on_demand(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room))
    (call,) = inbound.feed(dump(CALL) + b"\n")
    assert (call.kind, call.id, call.id_raw, call.method) == (room.REQUEST, 7, b"7", "tools/call")
    assert (call.route, call.name, call.entry) == ("CALL", "echo", "ECHO")
    assert call.arguments == {"text": "hi", "n": [1, 2.5, None]}
    assert call.arguments is call.arguments
    assert call.params == CALL["params"]
    assert call.params is call.params
    assert call.has_params
    assert call.meta.values == META
    assert call.meta.protocol_version == "2026-07-28"
    assert call.raw == dump(CALL)
    assert (call.code, call.message, call.items, call.pending) == (0, None, [], None)
    assert inbound.buffered == 0


def test_a_name_is_found_by_its_key_and_with_escapes(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room))
    plain = b'{"jsonrpc":"2.0","id":"a","method":"resources/read","params":{"uri":"file:///\xc3\xa9"}}\n'
    escaped = b'{"params":{"uri":"file:\\/\\/\\/\\u00e9"},"method":"resources\\/read","id":"\\u0061","jsonrpc":"2.0"}\n'
    first, second = inbound.feed(plain + escaped)
    assert (first.name, first.entry, first.route) == ("file:///é", "FILE", "READ")
    assert (second.name, second.entry, second.route) == ("file:///é", "FILE", "READ")
    assert (second.id, second.id_raw) == ("a", b'"\\u0061"')
    assert first.method == second.method == "resources/read"


def test_a_known_method_is_always_the_same_str(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room))
    first, second = inbound.feed((dump(CALL) + b"\n") * 2)
    assert first.method is second.method


def test_names_that_are_no_strings_or_unknown_have_no_entry(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room))
    calls = inbound.feed(
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}\n'
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nobody"}}\n'
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["name","echo"]}\n'
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}\n'
        b'{"jsonrpc":"2.0","id":1,"method":"other","params":{"name":"echo"}}\n'
        b'{"jsonrpc":"2.0","method":"ping","params":{"name":"echo"}}\n'
    )
    assert [(call.name, call.entry) for call in calls] == [(None, None), ("nobody", None), *[(None, None)] * 4]
    assert [call.route for call in calls] == ["CALL"] * 4 + [None, "PING"]
    assert calls[2].params == ["name", "echo"]
    assert calls[2].arguments is None
    assert (calls[3].has_params, calls[3].params, calls[3].arguments) == (False, None, None)
    assert calls[5].kind == room.NOTIFICATION


def test_routes_change_under_calls_that_are_held(impl: Impl) -> None:
    room = impl("corridor")
    routes = routes_of(room)
    inbound = room.Inbound(routes)
    (call,) = inbound.feed(dump(CALL) + b"\n")
    routes.drop_entry("tools/call", "echo")
    routes.set_method("tools/call", "NEW", "name")
    (later,) = inbound.feed(dump(CALL) + b"\n")
    assert (call.entry, call.route) == ("ECHO", "CALL")
    assert (later.entry, later.route) == (None, "NEW")
    routes.drop_method("tools/call")
    (last,) = inbound.feed(dump(CALL) + b"\n")
    assert (last.method, last.route, last.name) == ("tools/call", None, None)


def test_routes_answer_what_they_hold(impl: Impl) -> None:
    room = impl("corridor")
    routes = routes_of(room)
    assert routes.method("ping") == "PING"
    assert routes.method("nope") is None
    assert routes.entry("tools/call", "echo") == "ECHO"
    assert routes.entry("tools/call", "nope") is None
    assert routes.entry("nope", "echo") is None
    with pytest.raises(KeyError):
        routes.set_entry("nope", "a", 1)
    with pytest.raises(KeyError):
        routes.set_entry("ping", "a", 1)
    with pytest.raises(KeyError):
        routes.drop_entry("tools/call", "nope")
    with pytest.raises(KeyError):
        routes.drop_method("nope")
    routes.set_method("tools/call", "AGAIN", "name")
    assert routes.entry("tools/call", "echo") == "ECHO"
    routes.set_method("tools/call", "OTHER", "uri")
    assert routes.entry("tools/call", "echo") is None


def test_calls_are_critical_where_the_routes_say_so_of_the_method_or_of_the_name(impl: Impl) -> None:
    room = impl("corridor")
    routes = routes_of(room)
    routes.set_method("ping", "PING", is_critical=True)
    routes.set_method("notifications/cancelled", "CANCELLED", is_critical=True)
    routes.set_entry("tools/call", "alarm", "ALARM", is_critical=True)
    inbound = room.Inbound(routes)
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
    alarm = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "al\u0061rm"}}
    lines = b"".join(dump(each) + b"\n" for each in (CALL, ping, cancelled, alarm))
    assert [call.is_critical for call in inbound.feed(lines)] == [False, True, True, True]
    assert inbound.critical_count == 3
    assert inbound.feed(dump(CALL) + b"\n")[0].is_critical is False
    assert inbound.critical_count == 0
    (batch,) = inbound.feed(dump([CALL, ping]) + b"\n")
    assert ([item.is_critical for item in batch.items], inbound.critical_count) == ([False, True], 1)
    # Entries keep it as long as their method keeps its key; what replaces an entry says it anew.
    routes.set_method("tools/call", "NEW", "name")
    assert inbound.feed(dump(alarm) + b"\n")[0].is_critical
    routes.set_entry("tools/call", "alarm", "ALARM")
    assert not inbound.feed(dump(alarm) + b"\n")[0].is_critical
    routes.set_entry("tools/call", "alarm", "ALARM", is_critical=True)
    routes.drop_entry("tools/call", "alarm")
    assert not inbound.feed(dump(alarm) + b"\n")[0].is_critical
    routes.set_method("ping", "PING")
    assert not inbound.feed(dump(ping) + b"\n")[0].is_critical


def test_equal_meta_bytes_are_one_meta(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room))
    first, second = inbound.feed((dump(CALL) + b"\n") * 2)
    assert first.meta is second.meta
    assert first.meta.tag is None
    first.meta.tag = "seen"
    other = {**CALL, "params": {"_meta": {**META, "progressToken": 1}}}
    third, fourth = inbound.feed(dump(other) + b"\n" + dump(CALL) + b"\n")
    assert third.meta is not first.meta
    assert third.meta.values["progressToken"] == 1
    assert fourth.meta.tag == "seen"


def test_connections_over_one_routes_share_their_metas(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room))
    lines = [dump({**CALL, "params": {"_meta": {"n": n}}}) + b"\n" for n in range(20)]
    metas = [inbound.feed(line)[0].meta for line in lines]
    assert [meta.values for meta in metas] == [{"n": n} for n in range(20)]
    again = inbound.feed(lines[19])[0].meta
    assert again is metas[19]


def test_a_meta_with_a_progress_token_is_its_own(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room))
    line = dump({**CALL, "params": {"_meta": {**META, "progressToken": "t"}}}) + b"\n"
    (first,), (second,) = inbound.feed(line), inbound.feed(line)
    assert first.meta is not second.meta
    assert first.meta is first.meta
    assert first.meta.values == second.meta.values == {**META, "progressToken": "t"}


def test_any_key_can_name_the_entry(impl: Impl) -> None:
    room = impl("corridor")
    routes = room.Routes()
    routes.set_method("tasks/get", "GET", "taskId")
    routes.set_entry("tasks/get", "té", "TASK")
    calls = room.Inbound(routes).feed(
        b'{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"t\\u00e9","name":"x"}}\n'
        b'{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"else"}}\n'
        b'{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":1}}\n'
        b'{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":[1]}\n'
    )
    assert [(call.name, call.entry) for call in calls] == [("té", "TASK"), ("else", None), (None, None), (None, None)]


def test_ids_keep_their_type_and_their_text(impl: Impl) -> None:
    room = impl("corridor")
    for token, id in [
        (b"0", 0), (b"-1", -1), (b"-0", 0), (b"999999999999999999", 10**18 - 1), (b"-999999999999999999", 1 - 10**18),
        (b"12345678901234567890123", 12345678901234567890123), (b'"1"', "1"), (b'""', ""), (b'"\xc3\xa9"', "é"),
    ]:  # fmt: skip
        (call,) = room.Inbound().feed(b'{"jsonrpc":"2.0","id":' + token + b',"method":"ping"}\n')
        assert (call.kind, call.id, type(call.id), call.id_raw) == (room.REQUEST, id, type(id), token)
    (call,) = room.Inbound().feed(b'{"jsonrpc":"2.0","id":7,"method":"ping","params":1}\n')
    assert (call.kind, call.id, call.id_raw) == (room.INVALID, 7, b"7")
    (call,) = room.Inbound().feed(b'{"jsonrpc":"2.0","id":7,"result":1,"error":{}}\n')
    assert (call.kind, call.is_response) == (room.INVALID, True)


def test_what_does_not_belong_to_a_kind_is_empty(impl: Impl) -> None:
    room = impl("corridor")
    request, result, bad = room.Inbound().feed(
        b'{"jsonrpc":"2.0","id":1,"method":"m","result_":1}\n{"jsonrpc":"2.0","id":1,"result":[1]}\n{\n'
    )
    assert (request.result, request.error, request.items, request.pending, request.message) == (
        None,
        None,
        [],
        None,
        None,
    )
    assert (result.params, result.arguments, result.has_params, result.error, result.method) == (
        None,
        None,
        False,
        None,
        None,
    )
    assert result.result is result.result
    assert (bad.params, bad.arguments, bad.has_params, bad.result, bad.error, bad.id) == (
        None,
        None,
        False,
        None,
        None,
        None,
    )


def test_a_batch_within_a_batch_is_invalid(impl: Impl) -> None:
    room = impl("corridor")
    (batch,) = room.Inbound().feed(b'[[{"jsonrpc":"2.0","id":1,"method":"m"}]]\n')
    assert [(item.kind, item.code) for item in batch.items] == [(room.INVALID, -32600)]


def test_answers_in_a_batch_carry_what_waited_for_them(impl: Impl) -> None:
    room = impl("corridor")
    correlation = impl("correlation").Correlation()
    correlation.put(5, "five")
    (batch,) = room.Inbound(correlation=correlation).feed(
        b'[{"jsonrpc":"2.0","id":5,"result":1},{"jsonrpc":"2.0","id":5,"result":1}]\n'
    )
    assert [item.pending for item in batch.items] == ["five", None]


def test_a_meta_that_is_no_object_is_none_and_a_version_must_be_a_string(impl: Impl) -> None:
    room = impl("corridor")
    calls = room.Inbound(routes_of(room)).feed(
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":[]}}\n'
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":2}}}\n'
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{}}}\n'
    )
    assert calls[0].meta is None
    assert [call.meta.protocol_version for call in calls[1:]] == [None, None]


def test_answers_carry_what_waited_for_them(impl: Impl) -> None:
    room = impl("corridor")
    correlation = impl("correlation").Correlation()
    for id in (1, "1", 2):
        correlation.put(id, f"waiter {id!r}")
    inbound = room.Inbound(correlation=correlation)
    calls = inbound.feed(
        b'{"jsonrpc":"2.0","id":1,"result":{"a":1}}\n'
        b'{"jsonrpc":"2.0","id":"1","error":{"code":-1,"message":"m"}}\n'
        b'{"jsonrpc":"2.0","id":1,"result":null}\n'
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m"}}\n'
    )
    assert [call.kind for call in calls] == [room.RESULT, room.ERROR, room.RESULT, room.ERROR]
    assert [call.pending for call in calls] == ["waiter 1", "waiter '1'", None, None]
    assert calls[0].result == {"a": 1}
    assert calls[1].error == {"code": -1, "message": "m"}
    assert calls[2].result is None
    assert correlation.take(2) == "waiter 2"


def test_a_batch_holds_its_messages_each_by_itself(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room), batch_count_max=3)
    (batch,) = inbound.feed(b"[" + dump(CALL) + b', 5 ,{"jsonrpc":"2.0","method":"ping"}]\n')
    assert batch.kind == room.BATCH
    assert [item.kind for item in batch.items] == [room.REQUEST, room.INVALID, room.NOTIFICATION]
    assert batch.items[0].entry == "ECHO"
    assert batch.items[0].arguments == {"text": "hi", "n": [1, 2.5, None]}
    assert batch.items[0].raw == dump(CALL)
    empty, full = inbound.feed(b"[]\n[1,2,3,4]\n")
    assert (empty.kind, empty.code) == (full.kind, full.code) == (room.INVALID, -32600)
    assert "batch_count_max=3" in full.message


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"} x', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"p\xff"}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', None),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"name":"a","name":"b"}}', -32600),
        (b"[" * 10_000 + b"]" * 10_000, None),
        (b'{"a":' * 10_000, None),
        (b'{"id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":5}', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b"5", -32600),
        (b"[]", -32600),
    ],
)
def test_a_bad_line_is_invalid_and_harms_no_neighbour(impl: Impl, line: bytes, code: int | None) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room))
    good = dump(CALL) + b"\n"
    before, bad, after = inbound.feed(good + line + b"\n" + good)
    assert (before.kind, bad.kind, after.kind) == (room.REQUEST, room.INVALID, room.REQUEST)
    assert bad.code == code if code is not None else bad.code in (-32700, -32600)
    assert isinstance(bad.message, str)
    assert bad.message
    assert (after.entry, after.arguments) == ("ECHO", CALL["params"]["arguments"])  # type: ignore[index]
    assert not inbound.closed


# -- Inbound


def test_blank_lines_are_passed_over_and_carriage_returns_accepted(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room))
    calls = inbound.feed(b"\n\r\n" + dump(CALL) + b"\r\n\n" + dump(CALL))
    assert [call.raw for call in calls] == [dump(CALL)]
    assert inbound.buffered == len(dump(CALL))
    assert [call.raw for call in inbound.feed(b"\r\n")] == [dump(CALL)]
    assert inbound.buffered == 0


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_message_over_the_limit_is_dropped_to_its_end(impl: Impl, step: int) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room), message_bytes_max=400)
    data = dump(CALL) + b"\n" + b'"' + b"x" * 2000 + b'"\n' + dump(CALL) + b"\n"
    calls = [call for at in range(0, len(data), step) for call in inbound.feed(data[at : at + step])]
    assert [call.kind for call in calls] == [room.REQUEST, room.INVALID, room.REQUEST]
    assert calls[1].code == -32600
    assert "message_bytes_max" in calls[1].message
    assert inbound.buffered == 0


def test_an_endless_line_is_not_kept(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(message_bytes_max=1000)
    for _ in range(50):
        inbound.feed(b"x" * 500)
        assert inbound.buffered <= 1500


@pytest.mark.parametrize(
    ("limit", "line"),
    [
        ("depth_max", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[[[[[]]]]]}'),
        ("string_bytes_max", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":["' + b"x" * 100 + b'"]}'),
        ("number_bytes_max", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[' + b"1" * 100 + b"]}"),
        ("batch_count_max", b'[{"jsonrpc":"2.0","method":"ping"}' + b',{"jsonrpc":"2.0","method":"ping"}' * 60 + b"]"),
    ],
)
def test_each_limit_is_kept_and_named(impl: Impl, limit: str, line: bytes) -> None:
    room = impl("corridor")
    least = 4 if limit == "depth_max" else 50
    (call,) = room.Inbound(**{limit: least}).feed(line + b"\n")
    assert call.kind == room.INVALID
    assert limit in call.message
    (call,) = room.Inbound().feed(line + b"\n")
    assert call.kind in (room.REQUEST, room.BATCH)


def test_length_framing_cuts_by_its_headers(impl: Impl) -> None:
    room = impl("corridor")
    inbound = room.Inbound(routes_of(room), framing="content_length", message_bytes_max=1000)
    body = dump(CALL)
    framed = b"Content-Type: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    big = b"Content-Length: 2000\r\n\r\n" + b"y" * 2000
    calls = inbound.feed(framed + big + framed)
    assert [call.kind for call in calls] == [room.REQUEST, room.INVALID, room.REQUEST]
    assert "message_bytes_max=1000" in calls[1].message
    assert inbound.feed(b"Content-Length: abc\r\n\r\n")[0].kind == room.INVALID
    assert inbound.closed
    assert inbound.feed(framed) == []


def test_limits_out_of_range_are_refused(impl: Impl) -> None:
    room = impl("corridor")
    for limit in ("message_bytes_max", "depth_max", "string_bytes_max", "number_bytes_max", "batch_count_max"):
        with pytest.raises(ValueError, match=limit):
            room.Inbound(**{limit: 0})
    with pytest.raises(ValueError, match="depth_max"):
        room.Inbound(depth_max=10_000)


def test_memory_that_runs_out_loses_the_message_it_hit_and_no_other() -> None:
    testcapi = pytest.importorskip("_testcapi")
    room = importlib.import_module("erlmcp._core.corridor")
    lines = [dump({**CALL, "id": id, "params": {"name": "ec\\u0068o", "_meta": {"n": id}}}) + b"\n" for id in range(5)]
    data = b"".join(lines)
    failures = 0
    _spare = [[] for _ in range(200)]  # more than the interpreter keeps back: a new list needs memory, too
    for count in range(60):
        for at in (0, 20, len(lines[0]) + 20):
            inbound = room.Inbound(routes_of(room))
            calls, rest = inbound.feed(data[:at]), data[at:]
            testcapi.set_nomemory(count, count + 1)
            try:
                late = inbound.feed(rest)
            except MemoryError:
                late = None
            finally:
                testcapi.remove_mem_hooks()
            calls += inbound.feed(b"") if late is None else late
            failures += late is None
            ids = [call.id for call in calls]
            assert ids == sorted(set(ids))
            assert len(ids) >= (4 if late is None else 5)
    assert failures > 5


def test_an_unknown_framing_is_refused(impl: Impl) -> None:
    room = impl("corridor")
    with pytest.raises(ValueError, match="newline"):
        room.Inbound(framing="morse")
