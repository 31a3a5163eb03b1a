"""``erlmcp serve`` over TLS and HTTP/2, as it is typed: who gets in, what is spoken, and what is refused before."""

from __future__ import annotations

import asyncio
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Client, ConfigurationError
from erlmcp.cli import main
from erlmcp.client.tls import Tls
from erlmcp.errors import ConnectionClosedError
from erlmcp.server.tls import make_server_context

QUICKSTART = str(Path(__file__).resolve().parents[2] / "examples/quickstart.py")


@contextmanager
def serving(*words: str) -> Iterator[str]:
    """The address that ``erlmcp serve`` says it serves."""
    command = [sys.executable, "-m", "erlmcp", "serve", QUICKSTART, "--port", "0", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        found = re.search(r"https?://\S+/mcp", line)
        assert found is not None, line + server.stderr.read()
        try:
            yield found[0]
        finally:
            server.send_signal(signal.SIGTERM)
            _, said = server.communicate(timeout=30)
    assert "Traceback" not in said
    assert server.returncode == 0


def certified(certs: Path) -> list[str]:
    return ["--tls-cert", str(certs / "server.pem"), "--tls-key", str(certs / "server.key")]


async def speaks_http2(client: Client) -> bool:
    async with asyncio.timeout(20), client:
        assert (await client.call_tool("add", {"a": 40, "b": 2})).data == 42
        channel: Any = client.channel
        return bool(channel.pool._shared)


@pytest.mark.parametrize(("words", "is_http2"), [([], True), (["--http2"], True), (["--no-http2"], False)])
async def test_with_a_certificate_https_is_served_and_http2_unless_told_otherwise(
    certs: Path, words: list[str], is_http2: bool
) -> None:
    pytest.importorskip("h2")
    with serving(*certified(certs), *words) as url:
        assert url.startswith("https://127.0.0.1:")
        assert await speaks_http2(Client(url, tls=Tls(ca_file=str(certs / "ca.pem")))) is is_http2
        with pytest.raises(ConnectionClosedError):
            await Client(url).connect()


async def test_without_a_certificate_http2_is_spoken_where_it_is_asked_for() -> None:
    pytest.importorskip("h2")
    with serving("--http2") as url:
        assert url.startswith("http://")
        assert await speaks_http2(Client(url, http2=True))
        assert not await speaks_http2(Client(url))


async def test_a_flag_switches_http2_off_whatever_is_typed(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLMCP_FLAGS", "-http2")
    with serving(*certified(certs), "--http2") as url:
        monkeypatch.delenv("ERLMCP_FLAGS")
        assert not await speaks_http2(Client(url, tls=Tls(ca_file=str(certs / "ca.pem"))))


async def test_only_clients_of_a_known_authority_are_let_in(certs: Path) -> None:
    with serving(*certified(certs), "--tls-client-ca", str(certs / "ca.pem"), "--no-http2") as url:
        trusted = str(certs / "ca.pem")
        with pytest.raises(ConnectionClosedError):
            await Client(url, tls=Tls(ca_file=trusted)).connect()
        own = {"cert_file": str(certs / "client.pem"), "key_file": str(certs / "client.key")}
        assert not await speaks_http2(Client(url, tls=Tls(ca_file=trusted, **own)))


async def test_a_request_that_is_refused_before_its_end_is_answered_and_its_connection_ended(certs: Path) -> None:
    with serving(*certified(certs), "--no-http2", "--limit", "body_bytes_max=1000") as url:
        port = int(re.search(r":(\d+)/", url)[1])  # type: ignore[index]
        trust = ssl.create_default_context(cafile=str(certs / "ca.pem"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        head = (
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        )
        writer.write(head.encode() + b"x" * 5000)
        async with asyncio.timeout(20):
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        writer.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tls-key", "k.pem"], "--tls-key needs --tls-cert"),
        (["--tls-client-ca", "ca.pem"], "--tls-client-ca needs --tls-cert"),
        (["--tls-cert", "c.pem", "--tcp", "127.0.0.1:0"], "--tls-cert: for HTTP alone, not for --tcp"),
        (["--http2", "--unix", "s"], "--http2: for HTTP alone, not for --unix"),
        (["--tls-cert", "nowhere.pem"], "cannot use nowhere.pem for TLS"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", QUICKSTART, *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_http2_without_its_library_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("erlmcp.cli.serve.find_spec", lambda name: None)
    assert main(["serve", QUICKSTART, "--http2"]) == 2
    assert "pip install 'erlmcp[http2]'" in capsys.readouterr().err


def test_files_that_do_not_fit_are_named(certs: Path, tmp_path: Path) -> None:
    own = str(certs / "server.pem")
    with pytest.raises(ConfigurationError, match=r"server\.pem and .*client\.key"):
        make_server_context(own, str(certs / "client.key"))
    with pytest.raises(ConfigurationError, match=r"cannot use \S*nowhere\.pem for TLS"):
        make_server_context(own, str(certs / "server.key"), str(tmp_path / "nowhere.pem"))
    locked = str(tmp_path / "locked.key")
    words = ["openssl", "ec", "-in", str(certs / "server.key"), "-aes256", "-passout", "pass:abcd", "-out", locked]
    subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(ConfigurationError, match="the key is encrypted"):
        make_server_context(own, locked)
