"""The mounted endpoint: however a request ends, its handler ends with it and nothing of it stays."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from rawpeer import House, make_house, modern, tool


def scope_of(path: str = "/mcp", headers: dict[str, str] | None = None, query: bytes = b"") -> dict[str, Any]:
    found = {
        "host": "localhost",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        **(headers or {}),
    }
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in found.items()]
    return {"type": "http", "method": "POST", "path": path, "headers": pairs, "query_string": query}


class Host:
    """An ASGI server with one request."""

    def __init__(self, house: House, name: str, *, fails: bool = False, **arguments: Any) -> None:
        self.house = house
        self.sent: list[Any] = []
        self.fails = fails
        self.body = json.dumps(modern(1, "tools/call", tool(name, **arguments))).encode()
        self.headers = {"mcp-name": name}
        self.asked = 0

    async def receive(self) -> Any:
        self.asked += 1
        if self.asked == 1:
            return {"type": "http.request", "body": self.body, "more_body": False}
        await asyncio.Event().wait()

    async def send(self, message: Any) -> None:
        if self.fails:
            raise OSError("the client has left")
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])


async def nothing_left() -> None:
    """No task but this one after a few turns of the loop."""
    for _ in range(10):
        await asyncio.sleep(0)
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in rest if "_live" not in repr(task)], rest


async def test_a_request_that_the_host_cancels_cancels_its_handler() -> None:
    house = make_house()
    app = house.server.asgi()
    host = Host(house, "wait")
    task = asyncio.ensure_future(app(scope_of(headers=host.headers), host.receive, host.send))
    await house.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await house.cancelled.wait()
    await nothing_left()
    await app.close()


async def test_a_host_that_cannot_send_ends_the_handler() -> None:
    house = make_house()
    app = house.server.asgi()
    host = Host(house, "count_and_wait", fails=True)
    host.body = host.body.replace(b'"_meta": {', b'"_meta": {"progressToken": 1, ')
    with pytest.raises(OSError, match="has left"):
        await app(scope_of(headers=host.headers), host.receive, host.send)
    async with asyncio.timeout(5):
        await house.cancelled.wait()
    await nothing_left()
    await app.close()


async def test_a_request_under_way_is_ended_when_the_endpoint_closes() -> None:
    house = make_house()
    app = house.server.asgi()
    host = Host(house, "wait")
    task = asyncio.ensure_future(app(scope_of(headers=host.headers), host.receive, host.send))
    await house.begun.wait()
    await app.close()
    async with asyncio.timeout(5):
        await task
    assert host.status == 503
    assert host.sent[-1]["more_body"] is False


async def test_a_host_that_has_more_to_say_after_the_body_does_not_end_the_request() -> None:
    house = make_house()
    app = house.server.asgi()
    host = Host(house, "wait")

    async def receive() -> Any:
        return {"type": "http.request", "body": host.body if not host.sent else b"", "more_body": False}

    task = asyncio.ensure_future(app(scope_of(headers=host.headers), receive, host.send))
    await house.begun.wait()
    await asyncio.sleep(0)
    house.go.set()
    async with asyncio.timeout(5):
        await task
    assert host.status == 200
    await app.close()


@pytest.mark.parametrize(
    "options",
    [
        {"path": "/mcp HTTP/1.1\r\nauthorization: Bearer stolen\r\nx: y"},
        {"path": "/mcp\nx: y"},
        {"query": b"a\r\nx: y"},
        {"headers": {"x": "a\r\nauthorization: Bearer stolen"}},
        {"headers": {"mcp-name": "echo", "x\r\ny": "a"}},
    ],
    ids=["path", "newline", "query", "value", "name"],
)
async def test_line_ends_of_the_host_never_become_header_lines(options: dict[str, Any]) -> None:
    house = make_house()
    app = house.server.asgi()
    host = Host(house, "echo", text="x")
    options.setdefault("headers", {}).setdefault("mcp-name", "echo")
    await app(scope_of(**options), host.receive, host.send)
    assert host.status == 400
    assert not house.calls
    await app.close()
