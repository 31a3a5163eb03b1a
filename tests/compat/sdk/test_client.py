"""The client in the SDK's shape, and what only a conversation shows: changes, questions, a process."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from erlmcp import ConfigurationError
from erlmcp.cli.load import load_server
from erlmcp.compat.sdk import Client, Context, MCPError, MCPServer, RequestStateSecurity
from erlmcp.compat.sdk.request_state import InvalidRequestState, KeyRing
from erlmcp.compat.sdk.subscriptions import InMemorySubscriptionBus, ResourceUpdated, ToolsListChanged
from erlmcp.compat.sdk.types import (
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    ErrorData,
    InputRequiredResult,
    ListRootsResult,
    PromptReference,
    Root,
    TextContent,
)

MODES = ["auto", "legacy"]


def make() -> MCPServer:
    mcp = MCPServer("served", version="3", instructions="Ask.")

    @mcp.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    @mcp.tool()
    async def fails(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "on the way")
        await ctx.info("told")
        raise MCPError(-32050, "own", {"a": 1})

    @mcp.tool()
    async def asks(ctx: Context) -> str:
        roots = await ctx.session.list_roots()
        said = await ctx.session.create_message([], max_tokens=1)
        return f"{roots.roots[0].uri} {said.content.text}"

    @mcp.resource("data://{name}")
    def data(name: str) -> str:
        return name

    @mcp.prompt()
    def greet(name: str) -> str:
        return f"Hello {name}"

    @mcp.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Any:
        return {"values": [f"{ref.name} {argument.value} {context.arguments['x']}"]}

    return mcp


@pytest.mark.parametrize("mode", MODES)
async def test_every_kind_of_request_gives_the_protocols_objects(mode: str) -> None:
    async with Client(make(), mode=mode) as client:
        assert (client.server_info.name, client.server_info.version) == ("served", "3")
        assert client.instructions == "Ask."
        assert client.server_capabilities.tools is not None
        assert client.protocol_version == client.session.protocol_version
        assert [each.name for each in (await client.list_tools()).tools] == ["add", "fails", "asks"]
        found = await client.call_tool("add", {"a": 1, "b": 2})
        assert (found.structured_content, found.is_error) == ({"result": 3}, False)
        assert (await client.list_resource_templates()).resource_templates[0].uri_template == "data://{name}"
        assert (await client.list_resources()).resources == []
        assert (await client.read_resource("data://x")).contents[0].text == "x"
        assert (await client.list_prompts()).prompts[0].arguments[0].name == "name"
        assert (await client.get_prompt("greet", {"name": "Ada"})).messages[0].content.text == "Hello Ada"
        ref = PromptReference(name="greet")
        completed = await client.complete(ref, {"name": "name", "value": "A"}, {"x": "y"})
        assert completed.completion.values == ["greet A y"]
        await client.send_ping()


@pytest.mark.parametrize("mode", MODES)
async def test_a_protocol_error_is_raised_and_what_was_told_before_is_heard(mode: str) -> None:
    told: list[Any] = []
    progress: list[Any] = []

    async def hear(params: Any) -> None:
        told.append(params.data)

    async def move(*values: Any) -> None:
        progress.append(values)

    async with Client(make(), mode=mode, logging_callback=hear) as client:
        with pytest.raises(MCPError, match="own") as caught:
            await client.call_tool("fails", progress_callback=move)
        assert (caught.value.code, caught.value.data) == (-32050, {"a": 1})
        with pytest.raises(MCPError, match="Unknown resource"):
            await client.read_resource("none://x")
    assert (told, progress) == (["told"], [(1, 2, "on the way")])


@pytest.mark.parametrize("mode", MODES)
async def test_questions_are_answered_by_the_callbacks(mode: str) -> None:
    async def roots(_context: Any) -> Any:
        return ListRootsResult(roots=[Root(uri="file:///a")])

    async def sample(_context: Any, params: Any) -> Any:
        assert params.max_tokens == 1
        return CreateMessageResult(role="assistant", content=TextContent(text="said"), model="m")

    async with Client(make(), mode=mode, list_roots_callback=roots, sampling_callback=sample) as client:
        assert (await client.call_tool("asks")).content[0].text == "file:///a said"

    async def refuse(_context: Any, _params: Any) -> Any:
        return ErrorData(code=-1, message="no")

    async with Client(make(), mode=mode, list_roots_callback=roots, sampling_callback=refuse) as client:
        with pytest.raises(MCPError, match="no"):
            await client.call_tool("asks")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"prior_discover": object()}, "mode="),
        ({"extensions": [object()]}, "meta="),
        ({"sampling_capabilities": object()}, "sampling_callback"),
    ],
)
def test_what_the_client_does_not_serve_is_refused_with_a_reason(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Client(make(), **options)
    with pytest.raises(TypeError, match="unexpected argument 'other'"):
        Client(make(), other=1)


async def test_rounds_by_hand_are_refused_as_callbacks_answer() -> None:
    async with Client(make()) as client:
        with pytest.raises(ConfigurationError, match="callbacks"):
            await client.call_tool("add", {}, input_responses={})


# -- changes ----------------------------------------------------------------------------------------------------------


async def test_changes_are_heard_by_a_listener() -> None:
    bus = InMemorySubscriptionBus()
    mcp = MCPServer("changes", subscriptions=bus)

    @mcp.tool()
    async def change(ctx: Context) -> str:
        await ctx.notify_resource_updated("data://x")
        await ctx.notify_tools_changed()
        return "told"

    async with (
        Client(mcp) as client,
        client.listen(tools_list_changed=True, resource_subscriptions=["data://x"]) as events,
    ):
        await client.call_tool("change")
        await bus.publish(ToolsListChanged())
        async with asyncio.timeout(10):
            heard = [await anext(events) for _ in range(3)]
    assert heard == [ResourceUpdated("data://x"), ToolsListChanged(), ToolsListChanged()]


async def test_without_subscriptions_nobody_can_listen_and_telling_is_no_error() -> None:
    mcp = MCPServer("changes", subscriptions=False)

    @mcp.tool()
    async def change(ctx: Context) -> str:
        await ctx.notify_prompts_changed()
        await ctx.notify_resources_changed()
        return "told"

    async with Client(mcp) as client:
        assert (await client.call_tool("change")).content[0].text == "told"
        with pytest.raises(Exception, match="not found"):
            async with client.listen(tools_list_changed=True):
                raise AssertionError("it was opened")


async def test_a_listener_that_fails_keeps_the_event_from_nobody_else() -> None:
    bus = InMemorySubscriptionBus()
    heard: list[Any] = []

    def fail(_event: Any) -> None:
        raise RuntimeError("broken")

    bus.subscribe(fail)
    stop = bus.subscribe(heard.append)
    await bus.publish(ToolsListChanged())
    stop()
    await bus.publish(ToolsListChanged())
    assert heard == [ToolsListChanged()]


# -- the state of a call ----------------------------------------------------------------------------------------------


def test_a_sealed_state_is_read_by_nobody_else_and_by_every_key_of_the_ring() -> None:
    old, new = b"o" * 32, b"n" * 32
    token = KeyRing([old]).seal(b"the payload")
    assert b"payload" not in token.encode()
    assert KeyRing([new, old]).unseal(token) == b"the payload"
    assert KeyRing([old]).seal(b"the payload") != token
    for wrong in (KeyRing([new]), KeyRing([b"x" * 32])):
        with pytest.raises(InvalidRequestState):
            wrong.unseal(token)


@pytest.mark.parametrize("place", [5, 20, 40, -3])
def test_a_state_that_was_altered_is_refused(place: int) -> None:
    ring = KeyRing([b"k" * 32])
    token = ring.seal(b"the payload")
    letter = "A" if token[place] != "A" else "B"
    with pytest.raises(InvalidRequestState):
        ring.unseal(token[:place] + letter + token[place:][1:])
    for foreign in ("", "s1", "s1.", "s2" + token[2:], "no token at all", "s1.ä"):
        with pytest.raises(InvalidRequestState):
            ring.unseal(foreign)


def test_keys_that_are_short_and_times_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        RequestStateSecurity(keys=[b"short"])
    with pytest.raises(ValueError, match="exactly one"):
        RequestStateSecurity()
    with pytest.raises(ValueError, match="positive finite"):
        RequestStateSecurity.ephemeral(ttl=0)


async def asked_state(mcp: MCPServer, name: str) -> tuple[Any, dict[str, Any]]:
    """An in-memory wire, and the first answer to a call of this tool."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
    }

    async def ask(wire: Any, **more: Any) -> dict[str, Any]:
        import json

        params = {"name": more.pop("name", name), "arguments": {}, "_meta": meta, **more}
        wire.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode() + b"\n")
        found: dict[str, Any] = json.loads(await wire.receive())
        return found

    return ask, {}


async def test_a_state_fits_no_other_call_and_no_other_time() -> None:
    mcp = MCPServer("bound", request_state_security=RequestStateSecurity(keys=["k" * 32], ttl=600))
    form = {"type": "object", "properties": {"x": {"type": "string"}}}
    question = ElicitRequest(params=ElicitRequestFormParams(message="x?", requested_schema=form))

    def one(ctx: Context) -> str | InputRequiredResult:
        if ctx.request_state is None:
            return InputRequiredResult(input_requests={"x": question}, request_state="secret words")
        return ctx.request_state

    mcp.add_tool(one, name="one")
    mcp.add_tool(one, name="two")
    ask, _ = await asked_state(mcp, "one")
    answer = {"inputResponses": {"x": ElicitResult(action="accept", content={"x": "y"}).model_dump(exclude_none=True)}}
    async with mcp.kernel.memory() as wire:
        first = (await ask(wire))["result"]
        assert first["resultType"] == "input_required"
        state = first["requestState"]
        assert "secret" not in state
        again = await ask(wire, requestState=state, **answer)
        assert again["result"]["content"][0]["text"] == "secret words"
        stolen = await ask(wire, requestState=state, name="two", **answer)
        assert (stolen["error"]["code"], "another request" in stolen["error"]["message"]) == (-32602, True)
        forged = await ask(wire, requestState="s1.AAAA", **answer)
        assert forged["error"]["code"] == -32602
        mcp.kernel.security.ttl = -1
        late = (await ask(wire))["result"]["requestState"]
        assert "expired" in (await ask(wire, requestState=late, **answer))["error"]["message"]


# -- a process --------------------------------------------------------------------------------------------------------


async def test_run_serves_over_standard_input_and_output(tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    program.write_text(
        textwrap.dedent(
            """
            from erlmcp.compat.sdk import MCPServer

            mcp = MCPServer("process")

            @mcp.tool()
            def add(a: int, b: int) -> int:
                return a + b

            if __name__ == "__main__":
                mcp.run()
            """
        )
    )
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    parameters = SimpleNamespace(command=sys.executable, args=[str(program)], env=environment)
    async with Client(parameters) as client:
        assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}


@pytest.mark.parametrize("name", ["", ":mcp"])
@pytest.mark.parametrize("home", ["erlmcp.compat.sdk", "erlmcp.compat.v1"])
def test_the_commands_serve_what_is_beneath_a_facade(tmp_path: Path, name: str, home: str) -> None:
    program = tmp_path / f"app_{home.rpartition('.')[2]}{len(name)}.py"
    kind = "MCPServer" if home.endswith("sdk") else "FastMCP"
    program.write_text(f"from {home} import {kind}\nclass Own({kind}): pass\nmcp = Own('loaded')\nother = 5\n")
    assert load_server(f"{program}{name}", None).name == "loaded"


SERVED = """
import sys
from {home} import {name}

mcp = {name}("process", {settings})

@mcp.tool()
def add(a: int, b: int) -> int:
    return a + b

mcp.run("{transport}"{options})
"""


@pytest.mark.parametrize(
    ("home", "name", "settings", "transport", "options"),
    [
        ("erlmcp.compat.sdk", "MCPServer", "", "streamable-http", ", port=0"),
        ("erlmcp.compat.sdk", "MCPServer", "", "sse", ", port=0"),
        ("erlmcp.compat.v1", "FastMCP", "port=0", "streamable-http", ""),
        ("erlmcp.compat.v1", "FastMCP", "port=0", "sse", ""),
    ],
)
async def test_run_serves_over_http_until_it_is_told_to_end(
    tmp_path: Path, home: str, name: str, settings: str, transport: str, options: str
) -> None:
    program = tmp_path / "server.py"
    program.write_text(SERVED.format(home=home, name=name, settings=settings, transport=transport, options=options))
    server = await asyncio.create_subprocess_exec(sys.executable, str(program), stderr=asyncio.subprocess.PIPE)
    assert server.stderr is not None
    try:
        async with asyncio.timeout(30):
            line = (await server.stderr.readline()).decode()
            url = next(word for word in line.split() if word.startswith("http://"))
            if transport == "sse":
                port = int(url.split(":")[2].split("/")[0])
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"event: endpoint" in await reader.readuntil(b"session_id=")
                writer.close()
            else:
                async with Client(url) as client:
                    assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}
            server.terminate()
            assert await server.wait() == 0
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
        server._transport.close()  # type: ignore[attr-defined]


async def test_what_is_read_within_a_request_has_no_rounds_of_its_own() -> None:
    mcp = MCPServer("nested")
    seen: list[Any] = []

    @mcp.resource("inner://{name}")
    def inner(name: str, ctx: Context) -> str:
        seen.append((ctx.input_responses, ctx.request_state))
        return name

    @mcp.tool()
    async def outer(ctx: Context) -> str | InputRequiredResult:
        form = {"type": "object", "properties": {"x": {"type": "string"}}}
        if ctx.input_responses is None:
            question = ElicitRequest(params=ElicitRequestFormParams(message="x?", requested_schema=form))
            return InputRequiredResult(input_requests={"x": question}, request_state="mine")
        (found,) = await ctx.read_resource("inner://a")
        return str(found.content)

    async def answer(_context: Any, _params: Any) -> Any:
        return ElicitResult(action="accept", content={"x": "y"})

    async with Client(mcp, elicitation_callback=answer) as client:
        assert (await client.call_tool("outer")).structured_content == {"result": "a"}
    assert seen == [(None, None)]


async def test_run_within_a_loop_and_by_an_unknown_transport_is_refused() -> None:
    with pytest.raises(RuntimeError, match="await run_"):
        make().run()
    with pytest.raises(ValueError, match="Unknown transport: carrier-pigeon"):
        make().run("carrier-pigeon")
