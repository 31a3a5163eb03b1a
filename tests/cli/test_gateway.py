"""``erlmcp gateway`` and ``erlmcp bridge``, as they are typed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Client
from erlmcp.cli import main
from erlmcp.cli.bridge import upstream_of
from erlmcp.cli.fault import CommandError

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = str(ROOT / "examples/quickstart.py")
COMMAND = [sys.executable, "-m", "erlmcp"]
ENTRY = {"command": sys.executable, "args": ["-m", "erlmcp", "run", QUICKSTART], "env": {"PYTHONPATH": str(ROOT)}}
Serving = Callable[..., tuple[str, subprocess.Popen[str]]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"quick": ENTRY, "file": {"server": QUICKSTART}}}))
    return path


@pytest.fixture
def serving() -> Iterator[Serving]:
    """A function that starts a command and gives the address that it names."""
    started: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def serve(*words: str) -> tuple[str, subprocess.Popen[str]]:
        process = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"serving (http://[^\s,]+)", line)
            if found is not None:
                reader = threading.Thread(target=process.stderr.read, daemon=True)
                reader.start()
                started.append((process, reader))
                return found[1], process
        raise AssertionError(f"it ended with code {process.wait()}")

    yield serve
    for process, reader in started:
        process.terminate()
        assert process.wait(30) == 0
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def test_check_tells_that_all_is_well_or_what_is_not(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "check", str(config)]) == 0
    assert capsys.readouterr().out == f"{config}: 2 servers, 0 keys, no mistakes\n"
    config.write_text('{"mcpServers": {\n  "a": {"comand": "x"},\n  "b": {"url": "nowhere"}\n}}')
    assert main(["gateway", "check", str(config)]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "erlmcp: 3 mistakes in the configuration"
    assert lines[1].startswith(f"  {config}:2: mcpServers.a.comand: is no key that is known here; did you mean command")
    assert f"{config}:3: mcpServers.b.url: 'nowhere' is no http:// or https:// address; for instance" in lines[3]
    assert main(["gateway", str(config)]) == 3


def test_what_was_read_is_printed_without_secrets(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = json.loads(config.read_text())
    tree["mcpServers"]["quick"]["env"]["TOKEN"] = "very-secret"
    config.write_text(json.dumps(tree))
    assert main(["gateway", str(config), "--print-config"]) == 0
    text = capsys.readouterr().out
    assert "very-secret" not in text
    assert json.loads(text)["upstreams"][0]["env"] == {"PYTHONPATH": "***", "TOKEN": "***"}


def test_the_servers_of_a_file_are_served_as_one_over_http(config: Path, serving: Serving, run: Any) -> None:
    url, process = serving("gateway", str(config), "--port", "0", "--path", "/all")
    assert url.endswith("/all")

    async def use() -> None:
        async with Client(url) as client:
            names = [tool.name for tool in await client.list_tools()]
            assert names[: len(names) // 2] == [name.replace("file_", "quick_") for name in names[len(names) // 2 :]]
            assert (await client.call_tool("quick_add", {"a": 1, "b": 2})).data == 3
            tree = json.loads(config.read_text())
            config.write_text(json.dumps({"mcpServers": {"new": tree["mcpServers"]["file"]}}))
            async with client.listen(tools=True) as events:
                os.kill(process.pid, signal.SIGHUP)
                await anext(events)
            assert {tool.name.partition("_")[0] for tool in await client.list_tools()} == {"new"}

    run(use)


def test_the_servers_of_a_file_are_served_as_one_over_stdio(config: Path, run: Any) -> None:
    async def use() -> None:
        entry = {"command": sys.executable, "args": ["-m", "erlmcp", "gateway", str(config), "--stdio"]}
        async with Client({**entry, "env": {"PYTHONPATH": str(ROOT)}}) as client:
            assert (await client.call_tool("file_add", {"a": 1, "b": 2})).data == 3

    run(use)


def test_a_program_is_bridged_to_http_and_a_url_to_stdio(serving: Serving, run: Any) -> None:
    words = ["env", f"PYTHONPATH={ROOT}", *COMMAND, "run", QUICKSTART]
    url, _ = serving("bridge", "--port", "0", "--log-level", "warning", "--", *words)

    async def use() -> None:
        for mode in ("legacy", "2026-07-28"):
            async with Client(url, mode=mode) as client:
                assert (await client.call_tool("add", {"a": 1, "b": 2})).data == 3
            entry = {"command": sys.executable, "args": ["-m", "erlmcp", "bridge", url]}
            async with Client({**entry, "env": {"PYTHONPATH": str(ROOT)}}, mode=mode) as client:
                assert (await client.call_tool("add", {"a": 2, "b": 2})).data == 4

    run(use)


def test_an_address_that_is_in_use_is_told(serving: Serving, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, _ = serving("bridge", QUICKSTART, "--port", "0")
    port = url.rpartition(":")[2].partition("/")[0]
    done = subprocess.run(
        [*COMMAND, "gateway", str(config), "--port", port], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 4
    assert f"127.0.0.1:{port} is in use" in done.stderr


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["https://h/mcp"], {"kind": "http", "url": "https://h/mcp", "headers": {"A": "b"}}),
        (["tcp://h:1"], {"kind": "tcp", "address": "h:1"}),
        (["unix:/a/b"], {"kind": "unix", "address": "/a/b"}),
        (["a.py:app"], {"kind": "server", "target": "a.py:app"}),
        (["npx", "-y", "x"], {"kind": "stdio", "command": ("npx", "-y", "x"), "env": {"C": "d"}, "inherit_env": True}),
    ],
)
def test_a_bridge_leads_where_its_words_say(words: list[str], fields: dict[str, Any]) -> None:
    headers = {"A": "b"} if fields["kind"] == "http" else {}
    env = {"C": "d"} if fields["kind"] == "stdio" else {}
    made = upstream_of(words, headers, env)
    assert {name: getattr(made, name) for name in fields} == fields
    assert (made.prefix, made.name) == ("", "bridge")


def test_a_bridge_takes_an_entry_of_a_file(config: Path, tmp_path: Path) -> None:
    made = upstream_of([f"{config}#quick"], {}, {"X": "1"})
    assert made.command == (sys.executable, *ENTRY["args"])
    assert made.env == {"PYTHONPATH": str(ROOT), "X": "1"}
    (tmp_path / "one.json").write_text('{"mcpServers": {"w": {"url": "http://h/", "headers": {"A": "1"}}}}')
    made = upstream_of([str(tmp_path / "one.json")], {"B": "2"}, {})
    assert (made.url, made.headers) == ("http://h/", {"A": "1", "B": "2"})
    (tmp_path / "bad.json").write_text('{"mcpServers": {"w": {"port": 1}}}')
    with pytest.raises(CommandError, match="neither 'command' nor 'url', but port"):
        upstream_of([str(tmp_path / "bad.json")], {}, {})


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["bridge", "http://h/", "http://i/"], "a bridge leads to one server"),
        (["bridge", "--header", "A:b", "some-program"], "--header is for a URL"),
        (["bridge", "--env", "A=b", "http://h/"], "--env is for a program"),
        (["bridge", "--env", "A", "x"], "expected NAME=VALUE"),
    ],
)
def test_what_a_bridge_cannot_do_is_told(words: list[str], wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert wrong in capsys.readouterr().err


def test_the_status_of_a_gateway_that_runs_is_shown(
    tmp_path: Path, serving: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    file, control = tmp_path / "mcp.json", str(tmp_path / "control.sock")
    servers = {
        "good": {"server": QUICKSTART},
        "bad": {"command": sys.executable, "args": ["-c", "raise SystemExit(3)"], "restart_s": 60},
    }
    file.write_text(json.dumps({"mcpServers": servers}))
    serving("gateway", str(file), "--port", "0", "--control", control, "--log-level", "error")
    assert main(["gateway", "status", "--control", control]) == 1
    good, bad = capsys.readouterr().out.splitlines()
    assert re.match(r"good +up +2026-07-28, \d+ tools, .* 0 in flight, started 1 times", good)
    assert re.match(r"bad +(down|starting) ", bad)
    assert "status 3" in bad or "code 3" in bad or "3" in bad
    assert main(["gateway", "status", "--control", control, "--json"]) == 1
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["good", "bad"]
    assert main(["gateway", "status"]) == 2
    assert "--control PATH" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["gateway", "mcp.json"], ["bridge", "x"]])
def test_what_is_said_of_tls_has_to_go_together(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--tls-key", "k.pem"]) == 2
    assert "--tls-key needs --tls-cert" in capsys.readouterr().err
    assert main([*words, "--stdio", "--tls-cert", "c.pem"]) == 2
    assert "for HTTP alone, not for --stdio" in capsys.readouterr().err
