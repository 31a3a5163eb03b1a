"""The same apps, with one import changed: the façade answers as stock FastMCP does, but for a list of differences.

What stock says is recorded, so that this runs without it; where it is installed, the recording is compared with it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastmcp_corpus import NAMES, OURS, STOCK, answers, differences, eras_of, load, recorded, written

CASES = [(name, era) for name in NAMES for era in eras_of(name)]
VERSION = "4.1.2"


@dataclass(frozen=True)
class Known:
    """A difference that is meant: in answers to ``method``, at ``path``, where stock says ``stock`` (expressions)."""

    method: str
    path: str
    why: str
    stock: str = ".*"


KNOWN = (
    Known(
        "initialize|server/discover",
        r"/0/result/capabilities/(prompts|resources|tools)/(listChanged|subscribe)",
        "erlmcp serves subscriptions and tells of changes in both eras; stock does not, or only in one",
    ),
    Known(
        "server/discover",
        "/0/result/capabilities/extensions",
        "MCP Apps are an extension that this façade does not offer",
    ),
    Known(
        "server/discover",
        "/0/error/(data|message)",
        "the name of a method that is unknown is in the message; stock has it in data",
    ),
    Known(".*/list", "/0/result/nextCursor", "cursors are opaque"),
    Known(
        "prompts/get",
        "/0/error/message",
        "with mask_error_details stock still tells what a prompt's exception says; here it is masked as a tool's is",
        stock="Error rendering prompt .*: .*",
    ),
    Known(
        "tools/call",
        "/0/result/content/0/text",
        "what a dependency's exception says is told (or masked) as a tool's is; stock tells its name instead",
        stock="Error calling tool .*: Failed to resolve dependency .*",
    ),
    Known("tools/call", "/0/result/requestState", "sealed by another key in another form"),
    Known("tools/call", r"/\d+/params/mode", "the mode of a question is 'form' where it is absent"),
)


def knows(known: Known, method: str, path: str, stock: Any, ours: Any) -> bool:
    given = ((known.method, method), (known.path, path), (known.stock, str(stock)))
    return all(re.fullmatch(wanted, text, re.DOTALL) is not None for wanted, text in given)


@functools.cache
def found(name: str, era: str, folder: Path) -> list[tuple[str, str, Any, Any]]:
    """(method, path, stock's, ours) of all differences of an app."""
    app = load(name)
    ours = answers(written(name, OURS, folder), app, era)
    methods = ["initialize", *("tools/call" if callable(request) else request[0] for request in app.REQUESTS)]
    every = zip(methods, recorded(name, era), ours, strict=True)
    return [(method, *each) for method, one, other in every for each in differences(one, other)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("apps")


@pytest.mark.parametrize(("name", "era"), CASES)
def test_the_facade_answers_as_stock_does(name: str, era: str, folder: Path) -> None:
    unknown = [each for each in found(name, era, folder) if not any(knows(known, *each) for known in KNOWN)]
    assert not unknown, "\n".join(f"{method} {path}\n  {one!r}\n  {other!r}" for method, path, one, other in unknown)


@pytest.mark.timeout(600)  # where it runs alone, it starts all apps
@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.why[:40])
def test_a_difference_that_is_known_is_still_one(known: Known, folder: Path) -> None:
    every = [each for name, era in CASES for each in found(name, era, folder)]
    assert any(knows(known, *each) for each in every)


@pytest.mark.parametrize(("name", "era"), CASES)
def test_what_is_recorded_is_what_stock_says(name: str, era: str, folder: Path) -> None:
    if importlib.util.find_spec(STOCK) is None:
        pytest.skip("fastmcp is not installed (extra bench)")
    if importlib.metadata.version(STOCK) != VERSION:
        pytest.skip(f"what is recorded is of fastmcp {VERSION}")
    said = answers(written(name, STOCK, folder), load(name), era)
    every = differences(recorded(name, era), said)
    assert [each for each in every if not each[0].endswith("/requestState")] == []
