"""Callers: nothing of one reaches another, keys open what they are for, and the audit log tells who did what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage import Scripted, build_shop, result, scripted_gateway, until

from erlmcp import Client, Context, McpError, Server, ToolError
from erlmcp.errors import HttpStatusError
from erlmcp.gateway.access import Access
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import Credential, GatewayConfig, KeyConfig, UpstreamConfig
from erlmcp.gateway.load import load
from erlmcp.gateway.serve import http as gateway_http
from erlmcp.server.serve import http as server_http

KEYS = {"alice": "a" * 20, "bob": "b" * 20}
CAPABILITIES = {"elicitation": {}, "sampling": {}, "roots": {}}
STEP = st.tuples(st.sampled_from(["call", "progress", "log", "ask", "answer", "cancel"]), st.integers(0, 30))


def key(name: str, **options: Any) -> KeyConfig:
    import hashlib

    return KeyConfig(name, hashlib.sha256(KEYS[name].encode()).digest(), **options)


class Party:
    """One client of the property: what it called, and all that it heard."""

    def __init__(self, client: Any, number: int) -> None:
        self.client, self.number, self.calls = client, number, 0
        self.heard: list[dict[str, Any]] = []

    def call(self) -> None:
        self.calls += 1
        meta = {"progressToken": self.calls}  # the same tokens and ids for all
        self.client.post("tools/call", {"name": "echo", "arguments": {"whose": self.number}}, meta=meta)

    async def hear(self) -> None:
        for message in await self.client.settle():
            self.heard.append(message)
            if "id" in message and "method" in message:
                answer = {"action": "accept", "content": {"whose": self.number}}
                self.client.send({"jsonrpc": "2.0", "id": message["id"], "result": answer})


def whose(message: Any) -> set[int]:
    """The numbers of the parties that a message speaks of."""
    if isinstance(message, dict):
        own = {message["whose"]} if isinstance(message.get("whose"), int) else set()
        return own.union(*(whose(each) for each in message.values()))
    return set().union(*map(whose, message)) if isinstance(message, list) else set()


async def act(kind: str, at: int, parties: list[Party], upstream: Scripted) -> None:
    if kind == "call":
        parties[at % len(parties)].call()
    elif kind == "cancel":
        party = parties[at % len(parties)]
        if party.calls:
            party.client.notify("notifications/cancelled", {"requestId": party.calls + 1})
    elif upstream.waiting:
        request = upstream.waiting[at % len(upstream.waiting)]
        number = request["params"]["arguments"]["whose"]
        link = request["link"]
        if kind == "answer":
            upstream.waiting.remove(request)
            link.say(result(request, b'{"content":[],"_meta":{"whose":%d}}' % number))
            return
        token = request["params"]["_meta"].get("progressToken")
        words: dict[str, Any] = {
            "progress": {
                "method": "notifications/progress", "params": {"progressToken": token, "progress": 1, "whose": number},
            },
            "log": {"method": "notifications/message", "params": {"level": "error", "data": {"whose": number}}},
            "ask": {"id": f"q{at}", "method": "elicitation/create", "params": {"message": "?", "whose": number}},
        }  # fmt: skip
        link.say(json.dumps({"jsonrpc": "2.0", **words[kind]}).encode())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=8, max_size=30), asks=st.lists(st.booleans(), min_size=3, max_size=4))
def test_nothing_of_one_caller_reaches_another(run: Any, talk: Any, steps: list[Any], asks: list[bool]) -> None:
    async def play() -> None:
        upstream = Scripted("echo", modern=False)
        gateway = scripted_gateway(upstream)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(gateway.running())
            clients = [
                await stack.enter_async_context(talk(gateway, "2025-11-25", CAPABILITIES if is_asked else {}))
                for is_asked in asks
            ]
            parties = [Party(client, number) for number, client in enumerate(clients)]
            for kind, at in [*(("call", number) for number in range(len(parties))), *steps]:
                await act(kind, at, parties, upstream)
                for party in parties:
                    await party.hear()
            while upstream.waiting:
                await act("answer", 0, parties, upstream)
            for party in parties:
                await party.hear()
                for message in party.heard:
                    assert whose(message) <= {party.number}, (party.number, message)
            said = [message for message in map(json.loads, upstream.seen) if "result" in message]
            assert all(len(whose(message)) == 1 for message in said)

    run(play)


async def test_calls_are_made_with_the_credential_of_their_caller_and_nobody_elses() -> None:
    server = Server("behind")

    @server.tool
    async def who(ctx: Context, pause: int) -> str:
        for _ in range(pause):
            await asyncio.sleep(0)
        return ctx.headers.get("x-user", "nobody")

    async with server_http(server) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        upstream = UpstreamConfig("b", "http", url=url, headers={"X-User": "gateway"})
        keys = (
            key("alice", credentials={"b": Credential({"X-User": "alice"})}),
            key("bob", credentials={"b": Credential({"X-User": "bob"})}),
        )
        gateway = Gateway(GatewayConfig((upstream,), keys=keys, anonymous=True))
        async with gateway_http(gateway, port=0) as front, AsyncExitStack() as stack:
            clients = []
            for name in ("alice", "bob", None):
                headers = {"Authorization": f"Bearer {KEYS[name]}"} if name else {}
                client = Client(f"http://127.0.0.1:{front.port}/mcp", headers=headers)
                clients.append((name or "gateway", await stack.enter_async_context(client)))
            calls = [
                (name, client.call_tool("who", {"pause": turn * 7 % 5}))
                for turn in range(20)
                for name, client in clients
            ]
            found = await asyncio.gather(*(call for _, call in calls))
            assert [each.data for each in found] == [name for name, _ in calls]


async def test_without_a_key_that_is_known_nobody_comes_in(through: Any, quiet: None) -> None:
    config = {"keys": (key("alice"),), "anonymous": False}
    server = build_shop()
    gateway = Gateway(replace(GatewayConfig((UpstreamConfig("s", "server", target=server),)), **config))
    async with gateway_http(gateway, port=0) as front:
        url = f"http://127.0.0.1:{front.port}/mcp"
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}):
            for mode in ("legacy", "2026-07-28"):
                with pytest.raises(HttpStatusError) as refused:
                    async with Client(url, headers=headers, mode=mode):
                        pass
                assert refused.value.status == 401
                assert refused.value.headers["www-authenticate"].startswith("Bearer")
        for headers in ({"Authorization": f"bearer {KEYS['alice']}"}, {"X-API-Key": KEYS["alice"]}):
            async with Client(url, headers=headers) as client:
                assert (await client.call_tool("echo", {"text": "in"})).data == "in"


async def test_a_session_belongs_to_the_key_that_opened_it(quiet: None) -> None:
    server = build_shop()
    gateway = Gateway(GatewayConfig((UpstreamConfig("s", "server", target=server),), keys=(key("alice"), key("bob"))))
    for name in ("Authorization", "X-API-Key"):
        async with gateway_http(gateway, port=0) as front:
            url = f"http://127.0.0.1:{front.port}/mcp"
            async with Client(url, headers={name: KEYS["alice"]}, mode="legacy") as client:
                session: Any = client.channel
                session_id = session.heads.session
                async with Client(url, headers={name: KEYS["bob"]}, mode="legacy", reconnect=False) as other:
                    thief: Any = other.channel
                    thief.heads.set(session=session_id)
                    with pytest.raises(Exception, match="session"):
                        await other.call_tool("echo", {"text": "x"})


async def test_a_key_sees_and_calls_what_its_lists_allow() -> None:
    server = build_shop()
    keys = (key("alice", allow=("s_e*", "s_greet", "shop://*")), key("bob", deny=("s_echo", "shop://opening")))
    gateway = Gateway(GatewayConfig((UpstreamConfig("s", "server", target=server, prefix="s_"),), keys=keys))
    async with gateway_http(gateway, port=0) as front, AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{front.port}/mcp"
        alice, bob = [
            await stack.enter_async_context(Client(url, headers={"Authorization": f"Bearer {KEYS[name]}"}))
            for name in ("alice", "bob")
        ]
        assert [tool.name for tool in await alice.list_tools()] == ["s_echo"]
        assert (await alice.call_tool("s_echo", {"text": "x"})).data == "x"
        with pytest.raises(McpError, match="Unknown tool: s_add"):
            await alice.call_tool("s_add", {"a": 1})
        assert (await alice.read_resource("shop://opening")).contents
        assert [prompt.name for prompt in await alice.list_prompts()] == ["s_greet"]
        assert "s_echo" not in [tool.name for tool in await bob.list_tools()]
        assert (await bob.call_tool("s_add", {"a": 1})).data == 2
        with pytest.raises(McpError, match="Unknown tool: s_echo"):
            await bob.call_tool("s_echo", {"text": "x"})
        assert await bob.list_resources() == []
        with pytest.raises(McpError, match="not found"):
            await bob.read_resource("shop://opening")


def test_callers_are_remembered_by_their_header_and_strangers_are_not() -> None:
    access = Access(GatewayConfig((), keys=(key("alice"),), anonymous=False))
    header = {"authorization": f"Bearer {KEYS['alice']}"}
    assert access.caller(header) is access.caller(header)
    assert access.caller({"x-api-key": KEYS["alice"]}).name == "alice"  # type: ignore[union-attr]
    assert access.caller({"authorization": "Bearer " + "x" * 20}) is None
    assert access.caller({}) is None
    assert access.caller(None).name == ""  # type: ignore[union-attr]
    open_access = Access(GatewayConfig((), keys=(key("alice"),), anonymous=True))
    assert open_access.caller({}).name == ""  # type: ignore[union-attr]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def test_the_audit_log_tells_who_called_what_and_how_it_went(through: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for over in ("memory", "http"):
        path.unlink(missing_ok=True)
        async with through(over=over, config={"audit": str(path)}) as setting:
            client = setting.client
            await client.call_tool("shop_echo", {"text": "secret words"})
            with pytest.raises(ToolError):
                await client.call_tool("shop_fail", {"text": "x"})
            with pytest.raises(McpError):
                await client.call_tool("shop_refuse")
            await client.read_resource("shop://opening")
            call = asyncio.create_task(client.call_tool("shop_wait"))
            await until(lambda: bool(setting.server.executor.running))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: setting.server.cancelled == 1)
        found = lines_of(path)
        assert [(each["name"], each["outcome"], each.get("code")) for each in found] == [
            ("shop_echo", "ok", None),
            ("shop_fail", "tool_error", None),
            ("shop_refuse", "error", -31000),
            ("shop://opening", "ok", None),
            ("shop_wait", "cancelled", None),
        ]
        assert {each["upstream"] for each in found} == {"shop"}
        assert all(each["ms"] >= 0 and each["at"].endswith("Z") and "arguments" not in each for each in found)
        assert "secret words" not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0


async def test_arguments_are_in_the_audit_log_where_they_were_asked_for(through: Any, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with through("legacy", "legacy", config={"audit": str(path), "audit_arguments": True}) as setting:
        await setting.client.call_tool("shop_echo", {"text": "told"})
    (found,) = lines_of(path)
    assert found["arguments"] == {"text": "told"}
    assert found["caller"] is None


async def test_the_audit_log_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    (tmp_path / "mcp.json").write_text(
        json.dumps(
            {
                "mcpServers": {"s": {"server": str(Path(__file__).parents[1] / "client/shop.py")}},
                "gateway": {"audit": str(path), "keys": {"alice": {"key": "${K}"}}},
            }
        )
    )
    config = load([tmp_path / "mcp.json"], {"K": KEYS["alice"]})
    gateway = Gateway(config, load_server=lambda target: build_shop())
    async with gateway_http(gateway, port=0) as front:
        headers = {"Authorization": f"Bearer {KEYS['alice']}"}
        async with Client(f"http://127.0.0.1:{front.port}/mcp", headers=headers) as client:
            await client.call_tool("s_echo", {"text": "x"})
    (found,) = lines_of(path)
    assert found["caller"] == "alice"


@pytest.mark.parametrize("name", ["add_tool", "add_prompt"])
async def test_a_gateway_has_nothing_of_its_own(name: str) -> None:
    gateway = Gateway(GatewayConfig(()))
    with pytest.raises(Exception, match="of its own; put a Server"):
        getattr(gateway, name)(lambda: None)
    with pytest.raises(Exception, match="of its own; put a Server"):
        gateway.add_resource(lambda: None, "x://y")


async def test_a_gateway_that_is_mounted_in_another_application_looks_at_keys_too() -> None:
    server = build_shop()
    config = GatewayConfig((UpstreamConfig("s", "server", target=server),), keys=(key("alice"),), anonymous=False)
    app = Gateway(config).asgi()
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "echo", "arguments": {"text": "in"}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    headers = {
        "content-type": "application/json", "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call",
        "mcp-name": "echo", "host": "127.0.0.1", "accept": "application/json",
    }  # fmt: skip

    async def post(**more: str) -> tuple[int, bytes]:
        given = {**headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        scope = {
            "type": "http", "method": "POST", "path": "/mcp", "raw_path": b"/mcp", "query_string": b"",
            "http_version": "1.1", "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "asgi": {"version": "3.0"}, "scheme": "http", "server": ("127.0.0.1", 80), "root_path": "",
        }  # fmt: skip
        sent: list[Any] = []
        asked = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            found = next(asked, None)
            return found if found is not None else await asyncio.get_running_loop().create_future()

        async def send(message: Any) -> None:
            sent.append(message)

        async with asyncio.timeout(10):
            await app(scope, receive, send)
        return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])

    assert (await post())[0] == 401
    assert (await post(x_api_key="wrong"))[0] == 401
    status, answer = await post(x_api_key=KEYS["alice"])
    assert (status, b'"text":"in"' in answer) == (200, True)
    await app.close()
