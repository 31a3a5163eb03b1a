"""Any sequence of messages on one connection: nothing raises, each request has its answer, and nothing is left over."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erlmcp import Context, Limits, Server
from erlmcp.spec import method as m

MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}},
}
IDS = st.sampled_from([0, 1, 2, 3, "1", "2", "", "long" * 9])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x", "é", "tools/list"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "uri", "_meta"]), inner),
    max_leaves=6,
)
TOOLS = st.sampled_from(["echo", "turns", "hang", "asks", "thread", "fail", "big", "nobody"])
CALLS = st.builds(lambda name, n: {"name": name, "arguments": {"n": n}}, TOOLS, st.integers(0, 3) | st.just("x"))
PARAMS = st.one_of(
    CALLS,
    CALLS,
    CALLS,
    st.sampled_from(
        [
            {},
            {"uri": "data://r"},
            {"uri": "data://none"},
            {"name": "p"},
            {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["data://r"]}},
            {"level": "error"},
            {"cursor": "x"},
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "b"}},
        ]
    ),
    st.dictionaries(st.sampled_from(["name", "uri", "cursor", "level", "arguments", "notifications"]), JUNK),
)
METHODS = st.sampled_from([*["tools/call"] * 6, *sorted(frozenset().union(*m.CLIENT_REQUESTS.values())), "no/such"])


def request(id: Any, method: str, params: Any, meta: Any, extra: Any) -> dict[str, Any]:
    params = {**params, "_meta": {**ENVELOPE, **extra}} if meta == "modern" else dict(params)
    if meta == "junk":
        params["_meta"] = extra
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


EXTRAS = st.sampled_from(
    [{}, {}, {}, {"progressToken": 1}, {"io.modelcontextprotocol/logLevel": "debug"}, {"progressToken": []}]
)
REQUESTS = st.builds(
    request, IDS, METHODS, PARAMS, st.sampled_from(["modern", "modern", "none", "none", "junk"]), EXTRAS
)
NOTES = st.builds(
    lambda method, id: {"jsonrpc": "2.0", "method": method, "params": {"requestId": id}},
    st.sampled_from([m.CANCELLED, m.CANCELLED, m.INITIALIZED, m.PROGRESS, "tools/call", "notifications/x"]),
    IDS | JUNK,
)
ANSWERS = st.builds(lambda id, value: {"jsonrpc": "2.0", "id": id, "result": value}, IDS, JUNK)
MESSAGES = st.one_of(REQUESTS, REQUESTS, REQUESTS, NOTES, ANSWERS, JUNK)
ACTIONS = st.one_of(
    MESSAGES.map(lambda message: ("send", message)),
    MESSAGES.map(lambda message: ("send", message)),
    st.lists(MESSAGES, max_size=4).map(lambda batch: ("send", batch)),
    st.binary(max_size=12).map(lambda data: ("raw", data.replace(b"\n", b" ") + b"\n")),
    st.integers(1, 4).map(lambda turns: ("turn", turns)),
    st.just(("reply", None)),
    st.just(("change", None)),
    st.just(("release", None)),
)


def make_server() -> tuple[Server, asyncio.Event]:
    server = Server("s", limits=Limits(inflight_count_max=5, subscription_count_max=2, thread_count_max=1))
    gate = asyncio.Event()

    @server.tool
    async def echo(n: int) -> int:
        return n

    @server.tool
    async def turns(ctx: Context, n: int) -> int:
        for step in range(n):
            await ctx.progress(step)
            await ctx.info(step)
            await asyncio.sleep(0)
        return n

    @server.tool
    async def hang(n: int) -> int:
        await gate.wait()
        return n

    @server.tool
    async def asks(ctx: Context, n: int) -> str:
        found = await asyncio.gather(*(ctx.elicit(str(each), str, key=str(each)) for each in range(n)))
        return str(len(found))

    @server.tool
    def thread(n: int) -> int:
        return n

    @server.tool
    async def fail(n: int) -> int:
        return 1 // (n // 2)

    @server.tool
    async def big(n: int) -> str:
        return "x" * 10_000 * n

    server.add_resource(lambda: "r", "data://r", name="r")
    server.add_prompt(lambda: "p", name="p")
    return server, gate


def key_of(id: Any) -> str:
    return f"{type(id).__name__}:{id}"


class Conversation:
    """Sends actions and keeps account of what they are owed."""

    def __init__(self, server: Server, gate: asyncio.Event, wire: Any, version: str | None) -> None:
        self.server, self.gate, self.wire, self.version = server, gate, wire, version
        self.owed: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self.got: Counter[str] = Counter()
        self.questions: list[Any] = []
        self.changes = 0

    def account(self, message: Any) -> None:
        if isinstance(message, list):
            if self.version == "2025-03-26":
                for each in message:
                    self.account(each)
            return
        if not isinstance(message, dict) or "method" not in message:
            return
        if "id" in message:
            self.owed[key_of(message["id"])] += 1
            if message["method"] == m.LISTEN:
                self.excused[key_of(message["id"])] += 1
        elif message["method"] == m.CANCELLED and isinstance(message["params"]["requestId"], str | int):
            self.excused[key_of(message["params"]["requestId"])] += 1

    def send(self, message: Any) -> None:
        self.account(message)
        self.wire.send(json.dumps(message).encode() + b"\n")

    async def act(self, action: str, value: Any) -> None:
        if action == "send":
            self.send(value)
        elif action == "raw":
            self.wire.send(value)
        elif action == "turn":
            for _ in range(value):
                await asyncio.sleep(0)
        elif action == "reply":
            await self.collect()
            for id in self.questions:
                self.send({"jsonrpc": "2.0", "id": id, "result": {"action": "decline"}})
            self.questions.clear()
        elif action == "change":
            self.changes += 1
            self.server.add_tool(lambda: 1, name=f"t{self.changes}")
        else:
            self.gate.set()

    async def collect(self) -> None:
        for _ in range(self.wire.pending()):
            found = json.loads(await self.wire.receive())
            for each in found if isinstance(found, list) else [found]:
                if "method" not in each:
                    assert ("result" in each) != ("error" in each)
                    if each["id"] is not None:
                        self.got[key_of(each["id"])] += 1
                elif "id" in each:
                    self.questions.append(each["id"])

    async def finish(self) -> None:
        """Let everything end that can end by itself."""
        self.gate.set()
        session = self.wire._link.session
        for _ in range(200_000):
            await self.act("reply", None)
            await asyncio.sleep(0)
            running = [each for each in session.inflight.values() if each.call.method != m.LISTEN]
            if not running and not len(self.server.lanes):
                break
        else:
            raise AssertionError(f"still in flight: {session.inflight}")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await self.collect()


async def converse(version: str | None, actions: list[tuple[str, Any]]) -> None:
    server, gate = make_server()
    async with server.running():
        async with server.memory() as wire:
            talk = Conversation(server, gate, wire, version)
            if version == MODERN:
                talk.send(request("first", "tools/list", {}, "modern", {}))
            elif version is not None:
                params = {
                    "protocolVersion": version,
                    "capabilities": {"elicitation": {}},
                    "clientInfo": {"name": "a", "version": "b"},
                }
                talk.send(request("first", "initialize", params, "none", {}))
            for action, value in actions:
                await talk.act(action, value)
            await talk.finish()
            for id in talk.owed.keys() | talk.got.keys():
                missing = talk.owed[id] - talk.got[id]
                assert 0 <= missing <= talk.excused[id], (id, talk.owed, talk.got, talk.excused)
            session = wire._link.session
        for _ in range(3):
            await asyncio.sleep(0)
        assert not session.inflight
        assert not len(session.correlation)
        assert not len(server.hub)
        assert not server.executor.running
    assert not server._users


@pytest.mark.parametrize("version", [None, "2025-03-26", "2025-11-25", MODERN])
@pytest.mark.usefixtures("quiet")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(actions=st.lists(ACTIONS, max_size=30))
def test_a_random_conversation_is_answered_and_leaves_nothing(
    run: Callable[..., Any], version: str | None, actions: list[tuple[str, Any]]
) -> None:
    run(lambda: converse(version, actions))


@pytest.mark.deep
@pytest.mark.parametrize("version", [None, "2025-03-26", "2025-11-25", MODERN])
@pytest.mark.usefixtures("quiet")
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(actions=st.lists(ACTIONS, max_size=80))
def test_a_long_random_conversation_is_answered_and_leaves_nothing(
    run: Callable[..., Any], version: str | None, actions: list[tuple[str, Any]]
) -> None:
    run(lambda: converse(version, actions))


def test_the_account_is_able_to_fail(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, quiet: None) -> None:
    from erlmcp.runtime.exchange import Exchange

    monkeypatch.setattr(Exchange, "fail", lambda self, error: None)
    with pytest.raises(AssertionError):
        run(lambda: converse(MODERN, [("send", request(1, "tools/call", {"name": "nobody"}, "modern", {}))]))
