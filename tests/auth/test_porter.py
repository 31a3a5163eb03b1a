"""A server that asks for tokens: who comes in, what others are told, and what ends with a token."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from issuer import AUDIENCE, NAME, key_server, rule, token
from knock import Knock

from erlmcp import Client, ConfigurationError, Context, Limits, Server
from erlmcp.auth import Auth, Principal
from erlmcp.auth.admission import Admission
from erlmcp.errors import HttpStatusError
from erlmcp.server.serve import http

WAIT_S = 30.0
WELL_KNOWN = "/.well-known/oauth-protected-resource"


def build(auth: Auth, **options: Any) -> Server:
    server = Server("guarded", auth=auth, **options)

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def who(ctx: Context) -> str:
        found = ctx.principal
        return f"{found.name} {' '.join(sorted(found.scopes))}" if isinstance(found, Principal) else "nobody"

    return server


async def test_who_shows_a_good_token_comes_in_and_nobody_else() -> None:
    async with http(build(rule())) as listener, Knock(listener.port) as knock:
        assert (await knock.call("echo", {"text": "in"}, token())).text == "in"
        assert (await knock.call("echo", {"text": "again"}, token("e1"))).text == "again"
        assert (await knock.call("who", {}, token(sub="bob", scope="mcp x"))).text == "bob mcp x"
        for text in ("", token(exp=1), token("r2"), "junk"):
            assert (await knock.call("echo", {"text": "in"}, text)).status == 401


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_our_own_client_comes_in_with_a_token_in_both_eras(mode: str) -> None:
    async with http(build(rule())) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        async with Client(url, headers={"Authorization": f"Bearer {token()}"}, mode=mode) as client:
            assert (await client.call_tool("who")).data == "alice mcp"
            assert [tool.name for tool in await client.list_tools()] == ["echo", "who"]
        with pytest.raises(HttpStatusError) as refused:
            async with Client(url, headers={"Authorization": "Bearer x"}, mode=mode):
                pass
        assert refused.value.status == 401


async def test_a_refusal_says_what_is_wrong_and_where_tokens_are_made() -> None:
    auth = rule(scopes=("mcp",), resource="https://mcp.test/tools/mcp")
    url = "https://mcp.test/.well-known/oauth-protected-resource/tools/mcp"
    async with http(build(auth)) as listener, Knock(listener.port) as knock:
        missing = await knock.call("echo", {"text": "x"})
        assert (missing.status, missing.challenge) == (
            401, {"realm": "erlmcp", "scope": "mcp", "resource_metadata": url},
        )  # fmt: skip
        expired = await knock.call("echo", {"text": "x"}, token(exp=1))
        assert (expired.status, expired.body) == (401, b"the token has expired")
        assert expired.challenge == {
            "realm": "erlmcp", "error": "invalid_token", "error_description": "the token has expired", "scope": "mcp",
            "resource_metadata": url,
        }  # fmt: skip
        assert expired.headers["cache-control"] == "no-store"
        narrow = await knock.call("echo", {"text": "x"}, token(scope="other"))
        assert (narrow.status, narrow.challenge["error"], narrow.challenge["scope"]) == (
            403, "insufficient_scope", "mcp",
        )  # fmt: skip
        assert narrow.challenge["resource_metadata"] == url
        for value in ("Bearer", "Bearer a b", 'Bearer "x"', "Bearer a, Bearer b"):
            odd = await knock.call("echo", {"text": "x"}, Authorization=value)
            assert (odd.status, odd.challenge["error"]) == (400, "invalid_request")
        other = await knock.call("echo", {"text": "x"}, Authorization="Basic eDp5")
        assert (other.status, "error" in other.challenge) == (401, False)


async def test_a_token_is_taken_from_its_header_alone() -> None:
    async with http(build(rule())) as listener, Knock(listener.port) as knock:
        text = token()
        assert (await knock.call("echo", {"text": "x"}, path=f"/mcp?access_token={text}")).status == 401
        assert (await knock.call("echo", {"text": "x"}, X_API_Key=text)).status == 401
        assert (await knock.call("echo", {"text": "x"}, Cookie=f"access_token={text}")).status == 401


async def test_the_metadata_of_the_resource_is_everybodys() -> None:
    auth = rule(scopes=("mcp",), scopes_supported=("files",), resource="https://mcp.test/tools/mcp")
    async with http(build(auth)) as listener, Knock(listener.port) as knock:
        for path in (WELL_KNOWN, WELL_KNOWN + "/mcp", WELL_KNOWN + "/tools/mcp", WELL_KNOWN + "/mcp?x=y"):
            found = await knock.ask("GET", path, Origin="https://page.test")
            assert (found.status, json.loads(found.body)) == (
                200,
                {
                    "resource": "https://mcp.test/tools/mcp", "authorization_servers": [NAME],
                    "scopes_supported": ["mcp", "files"], "bearer_methods_supported": ["header"],
                    "resource_name": "guarded",
                },
            )  # fmt: skip
            assert found.headers["access-control-allow-origin"] == "*"
            assert found.headers["content-type"].startswith("application/json")
        assert (await knock.ask("HEAD", WELL_KNOWN)).status == 200
        assert (await knock.ask("POST", WELL_KNOWN, b"{}")).status == 405
        assert (await knock.ask("GET", WELL_KNOWN + "/other")).status == 404
    async with http(build(auth)) as listener, Knock(listener.port) as knock:
        preflight = await knock.ask("OPTIONS", WELL_KNOWN, Origin="https://page.test")
        assert (preflight.status, preflight.headers["access-control-allow-headers"]) == (204, "*")
    async with http(build(auth)) as listener, Knock(listener.port, host="evil.test") as knock:
        assert (await knock.ask("GET", WELL_KNOWN)).status == 421


async def test_a_server_without_auth_has_no_such_document() -> None:
    async with http(Server("open")) as listener, Knock(listener.port) as knock:
        assert (await knock.ask("GET", WELL_KNOWN)).status == 404


async def test_host_origin_size_and_kind_are_judged_before_the_token() -> None:
    server = build(rule(), limits=Limits(body_bytes_max=2000))
    async with http(server) as listener:
        async with Knock(listener.port, host="evil.test") as knock:
            assert (await knock.call("echo", {"text": "x"}, token())).status == 421
        async with Knock(listener.port) as knock:
            answer = await knock.call("echo", {"text": "x"}, token(), Origin="https://evil.test")
            assert (answer.status, "www-authenticate" in answer.headers) == (403, False)
        async with Knock(listener.port) as knock:
            assert (await knock.call("echo", {"text": "x" * 3000}, token())).status == 413
        async with Knock(listener.port) as knock:
            allowed = await knock.call("echo", {"text": "x"}, Origin=f"http://127.0.0.1:{listener.port}")
            assert allowed.status == 401
            assert "WWW-Authenticate" in allowed.headers["access-control-expose-headers"]
            assert allowed.headers["access-control-allow-origin"] == f"http://127.0.0.1:{listener.port}"


async def test_a_token_lets_in_until_it_ends_and_no_longer() -> None:
    """Over one connection, whose head stays the same: the one that the short way looks at no more."""
    async with http(build(rule(leeway_s=1.3))) as listener, Knock(listener.port) as knock:
        text = token(exp=int(time.time()))
        answers = [await knock.call("echo", {"text": "in"}, text)]
        async with asyncio.timeout(WAIT_S):
            while answers[-1].status == 200:
                answers.append(await knock.call("echo", {"text": "in"}, text))
        assert len(answers) > 3
        assert answers[-1].body == b"the token has expired"


LISTEN = {"notifications": {"toolsListChanged": True}}
STREAM = "application/json, text/event-stream"


async def test_a_stream_that_is_open_ends_with_its_token() -> None:
    """By its own time, before which it hears of changes."""
    server = build(rule(leeway_s=1.5))
    async with http(server) as listener, Knock(listener.port) as knock:
        text = token(exp=int(time.time()))
        opened = await knock.request("subscriptions/listen", "", LISTEN, text, Accept=STREAM)
        assert opened.status == 200
        server.remove_tool("echo")
        heard = await knock.until_closed()
        assert b"notifications/tools/list_changed" in heard
        assert len(server.hub) == 0
        assert (await knock.call("who", {}, text)).status == 401


async def test_the_stream_of_a_session_ends_with_its_token_and_the_session_does_not() -> None:
    server = build(rule())
    async with http(server) as listener, Knock(listener.port) as knock, Knock(listener.port) as other:
        opening = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        fixed = {"Content_Type": "application/json", "Accept": STREAM}
        text = token()

        async def post(message: Any, text: str, **more: str) -> Any:
            data = json.dumps({"jsonrpc": "2.0", **message}).encode()
            return await knock.ask("POST", "/mcp", data, **fixed, **more, Authorization=f"Bearer {text}")

        opened = await post({"id": 1, "method": "initialize", "params": opening}, text)
        session = {"Mcp_Session_Id": opened.headers["mcp-session-id"]}
        stream = await other.ask("GET", "/mcp", **fixed, **session, Authorization=f"Bearer {text}")
        assert stream.headers["content-type"] == "text/event-stream"
        verifier: Any = server.keeper.verifier  # type: ignore[union-attr]
        verifier._end(text, verifier._known[text])  # as its timer does
        await other.until_closed()
        call = {"id": 2, "method": "tools/call", "params": {"name": "who", "arguments": {}}}
        assert (await post(call, token(n=2), **session)).text == "alice mcp"
        again = await other.ask("GET", "/mcp", **fixed, **session, Authorization=f"Bearer {token(n=2)}")
        assert again.status == 200


async def test_a_token_that_is_only_forgotten_keeps_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erlmcp.auth.token.KNOWN_COUNT_MAX", 1)
    server = build(rule())
    async with http(server) as listener, Knock(listener.port) as knock, Knock(listener.port) as other:
        await knock.request("subscriptions/listen", "", LISTEN, token(), Accept=STREAM)
        assert (await other.call("who", {}, token(sub="bob"))).status == 200
        assert len(server.hub) == 1


def test_what_is_tied_to_an_admission_is_passed_over_once_it_is_closed() -> None:
    open_ones, stopped = set(range(0, 1000, 10)), []
    admission = Admission("o", None, ends=True)
    for number in range(1000):
        admission.tie(partial(open_ones.__contains__, number), partial(stopped.append, number))
    assert len(admission._ties) < 700
    admission.end()
    assert stopped == sorted(open_ones)
    admission.end()
    assert len(stopped) == len(open_ones)
    endless = Admission("o", None)
    endless.tie(lambda: True, lambda: stopped.append(-1))
    endless.end()
    assert -1 not in stopped


async def test_a_session_outlives_its_token_and_belongs_to_its_caller() -> None:
    async with http(build(rule())) as listener, Knock(listener.port) as knock:
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
        }}  # fmt: skip
        fixed = {"Content_Type": "application/json", "Accept": "application/json, text/event-stream"}

        async def post(message: Any, text: str, session: str = "") -> Any:
            more = {"Mcp_Session_Id": session} if session else {}
            data = json.dumps(message).encode()
            return await knock.ask("POST", "/mcp", data, **fixed, **more, Authorization=f"Bearer {text}")

        opened = await post(body, token())
        session = opened.headers["mcp-session-id"]
        call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "who", "arguments": {}}}
        assert (await post(call, token(n=2), session)).text == "alice mcp"
        assert (await post(call, token(sub="bob"), session)).status == 404
        assert (await post(call, token(scope="mcp more", n=3), session)).text == "alice mcp more"


async def test_requests_wait_for_keys_that_are_fetched_and_the_loop_does_not() -> None:
    async with key_server("r1") as keys:
        keys.is_open.clear()
        async with (
            http(build(rule(keys.url))) as listener,
            Knock(listener.port) as knock,
            Knock(listener.port) as other,
        ):
            await keys.came.wait()
            waits = [asyncio.create_task(each.call("echo", {"text": "in"}, token())) for each in (knock, other)]
            async with Knock(listener.port) as third:
                assert (await third.call("echo", {"text": "x"})).status == 401  # meanwhile
            assert not any(each.done() for each in waits)
            keys.is_open.set()
            assert [each.text for each in await asyncio.gather(*waits)] == ["in", "in"]
            assert keys.count == 1


async def test_a_client_that_leaves_while_keys_are_fetched_leaves_nothing() -> None:
    async with key_server("r1") as keys:
        keys.is_open.clear()
        server = build(rule(keys.url))
        async with http(server) as listener:
            await keys.came.wait()
            porter: Any = listener.handler
            async with Knock(listener.port) as knock:
                call = asyncio.create_task(knock.call("echo", {"text": "in"}, token()))
                async with asyncio.timeout(WAIT_S):
                    while not porter._waiting:
                        await asyncio.sleep(0.001)
                call.cancel()
            async with asyncio.timeout(WAIT_S):
                while porter._waiting:
                    await asyncio.sleep(0.001)
            keys.is_open.set()
            await keys.answered.wait()


async def test_what_goes_wrong_after_a_wait_is_answered(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    async with key_server("r1") as keys:
        keys.is_open.clear()
        async with http(build(rule(keys.url))) as listener, Knock(listener.port) as knock:
            await keys.came.wait()
            porter: Any = listener.handler
            call = asyncio.create_task(knock.call("echo", {"text": "in"}, token()))
            async with asyncio.timeout(WAIT_S):
                while not porter._waiting:
                    await asyncio.sleep(0.001)
            monkeypatch.setattr(porter, "_ask", None)
            keys.is_open.set()
            assert (await call).status == 500
    assert "a request could not be handled" in caplog.text


async def test_a_server_that_stops_waits_for_no_keys() -> None:
    async with key_server("r1") as keys:
        keys.is_open.clear()
        server = build(rule(keys.url), limits=Limits(drain_timeout_s=0.01))
        async with AsyncExitStack() as stack:
            listener = await stack.enter_async_context(http(server))
            knock = await stack.enter_async_context(Knock(listener.port))
            await keys.came.wait()
            porter: Any = listener.handler
            await knock.send("POST", "/mcp", b"{}", {
                "Content-Type": "application/json", "Authorization": f"Bearer {token()}",
            })  # fmt: skip
            async with asyncio.timeout(WAIT_S):
                while not porter._waiting:
                    await asyncio.sleep(0.001)
            (task,) = porter._waiting
        assert task.cancelled()
        keys.is_open.set()
        await keys.answered.wait()


async def test_while_the_keys_cannot_be_had_the_server_says_so(caplog: Any) -> None:
    caplog.set_level(logging.ERROR)
    async with key_server("r1") as keys:
        keys.status = 500
        async with http(build(rule(keys.url, jwks_refetch_s=0.05))) as listener, Knock(listener.port) as knock:
            answer = await knock.call("echo", {"text": "x"}, token())
            assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)
            assert "www-authenticate" not in answer.headers
            keys.status = 200
            async with asyncio.timeout(WAIT_S):
                while (await knock.call("echo", {"text": "x"}, token())).status != 200:
                    await asyncio.sleep(0.01)


async def test_who_fails_too_often_is_not_listened_to_and_who_is_known_is(caplog: Any) -> None:
    server = build(rule(), limits=Limits(auth_failure_count_max=3))
    known = token()
    async with http(server) as listener, Knock(listener.port) as knock, Knock(listener.port) as friend:
        assert (await friend.call("echo", {"text": "in"}, known)).status == 200
        statuses = [(await knock.call("echo", {"text": "x"}, f"guess-{n}")).status for n in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        slowed = await knock.call("echo", {"text": "x"}, token(n=1))  # a good one, which nobody looks at
        assert slowed.status == 429
        assert 0 < int(slowed.headers["retry-after"]) <= 60
        assert b"auth_failure_count_max=3" in slowed.body
        assert (await friend.call("echo", {"text": "in"}, known)).status == 200
        async with Knock(listener.port) as again:
            assert (await again.call("echo", {"text": "in"}, known)).status == 200
            assert (await again.call("echo", {"text": "in"})).status == 401  # without any, it is no guess
    assert "127.0.0.1 shows one wrong credential after the other" in caplog.text
    assert "guess-" not in caplog.text


async def test_an_expired_token_is_no_guess() -> None:
    server = build(rule(), limits=Limits(auth_failure_count_max=2))
    async with http(server) as listener, Knock(listener.port) as knock:
        for number in range(5):
            assert (await knock.call("echo", {"text": "x"}, token(exp=1, n=number))).status == 401


async def test_a_server_can_be_started_again() -> None:
    async with key_server("r1") as keys:
        server = build(rule(keys.url))
        for _ in range(2):
            async with http(server) as listener, Knock(listener.port) as knock:
                assert (await knock.call("echo", {"text": "in"}, token())).status == 200
            assert len(server.keeper.verifier) == 0  # type: ignore[union-attr,arg-type]


async def test_other_transports_ask_for_nothing() -> None:
    async with Client(build(rule())) as client:
        assert (await client.call_tool("who")).data == "nobody"


async def test_over_http2_tokens_are_asked_for_too() -> None:
    server = build(rule())
    async with http(server, http2=True) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        headers = {"Authorization": f"Bearer {token()}"}
        async with Client(url, headers=headers, http2=True) as client:
            assert (await client.call_tool("who")).data == "alice mcp"
        with pytest.raises(HttpStatusError, match="401"):
            async with Client(url, http2=True):
                pass


def test_what_cannot_be_together_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sse_transport"):
        Server("old", auth=rule(), sse_transport=True)


def test_without_the_library_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erlmcp.auth.keeper.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'erlmcp\[oauth\]'"):
        Server("s", auth=Auth(rule().issuers, AUDIENCE))  # type: ignore[arg-type]  # one alone is meant, too
