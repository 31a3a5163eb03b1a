"""Content blocks, pictures and sounds, whole results, annotations, icons and meta."""

import base64
from typing import Annotated, Any

from mcp.server.mcpserver import Audio, Icon, Image, MCPServer
from mcp_types import (
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from pydantic import BaseModel

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
ICON = Icon(src="https://example.com/a.png", mime_type="image/png", sizes=["48x48"])

mcp = MCPServer(
    "content",
    title="Content",
    description="What tools return besides data",
    website_url="https://example.com",
    icons=[ICON],
    version="2",
)


class Answer(BaseModel):
    value: int


@mcp.tool()
def picture() -> Image:
    return Image(data=PNG, format="png")


@mcp.tool()
def sound() -> Audio:
    return Audio(data=b"RIFF", format="wav")


@mcp.tool()
def mixed() -> list[Any]:
    return ["text", Image(data=PNG), TextContent(type="text", text="block"), {"a": 1}, [1, 2]]


@mcp.tool()
def unannotated():
    return [Image(data=PNG, format="jpeg"), "after"]


@mcp.tool()
def block() -> TextContent:
    return TextContent(type="text", text="one")


@mcp.tool()
def blocks() -> list[TextContent | ImageContent]:
    return [TextContent(type="text", text="one"), ImageContent(type="image", data="QQ==", mime_type="image/png")]


@mcp.tool()
def embedded() -> EmbeddedResource:
    contents = TextResourceContents(uri="file:///a.txt", mime_type="text/plain", text="inside")
    return EmbeddedResource(type="resource", resource=contents)


@mcp.tool()
def link() -> list[ResourceLink]:
    return [ResourceLink(type="resource_link", uri="file:///a.txt", name="a", description="the file")]


@mcp.tool()
def whole() -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text="text")], structured_content={"any": "thing"}, _meta={"hidden": 1}
    )


@mcp.tool()
def checked(fine: bool) -> Annotated[CallToolResult, Answer]:
    value = {"value": 1} if fine else {"value": "no"}
    return CallToolResult(content=[TextContent(type="text", text="checked")], structured_content=value)


@mcp.tool()
def failed() -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="it failed")], is_error=True)


@mcp.tool(
    name="dressed-up",
    title="Dressed",
    annotations=ToolAnnotations(read_only_hint=True, title="Other title"),
    icons=[ICON],
    meta={"example.com/x": {"y": 1}},
)
def dressed() -> str:
    return "well"


@mcp.tool()
def raw_bytes() -> bytes:
    return b"bytes"


@mcp.tool()
def takes_bytes(data: bytes, more: list[bytes] = []) -> int:  # noqa: B006
    return len(data) * 100 + len(more)


TALK = [
    ("tools/call", {"name": "takes_bytes", "arguments": {"data": "QUJD", "more": ["x"]}}),
    ("tools/list", {}),
    *[
        ("tools/call", {"name": name, "arguments": {}})
        for name in [
            "picture",
            "sound",
            "mixed",
            "unannotated",
            "block",
            "blocks",
            "embedded",
            "link",
            "whole",
            "failed",
            "dressed-up",
            "raw_bytes",
        ]
    ],
    ("tools/call", {"name": "checked", "arguments": {"fine": True}}),
    ("tools/call", {"name": "checked", "arguments": {"fine": False}}),
]
