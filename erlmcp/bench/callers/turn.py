"""What the callers in Python have in common: turns on demand, each a closed loop of so many calls at a time.

A line of JSON for each turn, ``{"inflight": n, "seconds": s}``, is answered with one: ``count`` right answers, the
``seconds`` that they took, ``cpu_s`` of this process, ``p50_us`` and ``p99_us``, and what else the client tells of
itself. A call that fails or is answered wrong ends the program: its row says so.
"""

# mypy: ignore-errors
from __future__ import annotations

import asyncio
import json
import resource
import sys
from time import perf_counter_ns

TEXT = "the quick brown fox"


def spent_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def check(structured):
    if structured != {"result": TEXT}:
        raise RuntimeError(f"the server answered {structured!r}")


async def turn(call, inflight, seconds):
    """``call`` makes one call and checks its answer."""
    times = []
    began = perf_counter_ns()
    end = began + int(seconds * 1e9)

    async def work():
        before = perf_counter_ns()
        while before < end:
            await call()
            now = perf_counter_ns()
            times.append(now - before)
            before = now

    cpu_s = spent_s()
    await asyncio.gather(*(work() for _ in range(inflight)))
    took_s = (perf_counter_ns() - began) / 1e9
    times.sort()
    return {
        "count": len(times),
        "seconds": took_s,
        "cpu_s": spent_s() - cpu_s,
        "p50_us": times[len(times) // 2] / 1e3,
        "p99_us": times[len(times) * 99 // 100] / 1e3,
    }


async def serve(call, tell=dict):
    """Turns until the input ends. ``tell()`` gives counters, whose growth within a turn goes with its figures."""
    loop = asyncio.get_running_loop()
    await call()
    print(json.dumps({"ready": True}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        before = tell()
        found = await turn(call, **json.loads(line))
        found |= {name: value - before[name] for name, value in tell().items()}
        print(json.dumps(found), flush=True)


def run(main):
    """On uvloop, where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)
