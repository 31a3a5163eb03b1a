"""HTTP/1.1 as a connection: keep-alive, pipelining, 100-continue, versions, CORS, limits, time limits, drain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest
from rawpeer import (
    LATEST,
    HttpPeer,
    ask_once,
    dial,
    get,
    head,
    initialize,
    make_house,
    modern,
    modern_post,
    post,
    text_of,
    tool,
)

from erlmcp.server.serve import http
from erlmcp.transports import listener

Drive = Callable[[Any], None]


def echo(text: str, id: int = 1, **headers: str) -> bytes:
    return modern_post(
        modern(id, "tools/call", tool("echo", text=text)), {k.replace("_", "-"): v for k, v in headers.items()}
    )


WAIT = modern_post(modern(9, "tools/call", tool("wait")))


@pytest.fixture
def fast_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits are looked at every 20 ms, not every second."""
    monkeypatch.setattr(listener, "SWEEP_S", 0.02)


# ---- keep-alive and order --------------------------------------------------------------------------------------------


def test_many_requests_are_answered_on_one_connection(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            for number in range(20):
                found = await peer.ask(echo(f"n{number}", number))
                assert (found.status, found.json["id"], text_of(found.json)) == (200, number, f"n{number}")
                assert "connection" not in found.headers

    drive(main())


def test_pipelined_requests_are_answered_in_order_though_the_first_is_slow(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener, dial(listener.port) as peer:
            peer.send(WAIT + echo("second", 2) + post(b"{", {}) + get() + echo("last", 3))
            await house.begun.wait()
            assert house.calls == []
            house.go.set()
            assert text_of((await peer.answer()).json) == "waited"
            assert text_of((await peer.answer()).json) == "second"
            assert (await peer.answer()).code == -32700
            assert (await peer.answer()).status == 400
            assert text_of((await peer.answer()).json) == "last"

    drive(main())


def test_a_pipelined_request_waits_until_the_stream_before_it_has_ended(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener, dial(listener.port) as peer:
            peer.send(
                modern_post(modern(1, "tools/call", tool("count_and_wait"), progressToken="p")) + echo("after", 2)
            )
            assert (await peer.head()).is_stream
            first = await peer.event()
            assert first is not None
            assert first.json["method"] == "notifications/progress"
            house.go.set()
            last = await peer.event()
            assert last is not None
            assert text_of(last.json) == "counted and waited"
            assert await peer.event() is None
            assert text_of((await peer.answer()).json) == "after"

    drive(main())


def test_more_pipelined_requests_than_the_limit_are_all_answered(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"pipeline_count_max": 2})
        async with http(house.server) as listener, dial(listener.port) as peer:
            peer.send(WAIT + b"".join(echo(f"n{n}", n) for n in range(1500)))
            await house.begun.wait()
            house.go.set()
            await peer.answer()
            for number in range(1500):
                assert (await peer.answer()).json["id"] == number
            assert (await peer.ask(echo("again"))).status == 200

    drive(main())


def test_any_cut_of_the_bytes_gives_the_same_answers(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            whole = echo("one", 1) + chunked(json.dumps(modern(2, "tools/call", tool("echo", text="two"))).encode(), 7)
            for start in range(0, len(whole), 11):
                peer.send(whole[start : start + 11])
                await asyncio.sleep(0)
            assert text_of((await peer.answer()).json) == "one"
            assert text_of((await peer.answer()).json) == "two"

    drive(main())


def chunked(body: bytes, size: int, trailer: bytes = b"") -> bytes:
    message = json.loads(body)
    request = modern_post(message, {"Content-Length": None, "Transfer-Encoding": "chunked"})
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    lines = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return request.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + lines + b"0\r\n" + trailer + b"\r\n"


@pytest.mark.parametrize(("size", "trailer"), [(1, b""), (1000, b""), (5, b"X-Trailer: 1\r\n")])
def test_a_chunked_body_is_read_as_a_whole(size: int, trailer: bytes, drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            body = json.dumps(modern(1, "tools/call", tool("echo", text="in pieces"))).encode()
            assert text_of((await peer.ask(chunked(body, size, trailer))).json) == "in pieces"
            assert text_of((await peer.ask(echo("after"))).json) == "after"

    drive(main())


# ---- closing ---------------------------------------------------------------------------------------------------------


def test_connection_close_is_kept(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            for _ in range(3):
                async with dial(listener.port) as peer:
                    found = await peer.ask(echo("last", Connection="close"))
                    assert found.headers["connection"] == "close"
                    assert await peer.is_closed()

    drive(main())


def test_http_10_is_closed_unless_it_asks_for_keep_alive(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            found = await peer.ask(echo("old", Connection="keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert (found.status, found.headers["connection"]) == (200, "keep-alive")
            found = await peer.ask(echo("old").replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert (found.status, found.headers["connection"]) == (200, "close")
            assert await peer.is_closed()

    drive(main())


def test_a_stream_to_http_10_ends_with_the_connection_and_has_no_chunks(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            request = modern_post(modern(1, "tools/call", tool("count", steps=2), progressToken=1))
            peer.send(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
            found = await peer.head()
            assert found.is_stream
            assert "transfer-encoding" not in found.headers
            events = await peer.events()
            assert [event.json.get("method") for event in events] == ["notifications/progress"] * 2 + [None]

    drive(main())


def test_a_head_request_gets_the_head_alone(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            peer.send(head("HEAD", "/mcp", {"Host": "localhost"}))
            found = await peer.answer(has_body=False)
            assert (found.status, found.headers["allow"]) == (405, "POST, GET, DELETE")
            assert text_of((await peer.ask(echo("after"))).json) == "after"

    drive(main())


# ---- 100-continue ----------------------------------------------------------------------------------------------------


def parted(request: bytes) -> tuple[bytes, bytes]:
    before, _, body = request.partition(b"\r\n\r\n")
    return before + b"\r\n\r\n", body


def test_a_client_that_expects_100_continue_gets_it_before_its_body(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            before, body = parted(echo("waited for it", Expect="100-continue"))
            assert (await peer.ask(before)).status == 100
            assert text_of((await peer.ask(body)).json) == "waited for it"

    drive(main())


def test_a_client_that_sends_its_body_at_once_gets_no_100_continue(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            found = await peer.ask(echo("at once", Expect="100-continue"))
            assert (found.status, text_of(found.json)) == (200, "at once")

    drive(main())


def test_100_continue_comes_after_the_answer_that_is_under_way(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with http(house.server) as listener, dial(listener.port) as peer:
            before, body = parted(echo("second", Expect="100-continue"))
            peer.send(WAIT)
            await house.begun.wait()
            peer.send(before)
            await asyncio.sleep(0.05)
            house.go.set()
            assert text_of((await peer.answer()).json) == "waited"
            assert (await peer.answer()).status == 100
            assert text_of((await peer.ask(body)).json) == "second"

    drive(main())


# ---- CORS ------------------------------------------------------------------------------------------------------------


def test_a_preflight_from_a_page_of_this_machine_is_answered(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            origin = {"Host": "localhost", "Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST"}
            found = await ask_once(listener.port, head("OPTIONS", "/mcp", origin))
            assert found.status == 204
            assert found.headers["access-control-allow-origin"] == "http://localhost:5173"
            assert found.headers["vary"] == "Origin"
            allowed = {name.strip().lower() for name in found.headers["access-control-allow-headers"].split(",")}
            assert {"content-type", "mcp-session-id", "mcp-protocol-version", "mcp-method", "authorization"} <= allowed

    drive(main())


def test_answers_to_a_page_name_its_origin_and_expose_the_session(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house(allowed_origins=["https://app.example.com"]).server) as listener:
            headers = {"Origin": "https://app.example.com"}
            found = await ask_once(listener.port, post(initialize(), headers))
            assert found.headers["access-control-allow-origin"] == "https://app.example.com"
            assert found.headers["access-control-expose-headers"] == "Mcp-Session-Id, WWW-Authenticate"
            assert (await ask_once(listener.port, post(b"{", headers))).headers["vary"] == "Origin"

    drive(main())


def test_hosts_that_are_allowed_are_let_in() -> None:
    async def main() -> None:
        async with http(make_house(allowed_hosts=["mcp.example.com"]).server) as listener:
            for host, status in [("mcp.example.com", 200), ("mcp.example.com:443", 200), ("example.com", 421)]:
                assert (await ask_once(listener.port, echo("x", Host=host))).status == status

    asyncio.run(main())


# ---- bytes that break the rules of HTTP ------------------------------------------------------------------------------


def raw(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "", ""]).encode() + body


LINE, HOST, JSON = "POST /mcp HTTP/1.1", "Host: localhost", "Content-Type: application/json"
BROKEN = [
    ("no HTTP", b"hello there\r\n\r\n", 400),
    ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ("no Host", raw("GET /mcp HTTP/1.1"), 400),
    ("two Hosts", raw("GET /mcp HTTP/1.1", HOST, HOST), 400),
    ("a blank before the colon", raw(LINE, HOST, "Accept : x"), 400),
    ("a folded header", raw(LINE, HOST, "Accept: x", " y"), 400),
    ("a bare line feed", b"POST /mcp HTTP/1.1\nHost: localhost\n\n", 400),
    ("a negative length", raw(LINE, HOST, JSON, "Content-Length: -1"), 400),
    ("a length that is no number", raw(LINE, HOST, JSON, "Content-Length: 1e3"), 400),
    ("two lengths", raw(LINE, HOST, JSON, "Content-Length: 1", "Content-Length: 2"), 400),
    ("length and chunks", raw(LINE, HOST, JSON, "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
    ("an unknown transfer coding", raw(LINE, HOST, JSON, "Transfer-Encoding: gzip, chunked"), 501),
    ("a bad chunk size", raw(LINE, HOST, JSON, "Transfer-Encoding: chunked", body=b"xyz\r\n"), 400),
    (
        "a chunk that is longer than it says",
        raw(LINE, HOST, JSON, "Transfer-Encoding: chunked", body=b"1\r\nab\r\n"),
        400,
    ),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("an unknown expectation", raw(LINE, HOST, JSON, "Expect: the-unexpected", "Content-Length: 1"), 417),
    ("a head that is too long", raw(LINE, HOST, "X-Long: " + "x" * 70_000), 431),
    ("a head that never ends", b"POST /mcp HTTP/1.1\r\n" + b"X-More: 1\r\n" * 7_000, 431),
    ("too many headers", raw(LINE, HOST, *["X-More: 1"] * 200), 431),
    ("a target that is too long", raw("GET /" + "x" * 70_000 + " HTTP/1.1", HOST), 414),
    ("a body that is too long", raw(LINE, HOST, JSON, "Content-Length: 5000000"), 413),
    ("a body of absurd length", raw(LINE, HOST, JSON, "Content-Length: " + "9" * 30), 413),
    ("chunks that are too long", raw(LINE, HOST, JSON, "Transfer-Encoding: chunked", body=b"ffffffff\r\n"), 413),
]


@pytest.mark.parametrize(("name", "data", "status"), BROKEN, ids=[name for name, *_ in BROKEN])
def test_a_request_that_breaks_the_rules_is_refused_and_the_connection_closed(
    name: str, data: bytes, status: int
) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener, dial(listener.port) as peer:
            found = await peer.ask(data + b"GET /mcp HTTP/1.1\r\n\r\n")
            assert (found.status, found.headers["connection"]) == (status, "close"), (name, found)
            assert found.body
            assert await peer.is_closed()

    asyncio.run(main())


def test_a_refusal_names_the_limit_that_was_met() -> None:
    async def main() -> None:
        limits = {"head_bytes_max": 500, "header_count_max": 10, "body_bytes_max": 100}
        async with http(make_house(limits).server) as listener:
            for data, status, word in [
                (raw(LINE, HOST, "X: " + "x" * 600), 431, b"head_bytes_max"),
                (raw(LINE, HOST, *["X: 1"] * 20), 431, b"header_count_max"),
                (raw(LINE, HOST, JSON, "Content-Length: 101"), 413, b"body_bytes_max"),
            ]:
                found = await ask_once(listener.port, data)
                assert found.status == status
                assert word in found.body

    asyncio.run(main())


def test_a_client_that_is_still_sending_a_body_that_is_too_long_can_read_the_refusal(drive: Drive) -> None:
    def send_all_before_reading(port: int) -> int:
        client = HTTPConnection("127.0.0.1", port, timeout=10)
        client.request("POST", "/mcp", body=b"x" * 20_000_000, headers={"Content-Type": "application/json"})
        answer = client.getresponse()
        answer.read()
        client.close()
        return answer.status

    async def main() -> None:
        async with http(make_house().server) as listener:
            assert await asyncio.to_thread(send_all_before_reading, listener.port) == 413

    drive(main())


# ---- time limits -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast_sweep")
@pytest.mark.parametrize(
    ("sent", "name"),
    [(echo("x")[:40], "head_timeout_s"), (echo("x")[:-5], "body_timeout_s")],
    ids=["in the head", "in the body"],
)
def test_a_request_that_does_not_get_on_is_answered_with_408(sent: bytes, name: str, drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house({name: 0.1}).server) as listener, dial(listener.port) as peer:
            found = await peer.ask(sent)
            assert (found.status, found.headers["connection"]) == (408, "close")
            assert name.encode() in found.body
            assert await peer.is_closed()

    drive(main())


@pytest.mark.usefixtures("fast_sweep")
def test_a_client_that_drips_its_head_byte_by_byte_is_cut_off(drive: Drive) -> None:
    async def main() -> None:
        async with http(make_house({"head_timeout_s": 0.1}).server) as listener, dial(listener.port) as peer:
            async with asyncio.timeout(10):
                for byte in echo("x"):
                    peer.send(bytes([byte]))
                    await asyncio.sleep(0.01)
                    if peer.reader.at_eof() or len(peer.reader._buffer):  # type: ignore[attr-defined]
                        break
            assert (await peer.answer()).status == 408

    drive(main())


@pytest.mark.usefixtures("fast_sweep")
def test_who_was_too_slow_can_read_why_though_it_goes_on_to_send_and_nothing_of_that_is_handled(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"head_timeout_s": 0.1})
        whole = echo("x")
        async with http(house.server) as listener, dial(listener.port) as peer:
            peer.send(whole[:20])
            async with asyncio.timeout(10):
                while not peer.reader._buffer:  # type: ignore[attr-defined]
                    await asyncio.sleep(0.01)
                for _ in range(3):
                    peer.send(whole[20:])
                    await asyncio.sleep(0.01)
                assert (await peer.answer()).status == 408
                assert await peer.reader.read() == b""
            assert house.calls == []

    drive(main())


@pytest.mark.usefixtures("fast_sweep")
def test_a_connection_that_says_nothing_is_closed_after_the_head_time_and_an_idle_one_after_the_keep_alive_time(
    drive: Drive,
) -> None:
    async def main() -> None:
        limits = {"head_timeout_s": 0.1, "keepalive_timeout_s": 0.2}
        async with (
            http(make_house(limits).server) as listener,
            dial(listener.port) as silent,
            dial(listener.port) as idle,
        ):
            await idle.ask(echo("x"))
            assert await silent.is_closed()
            assert await idle.is_closed()
            assert not listener.connections

    drive(main())


@pytest.mark.usefixtures("fast_sweep")
def test_a_call_under_way_is_not_cut_off_by_the_keep_alive_time(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"head_timeout_s": 0.05, "body_timeout_s": 0.05, "keepalive_timeout_s": 0.05})
        async with http(house.server) as listener, dial(listener.port) as peer:
            peer.send(WAIT)
            await house.begun.wait()
            await asyncio.sleep(0.2)
            house.go.set()
            assert text_of((await peer.answer()).json) == "waited"

    drive(main())


@pytest.mark.usefixtures("fast_sweep")
def test_a_client_that_never_reads_its_answer_is_cut_off(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"keepalive_timeout_s": 0.1})
        async with http(house.server) as listener, dial(listener.port) as peer:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            peer.send(modern_post(modern(1, "tools/call", tool("big", size=30_000_000))))
            async with asyncio.timeout(10):
                while not listener.connections:
                    await asyncio.sleep(0.01)
                while listener.connections:
                    await asyncio.sleep(0.01)
            peer.abort()

    drive(main())


# ---- the number of connections, and the end --------------------------------------------------------------------------


def test_a_connection_too_many_is_told_so_and_the_others_are_served(drive: Drive) -> None:
    async def main() -> None:
        async with (
            http(make_house({"connection_count_max": 2}).server) as listener,
            dial(listener.port) as one,
            dial(listener.port) as two,
        ):
            assert (await one.ask(echo("1"))).status == 200
            assert (await two.ask(echo("2"))).status == 200
            async with dial(listener.port) as three:
                found = await three.answer()
                assert (found.status, found.headers["retry-after"]) == (503, "1")
                assert b"connection_count_max" in found.body
                assert await three.is_closed()
            assert (await one.ask(echo("1"))).status == 200
            await two.close()
            async with asyncio.timeout(10):
                while len(listener.connections) > 1:
                    await asyncio.sleep(0.001)
            assert (await ask_once(listener.port, echo("3"))).status == 200

    drive(main())


def test_leaving_the_context_answers_the_call_under_way_ends_streams_and_closes_idle_connections(drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        peers: list[HttpPeer] = []
        serving = http(house.server)
        listener = await serving.__aenter__()
        port = listener.port
        async with (
            dial(listener.port) as busy,
            dial(listener.port) as idle,
            dial(listener.port) as reading,
            dial(listener.port) as listening,
        ):
            peers += [busy, idle, reading, listening]
            session = (await idle.ask(post(initialize()))).headers["mcp-session-id"]
            reading.send(get({"Mcp-Session-Id": session, "MCP-Protocol-Version": LATEST}))
            assert (await reading.head()).is_stream
            listening.send(
                modern_post(modern("L", "subscriptions/listen", {"notifications": {"toolsListChanged": True}}))
            )
            assert (await listening.head()).is_stream
            busy.send(WAIT)
            await house.begun.wait()
            closing = asyncio.ensure_future(serving.__aexit__(None, None, None))
            assert await idle.is_closed()
            assert [event.data for event in await reading.events()] == [""]
            events = await listening.events()
            assert events[0].json["method"] == "notifications/subscriptions/acknowledged"
            assert events[1].json["result"]["resultType"] == "complete"
            with pytest.raises(OSError):
                await ask_once(port, echo("too late"))
            house.go.set()
            found = await busy.answer()
            assert text_of(found.json) == "waited"
            assert await busy.is_closed()
            await closing
        assert not listener.connections

    drive(main())


def test_a_call_that_does_not_end_is_cut_off_after_the_drain_time(drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"drain_timeout_s": 0.05})
        serving = http(house.server)
        listener = await serving.__aenter__()
        async with dial(listener.port) as peer:
            peer.send(WAIT)
            await house.begun.wait()
            await serving.__aexit__(None, None, None)
            assert await peer.is_closed()
        assert house.cancelled.is_set()

    drive(main())


def test_http_is_served_on_a_unix_socket_too(tmp_path: Any, drive: Drive) -> None:
    path = str(tmp_path / "s")

    async def main() -> None:
        async with http(make_house().server, None, unix=path):
            assert text_of((await ask_once(path, echo("by file"))).json) == "by file"

    drive(main())
    assert not (tmp_path / "s").exists()
