"""Resources, templates, prompts and completions."""

import json
from pathlib import Path

from mcp.server.mcpserver import AssistantMessage, Context, Icon, Image, MCPServer, ResourceSecurity, UserMessage
from mcp.server.mcpserver.prompts.base import Message
from mcp.server.mcpserver.resources import BinaryResource, DirectoryResource, FileResource, TextResource
from mcp_types import (
    Annotations,
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
)

HERE = Path(__file__).with_name("note.txt")
mcp = MCPServer("reading")
mcp.add_resource(TextResource(uri="text://one", name="one", text="The text", description="A text"))
mcp.add_resource(BinaryResource(uri="data://bytes", name="bytes", data=b"\x00\x01", mime_type="image/png"))
mcp.add_resource(FileResource(uri="file:///note.txt", path=HERE))
mcp.add_resource(FileResource(uri="file:///note.bin", path=HERE, mime_type="application/octet-stream"))
mcp.add_resource(DirectoryResource(uri="dir://here", path=HERE.parent, pattern="*.txt"))


@mcp.resource("config://app", title="Config", mime_type="application/json")
def config() -> str:
    """The configuration."""
    return json.dumps({"theme": "dark"})


@mcp.resource("config://dict", name="as-dict", description="Given", annotations=Annotations(priority=0.5))
async def as_dict() -> dict[str, list[int]]:
    return {"numbers": [1, 2]}


@mcp.resource("config://bytes", meta={"a": 1}, icons=[Icon(src="https://example.com/i.png")])
def as_bytes() -> bytes:
    return b"\xff\xfe"


@mcp.resource("users://{user_id}/profile")
def profile(user_id: int) -> dict[str, int]:
    """A user's profile."""
    return {"id": user_id}


@mcp.resource("notes://{owner}/{+path}")
async def note(owner: str, path: str, ctx: Context) -> str:
    return f"{owner}: {path} for {ctx.mcp_server.name}"


@mcp.resource("range://{+range}", security=ResourceSecurity(exempt_params={"range"}))
def git_range(range: str) -> str:
    return range


@mcp.resource("search://items{?q,limit}")
def search(q: str = "", limit: int = 10) -> str:
    return f"{q}/{limit}"


@mcp.prompt()
def simple(name: str) -> str:
    """Greet."""
    return f"Hello {name}"


@mcp.prompt(title="Code review", name="review")
async def review_code(code: str, language: str = "python") -> list[Message]:
    """Review the code.

    Twice.
    """
    return [UserMessage(f"Review this {language}:"), UserMessage(code), AssistantMessage("I will.")]


@mcp.prompt()
def dicts() -> list[dict[str, object]]:
    return [{"role": "user", "content": {"type": "text", "text": "as a dict"}}]


@mcp.prompt()
def blocks():
    return [TextContent(type="text", text="a block"), Image(data=b"x", format="png"), "a string"]


@mcp.prompt()
def counted(count: int, ctx: Context) -> str:
    return f"{count + 1} {ctx.request_id != ''}"


@mcp.completion()
async def complete(
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    context: CompletionContext | None,
) -> Completion | None:
    if isinstance(ref, ResourceTemplateReference):
        chosen = (context.arguments or {}).get("owner", "-") if context else "none"
        return Completion(values=[chosen, argument.value], has_more=True)
    if isinstance(ref, PromptReference) and argument.name == "language":
        return Completion(values=[x for x in ("python", "c") if x.startswith(argument.value)], total=1)
    return None


NOTES = {"type": "ref/resource", "uri": "notes://{owner}/{+path}"}


def _complete(ref, name, value, **more):
    return ("completion/complete", {"ref": ref, "argument": {"name": name, "value": value}, **more})


TALK = [
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("prompts/list", {}),
    *[
        ("resources/read", {"uri": uri})
        for uri in [
            "text://one",
            "data://bytes",
            "file:///note.txt",
            "file:///note.bin",
            "dir://here",
            "config://app",
            "config://dict",
            "config://bytes",
            "users://7/profile",
            "users://seven/profile",
            "notes://me/a/b/c.txt",
            "notes://me/../up",
            "range://main..dev",
            "search://items",
            "search://items?q=tea",
            "search://items?limit=3&q=x",
        ]
    ],
    ("prompts/get", {"name": "simple", "arguments": {"name": "Ada"}}),
    ("prompts/get", {"name": "review", "arguments": {"code": "x = 1", "language": "c"}}),
    ("prompts/get", {"name": "dicts"}),
    ("prompts/get", {"name": "blocks"}),
    ("prompts/get", {"name": "counted", "arguments": {"count": "3"}}),
    _complete({"type": "ref/prompt", "name": "review"}, "language", "py"),
    _complete({"type": "ref/prompt", "name": "review"}, "code", "py"),
    _complete(
        {"type": "ref/resource", "uri": "notes://{owner}/{+path}"}, "path", "a", context={"arguments": {"owner": "me"}}
    ),
    _complete({"type": "ref/resource", "uri": "notes://{owner}/{+path}"}, "path", "a"),
]
