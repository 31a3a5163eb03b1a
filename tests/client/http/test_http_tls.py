"""TLS: whom the client trusts, what it shows, and which protocol comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from rawpeer import make_house
from scripted import nothing_left, once, scripted, talking

from erlmcp import Client, Server
from erlmcp.client.http import HttpChannel
from erlmcp.client.tls import Tls, make_context
from erlmcp.errors import ConfigurationError, ConnectionClosedError
from erlmcp.server.serve import http


def server_side(certs: Path, *protocols: str, asks_client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.pem", certs / "server.key")
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if asks_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certs / "ca.pem")
    return context


def trusting(certs: Path, **more: Any) -> Tls:
    return Tls(ca_file=str(certs / "ca.pem"), **more)


def secure(url: str, host: str = "127.0.0.1") -> str:
    return url.replace("http:", "https:").replace("127.0.0.1", host)


ANSWER = once(lambda line, asked: line.result(asked))


async def test_a_server_of_a_known_authority_is_spoken_to(certs: Path, loop_kind: str) -> None:
    async with (
        nothing_left(),
        scripted(ANSWER, tls=server_side(certs)) as peer,
        talking(secure(peer.url), tls=trusting(certs)) as talk,
    ):
        for _ in range(5):
            assert (await talk.call()).kind == 3
        assert talk.channel.stats()["opened_total"] == 1


@pytest.mark.parametrize("protocols", [("h2", "http/1.1"), ("http/1.1",), ()])
async def test_alpn_decides_between_the_protocols(certs: Path, loop_kind: str, protocols: tuple[str, ...]) -> None:
    pytest.importorskip("h2")
    from scripted2 import scripted2

    tls = server_side(certs, *protocols)
    if "h2" in protocols:
        async with (
            nothing_left(),
            scripted2(lambda side, asked: side.result(asked), tls=tls) as peer2,
            talking(secure(peer2.url), tls=trusting(certs)) as talk,
        ):
            assert (await talk.call()).kind == 3
            assert peer2.requests[0].headers[":scheme"] == "https"
    else:
        async with (
            nothing_left(),
            scripted(ANSWER, tls=tls) as peer,
            talking(secure(peer.url), tls=trusting(certs)) as talk,
        ):
            assert (await talk.call()).kind == 3


@pytest.mark.parametrize("http2", [True, False])
async def test_erlmcps_own_server_speaks_tls_and_both_protocols(certs: Path, loop_kind: str, http2: bool) -> None:
    pytest.importorskip("h2")
    async with (
        nothing_left(),
        http(make_house().server, tls=server_side(certs), http2=True) as listener,
        talking(f"https://127.0.0.1:{listener.port}/mcp", tls=trusting(certs), http2=http2) as talk,
    ):
        assert (await talk.call(text="one")).result["content"][0]["text"] == "one"
        assert bool(talk.channel.pool._shared) is http2


async def test_http_2_is_not_offered_where_it_is_not_wanted(certs: Path) -> None:
    async with (
        nothing_left(),
        scripted(ANSWER, tls=server_side(certs, "h2", "http/1.1")) as peer,
        talking(secure(peer.url), tls=trusting(certs), http2=False) as talk,
    ):
        assert (await talk.call()).kind == 3


@pytest.mark.parametrize(
    ("trust", "host", "what"),
    [
        ({"ca_file": "other.pem"}, "127.0.0.1", "certificate verify failed"),
        ({}, "127.0.0.1", "certificate verify failed"),
        ({"ca_file": "ca.pem"}, "localhost", "localhost"),
        ({"ca_file": "ca.pem", "server_name": "evil.example"}, "127.0.0.1", r"evil\.example"),
    ],
)
async def test_a_server_that_is_not_whom_it_should_be_is_refused(
    certs: Path, loop_kind: str, trust: dict[str, str], host: str, what: str
) -> None:
    if "ca_file" in trust:
        trust = {**trust, "ca_file": str(certs / trust["ca_file"])}
    async with nothing_left(), scripted(ANSWER, tls=server_side(certs)) as peer:
        with pytest.raises(ConnectionClosedError, match=what):
            async with talking(secure(peer.url, host), tls=Tls(**trust)):
                pass
        assert peer.requests == []


async def test_the_name_on_the_certificate_may_be_another_than_the_host(certs: Path) -> None:
    async with (
        nothing_left(),
        scripted(ANSWER, tls=server_side(certs)) as peer,
        talking(secure(peer.url), tls=trusting(certs, server_name="mcp.example")) as talk,
    ):
        assert (await talk.call()).kind == 3


async def test_a_client_shows_its_certificate_where_it_is_asked_to(certs: Path, loop_kind: str) -> None:
    own = {"cert_file": str(certs / "client.pem"), "key_file": str(certs / "client.key")}
    async with nothing_left(), scripted(ANSWER, tls=server_side(certs, asks_client=True)) as peer:
        async with talking(secure(peer.url), tls=trusting(certs, **own)) as talk:
            assert (await talk.call()).kind == 3
        with pytest.raises(ConnectionClosedError):
            async with talking(secure(peer.url), tls=trusting(certs)) as talk:
                await talk.call()


async def test_unverified_tls_is_possible_and_a_ready_context_is_taken_as_it_is(certs: Path) -> None:
    context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    async with nothing_left(), scripted(ANSWER, tls=server_side(certs)) as peer:
        for tls in (Tls(is_verified=False), context):
            async with talking(secure(peer.url), tls=tls) as talk:
                assert (await talk.call()).kind == 3


async def test_a_server_without_tls_is_an_error_of_the_connection(loop_kind: str) -> None:
    async with nothing_left(), scripted(ANSWER) as peer:
        with pytest.raises(ConnectionClosedError, match="cannot reach"):
            async with talking(secure(peer.url), limits={"connect_timeout_s": 0.2}):
                pass


async def test_pools_of_different_certificates_are_not_shared(certs: Path) -> None:
    own = {"cert_file": str(certs / "client.pem"), "key_file": str(certs / "client.key")}
    async with scripted(ANSWER, tls=server_side(certs)) as peer, talking(secure(peer.url), tls=trusting(certs)) as talk:
        with pytest.raises(ConfigurationError, match="other credentials"):
            HttpChannel(secure(peer.url), tls=trusting(certs, **own), pool=talk.channel.pool)


def test_files_that_cannot_be_read_and_tls_without_https_are_refused(certs: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.pem"):
        make_context(Tls(cert_file="nowhere.pem"))
    with pytest.raises(ConfigurationError, match="has no TLS"):
        HttpChannel("http://localhost/", tls=Tls())
    assert "secret" not in repr(Tls(key_password="secret"))


def test_old_versions_of_tls_are_not_spoken() -> None:
    context = make_context(Tls())
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert make_context(Tls()) is context


@pytest.mark.parametrize("http2", [None, False])
async def test_a_client_passes_on_whom_to_trust_and_which_protocol(
    certs: Path, loop_kind: str, http2: bool | None
) -> None:
    pytest.importorskip("h2")
    async with (
        nothing_left(),
        http(make_house().server, tls=server_side(certs), http2=True) as listener,
        Client(f"https://127.0.0.1:{listener.port}/mcp", tls=trusting(certs), http2=http2) as client,
    ):
        await client.ping()
        assert bool(client.channel.pool._shared) is (http2 is None)
    with pytest.raises(ConnectionClosedError):
        async with http(make_house().server, tls=server_side(certs)) as listener:
            await Client(f"https://127.0.0.1:{listener.port}/mcp").connect()


async def test_a_large_answer_of_a_server_comes_whole_through_tls(certs: Path, loop_kind: str) -> None:
    server = Server("large")

    @server.tool
    async def big(size: int) -> str:
        return "x" * size

    context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    body = (
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
        b'"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}'
    )
    call = b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"big","arguments":{"size":1000000}}}'
    head = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += b"Accept: application/json, text/event-stream\r\n"
    async with asyncio.timeout(30), http(server, tls=server_side(certs)) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answered = await reader.readuntil(b"\r\n\r\n")
        session = next(line for line in answered.split(b"\r\n") if line.lower().startswith(b"mcp-session-id"))
        length = int(answered.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(head + session + b"\r\nContent-Length: %d\r\n\r\n" % len(call) + call)
        answered = await reader.readuntil(b"\r\n\r\n")
        length = int(answered.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert (await reader.readexactly(length)).count(b"x" * 1_000_000) == 2
        writer.close()
        with contextlib.suppress(ssl.SSLError, OSError):
            await writer.wait_closed()
