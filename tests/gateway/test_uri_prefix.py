"""URIs that two upstreams have: prefixed where it is wanted, in all that tells of them, and bare upstream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stage import Scripted, result, scripted_gateway

from erlmcp.gateway.config import UpstreamConfig
from erlmcp.gateway.load import load
from erlmcp.gateway.problem import ConfigError

LEGACY = "2025-11-25"
URI = "file:///srv/a.txt"


def with_files(name: str, *, modern: bool = True, ttl_ms: int = 0) -> Scripted:
    upstream = Scripted("t", modern=modern)
    kind = b'"resultType":"complete",' if modern else b""
    hints = b'"ttlMs":%d,"cacheScope":"public",' % ttl_ms if modern else b""
    upstream.answers["resources/list"] = json.dumps({"resources": [{"uri": URI, "name": name}]}).encode()
    templates = [{"uriTemplate": "file:///srv/{path}", "name": "any"}]
    upstream.answers["resources/templates/list"] = json.dumps({"resourceTemplates": templates}).encode()
    upstream.answers["resources/read"] = b'{%b%b"contents":[{"uri":"file:///srv/a.txt","text":"%b"}]}' % (
        kind,
        hints,
        name.encode(),
    )
    link = b'{"type":"resource_link","uri":"file:///srv/a.txt","name":"x"}'
    inner = b'{"type":"resource","resource":{"uri":"file:///srv/a.txt","text":"y"}}'
    upstream.answers["tools/call"] = (
        b'{%b"content":[%b,%b,{"type":"text","text":"file:///srv/a.txt"}],"structuredContent":{"uri":"z"}}'
        % (kind, link, inner)
    )
    upstream.answers["prompts/get"] = b'{%b"messages":[{"role":"user","content":%b}]}' % (kind, inner)
    upstream.answers["completion/complete"] = b'{%b"completion":{"values":["v"]}}' % kind
    upstream.answers["resources/subscribe"] = upstream.answers["resources/unsubscribe"] = b"{}"
    return upstream


def both(*, modern: bool = True, **options: Any) -> tuple[Scripted, Scripted, Any]:
    first, second = with_files("one", modern=modern), with_files("two", modern=modern)
    gateway = scripted_gateway(first, second, **options)
    config = gateway.config
    made = tuple(
        UpstreamConfig(each.name, each.kind, target=each.target, prefix=each.prefix, uri_prefix=f"{each.name}+")
        for each in config.upstreams
    )
    object.__setattr__(config, "upstreams", made)
    return first, second, gateway


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("version", [LEGACY, "2026-07-28"])
async def test_each_upstream_has_its_own_uris_and_gets_them_bare(talk: Any, modern: bool, version: str) -> None:
    first, second, gateway = both(modern=modern)
    async with talk(gateway, version) as client:
        listed = (await client.result("resources/list"))["resources"]
        assert [(each["uri"], each["name"]) for each in listed] == [("a+" + URI, "one"), ("b+" + URI, "two")]
        templates = (await client.result("resources/templates/list"))["resourceTemplates"]
        assert [each["uriTemplate"] for each in templates] == ["a+file:///srv/{path}", "b+file:///srv/{path}"]
        for prefix, upstream, name in (("a+", first, "one"), ("b+", second, "two")):
            for uri in (URI, "file:///srv/unlisted", "other://x"):
                found = await client.result("resources/read", {"uri": prefix + uri})
                assert found["contents"] == [{"uri": prefix + URI, "text": name}]
                assert ("resultType" in found, "ttlMs" in found) == (client.modern, client.modern)
                assert upstream.of("resources/read")[-1]["params"]["uri"] == uri
            called = await client.call(f"{prefix[0]}_t")
            assert called["content"][0]["uri"] == prefix + URI
            assert called["content"][1]["resource"]["uri"] == prefix + URI
            assert called["content"][2]["text"] == URI
            assert called["structuredContent"] == {"uri": "z"}
            asked = await client.result("prompts/get", {"name": f"{prefix[0]}_ask"})
            assert asked["messages"][0]["content"]["resource"]["uri"] == prefix + URI
            reference = {"type": "ref/resource", "uri": prefix + "file:///srv/{path}"}
            await client.result("completion/complete", {"ref": reference, "argument": {"name": "path", "value": "a"}})
            assert upstream.of("completion/complete")[-1]["params"]["ref"]["uri"] == "file:///srv/{path}"
        assert (await client.error("resources/read", {"uri": URI}))["code"] in (-32002, -32602)


async def test_the_next_round_of_a_read_names_the_resource_as_its_upstream_does(talk: Any, everything: Any) -> None:
    first, _, gateway = both()
    done = first.answers["resources/read"]

    def answer(request: dict[str, Any]) -> bytes:
        is_first = "requestState" not in request["params"]
        return result(request, b'{"resultType":"input_required","requestState":"s"}' if is_first else done)

    first.answers["resources/read"] = answer
    async with talk(gateway, LEGACY, everything) as client:
        found = await client.result("resources/read", {"uri": "a+" + URI})
        assert found["contents"][0]["uri"] == "a+" + URI
    assert [each["params"]["uri"] for each in first.of("resources/read")] == [URI, URI]


async def test_what_was_kept_is_prefixed_too(talk: Any) -> None:
    first, _, gateway = both()
    first.answers["resources/read"] = with_files("one", ttl_ms=60_000).answers["resources/read"]
    async with gateway.running(), talk(gateway) as client, talk(gateway, LEGACY) as old:
        for each in (client, client, old):
            found = await each.result("resources/read", {"uri": "a+" + URI})
            assert found["contents"] == [{"uri": "a+" + URI, "text": "one"}]
        assert len(first.of("resources/read")) == 1
        note = {"method": "notifications/resources/updated", "params": {"uri": URI}}
        first.links[0].say(json.dumps({"jsonrpc": "2.0", **note}).encode())
        await client.result("resources/read", {"uri": "a+" + URI})
        assert len(first.of("resources/read")) == 2


async def test_a_change_is_told_under_the_uri_that_was_subscribed_to(talk: Any) -> None:
    first, second, gateway = both(modern=False)
    async with talk(gateway, LEGACY) as client:
        await client.result("resources/subscribe", {"uri": "b+" + URI})
        assert second.of("resources/subscribe")[0]["params"]["uri"] == URI
        note = json.dumps({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": URI}})
        for upstream in (first, second):
            upstream.links[0].say(note.encode())
        await client.settle()
        assert [each["params"]["uri"] for each in client.notes] == ["b+" + URI]
        await client.result("resources/unsubscribe", {"uri": "b+" + URI})
        assert not gateway.upstreams["b"].hearing._held


@pytest.mark.parametrize(
    ("name", "given", "prefix"),
    [
        ("files", "true", "files+"),
        ("my_files", "true", "my-files+"),
        ("2nd", "true", "x-2nd+"),
        ("files", '"docs"', "docs+"),
        ("files", '"docs+"', "docs+"),
        ("files", "false", ""),
        ("files", '""', ""),
    ],
)
def test_a_prefix_makes_another_scheme(tmp_path: Path, name: str, given: str, prefix: str) -> None:
    file = tmp_path / "erlmcp.toml"
    file.write_text(f'[servers.{name}]\nurl = "http://127.0.0.1:1/mcp"\nuri_prefix = {given}\n')
    assert load([file], {}).upstreams[0].uri_prefix == prefix


@pytest.mark.parametrize("given", ['"no/scheme"', '"1st"', "7"])
def test_a_prefix_that_makes_no_uri_is_told(tmp_path: Path, given: str) -> None:
    file = tmp_path / "erlmcp.toml"
    file.write_text(f'[servers.files]\nurl = "http://127.0.0.1:1/mcp"\nuri_prefix = {given}\n')
    with pytest.raises(ConfigError) as caught:
        load([file], {})
    assert caught.value.problems[0].key == "servers.files.uri_prefix"
