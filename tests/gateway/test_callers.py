"""Callers: nothing of one reaches another, keys open what they are for, and the audit log tells who did what."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stage import ROOT, Scripted, build_shop, result, scripted_gateway, until

sys.path.insert(0, str(ROOT / "tests/auth"))

from issuer import pem, rule, token
from knock import META, Knock

from erlmcp import Client, Context, McpError, Server, ToolError
from erlmcp.errors import HttpStatusError
from erlmcp.gateway.access import Access
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import Credential, GatewayConfig, GrantConfig, KeyConfig, OAuthConfig, UpstreamConfig
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


# -- the same with keys and tokens, over HTTP: what is called, read, listed and asked, with what credential ------------

ELSEWHERE = "https://other.test"
ASKING = {**META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
MOVE = st.tuples(st.integers(0, 5), st.sampled_from(["call", "read", "list", "hidden", "ask", "answer", "steal"]))
GRANTS = {"all": GrantConfig(), "read": GrantConfig(allow=("b_who", "b://*"))}


@dataclass
class Visitor:
    """Who comes: ``show`` gives a credential, another one each time where it is a token. ``sees`` are its tools."""

    name: str
    show: Callable[[int], str]
    sees: set[str]
    user: str = "gateway"


VISITORS = [
    Visitor("key alice", lambda _: KEYS["alice"], {"b_who", "b_ask"}, user="alice"),
    Visitor("key bob", lambda _: KEYS["bob"], {"b_who"}),
    Visitor("token alice", lambda n: token(scope="all", n=n), {"b_who", "b_ask"}),
    Visitor("token bob", lambda n: token(sub="bob", scope="read", n=n), {"b_who"}),
    Visitor("token alice elsewhere", lambda n: token("r2", iss=ELSEWHERE, scope="all", n=n), {"b_who", "b_ask"}),
    Visitor("stranger", lambda n: token("e2", scope="all", n=n), set()),
]


def build_told() -> Server:
    """What answers with what it was asked, and who seems to ask."""
    server = Server("told")

    @server.tool
    async def who(ctx: Context, whose: int) -> list[Any]:
        await asyncio.sleep(0)
        return [whose, ctx.headers.get("x-user", "nobody")]

    @server.tool
    async def ask(ctx: Context, whose: int) -> list[Any]:
        found = await ctx.elicit(f"{whose}?", {"type": "object", "properties": {"whose": {"type": "integer"}}})
        return [whose, (found.data or {}).get("whose")]

    return server


def build_kept() -> Server:
    """What is read differs each time, and is kept for who read it."""
    server, reads = Server("kept", cache_ttl_ms=60_000, cache_scope="private"), itertools.count()

    @server.resource("b://mine")
    async def mine() -> str:
        return f"read {next(reads)}"

    return server


class Play:
    """One run of the property: ``open`` are the rounds that wait for their visitor, ``texts`` what each has read."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(VISITORS))}
        self.texts: dict[int, set[str]] = {number: set() for number in range(len(VISITORS))}

    async def request(self, number: int, at: int, method: str, name: str, params: dict[str, Any]) -> Any:
        """The result, the error, or the status of a refusal."""
        async with Knock(self.port) as knock:
            answer = await knock.request(method, name, params, VISITORS[number].show(at % 3))
        if answer.status != 200:
            return answer.status
        message = json.loads(answer.body)
        return message.get("result", message.get("error"))

    async def move(self, number: int, kind: str, at: int) -> None:
        visitor, ways = VISITORS[number], {"call": self.call, "read": self.read, "list": self.list}
        if not visitor.sees:
            assert await self.request(number, at, "tools/list", "", {}) == 401
        elif kind in ways:
            await ways[kind](number, at)
        elif "b_ask" not in visitor.sees:
            found = await self.request(number, at, "tools/call", "b_ask", {"name": "b_ask", "arguments": {"whose": 0}})
            assert found == 403 or "Unknown tool" in found["message"]
        elif kind == "ask":
            params = {"name": "b_ask", "arguments": {"whose": number}, "_meta": ASKING}
            found = await self.request(number, at, "tools/call", "b_ask", params)
            ((key, question),) = found["inputRequests"].items()
            assert question["params"]["message"] == f"{number}?"
            responses = {key: {"action": "accept", "content": {"whose": number}}}
            self.open[number].append({**params, "inputResponses": responses, "requestState": found["requestState"]})
        elif kind == "answer" and self.open[number]:
            found = await self.request(number, at, "tools/call", "b_ask", self.open[number].pop())
            assert found["structuredContent"]["result"] == [number, number]
        elif kind == "steal":
            for other, rounds in self.open.items():
                if other != number and rounds:
                    found = await self.request(number, at, "tools/call", "b_ask", rounds[-1])
                    assert "requestState" in found["message"]

    async def call(self, number: int, at: int) -> None:
        params = {"name": "b_who", "arguments": {"whose": number}}
        found = await self.request(number, at, "tools/call", "b_who", params)
        assert found["structuredContent"]["result"] == [number, VISITORS[number].user]

    async def read(self, number: int, at: int) -> None:
        found = await self.request(number, at, "resources/read", "b://mine", {"uri": "b://mine"})
        self.texts[number].add(found["contents"][0]["text"])

    async def list(self, number: int, at: int) -> None:
        found = await self.request(number, at, "tools/list", "", {})
        assert {tool["name"] for tool in found["tools"]} == VISITORS[number].sees


ALL_OF_IT = [
    [(0, "ask"), (2, "ask"), (4, "ask")],
    [(0, "steal"), (2, "steal"), (4, "steal"), (3, "hidden"), (1, "hidden")],
    [(number, "read") for number in range(6)],
    [(number, "read") for number in range(6)],
    [(number, "call") for number in range(6)],
    [(number, "list") for number in range(6)],
    [(0, "answer"), (2, "answer"), (4, "answer")],
]


@example(turns=ALL_OF_IT)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.lists(MOVE, min_size=1, max_size=6, unique_by=lambda move: move[0]), min_size=2, max_size=8))
def test_nothing_of_one_key_or_token_reaches_another(run: Any, turns: list[Any]) -> None:
    """Visitors at the same time, with keys and with tokens that change: two of them are called alice, by different
    issuers, as is a key. Each gets its own answers, by its own credential, of what it may see."""
    first, second = rule(key=pem("r1")), rule(key=pem("r2"))
    auth = replace(first, issuers=(*first.issuers, replace(second.issuers[0], issuer=ELSEWHERE)))
    keys = (key("alice", credentials={"b": Credential({"X-User": "alice"})}), key("bob", deny=("b_ask",)))

    async def play() -> None:
        async with server_http(build_told()) as told:
            url = f"http://127.0.0.1:{told.port}/mcp"
            own = {"X-User": "gateway"}
            upstreams = (
                UpstreamConfig("b", "http", url=url, headers=own, mode="legacy", prefix="b_"),
                UpstreamConfig("kept", "server", target=build_kept(), mode="2026-07-28"),
            )
            oauth = OAuthConfig(auth, grants=GRANTS)
            limits = {"auth_failure_count_max": 1000}
            config = GatewayConfig(upstreams, keys=keys, oauth=oauth, anonymous=False, limits=limits)
            async with gateway_http(Gateway(config), port=0) as front:
                game = Play(front.port)
                for at, moves in enumerate(turns):
                    await asyncio.gather(*(game.move(number, kind, at) for number, kind in moves))
                assert all(len(texts) <= 1 for texts in game.texts.values())  # each has its own, and has it kept
                everybody = [text for texts in game.texts.values() for text in texts]
                assert len(everybody) == len(set(everybody))

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
