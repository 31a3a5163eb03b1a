"""Names: prefixes, renames, lists of what is let through, overrides, collisions, and lists that stay in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from stage import Scripted, build_shop, in_front, scripted_gateway, until

from erlmcp import Client, Context, McpError, ResourceNotFoundError, Server
from erlmcp.gateway.app import Gateway, gateway_of
from erlmcp.gateway.config import GatewayConfig, Override, UpstreamConfig
from erlmcp.server.serve import http as server_http

Talk = Callable[..., Any]
DONE = b'{"resultType":"complete","content":[]}'


async def names(client: Client) -> list[str]:
    return [tool.name for tool in await client.list_tools()]


async def test_names_are_prefixed_renamed_let_through_and_described() -> None:
    config = UpstreamConfig(
        "s", "server", target=build_shop(), prefix="s.", rename={"echo": "say", "greet": "hello"},
        allow=("e*", "add", "wait", "fail"), deny=("wait", "shop://opening"),
        override={"echo": Override("Say", "Says it.", {"openWorldHint": False}), "add": Override(None, "Adds.")},
    )  # fmt: skip
    async with Client(Gateway(GatewayConfig((config,)))) as client:
        tools = await client.list_tools()
        assert [tool.name for tool in tools] == ["say", "s.add", "s.fail"]
        say, add, _ = tools
        assert (say.title, say.description) == ("Say", "Says it.")
        assert (say.annotations.read_only_hint, say.annotations.open_world_hint) == (True, False)
        assert add.description == "Adds."
        assert (await client.call_tool("say", {"text": "x"})).data == "x"
        assert (await client.call_tool("s.add", {"a": 2})).data == 3
        for hidden in ("s.wait", "s.weather", "echo", "s.echo"):
            with pytest.raises(McpError, match="Unknown tool"):
                await client.call_tool(hidden, {"city": "x"})
        assert [prompt.name for prompt in await client.list_prompts()] == ["hello"]
        assert (await client.get_prompt("hello", {"name": "Ada"})).messages
        assert (await client.complete("name", "A", prompt="hello")).values == ["Ada", "Alan"]
        assert await client.list_resources() == []


async def test_descriptors_keep_fields_that_nobody_here_knows(talk: Talk) -> None:
    upstream = Scripted()
    schema = {"type": "object", "$defs": {"a": {"$anchor": "x"}}, "if": True, "zz": [1, {"b": None}]}
    tool = {
        "name": "t", "inputSchema": schema,
        "_meta": {"x/y": 1}, "new": {"field": 1.5},
    }  # fmt: skip
    upstream.answers["tools/list"] = json.dumps({"tools": [tool]}).encode()
    async with talk(scripted_gateway(upstream)) as client:
        assert (await client.result("tools/list"))["tools"] == [tool]


@pytest.mark.parametrize(("collision", "wanted"), [("first", ["one", "both", "two"]), ("error", ["one", "two"])])
async def test_a_name_that_two_have_is_the_firsts_or_nobodys(collision: str, wanted: list[str]) -> None:
    first, second = Scripted("one", "both"), Scripted("both", "two")
    for each in (first, second):
        each.answers["tools/call"] = DONE
    configs = [UpstreamConfig(name, "server", target=each) for name, each in (("a", first), ("b", second))]
    gateway = Gateway(GatewayConfig(tuple(configs), collision=collision))
    async with Client(gateway) as client:
        assert await names(client) == wanted
        collided = [each for each in gateway.mounts.collisions if each[0] == "tool"]
        assert collided == [("tool", "both", "a", "b")]
        if collision == "first":
            await client.call_tool("both")
            assert (len(first.of("tools/call")), len(second.of("tools/call"))) == (1, 0)
        else:
            with pytest.raises(McpError, match="Unknown tool: both"):
                await client.call_tool("both")


async def test_the_order_is_that_of_the_file_whoever_is_up_first() -> None:
    slow, quick = Scripted("z", "y"), Scripted("a", "b")
    listed = slow.answers.pop("tools/list")
    gateway = scripted_gateway(slow, quick, config={"start_timeout_s": 0.05})
    async with Client(gateway) as client:
        assert await names(client) == ["b_a", "b_b"]
        (request,) = slow.waiting
        slow.answers["tools/list"] = listed
        request["link"].say(b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (request["id"], listed))
        await until(lambda: gateway.upstreams["a"].state == "up")
        assert await names(client) == ["a_z", "a_y", "b_a", "b_b"]


async def test_a_change_of_one_list_is_one_notification_and_a_new_list(talk: Talk) -> None:
    upstream, other = Scripted("old", modern=False), Scripted("other")
    gateway = scripted_gateway(upstream, other)
    changed = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
    async with talk(gateway, "2025-11-25") as client:
        before = len(upstream.of("tools/list")), len(other.of("tools/list"))
        upstream.answers["tools/list"] = b'{"tools":[{"name":"new","inputSchema":{"type":"object"}}]}'
        for _ in range(3):
            upstream.links[0].say(changed)
        await until(lambda: "a_new" in gateway.mounts.tables["tool"])
        await client.settle()
        assert [note["method"] for note in client.notes] == ["notifications/tools/list_changed"]
        assert [tool["name"] for tool in (await client.result("tools/list"))["tools"]] == ["a_new", "b_other"]
        assert (len(upstream.of("tools/list")), len(other.of("tools/list"))) == (before[0] + 1, before[1])
        upstream.links[0].say(changed)
        await until(lambda: len(upstream.of("tools/list")) == before[0] + 2)
        await client.settle()
        assert len(client.notes) == 1  # It is the same list.


async def test_pages_are_read_to_their_end() -> None:
    upstream = Scripted()
    pages = {None: ("a", "p2"), "p2": ("b", "p3"), "p3": ("c", None)}

    def page(request: dict[str, Any]) -> bytes:
        name, cursor = pages[(request.get("params") or {}).get("cursor")]
        found: dict[str, Any] = {"tools": [{"name": name, "inputSchema": {"type": "object"}}]}
        if cursor:
            found["nextCursor"] = cursor
        return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": found}).encode()

    upstream.answers["tools/list"] = page
    async with Client(scripted_gateway(upstream)) as client:
        assert await names(client) == ["a", "b", "c"]


async def test_a_uri_goes_where_it_is_listed_or_a_template_fits_or_to_the_only_one(talk: Talk) -> None:
    first, second = Scripted(), Scripted()
    first.answers["resources/list"] = b'{"resources":[{"uri":"a://1","name":"1"}]}'
    second.answers["resources/list"] = b'{"resources":[]}'
    second.answers["resources/templates/list"] = b'{"resourceTemplates":[{"uriTemplate":"b://{x}","name":"b"}]}'
    for each in (first, second):
        each.answers["resources/read"] = b'{"resultType":"complete","contents":[]}'
    gateway = scripted_gateway(first, second)
    async with talk(gateway) as client:
        await client.result("resources/read", {"uri": "a://1"})
        await client.result("resources/read", {"uri": "b://x"})
        found = await client.error("resources/read", {"uri": "c://x"})
        assert (found["code"], found["data"]) == (-32602, {"uri": "c://x"})
        assert [len(each.of("resources/read")) for each in (first, second)] == [1, 1]
        bad = await client.error("resources/read", {"uri": 5})
        assert "uri must be a string" in bad["message"]
    async with talk(scripted_gateway(first)) as client:
        await client.result("resources/read", {"uri": "anything://else"})
        assert first.of("resources/read")[-1]["params"]["uri"] == "anything://else"


async def test_arguments_that_travel_as_headers_do_so_on_both_sides() -> None:
    seen: list[Any] = []
    server = Server("s")
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}

    async def where(ctx: Context, region: str) -> str:
        seen.append(ctx.headers.get("mcp-param-region"))
        return region

    server.add_tool(where, input_schema=schema)
    async with server_http(server) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        gateway = Gateway(GatewayConfig((UpstreamConfig("u", "http", url=url, prefix="u_"),)))
        async with in_front(gateway, "http") as client:
            await client.list_tools()
            assert (await client.call_tool("u_where", {"region": "öst"})).data == "öst"
        async with Client(gateway, mode="legacy") as client:
            assert (await client.call_tool("u_where", {"region": "west"})).data == "west"
    assert seen == ["=?base64?w7ZzdA==?=", "west"]


async def test_headers_of_arguments_that_nobody_here_knows_are_handed_on() -> None:
    seen: list[Any] = []
    server = Server("s")

    @server.tool
    async def look(ctx: Context) -> str:
        seen.append({name: value for name, value in ctx.headers.items() if name.startswith("mcp-param")})
        return "x"

    async with server_http(server) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        gateway = Gateway(GatewayConfig((UpstreamConfig("u", "http", url=url),)))
        async with in_front(gateway, "http", headers={"Mcp-Param-Later": "1", "X-Other": "2"}) as client:
            await client.call_tool("look")
    assert seen == [{"mcp-param-later": "1"}]


async def test_a_tool_whose_headers_break_the_rules_is_not_offered_over_http(quiet: None) -> None:
    server = Scripted()
    broken = {"type": "object", "properties": {"x": {"type": "array", "x-mcp-header": "X"}}}
    tools = [{"name": "good", "inputSchema": {"type": "object"}}, {"name": "bad", "inputSchema": broken}]
    server.answers["tools/list"] = json.dumps({"tools": tools}).encode()
    gateway = scripted_gateway(server)
    async with Client(gateway) as client:
        assert await names(client) == ["good", "bad"]
        upstream = gateway.upstreams["a"]
        upstream.is_http = True  # As it would be there.
        gateway.rebuild()
        assert list(gateway.mounts.tables["tool"]) == ["good"]


async def test_a_legacy_client_is_not_shown_an_output_schema_that_it_cannot_have(talk: Talk) -> None:
    upstream = Scripted()
    tool = {"name": "t", "inputSchema": {"type": "object"}, "outputSchema": {"type": "array"}}
    upstream.answers["tools/list"] = json.dumps({"tools": [tool]}).encode()
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway, "2025-11-25") as old, talk(gateway) as new:
        assert "outputSchema" not in (await old.result("tools/list"))["tools"][0]
        assert (await new.result("tools/list"))["tools"][0]["outputSchema"] == {"type": "array"}


async def test_servers_of_this_process_are_a_gateway_in_one_line() -> None:
    async with Client(gateway_of({"one": build_shop(), "two": build_shop()})) as client:
        found = await names(client)
        assert found[:2] == ["one_echo", "one_add"]
        assert "two_echo" in found
        with pytest.raises(ResourceNotFoundError):
            await client.read_resource("no://such")
        assert client.instructions == "# one\nAsk before you buy.\n\n# two\nAsk before you buy."
