"""A gateway's calls that end in other ways than by their answer: nothing is held, and nothing reaches another."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest
from stage import Scripted, error, result, scripted_gateway, until

from erlmcp import Client, McpError
from erlmcp.errors import SERVER_BUSY
from erlmcp.policy.protection import Guards
from erlmcp.policy.retry import RetryRule

DONE = b'{"content":[],"resultType":"complete"}'
AGAIN = Guards(retry=RetryRule(attempt_max=3, backoff_s=1e-4, backoff_s_max=1e-3, reserve=100))


async def test_a_call_that_was_sent_again_is_counted_as_in_flight_once() -> None:
    upstream = Scripted("echo")
    count = 0

    def answer(request: dict[str, Any]) -> bytes:
        nonlocal count
        count += 1
        return error(request, SERVER_BUSY, "not now") if count % 2 else result(request, DONE)

    upstream.answers["tools/call"] = answer
    gateway = scripted_gateway(upstream, guards=AGAIN)
    async with Client(gateway, mode="2026-07-28") as client:
        for _ in range(3):
            await client.call_tool("echo", {})
        assert count == 6
        assert gateway.turn.load.inflight == 0


async def test_what_an_upstream_asks_for_a_call_that_was_cancelled_is_not_asked_of_the_next_caller() -> None:
    upstream = Scripted("echo", modern=False)
    gateway = scripted_gateway(upstream)
    asked: list[Any] = []

    async def elicit(question: Any, *_: Any) -> Any:
        asked.append(question)
        return {"action": "accept", "content": {}}

    async with (
        Client(gateway, mode="2026-07-28", elicitation=elicit) as first,
        Client(gateway, mode="2026-07-28", elicitation=elicit) as second,
    ):
        call = asyncio.create_task(first.call_tool("echo", {"whose": "first"}))
        await until(lambda: len(upstream.waiting) == 1)
        call.cancel()
        await until(lambda: bool(upstream.of("notifications/cancelled")))
        other = asyncio.create_task(second.call_tool("echo", {"whose": "second"}))
        await until(lambda: len(upstream.waiting) == 2)
        one, two = upstream.waiting
        question = {"message": "first's secret", "requestedSchema": {"type": "object", "properties": {}}}
        asking = {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": question}
        if not one["link"].closed:
            one["link"].say(json.dumps(asking).encode())
            await until(lambda: any(b'"id":"q"' in line for line in upstream.seen))
        two["link"].say(result(two, b'{"content":[]}'))
        await other
    assert not asked


async def test_a_call_on_a_line_of_its_own_is_not_sent_again_on_one_that_says_nothing_of_its_client() -> None:
    upstream = Scripted("echo", modern=False)
    count = 0

    def answer(request: dict[str, Any]) -> bytes:
        nonlocal count
        count += 1
        return error(request, SERVER_BUSY, "not now")

    upstream.answers["tools/call"] = answer
    gateway = scripted_gateway(upstream, guards=AGAIN)

    async def elicit(*_: Any) -> Any:
        return {"action": "decline"}

    async with Client(gateway, mode="2026-07-28", elicitation=elicit) as client:
        with pytest.raises(McpError, match="not now"):
            await client.call_tool("echo", {})
    assert count == 1


QUESTION = {"method": "elicitation/create", "params": {"message": "whose?", "requestedSchema": {"type": "object"}}}


def read(request: dict[str, Any]) -> bytes:
    """A resource that its reader is asked for, whatever it says of being kept."""
    if "inputResponses" not in request["params"]:
        asked = {"resultType": "input_required", "inputRequests": {"a": QUESTION}}
        return result(request, json.dumps(asked).encode())
    told = {"resultType": "complete", "contents": [{"uri": "x://y", "text": "mine"}], "ttlMs": 60_000}
    return result(request, json.dumps({**told, "cacheScope": "public"}).encode())


class Asked:
    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, *_: Any) -> Any:
        self.count += 1
        return {"action": "accept", "content": {}}


async def test_what_was_read_with_the_answers_of_a_client_is_kept_for_nobody() -> None:
    upstream = Scripted("echo")
    upstream.answers["resources/read"] = read
    gateway = scripted_gateway(upstream)
    asked = Asked()
    async with Client(gateway, mode="legacy", elicitation=asked) as client:
        for _ in range(2):
            await client.read_resource("x://y")
    assert asked.count == 2


async def test_of_several_who_read_at_once_each_is_asked_for_itself() -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream)
    asked = Asked(), Asked()
    async with (
        Client(gateway, mode="legacy", elicitation=asked[0]) as first,
        Client(gateway, mode="legacy", elicitation=asked[1]) as second,
    ):
        reads = [asyncio.create_task(client.read_resource("x://y")) for client in (first, second)]
        await until(lambda: gateway.turn.load.inflight >= 2)
        upstream.answers["resources/read"] = read
        for request in upstream.waiting:
            request["link"].say(read(request))
        for found in await asyncio.gather(*reads):
            assert found.contents[0].text == "mine"
    assert [each.count for each in asked] == [1, 1]


async def test_of_questions_one_of_which_cannot_be_asked_none_is(recwarn: pytest.WarningsRecorder) -> None:
    upstream = Scripted("echo")
    question = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}}
    asked = {"resultType": "input_required", "inputRequests": {"a": question, "b": {"method": "made/up"}}}
    upstream.answers["tools/call"] = json.dumps(asked).encode()
    gateway = scripted_gateway(upstream)

    async def elicit(*_: Any) -> Any:
        raise AssertionError("it was asked")

    async with Client(gateway, mode="legacy", elicitation=elicit) as client:
        with pytest.raises(McpError, match="names no method"):
            await client.call_tool("echo", {})
    gc.collect()
    assert not recwarn.list


async def test_a_question_that_fails_takes_the_others_of_its_round_back() -> None:
    upstream = Scripted("echo")
    question = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}}
    asked = {
        "resultType": "input_required",
        "inputRequests": {"a": question, "b": {"method": "sampling/createMessage"}},
    }
    upstream.answers["tools/call"] = json.dumps(asked).encode()
    gateway = scripted_gateway(upstream)
    taken_back = asyncio.Event()

    async def elicit(*_: Any) -> Any:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            taken_back.set()
            raise

    async def sample(*_: Any) -> Any:
        raise McpError(-1, "no")

    async with Client(gateway, mode="legacy", elicitation=elicit, sampling=sample) as client:
        with pytest.raises(McpError, match="no"):
            await client.call_tool("echo", {})
        async with asyncio.timeout(5):
            await taken_back.wait()


@pytest.mark.parametrize("modern", [True, False])
async def test_an_upstream_that_asks_without_end_is_refused(talk: Any, modern: bool) -> None:
    upstream = Scripted("echo", modern=False)
    gateway = scripted_gateway(upstream)
    capabilities = {"elicitation": {}}
    async with gateway.running(), talk(gateway, "2026-07-28" if modern else "2025-11-25", capabilities) as client:
        client.post("tools/call", {"name": "echo", "arguments": {}})
        await until(lambda: bool(upstream.waiting))
        (waiting,) = upstream.waiting
        most = gateway.upstreams["a"].limits.task_count_max
        for number in range(most + 10):
            asking = {"jsonrpc": "2.0", "id": number, "method": "elicitation/create", "params": {"message": "?"}}
            waiting["link"].say(json.dumps(asking).encode())
        await until(lambda: sum(b'"Client busy' in line for line in upstream.seen) >= 10)
        waiting["link"].say(result(waiting, b'{"content":[]}'))
        for message in await client.settle():
            if message.get("method") == "elicitation/create":
                client.send({"jsonrpc": "2.0", "id": message["id"], "result": {"action": "decline"}})
        await client.settle()


async def test_what_was_being_read_when_its_resource_changed_is_not_kept(talk: Any) -> None:
    upstream = Scripted("echo")
    gateway = scripted_gateway(upstream)
    told = {"resultType": "complete", "contents": [{"uri": "x://y", "text": "?"}], "ttlMs": 60_000}
    answer = json.dumps({**told, "cacheScope": "public"}).encode()
    async with gateway.running(), talk(gateway, "2026-07-28") as client:
        id = client.post("resources/read", {"uri": "x://y"})
        await until(lambda: bool(upstream.waiting))
        request = upstream.waiting.pop()
        updated = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "x://y"}}
        request["link"].say(json.dumps(updated).encode())
        request["link"].say(result(request, answer))
        await client.answer(id)
        upstream.answers["resources/read"] = answer
        for _ in range(2):
            await client.result("resources/read", {"uri": "x://y"})
        assert len(upstream.of("resources/read")) == 2
