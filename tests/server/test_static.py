"""What is static is read once and kept as ready bytes: resources, and the answer to server/discover."""

from __future__ import annotations

from typing import Any

import pytest

from erlmcp import ConfigurationError, Context, Flags, Server

VERSIONS = ["2026-07-28", "2025-06-18"]


def make(reads: list[str], **options: Any) -> Server:
    server = Server("static", **options)

    @server.resource("data://fixed", static=True, mime_type="text/markdown")
    async def fixed() -> str:
        reads.append("fixed")
        return f"read {len(reads)}\r\n"

    @server.resource("data://blob", static=True)
    def blob() -> bytes:
        reads.append("blob")
        return b"\x00" * 100_000

    @server.resource("data://fresh")
    async def fresh() -> str:
        reads.append("fresh")
        return "fresh"

    @server.tool
    async def change(ctx: Context) -> str:
        await ctx.resource_updated("data://fixed")
        return "changed"

    return server


async def read(client: Any, uri: str) -> dict[str, Any]:
    return await client.result("resources/read", {"uri": uri})  # type: ignore[no-any-return]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_static_resource_is_read_once_until_it_is_said_to_have_changed(talk: Any, version: str) -> None:
    reads: list[str] = []
    server = make(reads)
    async with talk(server, version) as client:
        first = await read(client, "data://fixed")
        assert first["contents"] == [{"uri": "data://fixed", "mimeType": "text/markdown", "text": "read 1\r\n"}]
        assert await read(client, "data://fixed") == first
        assert [await read(client, "data://blob") for _ in range(3)] == [await read(client, "data://blob")] * 3
        await read(client, "data://fresh")
        await read(client, "data://fresh")
        assert reads == ["fixed", "blob", "fresh", "fresh"]
        assert await client.text("change") == "changed"
        assert (await read(client, "data://fixed"))["contents"][0]["text"] == "read 5\r\n"
        server.resource_updated("data://nothing")
        server.resource_updated("data://blob")
        await read(client, "data://blob")
    assert reads[4:] == ["fixed", "blob"]


async def test_each_era_gets_the_answer_of_its_own(talk: Any) -> None:
    server = make([])
    found = []
    for version in (*VERSIONS, *VERSIONS):
        async with talk(server, version) as client:
            found.append(await read(client, "data://fixed"))
    assert found[:2] == found[2:]
    assert "resultType" in found[0]
    assert "resultType" not in found[1]


async def test_without_zero_copy_and_with_a_middleware_it_is_read_each_time(talk: Any) -> None:
    seen: list[str] = []

    async def middleware(ctx: Context, call_next: Any) -> Any:
        seen.append(ctx.method)
        return await call_next(ctx)

    for options in ({"flags": Flags(zero_copy=False)}, {"middleware": [middleware]}):
        reads: list[str] = []
        async with talk(make(reads, **options)) as client:
            for _ in range(3):
                await read(client, "data://fixed")
        assert reads == ["fixed"] * 3
    assert seen == ["resources/read"] * 3


async def test_a_change_while_it_is_read_is_not_lost(talk: Any) -> None:
    server = Server("static")
    reads: list[int] = []

    @server.resource("data://moving", static=True)
    async def moving() -> str:
        reads.append(1)
        if len(reads) == 1:
            server.resource_updated("data://moving")
        return str(len(reads))

    async with talk(server) as client:
        texts = [(await read(client, "data://moving"))["contents"][0]["text"] for _ in range(3)]
    assert texts == ["1", "2", "2"]


def test_what_may_differ_by_request_cannot_be_static() -> None:
    server = Server("static")
    with pytest.raises(ConfigurationError, match="what is static has no variables"):
        server.resource("data://{name}", name="x", static=True)(lambda name: name)

    async def asking(ctx: Context) -> str:
        return ctx.method

    with pytest.raises(ConfigurationError, match="takes no Context"):
        server.resource("data://asking", static=True)(asking)


@pytest.mark.parametrize("zero_copy", [True, False])
async def test_discover_says_what_is_there_now(talk: Any, zero_copy: bool) -> None:
    server = Server("static", instructions="be brief", flags=Flags(zero_copy=zero_copy))
    async with talk(server) as client:
        before = await client.result("server/discover")
        assert await client.result("server/discover") == before
        assert before["instructions"] == "be brief"
        assert "prompts" not in before["capabilities"]

        @server.prompt
        async def hello() -> str:
            return "hello"

        after = await client.result("server/discover")
        assert "prompts" in after["capabilities"]
        server.remove_prompt("hello")
        assert await client.result("server/discover") == before
