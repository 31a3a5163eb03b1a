"""What the other implementations' clients talk to: examples/everything.py, over HTTP and over stdio; where node is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = str(ROOT / "examples/everything.py")


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The address of a process that serves the example over HTTP."""
    command = [sys.executable, "-m", "erlmcp", "serve", EVERYTHING, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=dict(os.environ)) as server:
        assert server.stderr is not None
        line = server.stderr.readline().decode()
        assert "serving http://" in line, line
        # What it logs is read, so that a full pipe never stops it.
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield next(word for word in line.split() if word.startswith("http://"))
        server.terminate()
        assert server.wait(15) == 0


@pytest.fixture(scope="session")
def command() -> list[str]:
    """The command that serves the example over stdio."""
    return [sys.executable, "-m", "erlmcp", "run", EVERYTHING]


@pytest.fixture(scope="session")
def find_node() -> Callable[..., tuple[str, Path]]:
    """A function that gives node and a node_modules folder with these packages; skips where there is none."""

    def find(*names: str) -> tuple[str, Path]:
        folder = os.environ.get("ERLMCP_NODE_MODULES")
        if not folder:
            pytest.skip("ERLMCP_NODE_MODULES is not set: no node packages to test with")
        modules = Path(folder) / "node_modules"
        for name in names:
            if not (modules / "@modelcontextprotocol" / name).exists():
                pytest.skip(f"@modelcontextprotocol/{name} is not in {modules}")
        own = modules / ".bin" / "node"
        node = str(own) if own.exists() else shutil.which("node")
        if node is None:
            pytest.skip("node is not installed")
        return node, modules

    return find
