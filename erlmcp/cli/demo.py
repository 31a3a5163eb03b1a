"""The demonstration of a roll-out: a server of this process, many callers, and new versions of two tools. One is slower
than it should be, the other answers wrongly now and then; a third one is as good as the old one.

The clock of the roll-out is virtual: a call takes as long as its function says, with the tail that such times have.
What is shown is the same on a slow machine and on a fast one, and each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from erlmcp import Client, Server
from erlmcp.bench import screen
from erlmcp.cli.evidence import show
from erlmcp.cli.paint import paint
from erlmcp.policy.rollout import BACK, DONE, Rules

CALLS_MAX: Final = 60_000
CALLERS: Final = 400
SLOWER: Final = 1.2
WRONG_SHARE: Final = 0.002
TIME_NS: Final = 2_000_000


@dataclass(frozen=True)
class Act:
    """One new version: what is said of it, its rules, and the state that its roll-out is to end in."""

    tool: str
    words: str
    rules: Rules
    end: str


ACTS: Final = (
    Act(
        "price",
        f"the new version answers {WRONG_SHARE:.1%} of the calls wrongly",
        Rules(shadow_count=5000, shadow_share=1.0),
        BACK,
    ),
    Act("search", f"the new version is {SLOWER - 1:.0%} slower", Rules(shadow_count=200, shadow_share=0.5), BACK),
    Act("convert", "the new version is as good as the old one", Rules(shadow_count=200, shadow_share=0.5), DONE),
)


class Stage:
    """The server, its virtual clock, and the two versions of each tool."""

    def __init__(self, seed: int = 1) -> None:
        self.now_ns = 0
        self._chance = random.Random(seed)
        self.server = Server("demo")
        for name in ("price", "search", "convert"):
            self.server.add_tool(self._version(), name=name, annotations={"readOnlyHint": True})

    def clock_ns(self) -> int:
        return self.now_ns

    def _version(self, slower: float = 1.0, wrong_share: float = 0.0) -> Callable[..., Any]:
        async def tool(amount: int) -> int:
            self.now_ns += int(TIME_NS * slower * math.exp(self._chance.gauss(0, 0.25)))
            return amount * 3 + (self._chance.random() < wrong_share)

        return tool

    def begin(self, act: Act) -> Any:
        new = {
            "price": self._version(wrong_share=WRONG_SHARE),
            "search": self._version(slower=SLOWER),
            "convert": self._version(),
        }
        return self.server.candidate(
            act.tool, new[act.tool], rules=act.rules, clock_ns=self.clock_ns, description="the new version"
        )

    async def play(self, act: Act) -> tuple[dict[str, Any], int, int]:
        """(the status at the end, how many calls were made, how many callers' answers were wrong)"""
        trial = self.begin(act)
        wrong = calls = 0
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client(self.server)) for _ in range(CALLERS)]
            while calls < CALLS_MAX and trial.outcome is None:
                client = clients[self._chance.randrange(CALLERS)]
                result = await client.call_tool(act.tool, {"amount": calls})
                wrong += result.text != str(3 * calls)
                calls += 1
                await asyncio.sleep(0)  # the turn in which a copy is made
        return trial.status(), calls, wrong


def demonstrate(*, as_json: bool = False) -> int:
    """Play all acts; 0 where each ended as it should."""
    logging.getLogger("erlmcp.rollout").setLevel(logging.ERROR)
    return asyncio.run(_all(as_json=as_json))


async def _all(*, as_json: bool) -> int:
    found, ends = [], []
    with screen.progress(len(ACTS), sys.stderr) as tell:
        for act in ACTS:
            tell(f"{act.tool}: {act.words}")
            status, calls, wrong = await Stage().play(act)
            found.append({"words": act.words, "calls": calls, "wrong_answers_given": wrong, **status})
            ends.append(status["state"] == act.end)
    if as_json:
        print(json.dumps(found, indent=2))
    for each in () if as_json else found:
        print(f"\n{paint(each['words'], 'bold')}")
        show(each)
        print(f"  {each['calls']:,} calls by {CALLERS} callers, {each['wrong_answers_given']} answered wrongly")
    if not as_json:
        good = all(ends)
        verdict = "each ended as it should: the wrong and the slower one rolled back, the equal one with everybody"
        print(f"\n{paint(verdict if good else 'NOT as it should be', 'green' if good else 'red')}")
    return 0 if all(ends) else 1
