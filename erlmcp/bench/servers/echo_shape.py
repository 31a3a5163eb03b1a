"""The same app as ``echo_fastmcp.py``, its import changed to the façade's, and served by ``run``.

python echo_shape.py stdio | stateless PORT | stateful PORT
"""

from __future__ import annotations

import logging
import os
import sys

from erlmcp.compat.fastmcp import FastMCP

logging.disable(logging.INFO)
server = FastMCP("bench")


@server.tool
async def echo(text: str) -> str:
    """Give the text back."""
    return text


if os.environ.get("BENCH_BLOB"):

    @server.tool
    async def blob(size: int) -> str:
        """A text of this many bytes."""
        return "x" * size


def _add(name: str) -> None:
    @server.tool(name=name)
    async def numbered(text: str, count: int = 1) -> str:
        """Give the text back, count times."""
        return text * count


for number in range(int(os.environ.get("BENCH_TOOLS", "0"))):
    _add(f"tool_{number:04}")

if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run(show_banner=False)
    else:
        server.run("http", port=int(sys.argv[2]), path="/mcp")
