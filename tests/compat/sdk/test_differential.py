"""The same app through the SDK and through the façade: the same requests have the same answers, in both eras.

Where they differ it is known, and stands here with its reason.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from parley import APPS, LEGACY, MODERN, OURS, STOCK, converse, load

pytest.importorskip("mcp.server.mcpserver", reason="mcp 2 is not installed: there is nothing to compare with")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")

Message = dict[str, Any]
Known = Callable[[str, tuple[str, Any], list[Message], list[Message]], bool]


def capabilities_of_the_older_era(era: str, asked: Any, stock: list[Message], ours: list[Message]) -> bool:
    """We send the notifications of changed lists, serve resources/subscribe and logging/setLevel, and say so."""
    if asked[0] != "begin" or era != LEGACY:
        return False
    more, less = ours[0]["result"].pop("capabilities"), stock[0]["result"].pop("capabilities")
    for found in (more, less):
        found.pop("logging", None)
        for each in found.values():
            each.pop("listChanged", None)
            each.pop("subscribe", None)
    return bool(more == less and stock == ours)


def changed_lists_are_told(era: str, asked: Any, stock: list[Message], ours: list[Message]) -> bool:
    """A tool that comes or goes while the server runs is told to the clients of the older era."""
    told = [each for each in ours if each.get("method") != "notifications/tools/list_changed"]
    return era == LEGACY and len(told) < len(ours) and told == stock


def unknown_methods(era: str, asked: Any, stock: list[Message], ours: list[Message]) -> bool:
    """The text of -32601 names the method; the SDK has it in data."""
    codes = [each[-1].get("error", {}).get("code") for each in (stock, ours)]
    return asked[0] == "absent/method" and codes == [-32601, -32601]


def refused_arguments(era: str, asked: Any, stock: list[Message], ours: list[Message]) -> bool:
    """Arguments that do not fit are told in our words; an error result with the same beginning."""
    results = [each[-1].get("result", {}) for each in (stock, ours)]
    texts = [each["content"][0]["text"] if each.get("isError") else "" for each in results]
    return all(text.startswith(f"Error executing tool {asked[1].get('name')}: ") for text in texts) and (
        "validation error" in texts[0] and "Invalid arguments" in texts[1]
    )


def questions_in_the_newer_era(era: str, asked: Any, stock: list[Message], ours: list[Message]) -> bool:
    """``ctx.elicit`` and its like work in 2026-07-28 as well: the handler runs again with the answer."""
    return era == MODERN and "no back-channel" in str(stock[-1].get("error", {})) and "result" in ours[-1]


def results_that_ask_in_the_older_era(era: str, asked: Any, stock: list[Message], ours: list[Message]) -> bool:
    """An InputRequiredResult is no result there; both say -32603, we say why."""
    codes = [each[-1].get("error", {}).get("code") for each in (stock, ours)]
    return era == LEGACY and codes == [-32603, -32603]


def words_of_json_in_strings(era: str, asked: Any, stock: list[Message], ours: list[Message]) -> bool:
    """A string for ``str | None`` stays the string that came; the SDK reads it as JSON first. ``true`` is no 1 where
    only certain numbers are allowed."""
    return asked[1] in (
        {"name": "optional_str", "arguments": {"value": "null"}},
        {"name": "numbers", "arguments": {"value": True}},
    )


KNOWN: list[Known] = [
    words_of_json_in_strings,
    capabilities_of_the_older_era,
    changed_lists_are_told,
    unknown_methods,
    refused_arguments,
    questions_in_the_newer_era,
    results_that_ask_in_the_older_era,
]


def without_ids(heard: list[Message]) -> list[Message]:
    """The messages of an answer, without the numbers that each side chose."""
    found = copy.deepcopy(heard)
    for message in found:
        message.pop("id", None)
    return found


@pytest.fixture(autouse=True)
def no_trace_of_the_app() -> Iterator[None]:
    yield
    for path in APPS.glob("*.py"):
        sys.modules.pop(f"app_{path.stem}", None)


@pytest.mark.parametrize("era", [LEGACY, MODERN])
@pytest.mark.parametrize("path", sorted(APPS.glob("*.py")), ids=lambda path: path.stem)
async def test_an_app_gives_the_same_answers(path: Path, era: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stock = await converse(STOCK, path, era)
        ours = await converse(OURS, path, era)
        talk = [("begin", {}), *load(path).TALK]
    differing = []
    for asked, one, other in zip(talk, stock, ours, strict=True):
        one, other = without_ids(one), without_ids(other)
        if one != other and not any(known(era, asked, copy.deepcopy(one), copy.deepcopy(other)) for known in KNOWN):
            differing.append(f"{asked}\n  stock {one}\n  ours  {other}")
    assert not differing, "\n".join(["", *differing])


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.__name__)
def test_a_known_difference_does_not_excuse_anything_else(known: Known) -> None:
    stock = [{"jsonrpc": "2.0", "result": {"content": [{"type": "text", "text": "a"}]}}]
    ours = [{"jsonrpc": "2.0", "result": {"content": [{"type": "text", "text": "b"}]}}]
    for era in (LEGACY, MODERN):
        assert not known(era, ("tools/call", {"name": "a"}), copy.deepcopy(stock), copy.deepcopy(ours))
