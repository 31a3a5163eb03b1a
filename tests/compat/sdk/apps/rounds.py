"""Questions that an author asks by his result, and what he carries from round to round."""

import json

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult, ListRootsRequest

ERAS = ["2026-07-28"]
mcp = MCPServer("rounds")
FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def ask(message: str, state: object = None) -> InputRequiredResult:
    question = ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=FORM))
    return InputRequiredResult(
        input_requests={"name": question}, request_state=None if state is None else json.dumps(state)
    )


@mcp.tool()
async def hello(ctx: Context) -> str | InputRequiredResult:
    if ctx.input_responses is None:
        return ask("Who?")
    return f"Hello {ctx.input_responses['name'].content['name']}"


@mcp.tool()
def twice(ctx: Context) -> str | InputRequiredResult:
    state = json.loads(ctx.request_state) if ctx.request_state else []
    if ctx.input_responses is not None:
        state = [*state, ctx.input_responses["name"].content["name"]]
    if len(state) < 2:
        return ask(f"Round {len(state)}", state)
    return " and ".join(state)


@mcp.tool()
async def folders(ctx: Context) -> int | InputRequiredResult:
    if ctx.input_responses is None:
        return InputRequiredResult(input_requests={"roots": ListRootsRequest()})
    return len(ctx.input_responses["roots"].roots)


@mcp.resource("asks://{name}")
def asks(name: str, ctx: Context) -> str | InputRequiredResult:
    if ctx.input_responses is None:
        return ask(f"Who reads {name}?", "kept")
    return f"{ctx.input_responses['name'].content['name']} {ctx.request_state}"


@mcp.prompt()
def asking(ctx: Context) -> str | InputRequiredResult:
    if ctx.input_responses is None:
        return ask("For whom?", "kept")
    return f"for {ctx.input_responses['name'].content['name']} {ctx.request_state}"


ANSWERS = {
    "elicitation/create": {"action": "accept", "content": {"name": "Ada"}},
    "roots/list": {"roots": [{"uri": "file:///a", "name": "a"}]},
}
TALK = [
    ("tools/list", {}),
    ("tools/call", {"name": "hello", "arguments": {}}),
    ("tools/call", {"name": "twice", "arguments": {}}),
    ("tools/call", {"name": "folders", "arguments": {}}),
    ("resources/read", {"uri": "asks://book"}),
    ("prompts/get", {"name": "asking"}),
]
