"""A configuration that changes while calls are under way."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stage import Scripted, build_shop, result, until

from erlmcp import Client, McpError
from erlmcp.errors import HttpStatusError
from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import Credential, GatewayConfig, KeyConfig, UpstreamConfig
from erlmcp.gateway.load import load
from erlmcp.gateway.reload import Watcher
from erlmcp.gateway.serve import http as gateway_http

LEGACY = "2025-11-25"
DONE = b'{"resultType":"complete","content":[{"type":"text","text":"done"}]}'


def config_of(**targets: Any) -> GatewayConfig:
    made = [UpstreamConfig(name, "server", target=target, prefix=f"{name}_") for name, target in targets.items()]
    return GatewayConfig(tuple(made))


async def test_servers_are_added_changed_and_removed_and_the_others_stay() -> None:
    kept, gone, new = Scripted("k"), Scripted("g"), Scripted("n")
    gateway = Gateway(config_of(kept=kept, gone=gone))
    async with Client(gateway) as client:
        assert [tool.name for tool in await client.list_tools()] == ["kept_k", "gone_g"]
        assert gateway.reload(config_of(kept=kept, new=new)) == ["gone", "new"]
        await until(lambda: gateway.upstreams["new"].state == "up")
        assert [tool.name for tool in await client.list_tools()] == ["kept_k", "new_n"]
        await until(lambda: gone.links[0].closed)
        assert (len(kept.links), kept.links[0].closed) == (1, False)
        assert gateway.reload(gateway.config) == []


async def test_a_call_in_flight_ends_as_it_would_have_and_none_is_lost_while_the_new_one_starts() -> None:
    old, new = Scripted("t"), Scripted("t")
    old.answers["tools/call"] = None
    new.answers["tools/call"] = DONE
    gateway = Gateway(config_of(a=old))
    async with Client(gateway) as client:
        first = asyncio.create_task(client.call_tool("a_t"))
        await until(lambda: len(old.waiting) == 1)
        discover = new.answers.pop("server/discover")
        gateway.reload(config_of(a=new))
        assert [tool.name for tool in await client.list_tools()] == ["a_t"]
        second = asyncio.create_task(client.call_tool("a_t"))
        await until(lambda: len(new.waiting) == 1)
        assert not second.done()
        assert not old.links[0].closed
        (request,) = old.waiting
        request["link"].say(result(request, DONE))
        assert (await first).text == "done"
        (hello,) = new.waiting
        hello["link"].say(result(hello, discover))
        assert (await second).text == "done"
        await until(lambda: old.links[0].closed)


async def test_clients_are_told_of_a_list_that_a_reload_changed(talk: Any) -> None:
    gateway = Gateway(config_of(a=Scripted("t")))
    async with talk(gateway, LEGACY) as client:
        gateway.reload(config_of(a=Scripted("other")))
        await until(lambda: "a_other" in gateway.mounts.tables["tool"])
        await client.settle()
        assert "notifications/tools/list_changed" in [note["method"] for note in client.notes]


def with_subscriptions(**answers: Any) -> Scripted:
    made = Scripted("t", modern=False)
    made.answers.update({"resources/subscribe": b"{}", "resources/unsubscribe": b"{}", **answers})
    return made


def updated(link: Any) -> None:
    link.say(b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x://y"}}')


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_session_with_a_line_of_its_own_goes_on_hearing_of_a_resource(
    talk: Any, everything: dict[str, Any], refuses: bool
) -> None:
    """On its own line to the new upstream; on the one that all share where the new one has none for it."""
    old, new = with_subscriptions(), with_subscriptions()
    gateway = Gateway(config_of(a=old))
    async with gateway.running(), talk(gateway, LEGACY, everything) as client, talk(gateway, LEGACY) as other:
        await client.result("resources/subscribe", {"uri": "x://y"})
        assert old.links[1].server.of("resources/subscribe")
        changed = replace(config_of(a=new).upstreams[0], line_count_max=0 if refuses else 9)
        gateway.reload(replace(config_of(), upstreams=(changed,)))
        await until(lambda: old.links[1].closed and len(new.of("resources/subscribe")) == (1 if refuses else 2))
        await until(lambda: len(new.of("resources/unsubscribe")) == (0 if refuses else 1))
        assert len(new.links) == (1 if refuses else 2)
        updated(new.links[-1])
        await client.settle()
        assert [note["params"] for note in client.notes if "params" in note] == [{"uri": "x://y"}]
        await other.settle()
        assert not [note for note in other.notes if "params" in note]
        await client.result("resources/unsubscribe", {"uri": "x://y"})
        await until(lambda: len(new.of("resources/unsubscribe")) == len(new.links))
        assert not len(gateway.followers)


async def test_what_a_session_gives_up_while_its_upstream_is_replaced_is_not_subscribed_to_again(
    talk: Any, everything: dict[str, Any]
) -> None:
    old, new = with_subscriptions(), with_subscriptions(**{"resources/subscribe": None})
    gateway = Gateway(config_of(a=old))
    async with gateway.running(), talk(gateway, LEGACY, everything) as client:
        await client.result("resources/subscribe", {"uri": "x://y"})
        gateway.reload(config_of(a=new))
        await until(lambda: len(new.waiting) == 2)  # on the shared line, and on the session's own
        await client.result("resources/unsubscribe", {"uri": "x://y"})
        assert not len(gateway.followers)
        own = next(request for request in new.waiting if request["link"] is new.links[1])
        own["link"].say(result(own, b"{}"))
        await until(lambda: bool(new.of("resources/unsubscribe")))
        assert not len(gateway.followers)


@pytest.mark.parametrize("change", ["upstream", "credential", "no credential"])
async def test_a_caller_with_a_credential_of_its_own_goes_on_hearing_of_a_resource(change: str) -> None:
    old, new = with_subscriptions(), with_subscriptions()
    key = "k" * 20

    def written(target: Scripted, **credentials: Credential) -> GatewayConfig:
        digest = hashlib.sha256(key.encode()).digest()
        made = KeyConfig("alice", digest, credentials=credentials)
        return replace(config_of(a=target), keys=(made,), anonymous=False)

    def subscribed() -> list[Any]:
        return old.of("resources/subscribe") + new.of("resources/subscribe")

    gateway = Gateway(written(old, a=Credential(env={"TOKEN": "1"})))
    async with gateway_http(gateway, port=0) as front:
        url = f"http://127.0.0.1:{front.port}/mcp"
        async with (
            Client(url, headers={"X-API-Key": key}, mode="2026-07-28") as client,
            client.listen(uris=["x://y"]) as events,
        ):
            assert len(subscribed()) == 1
            if change == "upstream":
                gateway.reload(written(new, a=Credential(env={"TOKEN": "1"})))
            else:
                more = {} if change == "no credential" else {"a": Credential(env={"TOKEN": "2"})}
                gateway.reload(written(old, **more))
            await until(lambda: len(subscribed()) == 2)
            heard = new.links[-1] if change == "upstream" else old.links[0 if change == "no credential" else -1]
            updated(heard)
            async with asyncio.timeout(10):
                assert (await anext(events)).uri == "x://y"
        await until(lambda: not len(gateway.followers))


async def test_keys_are_those_of_the_new_configuration_at_once(tmp_path: Path) -> None:
    def written(*names: str) -> GatewayConfig:
        keys = {name: {"key": name * 20} for name in names}
        path = tmp_path / "mcp.json"
        path.write_text(json.dumps({"mcpServers": {}, "servers": SERVERS, "gateway": {"keys": keys}}))
        return replace(load([path], {}), upstreams=upstreams)

    SERVERS = {"s": {"url": "http://127.0.0.1:1/mcp"}}
    upstreams = (UpstreamConfig("s", "server", target=build_shop()),)
    gateway = Gateway(written("a"))
    async with gateway_http(gateway, port=0) as front, AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{front.port}/mcp"
        client = await stack.enter_async_context(Client(url, headers={"X-API-Key": "a" * 20}))
        assert (await client.call_tool("echo", {"text": "x"})).data == "x"
        gateway.reload(written("b"))
        with pytest.raises(HttpStatusError, match="401"):
            await client.call_tool("echo", {"text": "x"})
        other = await stack.enter_async_context(Client(url, headers={"X-API-Key": "b" * 20}))
        assert (await other.call_tool("echo", {"text": "y"})).data == "y"


def write(path: Path, *names: str, text: str | None = None) -> None:
    shop = str(Path(__file__).parents[1] / "client/shop.py")
    servers = {name: {"server": shop} for name in names}
    path.write_text(json.dumps({"mcpServers": servers}) if text is None else text)


@pytest.mark.parametrize("when", ["before the start", "while it is reloaded"])
async def test_a_change_that_comes_when_the_files_were_just_read_is_seen(tmp_path: Path, when: str) -> None:
    path = tmp_path / "mcp.json"
    write(path, "a")

    def read() -> GatewayConfig:
        found = load([path], {})
        if waiting and when == "while it is reloaded":
            write(path, waiting.pop())
        return found

    waiting = ["cccc"]
    watcher = Watcher(read, poll_s=0.01)
    gateway = Gateway(load([path], {}), load_server=lambda target: build_shop(), watcher=watcher)
    write(path, "bb" if when == "while it is reloaded" else waiting.pop())
    async with gateway.running():
        await until(lambda: list(gateway.upstreams) == ["cccc"])


@pytest.mark.parametrize("how", ["file", "signal"])
async def test_the_files_are_read_again_when_they_change_and_at_sighup(tmp_path: Path, how: str, quiet: None) -> None:
    path = tmp_path / "mcp.json"
    write(path, "a")
    poll_s = 0.01 if how == "file" else 3600.0
    watcher = Watcher(lambda: load([path], {}), poll_s=poll_s)
    audit = tmp_path / "audit.jsonl"
    config = replace(load([path], {}), audit=str(audit))
    gateway = Gateway(config, load_server=lambda target: build_shop(), watcher=watcher)

    def change(*names: str, text: str | None = None) -> None:
        write(path, *names, text=text)
        os.utime(path, ns=(0, len(path.read_text()) * 1000))
        if how == "signal":
            os.kill(os.getpid(), signal.SIGHUP)

    async with Client(gateway) as client:
        await client.call_tool("a_echo", {"text": "x"})
        audit.rename(tmp_path / "audit.1")
        change("a", "bb")
        await until(lambda: "bb_echo" in gateway.mounts.tables["tool"])
        await client.call_tool("bb_echo", {"text": "x"})
        if how == "signal":
            change(text='{"mcpServers": {"a": {')
        else:
            change(text='{"mcpServers": {"a": {"url": "wrong"}}}')
        await until(lambda: watcher.refusal is not None)
        assert watcher.refusal.problems[0].file == str(path)  # type: ignore[union-attr]
        assert (await client.call_tool("bb_echo", {"text": "kept"})).data == "kept"
        change("cccc")
        await until(lambda: "cccc_echo" in gateway.mounts.tables["tool"] and len(gateway.upstreams) == 1)
        with pytest.raises(McpError, match="Unknown tool"):
            await client.call_tool("bb_echo", {"text": "x"})
    assert audit.exists()
