"""The same app through the first line of the SDK and through its façade: the same requests have the same answers.

That line cannot be installed beside the second: ``ERLMCP_MCP1_PYTHON`` names an interpreter that has it. Where the two
differ it is known, and stands here with its reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import importlib.util
import json
import os
import subprocess
import sys
import types
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

APPS = Path(__file__).with_name("apps")
PLACE = Path(__file__).parents[1] / "sdk" / "parley.py"
_spec = importlib.util.spec_from_file_location("sdk_parley", PLACE)
assert _spec is not None
assert _spec.loader is not None
parley = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parley)

IMPORTS = {"mcp.server.fastmcp": "erlmcp.compat.v1", "mcp.types": "erlmcp.compat.v1.types"}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
Message = dict[str, Any]
Known = Callable[[tuple[str, Any], list[Message], list[Message]], bool]


def load(path: Path) -> types.ModuleType:
    """The app on the façade: two names of packages are replaced, and nothing else."""
    source = path.read_text(encoding="utf-8")
    for theirs, ours in IMPORTS.items():
        source = source.replace(theirs, ours)
    module = types.ModuleType(f"v1_{path.stem}")
    sys.modules[module.__name__] = module
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


class ProcessWire:
    """A client's end of a process that serves over standard input and output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def send(self, message: Message) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        await self._process.stdin.drain()

    async def receive(self) -> Message:
        assert self._process.stdout is not None
        async with asyncio.timeout(parley.WAIT_S):
            found: Message = json.loads(await self._process.stdout.readline())
        return found


@contextlib.asynccontextmanager
async def stock_wire(path: Path) -> AsyncIterator[ProcessWire]:
    python = os.environ.get("ERLMCP_MCP1_PYTHON")
    if not python:
        pytest.skip("ERLMCP_MCP1_PYTHON is not set: no interpreter that has mcp 1.x")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = await asyncio.create_subprocess_exec(
        python,
        "-W",
        "ignore",
        str(path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        yield ProcessWire(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def talk_to(opening: Any, module: types.ModuleType) -> list[list[Message]]:
    async with opening as wire:
        talk = parley.Talk(wire, parley.LEGACY, getattr(module, "ANSWERS", {}))
        heard = [[await talk.begin()]]
        for method, params in module.TALK:
            heard.append(await talk.ask(method, params))
    return heard


# -- what differs -----------------------------------------------------------------------------------------------------


def the_handshake(asked: Any, stock: list[Message], ours: list[Message]) -> bool:
    """The version that is told is ours (the first line tells its own); we serve subscriptions, lists that change and
    log levels, and say so; the ``experimental`` that says nothing is not there."""
    if asked[0] != "begin":
        return False
    results = [each[0]["result"] for each in (stock, ours)]
    for result in results:
        result["serverInfo"].pop("version")
        found = result["capabilities"]
        found.pop("experimental", None)
        found.pop("logging", None)
        for each in found.values():
            each.pop("listChanged", None)
            each.pop("subscribe", None)
    return bool(stock == ours)


def refused_arguments(asked: Any, stock: list[Message], ours: list[Message]) -> bool:
    """Arguments that do not fit are told in our words."""
    texts = [each[-1].get("result", {}).get("content", [{}])[0].get("text", "") for each in (stock, ours)]
    errors = [each[-1].get("result", {}).get("isError") for each in (stock, ours)]
    return errors == [True, True] and "validation error" in texts[0] and "Invalid arguments" in texts[1]


def contexts_with_parameters(asked: Any, stock: list[Message], ours: list[Message]) -> bool:
    """``Context[...]`` of a resource or a prompt is its request's here; the first line makes it anew, without one."""
    lost = "Context is not available outside of a request" in str(stock[-1].get("error", {}))
    return asked[0] in ("resources/read", "prompts/get") and lost and "result" in ours[-1]


KNOWN: list[Known] = [the_handshake, refused_arguments, contexts_with_parameters]


def without_ids(heard: list[Message]) -> list[Message]:
    found = copy.deepcopy(heard)
    for message in found:
        message.pop("id", None)
    return found


@pytest.mark.interop
@pytest.mark.parametrize("path", sorted(APPS.glob("*.py")), ids=lambda path: path.stem)
async def test_an_app_gives_the_same_answers(path: Path) -> None:
    module = load(path)
    stock = await talk_to(stock_wire(path), module)
    ours = await talk_to(parley.our_wire(module.mcp), module)
    differing = []
    for asked, one, other in zip([("begin", {}), *module.TALK], stock, ours, strict=True):
        one, other = without_ids(one), without_ids(other)
        if one != other and not any(known(asked, copy.deepcopy(one), copy.deepcopy(other)) for known in KNOWN):
            differing.append(f"{asked}\n  stock {one}\n  ours  {other}")
    assert not differing, "\n".join(["", *differing])


@pytest.mark.parametrize("path", sorted(APPS.glob("*.py")), ids=lambda path: path.stem)
async def test_an_app_answers_without_the_first_line_being_there(path: Path) -> None:
    module = load(path)
    heard = await talk_to(parley.our_wire(module.mcp), module)
    assert len(heard) == len(module.TALK) + 1
    failures = [each for each in heard if each[-1].get("error", {}).get("code") == -32603]
    assert not failures
