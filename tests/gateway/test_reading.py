"""One load for many who ask at once: of what may be kept, by caller, and apart from who asked first."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from stage import Scripted, error, posted, result, scripted_gateway, until

from erlmcp.gateway.config import KeyConfig
from erlmcp.gateway.serve import http as gateway_http

KEPT = b'{"resultType":"complete","ttlMs":60000,"cacheScope":"public","contents":[],"z":1}'
UNKEPT = b'{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[],"z":1}'
KEYS = tuple(KeyConfig(name, hashlib.sha256(name.encode() * 5).digest()) for name in ("alice", "bobby"))


def reads(upstream: Scripted) -> int:
    return len(upstream.of("resources/read"))


def ask(client: Any, uri: str = "x://y", **more: Any) -> Any:
    return client.post("resources/read", {"uri": uri, **more})


async def asked(upstream: Scripted, count: int) -> list[dict[str, Any]]:
    """The reads that wait upstream, once there are so many, and no more."""
    await until(lambda: len(upstream.waiting) >= count)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(upstream.waiting) == count
    found, upstream.waiting[:] = list(upstream.waiting), []
    return found


async def answers(client: Any, ids: list[Any]) -> list[dict[str, Any]]:
    """In the order of the ids, whatever the order in which they come."""
    found: dict[Any, dict[str, Any]] = {}
    while not found.keys() >= set(ids):
        message = await client.receive()
        found[message["id"]] = message
    return [found[id] for id in ids]


def say(request: dict[str, Any], text: bytes) -> None:
    request["link"].say(result(request, text))


async def test_many_who_ask_at_once_are_one_read_upstream_and_each_gets_it_under_its_id(talk: Any) -> None:
    upstream = Scripted()
    gateway = scripted_gateway(upstream)
    async with talk(gateway) as client:
        ids = [ask(client) for _ in range(20)]
        (request,) = await asked(upstream, 1)
        assert len(gateway.service.reads.loads) == 1
        say(request, KEPT)
        assert all(each["result"]["z"] == 1 for each in await answers(client, ids))
        assert (reads(upstream), gateway.service.reads.loads) == (1, {})


async def test_resources_do_not_wait_for_each_other(talk: Any) -> None:
    upstream = Scripted()
    async with talk(scripted_gateway(upstream)) as client:
        ids = [ask(client, uri) for uri in ("x://a", "x://b", "x://a", "x://b")]
        for request in reversed(await asked(upstream, 2)):
            say(request, KEPT)
        assert all(each["result"]["z"] == 1 for each in await answers(client, ids))


async def test_an_answer_that_is_not_to_be_kept_is_the_first_ones_alone(talk: Any) -> None:
    upstream = Scripted()
    async with talk(scripted_gateway(upstream)) as client:
        ids = [ask(client) for _ in range(5)]
        (request,) = await asked(upstream, 1)
        say(request, UNKEPT)
        await client.answer(ids[0])
        for request in await asked(upstream, 4):
            say(request, UNKEPT)
        await answers(client, ids[1:])
        ids = [ask(client) for _ in range(3)]
        for request in await asked(upstream, 3):  # It is known by now.
            say(request, KEPT)
        await answers(client, ids)
        assert reads(upstream) == 8
        assert (await client.result("resources/read", {"uri": "x://y"}))["z"] == 1
        assert reads(upstream) == 8


async def test_a_failure_is_everybodys(talk: Any) -> None:
    upstream = Scripted()
    async with talk(scripted_gateway(upstream)) as client:
        ids = [ask(client) for _ in range(4)]
        (request,) = await asked(upstream, 1)
        request["link"].say(error(request, -32603, "the disk is gone"))
        found = [each["error"] for each in await answers(client, ids)]
        assert [(each["code"], each["message"]) for each in found] == [(-32603, "the disk is gone")] * 4
        assert reads(upstream) == 1


async def test_a_refusal_of_the_gateways_is_everybodys_too(talk: Any) -> None:
    upstream = Scripted()
    gateway = scripted_gateway(upstream, timeout_s=0.05)
    async with talk(gateway) as client:
        ids = [ask(client) for _ in range(4)]
        assert all("timeout_s=0.05" in each["error"]["message"] for each in await answers(client, ids))
        assert reads(upstream) == 1


@pytest.mark.parametrize("who", [0, 2])
async def test_who_leaves_takes_the_read_from_no_other(talk: Any, who: int) -> None:
    upstream = Scripted()
    gateway = scripted_gateway(upstream)
    async with talk(gateway) as client:
        ids = [ask(client) for _ in range(4)]
        (request,) = await asked(upstream, 1)
        client.notify("notifications/cancelled", {"requestId": ids[who]})
        await client.settle()
        assert not upstream.of("notifications/cancelled")
        say(request, KEPT)
        found = await answers(client, [id for id in ids if id != ids[who]])
        assert all(each["result"]["z"] == 1 for each in found)
        assert reads(upstream) == 1


async def test_with_the_last_who_leaves_the_read_is_cancelled(talk: Any) -> None:
    upstream = Scripted()
    gateway = scripted_gateway(upstream)
    async with talk(gateway) as client:
        ids = [ask(client) for _ in range(3)]
        (request,) = await asked(upstream, 1)
        for id in ids:
            client.notify("notifications/cancelled", {"requestId": id})
        await until(lambda: len(upstream.of("notifications/cancelled")) == 1)
        assert upstream.of("notifications/cancelled")[0]["params"]["requestId"] == request["id"]
        assert gateway.service.reads.loads == {}
        later = ask(client)
        (request,) = await asked(upstream, 1)
        say(request, KEPT)
        assert (await client.answer(later))["result"]["z"] == 1


async def test_the_end_of_the_first_ones_connection_takes_the_read_from_no_other(talk: Any) -> None:
    upstream = Scripted()
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway) as other:
        async with talk(gateway) as first:
            ask(first)
            id = ask(other)
            (request,) = await asked(upstream, 1)
        say(request, KEPT)
        assert (await other.answer(id))["result"]["z"] == 1
        assert reads(upstream) == 1


async def test_each_gets_the_words_of_its_own_era(talk: Any) -> None:
    upstream = Scripted()
    gateway = scripted_gateway(upstream)
    async with gateway.running(), talk(gateway) as new, talk(gateway, "2025-11-25") as old:
        for first, second in ((new, old), (old, new)):
            ids = ask(first), ask(second)
            (request,) = await asked(upstream, 1)
            request["link"].say(error(request, -32602, "gone"))
            found = [(await client.answer(id))["error"] for client, id in zip((first, second), ids, strict=True)]
            assert [each["message"] for each in found] == ["gone", "gone"]
            ids = ask(first), ask(second)
            (request,) = await asked(upstream, 1)
            say(request, KEPT)
            given = {first: await first.answer(ids[0]), second: await second.answer(ids[1])}
            assert given[old]["result"] == {"contents": [], "z": 1}
            assert given[new]["result"]["ttlMs"] <= 60_000
            gateway.answers.clear()


async def test_what_has_to_be_more_than_a_plain_read_joins_nobody(talk: Any) -> None:
    upstream = Scripted()
    async with talk(scripted_gateway(upstream)) as client:
        ids = [ask(client), ask(client, requestState="s"), ask(client)]
        for request in await asked(upstream, 2):
            say(request, KEPT)
        await answers(client, ids)


async def test_answers_of_a_handshake_revision_say_not_for_how_long_and_serve_one_alone(talk: Any) -> None:
    upstream = Scripted(modern=False)
    async with talk(scripted_gateway(upstream)) as client:
        ids = [ask(client) for _ in range(3)]
        for request in await asked(upstream, 3):
            say(request, b'{"contents":[]}')
        await answers(client, ids)


async def test_callers_load_each_their_own() -> None:
    upstream = Scripted()
    gateway = scripted_gateway(upstream, config={"keys": KEYS})
    async with gateway_http(gateway, port=0) as front:
        callers = ("alice", "bobby", "alice", "bobby")
        tasks = [
            asyncio.create_task(
                posted(front.port, "resources/read", {"uri": "x://y"}, "x://y", {"X-API-Key": name * 5})
            )
            for name in callers
        ]
        private = KEPT.replace(b"public", b"private")
        for number, request in enumerate(await asked(upstream, 2)):
            say(request, private.replace(b'"z":1', b'"z":%d' % number))
        found = [answer["result"]["z"] for answer in await asyncio.gather(*tasks)]
    assert found[0] == found[2] != found[1] == found[3]


async def test_lists_that_are_wanted_at_once_are_read_once(talk: Any) -> None:
    upstream = Scripted("echo")
    async with talk(scripted_gateway(upstream, lazy=True)) as client:
        assert not upstream.seen
        ids = [client.post("tools/list") for _ in range(10)]
        for found in await answers(client, ids):
            assert [tool["name"] for tool in found["result"]["tools"]] == ["echo"]
        assert len(upstream.of("tools/list")) == 1
