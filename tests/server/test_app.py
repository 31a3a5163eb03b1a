"""The server object: registration, running, lifespan, dependencies, and its in-memory connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

from erlmcp import ConfigurationError, Context, Depends, Flags, Limits, Server
from erlmcp.errors import ConnectionClosedError

MODERN = "2026-07-28"


# -- registration -------------------------------------------------------------------------------------------------


def test_decorators_give_the_function_back_and_register_it() -> None:
    server = Server("s")

    @server.tool
    def one() -> int:
        """First."""
        return 1

    @server.tool(name="zwei")
    def two() -> int:
        return 2

    @server.prompt
    def ask() -> str:
        return "x"

    @server.prompt(name="fragen")
    def ask_too() -> str:
        return "x"

    @server.resource("data://r")
    def read() -> str:
        return "x"

    assert (one(), two(), ask(), ask_too(), read()) == (1, 2, "x", "x", "x")
    found = server.describe()
    assert [tool["name"] for tool in found["tools"]] == ["one", "zwei"]
    assert [prompt["name"] for prompt in found["prompts"]] == ["ask", "fragen"]
    assert [resource["uri"] for resource in found["resources"]] == ["data://r"]
    assert found["resourceTemplates"] == []


@pytest.mark.parametrize("kind", ["tool", "prompt", "resource", "template"])
def test_a_name_is_registered_once_and_may_be_given_again_after_removal(kind: str) -> None:
    server = Server("s")

    def add() -> None:
        if kind == "tool":
            server.add_tool(lambda: 1, name="x")
        elif kind == "prompt":
            server.add_prompt(lambda: "x", name="x")
        elif kind == "resource":
            server.add_resource(lambda: "x", "data://x", name="x")
        else:
            server.add_resource(lambda v: "x", "data://{v}", name="x")

    remove = {
        "tool": lambda: server.remove_tool("x"),
        "prompt": lambda: server.remove_prompt("x"),
        "resource": lambda: server.remove_resource("data://x"),
        "template": lambda: server.remove_resource("data://{v}"),
    }[kind]
    with pytest.raises(KeyError):
        remove()
    add()
    with pytest.raises(ConfigurationError, match="registered already"):
        add()
    remove()
    add()
    assert sum(map(len, server.describe().values())) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_scope": "shared"}, "cache_scope"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": -3}, "page_size"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Server("s", **options)


def test_a_decorator_with_a_bare_name_says_how_it_is_meant() -> None:
    with pytest.raises(ConfigurationError, match="name='add'"):
        Server("s").tool("add")  # type: ignore[call-overload]


# -- running ------------------------------------------------------------------------------------------------------


async def test_a_server_that_does_not_run_says_so() -> None:
    server = Server("s")
    for use in (
        lambda: server.loop,
        lambda: server.link(lambda data: None),
        lambda: server.executor.running,
        lambda: server.lanes.submit,
    ):
        with pytest.raises(ConfigurationError, match="not running"):
            use()
    async with server.running():
        assert server.loop is asyncio.get_running_loop()
    with pytest.raises(ConfigurationError, match="not running"):
        _ = server.loop


async def test_the_lifespan_is_entered_by_the_first_user_and_left_by_the_last(talk: Any) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[dict[str, int]]:
        seen.append(f"enter {server.name}")
        yield {"shelf": 3}
        seen.append("leave")

    server = Server("s", lifespan=lifespan)

    @server.tool
    async def shelf(ctx: Context) -> int:
        return int(ctx.lifespan["shelf"])

    for _ in range(2):
        async with talk(server) as client, talk(server, "2025-11-25") as other:
            assert await client.text("shelf") == await other.text("shelf") == "3"
        assert server.lifespan_value is None
    assert seen == ["enter s", "leave"] * 2


@pytest.mark.parametrize("when", ["enter", "leave"])
async def test_a_lifespan_that_fails_leaves_a_server_that_can_start_again(when: str) -> None:
    fails = True

    @asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[None]:
        if fails and when == "enter":
            raise OSError("no database")
        yield
        if fails and when == "leave":
            raise OSError("no database")

    server = Server("s", lifespan=lifespan)
    with pytest.raises(OSError, match="no database"):
        async with server.running():
            pass
    fails = False
    async with server.running():
        pass


async def test_stop_cancels_what_still_runs_and_waits_for_it(talk: Any) -> None:
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[None]:
        yield
        order.append("lifespan left")

    server = Server("s", lifespan=lifespan)

    @server.tool
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            order.append("handler ended")

    async with talk(server) as client:
        client.post("tools/call", {"name": "hang"})
        await client.settle()
    assert order == ["handler ended", "lifespan left"]


async def test_one_server_can_serve_on_two_loops_one_after_the_other() -> None:
    server = Server("s")

    @server.tool
    async def twice(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    async def use() -> bytes:
        meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
        params = {"name": "twice", "arguments": {"n": 4}, "_meta": meta}
        async with server.memory() as wire:
            wire.send(
                json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode() + b"\n"
            )
            return await wire.receive()

    assert b'"result":8' in await asyncio.to_thread(asyncio.run, use())
    assert b'"result":8' in await use()


async def test_a_link_writes_one_time_for_one_read(talk: Any) -> None:
    server = Server("s")
    server.add_tool(lambda: 1, name="one", run_in_thread=False)
    written: list[bytes] = []
    async with server.running():
        link = server.link(written.append)
        line = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        link.feed((json.dumps(line).encode() + b"\n") * 5)
        assert len(written) == 1
        assert written[0].count(b"\n") == 5
        link.close()
        link.close()
        link.feed(json.dumps(line).encode() + b"\n")
        link.notify("notifications/message", {})
        await asyncio.sleep(0)
        assert len(written) == 1


async def test_the_memory_connection_refuses_to_send_when_it_is_closed() -> None:
    async with Server("s").memory() as wire:
        assert wire.pending() == 0
        with pytest.raises(TimeoutError):
            await wire.receive(0.001)
        wire.close()
        with pytest.raises(ConnectionClosedError):
            wire.send(b"{}\n")


async def test_a_line_that_is_too_long_is_refused_and_names_the_limit(talk: Any) -> None:
    server = Server("s", limits=Limits(message_bytes_max=600))
    async with talk(server, "2025-11-25") as client:
        client.send(client.message("ping", {"x": "y" * 1000}))
        error = (await client.receive())["error"]
        assert error["code"] == -32600
        assert "message_bytes_max" in error["message"]
        assert await client.result("ping") == {}


@pytest.mark.parametrize("kind", ["ping", "call", "list", "unknown", "junk", "thread"])
async def test_requests_whose_answers_are_together_too_large_all_get_one(talk: Any, kind: str) -> None:
    server = Server("s", limits=Limits(outbox_bytes_max=1500))

    @server.tool
    async def echo(text: str) -> str:
        return text

    server.add_tool(lambda text: text, name="thread")
    line: Any = {
        "ping": {"method": "ping"},
        "call": {"method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x" * 99}}},
        "list": {"method": "tools/list"},
        "unknown": {"method": "tools/call", "params": {"name": "nobody"}},
        "junk": {"method": 7},
        "thread": {"method": "tools/call", "params": {"name": "thread", "arguments": {"text": "x" * 99}}},
    }[kind]
    async with talk(server, "2025-06-18") as client:
        lines = [json.dumps({"jsonrpc": "2.0", "id": id, **line}).encode() + b"\n" for id in range(100)]
        client.wire.send(b"".join(lines))
        answers = [await client.receive() for _ in lines]
        assert sorted(answer["id"] for answer in answers) == list(range(100))
        refused = [answer["error"]["message"] for answer in answers if "error" in answer]
        assert len(refused) == len(lines) if kind in ("unknown", "junk") else len(refused) < len(lines)
        if kind not in ("unknown", "junk"):
            assert all("outbox_bytes_max" in message for message in refused)


# -- flags --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["async_execution", "zero_copy", "native_json"])
@pytest.mark.parametrize("version", ["2025-03-26", MODERN])
async def test_with_a_feature_switched_off_the_answers_are_the_same(talk: Any, flag: str, version: str) -> None:
    def make(flags: Flags) -> Server:
        server = Server("s", flags=flags)

        @server.tool
        async def echo(ctx: Context, text: str, n: int = 1, waits: bool = False) -> dict[str, Any]:
            if waits:
                await asyncio.sleep(0)
            await ctx.progress(1)
            return {"text": text * n}

        @server.tool
        async def fail() -> float:
            return float("inf")

        @server.tool
        async def plain(a: int) -> int:
            return a

        server.add_resource(lambda: "é/\u2028", "data://r", name="r")
        server.add_prompt(lambda who="x": who, name="p")
        return server

    async def record(server: Server) -> list[Any]:
        async with talk(server, version) as client:
            found = [client.hello]
            for method, params in [
                ("tools/list", {}),
                ("tools/call", {"name": "echo", "arguments": {"text": 'é/"\\', "n": 2}}),
                ("tools/call", {"name": "echo", "arguments": {"text": "é", "waits": True}}),
                ("tools/call", {"name": "echo", "arguments": {"text": 3}}),
                ("tools/call", {"name": "plain", "arguments": {"a": 2**70}}),
                ("tools/call", {"name": "plain"}),
                ("tools/call", {"name": "fail"}),
                ("tools/call", {"name": "nobody"}),
                ("resources/read", {"uri": "data://r"}),
                ("prompts/get", {"name": "p", "arguments": {"who": "Ann"}}),
                ("tools/list", {"cursor": "x"}),
            ]:
                found.append(await client.ask(method, params, meta={"progressToken": "t"}))
            return [found, client.notes]

    switched: dict[str, bool] = {flag: False}
    assert await record(make(Flags(**switched))) == await record(make(Flags()))


# -- dependencies -------------------------------------------------------------------------------------------------


def database() -> str:
    return "real"


async def test_dependencies_run_for_tools_prompts_and_resources(talk: Any) -> None:
    server = Server("s")
    seen: list[str] = []

    async def session(ctx: Context, db: Annotated[str, Depends(database)]) -> AsyncIterator[str]:
        seen.append(f"open for {ctx.method}")
        yield f"{db} session"
        seen.append("close")

    @server.tool
    async def tool(s: Annotated[str, Depends(session)]) -> str:
        return s

    @server.tool
    def sync_tool(s: Annotated[str, Depends(session)]) -> str:
        return s

    @server.prompt
    async def prompt(s: Annotated[str, Depends(session)]) -> str:
        return s

    @server.resource("data://r")
    def resource(s: Annotated[str, Depends(session)]) -> str:
        return s

    async with talk(server) as client:
        assert await client.text("tool") == "real session"
        assert await client.text("sync_tool") == "real session"
        await client.result("prompts/get", {"name": "prompt"})
        assert (await client.result("resources/read", {"uri": "data://r"}))["contents"][0]["text"] == "real session"
    assert [each for each in seen if each != "close"] == [
        "open for tools/call",
        "open for tools/call",
        "open for prompts/get",
        "open for resources/read",
    ]
    assert seen.count("close") == 4


async def test_dependencies_are_overridden_within_a_context(talk: Any) -> None:
    server = Server("s")

    @server.tool
    async def tool(db: Annotated[str, Depends(database)]) -> str:
        return db

    @server.prompt
    async def prompt(db: Annotated[str, Depends(database)]) -> str:
        return db

    @server.resource("data://r")
    async def resource(db: Annotated[str, Depends(database)]) -> str:
        return db

    @server.resource("data://t/{x}")
    async def template(x: str, db: Annotated[str, Depends(database)]) -> str:
        return db

    async def read(client: Any) -> set[str]:
        found = {await client.text("tool")}
        found.add((await client.result("prompts/get", {"name": "prompt"}))["messages"][0]["content"]["text"])
        for uri in ("data://r", "data://t/1"):
            found.add((await client.result("resources/read", {"uri": uri}))["contents"][0]["text"])
        return found

    async with talk(server) as client:
        assert await read(client) == {"real"}
        with server.override_dependencies({database: lambda: "fake"}):
            assert await read(client) == {"fake"}
        assert await read(client) == {"real"}


async def test_a_cancelled_call_still_closes_its_dependencies(talk: Any) -> None:
    server = Server("s")
    seen: list[str] = []

    def resource() -> Iterator[str]:
        try:
            yield "open"
        finally:
            seen.append("closed")

    @server.tool
    async def hang(r: Annotated[str, Depends(resource)]) -> str:
        await asyncio.Event().wait()
        return r

    async with talk(server) as client:
        client.post("tools/call", {"name": "hang"}, id=1)
        client.notify("notifications/cancelled", {"requestId": 1})
        await client.settle()
        assert seen == ["closed"]
