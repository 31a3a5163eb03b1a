"""The page on long work: progress, log messages, an icon, a picture."""

from mcp.server.mcpserver import Context, Icon, Image, MCPServer

icon = Icon(src="data:image/png;base64,AAAA", mime_type="image/png", sizes=["64x64"])
mcp = MCPServer("Progress Example", website_url="https://example.com", icons=[icon])


@mcp.tool(icons=[icon])
async def long_running_task(task_name: str, ctx: Context, steps: int = 3) -> str:
    """Execute a task with progress updates."""
    await ctx.info(f"Starting: {task_name}")
    for step in range(steps):
        progress = (step + 1) / steps
        await ctx.report_progress(progress=progress, total=1.0, message=f"Step {step + 1}/{steps}")
        await ctx.debug(f"Completed step {step + 1}")
    return f"Task '{task_name}' completed"


@mcp.resource("icons://resource", icons=[icon])
def with_icon() -> str:
    return "A resource with an icon"


@mcp.prompt(icons=[icon])
def prompt_with_icon(text: str) -> str:
    return text


@mcp.tool()
def create_thumbnail(size: int = 8) -> Image:
    """Create a thumbnail from an image"""
    return Image(data=b"\x89PNG" * size, format="png")


TALK = [
    ("tools/list", {}),
    ("resources/list", {}),
    ("prompts/list", {}),
    ("tools/call", {"name": "long_running_task", "arguments": {"task_name": "a"}, "_meta": {"progressToken": 7}}),
    ("tools/call", {"name": "long_running_task", "arguments": {"task_name": "b"}}),
    ("tools/call", {"name": "create_thumbnail", "arguments": {}}),
]
