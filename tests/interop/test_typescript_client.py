"""The official TypeScript clients against erlmcp: sdk 1.32.2 (handshake) and client 2.4.0 (both eras), HTTP and stdio.

They need node and their packages: ``ERLMCP_NODE_MODULES`` names a folder whose ``node_modules`` has them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.interop

SCRIPT = Path(__file__).with_name("client.mjs")
CASES = [("sdk", "legacy"), ("client", "legacy"), ("client", "auto"), ("client", "pin")]


@pytest.fixture(scope="module", params=["http", "stdio"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def seen(
    request: pytest.FixtureRequest,
    transport: str,
    url: str,
    command: list[str],
    find_node: Callable[..., tuple[str, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What the client saw."""
    node, modules = find_node("sdk", "client")
    folder = tmp_path_factory.mktemp("node")
    (folder / "node_modules").symlink_to(modules)
    script = shutil.copy(SCRIPT, folder)
    target = [url] if transport == "http" else command
    done = subprocess.run(
        [node, script, *request.param, transport, *target], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_lists_and_calls_tools(seen: dict[str, Any]) -> None:
    assert {"add", "weather", "book_trip"} <= set(seen["tools"])
    assert seen["add"] == ["42", {"result": 42}]
    assert seen["header"] == "Region: Malmö"
    assert seen["failed"] is True
    assert seen["unknown"] == -32602
    assert seen["progress"] == [0, 50, 100]


def test_it_answers_questions(seen: dict[str, Any]) -> None:
    assert seen["booked"] == "3 days in Lund are booked."
    assert seen["sampled"] == "LLM response: sampled"
    assert seen["rounds"] == "Ada likes red"
    assert seen["roots"] == "Roots: file:///home/ada"


def test_it_reads_resources_and_prompts_and_completes(seen: dict[str, Any]) -> None:
    assert "test://static-text" in seen["resources"]
    assert seen["read"] == "This is the content of the static text resource."
    assert "shop://stock/{item}" in seen["templates"]
    assert "test_simple_prompt" in seen["prompts"]
    assert seen["prompt"] == "Prompt with arguments: arg1='a', arg2='b'"
    assert seen["completion"] == ["paris", "park", "party"]


def test_it_makes_many_calls_at_once_and_cancels_one(seen: dict[str, Any]) -> None:
    assert seen["many"] == [str(2 * n) for n in range(50)]
    assert seen["cancelled"] == "cancelled"
    assert seen["after"] == "2"
