"""One app, two packages: the same requests over stdio to stock FastMCP and to the façade, and what differs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

APPS = Path(__file__).resolve().parent / "apps"
RECORDED = Path(__file__).resolve().parent / "recorded"
NAMES = sorted(path.stem for path in APPS.glob("*.py"))
PYDANTIC = re.compile(r"errors\.pydantic\.dev/[\d.]+/")
OURS, STOCK = "erlmcp.compat.fastmcp", "fastmcp"
WAIT_S = 110
INFO = "io.modelcontextprotocol/serverInfo"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "corpus", "version": "1"},
}


def load(name: str) -> ModuleType:
    """The app as a module: its REQUESTS, and what it says of eras and capabilities."""
    spec = importlib.util.spec_from_file_location(f"erlmcp_corpus_{name}", APPS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(name: str, package: str, folder: Path) -> Path:
    """The app with its imports from a package."""
    path = folder / f"{name}_{package.replace('.', '_')}.py"
    path.write_text((APPS / f"{name}.py").read_text().replace(OURS, package))
    return path


class Process:
    """An app as a process, spoken to in JSON lines."""

    def __init__(self, path: Path, era: str, capabilities: dict[str, Any]) -> None:
        self.era = era
        self.capabilities = capabilities
        command = [sys.executable, str(path)]
        environment = {**os.environ, "FASTMCP_LOG_ENABLED": "false", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self._timer = threading.Timer(WAIT_S, self._process.kill)
        self._timer.start()

    def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the app ended"
        message: dict[str, Any] = json.loads(line)
        return message

    def asked(self, id: int, method: str, params: dict[str, Any], answer: Any = None) -> list[dict[str, Any]]:
        """Send a request; what came until its answer, which is the last. A question in between gets ``answer``."""
        if self.era == "modern":
            envelope = {**ENVELOPE, "io.modelcontextprotocol/clientCapabilities": self.capabilities}
            params = {**params, "_meta": {**envelope, **params.get("_meta", {})}}
        self.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        came = []
        while True:
            message = self.receive()
            came.append(message)
            if "method" in message and "id" in message:
                self.send({"jsonrpc": "2.0", "id": message["id"], "result": answer})
            elif message.get("id") == id:
                return came

    def shake(self) -> list[dict[str, Any]]:
        """The handshake, in the revisions that have one."""
        if self.era == "modern":
            return []
        client = {"name": "corpus", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": self.capabilities, "clientInfo": client}
        came = self.asked(0, "initialize", params)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return came

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(WAIT_S)
        self._process.stdout.close()
        self._timer.cancel()


def answers(path: Path, app: ModuleType, era: str) -> list[list[dict[str, Any]]]:
    """What an app says to each of its requests, the handshake first."""
    process = Process(path, era, getattr(app, "CAPABILITIES", {}))
    try:
        found = [process.shake()]
        for number, request in enumerate(app.REQUESTS, 1):
            found.append(process.asked(number, *(request(found[-1]) if callable(request) else request)))
        return [[plain(message) for message in came] for came in found]
    finally:
        process.close()


def eras_of(name: str) -> tuple[str, ...]:
    found: tuple[str, ...] = getattr(load(name), "ERAS", ("modern", "legacy"))
    return found


def recorded(name: str, era: str) -> list[list[dict[str, Any]]]:
    """What stock FastMCP 4.1.2 said (``python fastmcp_corpus.py`` records it anew)."""
    found: list[list[dict[str, Any]]] = json.loads((RECORDED / f"{name}.{era}.json").read_text())
    return found


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what may differ: its framing, the ids of questions, who the server is (which the handshake
    says), and the version of pydantic in what it says."""
    made = {key: each for key, each in message.items() if key != "jsonrpc"}
    made = json.loads(PYDANTIC.sub("errors.pydantic.dev/0/", json.dumps(made)))
    if "method" in made:
        made.pop("id", None)
    result = made.get("result")
    if isinstance(result, dict) and INFO in result.get("_meta", {}):
        meta = {key: each for key, each in result["_meta"].items() if key != INFO}
        made["result"] = {**result, "_meta": meta} if meta else {k: v for k, v in result.items() if k != "_meta"}
    return made


def differences(stock: Any, ours: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(where, what stock says, what we say), as deep as both have the same shape."""
    if stock == ours:
        return
    if isinstance(stock, dict) and isinstance(ours, dict):
        for key in sorted({*stock, *ours}):
            yield from differences(stock.get(key, "(absent)"), ours.get(key, "(absent)"), f"{path}/{key}")
    elif isinstance(stock, list) and isinstance(ours, list) and len(stock) == len(ours):
        for index, (one, other) in enumerate(zip(stock, ours, strict=True)):
            name = one.get("name") if isinstance(one, dict) else None
            yield from differences(one, other, f"{path}/{name if isinstance(name, str) else index}")
    else:
        yield path, stock, ours


def record() -> None:
    """Write down what the stock package that is installed says."""
    RECORDED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            for era in eras_of(name):
                found = answers(written(name, STOCK, Path(folder)), load(name), era)
                text = "[\n" + ",\n".join(json.dumps(each, sort_keys=True) for each in found) + "\n]\n"
                (RECORDED / f"{name}.{era}.json").write_text(text)


if __name__ == "__main__":
    record()
