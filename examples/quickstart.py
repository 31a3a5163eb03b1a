"""The smallest useful MCP server. Start it with: erlmcp serve examples/quickstart.py"""

from erlmcp import Server

server = Server("quickstart")


@server.tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
