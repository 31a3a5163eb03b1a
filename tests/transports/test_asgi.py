"""The ASGI application: driven by hand, mounted in Starlette with and without its lifespan, and under uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from rawpeer import (
    INITIALIZED,
    LATEST,
    Event,
    House,
    dial,
    initialize,
    legacy,
    make_house,
    modern,
    modern_post,
    parse_event,
    post,
    routing,
    text_of,
    tool,
)

from erlmcp import Context, Server


class Visit:
    """One request to an ASGI application: what it sends is in ``sent``; ``leave`` is the client going away."""

    def __init__(
        self,
        app: Any,
        method: str,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        path: str = "/mcp",
        root: str = "",
        pieces: int = 1,
    ) -> None:
        fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": root,
            "query_string": b"",
            "headers": fields,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        size = max(1, -(-len(body) // pieces))
        parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
        self._parts = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]
        self._left = asyncio.Event()
        self.reads = asyncio.Event()  # cleared: the client takes nothing
        self.reads.set()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._parts:
            return self._parts.pop(0)
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        self.sent.put_nowait(message)

    def leave(self) -> None:
        self._left.set()

    async def head(self) -> tuple[int, dict[str, str]]:
        message = await asyncio.wait_for(self.sent.get(), 10)
        assert message["type"] == "http.response.start"
        return message["status"], {name.decode(): value.decode() for name, value in message["headers"]}

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        body = b""
        while True:
            message = await asyncio.wait_for(self.sent.get(), 10)
            body += message["body"]
            if not message.get("more_body"):
                await asyncio.wait_for(self.task, 10)
                return status, headers, body

    async def event(self) -> Event:
        message = await asyncio.wait_for(self.sent.get(), 10)
        return parse_event(message["body"].decode().removesuffix("\n\n"))


HEADERS = {
    "Host": "api.example.com",
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
}


def visit(app: Any, message: Any, headers: dict[str, str] | None = None, **options: Any) -> Visit:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return Visit(app, "POST", {**HEADERS, **(headers or {})}, body, **options)


def visit_modern(app: Any, message: Any, **options: Any) -> Visit:
    return visit(app, message, routing(message), **options)


def echo(text: str) -> dict[str, Any]:
    return modern(1, "tools/call", tool("echo", text=text))


def run(main: Any) -> None:
    asyncio.run(main)


@asynccontextmanager
async def serving(house: House, **options: Any) -> AsyncIterator[Any]:
    app = house.server.asgi(**options)
    try:
        yield app
    finally:
        await app.close()


def test_a_modern_request_is_answered_and_starts_the_server_by_itself() -> None:
    async def main() -> None:
        async with serving(make_house()) as app:
            for pieces in (1, 7):
                status, headers, body = await visit_modern(app, echo("hello"), pieces=pieces).answer()
                assert (status, headers["content-type"]) == (200, "application/json")
                assert headers["content-length"] == str(len(body))
                assert text_of(json.loads(body)) == "hello"

    run(main())


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Origin": "http://evil.example.com"}, 403),
        ({"Origin": "http://api.example.com"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Accept": "text/html"}, 406),
        ({"MCP-Protocol-Version": LATEST}, 400),
        ({"Mcp-Method": "x"}, 400),
        ({"X-Long": "x" * 50_000}, 431),
        ({"Expect": "100-continue", "Transfer-Encoding": "chunked", "Connection": "close"}, 200),
    ],
)
def test_the_same_checks_hold_as_on_a_socket(change: dict[str, str], status: int) -> None:
    async def main() -> None:
        async with serving(make_house()) as app:
            message = echo("x")
            assert (await visit(app, message, {**routing(message), **change}).answer())[0] == status

    run(main())


@pytest.mark.parametrize(
    ("path", "root", "status"),
    [("/mcp", "", 200), ("/mcp/", "", 200), ("/other", "", 404), ("/api/mcp", "/api", 200), ("/api", "/api", 200),
     ("/api/", "/api", 200), ("/api/other", "/api", 404)],
)  # fmt: skip
def test_the_endpoint_is_at_its_path_or_where_it_is_mounted(path: str, root: str, status: int) -> None:
    async def main() -> None:
        async with serving(make_house()) as app:
            assert (await visit_modern(app, echo("x"), path=path, root=root).answer())[0] == status

    run(main())


def test_a_body_that_is_too_long_is_refused_before_its_end() -> None:
    async def main() -> None:
        async with serving(make_house({"body_bytes_max": 1000})) as app:
            made = visit_modern(app, echo("x" * 5000), pieces=10)
            status, _, body = await made.answer()
            assert (status, b"body_bytes_max" in body) == (413, True)
            assert (await visit_modern(app, echo("x")).answer())[0] == 200

    run(main())


def test_a_client_that_leaves_before_its_body_is_whole_is_forgotten() -> None:
    async def main() -> None:
        async with serving(make_house()) as app:
            made = visit_modern(app, echo("x"), pieces=2)
            made._parts = made._parts[:1]
            made.leave()
            await asyncio.wait_for(made.task, 10)
            assert made.sent.empty()

    run(main())


def test_a_stream_is_sent_as_it_comes() -> None:
    async def main() -> None:
        house = make_house()
        async with serving(house) as app:
            made = visit_modern(app, modern(1, "tools/call", tool("count_and_wait"), progressToken="p"))
            status, headers = await made.head()
            assert (status, headers["content-type"]) == (200, "text/event-stream")
            assert (await made.event()).json["params"]["progressToken"] == "p"
            house.go.set()
            assert text_of((await made.event()).json) == "counted and waited"
            await asyncio.wait_for(made.task, 10)

    run(main())


@pytest.mark.parametrize("name", ["wait", "count_and_wait"])
def test_a_client_that_leaves_cancels_its_modern_call(name: str) -> None:
    async def main() -> None:
        house = make_house()
        async with serving(house) as app:
            made = visit_modern(app, modern(1, "tools/call", tool(name), progressToken="p"))
            await house.begun.wait()
            made.leave()
            await asyncio.wait_for(house.cancelled.wait(), 10)
            await asyncio.wait_for(made.task, 10)

    run(main())


def test_a_client_that_does_not_read_its_stream_is_cut_off_when_the_outbox_is_full() -> None:
    async def main() -> None:
        house = make_house({"outbox_bytes_max": 100_000})

        @house.server.tool
        async def flood(ctx: Context) -> str:
            try:
                for _ in range(1000):
                    await ctx.progress(1, 2, "x" * 1000)
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                house.cancelled.set()
                raise
            return "all was sent"

        async with serving(house) as app:
            made = visit_modern(app, modern(1, "tools/call", tool("flood"), progressToken=1))
            made.reads.clear()
            await asyncio.wait_for(house.cancelled.wait(), 10)
            made.reads.set()
            await asyncio.wait_for(made.task, 10)
            assert made.sent.qsize() < 10

    run(main())


async def open_session(app: Any, capabilities: dict[str, Any] | None = None) -> dict[str, str]:
    status, headers, _ = await visit(app, initialize(capabilities=capabilities)).answer()
    assert status == 200
    mine = {"Mcp-Session-Id": headers["mcp-session-id"], "MCP-Protocol-Version": LATEST}
    assert (await visit(app, INITIALIZED, mine).answer())[0] == 202
    return mine


def test_a_legacy_session_lives_across_requests_with_streams_and_questions() -> None:
    async def main() -> None:
        house = make_house()
        async with serving(house) as app:
            mine = await open_session(app, {"elicitation": {}})
            made = visit(app, legacy(1, "tools/call", tool("name")), mine)
            await made.head()
            assert (await made.event()).data == ""
            question = (await made.event()).json
            answer = {
                "jsonrpc": "2.0",
                "id": question["id"],
                "result": {"action": "accept", "content": {"name": "Ada"}},
            }
            assert (await visit(app, answer, mine).answer())[0] == 202
            assert text_of((await made.event()).json) == "Hello, Ada!"
            await asyncio.wait_for(made.task, 10)
            reading = Visit(app, "GET", {"Host": "x", "Accept": "text/event-stream", **mine})
            assert (await reading.head())[0] == 200
            deleting = Visit(app, "DELETE", {"Host": "x", **mine})
            assert (await deleting.answer())[0] == 200
            await asyncio.wait_for(reading.task, 10)
            assert (await visit(app, legacy(1, "ping"), mine).answer())[0] == 404

    run(main())


def test_a_legacy_call_outlives_its_client() -> None:
    async def main() -> None:
        house = make_house()
        async with serving(house) as app:
            made = visit(app, legacy(1, "tools/call", tool("wait")), await open_session(app))
            await house.begun.wait()
            made.leave()
            await asyncio.wait_for(made.task, 10)
            house.go.set()
            await asyncio.wait_for(house.ended.wait(), 10)
            assert not house.cancelled.is_set()

    run(main())


def test_a_websocket_is_turned_away() -> None:
    async def main() -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        async with serving(make_house()) as app:
            await app({"type": "websocket", "path": "/mcp"}, receive, send)
        assert [message["type"] for message in sent] == ["websocket.close"]

    run(main())


# ---- the lifespan ----------------------------------------------------------------------------------------------------


def recording(log: list[str]) -> Server:
    @asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[str]:
        log.append("opened")
        yield "value"
        log.append("closed")

    server = Server("lived", lifespan=lifespan)

    @server.tool
    async def echo(text: str) -> str:
        return text

    return server


async def live(app: Any) -> tuple[asyncio.Queue[Any], asyncio.Queue[Any], asyncio.Task[None]]:
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    sent: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.ensure_future(app({"type": "lifespan"}, incoming.get, sent.put))
    return incoming, sent, task


def test_the_lifespan_of_the_host_opens_and_closes_the_server() -> None:
    async def main() -> None:
        log: list[str] = []
        app = recording(log).asgi()
        incoming, sent, task = await live(app)
        incoming.put_nowait({"type": "lifespan.startup"})
        assert (await sent.get())["type"] == "lifespan.startup.complete"
        assert log == ["opened"]
        assert (await visit_modern(app, echo("x")).answer())[0] == 200
        incoming.put_nowait({"type": "lifespan.shutdown"})
        assert (await sent.get())["type"] == "lifespan.shutdown.complete"
        await task
        assert log == ["opened", "closed"]

    run(main())


def test_a_lifespan_that_fails_is_told_to_the_host() -> None:
    async def main() -> None:
        @asynccontextmanager
        async def lifespan(server: Server) -> AsyncIterator[None]:
            raise RuntimeError("no database")
            yield

        incoming, sent, task = await live(Server("broken", lifespan=lifespan).asgi())
        incoming.put_nowait({"type": "lifespan.startup"})
        message = await sent.get()
        assert (message["type"], message["message"]) == ("lifespan.startup.failed", "no database")
        await task

    run(main())


def test_many_first_requests_open_the_server_once() -> None:
    async def main() -> None:
        log: list[str] = []
        app = recording(log).asgi()
        answers = await asyncio.gather(*[visit_modern(app, echo(str(n))).answer() for n in range(10)])
        assert [text_of(json.loads(body)) for _, _, body in answers] == [str(n) for n in range(10)]
        assert log == ["opened"]
        await app.close()
        assert log == ["opened", "closed"]

    run(main())


@pytest.mark.parametrize("with_lifespan", [True, False])
def test_it_may_be_mounted_in_starlette(with_lifespan: bool) -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def home(request: Any) -> PlainTextResponse:
        return PlainTextResponse("home")

    async def main() -> None:
        log: list[str] = []
        mounted = recording(log).asgi()

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            await mounted.started()
            yield
            await mounted.close()

        routes = [Route("/", home), Mount("/api", app=mounted)]
        app = Starlette(routes=routes, lifespan=lifespan) if with_lifespan else Starlette(routes=routes)
        incoming, sent, task = await live(app)
        incoming.put_nowait({"type": "lifespan.startup"})
        assert (await sent.get())["type"] == "lifespan.startup.complete"
        assert log == (["opened"] if with_lifespan else [])
        for path in ("/api/mcp", "/api/"):
            status, _, body = await visit_modern(app, echo("x"), path=path).answer()
            assert (status, text_of(json.loads(body))) == (200, "x")
        assert (await Visit(app, "GET", {}, path="/").answer())[2] == b"home"
        assert (await visit_modern(app, echo("x"), path="/api/other").answer())[0] == 404
        incoming.put_nowait({"type": "lifespan.shutdown"})
        await sent.get()
        await task
        if not with_lifespan:
            await mounted.close()
        assert log == ["opened", "closed"]

    run(main())


def test_it_is_served_by_uvicorn() -> None:
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra: bench)")

    async def main() -> None:
        house = make_house()
        config = uvicorn.Config(
            house.server.asgi(), host="127.0.0.1", port=0, log_level="error", lifespan="on", ws="none"
        )
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with dial(port) as peer:
            found = await peer.ask(modern_post(echo("hello")))
            assert (found.status, text_of(found.json)) == (200, "hello")
            peer.send(modern_post(modern(1, "tools/call", tool("count", steps=2), progressToken=1)))
            assert (await peer.head()).is_stream
            assert [event.json.get("method") for event in await peer.events()] == ["notifications/progress"] * 2 + [
                None
            ]
            opened = await peer.ask(post(initialize()))
            mine = {"Mcp-Session-Id": opened.headers["mcp-session-id"], "MCP-Protocol-Version": LATEST}
            assert (await peer.ask(post(legacy(1, "ping"), mine))).json["result"] == {}
        async with dial(port) as peer:
            peer.send(modern_post(modern(1, "tools/call", tool("wait"))))
            await house.begun.wait()
        await asyncio.wait_for(house.cancelled.wait(), 10)
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    run(main())
