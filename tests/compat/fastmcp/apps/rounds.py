"""Tools that ask by what they return, of 2026-07-28."""

from typing import Any

import mcp_types as types

from erlmcp.compat.fastmcp import Context, FastMCP
from erlmcp.compat.fastmcp.server.middleware import Middleware, MiddlewareContext
from erlmcp.compat.fastmcp.tools import InputRequiredToolResult

mcp = FastMCP("rounds", version="1")
behind = FastMCP("behind")
heard: list[str] = []


def question(message: str) -> types.ElicitRequest:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


async def ask(ctx: Context, n: int) -> str | types.InputRequiredResult:
    """Asks once, and remembers."""
    if ctx.input_responses is None:
        return types.InputRequiredResult(input_requests={"who": question("who?")}, request_state=f"n is {n}")
    answer = ctx.input_responses["who"]
    content = answer["content"] if isinstance(answer, dict) else answer.content
    return f"{content['name']}, {ctx.request_state}"


class Hears(Middleware):
    async def on_call_tool(self, context: MiddlewareContext, call_next: Any) -> Any:
        found = await call_next(context)
        heard.append("asks" if isinstance(found, InputRequiredToolResult) else "answers")
        return found


mcp.tool(ask)
behind.tool(ask)
behind.add_middleware(Hears())
mcp.mount(behind, "behind")


@mcp.tool
def what_was_heard() -> list[str]:
    return heard


def call(name: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments}


def again(name: str, n: int, altered: bool = False) -> Any:
    """The same call with the answer, and with the state that came with the question."""

    def make(came: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        state = came[-1]["result"]["requestState"]
        answer = {"action": "accept", "content": {"name": "Ada"}}
        method, params = call(name, n=n)
        more = {"inputResponses": {"who": answer}, "requestState": state[:-4] + "AAAA" if altered else state}
        return method, {**params, **more}

    return make


ERAS = ("modern",)
CAPABILITIES = {"elicitation": {"form": {}}}
REQUESTS = [
    ("tools/list", {}),
    call("ask", n=1),
    again("ask", 1),
    call("ask", n=1),
    again("ask", 2),
    call("ask", n=1),
    again("ask", 1, altered=True),
    call("behind_ask", n=3),
    again("behind_ask", 3),
    call("what_was_heard"),
]

if __name__ == "__main__":
    mcp.run(show_banner=False)
