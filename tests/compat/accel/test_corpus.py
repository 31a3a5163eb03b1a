"""The same requests through the SDK's own loop and through ours: the answers are equal as JSON, in every era."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest
import stocktalk
from differing import DIFFERENCES, Difference, excused
from stocktalk import CORPUS, MODERN, OurTalk, StockTalk, converse, load

NAMES = sorted(path.stem for path in CORPUS.glob("*.py"))
ERAS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", MODERN)
pytestmark = pytest.mark.filterwarnings("ignore")  # what the SDKs warn of is theirs


def known(name: str) -> str:
    if name.startswith("fast") and find_spec("fastmcp") is None:
        pytest.skip("fastmcp is not installed; .ci/run compat installs it")
    return name


async def both(name: str, era: str, level: str) -> tuple[list[Any], list[Any]]:
    module = load(name)
    async with StockTalk(era).opened(module.app) as talk:
        stock = await converse(module, talk)
    module = load(name)
    async with OurTalk(era).opened(module.app, level) as talk:
        ours = await converse(module, talk)
    return stock, ours


def excuse_of(name: str, asked: str, era: str) -> Difference | None:
    asked = asked.partition(" ")[2] or asked
    found = [each for each in DIFFERENCES if each.corpus in (name, "*") and asked.startswith(each.asked)]
    return next((each for each in found if era in each.eras), None)


@pytest.mark.parametrize("level", ["auto", "l1"])
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", NAMES)
async def test_an_app_answers_as_through_its_own_transport(
    name: str, era: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ERLMCP_ACCEL", raising=False)
    stock, ours = await both(known(name), era, level)
    assert [asked for asked, _ in stock] == [asked for asked, _ in ours]
    broken = []
    for (asked, theirs), (_, mine) in zip(stock, ours, strict=True):
        difference = excuse_of(name, asked, era)
        if theirs != mine and (difference is None or not excused(difference, theirs, mine)):
            broken.append(f"{asked}\n  stock {json.dumps(theirs)[-700:]}\n  ours  {json.dumps(mine)[-700:]}")
    assert not broken, "\n".join(["", *broken])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_to_be_plain_has_a_plan_and_what_is_not_has_none(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ERLMCP_ACCEL", raising=False)
    module = load(known(name))
    verdict = stocktalk.accelerate(module.app).verdict
    assert {each for each in module.PLAIN if verdict(each).level != "l3"} == set()
    assert {each for each in module.KERNEL if verdict(each).level != "l1" or not verdict(each).why} == set()
