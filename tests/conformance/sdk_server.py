"""Serves sdk_everything.py over HTTP: by the SDK, or by the façade, with the name of the package replaced.

python tests/conformance/sdk_server.py PACKAGE PORT
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

SOURCE = Path(__file__).with_name("sdk_everything.py")
STOCK = "mcp.server.mcpserver"


def main() -> None:
    home, port = sys.argv[1], int(sys.argv[2])
    module = types.ModuleType("sdk_everything")
    sys.modules[module.__name__] = module
    text = SOURCE.read_text(encoding="utf-8").replace(STOCK, home)
    exec(compile(text, str(SOURCE), "exec"), module.__dict__)
    module.mcp.run("streamable-http", host="localhost", port=port)


if __name__ == "__main__":
    main()
