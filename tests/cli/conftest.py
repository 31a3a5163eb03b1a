"""Servers to talk to, each as the words that lead a command there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = str(ROOT / "examples/everything.py")
COMMAND = [sys.executable, "-m", "erlmcp"]
# A server that is started gets a clean environment; what leads to this checkout is handed on.
ENVIRONMENT = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}


@pytest.fixture(scope="session")
def command_line() -> Callable[..., str]:
    """A function that gives a line for --command, which starts its words with this checkout on their path."""
    settings = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    return lambda *words: shlex.join(["env", *settings, *words])


@pytest.fixture(scope="session")
def serving() -> Iterator[Callable[..., str]]:
    """A function that starts ``erlmcp serve`` and gives the address that it names."""
    started: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def serve(*words: str) -> str:
        server = subprocess.Popen([*COMMAND, "serve", FILE, *words], stderr=subprocess.PIPE, text=True)
        assert server.stderr is not None
        for line in server.stderr:
            found = re.search(r"(http|tcp)://\S+|unix:\S+", line)
            if found is not None:
                # What it logs is read, so that a full pipe never stops it.
                reader = threading.Thread(target=server.stderr.read, daemon=True)
                reader.start()
                started.append((server, reader))
                return found[0]
        raise AssertionError(f"the server ended with code {server.wait()}")

    yield serve
    for server, reader in started:
        server.terminate()
        assert server.wait(30) == 0
        reader.join()
        assert server.stderr is not None
        server.stderr.close()


@pytest.fixture(scope="session")
def places(
    serving: Callable[..., str], command_line: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """Every kind of target -> the words that name examples/everything.py by it."""
    folder = tmp_path_factory.mktemp("places")
    url = serving("--port", "0")
    path = serving("--unix", str(folder / "s")).removeprefix("unix:")
    run = [*COMMAND[1:], "run", FILE]
    entries = {"local": {"command": sys.executable, "args": run, "env": ENVIRONMENT}, "remote": {"url": url}}
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": entries}))
    (folder / "one.json").write_text(json.dumps({"servers": {"only": entries["remote"]}}))
    return {
        "file": [FILE],
        "object": [f"{FILE}:server"],
        "module": ["-m", "everything"],
        "url": [url],
        "unix": [f"unix:{path}"],
        "socket": [path],
        "tcp": [serving("--tcp", "127.0.0.1:0")],
        "command": ["--command", command_line(sys.executable, *run)],
        "process entry": [f"{folder}/mcp.json#local"],
        "url entry": ["--config", f"{folder}/mcp.json", "remote"],
        "only entry": [f"{folder}/one.json"],
    }


@pytest.fixture(
    params=[
        "file",
        "object",
        "module",
        "url",
        "unix",
        "socket",
        "tcp",
        "command",
        "process entry",
        "url entry",
        "only entry",
    ]
)
def place(
    request: pytest.FixtureRequest, places: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The words of one kind of target; what loading a file changes is put back."""
    monkeypatch.chdir(ROOT / "examples")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield places[request.param]
    for name in [name for name in sys.modules if name.endswith("everything")]:
        del sys.modules[name]
