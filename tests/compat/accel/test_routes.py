"""Routes of an app's own beside our endpoint: the same requests to the SDK's own application and to our listener."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import pytest
from guardedapps import fast_app, our_client, sdk_app, sdk_verifier, shown, stock_client
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from test_over_http import modern

from erlmcp import ConfigurationError, accelerate
from erlmcp.compat.accel import route
from erlmcp.compat.accel.route import Answer, lines_of
from erlmcp.limits import Limits
from erlmcp.server.serve import http

pytestmark = pytest.mark.filterwarnings("ignore")
FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}
ASKED: list[tuple[str, str, dict[str, str], bytes | None]] = [
    ("GET", "/items/a%20b?q=1&q=%C3%A9", {}, None),
    ("HEAD", "/items/a", {}, None),
    ("POST", "/items/a", JSON, b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'),
    ("POST", "/items/a", JSON, b"no json at all {"),
    ("POST", "/items/a", JSON, b'{"jsonrpc": "2.0", "id": 1, "result": {}}'),
    ("POST", "/items/a", {"content-type": "application/octet-stream"}, bytes(range(256))),
    ("POST", "/items/a", {}, b""),
    ("PUT", "/items/a", {}, b"x"),
    ("DELETE", "/items/a", {}, None),
    ("OPTIONS", "/items/a", {}, None),
    ("POST", "/form", FORM, b"a=1&b=two"),
    ("GET", "/form", {}, None),
    ("GET", "/items/a/b", {}, None),
    ("GET", "/items/a/", {}, None),
    ("GET", "/files/some/where/deep", {}, None),
    ("HEAD", "/files/some", {}, None),
    ("PUT", "/files/some", JSON, b'{"a": [1, {"b": null}]}'),
    ("DELETE", "/files/some", {}, None),
    ("PATCH", "/files/some", {}, b"x"),
    ("GET", "/breaks", {}, None),
    ("GET", "/nowhere", {}, None),
    ("POST", "/nowhere", JSON, b"{}"),
]


@pytest.fixture(autouse=True)
def no_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERLMCP_ACCEL", raising=False)


@pytest.fixture
def quiet() -> Any:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Watched(StreamingResponse):
    """A stream that says when it has ended, in whatever way."""

    def __init__(self, parts: AsyncIterator[bytes], ended: asyncio.Event) -> None:
        super().__init__(parts)
        self.ended = ended

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.ended.set()


async def answers(client: httpx.AsyncClient) -> list[Any]:
    found = []
    for verb, path, headers, body in ASKED:
        for _ in range(2):  # the second time its head is known
            answer = await client.request(verb, path, headers=headers, content=body)
            found.append((verb, path, shown(answer)))
    return found


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("make", [sdk_app, fast_app, sdk_verifier])
async def test_routes_are_answered_as_by_its_own_server(make: Any) -> None:
    async with stock_client(make()) as client:
        stock = await answers(client)
    async with our_client(make()) as client:
        ours = await answers(client)
    for theirs, mine in zip(stock, ours, strict=True):
        if theirs[2][1].get("content-length") is None or theirs[2][0] == 204:
            mine[2][1].pop("content-length", None)  # of a HEAD, or of nothing: the host's business
            theirs[2][1].pop("content-length", None)
        assert mine == theirs
    assert {each[2][0] for each in ours} == {200, 201, 203, 204, 207, 307, 404, 405, 500}


async def test_the_endpoint_is_as_fast_beside_routes_as_without() -> None:
    """Nothing but the first request with a head is looked at: the compiled way takes the next."""
    app = sdk_app()
    async with our_client(app) as client:
        body, headers = modern("tools/call", {"name": "echo", "arguments": {"text": "hi"}}, 1)
        for _ in range(3):
            answer = await client.post("/mcp", json=body, headers=headers)
            assert answer.json()["result"]["content"][0]["text"] == "hi"


async def test_a_route_for_everything_takes_neither_the_endpoint_nor_what_stands_beside_it_unless_it_is_the_same() -> (
    None
):
    app = sdk_app()

    @app.custom_route("/metrics", methods=["GET"])
    async def own(request: Any) -> Any:
        return PlainTextResponse("own")

    async with our_client(app) as client:
        assert (await client.get("/metrics")).text == "own"
        assert (await client.get("/health/live")).json() == {"status": "alive"}

    app = sdk_app()

    @app.custom_route("/{path:path}", methods=["GET", "POST", "DELETE"])
    async def all_of_it(request: Any) -> Any:
        return PlainTextResponse("taken")

    async with our_client(app) as client:
        body, headers = modern("tools/call", {"name": "echo", "arguments": {"text": "hi"}}, 1)
        for path in ("/mcp", "/mcp/", "/mcp?x=1"):
            assert "result" in (await client.post(path, json=body, headers=headers)).json(), path
        assert (await client.post("/%6dcp", json=body, headers=headers)).status_code == 404
        assert (await client.get("/mcp", headers={"accept": "text/event-stream"})).status_code == 400
        assert (await client.get("/else")).text == "taken"
        assert (await client.get("/health/live")).text == "taken"


async def test_a_foreign_host_reaches_no_route_and_a_foreign_origin_none_of_the_authors() -> None:
    async with our_client(sdk_verifier()) as client:
        assert (await client.get("/items/a", headers={"host": "evil.example"})).status_code == 421
        assert (await client.get("/items/a", headers={"origin": "http://evil.example"})).status_code == 403
        assert (await client.get("/items/a", headers={"origin": "http://127.0.0.1:9"})).status_code == 207
        metadata = "/.well-known/oauth-protected-resource/mcp"
        told = await client.get(metadata, headers={"origin": "https://pages.example"})
        assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, "*")
        assert (await client.get(metadata, headers={"host": "evil.example"})).status_code == 421


async def test_a_mounted_application_has_its_files(tmp_path: Any) -> None:
    data = bytes(range(256)) * 8192
    (tmp_path / "large.bin").write_bytes(data)
    (tmp_path / "small.txt").write_text("small")
    app = fast_app()
    app._additional_http_routes.append(Mount("/static", StaticFiles(directory=tmp_path)))
    async with our_client(app) as client:
        found = await client.get("/static/large.bin")
        assert (found.status_code, found.content, found.headers["content-type"]) == (
            200,
            data,
            "application/octet-stream",
        )
        head = await client.head("/static/large.bin")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(data)))
        part = await client.get("/static/large.bin", headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, data[10:20])
        known = (await client.get("/static/small.txt")).headers["etag"]
        same = await client.get("/static/small.txt", headers={"if-none-match": known})
        assert (same.status_code, same.content) == (304, b"")
        assert (await client.get("/static/small.txt")).text == "small"
        assert (await client.get("/static/%2e%2e/secret")).status_code == 404


async def test_an_answer_leaves_as_it_is_made() -> None:
    app, go = sdk_app(), asyncio.Event()

    @app.custom_route("/slow", methods=["GET"])
    async def slow(request: Any) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            yield b""
            await go.wait()
            yield b"second"

        return StreamingResponse(parts(), media_type="text/event-stream")

    async with our_client(app) as client, client.stream("GET", "/slow") as answer:
        parts = answer.aiter_raw()
        assert await asyncio.wait_for(anext(parts), 10) == b"first"
        go.set()
        assert b"".join([part async for part in parts]) == b"second"


async def test_who_leaves_is_noticed_and_what_it_asked_for_goes_on() -> None:
    app, came, left, done = sdk_app(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.custom_route("/long", methods=["POST"])
    async def long(request: Any) -> Any:
        assert await request.body() == b"body"
        came.set()
        assert (await request.receive())["type"] == "http.disconnect"
        left.set()
        return PlainTextResponse("to nobody")

    @app.custom_route("/stream", methods=["GET"])
    async def stream(request: Any) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 100
                await asyncio.sleep(0)

        return Watched(parts(), done)

    async with our_client(app) as client:
        asking = asyncio.create_task(client.post("/long", content=b"body"))
        await asyncio.wait_for(came.wait(), 10)
        asking.cancel()
        await asyncio.wait_for(left.wait(), 10)
        async with client.stream("GET", "/stream") as answer:
            await anext(answer.aiter_raw())
        await asyncio.wait_for(done.wait(), 10)
        assert (await client.get("/items/a")).status_code == 207


async def test_an_application_waits_for_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "AHEAD_BYTES", 1 << 16)
    app, made, part, waiting = sdk_app(), [0], b"x" * (1 << 16), asyncio.Event()
    leave_room = Answer._leave_room

    async def told(answer: Answer) -> None:
        if answer.reply.unsent_bytes > route.AHEAD_BYTES:
            waiting.set()
        await leave_room(answer)

    monkeypatch.setattr(Answer, "_leave_room", told)

    @app.custom_route("/large", methods=["GET"])
    async def large(request: Any) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(1000):
                made[0] += 1
                yield part

        return StreamingResponse(parts())

    limits = Limits(outbox_bytes_max=1 << 20)
    async with http(accelerate(app, limits=limits), port=0) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1 << 16)
        writer.write(b"GET /large HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert b"200" in await reader.readline()
        await asyncio.wait_for(waiting.wait(), 20)
        assert made[0] < 1000
        count = 0
        async with asyncio.timeout(30):
            while not (data := await reader.read(1 << 20)).endswith(b"0\r\n\r\n"):
                count += data.count(b"x")
            count += data.count(b"x")
        assert count == 1000 * len(part)
        writer.close()


async def test_a_client_that_never_reads_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(route, "AHEAD_BYTES", 1 << 16)
    app, ended = sdk_app(), asyncio.Event()

    @app.custom_route("/large", methods=["GET"])
    async def large(request: Any) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * (1 << 16)

        return Watched(parts(), ended)

    limits = Limits(outbox_timeout_s=0.1, outbox_bytes_max=1 << 24)
    async with http(accelerate(app, limits=limits), port=0) as listener:
        _reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1 << 10)
        writer.write(b"GET /large HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await asyncio.wait_for(ended.wait(), 20)
        writer.close()
    assert "outbox_timeout_s=0.1 passed" in caplog.text


async def test_a_stream_that_breaks_is_not_taken_for_a_whole_one(caplog: pytest.LogCaptureFixture) -> None:
    app = sdk_app()

    @app.custom_route("/half", methods=["GET"])
    async def half(request: Any) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            yield b"half"
            raise ValueError("no more")

        return StreamingResponse(parts())

    async with our_client(app) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/half")
        assert (await client.get("/items/a")).status_code == 207
    assert "the route /half of the app raised" in caplog.text


async def test_an_application_that_says_nothing_or_breaks_a_header_is_an_error() -> None:
    app = sdk_app()

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    class Splitting(Response):
        def init_headers(self, headers: Any = None) -> None:
            super().init_headers(headers)
            self.raw_headers.append((b"x-own", b"a\r\nset-cookie: b=c"))

    app._custom_starlette_routes.append(Mount("/nothing", nothing))
    app._custom_starlette_routes.append(Route("/split", lambda request: Splitting("x")))
    async with our_client(app) as client:
        assert (await client.get("/nothing/")).status_code == 500
        split = await client.get("/split")
        assert (split.status_code, "set-cookie" in split.headers) == (500, False)
        assert (await client.get("/items/a")).status_code == 207
    assert lines_of([(b"a", b"b"), (b"date", b"now")]) == b"a: b\r\n"


async def test_what_is_to_be_done_after_an_answer_is_done_and_holds_nobody_up() -> None:
    app, go, done = sdk_app(), asyncio.Event(), asyncio.Event()

    async def later() -> None:
        await go.wait()
        done.set()

    @app.custom_route("/later", methods=["GET"])
    async def route_of_it(request: Any) -> Any:
        return PlainTextResponse("soon", background=BackgroundTask(later))

    async with our_client(app) as client:
        assert (await client.get("/later")).text == "soon"
        assert (await client.get("/items/a")).status_code == 207  # on the same connection
        go.set()
        await asyncio.wait_for(done.wait(), 10)


async def test_a_server_that_stops_ends_what_its_routes_wait_for() -> None:
    app, came, ended = sdk_app(), asyncio.Event(), asyncio.Event()

    @app.custom_route("/waits", methods=["GET"])
    async def waits(request: Any) -> Any:
        came.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with our_client(app, limits=Limits(drain_timeout_s=0.05)) as client:
        asking = asyncio.create_task(client.get("/waits"))
        await asyncio.wait_for(came.wait(), 10)
        asking.cancel()
    await asyncio.wait_for(ended.wait(), 10)


async def test_a_body_that_stops_on_its_way_reaches_no_route() -> None:
    app, seen = sdk_app(), []

    @app.custom_route("/upload", methods=["POST"])
    async def upload(request: Any) -> Any:
        try:
            seen.append(await request.body())
        except ClientDisconnect:
            seen.append(None)
        return PlainTextResponse("ok")

    async with http(accelerate(app), port=0) as listener:
        _reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"POST /upload HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"POST /upload HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"4\r\nhalf\r\n3\r\n it\r\n0\r\n\r\n")
        assert b"200" in await asyncio.wait_for(reader.readline(), 10)
        writer.close()
    assert seen == [b"half it"]


async def test_routes_are_served_over_http2_and_by_an_asgi_host() -> None:
    pytest.importorskip("h2")
    app = sdk_verifier()
    async with http(accelerate(app), port=0, http2=True) as listener:
        base = f"http://127.0.0.1:{listener.port}"
        async with httpx.AsyncClient(http1=False, http2=True, base_url=base) as client:
            alive = await client.head("/health/live")  # with the length of a body that is not there
            assert (alive.status_code, alive.headers["content-length"], alive.content) == (200, "18", b"")
            over_http2 = [shown(await client.request(verb, path, content=body)) for verb, path, body in SOME]
            body, headers = modern("tools/call", {"name": "who", "arguments": {}}, 1)
            found = await client.post("/mcp", json=body, headers={**headers, "authorization": "Bearer slow"})
            assert found.json()["result"]["content"][0]["text"] == "me/ann/use more"
    asgi = accelerate(sdk_verifier()).asgi()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url=base) as client:
        by_host = [shown(await client.request(verb, path, content=body)) for verb, path, body in SOME]
        found = await client.post("/mcp", json=body, headers={**headers, "authorization": "Bearer slow"})
        assert found.json()["result"]["content"][0]["text"] == "me/ann/use more"
        assert (await client.post("/mcp", json=body, headers=headers)).status_code == 401
    await asgi.close()
    assert over_http2 == by_host
    assert [each[0] for each in by_host] == [207, 207, 203, 204, 405, 404]


async def test_an_app_that_is_mounted_knows_where() -> None:
    inner = accelerate(sdk_verifier()).asgi()
    outer = Starlette(routes=[Mount("/api", app=inner)])
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="https://outside.example") as client:
        found = await client.get("/api/items/a?b=c")
        assert (found.status_code, found.json()["url"]) == (207, "https://outside.example/api/items/a?b=c")
        moved = await client.get("/api/items/a/")
        assert (moved.status_code, moved.headers["location"]) == (307, "https://outside.example/api/items/a")
        body, headers = modern("tools/call", {"name": "who", "arguments": {}}, 1)
        asked = await client.post("/api/mcp", json=body, headers={**headers, "authorization": "Bearer good"})
        assert asked.json()["result"]["content"][0]["text"] == "me/ann/use more"
        assert (await client.post("/api/mcp", json=body, headers=headers)).status_code == 401
        assert (await client.post("/api", json=body, headers=headers)).status_code in (307, 401)
    await inner.close()


SOME: list[tuple[str, str, bytes | None]] = [
    ("POST", "/items/a?b=c", b"body"),
    ("HEAD", "/items/a", None),
    ("GET", "/files/a/b/c", None),
    ("DELETE", "/files/a", None),
    ("PUT", "/items/a", b"x"),
    ("GET", "/nowhere", None),
]


def test_an_app_with_a_websocket_keeps_its_own_server() -> None:
    async def talk(websocket: Any) -> None:
        raise NotImplementedError

    app = fast_app()
    app._additional_http_routes.append(Mount("/deep", routes=[WebSocketRoute("/talk", talk)]))
    server = accelerate(app)
    assert "its route /talk is a WebSocket" in server.adapter.why_stock_http()
    with pytest.raises(ConfigurationError, match="WebSocket"):
        server.asgi()
