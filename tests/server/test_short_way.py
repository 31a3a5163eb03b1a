"""The short ways through a server give the same answers as the general one: direct calls, and ready bytes."""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated, Any

import pytest
from pydantic import Field

from erlmcp import Server
from erlmcp.flags import Flags
from erlmcp.server.param import MISSING
from erlmcp.server.plan import compile_tool
from erlmcp.server.source import direct_call
from erlmcp.spec.version import LEGACY_VERSIONS

MODERN = "2026-07-28"


def make_server(**options: Any) -> Server:
    server = Server("short", **options)

    @server.tool
    async def join(left: str, times: int = 2, sure: bool = True) -> str:
        return left * times if sure else ""

    return server


def wrapped(fn: Any) -> Any:
    @functools.wraps(fn)
    async def inner(*args: Any, **kwargs: Any) -> str:
        return "wrapped " + str(await fn(*args, **kwargs))

    return inner


def test_a_plain_function_is_called_by_position() -> None:
    async def tool(a: str, b: Any, /, c: int = 3) -> str:
        return a

    assert direct_call(compile_tool(tool).binding) == (("a", "b", "c"), (str, None, int), (MISSING, MISSING, 3))


def test_what_needs_more_than_a_lookup_is_left_to_the_plan() -> None:
    async def only_by_name(a: str, *, b: str) -> str:
        return a + b

    async def converted(a: list[int]) -> str:
        return str(a)

    async def made(a: str, b: Annotated[list[int], Field(default_factory=list)]) -> str:
        return f"{a}{b}"

    @wrapped
    async def decorated(a: str) -> str:
        return a

    for tool in (only_by_name, converted, made, decorated):
        assert direct_call(compile_tool(tool).binding) is None


@pytest.mark.parametrize("version", [MODERN, "2025-11-25"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"left": "ab"}, "abab"),
        ({"left": "ab", "times": 3}, "ababab"),
        ({"times": 1, "sure": True, "left": "x"}, "x"),
        ({"left": "ab", "sure": False}, ""),
        ({"left": "ab", "times": 2.0}, "abab"),  # converted by the plan
        ({"left": "ab", "unknown": 1}, "abab"),
    ],
)
def test_a_call_answers_alike_with_and_without_the_direct_way(
    run: Any, talk: Any, version: str, arguments: dict[str, Any], expected: str
) -> None:
    async def check() -> list[Any]:
        found = []
        for server in (make_server(), make_server(flags=Flags(async_execution=False))):
            async with talk(server, version) as client:
                found.append(await client.call("join", arguments))
        return found

    short, general = run(check)
    assert short == general
    assert short["content"] == [{"type": "text", "text": expected}]


@pytest.mark.parametrize("arguments", [{}, {"left": 1}, {"left": "a", "times": "many"}, {"left": "a", "sure": 1}])
def test_bad_arguments_are_explained_alike(run: Any, talk: Any, arguments: dict[str, Any]) -> None:
    async def check() -> list[Any]:
        found = []
        for server in (make_server(), make_server(flags=Flags(async_execution=False))):
            async with talk(server) as client:
                found.append(await client.ask("tools/call", {"name": "join", "arguments": arguments}))
        return found

    short, general = run(check)
    assert short == general


def test_a_strict_tool_refuses_what_it_does_not_know_and_takes_what_it_does(run: Any, talk: Any) -> None:
    async def check() -> tuple[Any, Any, Any]:
        server = Server("strict")

        @server.tool(strict=True)
        async def pick(a: str, b: int = 1) -> str:
            return a * b

        async with talk(server) as client:
            good = await client.text("pick", {"a": "x", "b": 2})
            short = await client.text("pick", {"a": "x"})
            return good, short, await client.ask("tools/call", {"name": "pick", "arguments": {"a": "x", "c": 1}})

    good, short, bad = run(check)
    assert (good, short) == ("xx", "x")
    assert "c" in str(bad)
    assert "unknown" in str(bad).lower() or "unexpected" in str(bad).lower()


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
def test_a_ping_is_answered_in_every_handshake_revision(run: Any, talk: Any, version: str) -> None:
    async def check() -> list[Any]:
        async with talk(make_server(), version) as client:
            return [await client.result("ping", params) for params in (None, {}, {"_meta": {"progressToken": 1}})]

    assert run(check) == [{}, {}, {}]


def test_a_ping_is_unknown_where_the_revision_has_none(run: Any, talk: Any) -> None:
    async def check() -> Any:
        async with talk(make_server()) as client:
            await client.result("tools/list")
            return await client.error("ping")

    assert run(check)["code"] == -32601


def test_a_ready_list_follows_what_is_registered(run: Any, talk: Any) -> None:
    async def check() -> list[list[str]]:
        server = make_server()
        found = []
        async with talk(server, "2025-06-18") as client:
            for _ in range(2):
                found.append([tool["name"] for tool in (await client.result("tools/list"))["tools"]])

            @server.tool
            async def later() -> str:
                return ""

            await client.settle()
            found.append([tool["name"] for tool in (await client.result("tools/list"))["tools"]])
        return found

    assert run(check) == [["join"], ["join"], ["join", "later"]]


@pytest.mark.parametrize("version", [MODERN, "2025-03-26"])
def test_a_ready_list_is_what_the_general_way_gives(run: Any, talk: Any, version: str) -> None:
    async def check() -> list[Any]:
        found = []
        for server in (make_server(), make_server(flags=Flags(zero_copy=False))):
            async with talk(server, version) as client:
                found.append([await client.result(f"{kind}/list") for kind in ("tools", "prompts", "resources")])
        return found

    ready, built = run(check)
    assert ready == built


def test_a_list_with_a_cursor_does_not_get_the_first_page(run: Any, talk: Any) -> None:
    async def check() -> tuple[list[str], Any]:
        server = make_server(page_size=1)

        @server.tool
        async def second() -> str:
            return ""

        async with talk(server, "2025-11-25") as client:
            first = await client.result("tools/list")
            next = await client.result("tools/list", {"cursor": first["nextCursor"]})
            names = [tool["name"] for page in (first, next) for tool in page["tools"]]
            return names, await client.error("tools/list", {"cursor": "?"})

    names, refusal = run(check)
    assert names == ["join", "second"]
    assert refusal["code"] == -32602


def test_an_id_in_use_is_refused_by_a_ready_answer_too(run: Any, talk: Any) -> None:
    async def check() -> Any:
        server = make_server()
        release = asyncio.Event()

        @server.tool
        async def wait() -> str:
            await release.wait()
            return "done"

        async with talk(server, "2025-11-25") as client:
            client.post("tools/call", {"name": "wait", "arguments": {}}, id=7)
            await client.settle()
            refused = await client.ask("ping", id=7)
            release.set()
            await client.answer(7)
            return refused

    assert run(check)["error"]["code"] == -32600
