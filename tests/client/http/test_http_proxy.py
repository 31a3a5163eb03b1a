"""Proxies that the environment names: who is asked, what they see, and how it ends where they refuse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rawpeer import make_house
from scripted import Line, nothing_left, once, scripted, talking
from test_http_tls import server_side, trusting

from erlmcp import Client, ConfigurationError
from erlmcp.client.http_endpoint import make_endpoint
from erlmcp.client.http_proxy import Proxy, proxy_of, read_proxy
from erlmcp.errors import ConnectionClosedError
from erlmcp.server.serve import http

ANSWER = once(lambda line, asked: line.result(asked))


class Carrier:
    """A proxy that opens tunnels to this machine, whatever host is asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.port = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            self.asked.append(head)
            port = int(head[0].split(" ")[1].rpartition(":")[2])
            there, back = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: carrier\r\n\r\n")
            await asyncio.wait(
                [asyncio.ensure_future(self.copy(reader, back)), asyncio.ensure_future(self.copy(there, writer))]
            )
        writer.close()

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def settle(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)


@contextlib.asynccontextmanager
async def carrying() -> AsyncIterator[Carrier]:
    carrier = Carrier()
    server = await asyncio.start_server(carrier.carry, "127.0.0.1", 0)
    carrier.port = server.sockets[0].getsockname()[1]
    try:
        yield carrier
    finally:
        server.close()
        await carrier.settle()
        await server.wait_closed()


async def test_a_plain_request_goes_to_the_proxy_with_its_whole_url(
    monkeypatch: pytest.MonkeyPatch, loop_kind: str
) -> None:
    async with nothing_left(), scripted(ANSWER) as proxy:
        monkeypatch.setenv("http_proxy", f"http://ada:p%40ss@127.0.0.1:{proxy.port}")
        async with talking("http://mcp.example/mcp?a=1") as talk:
            await talk.call()
            await talk.call()
        asked = proxy.requests[-1]
        assert (asked.verb, asked.target) == ("POST", "http://mcp.example/mcp?a=1")
        assert asked.headers["host"] == "mcp.example"
        assert asked.headers["proxy-authorization"] == "Basic YWRhOnBAc3M="
        assert proxy.line_count == 1, "the connection to the proxy is kept"


@pytest.mark.parametrize("http2", [None, False])
async def test_tls_goes_through_a_tunnel_and_is_with_the_server(
    certs: Path, monkeypatch: pytest.MonkeyPatch, loop_kind: str, http2: bool | None
) -> None:
    pytest.importorskip("h2")
    async with nothing_left(), carrying() as carrier:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ada:word@127.0.0.1:{carrier.port}")
        async with http(make_house().server, tls=server_side(certs), http2=True) as listener:
            authority = f"127.0.0.1:{listener.port}"
            url = f"https://{authority}/mcp"
            async with Client(url, tls=trusting(certs), http2=http2) as client:
                assert (await client.call_tool("echo", {"text": "grüß"})).text == "grüß"
                assert bool(client.channel.pool._shared) is (http2 is None)  # type: ignore[union-attr]
            with pytest.raises(ConnectionClosedError, match="certificate"):
                await Client(url).connect()
        head = carrier.asked[0]
        assert head[0] == f"CONNECT {authority} HTTP/1.1"
        assert head[1:] == [f"Host: {authority}", "Proxy-Authorization: Basic YWRhOndvcmQ="]


async def test_the_name_in_the_certificate_is_the_servers(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nothing_left(), carrying() as carrier, scripted(ANSWER, tls=server_side(certs)) as peer:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{carrier.port}")
        async with talking(f"https://mcp.example:{peer.port}/mcp", tls=trusting(certs)) as talk:
            assert (await talk.call()).kind == 3
        with pytest.raises(ConnectionClosedError, match=r"cannot reach https://other\.example"):
            async with talking(f"https://other.example:{peer.port}/mcp", tls=trusting(certs)) as talk:
                await talk.call()
        assert "proxy-authorization" not in peer.requests[0].headers


async def test_http2_that_is_known_beforehand_goes_through_a_tunnel(
    monkeypatch: pytest.MonkeyPatch, loop_kind: str
) -> None:
    pytest.importorskip("h2")
    async with nothing_left(), carrying() as carrier, http(make_house().server, http2=True) as listener:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{carrier.port}")
        async with Client(f"http://127.0.0.1:{listener.port}/mcp", http2=True) as client:
            assert (await client.call_tool("echo", {"text": "x"})).text == "x"
        assert len(carrier.asked) == 1


async def test_the_environment_is_not_asked_where_it_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with nothing_left(), scripted(ANSWER) as peer:
        async with talking(peer.url, trust_env=False) as talk:
            await talk.call()
        with pytest.raises(ConnectionClosedError, match=r"Connection refused \(through the proxy 127\.0\.0\.1:9\)"):
            async with talking(peer.url) as talk:
                await talk.call()
    with pytest.raises(ConfigurationError, match="trust_env are for a URL"):
        Client("tcp://127.0.0.1:1", trust_env=False)


def say(data: bytes, *, ends: bool = True) -> Any:
    async def script(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        line.send(data)
        if not ends:
            await line.until_closed()

    return script


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (say(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "answered 407 Proxy Authentication Required"),
        (say(b"SSH-2.0-OpenSSH\r\n\r\n"), "answered what is not HTTP"),
        (say(b"HTTP/1.1 200 OK\r\n\r\nhello", ends=False), "sent more than the head"),
        (say(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 5000, ends=False), "head_bytes_max=4096"),
        (say(b""), "closed the connection"),
        (say(b"", ends=False), "connect_timeout_s"),
        (say(b"HTTP/1.1 200 OK\r\n\r\n"), "cannot reach"),
    ],
    ids=["407", "no http", "too much", "too long", "closed", "silent", "no tls behind it"],
)
async def test_a_proxy_that_does_not_open_the_way_is_an_error_of_the_connection(
    script: Any, what: str, certs: Path, monkeypatch: pytest.MonkeyPatch, loop_kind: str
) -> None:
    limits = {"head_bytes_max": 4096, "connect_timeout_s": 0.5}
    async with nothing_left(), scripted(script) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ConnectionClosedError, match=what):
            async with talking("https://mcp.example/mcp", tls=trusting(certs), limits=limits) as talk:
                await talk.call()


@pytest.mark.parametrize(
    ("environment", "url", "found"),
    [
        ({}, "http://a.example/", None),
        ({"http_proxy": ""}, "http://a.example/", None),
        ({"http_proxy": "p:3128"}, "http://a.example/", Proxy("p", 3128)),
        ({"HTTP_PROXY": "http://p:3128"}, "http://a.example/", Proxy("p", 3128)),
        ({"HTTP_PROXY": "http://p:3128", "REQUEST_METHOD": "GET"}, "http://a.example/", None),
        ({"http_proxy": "http://p:3128"}, "https://a.example/", None),
        ({"ALL_PROXY": "http://[::1]"}, "https://a.example/", Proxy("::1", 80)),
        ({"all_proxy": "http://p", "no_proxy": "b.example,.example"}, "https://a.example/", None),
        ({"all_proxy": "http://p", "no_proxy": "b.example"}, "https://a.example/", Proxy("p", 80)),
        ({"all_proxy": "http://p", "NO_PROXY": "a.example:8443"}, "https://a.example:8443/", None),
        ({"all_proxy": "http://p", "NO_PROXY": "*"}, "https://a.example/", None),
    ],
)
def test_the_variables_are_read_as_others_read_them(
    environment: dict[str, str], url: str, found: Proxy | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert make_endpoint(url, trust_env=True).proxy == found
    assert make_endpoint(url).proxy is None
    assert make_endpoint(url, unix="/run/s", trust_env=True).proxy is None


@pytest.mark.parametrize("text", ["socks5://p:1080", "https://p:443", "http://", "http://p:port", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", text)
    with pytest.raises(ConfigurationError, match="the environment names"):
        proxy_of("https", "a.example", 443)


def test_what_a_proxy_is_shown_is_not_printed_and_keeps_pools_apart() -> None:
    proxy = read_proxy("http://ada:secret@p:1")
    assert "YWRh" not in repr(proxy)
    assert str(proxy) == "p:1"
    assert str(read_proxy("http://[::1]:8")) == "[::1]:8"
    assert proxy != read_proxy("http://bob:secret@p:1")
