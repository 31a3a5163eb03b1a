"""Sides of a server: the same answers on either stack and with any flags, and connections that never mix."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from erlmcp import BreakerRule, Context, Flags, Guards, Server, ToolError, core
from erlmcp.errors import ConfigurationError
from erlmcp.flags import of_phase
from erlmcp.runtime.link import Link
from erlmcp.server.side import Side

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


def build(flags: Flags | None = None) -> Server:
    server = Server("sides", flags=flags or Flags())

    @server.tool
    async def echo(text: str, count: int = 1) -> dict[str, list[str]]:
        return {"said": [text] * count}

    @server.tool
    async def plain(text: str) -> str:
        return text

    @server.tool
    async def wait(text: str) -> str:
        await asyncio.sleep(0)
        return text

    @server.tool
    def thread(a: int) -> int:
        return a + 1

    @server.tool
    async def fail() -> str:
        raise ToolError("as wanted")

    @server.tool
    async def context(ctx: Context) -> str:
        assert isinstance(ctx.server, Server)
        await ctx.progress(1)
        return ctx.server.name

    server.add_resource(lambda: "é/\u2028", "data://r", name="r")
    server.add_prompt(lambda who="x": who, name="p")
    return server


def requests(version: str) -> list[dict[str, Any]]:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("tools/list", {}),
        ("resources/list", {}),
        ("prompts/list", {}),
        ("tools/call", {"name": "echo", "arguments": {"text": 'é"\n☃', "count": 2}}),
        ("tools/call", {"name": "echo", "arguments": {"text": 3}}),
        ("tools/call", {"name": "plain", "arguments": {"text": "x"}}),
        ("tools/call", {"name": "wait", "arguments": {"text": "x"}}),
        ("tools/call", {"name": "thread", "arguments": {"a": 1}}),
        ("tools/call", {"name": "fail"}),
        ("tools/call", {"name": "context"}),
        ("tools/call", {"name": "absent"}),
        ("resources/read", {"uri": "data://r"}),
        ("prompts/get", {"name": "p", "arguments": {"who": "y"}}),
        ("no/method", {}),
    ]
    if version != "2026-07-28":
        asked.append(("ping", {}))
    return [{"jsonrpc": "2.0", "id": number, "method": m, "params": p} for number, (m, p) in enumerate(asked, 1)]


class Wire:
    """The client's end of a link."""

    def __init__(self, host: Any, version: str) -> None:
        self.answers: dict[Any, Any] = {}
        self.writes: list[bytes] = []
        self.link = Link(host, self._write)
        self.version = version

    def _write(self, data: bytes) -> None:
        self.writes.append(data)
        for line in data.splitlines():
            message = json.loads(line)
            self.answers[message.get("id", "note")] = message

    def send(self, *messages: dict[str, Any]) -> None:
        modern = self.version == "2026-07-28"
        for message in messages if modern else ():
            message["params"] = {**message["params"], "_meta": META}
        self.link.feed(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    async def until(self, count: int) -> dict[Any, Any]:
        async with asyncio.timeout(10):
            while len(self.answers) < count:
                await asyncio.sleep(0)
        return self.answers

    async def talk(self) -> dict[Any, Any]:
        if self.version != "2026-07-28":
            params = {"protocolVersion": self.version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            self.send({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": params})
            self.send({"jsonrpc": "2.0", "method": "notifications/initialized", "params": {}})
        asked = requests(self.version)
        self.send(*asked)
        found = await self.until(len(asked) + (self.version != "2026-07-28"))
        self.link.close()
        return found


SIDES = [
    ("core", Flags(), False),
    ("core", of_phase("baseline"), False),
    ("model", Flags(), False),
    ("model", of_phase("baseline"), False),
    ("model", of_phase("baseline"), True),
    ("core", of_phase("3"), True),
]


@pytest.mark.parametrize(("stack", "flags", "is_plain"), SIDES, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-11-25", "2026-07-28"])
async def test_a_side_answers_what_its_server_answers(stack: str, flags: Flags, is_plain: bool, version: str) -> None:
    server = build()
    async with server.running():
        side = server.side(stack=stack, flags=flags, is_plain_json=is_plain)
        own, other = Wire(server, version), Wire(side, version)
        assert other.link.inbound.__class__.__module__ == f"erlmcp._{stack}.corridor"
        assert await other.talk() == await own.talk()


async def test_sides_of_both_stacks_serve_connections_at_the_same_time() -> None:
    server = build()
    async with server.running():
        hosts = [server, server.baseline(), server.side(stack="model"), server.side(flags=of_phase("2"))]
        wires = [Wire(hosts[number % 4], "2025-11-25") for number in range(12)]
        found = await asyncio.gather(*(wire.talk() for wire in wires))
    assert all(answers == found[0] for answers in found)


async def test_the_baseline_writes_one_message_a_time_and_the_server_all_at_once() -> None:
    server = build()
    async with server.running():
        own, baseline = Wire(server, "2026-07-28"), Wire(server.baseline(), "2026-07-28")
        for wire in (own, baseline):
            wire.send(
                *({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "plain"}} for n in range(3))
            )
            await wire.until(3)
            wire.link.close()
    assert [len(wire.writes) for wire in (own, baseline)] == [1, 3]


async def test_the_json_module_decodes_and_encodes_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import ujson

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("ujson was used")

    server = build()
    async with server.running():
        wire = Wire(server.baseline(), "2026-07-28")
        monkeypatch.setattr(ujson, "loads", refuse)
        monkeypatch.setattr(ujson, "dumps", refuse)
        assert (await wire.talk())[6]["result"]["content"] == [{"type": "text", "text": "x"}]


async def test_tools_and_prompts_that_come_and_go_do_so_on_every_side() -> None:
    server = build()
    async with server.running():
        sides: list[Side] = [server.baseline(), server.side(flags=of_phase("4"))]

        async def late(text: str) -> str:
            return f"late {text}"

        server.add_tool(late)
        server.add_prompt(lambda: "late", name="later")
        server.remove_tool("echo")
        server.remove_prompt("p")
        for side in sides:
            wire = Wire(side, "2026-07-28")
            wire.send(
                {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "tools/call",
                    "params": {"name": "late", "arguments": {"text": "x"}},
                },
                {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo"}},
                {"jsonrpc": "2.0", "id": 3, "method": "prompts/get", "params": {"name": "later"}},
                {"jsonrpc": "2.0", "id": 4, "method": "prompts/get", "params": {"name": "p"}},
            )
            found = await wire.until(4)
            assert found[1]["result"]["content"][0]["text"] == "late x"
            assert found[3]["result"]["messages"][0]["content"]["text"] == "late"
            assert "Unknown tool" in found[2]["error"]["message"]
            assert "Unknown prompt" in found[4]["error"]["message"]
            wire.link.close()


async def test_middleware_runs_on_every_side() -> None:
    server = build()
    seen: list[str] = []

    async def note(ctx: Context, call_next: Any) -> Any:
        seen.append(ctx.method)
        return await call_next(ctx)

    async with server.running():
        side = server.baseline()
        server.add_middleware(note)
        wire = Wire(side, "2026-07-28")
        wire.send(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "plain", "arguments": {"text": "x"}}}
        )
        assert (await wire.until(1))[1]["result"]["content"][0]["text"] == "x"
        wire.link.close()
    assert seen == ["tools/call"]


async def test_a_side_on_the_servers_stack_has_a_short_way_of_its_own() -> None:
    server = build()
    assert server.side().stride is None
    async with server.running():
        side, baseline = server.side(), server.baseline()
        assert baseline.stride is None
        if core.IMPLEMENTATION == "core":
            assert side.stride is not None
            assert side.stride.host is side
            assert side.stride is side.stride
        assert side.is_servers_own
        assert not baseline.is_servers_own
        server.set_flags(zero_copy=False)
        assert not side.is_servers_own


def test_a_stack_offers_the_names_of_the_core_and_objects_of_its_own_kind() -> None:
    model = core.stack("model")
    assert model.IMPLEMENTATION == "model"
    assert model is core.stack("model")
    assert model.Inbound.__module__ == "erlmcp._model.corridor"
    assert core.stack().Inbound is core.Inbound
    with pytest.raises(AttributeError, match="no 'Nothing'"):
        _ = model.Nothing
    with pytest.raises(ConfigurationError, match="expected 'core' or 'model'"):
        core.stack("rust")


async def test_a_message_that_this_side_cannot_read_is_an_error_answer() -> None:
    server = build()
    async with server.running():
        side = server.baseline()
        assert side.read(b'{"jsonrpc":"2.0","id":1,\n"method":"ping"}').method == "ping"
        assert side.read(b"{").code == -32700
        assert side.read(b'{"jsonrpc":"2.0","id":2,"method":"ping"}').id == 2


async def test_a_side_and_a_candidate_have_guards_of_their_own_that_follow_their_flags() -> None:
    server = Server("guarded")
    rules = Guards(breaker=BreakerRule(failures_in_row=1, open_s=60, jitter=0))

    @server.tool(name="work", guards=rules)
    async def work(text: str) -> str:
        raise RuntimeError(text)

    side = server.side(flags=Flags(circuit_breaker=False))
    trial = server.candidate("work", work, has_shadow=False)
    own, others = server.tools["work"].guard, (side.tools["work"].guard, trial.arms[1].own.guard)
    assert own is not None
    assert [each.is_breaking for each in (own, *others)] == [True, False, True]
    own.failed(own.enter(), RuntimeError("down"))
    assert own.enter() <= 0
    assert all(each.enter() > 0 for each in others)
    server.set_flags(circuit_breaker=False)
    assert [each.is_breaking for each in (own, *others)] == [False, False, False]
