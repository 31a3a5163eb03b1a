"""What a channel does with what is refused: words, streams, arrays, and what comes meanwhile."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from realm import WAIT_S, Asked, Realm, Said, in_realm
from test_oauth_redirect import Visit, get

from erlmcp import Client
from erlmcp.cli import main
from erlmcp.client.http import HttpChannel
from erlmcp.client.http_limit import HttpLimits
from erlmcp.errors import AuthorizationError, ConfigurationError, HttpStatusError

QUICK = HttpLimits(retry_s=0.001, listen_wait_s=0.05)


def is_word(asked: Asked) -> bool:
    return asked.verb == "POST" and "id" not in asked.json


@in_realm
async def test_a_word_that_is_refused_is_said_again_with_another_token(realm: Realm) -> None:
    words: list[int] = []

    def door(asked: Asked) -> Said:
        if asked.verb == "POST" and is_word(asked):
            if not words:
                realm.revoke()
            said = realm._mcp(asked)
            words.append(said.status)
            return said
        return realm._mcp(asked)

    realm.server.doors["/mcp"] = door
    async with realm.client(realm.oauth(), mode="legacy") as client:
        await client.call_tool("echo")
    assert words == [401, 202]
    assert len(realm.user) == 1


@in_realm
async def test_each_time_that_a_token_ends_under_a_word_it_is_said_again(realm: Realm) -> None:
    channel = HttpChannel(realm.url, auth=realm.oauth(), trust_env=False)
    async with asyncio.timeout(WAIT_S), Client(channel, mode="legacy") as client:
        for count in (2, 3, 4):
            realm.revoke()
            await client.notify("notifications/roots/list_changed")
            while len(realm.words) < count or channel._words:
                await asyncio.sleep(0)
    assert len(realm.user) == 1


@in_realm
async def test_words_that_are_refused_at_the_same_time_are_all_said_again(realm: Realm) -> None:
    async with realm.client(realm.oauth(), mode="legacy") as client:
        await client.call_tool("echo")
        realm.revoke()
        for _ in range(5):
            await client.notify("notifications/roots/list_changed")
        while len(realm.words) < 6:
            await asyncio.sleep(0)
    assert len(realm.issuer.forms()) == 2


@in_realm
async def test_each_time_that_a_token_ends_under_a_stream_it_is_asked_for_again(realm: Realm) -> None:
    streams: list[int] = []
    enough = asyncio.Event()

    def door(asked: Asked) -> Said:
        if asked.verb != "GET":
            return realm._mcp(asked)
        if streams.count(200) in (1, 2) and streams[-1] == 200:
            realm.revoke()
        is_known = asked.headers["authorization"].removeprefix("Bearer ") in realm.tokens
        streams.append(200 if is_known else 401)
        if streams.count(200) == 3:
            enough.set()
        return Said(200, b"", kind="text/event-stream") if is_known else Said(401, None, realm._challenge())

    realm.server.doors["/mcp"] = door
    realm.session = "s"
    channel = HttpChannel(realm.url, auth=realm.oauth(), limits=QUICK, trust_env=False)
    async with asyncio.timeout(WAIT_S), Client(channel, mode="legacy"):
        await enough.wait()
    assert streams[:5] == [200, 401, 200, 401, 200]
    assert len(realm.user) == 1


@in_realm
async def test_a_word_that_is_refused_again_is_given_up(realm: Realm, caplog: pytest.LogCaptureFixture) -> None:
    words: list[int] = []

    def door(asked: Asked) -> Said:
        if asked.verb == "POST" and is_word(asked):
            words.append(401)
            return Said(401, None, realm._challenge())
        return realm._mcp(asked)

    realm.server.doors["/mcp"] = door
    async with realm.client(realm.oauth(), mode="legacy") as client:
        await client.call_tool("echo")
    assert len(words) <= 2
    assert len(realm.user) == 1
    assert "was not taken" in caplog.text


@in_realm
async def test_a_stream_that_is_refused_is_asked_for_again_with_another_token(realm: Realm) -> None:
    streams: list[int] = []
    taken = asyncio.Event()

    def door(asked: Asked) -> Said:
        if asked.verb != "GET":
            return realm._mcp(asked)
        if not streams:
            realm.revoke()
        is_known = asked.headers["authorization"].removeprefix("Bearer ") in realm.tokens
        streams.append(405 if is_known else 401)
        if is_known:
            taken.set()
        return Said(streams[-1], None, {} if is_known else realm._challenge())

    realm.server.doors["/mcp"] = door
    realm.session = "s"
    channel = HttpChannel(realm.url, auth=realm.oauth(), limits=QUICK, trust_env=False)
    async with asyncio.timeout(WAIT_S), Client(channel, mode="legacy"):
        await taken.wait()
    assert streams == [401, 405]
    assert len(realm.user) == 1


@in_realm
async def test_a_stream_that_no_token_is_good_for_is_not_asked_for_again(realm: Realm) -> None:
    count = 0
    twice = asyncio.Event()

    def door(asked: Asked) -> Said:
        nonlocal count
        if asked.verb != "GET":
            return realm._mcp(asked)
        count += 1
        if count == 2:
            twice.set()
        return Said(401, None, realm._challenge())

    realm.server.doors["/mcp"] = door
    realm.session = "s"
    channel = HttpChannel(realm.url, auth=realm.oauth(), limits=QUICK, trust_env=False)
    async with asyncio.timeout(WAIT_S), Client(channel, mode="legacy") as client:
        await twice.wait()
        for _ in range(50):
            await client.call_tool("echo")
    assert len(realm.user) == 1
    assert count == 2


@in_realm
async def test_the_rest_of_a_stream_is_asked_for_again_with_another_token(realm: Realm) -> None:
    asked_id = 0

    def events(*lines: str) -> Said:
        return Said(200, "".join(f"{line}\n" for line in (*lines, "")).encode(), kind="text/event-stream")

    def door(asked: Asked) -> Said:
        nonlocal asked_id
        if asked.headers.get("last-event-id") == "1":
            if asked.headers["authorization"].removeprefix("Bearer ") not in realm.tokens:
                return Said(401, None, realm._challenge())
            result = {"content": [{"type": "text", "text": "late"}]}
            return events("id: 2", "data: " + json.dumps({"jsonrpc": "2.0", "id": asked_id, "result": result}))
        said = realm._mcp(asked)
        if asked.verb == "POST" and asked.json["method"] == "tools/call":
            asked_id = asked.json["id"]
            realm.revoke()
            return events("id: 1", "data: ")
        return said

    realm.server.doors["/mcp"] = door
    realm.session = "s"
    channel = HttpChannel(realm.url, auth=realm.oauth(), limits=QUICK, trust_env=False)
    async with asyncio.timeout(WAIT_S), Client(channel, mode="legacy") as client:
        assert (await client.call_tool("echo")).text == "late"
    assert [form["grant_type"] for form in realm.issuer.forms()] == ["authorization_code", "refresh_token"]


@in_realm
async def test_an_array_of_requests_is_sent_again_whole(realm: Realm) -> None:
    def door(asked: Asked) -> Said:
        if asked.verb != "POST" or not isinstance(asked.json, list):
            said = realm._mcp(asked)
            if isinstance(said.value, dict) and "protocolVersion" in said.value.get("result", {}):
                said.value["result"]["protocolVersion"] = "2025-03-26"
            return said
        if asked.headers["authorization"].removeprefix("Bearer ") not in realm.tokens:
            return Said(401, None, realm._challenge())
        result = {"content": [{"type": "text", "text": "done"}]}
        return Said(value=[{"jsonrpc": "2.0", "id": each["id"], "result": result} for each in asked.json])

    realm.server.doors["/mcp"] = door
    async with realm.client(realm.oauth(), mode="2025-03-26", json_rpc_batch=True) as client:
        realm.revoke()
        found = await asyncio.gather(*(client.call_tool("echo") for _ in range(3)))
    assert [result.text for result in found] == ["done"] * 3
    arrays = [each.json for each in realm.server.asked if each.verb == "POST" and isinstance(each.json, list)]
    assert [len(array) for array in arrays] == [3, 3]
    assert len(realm.user) == 1


@in_realm
async def test_what_comes_while_a_token_is_got_waits_for_it_and_shares_its_failure(realm: Realm) -> None:
    asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def refuse() -> None:
        asked.set()
        await may_go_on.wait()
        raise RuntimeError("no browser here")

    async with realm.client(realm.oauth()) as client:
        realm.revoke()
        realm.refreshes.clear()
        realm.before_user = refuse
        first = asyncio.ensure_future(client.call_tool("echo"))
        await asked.wait()
        before = realm.server.paths.count("/mcp")
        second = asyncio.ensure_future(client.call_tool("echo"))
        await asyncio.wait([second], timeout=0.05)
        assert realm.server.paths.count("/mcp") == before
        may_go_on.set()
        for call in (first, second):
            with pytest.raises(AuthorizationError, match="RuntimeError"):
                await call
    assert realm.calls["echo"] == 0


@in_realm
async def test_while_one_call_steps_up_the_others_go_on(realm: Realm) -> None:
    asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await may_go_on.wait()

    realm.needs = {"write": "write"}
    async with realm.client(realm.oauth()) as client:
        realm.before_user = wait
        write = asyncio.ensure_future(client.call_tool("write"))
        await asked.wait()
        assert (await client.call_tool("echo")).text == "done"
        assert not write.done()
        may_go_on.set()
        assert (await write).text == "done"


@in_realm
async def test_a_refusal_without_a_challenge_is_one_all_the_same(realm: Realm) -> None:
    def door(asked: Asked) -> Said:
        said = realm._mcp(asked)
        return Said(401) if said.status == 401 else said

    realm.server.doors["/mcp"] = door
    async with realm.client(realm.oauth()) as client:
        await client.call_tool("echo")
    assert len(realm.user) == 1


@in_realm
async def test_a_closed_client_leaves_nothing_that_waits(realm: Realm) -> None:
    asked = asyncio.Event()

    async def wait() -> None:
        asked.set()
        await asyncio.Event().wait()

    async with realm.client(realm.oauth()) as client:
        realm.revoke()
        realm.refreshes.clear()
        realm.before_user = wait
        call = asyncio.ensure_future(client.call_tool("echo"))
        await asked.wait()
    with pytest.raises(Exception, match="was closed"):
        await call
    for _ in range(5):
        await asyncio.sleep(0)
    assert not [
        task for task in asyncio.all_tasks() if task.get_name().startswith(("erlmcp-authorize", "erlmcp-http-a"))
    ]


def test_connections_are_not_shared_between_credentials() -> None:
    first = HttpChannel("https://x.example/mcp")
    with pytest.raises(ConfigurationError, match="leave out pool"):
        HttpChannel("https://x.example/mcp", pool=first.pool, auth="token")


@in_realm
async def test_without_auth_the_challenge_is_the_callers(realm: Realm) -> None:
    with pytest.raises(HttpStatusError) as caught:
        async with realm.client(None):
            pass
    assert "resource_metadata" in caught.value.headers["www-authenticate"]


def test_a_command_logs_in_and_the_next_one_need_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")

    @in_realm
    async def run(realm: Realm) -> None:
        async def act(url: str) -> None:
            await get(await realm.agree(url))

        visit: Any = Visit(act)
        monkeypatch.setattr("webbrowser.open", visit)
        for _ in range(2):
            async with asyncio.timeout(WAIT_S):
                words = ["call", realm.url, "echo", "--login", "--json"]
                assert await asyncio.to_thread(main, words) == 0
        assert len(realm.user) == 1

    asyncio.run(run())  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert [json.loads(line)["content"][0]["text"] for line in out.replace("}\n{", "}\0{").split("\0")] == ["done"] * 2
    assert err.count("to log in, open http://127.0.0.1") == 1
    assert (tmp_path / "erlmcp/tokens.json").stat().st_mode & 0o077 == 0
