"""What the methods of MCP are answered with in every revision: stamps, resources, prompts, changes, batches."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from erlmcp import Context, Limits, McpError, ResourceNotFoundError, Server, ToolError, ToolResult
from erlmcp.runtime.subscription import Hub

LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
EVERY = (*LEGACY, MODERN)
SERVER_INFO = "io.modelcontextprotocol/serverInfo"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def make_server(**options: Any) -> Server:
    server = Server("s", version="7", **options)

    @server.tool(title="Adder", annotations={"readOnlyHint": True}, meta={"example.org/x": 1}, icons=[{"src": "a.png"}])
    async def add(a: int, b: int = 1) -> int:
        """Add two integers."""
        return a + b

    @server.resource("data://one", title="One", mime_type="text/plain", meta={"example.org/x": 1}, size=3)
    async def one() -> str:
        """The first."""
        return "one"

    @server.resource("data://item/{name}", mime_type="application/json")
    def item(name: str) -> dict[str, str]:
        return {"name": name}

    @server.resource("data://blob", mime_type="image/png")
    def blob() -> bytes:
        return b"\x00\x01"

    @server.prompt(title="Greeting")
    async def greet(name: str, tone: str = "warm") -> str:
        """Greet somebody."""
        return f"Greet {name} in a {tone} tone"

    return server


# -- stamps -------------------------------------------------------------------------------------------------------

REQUESTS = [
    ("tools/list", {}, True),
    ("prompts/list", {}, True),
    ("resources/list", {}, True),
    ("resources/templates/list", {}, True),
    ("resources/read", {"uri": "data://one"}, True),
    ("tools/call", {"name": "add", "arguments": {"a": 1}}, False),
    ("prompts/get", {"name": "greet", "arguments": {"name": "Ann"}}, False),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": ""}},
        False,
    ),
]


@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize(("method", "params", "cacheable"), REQUESTS)
async def test_modern_results_are_stamped(
    talk: Any, method: str, params: dict[str, Any], cacheable: bool, middleware: bool
) -> None:
    server = make_server(cache_ttl_ms=9, cache_scope="public")
    if middleware:
        server.add_middleware(lambda ctx, call_next: call_next(ctx))
    async with talk(server) as client:
        for _ in range(2):
            result = await client.result(method, params)
            assert result["resultType"] == "complete"
            assert result["_meta"][SERVER_INFO] == {"name": "s", "version": "7"}
            assert ("ttlMs" in result, "cacheScope" in result) == (cacheable, cacheable)
            if cacheable:
                assert (result["ttlMs"], result["cacheScope"]) == (9, "public")


@pytest.mark.parametrize("version", LEGACY)
async def test_results_of_the_handshake_revisions_carry_no_stamps(talk: Any, version: str) -> None:
    async with talk(make_server(), version) as client:
        for method, params, _ in REQUESTS:
            result = await client.result(method, params)
            assert not {"resultType", "ttlMs", "cacheScope", "_meta"} & set(result)


async def test_discover_names_the_modern_versions_and_what_is_offered(talk: Any) -> None:
    server = make_server(instructions="read me", cache_ttl_ms=-5)

    @server.completion(prompt="greet", argument="name")
    def names(value: str, _: dict[str, str]) -> list[str]:
        return ["Ann"]

    async with talk(server) as client:
        result = await client.result("server/discover")
    assert result["supportedVersions"] == [MODERN]
    assert result["instructions"] == "read me"
    assert (result["ttlMs"], result["cacheScope"]) == (0, "private")
    assert result["capabilities"] == {
        "logging": {},
        "tools": {"listChanged": True},
        "prompts": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": True},
        "completions": {},
    }


async def test_capabilities_name_only_what_is_registered(talk: Any) -> None:
    for version in EVERY:
        async with talk(Server("bare"), version) as client:
            found = client.hello or await client.result("server/discover")
            assert set(found["capabilities"]) == {"logging", "tools"}


async def test_the_completions_capability_came_with_2025_03_26(talk: Any) -> None:
    for version in LEGACY:
        server = make_server()
        server.completion(prompt="greet")(lambda value, given: [])
        async with talk(server, version) as client:
            assert ("completions" in client.hello["capabilities"]) is (version > "2024-11-05")


# -- descriptors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("2024-11-05", {"name", "description", "inputSchema"}),
        ("2025-03-26", {"name", "description", "inputSchema", "annotations"}),
        ("2025-06-18", {"name", "description", "inputSchema", "annotations", "title", "outputSchema", "_meta"}),
        (
            "2025-11-25",
            {"name", "description", "inputSchema", "annotations", "title", "outputSchema", "_meta", "icons"},
        ),
        (MODERN, {"name", "description", "inputSchema", "annotations", "title", "outputSchema", "_meta", "icons"}),
    ],
)
async def test_a_tool_is_listed_with_the_fields_of_the_revision(talk: Any, version: str, fields: set[str]) -> None:
    for middleware in (False, True):
        server = make_server()
        if middleware:
            server.add_middleware(lambda ctx, call_next: call_next(ctx))
        async with talk(server, version) as client:
            (tool,) = (await client.result("tools/list"))["tools"]
            assert set(tool) == fields


@pytest.mark.parametrize("version", EVERY)
async def test_resources_and_prompts_are_listed_with_the_fields_of_the_revision(talk: Any, version: str) -> None:
    newer = version >= "2025-06-18"
    async with talk(make_server(), version) as client:
        one, _blob = (await client.result("resources/list"))["resources"]
        assert (one["uri"], one["name"], one["description"], one["size"]) == ("data://one", "one", "The first.", 3)
        assert ("title" in one, "_meta" in one) == (newer, newer)
        (template,) = (await client.result("resources/templates/list"))["resourceTemplates"]
        assert template["uriTemplate"] == "data://item/{name}"
        (prompt,) = (await client.result("prompts/list"))["prompts"]
        assert ("title" in prompt) is newer
        assert [(each["name"], each["required"]) for each in prompt["arguments"]] == [("name", True), ("tone", False)]


@pytest.mark.parametrize("version", EVERY)
async def test_structured_content_came_with_2025_06_18(talk: Any, version: str) -> None:
    server = make_server()

    @server.tool
    def whole() -> ToolResult:
        return ToolResult(content="text", structured={"a": 1})

    for middleware in (False, True):
        if middleware:
            server.add_middleware(lambda ctx, call_next: call_next(ctx))
        async with talk(server, version) as client:
            result = await client.call("add", {"a": 2})
            assert result["content"] == [{"type": "text", "text": "3"}]
            assert result["isError"] is False
            assert result.get("structuredContent") == ({"result": 3} if version >= "2025-06-18" else None)
            assert ("structuredContent" in await client.call("whole")) is (version >= "2025-06-18")


# -- resources ----------------------------------------------------------------------------------------------------


async def test_resources_are_read_as_text_json_and_blob(talk: Any) -> None:
    async with talk(make_server()) as client:
        for uri, expected in [
            ("data://one", {"uri": "data://one", "mimeType": "text/plain", "text": "one"}),
            (
                "data://item/a%20b",
                {"uri": "data://item/a%20b", "mimeType": "application/json", "text": '{"name":"a b"}'},
            ),
            ("data://blob", {"uri": "data://blob", "mimeType": "image/png", "blob": "AAE="}),
        ]:
            assert (await client.result("resources/read", {"uri": uri}))["contents"] == [expected]


@pytest.mark.parametrize(("version", "code"), [*((version, -32002) for version in LEGACY), (MODERN, -32602)])
async def test_an_unknown_resource_has_the_error_code_of_the_era(talk: Any, version: str, code: int) -> None:
    server = make_server()

    @server.tool
    async def reader(ctx: Context, uri: str) -> str:
        return str((await ctx.read_resource(uri))[0]["text"])

    @server.resource("data://moved")
    def moved() -> str:
        raise ResourceNotFoundError("data://moved", "It moved away")

    async with talk(server, version) as client:
        error = await client.error("resources/read", {"uri": "data://none"})
        assert (error["code"], error["data"]) == (code, {"uri": "data://none"})
        error = await client.error("resources/read", {"uri": "data://moved"})
        assert (error["code"], error["message"]) == (code, "It moved away")
        assert await client.text("reader", {"uri": "data://one"}) == "one"
        error = await client.error("tools/call", {"name": "reader", "arguments": {"uri": "data://none"}})
        assert error["code"] == code


@pytest.mark.parametrize("params", [{}, {"uri": 3}, {"uri": None}, {"uri": ["data://one"]}])
async def test_a_uri_must_be_a_string(talk: Any, params: dict[str, Any]) -> None:
    async with talk(make_server(), "2025-11-25") as client:
        for method in ("resources/read", "resources/subscribe", "resources/unsubscribe"):
            assert (await client.error(method, params))["code"] == -32602


# -- prompts ------------------------------------------------------------------------------------------------------


async def test_a_prompt_gives_messages_and_its_description(talk: Any) -> None:
    async with talk(make_server()) as client:
        result = await client.result("prompts/get", {"name": "greet", "arguments": {"name": "Ann"}})
        assert result["description"] == "Greet somebody."
        text = "Greet Ann in a warm tone"
        assert result["messages"] == [{"role": "user", "content": {"type": "text", "text": text}}]


@pytest.mark.parametrize(
    "params",
    [
        {"name": "nobody"},
        {"name": 3},
        {},
        {"name": "greet"},
        {"name": "greet", "arguments": {"tone": "cold"}},
        {"name": "greet", "arguments": ["Ann"]},
        {"name": "greet", "arguments": {"name": 7}},
    ],
)
async def test_a_bad_prompt_request_is_an_invalid_params_error(talk: Any, params: dict[str, Any]) -> None:
    async with talk(make_server()) as client:
        assert (await client.error("prompts/get", params))["code"] == -32602


async def test_a_tool_error_in_a_prompt_is_an_invalid_params_error(talk: Any) -> None:
    server = Server("s")

    @server.prompt
    def refuse() -> str:
        raise ToolError("not today")

    async with talk(server) as client:
        error = await client.error("prompts/get", {"name": "refuse"})
        assert (error["code"], error["message"]) == (-32602, "Invalid params: not today")


# -- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("in_thread", [True, False])
async def test_an_unexpected_exception_is_an_internal_error(
    talk: Any, quiet: None, mask: bool, in_thread: bool
) -> None:
    server = Server("s", mask_errors=mask)
    raised = StopIteration if in_thread else KeyError

    @server.prompt(run_in_thread=in_thread)
    def prompt() -> str:
        raise raised("secret")

    @server.resource("data://x", run_in_thread=in_thread)
    def resource() -> str:
        raise ValueError("secret")

    async with talk(server) as client:
        for method, params in [("prompts/get", {"name": "prompt"}), ("resources/read", {"uri": "data://x"})]:
            error = await client.error(method, params)
            assert error["code"] == -32603
            assert ("secret" in error["message"]) is (not mask and method == "resources/read") or not mask
            if mask:
                assert error["message"] == "Internal error"


async def test_an_error_whose_data_has_no_json_form_is_still_an_error(talk: Any, quiet: None) -> None:
    server = Server("s")

    @server.tool
    async def odd() -> str:
        raise McpError(-7, "odd", object())

    @server.tool
    async def plain() -> str:
        raise McpError(-7, "plain", {"a": [1]})

    async with talk(server) as client:
        assert (await client.error("tools/call", {"name": "odd"}))["code"] == -32603
        assert await client.error("tools/call", {"name": "plain"}) == {
            "code": -7,
            "message": "plain",
            "data": {"a": [1]},
        }


# -- changes in the handshake revisions ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", LEGACY)
async def test_legacy_sessions_hear_of_changed_lists_unasked(talk: Any, version: str) -> None:
    server = make_server()
    async with talk(server, version) as client:
        server.add_tool(lambda: 1, name="late")
        server.remove_tool("late")
        server.add_prompt(lambda: "x", name="late")
        server.remove_prompt("late")
        server.add_resource(lambda: "x", "data://late", name="late")
        server.remove_resource("data://late")
        server.add_resource(lambda n: n, "late://{n}", name="late")
        server.remove_resource("late://{n}")
        found = [(note["method"], "params" in note) for note in await client.settle()]
        kinds = ["tools", "tools", "prompts", "prompts", *["resources"] * 4]
        assert found == [(f"notifications/{kind}/list_changed", False) for kind in kinds]


async def test_nobody_hears_of_changes_before_the_handshake(talk: Any) -> None:
    server = make_server()
    async with talk(server, "2025-11-25", handshake=False) as client:
        server.add_tool(lambda: 1, name="late")
        await client.result("ping")
        assert client.notes == []


async def test_legacy_sessions_hear_of_the_resources_they_subscribed_to(talk: Any) -> None:
    server = make_server()

    @server.tool
    async def touch(ctx: Context, uri: str) -> None:
        await ctx.resource_updated(uri)

    async with talk(server, "2025-06-18") as client, talk(server, "2025-06-18") as other:
        assert await client.result("resources/subscribe", {"uri": "data://one"}) == {}
        await other.call("touch", {"uri": "data://one"})
        await other.call("touch", {"uri": "data://two"})
        notes = await client.settle()
        assert [(note["method"], note["params"]) for note in notes] == [
            ("notifications/resources/updated", {"uri": "data://one"})
        ]
        assert await client.result("resources/unsubscribe", {"uri": "data://one"}) == {}
        assert await client.result("resources/unsubscribe", {"uri": "data://never"}) == {}
        await other.call("touch", {"uri": "data://one"})
        assert await client.settle() == []
        assert other.notes == []


async def test_subscriptions_of_a_session_are_bounded(talk: Any) -> None:
    async with talk(make_server(limits=Limits(subscription_count_max=2)), "2025-11-25") as client:
        for number in range(2):
            await client.result("resources/subscribe", {"uri": f"a://{number}"})
        error = await client.error("resources/subscribe", {"uri": "a://3"})
        assert "subscription_count_max=2" in error["message"]
        await client.result("resources/unsubscribe", {"uri": "a://1"})
        await client.result("resources/subscribe", {"uri": "a://3"})


async def test_a_tool_in_a_thread_may_change_the_lists(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = make_server()
    threads = []

    @server.tool
    def grow(name: str) -> None:
        threads.append(threading.get_ident())
        server.add_tool(lambda: name, name=name)

    hub_threads = []
    real = Hub.publish

    def publish(hub: Hub, *args: Any) -> None:
        hub_threads.append(threading.get_ident())
        real(hub, *args)

    monkeypatch.setattr(Hub, "publish", publish)

    async with talk(server, "2025-11-25") as client:
        await client.call("grow", {"name": "late"})
        await client.settle()
        assert [note["method"] for note in client.notes] == ["notifications/tools/list_changed"]
        assert await client.text("late") == "late"
    assert threads != [threading.get_ident()]
    assert hub_threads == [threading.get_ident()]


# -- subscriptions/listen -----------------------------------------------------------------------------------------


async def test_a_listen_stream_is_acknowledged_first_and_tagged_throughout(talk: Any) -> None:
    server = make_server()
    async with talk(server) as client:
        wanted = {
            "toolsListChanged": True,
            "resourceSubscriptions": ["data://b", "data://a"],
            "promptsListChanged": False,
        }
        client.post("subscriptions/listen", {"notifications": wanted}, id="L")
        ack = await client.receive()
        assert ack == {
            "jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            "params": {
                "notifications": {"toolsListChanged": True, "resourceSubscriptions": ["data://a", "data://b"]},
                "_meta": {SUBSCRIPTION: "L"},
            },
        }
        server.add_tool(lambda: 1, name="late")
        server.add_prompt(lambda: "x", name="late")
        server.hub.publish("notifications/resources/updated", "data://a")
        server.hub.publish("notifications/resources/updated", "data://c")
        server.add_resource(lambda: "x", "data://late", name="late")
        notes = await client.settle()
        assert [(note["method"], note["params"]) for note in notes] == [
            ("notifications/tools/list_changed", {"_meta": {SUBSCRIPTION: "L"}}),
            ("notifications/resources/updated", {"uri": "data://a", "_meta": {SUBSCRIPTION: "L"}}),
        ]


async def test_several_listen_streams_have_their_own_filters_and_tags(talk: Any) -> None:
    server = make_server()
    async with talk(server) as client:
        client.post("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id=1)
        client.post("subscriptions/listen", {"notifications": {"promptsListChanged": True}}, id="1")
        client.post("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id=2)
        await client.settle()
        server.add_tool(lambda: 1, name="late")
        server.add_prompt(lambda: "x", name="late")
        tags = [(note["method"].split("/")[1], note["params"]["_meta"][SUBSCRIPTION]) for note in await client.settle()]
        assert tags == [("tools", 1), ("tools", 2), ("prompts", "1")]


async def test_a_listen_stream_ends_without_an_answer_when_it_is_cancelled(talk: Any) -> None:
    server = make_server()
    async with talk(server) as client:
        client.post("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id=9)
        await client.settle()
        assert len(server.hub) == 1
        client.notify("notifications/cancelled", {"requestId": 9})
        server.add_tool(lambda: 1, name="late")
        assert await client.settle() == []
        assert len(server.hub) == 0


async def test_a_listen_stream_ends_with_its_answer_when_the_server_stops(talk: Any) -> None:
    server = make_server()
    async with talk(server) as client:
        client.post("subscriptions/listen", {"notifications": {}}, id=9)
        assert (await client.receive())["params"]["notifications"] == {}
        server.hub.close()
        result = (await client.answer(9))["result"]
        assert result["resultType"] == "complete"
        assert result["_meta"][SUBSCRIPTION] == 9


async def test_listening_for_what_the_server_does_not_have_is_not_acknowledged(talk: Any) -> None:
    async with talk(Server("bare")) as client:
        wanted = {
            "toolsListChanged": True,
            "promptsListChanged": True,
            "resourcesListChanged": True,
            "resourceSubscriptions": ["data://a"],
        }
        client.post("subscriptions/listen", {"notifications": wanted})
        assert (await client.receive())["params"]["notifications"] == {"toolsListChanged": True}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"notifications": True},
        {"notifications": []},
        {"notifications": {"resourceSubscriptions": "data://a"}},
        {"notifications": {"resourceSubscriptions": [1]}},
    ],
)
async def test_a_malformed_listen_is_refused(talk: Any, params: dict[str, Any]) -> None:
    server = make_server()
    async with talk(server) as client:
        assert (await client.error("subscriptions/listen", params))["code"] == -32602
        assert len(server.hub) == 0


async def test_listen_streams_and_their_resources_are_bounded(talk: Any) -> None:
    server = make_server(limits=Limits(subscription_count_max=2))
    async with talk(server) as client:
        too_many = {"notifications": {"resourceSubscriptions": ["a://1", "a://2", "a://3"]}}
        assert "subscription_count_max=2" in (await client.error("subscriptions/listen", too_many))["message"]
        for _ in range(2):
            client.post("subscriptions/listen", {"notifications": {}})
        error = await client.error("subscriptions/listen", {"notifications": {}})
        assert error["code"] == -32000
        assert "subscription_count_max=2" in error["message"]


async def test_a_listen_stream_ends_with_its_connection(talk: Any) -> None:
    server = make_server()
    async with server.running():
        async with talk(server) as client:
            client.post("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            await client.settle()
            assert len(server.hub) == 1
        assert len(server.hub) == 0
        server.add_tool(lambda: 1, name="late")


# -- batches ------------------------------------------------------------------------------------------------------


def request(id: Any, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


async def test_a_batch_is_answered_in_one_array_in_2025_03_26(talk: Any) -> None:
    server = make_server()

    @server.tool
    async def later(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async with talk(server, "2025-03-26") as client:
        client.send(
            [
                request(1, "ping"),
                request("1", "tools/call", name="later", arguments={"n": 5}),
                {"jsonrpc": "2.0", "method": "notifications/progress"},
                {"jsonrpc": "2.0", "id": 3},
                request(4, "no/such"),
                {"jsonrpc": "2.0", "id": 99, "result": {}},
                {"jsonrpc": "2.0", "id": 99, "result": {}, "error": {}},
                17,
            ]
        )
        answers = await client.receive()
        assert sorted((str(each["id"]), type(each["id"]).__name__) for each in answers) == [
            ("1", "int"),
            ("1", "str"),
            ("3", "int"),
            ("4", "int"),
            ("None", "NoneType"),
        ]
        by_id = {repr(each["id"]): each for each in answers}
        assert by_id["1"]["result"] == {}
        assert by_id["'1'"]["result"]["content"][0]["text"] == "5"
        assert [by_id[name]["error"]["code"] for name in ("3", "4", "None")] == [-32600, -32601, -32600]
        assert client.wire.pending() == 0


async def test_a_batch_of_notifications_is_not_answered(talk: Any) -> None:
    async with talk(make_server(), "2025-03-26") as client:
        note = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
        client.send([note, note, {"jsonrpc": "2.0", "id": 7, "result": {}}])
        assert await client.settle() == []
        assert await client.result("ping") == {}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25", MODERN])
async def test_batches_are_refused_in_other_revisions(talk: Any, version: str) -> None:
    async with talk(make_server(), version) as client:
        await client.result("tools/list")
        client.send([request(1, "ping"), request(2, "ping")])
        answer = await client.receive()
        assert (answer["id"], answer["error"]["code"]) == (None, -32600)
        assert client.wire.pending() == 0


async def test_a_batch_before_the_handshake_is_refused(talk: Any) -> None:
    async with talk(make_server(), "2025-03-26", handshake=False) as client:
        client.send([client.message("initialize", {"protocolVersion": "2025-03-26"})])
        assert (await client.receive())["error"]["code"] == -32600
        await client.handshake()


async def test_an_empty_batch_and_one_that_is_too_long_are_refused(talk: Any) -> None:
    async with talk(make_server(limits=Limits(batch_count_max=2)), "2025-03-26") as client:
        client.send([])
        assert (await client.receive())["error"]["code"] == -32600
        client.send([request(id, "ping") for id in range(3)])
        answer = await client.receive()
        assert (answer["id"], answer["error"]["code"]) == (None, -32600)
        assert "batch_count_max" in answer["error"]["message"]


async def test_a_batch_is_answered_without_the_request_that_was_cancelled(talk: Any) -> None:
    server = make_server()

    @server.tool
    async def hang() -> None:
        await asyncio.Event().wait()

    async with talk(server, "2025-03-26") as client:
        client.send(
            [request("h", "tools/call", name="hang"), request(2, "ping"), request("i", "tools/call", name="hang")]
        )
        assert await client.settle() == []
        client.notify("notifications/cancelled", {"requestId": "h"})
        assert await client.settle() == []
        client.notify("notifications/cancelled", {"requestId": "i"})
        assert await client.settle() == [[{"jsonrpc": "2.0", "id": 2, "result": {}}]]
        client.send([request("h", "tools/call", name="hang")])
        client.notify("notifications/cancelled", {"requestId": "h"})
        assert await client.settle() == []


async def test_a_batch_whose_answer_is_too_large_is_told_so(talk: Any) -> None:
    async with talk(make_server(limits=Limits(outbox_bytes_max=2000)), "2025-03-26") as client:
        client.send([request(id, "prompts/list") for id in range(40)])
        answer = await client.receive()
        assert (answer["id"], answer["error"]["code"]) == (None, -32603)
        assert await client.result("ping") == {}


async def test_notifications_of_a_request_in_a_batch_come_before_the_array(talk: Any) -> None:
    server = make_server()

    @server.tool
    async def steps(ctx: Context) -> str:
        await ctx.progress(1, 2)
        return "done"

    async with talk(server, "2025-03-26") as client:
        client.send([request(1, "tools/call", name="steps", _meta={"progressToken": "t"})])
        note, answers = await client.receive(), await client.receive()
        assert note["params"] == {"progressToken": "t", "progress": 1, "total": 2}
        assert [each["id"] for each in answers] == [1]
