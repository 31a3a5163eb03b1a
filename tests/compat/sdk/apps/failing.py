"""Whatever can go wrong."""

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp_types import ElicitRequestURLParams

mcp = MCPServer("failing")


@mcp.tool()
def foreseen() -> str:
    raise ToolError("no such town")


@mcp.tool()
def crash() -> str:
    raise RuntimeError("a secret")


@mcp.tool()
async def protocol() -> str:
    raise MCPError(code=-32099, message="of the protocol", data={"a": 1})


@mcp.tool()
async def url_needed() -> str:
    params = ElicitRequestURLParams(message="Sign in", url="https://example.com/in", elicitation_id="e1")
    raise UrlElicitationRequiredError([params])


@mcp.tool()
def wrong_result() -> int:
    return "no number"


@mcp.tool()
async def reads(uri: str, ctx: Context) -> str:
    found = await ctx.read_resource(uri)
    return "".join(str(each.content) for each in found)


@mcp.tool()
def needs(number: int) -> int:
    return number


@mcp.resource("data://fine")
def fine() -> str:
    return "fine"


@mcp.resource("data://broken")
def broken() -> str:
    raise ValueError("a secret")


@mcp.resource("data://refused")
def refused() -> str:
    raise ResourceError("closed today")


@mcp.resource("data://item/{name}")
def item(name: str) -> str:
    if name == "gone":
        raise ResourceNotFoundError(f"no {name}")
    if name == "protocol":
        raise MCPError(code=-32050, message="own")
    raise KeyError(name)


@mcp.prompt()
def broken_prompt() -> str:
    raise ValueError("a secret")


@mcp.prompt()
def wants(first: str, second: int = 2) -> str:
    return f"{first} {second}"


TALK = [
    *[
        ("tools/call", {"name": name, "arguments": {}})
        for name in ("foreseen", "crash", "protocol", "url_needed", "wrong_result", "absent")
    ],
    *[
        ("tools/call", {"name": "reads", "arguments": {"uri": uri}})
        for uri in ("data://fine", "data://broken", "data://refused", "data://absent", "data://item/gone")
    ],
    *[
        ("resources/read", {"uri": uri})
        for uri in [
            "data://broken",
            "data://refused",
            "data://absent",
            "data://item/gone",
            "data://item/protocol",
            "data://item/other",
            "data://item/..%2Fup",
        ]
    ],
    ("prompts/get", {"name": "broken_prompt"}),
    ("prompts/get", {"name": "absent"}),
    ("prompts/get", {"name": "wants", "arguments": {}}),
    ("prompts/get", {"name": "wants", "arguments": {"first": "a", "second": "three"}}),
    ("prompts/get", {"name": "wants", "arguments": {"first": "a", "third": "x"}}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "wants"}, "argument": {"name": "a", "value": ""}}),
    ("absent/method", {}),
]
