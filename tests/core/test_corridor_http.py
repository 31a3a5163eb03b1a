"""The corridor over HTTP/1.1: bytes of a connection -> requests."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Impl = Callable[[str], ModuleType]

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
CALL = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "tools/call",
    "params": {"name": "echo", "arguments": {"text": "hi", "n": [1, 2.5, None]}, "_meta": META},
}
HEAD = (
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n"
)


def dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def post(body: bytes, head: bytes = HEAD) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def routes_of(load: Impl) -> Any:
    routes = load("corridor").Routes()
    routes.set_method("tools/call", "CALL", "name")
    routes.set_method("resources/read", "READ", "uri")
    routes.set_method("ping", "PING")
    routes.set_entry("tools/call", "echo", "ECHO")
    routes.set_entry("resources/read", "file:///é", "FILE")
    return routes


def heard(request: Any) -> tuple[object, ...]:
    head, call = request.head, request.call
    return (
        request.status, bool(request.message), request.match, request.body,
        None if call is None else (
            call.kind, call.id, call.method, call.name, call.entry, call.code, call.message, call.params, call.raw,
        ),
        None if head is None else (
            head.verb, head.target, head.version, head.keep_alive, head.expect_continue, head.headers,
            [head.count(name) for name in head.headers],
        ),
    )  # fmt: skip


def cut(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    edges = [0, *sorted({at % (len(data) + 1) for at in cuts}), len(data)]
    return (data[a:b] for a, b in pairwise(edges))


def load_core(room: str) -> ModuleType:
    return importlib.import_module(f"erlmcp._core.{room}")


def load_model(room: str) -> ModuleType:
    return importlib.import_module(f"erlmcp._model.{room}")


def test_pipelined_posts_come_out_in_order_with_one_head(impl: Impl) -> None:
    room = impl("corridor_http")
    inbound = room.HttpInbound(routes_of(impl))
    longer = {**CALL, "id": "longer"}
    first, second, third = inbound.feed(post(dump(CALL)) * 2 + post(dump(longer)))
    assert [request.call.id for request in (first, second, third)] == [7, 7, "longer"]
    assert first.head is second.head is third.head
    assert first.match == room.MATCH_METHOD | room.MATCH_NAME | room.MATCH_VERSION
    assert first.call.entry == "ECHO"
    assert first.body == dump(CALL)
    assert (first.status, first.message) == (0, None)
    head = first.head
    assert (head.verb, head.target, head.version, head.keep_alive) == ("POST", "/mcp", 11, True)
    assert head.headers["mcp-protocol-version"] == "2026-07-28"
    assert head.count("host") == 1
    assert head.count("absent") == 0
    assert (inbound.phase, inbound.buffered, inbound.closed) == (0, 0, False)


def test_each_routing_header_must_be_there_once_and_equal(impl: Impl) -> None:
    room = impl("corridor_http")
    routes = routes_of(impl)

    def match_of(**changed: bytes) -> int:
        lines = {"Mcp-Protocol-Version": b"2026-07-28", "mcp-method": b"tools/call", "MCP-NAME": b"echo"}
        lines |= {name.replace("_", "-"): value for name, value in changed.items()}
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json; charset=utf-8\r\n"
        head += b"".join(b"%b:  %b \r\n" % (name.encode(), value) for name, value in lines.items() if value)
        (request,) = room.HttpInbound(routes).feed(post(dump(CALL), head))
        return int(request.match)

    assert match_of() == 7
    assert match_of(mcp_method=b"Tools/call") == 7 - room.MATCH_METHOD
    assert match_of(MCP_NAME=b"ech") == 7 - room.MATCH_NAME
    assert match_of(MCP_NAME=b"=?base64?ZWNobw==?=") == 7
    assert match_of(MCP_NAME=b"=?base64?ZWNobw?=") == 7 - room.MATCH_NAME
    assert match_of(MCP_NAME=b"=?base64?ZWNo*w==?=") == 7 - room.MATCH_NAME
    assert match_of(Mcp_Protocol_Version=b"2025-11-25") == 7 - room.MATCH_VERSION
    assert match_of(Mcp_Protocol_Version=b"") == 7 - room.MATCH_VERSION


def test_other_verbs_and_types_have_no_call(impl: Impl) -> None:
    room = impl("corridor_http")
    get, text, empty = room.HttpInbound().feed(
        b"GET /mcp?x=1 HTTP/1.1\r\nHost: a\r\nAccept: a\r\naccept: b\r\n\r\n"
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"
        b"POST / HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"
    )
    assert (get.head.verb, get.head.target, get.call, get.body) == ("GET", "/mcp?x=1", None, b"")
    assert get.head.headers["accept"] == "a, b"
    assert get.head.count("accept") == 2
    assert (text.call, text.body) == (None, b"{}")
    assert empty.call.code == -32700
    assert (empty.head.version, empty.head.keep_alive) == (10, False)


def test_chunked_bodies_are_joined(impl: Impl) -> None:
    room = impl("corridor_http")
    body = dump(CALL)
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\n" + body[:5] + b"\r\n"
    chunked += b"%X\r\n" % (len(body) - 5) + body[5:] + b"\r\n0\r\nTrailer: x\r\n\r\n"
    first, second = room.HttpInbound(routes_of(impl)).feed(chunked + post(body))
    assert first.body == body
    assert first.match == second.match == 7
    assert first.call.entry == "ECHO"


def test_a_client_that_waits_for_continue_is_seen(impl: Impl) -> None:
    room = impl("corridor_http")
    inbound = room.HttpInbound(routes_of(impl))
    body = dump(CALL)
    assert inbound.feed(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)) == []
    assert inbound.wants_continue
    assert inbound.phase == 2
    inbound.wants_continue = False
    (request,) = inbound.feed(body)
    assert request.head.expect_continue
    assert request.call.entry == "ECHO"
    assert inbound.phase == 0


@pytest.mark.parametrize("step", [1, 16, 100])
def test_a_head_that_straddles_reads_is_known_again(impl: Impl, step: int) -> None:
    room = impl("corridor_http")
    inbound = room.HttpInbound(routes_of(impl))
    data = post(dump(CALL)) * 3 + post(dump(CALL), HEAD.replace(b"localhost", b"elsewhere")) + b"GET / HTTP/1.1\r\n\r\n"
    requests = [request for at in range(0, len(data), step) for request in inbound.feed(data[at : at + step])]
    assert [request.status for request in requests] == [0, 0, 0, 0, 400]
    assert requests[0].head is requests[1].head is requests[2].head is not requests[3].head
    assert [request.match for request in requests] == [7, 7, 7, 7, 0]


def test_heads_differ_by_more_than_their_length(impl: Impl) -> None:
    room = impl("corridor_http")
    inbound = room.HttpInbound(routes_of(impl))
    for host in (b"a", b"b", b"c", b"d", b"e", b"f", b"a"):
        (request,) = inbound.feed(post(b"{}", b"POST / HTTP/1.1\r\nHost: " + host + b"\r\n"))
        assert request.head.headers == {"host": host.decode()}
        assert request.head.count("content-length") == 1


def test_a_known_head_still_meets_the_limits(impl: Impl) -> None:
    room = impl("corridor_http")
    routes = routes_of(impl)
    body = dump(CALL)
    (first,) = room.HttpInbound(routes).feed(post(body))
    assert first.status == 0
    for limits, status in (
        ({"body_bytes_max": 10}, 413),
        ({"head_bytes_max": 50}, 431),
        ({"header_count_max": 2}, 431),
    ):
        (request,) = room.HttpInbound(routes, **limits).feed(post(body))
        assert request.status == status
    inbound = room.HttpInbound(routes)
    inbound.feed(post(body))
    (request,) = inbound.feed(HEAD + b"Content-Length: 99999999999999999999\r\n\r\n")
    assert request.status == 413


def test_after_the_last_request_of_a_connection_input_is_ignored(impl: Impl) -> None:
    room = impl("corridor_http")
    inbound = room.HttpInbound(routes_of(impl))
    last = post(dump(CALL), HEAD + b"Connection: close\r\n")
    (request,) = inbound.feed(last + post(dump(CALL)))
    assert (request.status, request.head.keep_alive, request.call.entry) == (0, False, "ECHO")
    assert inbound.closed
    assert inbound.feed(post(dump(CALL))) == []


def test_a_large_body_in_many_pieces_is_put_together(impl: Impl) -> None:
    room = impl("corridor_http")
    inbound = room.HttpInbound(routes_of(impl))
    body = dump({**CALL, "params": {"name": "echo", "arguments": {"text": "x" * 300_000}}})
    data = post(body) * 2
    requests = [request for at in range(0, len(data), 65_536) for request in inbound.feed(data[at : at + 65_536])]
    assert [len(request.call.arguments["text"]) for request in requests] == [300_000] * 2
    assert (inbound.buffered, inbound.phase) == (0, 0)


def test_a_name_by_any_key_is_matched(impl: Impl) -> None:
    room = impl("corridor_http")
    routes = routes_of(impl)
    routes.set_method("tasks/get", "GET", "taskId")
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    body = '{"jsonrpc":"2.0","id":1,"method":"%s","params":{"%s":"té"}}'
    for method, key in (("tasks/get", "taskId"), ("resources\\/read", "uri")):
        text = (body % (method, key)).encode()
        for name, bits in ((b"t\xc3\xa9", 2), (b"=?base64?dMOp?=", 2), (b"=?base64?dMOq?=", 0), (b"te", 0)):
            (request,) = room.HttpInbound(routes).feed(post(text, head + b"Mcp-Name: " + name + b"\r\n"))
            assert request.match == bits
        twice = head + b"Mcp-Name: t\xc3\xa9\r\n" * 2
        assert room.HttpInbound(routes).feed(post(text, twice))[0].match == 0
        assert room.HttpInbound(routes).feed(post(text, head))[0].match == 0


def test_limits_out_of_range_are_refused(impl: Impl) -> None:
    room = impl("corridor_http")
    for limit in ("head_bytes_max", "header_count_max", "body_bytes_max", "depth_max", "batch_count_max"):
        with pytest.raises(ValueError, match=limit):
            room.HttpInbound(**{limit: 0})


def test_memory_that_runs_out_loses_no_request() -> None:
    testcapi = pytest.importorskip("_testcapi")
    room = load_core("corridor_http")
    data = b"".join(post(dump({**CALL, "id": id}), HEAD + b"X: %d\r\n" % id) for id in range(4))
    failures = 0
    _spare = [[] for _ in range(200)]  # more than the interpreter keeps back: a new list needs memory, too
    for count in range(60):
        for at in (0, 20, len(data) // 2):
            inbound = room.HttpInbound(routes_of(load_core))
            requests, rest = inbound.feed(data[:at]), data[at:]
            testcapi.set_nomemory(count, count + 1)
            try:
                late = inbound.feed(rest)
            except MemoryError:
                late = None
            finally:
                testcapi.remove_mem_hooks()
            requests += inbound.feed(b"") if late is None else late
            failures += late is None
            assert [request.call.id for request in requests] == [0, 1, 2, 3]
    assert failures > 5


def test_objects_made_by_hand_are_empty_and_harmless() -> None:
    corridor, http = load_core("corridor"), load_core("corridor_http")
    call, meta, head, request = corridor.Call(), corridor.Meta(), http.Head(), http.HttpRequest()
    for name in ("id", "id_raw", "method", "name", "meta", "message", "items", "pending", "params", "arguments", "raw"):
        assert not getattr(call, name) or name == "id_raw"
    assert (meta.raw, meta.values, meta.protocol_version) == (None, None, None)
    assert (request.head, request.call, request.body, request.match) == (None, None, b"", 0)
    with pytest.raises(TypeError):
        head.count("host")


def test_the_phase_says_where_a_connection_stands(impl: Impl) -> None:
    room = impl("corridor_http")
    inbound = room.HttpInbound()
    assert inbound.phase == 0
    inbound.feed(b"POST / HTTP/1.1\r\nHost:")
    assert inbound.phase == 1
    inbound.feed(b" a\r\nContent-Length: 2\r\n\r\n{")
    assert inbound.phase == 2
    assert len(inbound.feed(b"}")) == 1
    assert inbound.phase == 0


REFUSED = [
    (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"POST / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
    (b"POST / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
    (b"nonsense\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
]


@pytest.mark.parametrize(("data", "status"), REFUSED)
def test_a_request_that_breaks_the_rules_ends_the_connection(impl: Impl, data: bytes, status: int) -> None:
    room = impl("corridor_http")
    inbound = room.HttpInbound()
    good = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    first, bad = inbound.feed(good + data + good)
    assert (first.status, bad.status) == (0, status)
    assert bad.message
    assert bad.call is None
    assert inbound.closed
    assert inbound.buffered == 0
    assert inbound.feed(good) == []


def test_http_limits_are_kept_early_and_named(impl: Impl) -> None:
    room = impl("corridor_http")
    inbound = room.HttpInbound(head_bytes_max=200)
    found: list[Any] = []
    fed = 0
    while not found:
        found = inbound.feed(b"GET / HTTP/1.1\r\nHost: a\r\nX: " if fed == 0 else b"x" * 40)
        fed += 40
        assert fed < 400
    assert found[0].status == 431
    assert "head_bytes_max" in found[0].message
    assert inbound.closed
    (request,) = room.HttpInbound(header_count_max=3).feed(b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n")
    assert request.status == 431
    assert "header_count_max" in request.message
    (request,) = room.HttpInbound(body_bytes_max=10).feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
    assert request.status == 413
    assert "body_bytes_max" in request.message
    (request,) = room.HttpInbound(body_bytes_max=10).feed(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nxxxxxxxx\r\n8\r\n"
    )
    assert request.status == 413


def test_a_body_shorter_than_it_claims_is_not_delivered(impl: Impl) -> None:
    room = impl("corridor_http")
    inbound = room.HttpInbound(routes_of(impl))
    assert inbound.feed(HEAD + b"Content-Length: 500\r\n\r\n" + dump(CALL)) == []
    assert (inbound.phase, inbound.closed) == (2, False)


# -- Core and model in step

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
CUTS = st.one_of(st.just([]), st.just(range(4000)), st.lists(st.integers(0, 4000), max_size=12))


HTTP = st.one_of(
    LINES.map(post),
    LINES.map(lambda body: post(body, HEAD + b"X: y\r\n")),
    LINES.map(lambda body: HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    .filter(lambda data: b"\r\n0\r\n\r\n0" not in data),
    st.sampled_from([data for data, _ in REFUSED]),
    st.sampled_from([b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"\r\n", b"DELETE * HTTP/1.0\r\n\r\n"]),
    st.binary(max_size=20),
)  # fmt: skip


def compare_requests(parts: list[bytes], cuts: Iterable[int]) -> None:
    core, model = load_core("corridor_http"), load_model("corridor_http")
    data = b"".join(parts)
    limits = {"head_bytes_max": 400, "body_bytes_max": 600, "header_count_max": 8}
    found = core.HttpInbound(routes_of(load_core), **limits)
    whole = model.HttpInbound(routes_of(load_model), **limits)
    requests = [heard(request) for part in cut(data, cuts) for request in found.feed(part)]
    assert requests == [heard(request) for request in whole.feed(data)]
    assert (found.closed, found.phase) == (whole.closed, whole.phase)


@given(st.lists(HTTP, max_size=5), CUTS)
def test_requests_in_any_pieces_are_those_of_the_model(parts: list[bytes], cuts: Iterable[int]) -> None:
    compare_requests(parts, cuts)


@pytest.mark.deep
@settings(max_examples=10_000)
@given(st.lists(HTTP, max_size=5), CUTS)
def test_many_requests_in_any_pieces_are_those_of_the_model(parts: list[bytes], cuts: Iterable[int]) -> None:
    compare_requests(parts, cuts)
