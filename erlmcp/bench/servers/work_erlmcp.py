"""The server that is overloaded: HTTP on a port, lines on another and on a Unix socket, and a tool that costs CPU time.

python work_erlmcp.py stateless PORT
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from erlmcp import Server
from erlmcp.server import serve
from erlmcp.server.serve import http, tcp, unix

server = Server("work")
WORK_S = float(os.environ.get("BENCH_WORK_US", "0")) / 1e6


@server.tool
async def echo(text: str) -> str:
    """Give the text back."""
    return text


@server.tool
async def work(text: str) -> str:
    """Give the text back, after so many microseconds of work on the event loop."""
    end = time.perf_counter() + WORK_S
    while time.perf_counter() < end:
        pass
    return text


async def main(port: int) -> None:
    lines, path = int(os.environ["BENCH_LINES_PORT"]), os.environ["BENCH_LINES_PATH"]
    async with http(server, port=port), tcp(server, port=lines), unix(server, path):
        serve.settle()
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[2])))
