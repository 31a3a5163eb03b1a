"""The first server of the SDK's pages: a tool, a greeting by its URI, and a prompt."""

from mcp.server.mcpserver import MCPServer

mcp = MCPServer("Demo")


@mcp.tool()
def add(a: int, b: int) -> int:
    """Add two numbers"""
    return a + b


@mcp.resource("greeting://{name}")
def get_greeting(name: str) -> str:
    """Get a personalized greeting"""
    return f"Hello, {name}!"


@mcp.prompt()
def greet_user(name: str, style: str = "friendly") -> str:
    """Generate a greeting prompt"""
    styles = {"friendly": "Write a warm greeting", "formal": "Write a formal greeting"}
    return f"{styles.get(style, styles['friendly'])} for someone named {name}."


if __name__ == "__main__":
    mcp.run(transport="streamable-http")

TALK = [
    ("tools/list", {}),
    ("resources/templates/list", {}),
    ("prompts/list", {}),
    ("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}}),
    ("resources/read", {"uri": "greeting://World"}),
    ("resources/read", {"uri": "greeting://Zo%C3%AB"}),
    ("prompts/get", {"name": "greet_user", "arguments": {"name": "Ada", "style": "formal"}}),
]
