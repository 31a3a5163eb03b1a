"""Access tokens at a gateway: who comes in, what its scopes open, and what goes no further."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "auth"))

from issuer import AUDIENCE, NAME, key_server, pem, rule, token
from knock import Knock
from stage import build_shop, until

from erlmcp import Client, Context, McpError, Server
from erlmcp.errors import HttpStatusError
from erlmcp.gateway.access import Access
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import Credential, GatewayConfig, GrantConfig, KeyConfig, OAuthConfig, UpstreamConfig
from erlmcp.gateway.serve import http as gateway_http
from erlmcp.server.serve import http as server_http

KEY = "k" * 20
WELL_KNOWN = "/.well-known/oauth-protected-resource"


def key(name: str = "alice", **options: Any) -> KeyConfig:
    import hashlib

    return KeyConfig(name, hashlib.sha256(KEY.encode()).digest(), **options)


def config(server: Server, auth: Any = None, **options: Any) -> GatewayConfig:
    grants = {name: options.pop(name) for name in ("grant", "grants") if name in options}
    upstream = UpstreamConfig("s", "server", target=server, prefix="s_")
    return GatewayConfig((upstream,), oauth=OAuthConfig(auth or rule(), **grants), anonymous=False, **options)


@asynccontextmanager
async def serving(made: GatewayConfig, **options: Any) -> Any:
    """A gateway, and a connection to it: gateway, port, knock."""
    gateway = Gateway(made, **options)
    async with gateway_http(gateway, port=0) as front, Knock(front.port) as knock:
        yield gateway, front.port, knock


def client(port: int, text: str, **options: Any) -> Client:
    return Client(f"http://127.0.0.1:{port}/mcp", headers={"Authorization": f"Bearer {text}"}, **options)


# -- who comes in ------------------------------------------------------------------------------------------------------


async def test_tokens_and_keys_both_open_the_door_and_nothing_else_does() -> None:
    async with serving(config(build_shop(), keys=(key(),))) as (_, _, knock):
        assert (await knock.call("s_echo", {"text": "by token"}, token())).text == "by token"
        assert (await knock.call("s_echo", {"text": "by key"}, KEY)).text == "by key"
        assert (await knock.call("s_echo", {"text": "by key"}, X_API_Key=KEY)).text == "by key"
        for text in ("", "x" * 20, token(exp=1), token("r2"), token(aud="https://other.test")):
            assert (await knock.call("s_echo", {"text": "x"}, text)).status == 401
        assert (await knock.call("s_echo", {"text": "x"}, X_API_Key=token())).status == 401
        unknown = await knock.call("s_echo", {"text": "x"}, "x" * 20)
        assert unknown.challenge["error_description"] == "the key is not known here"
        nothing = await knock.call("s_echo", {"text": "x"})
        assert "error" not in nothing.challenge
        assert nothing.challenge["resource_metadata"] == "http://127.0.0.1" + WELL_KNOWN + "/mcp"
        assert b"or a key" in nothing.body


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_client_works_with_a_token_in_both_eras(mode: str) -> None:
    async with serving(config(build_shop())) as (_, port, _):
        async with client(port, token(), mode=mode) as found:
            assert (await found.call_tool("s_echo", {"text": "x"})).data == "x"
            assert len(await found.list_tools()) > 3
        with pytest.raises(HttpStatusError, match="401"):
            async with client(port, token(exp=1), mode=mode):
                pass


async def test_a_gateway_says_where_its_tokens_are_made() -> None:
    made = config(build_shop(), rule(scopes=("mcp",)), grants={"files": GrantConfig(allow=("s_e*",))})
    async with serving(made) as (_, _, knock):
        for path in (WELL_KNOWN, WELL_KNOWN + "/mcp"):
            found = json.loads((await knock.ask("GET", path)).body)
            assert (found["resource"], found["authorization_servers"]) == (AUDIENCE, [NAME])
            assert found["resource_name"] == "gateway"
    async with serving(replace(made, oauth=None, keys=(key(),))) as (_, _, knock):
        assert (await knock.ask("GET", WELL_KNOWN)).status == 404
        refused = await knock.call("s_echo", {"text": "x"})
        assert refused.challenge == {"realm": "erlmcp"}


async def test_host_origin_and_size_are_judged_in_front_of_a_gateway_too() -> None:
    made = config(build_shop(), limits={"body_bytes_max": 2000, "header_count_max": 20, "head_bytes_max": 4000})
    async with serving(made) as (_, port, knock):
        async with Knock(port, host="evil.test") as other:
            assert (await other.call("s_echo", {"text": "x"}, token())).status == 421
        assert (await knock.call("s_echo", {"text": "x"}, token(), Origin="https://evil.test")).status == 403
        assert (await knock.call("s_echo", {"text": "x"}, token(), Content_Type="text/plain")).status == 415
        async with Knock(port) as other:
            assert (await other.call("s_echo", {"text": "x" * 3000}, token())).status == 413
        async with Knock(port) as other:
            assert (await other.call("s_echo", {"text": "x"}, token(), X_Long="x" * 5000)).status == 431
        allowed = await knock.call("s_echo", {"text": "x"}, token(), Origin=f"http://127.0.0.1:{port}")
        assert allowed.status == 200
    named = replace(made, allowed_hosts=("mcp.test",), allowed_origins=("https://page.test",))
    async with serving(named) as (_, port, _), Knock(port, host="mcp.test") as other:
        assert (await other.call("s_echo", {"text": "x"}, token(), Origin="https://page.test")).status == 200


async def test_wrong_keys_are_slowed_down_by_address_and_known_callers_are_not() -> None:
    made = config(build_shop(), keys=(key(),), limits={"auth_failure_count_max": 4, "auth_failure_s": 30})
    async with serving(made) as (gateway, port, knock):
        text = token()
        assert (await knock.call("s_echo", {"text": "x"}, KEY)).status == 200
        assert (await knock.call("s_echo", {"text": "x"}, text)).status == 200
        statuses = [(await knock.call("s_echo", {"text": "x"}, X_API_Key=f"wrong-{n}")).status for n in range(6)]
        assert statuses == [401, 401, 401, 401, 429, 429]
        slowed = await knock.call("s_echo", {"text": "x"}, X_API_Key="wrong-again")
        assert 0 < int(slowed.headers["retry-after"]) <= 30
        async with Knock(port) as friend:
            assert (await friend.call("s_echo", {"text": "x"}, KEY)).status == 200
            assert (await friend.call("s_echo", {"text": "x"}, text)).status == 200
        gateway.reload(replace(made, keys=(key("bob"),)))  # failures outlive a reload
        assert (await knock.call("s_echo", {"text": "x"}, X_API_Key="wrong-once-more")).status == 429


# -- what they see -----------------------------------------------------------------------------------------------------

GRANTS = {
    "read": GrantConfig(allow=("s_echo", "s_greet", "shop://opening")),
    "write": GrantConfig(allow=("s_*",), deny=("s_fail",)),
    "all": GrantConfig(),
}


async def test_scopes_open_tools_prompts_and_resources() -> None:
    made = config(build_shop(), grants=GRANTS, grant=GrantConfig(deny=("s_crash",)))
    async with serving(made) as (_, port, _), AsyncExitStack() as stack:
        seen = {}
        for scope in ("", "read", "write", "read write", "all", "other"):
            found = await stack.enter_async_context(client(port, token(scope=scope)))
            tools = {tool.name for tool in await found.list_tools()}
            prompts = {prompt.name for prompt in await found.list_prompts()}
            uris = {str(each.uri) for each in await found.list_resources()}
            seen[scope] = tools, prompts, uris
        assert seen[""] == seen["other"] == (set(), set(), set())
        assert seen["read"] == ({"s_echo"}, {"s_greet"}, {"shop://opening"})
        assert "s_add" in seen["write"][0]
        assert "s_fail" not in seen["write"][0]
        assert seen["write"][2] == set()
        assert seen["read write"] == tuple(one | two for one, two in zip(seen["read"], seen["write"], strict=True))
        assert "s_fail" in seen["all"][0]
        assert all("s_crash" not in tools for tools, _, _ in seen.values())


async def test_who_needs_another_scope_is_told_which() -> None:
    made = config(build_shop(), grants=GRANTS, grant=GrantConfig(deny=("s_crash",)))
    async with serving(made) as (_, _, knock):
        reader = token(scope="read")
        assert (await knock.call("s_echo", {"text": "x"}, reader)).status == 200
        refused = await knock.call("s_add", {"a": 1}, reader)
        assert refused.status == 403
        assert refused.challenge == {
            "realm": "erlmcp", "error": "insufficient_scope", "scope": "write",
            "error_description": "this needs the scope write",
            "resource_metadata": "http://127.0.0.1" + WELL_KNOWN + "/mcp",
        }  # fmt: skip
        resource = {"uri": "shop://opening"}
        denied = await knock.request("resources/read", "shop://opening", resource, token(scope="write"))
        assert (denied.status, denied.challenge["scope"]) == (403, "read")
        hidden = await knock.call("s_crash", {}, token(scope="all"))  # which no scope opens
        assert "Unknown tool" in json.loads(hidden.body)["error"]["message"]
        assert (await knock.call("s_add", {"a": 1}, token(scope="write"))).status == 200


async def test_what_a_caller_does_not_see_it_cannot_complete_follow_or_batch() -> None:
    made = config(build_shop(), grants=GRANTS, keys=(key(allow=("s_echo",)),))
    async with serving(made) as (_, port, knock):
        async with client(port, KEY, mode="legacy") as found:
            with pytest.raises(McpError, match="not found"):
                await found.subscribe("shop://opening")
        accept = "application/json, text/event-stream"
        reference = {"ref": {"type": "ref/prompt", "name": "s_greet"}, "argument": {"name": "name", "value": "a"}}
        opening = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        fixed = {"Content_Type": "application/json", "Accept": accept, "Authorization": f"Bearer {token(scope='read')}"}

        async def post(message: Any, **more: str) -> Any:
            return await knock.ask("POST", "/mcp", json.dumps(message).encode(), **fixed, **more)

        opened = await post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": opening})
        batch = [
            {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": {"text": "x"}}}
            for id, name in enumerate(("s_echo", "s_fail"), 1)
        ]
        answers = json.loads((await post(batch, Mcp_Session_Id=opened.headers["mcp-session-id"])).body)
        one, two = sorted(answers, key=lambda answer: answer["id"])
        assert one["result"]["content"][0]["text"] == "x"
        assert "Unknown tool" in two["error"]["message"]
        completed = await knock.request("completion/complete", "", reference, token(scope=""))
        assert "Unknown prompt" in json.loads(completed.body)["error"]["message"]


async def test_a_stream_is_told_of_what_its_caller_sees_and_of_nothing_hidden() -> None:
    """A URI that is hidden ends as one that nobody has: it takes the others of the stream from no one."""
    server = build_shop()
    hidden, missing, seen = "s+shop://opening", "other://nowhere", "s+shop://stock/pear"
    made = config(server, grants=GRANTS, keys=(key(allow=("s+shop://stock/*", "other://*")),))
    made = replace(made, upstreams=(replace(made.upstreams[0], uri_prefix="s+"),))
    async with serving(made) as (gateway, port, _), AsyncExitStack() as stack:
        streams = []
        for text in (KEY, token(scope="all")):
            found = await stack.enter_async_context(client(port, text, mode="2026-07-28"))
            streams.append(await stack.enter_async_context(found.listen(tools=True, uris=[hidden, missing, seen])))
        limited, free = streams
        assert limited.granted == {"toolsListChanged": True, "resourceSubscriptions": [seen]}
        assert free.granted == {"toolsListChanged": True, "resourceSubscriptions": [hidden, seen]}
        assert len(gateway.followers) == 3
        for uri in (hidden, seen):
            server.resource_updated(uri.removeprefix("s+"))
        async with asyncio.timeout(10):
            assert [(await anext(free)).uri for _ in range(2)] == [hidden, seen]
            assert (await anext(limited)).uri == seen


def test_views_are_shared_by_those_who_see_the_same() -> None:
    from erlmcp.auth import Principal

    access = Access(config(build_shop(), grants=GRANTS))

    def caller(name: str, *scopes: str) -> Any:
        return access._caller_of(Principal(name, NAME, frozenset(scopes), {}, 0.0))

    assert caller("alice", "read", "x").view is caller("bob", "read", "y").view
    assert caller("alice", "read").view is not caller("alice", "write").view
    assert caller("alice", "all").view.key == ""
    assert caller("alice", "read").id == caller("alice", "write").id != caller("bob", "read").id
    assert access.missing_of(caller("alice"), "s_echo") == ("read",)
    assert access.missing_of(caller("alice", "read"), "s_echo") == ()


# -- what goes no further ----------------------------------------------------------------------------------------------


async def test_the_callers_token_and_key_never_reach_an_upstream(caplog: Any, tmp_path: Path) -> None:
    """All the bytes that an upstream is sent, over HTTP in both eras and over a stream, and all that is logged."""
    caplog.set_level(logging.DEBUG)
    behind = Server("behind")

    @behind.tool
    async def told(ctx: Context) -> dict[str, str]:
        return dict(ctx.headers)

    secret = "upstream-secret-0123456789"
    audit = tmp_path / "audit.jsonl"
    for mode in ("legacy", "2026-07-28"):
        async with server_http(behind) as listener:
            url = f"http://127.0.0.1:{listener.port}/mcp"
            upstream = UpstreamConfig("b", "http", url=url, headers={"Authorization": f"Bearer {secret}"}, mode=mode)
            keys = (key("bob", credentials={"b": Credential({"Authorization": "Bearer bobs-own-secret"})}),)
            made = GatewayConfig((upstream,), oauth=OAuthConfig(rule()), keys=keys, anonymous=False, audit=str(audit))
            async with serving(made) as (_, port, _):
                for down in ("legacy", "2026-07-28"):
                    text = token()
                    async with client(port, text, mode=down) as found:
                        headers = (await found.call_tool("told")).data
                    assert headers["authorization"] == f"Bearer {secret}"
                    assert text not in json.dumps(headers)
                    assert text.rpartition(".")[2] not in caplog.text + audit.read_text()
                    async with client(port, KEY, mode=down) as found:
                        headers = (await found.call_tool("told")).data
                    assert headers["authorization"] == "Bearer bobs-own-secret"
                    assert KEY not in json.dumps(headers)
    for hidden in (secret, "bobs-own-secret", KEY, pem("r1")):
        assert hidden not in caplog.text + audit.read_text()


async def test_the_audit_log_names_the_caller_of_a_token_and_its_issuer(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    async with serving(config(build_shop(), keys=(key("alice"),), audit=str(audit))) as (_, _, knock):
        await knock.call("s_echo", {"text": "x"}, token(sub="alice"))
        await knock.call("s_echo", {"text": "x"}, KEY)
        await knock.call("s_echo", {"text": "x"}, token(exp=1))
    found = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(each["caller"], each.get("issuer"), each["outcome"]) for each in found] == [
        ("alice", NAME, "ok"), ("alice", None, "ok"),
    ]  # fmt: skip


async def test_private_answers_of_a_key_are_not_those_of_a_token_of_the_same_name() -> None:
    """Nor those of the same name at another issuer; but another token of one caller has them."""
    server = Server("s", cache_ttl_ms=60_000, cache_scope="private")
    reads = []

    @server.resource("x://y")
    async def read() -> str:
        reads.append(1)
        return str(len(reads))

    first, second = rule(key=pem("r1")), rule(key=pem("r2"))
    other = replace(second.issuers[0], issuer="https://other.test")
    auth = replace(first, issuers=(*first.issuers, other))
    async with serving(config(server, auth, keys=(key("alice"),))) as (_, port, _), AsyncExitStack() as stack:
        texts = []
        for text in (token(), KEY, token("r2", iss=other.issuer), token(n=2), token(sub="bob")):
            found = await stack.enter_async_context(client(port, text, mode="2026-07-28"))
            texts.append((await found.read_resource("x://y")).contents[0].text)
        assert texts == ["1", "2", "3", "1", "4"]


async def test_a_call_that_outlives_its_token_is_answered_and_told_of(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    server, gate = Server("s"), asyncio.Event()

    @server.tool
    async def wait() -> str:
        await gate.wait()
        return "done"

    async with serving(config(server, audit=str(audit))) as (gateway, _, knock):
        text = token()
        call = asyncio.create_task(knock.call("s_wait", {}, text))
        await until(lambda: bool(server.executor.running))
        gateway.access.verifier._forget(NAME)  # as its timer does
        gate.set()
        assert (await call).text == "done"
    assert json.loads(audit.read_text())["caller"] == "alice"


async def test_a_stream_of_a_gateway_ends_with_its_token_and_follows_nothing_more() -> None:
    wanted = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["shop://opening"]}}
    async with serving(config(build_shop())) as (gateway, _, knock):
        text = token()
        accept = "application/json, text/event-stream"
        opened = await knock.request("subscriptions/listen", "", wanted, text, Accept=accept)
        assert opened.headers["content-type"] == "text/event-stream"
        assert (len(gateway.hub), len(gateway.followers)) == (1, 1)
        gateway.access.verifier._forget(NAME)  # as where the issuer takes a key away
        await knock.until_closed()
        assert (len(gateway.hub), len(gateway.followers)) == (0, 0)


# -- reloading ---------------------------------------------------------------------------------------------------------


async def test_a_reload_keeps_keys_and_tokens_where_nothing_of_them_changed() -> None:
    async with key_server("r1") as keys:
        made = config(build_shop(), rule(keys.url))
        async with serving(made) as (gateway, _, knock):
            text = token()
            assert (await knock.call("s_echo", {"text": "x"}, text)).status == 200
            gateway.reload(replace(made, keys=(key(),)))
            assert (await knock.call("s_echo", {"text": "x"}, text)).status == 200
            assert (await knock.call("s_echo", {"text": "x"}, KEY)).status == 200
            assert keys.count == 1
            gateway.reload(replace(made, oauth=OAuthConfig(rule(keys.url, audience="https://new.test"))))
            refused = await knock.call("s_echo", {"text": "x"}, text)
            assert refused.challenge["error_description"] == "the token is for another audience"
            assert keys.count == 2
            gateway.reload(replace(made, oauth=None, keys=(key(),)))
            assert (await knock.call("s_echo", {"text": "x"}, text)).status == 401
            assert (await knock.ask("GET", WELL_KNOWN)).status == 404


async def test_a_gateway_takes_no_rule_of_a_server() -> None:
    with pytest.raises(Exception, match="GatewayConfig"):
        Gateway(GatewayConfig(()), auth=rule())


async def test_a_gateway_that_is_mounted_in_another_application_looks_at_tokens_too() -> None:
    app = Gateway(config(build_shop())).asgi()

    async def get(path: str, **headers: str) -> tuple[int, bytes]:
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
            "http_version": "1.1", "asgi": {"version": "3.0"}, "scheme": "http", "server": ("127.0.0.1", 80),
            "root_path": "", "client": ("192.0.2.1", 5000),
            "headers": [(b"host", b"127.0.0.1"), *((k.encode(), v.encode()) for k, v in headers.items())],
        }  # fmt: skip
        sent: list[Any] = []
        asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Any:
            found = next(asked, None)
            return found if found is not None else await asyncio.get_running_loop().create_future()

        async def send(message: Any) -> None:
            sent.append(message)

        async with asyncio.timeout(30):
            await app(scope, receive, send)
        return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])

    accept = {"accept": "text/event-stream"}
    assert (await get("/mcp", **accept))[0] == 401
    assert await get("/mcp", **accept, authorization=f"Bearer {token()}") == (
        400, b"Bad Request: Missing session ID; send initialize first",
    )  # fmt: skip
    status, body = await get(WELL_KNOWN)
    assert (status, json.loads(body)["resource"]) == (200, AUDIENCE)
    await app.close()
