"""Apps with auth, over HTTP: what the SDK's own server answers and what our listener answers, side by side."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx2 as httpx
import pytest
from guardedapps import (
    APPS,
    BASE,
    OTHER_KEYS,
    TOKENS,
    Verifier,
    fast_static,
    jwt_of,
    messages,
    our_client,
    sdk_app,
    sdk_verifier,
    shown,
    stock_client,
)
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.settings import AuthSettings
from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult, NotificationParams
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from test_over_http import BASE as HEADERS
from test_over_http import modern

from erlmcp import ConfigurationError, accelerate, core
from erlmcp.compat.accel import tested
from erlmcp.limits import Limits
from erlmcp.runtime.endpoint import Endpoint
from erlmcp.server.serve import http

pytestmark = pytest.mark.filterwarnings("ignore")
STATIC = ("sdk_verifier", "sdk_resource", "fast_static", "fast_remote", "fast_multi")
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("ERLMCP_ACCEL", raising=False)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


async def call(client: httpx.AsyncClient, tool: str, credential: dict[str, str], **arguments: Any) -> httpx.Response:
    body, headers = modern("tools/call", {"name": tool, "arguments": arguments}, 1)
    return await client.post("/mcp", json=body, headers={**headers, **credential})


def said(answer: httpx.Response) -> str:
    return str(messages(answer)[-1]["result"]["content"][0]["text"])


CREDENTIALS: list[dict[str, str]] = [
    {},
    *(bearer(each) for each in ("good", "again", "other", "poor", "old", "wrong", "slow", "broken", "a b")),
    {"authorization": "bearer good"},
    {"authorization": "Bearer"},
    {"authorization": "Basic Z29vZA=="},
    {"authorization": "good"},
    {"x-api-key": "good"},
]


async def answers_to_credentials(client: httpx.AsyncClient, credentials: list[dict[str, str]]) -> list[Any]:
    found: list[Any] = []
    for credential in credentials:
        for tool in ("echo", "who", "seen"):
            answer = await call(client, tool, credential, **({"text": "hi"} if tool == "echo" else {}))
            found.append((credential, tool, shown(answer) if answer.status_code != 200 else messages(answer)))
        body, headers = modern("resources/read", {"uri": "who://am-i"}, 2)
        answer = await client.post("/mcp", json=body, headers={**headers, **credential})
        found.append((credential, "resource", shown(answer) if answer.status_code != 200 else messages(answer)))
        for verb in ("GET", "DELETE"):
            answer = await client.request(verb, "/mcp", headers={**credential, "accept": "text/event-stream"})
            if answer.status_code in (401, 403):  # who is let in is told what is wrong in our words
                found.append((credential, verb, shown(answer)))
    return found


@pytest.mark.parametrize("level", ["auto", "l1"])
@pytest.mark.parametrize("name", STATIC)
async def test_each_credential_is_answered_as_by_its_own_server(name: str, level: str) -> None:
    async with stock_client(APPS[name]()) as client:
        stock = await answers_to_credentials(client, CREDENTIALS)
    async with our_client(APPS[name](), level) as client:
        ours = await answers_to_credentials(client, CREDENTIALS)
    assert ours == stock
    statuses = {each[2][0] for each in ours if isinstance(each[2], tuple)}
    # Nobody without scopes is refused where none are asked for; MultiAuth goes on where a verifier breaks.
    assert statuses == {"sdk_resource": {401, 500}, "fast_multi": {401, 403}}.get(name, {401, 403, 500})


async def test_signed_tokens_are_looked_at_by_their_own_verifier() -> None:
    good = jwt_of("ann")
    credentials = [
        bearer(each)
        for each in (
            good,
            good[:-8] + "AAAAAAAA",
            jwt_of("ann", keys=OTHER_KEYS),
            jwt_of("ann", age_s=7200),
            jwt_of("ann", audience="https://elsewhere.example"),
        )
    ]
    async with stock_client(APPS["fast_jwt"]()) as client:
        stock = await answers_to_credentials(client, credentials)
    async with our_client(APPS["fast_jwt"]()) as client:
        ours = await answers_to_credentials(client, credentials)
    assert ours == stock
    assert [isinstance(each[2], tuple) for each in ours if each[1] == "who"] == [False, True, True, True, True]


async def test_a_proxy_for_an_authorization_server_registers_clients_and_sends_them_there() -> None:
    async def steps(client: httpx.AsyncClient) -> list[Any]:
        wish = {"redirect_uris": ["http://127.0.0.1:9/back"], "client_name": "c", "scope": "use"}
        made = await client.post("/register", json=wish)
        asked = {
            "response_type": "code",
            "client_id": made.json()["client_id"],
            "redirect_uri": wish["redirect_uris"][0],
            "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge_method": "S256",
            "state": "s",
        }
        sent = await client.get("/authorize", params=asked)
        url = httpx.URL(sent.headers["location"])
        consent = await client.get(url.path, params=dict(url.params))
        wrong = await client.get("/auth/callback", params={"code": "x", "state": "unknown"})
        return [
            (made.status_code, sorted(made.json())),
            (sent.status_code, url.host, url.path, sorted(url.params)),
            (
                consent.status_code,
                consent.headers["content-type"],
                len(consent.cookies),
                "consent" in consent.text,
            ),
            (wrong.status_code, wrong.headers["content-type"]),
            shown(await call(client, "who", bearer("good"))),
        ]

    async with stock_client(APPS["fast_proxy"]()) as client:
        stock = await steps(client)
    async with our_client(APPS["fast_proxy"]()) as client:
        ours = await steps(client)
    assert ours == stock
    assert [ours[0][0], ours[1][0], ours[2][0], ours[4][0]] == [201, 302, 200, 401]


async def test_of_two_credentials_none_is_good() -> None:
    async with our_client(sdk_verifier()) as client:
        body, headers = modern("tools/call", {"name": "who", "arguments": {}}, 1)
        both = [*headers.items(), ("authorization", "Bearer good"), ("authorization", "Bearer other")]
        assert (await client.post("/mcp", json=body, headers=both)).status_code == 401


@pytest.mark.parametrize("make", [sdk_verifier, fast_static])
async def test_a_tool_that_is_called_straight_is_called_straight_behind_auth(make: Any) -> None:
    app = make()
    server = accelerate(app)
    assert [server.verdict(name).level for name in ("echo", "who", "seen")] == ["l3", "l1", "l3"]
    async with our_client(app) as client:
        assert said(await call(client, "echo", bearer("good"), text="hi")) == "hi"
        assert (await call(client, "echo", {}, text="hi")).status_code == 401


async def test_a_tool_with_auth_of_its_own_is_for_those_that_it_is_for() -> None:
    found = []
    for opened in (stock_client(fast_static()), our_client(fast_static())):
        async with opened as client:
            answers = [await call(client, "special", bearer(token), text="hi") for token in ("good", "other")]
            found.append([messages(each) for each in answers])
            body, headers = modern("tools/list", {}, 1)
            listed = await client.post("/mcp", json=body, headers={**headers, **bearer("other")})
            found[-1].append(sorted(tool["name"] for tool in messages(listed)[-1]["result"]["tools"]))
    assert found[0] == found[1]
    assert "special" not in found[1][-1]
    assert accelerate(fast_static()).verdict("special").why == "it has auth of its own"


async def test_the_verifier_is_asked_once_for_each_request() -> None:
    verifier = Verifier()
    settings = AuthSettings(issuer_url="https://i.example", resource_server_url=None, required_scopes=["use"])
    async with our_client(sdk_app(auth=settings, token_verifier=verifier)) as client:
        for token in ("good", "good", "wrong", "good"):
            await call(client, "echo", bearer(token), text="hi")
        await call(client, "who", bearer("slow"))
        await client.get("/items/a", headers=bearer("other"))
    assert verifier.asked == ["good", "good", "wrong", "good", "slow", "other"]


async def test_a_token_that_is_taken_back_opens_nothing_more() -> None:
    async with our_client(sdk_verifier()) as client:
        TOKENS["brief"] = TOKENS["good"]
        try:
            assert (await call(client, "echo", bearer("brief"), text="hi")).status_code == 200
        finally:
            del TOKENS["brief"]
        assert (await call(client, "echo", bearer("brief"), text="hi")).status_code == 401


async def session_of(client: httpx.AsyncClient, token: str) -> dict[str, str]:
    opened = await client.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO},
        headers={**HEADERS, **bearer(token)},
    )
    assert opened.status_code == 200, opened.text
    return {**HEADERS, "mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}


@pytest.mark.parametrize("tool", ["echo", "who"])  # of the short way, and of the general one
async def test_a_session_is_not_for_whom_its_token_stands_for_now(tool: str) -> None:
    async with our_client(sdk_verifier()) as client:
        TOKENS["lent"] = TOKENS["good"]
        try:
            headers = {**await session_of(client, "lent"), **bearer("lent")}
            arguments = {"text": "hi"} if tool == "echo" else {}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
            found = []
            for owner in ("good", "good", "again", "other", "good"):
                TOKENS["lent"] = TOKENS[owner]
                found.append((await client.post("/mcp", json=body, headers=headers)).status_code)
        finally:
            del TOKENS["lent"]
    assert found == [200, 200, 200, 404, 200]


async def answers_in_a_session(client: httpx.AsyncClient) -> list[Any]:
    headers = await session_of(client, "good")
    told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    found: list[Any] = [(await client.post("/mcp", json=told, headers={**headers, **bearer("good")})).status_code]
    for token in ("good", "slow", "other", "poor", "wrong", None, "good"):
        for tool, arguments in (("echo", {"text": "hi"}), ("who", {}), ("seen", {})):
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
            answer = await client.post("/mcp", json=body, headers={**headers, **bearer(token)})
            if answer.status_code == 404:  # in words of our own, as of any session that is not there
                found.append((token, tool, 404, answer.json()["error"]["code"]))
            else:
                found.append((token, tool, shown(answer) if answer.status_code != 200 else messages(answer)))
    for token in ("other", None):
        for verb in ("GET", "DELETE"):
            answer = await client.request(
                verb, "/mcp", headers={**headers, **bearer(token), "accept": "text/event-stream"}
            )
            found.append((token, verb, answer.status_code))
    ended = await client.delete("/mcp", headers={**headers, **bearer("again" if await alike(client) else "good")})
    found.append(ended.status_code)
    body = {"jsonrpc": "2.0", "id": 9, "method": "ping"}
    found.append((await client.post("/mcp", json=body, headers={**headers, **bearer("good")})).status_code)
    return found


async def alike(client: httpx.AsyncClient) -> bool:
    """Whether another token of the same principal is let in here."""
    return (await call(client, "echo", bearer("again"), text="hi")).status_code == 200


@pytest.mark.parametrize("level", ["auto", "l1"])
@pytest.mark.parametrize("name", STATIC)
async def test_a_session_is_its_owners_as_by_its_own_server(name: str, level: str) -> None:
    async with stock_client(APPS[name]()) as client:
        stock = await answers_in_a_session(client)
    async with our_client(APPS[name](), level) as client:
        ours = await answers_in_a_session(client)
    assert ours == stock
    assert ("other", "echo", 404, -32600) in ours


@pytest.mark.parametrize("make", [sdk_verifier, fast_static])
async def test_what_a_notification_is_handled_with_knows_who_sent_it(make: Any) -> None:
    heard: list[str | None] = []
    app = make()
    low: Any = getattr(app, "_lowlevel_server", None) or app._mcp_server

    async def changed(_ctx: Any, _params: Any) -> None:
        token = get_access_token()
        heard.append(None if token is None else token.subject)

    low.add_notification_handler("notifications/roots/list_changed", NotificationParams, changed)
    async with our_client(app) as client:
        headers = await session_of(client, "good")
        note = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
        for token in ("good", "slow", "other"):
            await client.post("/mcp", json=note, headers={**headers, **bearer(token)})
        await client.post(
            "/mcp", json={"jsonrpc": "2.0", "id": 2, "method": "ping"}, headers={**headers, **bearer("good")}
        )
    assert heard == ["ann", "ann"]


async def flow(client: httpx.AsyncClient) -> list[Any]:
    """A client registers, is authorized, gets a token, uses it and gives it back."""
    wish = {
        "redirect_uris": ["http://127.0.0.1:9/back"],
        "client_name": "c",
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": "use",
    }
    made = await client.post("/register", json=wish)
    found: list[Any] = [(made.status_code, sorted(made.json()))]
    who = made.json()
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    asked = {
        "response_type": "code",
        "client_id": who["client_id"],
        "redirect_uri": wish["redirect_uris"][0],
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "scope": "use",
        "state": "s",
    }
    sent = await client.get("/authorize", params=asked, follow_redirects=False)
    url = httpx.URL(sent.headers["location"])
    found.append((sent.status_code, url.host, sorted(url.params)))
    form = {
        "grant_type": "authorization_code",
        "client_id": who["client_id"],
        "client_secret": who.get("client_secret", ""),
        "code": url.params["code"],
        "redirect_uri": wish["redirect_uris"][0],
        "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    }
    given = await client.post("/token", data=form)
    found.append((given.status_code, sorted(given.json()), given.headers.get("cache-control")))
    token = given.json()["access_token"]
    answer = await call(client, "who", bearer(token))
    found.append((answer.status_code, said(answer).replace(who["client_id"], "c")))
    again = await client.post("/token", data=form)
    found.append(shown(again))
    found.append((await call(client, "who", bearer("wrong"))).status_code)
    gone = {"token": token, "client_id": who["client_id"], "client_secret": who.get("client_secret", "")}
    found.append((await client.post("/revoke", data=gone)).status_code)
    found.append(shown(await call(client, "who", bearer(token))))
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp", "/token"):
        for verb in ("GET", "HEAD", "OPTIONS", "PUT"):
            headers = {"origin": "https://pages.example", "access-control-request-method": "GET"}
            found.append((path, verb, shown(await client.request(verb, path, headers=headers))))
    return found


@pytest.mark.parametrize("name", ["sdk_provider", "fast_oauth"])
async def test_an_authorization_server_within_the_app_gives_tokens_that_its_endpoint_takes(name: str) -> None:
    async with stock_client(APPS[name]()) as client:
        stock = await flow(client)
    async with our_client(APPS[name]()) as client:
        ours = await flow(client)
    assert ours == stock
    assert ours[3][0] == 200


@pytest.mark.parametrize("name", sorted(APPS))
async def test_documents_and_unknown_paths_are_answered_as_by_its_own_server(name: str) -> None:
    asked = [
        ("GET", "/.well-known/oauth-protected-resource/mcp"),
        ("GET", "/.well-known/oauth-protected-resource"),
        ("GET", "/.well-known/oauth-authorization-server"),
        ("GET", "/.well-known/openid-configuration"),
        ("GET", "/"),
        ("POST", "/register"),
        ("GET", "/mcp2"),
    ]
    found = []
    for opened in (stock_client(APPS[name]()), our_client(APPS[name]())):
        async with opened as client:
            found.append([shown(await client.request(verb, path)) for verb, path in asked])
    assert found[0] == found[1]
    assert found[1][0][0] == (404 if name in ("fast_static", "fast_jwt") else 200)


async def pipelined(port: int, asked: list[tuple[str, str]], *, last: str = "") -> list[tuple[int, Any]]:
    """Status and body of each call of ``does``, all sent at once on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number, (what, token) in enumerate(asked):
        called = {"name": "who", "arguments": {}} if what == "who" else {"name": "does", "arguments": {"what": what}}
        body, headers = modern("tools/call", called, number)
        fields = {**headers, **bearer(token), "host": "127.0.0.1"}
        if last and number == len(asked) - 1:
            fields["connection"] = last
        data = json.dumps(body).encode()
        lines = [f"{name}: {value}" for name, value in {**fields, "content-length": len(data)}.items()]
        writer.write("\r\n".join(["POST /mcp HTTP/1.1", *lines, "", ""]).encode() + data)
    found = []
    async with asyncio.timeout(20):
        for _ in asked:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r")[0])
            found.append((int(head.split()[1]), json.loads(await reader.readexactly(length))))
        if last == "close":
            assert await reader.read() == b""
    writer.close()
    return found


@pytest.mark.parametrize("last", ["", "close"])
async def test_calls_on_one_connection_are_answered_in_turn_whatever_way_they_take(last: str) -> None:
    ways = ["word", "wait", "fail", "who", "word", "number", "word", "who"]
    tokens = ["good", "wrong", "slow", "good", "poor", "other", "good"]
    asked = [(ways[i % len(ways)], tokens[i % len(tokens)]) for i in range(84)]
    async with http(accelerate(sdk_verifier()), port=0) as listener:
        found = await pipelined(listener.port, asked, last=last)
    statuses = {"wrong": 401, "poor": 403}
    for number, ((what, token), (status, body)) in enumerate(zip(asked, found, strict=True)):
        assert status == statuses.get(token, 200)
        if status == 200:
            assert body["id"] == number
            assert body["result"].get("isError", False) is (what in ("fail", "number"))
            wanted = what if what != "who" else {"other": "me/bob/use"}.get(token, "me/ann/use more")
            assert what in ("fail", "number") or body["result"]["structuredContent"] == {"result": wanted}


async def test_what_is_known_of_a_head_is_kept_and_what_is_known_of_a_token_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged, general = [0], [0]
    judge, handle = Endpoint.judge, Endpoint.handle

    def counted_judge(self: Endpoint, head: Any) -> Any:
        judged[0] += 1
        return judge(self, head)

    def counted_handle(self: Endpoint, request: Any, reply: Any) -> None:
        general[0] += 1
        handle(self, request, reply)

    monkeypatch.setattr(Endpoint, "judge", counted_judge)
    monkeypatch.setattr(Endpoint, "handle", counted_handle)
    async with our_client(sdk_verifier()) as client:
        for _ in range(5):
            assert said(await call(client, "does", bearer("good"), what="word")) == "word"
        assert judged == [1]
        if core.IMPLEMENTATION == "core":
            assert general == [1]  # the others went the short way
        TOKENS["good"], kept = TOKENS["poor"], TOKENS["good"]
        try:
            assert (await call(client, "does", bearer("good"), what="word")).status_code == 403
        finally:
            TOKENS["good"] = kept
        assert judged == [1]


async def test_the_state_of_a_question_is_for_who_was_asked() -> None:
    app = sdk_verifier()

    @app.tool()
    async def asks(a: int):  # type: ignore[no-untyped-def]
        question = ElicitRequestFormParams(message="?", requested_schema={"type": "object", "properties": {}})
        return InputRequiredResult(input_requests={"q": ElicitRequest(params=question)}, request_state="secret")

    def asked(state: str | None) -> tuple[Any, dict[str, str]]:
        params: dict[str, Any] = {"name": "asks", "arguments": {"a": 1}}
        if state is not None:
            params |= {"requestState": state, "inputResponses": {"q": {"action": "decline"}}}
        return modern("tools/call", params, 1)

    async with our_client(app) as client:
        assert accelerate(app).verdict("asks").level == "l3"
        body, headers = asked(None)
        found = (await client.post("/mcp", json=body, headers={**headers, **bearer("good")})).json()["result"]
        assert found["resultType"] == "input_required"
    body, headers = asked(found["requestState"])
    async with our_client(app, "l1") as client:
        again = [await client.post("/mcp", json=body, headers={**headers, **bearer(t)}) for t in ("good", "other")]
    assert again[0].json()["result"]["resultType"] == "input_required"
    assert "error" in again[1].json()


async def test_calls_that_auth_let_in_are_counted_like_any_others() -> None:
    server = accelerate(sdk_verifier(), metrics=True)
    async with http(server, port=0) as listener:
        await pipelined(listener.port, [("word", "good"), ("word", "wrong"), ("word", "other"), ("wait", "good")])
        async with httpx.AsyncClient() as client:
            shown = (await client.get(f"http://127.0.0.1:{listener.port}/metrics")).text
        calls = [line for line in shown.splitlines() if 'gen_ai_tool_name="does"' in line and "_count" in line]
        assert any(float(line.rpartition(" ")[2]) == 3 for line in calls), shown


async def test_calls_that_auth_let_in_are_refused_where_there_are_too_many() -> None:
    app, came, go = sdk_verifier(), asyncio.Event(), asyncio.Event()

    @app.tool()
    async def holds() -> str:
        came.set()
        await go.wait()
        return "held"

    options: dict[str, Any] = {"admission": "fixed", "limits": Limits(total_inflight_count_max=1)}
    async with our_client(app, **options) as client:
        for _ in range(2):  # the second goes the short way
            assert said(await call(client, "does", bearer("good"), what="word")) == "word"
        holding = asyncio.create_task(call(client, "holds", bearer("good")))
        await asyncio.wait_for(came.wait(), 10)
        refused = await call(client, "does", bearer("good"), what="word")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, -32000)
        assert (await call(client, "does", bearer("wrong"), what="word")).status_code == 401
        go.set()
        assert said(await holding) == "held"


# -- hostile ---------------------------------------------------------------------------------------------------------


class Gate(Verifier):
    """Does not answer before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.came = asyncio.Event()
        self.left = asyncio.Event()

    async def verify_token(self, token: str) -> Any:
        self.came.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        return await super().verify_token(token)


def gated(verifier: Verifier) -> Any:
    settings = AuthSettings(issuer_url="https://i.example", resource_server_url=None, required_scopes=["use"])
    return sdk_app(auth=settings, token_verifier=verifier)


async def test_a_verifier_is_not_waited_for_when_the_client_has_left() -> None:
    verifier = Gate()
    async with our_client(gated(verifier)) as client:
        asking = asyncio.create_task(call(client, "echo", bearer("good"), text="hi"))
        await asyncio.wait_for(verifier.came.wait(), 10)
        asking.cancel()
        await asyncio.wait_for(verifier.left.wait(), 10)
        verifier.open.set()
        assert said(await call(client, "echo", bearer("good"), text="hi")) == "hi"


async def test_a_server_that_stops_does_not_wait_for_its_verifier() -> None:
    verifier = Gate()
    server = accelerate(gated(verifier), limits=Limits(drain_timeout_s=0.05))
    async with http(server, port=0) as listener, httpx.AsyncClient() as client:
        body, headers = modern("tools/call", {"name": "echo", "arguments": {"text": "hi"}}, 1)
        url = f"http://127.0.0.1:{listener.port}/mcp"
        asking = asyncio.create_task(client.post(url, json=body, headers={**headers, **bearer("good")}))
        await asyncio.wait_for(verifier.came.wait(), 10)
        await asyncio.wait_for(listener.close(0.0), 10)
        with pytest.raises(httpx.HTTPError):
            await asyncio.wait_for(asking, 10)
    await asyncio.wait_for(verifier.left.wait(), 10)


async def test_many_at_once_are_each_who_they_are() -> None:
    verifier = Gate()
    app = gated(verifier)
    tokens = ["good", "other", "wrong", "poor"] * 25
    wanted = {"good": "me/ann/use more", "other": "me/bob/use", "wrong": 401, "poor": 403}
    limits = httpx.Limits(max_connections=100)
    async with http(accelerate(app), port=0) as listener, httpx.AsyncClient(limits=limits, timeout=30) as client:
        client.base_url = httpx.URL(f"http://127.0.0.1:{listener.port}")

        async def ask(token: str) -> None:
            answer = await call(client, "who", bearer(token))
            found = answer.status_code if answer.status_code != 200 else said(answer)
            assert found == wanted[token]

        asking = [asyncio.create_task(ask(token)) for token in tokens]
        await asyncio.wait_for(verifier.came.wait(), 10)
        verifier.open.set()
        await asyncio.gather(*asking)
    assert sorted(verifier.asked) == sorted(tokens)


async def test_a_body_that_is_too_large_is_refused_before_anybody_is_asked() -> None:
    verifier = Verifier()
    async with our_client(gated(verifier), limits=Limits(body_bytes_max=2000)) as client:
        assert (await call(client, "echo", bearer("good"), text="x" * 3000)).status_code == 413
        assert (await client.post("/items/a", content=b"x" * 3000)).status_code == 413
        assert verifier.asked == []
        assert said(await call(client, "echo", bearer("good"), text="x")) == "x"


async def test_no_spelling_of_the_endpoint_gets_past_the_question() -> None:
    body, headers = modern("tools/call", {"name": "echo", "arguments": {"text": "hi"}}, 1)
    async with http(accelerate(sdk_verifier()), port=0) as listener:
        for target in ("/mcp", "/mcp/", "/mcp?x=1", "/%6dcp", "/%6Dcp/", "http://127.0.0.1/mcp", "/mcp//"):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            data = json.dumps(body).encode()
            lines = [f"POST {target} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(data)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode() + data)
            assert b" 401 " in await asyncio.wait_for(reader.readline(), 10), target
            writer.close()


async def test_a_foreign_host_and_a_foreign_origin_are_refused_before_anybody_is_asked() -> None:
    verifier = Verifier()
    async with our_client(gated(verifier)) as client:
        foreign = await call(client, "echo", {**bearer("good"), "host": "evil.example"}, text="hi")
        assert foreign.status_code == 421
        strange = await call(client, "echo", {**bearer("good"), "origin": "http://evil.example"}, text="hi")
        assert strange.status_code == 403
        preflight = await client.options("/mcp", headers={"origin": BASE, "access-control-request-method": "POST"})
        assert preflight.status_code == 204
        assert verifier.asked == []
        refused = await call(client, "echo", {"origin": BASE}, text="hi")
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, BASE)


# -- what is left to the app's own server ------------------------------------------------------------------------------


async def test_an_app_with_more_before_its_endpoint_keeps_its_own_server() -> None:
    app = fast_static()
    before = type(app.auth).get_middleware
    app.auth.get_middleware = lambda: [*before(app.auth), Middleware(GZipMiddleware)]
    server = accelerate(app)
    assert "GZipMiddleware" in server.adapter.why_stock_http()
    with pytest.raises(ConfigurationError, match="GZipMiddleware"):
        server.asgi()
    with pytest.raises(ConfigurationError, match="GZipMiddleware"):
        async with http(server, port=0):
            pass


def test_the_auth_of_an_untested_version_is_left_to_its_own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tested.TESTED, "mcp", ("1.0",))
    assert "was not tested with" in accelerate(sdk_verifier()).adapter.why_stock_http()


@pytest.mark.parametrize("make", [sdk_verifier, fast_static])
def test_an_app_that_makes_its_own_application_keeps_its_own_server(make: Any) -> None:
    app = make()
    name = "http_app" if hasattr(app, "http_app") else "streamable_http_app"
    setattr(app, name, lambda **_: None)
    assert f"{name} is overridden" in accelerate(app).adapter.why_stock_http()


async def test_auth_is_not_served_beside_a_transport_that_asks_for_no_tokens() -> None:
    with pytest.raises(ConfigurationError, match="sse_transport"):
        async with http(accelerate(sdk_verifier(), sse_transport=True), port=0):
            pass
