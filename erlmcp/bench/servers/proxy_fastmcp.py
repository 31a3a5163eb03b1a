"""FastMCP's proxy in front of one server, on uvicorn with uvloop and httptools and no access log.

python proxy_fastmcp.py stateless|stateful PORT http URL
python proxy_fastmcp.py stateless|stateful PORT stdio WORD ...
"""

# mypy: ignore-errors
from __future__ import annotations

import logging
import os
import sys

import uvicorn
from fastmcp.server import create_proxy

logging.disable(logging.INFO)

if __name__ == "__main__":
    mode, port, way, *words = sys.argv[1:]
    entry = {"url": words[0]} if way == "http" else {"command": words[0], "args": words[1:], "env": dict(os.environ)}
    proxy = create_proxy({"mcpServers": {"bench": entry}})
    stateless = mode == "stateless"
    app = proxy.http_app(path="/mcp", json_response=stateless, stateless_http=stateless)
    fast = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
    uvicorn.run(app, host="127.0.0.1", port=int(port), **fast)
