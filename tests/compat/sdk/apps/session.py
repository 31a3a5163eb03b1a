"""What goes through ``ctx.session``: notifications of every kind, questions by request objects, and what is known."""

from mcp.server.mcpserver import Context, MCPServer, Message, UserMessage, require_client_extension
from mcp.server.mcpserver.prompts.base import AssistantMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitationCapability,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    ListRootsRequest,
    ListRootsResult,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
    SamplingCapability,
    SamplingMessage,
    TextContent,
)

ERAS = ["2025-11-25"]
mcp = MCPServer("session")
FORM = {"type": "object", "properties": {"x": {"type": "integer"}}}


@mcp.tool()
async def notifies(ctx: Context) -> str:
    session = ctx.session
    params = LoggingMessageNotificationParams(level="info", data="by hand")
    await session.send_notification(LoggingMessageNotification(params=params))
    await session.send_progress_notification("token", 1, 3, "one of three")
    await session.send_log_message("warning", {"a": 1}, "shop", related_request_id=ctx.request_id)
    await session.report_progress(1, 2)
    return session.protocol_version


@mcp.tool()
async def lists_changed(ctx: Context) -> str:
    await ctx.session.send_tool_list_changed()
    await ctx.session.send_prompt_list_changed()
    await ctx.session.send_resource_list_changed()
    return "told"


@mcp.tool()
async def pings(ctx: Context) -> bool:
    await ctx.session.send_ping()
    return ctx.session.can_send_request


@mcp.tool()
async def requests(ctx: Context) -> list[str]:
    form = ElicitRequest(params=ElicitRequestFormParams(message="x?", requested_schema=FORM))
    filled = await ctx.session.send_request(form, ElicitResult)
    said = SamplingMessage(role="user", content=TextContent(type="text", text="Hi"))
    sample = CreateMessageRequest(params=CreateMessageRequestParams(messages=[said], max_tokens=5))
    sampled = await ctx.session.send_request(sample, CreateMessageResult)
    roots = await ctx.session.send_request(ListRootsRequest(), ListRootsResult)
    also = await ctx.session.elicit("x again?", FORM)
    visited = await ctx.session.elicit_url("Visit", "https://example.com", "e-1")
    return [str(filled.content), sampled.model, str(roots.roots[0].uri), also.action, visited.action]


@mcp.tool()
async def capable(ctx: Context) -> list[bool]:
    wanted = [
        ClientCapabilities(sampling=SamplingCapability()),
        ClientCapabilities(elicitation=ElicitationCapability()),
        ClientCapabilities(experimental={"x": {}}),
    ]
    return [ctx.session.check_client_capability(each) for each in wanted]


@mcp.tool()
async def extended(ctx: Context) -> str:
    require_client_extension(ctx, "com.example/absent")
    return "never"


@mcp.prompt()
def talk() -> list[Message | str | dict[str, object]]:
    return [
        UserMessage("a"),
        AssistantMessage(TextContent(type="text", text="b")),
        Message(role="assistant", content="c"),
        {"role": "user", "content": "d as text"},
    ]


@mcp.prompt()
def single() -> Message:
    return AssistantMessage("alone")


@mcp.completion()
async def complete(ref, argument, context):
    if argument.value == "crash":
        raise RuntimeError("a secret")
    raise MCPError(code=-32077, message="own")


def _answer(params):
    return {"action": "decline"} if params.get("mode") == "url" else {"action": "accept", "content": {"x": 1}}


ANSWERS = {
    "elicitation/create": _answer,
    "sampling/createMessage": {"role": "assistant", "content": {"type": "text", "text": "Hi"}, "model": "m1"},
    "roots/list": {"roots": [{"uri": "file:///a", "name": "a"}]},
    "ping": {},
}
REF = {"ref": {"type": "ref/prompt", "name": "talk"}}
TALK = [
    *[
        ("tools/call", {"name": name, "arguments": {}})
        for name in ("notifies", "lists_changed", "pings", "requests", "capable", "extended")
    ],
    ("tools/call", {"name": "notifies", "arguments": {}, "_meta": {"progressToken": "own"}}),
    ("prompts/get", {"name": "talk"}),
    ("prompts/get", {"name": "single"}),
    ("completion/complete", {**REF, "argument": {"name": "a", "value": "crash"}}),
    ("completion/complete", {**REF, "argument": {"name": "a", "value": "own"}}),
]
