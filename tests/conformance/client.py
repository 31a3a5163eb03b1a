"""The client command of the official conformance suite: ``conformance client --command "python client.py" ...``.

The suite starts a server per scenario, names scenario and revision in the environment, and appends the server's URL.
What is asked of the client is in the scenarios' own descriptions; those about authorization are not for this command.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from erlmcp import Client, McpError
from erlmcp.errors import InvalidAnswerError

SCENARIO = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
REVISION = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
CONTEXT: dict[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
ROUNDS = ("test_mrtr_echo_state", "test_mrtr_unrelated", "test_mrtr_no_state", "test_mrtr_no_result_type")


async def call(client: Client, name: str, arguments: dict[str, Any] | None = None) -> None:
    print(name, await client.call_tool(name, arguments, raise_on_error=False))


async def call_all(client: Client) -> None:
    """Every tool that the client offers, with a value for each argument."""
    for tool in await client.list_tools():
        await call(client, tool.name, dict.fromkeys(tool.input_schema.get("properties") or {}, "x"))


async def ask_everything(client: Client) -> None:
    """One of each; a scenario's server need not have them all."""
    tools = await client.list_tools()
    for tool in tools[:1]:
        await call(client, tool.name)
    try:
        for prompt in await client.list_prompts():
            await client.get_prompt(prompt.name)
        for resource in await client.list_resources():
            await client.read_resource(resource.uri)
    except (McpError, InvalidAnswerError) as error:
        print("not there:", error)


async def play(client: Client) -> None:
    if SCENARIO == "tools_call":
        await call(client, "add_numbers", {"a": 5, "b": 3})
    elif SCENARIO == "elicitation-sep1034-client-defaults":
        await call(client, "test_client_elicitation_defaults")
    elif SCENARIO == "sse-retry":
        await call(client, "test_reconnection")
    elif SCENARIO == "sep-2322-client-request-state":
        for name in ROUNDS:
            await call(client, name)
    elif SCENARIO == "http-custom-headers":
        for each in CONTEXT.get("toolCalls", ()):
            await call(client, each["name"], each.get("arguments"))
    elif SCENARIO == "http-invalid-tool-headers":
        await call_all(client)
    elif SCENARIO == "json-schema-2020-12-preservation":
        focal = next(tool for tool in (await client.request("tools/list"))["tools"] if "$schema" in tool["inputSchema"])
        await call(client, "json_schema_echo", {"schema": focal["inputSchema"]})
    elif SCENARIO not in ("initialize", "json-schema-ref-no-deref"):  # For these a list of tools is enough.
        await ask_everything(client)


async def main() -> None:
    mode = "auto" if REVISION >= "2026-07-28" else "legacy"
    handlers: dict[str, Any] = {
        "elicitation": lambda params: {},  # accepted as it is: with its defaults
        "sampling": lambda params: "A sampled answer.",
        "roots": ["file:///home/ada"],
    }
    async with Client(sys.argv[-1], mode=mode, timeout_s=20.0, **handlers) as client:
        await client.list_tools()
        await play(client)


if __name__ == "__main__":
    asyncio.run(main())
