"""What a handler knows of its request, and what it may tell the client meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from erlmcp import Context, Server
from erlmcp.spec.key import LOG_LEVELS

MODERN = "2026-07-28"
LOG_KEY = "io.modelcontextprotocol/logLevel"


def make_server() -> Server:
    server = Server("s")

    @server.tool
    async def tell(ctx: Context, levels: list[str]) -> None:
        for level in levels:
            await ctx.log(level, {"at": level}, "tester")

    @server.tool
    async def steps(ctx: Context) -> None:
        await ctx.progress(0.5)
        await ctx.progress(1, 2)
        await ctx.progress(2, 2.0, "done")

    @server.tool
    async def look(ctx: Context) -> dict[str, Any]:
        return {
            "id": ctx.request_id,
            "method": ctx.method,
            "name": ctx.name,
            "params": sorted(ctx.params),
            "meta": sorted(ctx.meta),
            "version": ctx.protocol_version,
            "era": ctx.era,
            "info": ctx.client_info,
            "capabilities": ctx.client_capabilities,
            "headers": dict(ctx.headers),
            "session_id": ctx.session_id,
            "lifespan": ctx.lifespan,
            "cancelled": ctx.cancelled,
            "server": ctx.server.name,
        }

    return server


@pytest.mark.parametrize("version", ["2024-11-05", "2025-11-25", MODERN])
async def test_a_handler_knows_its_request_and_who_asks(talk: Any, version: str) -> None:
    async with talk(make_server(), version, {"roots": {}}) as client:
        found = (await client.result("tools/call", {"name": "look"}, id="x9"))["content"][0]["text"]
        import json

        seen = json.loads(found)
    modern = version == MODERN
    assert seen == {
        "id": "x9",
        "method": "tools/call",
        "name": "look",
        "params": ["_meta", "name"] if modern else ["name"],
        "meta": ["io.modelcontextprotocol/clientCapabilities", "io.modelcontextprotocol/protocolVersion"]
        if modern
        else [],
        "version": version,
        "era": "modern" if modern else "legacy",
        "info": None if modern else {"name": "test", "version": "1"},
        "capabilities": {"roots": {}},
        "headers": {},
        "session_id": None,
        "lifespan": None,
        "cancelled": False,
        "server": "s",
    }


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-11-25", MODERN])
@pytest.mark.parametrize("token", ["t", "", 0, 7])
async def test_progress_goes_out_with_the_token_of_the_request(talk: Any, version: str, token: Any) -> None:
    async with talk(make_server(), version) as client:
        await client.call("steps", meta={"progressToken": token})
        last = {"progress": 2, "total": 2.0}
        if version >= "2025-03-26":
            last["message"] = "done"  # type: ignore[assignment]
        assert [note["params"] for note in client.notes] == [
            {"progressToken": token, "progress": 0.5},
            {"progressToken": token, "progress": 1, "total": 2},
            {"progressToken": token, **last},
        ]
        assert {note["method"] for note in client.notes} == {"notifications/progress"}
        assert all(type(note["params"]["progressToken"]) is type(token) for note in client.notes)


@pytest.mark.parametrize("token", [None, True, 1.5, [], {}])
async def test_without_a_usable_token_there_is_no_progress(talk: Any, token: Any) -> None:
    async with talk(make_server(), "2025-11-25") as client:
        await client.call("steps", meta=None if token is None else {"progressToken": token})
        assert client.notes == []


async def test_progress_of_two_calls_at_once_keeps_their_tokens_apart(talk: Any) -> None:
    async with talk(make_server()) as client:
        ids = [client.post("tools/call", {"name": "steps"}, meta={"progressToken": token}) for token in (1, "1")]
        for id in ids:
            await client.answer(id)
        tokens = [note["params"]["progressToken"] for note in client.notes]
        assert (tokens.count(1), tokens.count("1")) == (3, 3)


async def test_progress_and_logs_that_json_cannot_hold_are_left_out(talk: Any, quiet: None) -> None:
    server = make_server()

    @server.tool
    async def odd(ctx: Context) -> str:
        await ctx.progress(float("nan"))
        await ctx.info(object())
        await ctx.info("readable")
        return "done"

    async with talk(server, "2025-11-25") as client:
        assert await client.text("odd", meta={"progressToken": 1}) == "done"
        assert [note["params"].get("data") for note in client.notes] == ["readable"]


# -- logging ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("least", LOG_LEVELS)
async def test_a_modern_client_gets_the_logs_from_the_level_it_asked_for(talk: Any, least: str) -> None:
    async with talk(make_server()) as client:
        await client.call("tell", {"levels": list(LOG_LEVELS)}, meta={LOG_KEY: least})
        wanted = list(LOG_LEVELS)[LOG_LEVELS.index(least) :]
        assert [note["params"] for note in client.notes] == [
            {"level": level, "data": {"at": level}, "logger": "tester"} for level in wanted
        ]


async def test_a_modern_client_that_asked_for_no_logs_gets_none(talk: Any) -> None:
    async with talk(make_server()) as client:
        await client.call("tell", {"levels": ["emergency"]}, meta={LOG_KEY: "debug"})
        client.notes.clear()
        await client.call("tell", {"levels": ["emergency"]})
        assert client.notes == []


async def test_a_handshake_client_gets_all_logs_until_it_sets_a_level(talk: Any) -> None:
    async with talk(make_server(), "2025-06-18") as client:
        await client.call("tell", {"levels": ["debug", "error"]})
        assert [note["params"]["level"] for note in client.notes] == ["debug", "error"]
        client.notes.clear()
        assert await client.result("logging/setLevel", {"level": "error"}) == {}
        await client.call("tell", {"levels": ["debug", "warning", "error", "alert"]})
        assert [note["params"]["level"] for note in client.notes] == ["error", "alert"]
        async with talk(make_server(), "2025-06-18") as other:
            await other.call("tell", {"levels": ["debug"]})
            assert len(other.notes) == 1


@pytest.mark.parametrize(
    "params", [{}, {"level": "loud"}, {"level": 3}, {"level": None}, {"level": ["info"]}, {"level": {}}]
)
async def test_an_unknown_level_is_an_invalid_params_error(talk: Any, params: dict[str, Any]) -> None:
    async with talk(make_server(), "2025-11-25") as client:
        assert (await client.error("logging/setLevel", params))["code"] == -32602


async def test_a_handler_that_logs_at_an_unknown_level_is_told(talk: Any) -> None:
    server = make_server()

    @server.tool
    async def loud(ctx: Context) -> str:
        with pytest.raises(ValueError, match="loud"):
            await ctx.log("loud", "x")
        for tell in (ctx.debug, ctx.info, ctx.warning, ctx.error):
            await tell("x")
        return "fine"

    async with talk(server, "2025-11-25") as client:
        assert await client.text("loud") == "fine"
        assert [note["params"] for note in client.notes] == [
            {"level": level, "data": "x"} for level in ("debug", "info", "warning", "error")
        ]


# -- telling of changes -------------------------------------------------------------------------------------------


async def test_a_handler_may_tell_of_changes_itself(talk: Any) -> None:
    server = make_server()
    server.add_prompt(lambda: "x", name="p")
    server.add_resource(lambda: "x", "data://r", name="r")

    @server.tool
    async def change(ctx: Context) -> None:
        await ctx.tools_changed()
        await ctx.prompts_changed()
        await ctx.resources_changed()
        await ctx.resource_updated("data://r")
        await ctx.close_stream()

    async with talk(server, "2025-11-25") as client:
        await client.result("resources/subscribe", {"uri": "data://r"})
        await client.call("change")
        assert [note["method"].removeprefix("notifications/") for note in client.notes] == [
            "tools/list_changed",
            "prompts/list_changed",
            "resources/list_changed",
            "resources/updated",
        ]


# -- values that are kept -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
async def test_session_values_last_as_long_as_the_connection(talk: Any, version: str) -> None:
    server = make_server()

    @server.tool
    async def count(ctx: Context) -> int:
        ctx.session["n"] = ctx.session.get("n", 0) + 1
        return int(ctx.session["n"])

    async with server.running():
        for _ in range(2):
            async with talk(server, version) as client:
                assert [await client.text("count") for _ in range(3)] == ["1", "2", "3"]


async def test_state_lasts_for_the_request_in_the_handshake_revisions(talk: Any) -> None:
    server = make_server()

    @server.tool
    async def count(ctx: Context) -> int:
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        return int(ctx.state["n"])

    for version in ("2025-11-25", MODERN):
        async with talk(server, version) as client:
            assert [await client.text("count") for _ in range(2)] == ["1", "1"]
