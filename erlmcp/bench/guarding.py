"""Work on which the flags of protection show: a tool that fails, one that does not answer, one that is asked too often.

Each is called over and over by a client of the same process, and whatever it answers is an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter, perf_counter_ns
from typing import Any

from erlmcp.bench.calling import new_loop
from erlmcp.bench.timing import Timed, closing

CALLS = 20
PAUSE_S = 0.001
LIMIT_S = 0.05
COST_S = 0.0005


def failing() -> Timed:
    """Calls of a tool that fails after a millisecond, behind a breaker."""
    from erlmcp import BreakerRule, Guards

    async def work() -> str:
        await asyncio.sleep(PAUSE_S)
        raise OSError("the upstream is down")

    return _called(work, Guards(breaker=BreakerRule(failures_in_row=5, open_s=60.0)))


def silent() -> Timed:
    """Calls of a tool that does not answer any more, and usually did within a millisecond; the limit is 50 ms."""
    from erlmcp import Guards, TimeoutRule

    async def work() -> str:
        await asyncio.Event().wait()
        return "never"

    return _called(work, Guards(timeout=TimeoutRule(min_s=0.005, start_s=0.005, max_s=0.05)))


def costly() -> Timed:
    """Calls of a tool that takes half a millisecond of the processor, asked as often as it can be; its rate is 100."""
    from erlmcp import Guards, RateRule

    async def work() -> str:
        end = perf_counter() + COST_S
        while perf_counter() < end:
            pass
        return "done"

    return _called(work, Guards(rate_limit=RateRule(100, burst=1)))


def _called(work: Callable[[], Any], guards: Any) -> Timed:
    import logging

    from erlmcp import Client, Limits, McpError, Server

    logging.getLogger("erlmcp").setLevel(logging.CRITICAL)
    server = Server("bench", limits=Limits(request_timeout_s=LIMIT_S))
    server.tool(name="work", guards=guards)(work)
    loop = new_loop()
    client = Client(server)
    loop.run_until_complete(client.connect())

    async def turn(repeats: int) -> int:
        began = perf_counter_ns()
        for _ in range(repeats * CALLS):
            try:
                await client.call_tool("work", raise_on_error=False)
            except McpError:
                continue  # refused, or given up
        return perf_counter_ns() - began

    def close() -> None:
        loop.run_until_complete(client.aclose())
        loop.close()

    return closing(Timed(CALLS, lambda repeats: loop.run_until_complete(turn(repeats))), close)
