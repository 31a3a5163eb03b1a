"""The server that ``erlmcp bench chaos`` breaks: two healthy tools, and some that fail, stall or are too large."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import resource
import socket
import threading
import time

from erlmcp import Server

UPSTREAM_TIMEOUT_S = 5.0
SLEEP_S = 0.001
server = Server("chaos")
threads_killed = 0


def _bound_memory() -> None:
    more = int(os.environ.get("CHAOS_MEMORY_MB", "0")) << 20
    if more:
        with open("/proc/self/statm") as found:
            now = int(found.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.RLIM_INFINITY))


@server.tool
async def echo(text: str) -> str:
    """Give the text back."""
    return text


@server.tool
def digest(text: str) -> str:
    """The SHA-256 of a text, in a thread."""
    return hashlib.sha256(text.encode()).hexdigest()


@server.tool
async def flaky(fails: bool) -> str:
    """Work for a millisecond; fails where it is told to."""
    await asyncio.sleep(SLEEP_S)
    if fails:
        raise RuntimeError("this handler fails")
    return "done"


@server.tool
def upstream(text: str) -> str:
    """Ask another service, in a thread."""
    with socket.create_connection(("127.0.0.1", int(os.environ["CHAOS_UPSTREAM"])), UPSTREAM_TIMEOUT_S) as made:
        made.sendall(text.encode() + b"\n")
        answer = made.recv(4096)
    if not answer:
        raise ConnectionError("the upstream closed the connection")
    return answer.decode()


@server.tool
async def large(size: int) -> str:
    """A text of this many bytes."""
    return "x" * size


@server.tool
async def kill_worker() -> int:
    """End one of the threads that run tools; how many were ended so far."""
    global threads_killed
    for thread in threading.enumerate():
        if thread.name.startswith("erlmcp-lane") and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
            threads_killed += 1
            break
    return threads_killed


@server.tool
async def thread_count() -> int:
    """How many threads there are that run tools."""
    return sum(thread.name.startswith("erlmcp-lane") for thread in threading.enumerate())


_started = time.monotonic()
_bound_memory()
