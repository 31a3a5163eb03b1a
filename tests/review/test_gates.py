"""Two listeners of one server: what one of them lets in says nothing about the other."""

from __future__ import annotations

from typing import Any

import pytest
from rawpeer import ask_once, dial, initialize, make_house, modern, modern_post, post, text_of, tool

from erlmcp.server.serve import http

EVIL = {"Host": "evil.example.com"}


async def ask_asgi(app: Any, headers: dict[str, str], body: bytes, path: str = "/mcp") -> int:
    """The status of a POST."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": pairs, "query_string": b""}
    await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize("message", [modern(1, "tools/call", tool("echo", text="x")), initialize()], ids=["new", "old"])
async def test_a_host_that_one_listener_lets_in_is_refused_by_the_one_that_does_not(message: Any) -> None:
    house = make_house()
    bytes_ = modern_post(message, EVIL) if message["method"] == "tools/call" else post(message, EVIL)
    async with http(house.server, "127.0.0.1") as guarded, http(house.server, "0.0.0.0") as open_to_all:
        for _ in range(2):  # The second is answered from what was remembered of the first.
            assert (await ask_once(open_to_all.port, bytes_)).status == 200
            assert (await ask_once(guarded.port, bytes_)).status == 421
        async with dial(guarded.port) as peer:
            assert (await peer.ask(bytes_)).status == 421


async def test_pipelined_calls_are_judged_by_the_listener_that_they_came_to() -> None:
    house = make_house()
    call = modern_post(modern(1, "tools/call", tool("echo", text="x")), EVIL)
    async with http(house.server, "0.0.0.0") as open_to_all, http(house.server, "127.0.0.1") as guarded:
        async with dial(open_to_all.port) as peer:
            peer.send(call * 3)
            assert [(await peer.answer()).status for _ in range(3)] == [200] * 3
        house.calls.clear()
        async with dial(guarded.port) as peer:
            peer.send(call * 3)
            assert [(await peer.answer()).status for _ in range(3)] == [421] * 3
        assert not house.calls


async def test_each_listener_has_its_own_path() -> None:
    house = make_house()
    message = modern(1, "tools/call", tool("echo", text="x"))
    async with http(house.server, path="/a") as a, http(house.server, path="/b") as b:
        at_a = modern_post(message).replace(b"POST /mcp ", b"POST /a ")
        for _ in range(2):
            assert (await ask_once(b.port, at_a)).status == 404
            assert text_of((await ask_once(a.port, at_a)).json) == "x"


async def test_what_the_mounted_endpoint_lets_in_is_refused_by_the_listener_on_loopback() -> None:
    house = make_house()
    app = house.server.asgi()
    message = modern(1, "tools/call", tool("echo", text="x"))
    bytes_ = modern_post(message, EVIL)
    head, _, body = bytes_.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    headers.pop("Content-Length")
    lines = [b"%b: %b" % (name.lower().encode(), value.encode()) for name, value in headers.items()]
    same = b"\r\n".join([b"POST /mcp HTTP/1.1", *lines, b"content-length: %d" % len(body), b"", body])
    async with http(house.server) as guarded:
        assert await ask_asgi(app, headers, body) == 200
        assert (await ask_once(guarded.port, same)).status == 421
        assert await ask_asgi(app, headers, body) == 200
        await app.close()
