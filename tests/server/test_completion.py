"""completion/complete: suggestions for the arguments of prompts and the variables of resource templates."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from erlmcp import ConfigurationError, Server


def make_server() -> Server:
    server = Server("s")

    @server.prompt
    async def review(language: str, framework: str = "") -> str:
        return language + framework

    @server.resource("repo://{owner}/{name}")
    def repository(owner: str, name: str) -> str:
        return owner + name

    @server.resource("data://fixed")
    def fixed() -> str:
        return "x"

    @server.completion(prompt="review", argument="language")
    def languages(value: str, given: dict[str, str]) -> list[str]:
        return [each for each in ("python", "perl", "c") if each.startswith(value)]

    @server.completion(prompt="review", argument="framework")
    async def frameworks(value: str, given: dict[str, str]) -> Any:
        await asyncio.sleep(0)
        return (f"{given.get('language', '?')}-{number}" for number in range(250))

    @server.completion(resource="repo://{owner}/{name}")
    def any_variable(value: str, given: dict[str, str]) -> list[Any]:
        return [value + "!", 7]

    return server


PROMPT = {"type": "ref/prompt", "name": "review"}
TEMPLATE = {"type": "ref/resource", "uri": "repo://{owner}/{name}"}


def ask(reference: Any, name: Any, value: Any, **more: Any) -> dict[str, Any]:
    return {"ref": reference, "argument": {"name": name, "value": value}, **more}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"])
async def test_suggestions_are_values_with_their_number(talk: Any, version: str) -> None:
    async with talk(make_server(), version) as client:
        result = await client.result("completion/complete", ask(PROMPT, "language", "p"))
        assert result["completion"] == {"values": ["python", "perl"], "total": 2, "hasMore": False}
        result = await client.result("completion/complete", ask(TEMPLATE, "owner", "a"))
        assert result["completion"]["values"] == ["a!", "7"]


async def test_at_most_a_hundred_values_are_sent_and_the_context_is_known(talk: Any) -> None:
    async with talk(make_server()) as client:
        params = ask(PROMPT, "framework", "", context={"arguments": {"language": "python"}})
        found = (await client.result("completion/complete", params))["completion"]
        assert (len(found["values"]), found["total"], found["hasMore"]) == (100, 250, True)
        assert found["values"][0] == "python-0"
        for context in (None, 7, {}, {"arguments": []}):
            params = ask(PROMPT, "framework", "", context=context)
            assert (await client.result("completion/complete", params))["completion"]["values"][0] == "?-0"


async def test_what_nobody_completes_has_no_suggestions(talk: Any) -> None:
    async with talk(make_server()) as client:
        for reference in (PROMPT, {"type": "ref/resource", "uri": "data://fixed"}):
            result = await client.result("completion/complete", ask(reference, "other", "x"))
            assert result["completion"] == {"values": [], "total": 0, "hasMore": False}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"ref": PROMPT},
        {"argument": {"name": "language", "value": ""}},
        ask("review", "language", ""),
        ask(PROMPT, 3, ""),
        ask(PROMPT, "language", 3),
        ask(PROMPT, "language", None),
        ask({"type": "ref/prompt"}, "language", ""),
        ask({"type": "ref/tool", "name": "review"}, "language", ""),
        ask({"type": "ref/prompt", "name": "nobody"}, "language", ""),
        ask({"type": "ref/prompt", "name": "data://fixed"}, "language", ""),
        ask({"type": "ref/resource", "uri": "nobody://{x}"}, "x", ""),
        ask({"type": "ref/resource", "uri": ["a"]}, "x", ""),
    ],
)
async def test_a_bad_reference_or_argument_is_an_invalid_params_error(talk: Any, params: dict[str, Any]) -> None:
    async with talk(make_server()) as client:
        assert (await client.error("completion/complete", params))["code"] == -32602


async def test_a_completion_that_fails_is_an_internal_error(talk: Any, quiet: None) -> None:
    server = make_server()

    @server.completion(prompt="review", argument="broken")
    def broken(value: str, given: dict[str, str]) -> list[str]:
        raise KeyError("secret")

    async with talk(server) as client:
        error = await client.error("completion/complete", ask(PROMPT, "broken", ""))
        assert error == {"code": -32603, "message": "Internal error"}


def test_a_completion_belongs_to_a_prompt_or_to_a_template() -> None:
    server = Server("s")
    for options in ({}, {"prompt": "a", "resource": "b://{c}"}, {"argument": "x"}):
        with pytest.raises(ConfigurationError, match="prompt="):
            server.completion(**options)
