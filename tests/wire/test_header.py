"""What an HTTP request head says: who may speak, where to, and in which revision."""

from __future__ import annotations

from typing import Any

import pytest

from erlmcp.wire.header import Admitted, Gate, Verdict, credential_of, judge_head, split_host

LOCAL = Gate("/mcp", True)
OPEN = Gate("/mcp", False)
JSON = {"host": "localhost:3000", "content-type": "application/json", "accept": "application/json, text/event-stream"}


def judge(verb: str = "POST", target: str = "/mcp", gate: Gate = LOCAL, counts: Any = None, **headers: Any) -> Any:
    found = dict(JSON)
    for name, value in headers.items():
        found[name.replace("_", "-")] = value
    return judge_head(verb, target, {k: v for k, v in found.items() if v is not None}, counts or {}, gate)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:80", "localhost"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ],
)
def test_a_host_is_told_from_its_port(host: str, name: str) -> None:
    assert split_host(host) == name


@pytest.mark.parametrize("host", ["localhost", "localhost:3000", "127.0.0.1:80", "[::1]:3000", "Localhost:1", None])
def test_loopback_names_are_let_in_where_the_endpoint_is_local(host: str | None) -> None:
    assert judge(host=host).status == 0


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.com", "127.0.0.1.nip.io", "192.168.0.7", ""])
def test_other_names_are_misdirected_where_the_endpoint_is_local(host: str) -> None:
    found = judge(host=host)
    assert found.status == 421
    assert "allowed_hosts" in found.reason


def test_hosts_may_be_added_or_all_let_in() -> None:
    for hosts, host in [(("a.org",), "a.org:80"), (("a.org:80",), "a.org:80"), (("*",), "evil.com")]:
        assert judge(gate=Gate("/mcp", True, hosts=hosts), host=host).status == 0
    assert judge(gate=Gate("/mcp", True, hosts=("a.org:80",)), host="a.org:81").status == 421
    assert judge(gate=OPEN, host="anything.org").status == 0
    assert judge(gate=Gate("/mcp", False, hosts=("a.org",)), host="b.org").status == 421
    assert judge(gate=Gate("/mcp", False, hosts=("a.org",)), host="localhost").status == 421


@pytest.mark.parametrize(
    ("gate", "host", "origin", "admitted"),
    [
        (LOCAL, "localhost:3000", "http://localhost:5173", True),
        (LOCAL, "localhost:3000", "http://[::1]:5173", True),
        (LOCAL, "localhost:3000", "http://evil.example.com", False),
        (LOCAL, "localhost:3000", "http://localhost.evil.com", False),
        (LOCAL, "localhost:3000", "null", False),
        (LOCAL, "localhost:3000", "", False),
        (OPEN, "a.org", "https://a.org", True),
        (OPEN, "a.org", "https://b.org", False),
        (OPEN, "a.org:81", "https://a.org", False),
        (Gate("/mcp", True, origins=("https://b.org",)), "localhost", "https://b.org", True),
        (Gate("/mcp", True, origins=("*",)), "localhost", "https://c.org", True),
    ],
)
def test_an_origin_must_be_known(gate: Gate, host: str, origin: str, admitted: bool) -> None:
    found = judge(gate=gate, host=host, origin=origin)
    assert found.status == (0 if admitted else 403)
    assert (b"Access-Control-Allow-Origin: " + origin.encode() in found.extra) is admitted


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/mcp", 0),
        ("/mcp/", 0),
        ("/mcp?x=1", 0),
        ("http://localhost:3000/mcp", 0),
        ("/", 404),
        ("/mcpx", 404),
        ("/mcp/x", 404),
        ("*", 404),
    ],
)
def test_the_endpoint_has_one_path(target: str, status: int) -> None:
    assert judge(target=target).status == status


@pytest.mark.parametrize(
    ("verb", "version", "status"),
    [
        ("POST", None, 0),
        ("POST", "2026-07-28", 0),
        ("GET", None, 0),
        ("GET", "2025-06-18", 0),
        ("GET", "2026-07-28", 405),
        ("DELETE", "2025-06-18", 0),
        ("DELETE", "2026-07-28", 405),
        ("PUT", None, 405),
        ("HEAD", None, 405),
        ("PATCH", "2026-07-28", 405),
        ("OPTIONS", None, 405),
    ],
)
def test_verbs_belong_to_eras(verb: str, version: str | None, status: int) -> None:
    found = judge(verb, mcp_protocol_version=version)
    assert found.status == status
    if status == 405:
        assert b"Allow: POST" in found.extra


def test_a_preflight_is_answered_for_a_known_origin() -> None:
    found = judge("OPTIONS", origin="http://localhost:1")
    assert found.status == 204
    assert b"Access-Control-Allow-Methods" in found.extra
    assert judge("OPTIONS", origin="http://evil.org").status == 403


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 0),
        ("Application/JSON; charset=utf-8", 0),
        ("text/plain", 415),
        ("application/jsonx", 415),
        ("", 415),
        (None, 415),
    ],
)
def test_a_post_carries_json(content_type: str | None, status: int) -> None:
    assert judge(content_type=content_type).status == status
    assert judge("GET", content_type=content_type).status == 0


def test_a_compressed_body_is_not_supported() -> None:
    assert judge(content_encoding="gzip").status == 415
    assert judge(content_encoding="Identity").status == 0


@pytest.mark.parametrize(
    ("accept", "json", "stream", "post", "get"),
    [
        (None, True, True, 0, 0),
        ("*/*", True, True, 0, 0),
        ("application/json", True, False, 0, 406),
        ("text/event-stream", False, True, 0, 0),
        ("text/*;q=0.5, application/*", True, True, 0, 0),
        ("image/png", False, False, 406, 406),
        ("", False, False, 406, 406),
    ],
)
def test_accept_says_how_the_answer_may_come(accept: str | None, json: bool, stream: bool, post: int, get: int) -> None:
    found = judge(accept=accept)
    assert found.status == post
    assert judge("GET", accept=accept).status == get
    if not post:
        assert (found.accepts_json, found.accepts_stream) == (json, stream)


@pytest.mark.parametrize(
    ("version", "modern", "unknown"),
    [(None, False, False), ("2026-07-28", True, False), ("2025-03-26", False, False), ("1999-01-01", False, True)],
)
def test_the_version_header_says_the_era(version: str | None, modern: bool, unknown: bool) -> None:
    found = judge(mcp_protocol_version=version, mcp_session_id="abc", last_event_id="s1-2", authorization="Bearer x")
    assert (found.version, found.modern, found.unknown_version) == (version, modern, unknown)
    assert (found.session_id, found.last_event_id, found.credential) == ("abc", "s1-2", "Bearer x")
    assert judge().credential == ""


@pytest.mark.parametrize("name", ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id"])
def test_a_routing_header_that_came_twice_is_told(name: str) -> None:
    found = judge(counts={name: 2}, mcp_protocol_version="2026-07-28")
    assert (found.doubled, found.quick) == (name, False)
    assert judge(counts={name: 1}).doubled is None


def test_who_asks_is_the_caller_where_it_is_known_and_else_what_it_showed() -> None:
    shown = {"authorization": "Bearer one", "x-api-key": "two", "host": "h"}
    assert credential_of(shown) == "Bearer one"
    assert credential_of({"x-api-key": "two"}) == "two"
    assert credential_of({"host": "h"}) == ""
    known = Admitted(shown, "alice", principal=7)
    assert (credential_of(known), known.principal) == ("alice", 7)
    assert Verdict(headers=known).credential == "alice"
    assert credential_of(Admitted({"authorization": "Bearer one"}, "", None)) == ""


def test_the_headers_of_a_known_caller_are_read_as_any_and_not_changed() -> None:
    found: Any = Admitted({"host": "h", "accept": "*/*"}, "alice", None)
    assert dict(found) == {"host": "h", "accept": "*/*"}
    assert (found["host"], found.get("none"), found.get("none", "x"), len(found)) == ("h", None, "x", 2)
    assert "accept" in found
    with pytest.raises(TypeError):
        found["host"] = "other"
