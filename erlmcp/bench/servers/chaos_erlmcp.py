"""The server that ``erlmcp bench chaos`` breaks: two healthy tools, and some that fail, stall or are too large.

python chaos_erlmcp.py stateless PORT

``CHAOS_UPSTREAM`` is the port of the service that ``upstream`` asks, ``CHAOS_MEMORY_MB`` the memory that the process
may take beyond what it has at its start, and ``CHAOS_GUARDS=0`` leaves the tools without their guards. On SIGUSR1 it
tells what its threads are at.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import hashlib
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from erlmcp import BreakerRule, Guards, RateRule, Server
from erlmcp.policy.timeouts import TimeoutRule
from erlmcp.server import serve
from erlmcp.server.serve import http

Function = TypeVar("Function", bound=Callable[..., Any])
UPSTREAM_TIMEOUT_S = 5.0
SLEEP_S = 0.001
HAS_GUARDS = os.environ.get("CHAOS_GUARDS") != "0"
server = Server("chaos")
threads_killed = 0


def guarded(**options: Any) -> Callable[[Function], Function]:
    """A tool with these options, or without any where the run is to show what they are good for."""
    made: Callable[[Function], Function] = server.tool(**options if HAS_GUARDS else {})
    return made


def bound_memory(more_mb: int) -> None:
    """Limit the data of this process (heap, stacks of threads, private mappings) to what it has and so much more."""
    with open("/proc/self/status") as found:
        now_kb = next(int(line.split()[1]) for line in found if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, ((now_kb << 10) + (more_mb << 20), resource.RLIM_INFINITY))


@server.tool
async def echo(text: str) -> str:
    """Give the text back."""
    return text


@server.tool
def digest(text: str) -> str:
    """The SHA-256 of a text, in a thread."""
    return hashlib.sha256(text.encode()).hexdigest()


@guarded(guards=Guards(breaker=True, bulkhead=64), timeout="adaptive")
async def flaky(fails: bool) -> str:
    """Work for a millisecond; fails where it is told to."""
    await asyncio.sleep(SLEEP_S)
    if fails:
        raise RuntimeError("this handler fails")
    return "done"


@guarded(guards=Guards(BreakerRule(failures_in_row=3), bulkhead=4, timeout=TimeoutRule(start_s=1.0)))
def upstream(text: str) -> str:
    """Ask another service, in a thread."""
    with socket.create_connection(("127.0.0.1", int(os.environ["CHAOS_UPSTREAM"])), UPSTREAM_TIMEOUT_S) as made:
        made.sendall(text.encode() + b"\n")
        answer = made.recv(4096)
    if not answer:
        raise ConnectionError("the upstream closed the connection")
    return answer.decode().rstrip("\n")


@guarded(guards=Guards(bulkhead=8, rate_limit=RateRule(400, burst=50)), priority="bulk")
async def large(size: int) -> str:
    """A text of this many bytes."""
    return "x" * size


@server.tool(priority="critical")
async def kill_worker() -> int:
    """End one of the threads that run tools; how many were ended so far."""
    global threads_killed
    for thread in threading.enumerate():
        if thread.name.startswith("erlmcp-lane") and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
            threads_killed += 1
            break
    return threads_killed


async def main(port: int) -> None:
    faulthandler.register(signal.SIGUSR1)
    async with http(server, port=port):
        serve.settle()
        if "CHAOS_MEMORY_MB" in os.environ:
            bound_memory(int(os.environ["CHAOS_MEMORY_MB"]))
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    logging.getLogger("erlmcp").setLevel(logging.CRITICAL)  # Its failures are meant, and counted.
    uvloop.run(main(int(sys.argv[2])))
