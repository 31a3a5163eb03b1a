"""The client that the suite's client scenarios start: ``python client.py URL``, the scenario in the environment.

The suite gives MCP_CONFORMANCE_SCENARIO, MCP_CONFORMANCE_PROTOCOL_VERSION, and as JSON in MCP_CONFORMANCE_CONTEXT what
a scenario wants called. What is judged is what the suite's server was sent, and that this program ends with code 0.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from erlmcp import Client, ErlmcpError
from erlmcp.client.oauth import ClientCredentials, EnterpriseManaged, JwtBearer, OAuth

MODERN = "2026-07-28"
TIMEOUT_S = 20.0
MRTR_TOOLS = ("test_mrtr_echo_state", "test_mrtr_unrelated", "test_mrtr_no_state", "test_mrtr_no_result_type")

Context = dict[str, Any]
Play = Callable[[Client, Context], Awaitable[None]]


def accept(params: dict[str, Any]) -> dict[str, Any]:
    """A user who says yes, and leaves every field as the form has it."""
    return {}


async def call_test_tool(client: Client, context: Context) -> None:
    """What the scenarios of authorization have: a list, a tool, and whatever that asks for."""
    await client.list_tools()
    await client.call_tool("test-tool")


async def list_tools(client: Client, context: Context) -> None:
    await client.list_tools()


async def add_numbers(client: Client, context: Context) -> None:
    await client.list_tools()
    await client.call_tool("add_numbers", {"a": 5, "b": 3})


async def take_defaults(client: Client, context: Context) -> None:
    await client.call_tool("test_client_elicitation_defaults")


async def reconnect(client: Client, context: Context) -> None:
    await client.call_tool("test_reconnection")


async def keep_state(client: Client, context: Context) -> None:
    for name in MRTR_TOOLS:
        await client.call_tool(name)


async def send_standard_headers(client: Client, context: Context) -> None:
    for tool in await client.list_tools():
        await client.call_tool(tool.name, raise_on_error=False)
    for resource in await client.list_resources():
        await client.read_resource(resource.uri)
    for prompt in await client.list_prompts():
        await client.get_prompt(prompt.name)


async def send_custom_headers(client: Client, context: Context) -> None:
    await client.list_tools()
    for call in context["toolCalls"]:
        await client.call_tool(call["name"], call.get("arguments"))


async def call_every_tool(client: Client, context: Context) -> None:
    """What the list leaves out is not called."""
    for tool in await client.list_tools():
        names = tool.input_schema.get("properties", {})
        await client.call_tool(tool.name, dict.fromkeys(names, "x"), raise_on_error=False)


async def echo_schema(client: Client, context: Context) -> None:
    tools = await client.request("tools/list")
    for tool in tools["tools"]:
        if tool["name"] != "json_schema_echo":
            await client.call_tool("json_schema_echo", {"schema": tool["inputSchema"]})


PLAYS: dict[str, Play] = {
    "initialize": list_tools,
    "tools_call": add_numbers,
    "elicitation-sep1034-client-defaults": take_defaults,
    "sse-retry": reconnect,
    "request-metadata": list_tools,
    "sep-2322-client-request-state": keep_state,
    "http-standard-headers": send_standard_headers,
    "http-custom-headers": send_custom_headers,
    "http-invalid-tool-headers": call_every_tool,
    "json-schema-ref-no-deref": list_tools,
    "json-schema-2020-12-preservation": echo_schema,
}


REDIRECT_URI = "http://localhost:3000/callback"
CLIENT_METADATA = "https://conformance-test.local/client-metadata.json"


def agree(url: str) -> str:
    """A user who is logged in and says yes: the authorization server sends them back at once."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        return connection.getresponse().headers["Location"]
    finally:
        connection.close()


def auth_of(scenario: str, context: Context) -> Any:
    """How the client gets its token; None where the scenario is of something else."""
    if not scenario.startswith("auth/"):
        return None
    known = {name: context.get(name, "") for name in ("client_id", "client_secret")}
    if scenario.startswith("auth/client-credentials"):
        key, algorithm = context.get("private_key_pem", ""), context.get("signing_algorithm", "ES256")
        return ClientCredentials(**known, private_key=key, algorithm=algorithm)
    if scenario == "auth/enterprise-managed-authorization":
        idp = {"idp_token_url": context["idp_token_endpoint"], "idp_client_id": context["idp_client_id"]}
        return EnterpriseManaged(context["idp_id_token"], **idp, **known)
    if scenario == "auth/wif-jwt-bearer":
        return JwtBearer(lambda issuer, resource: context["valid_jwt"], client_id=known["client_id"])
    return OAuth(
        agree,
        redirect_uri=REDIRECT_URI,
        client_metadata_url=CLIENT_METADATA,
        client_name="erlmcp-conformance",
        issuer=context.get("issuer", ""),
        **known,
    )


async def play(url: str) -> None:
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    version = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION")
    client = Client(
        url,
        mode="auto" if version == MODERN else "legacy",
        timeout_s=TIMEOUT_S,
        elicitation=accept,
        sampling=lambda params: "the answer",
        roots=["file:///project"],
        auth=auth_of(scenario, context),
    )
    async with client:
        await PLAYS.get(scenario, call_test_tool)(client, context)


if __name__ == "__main__":
    try:
        asyncio.run(play(sys.argv[-1]))
    except ErlmcpError as error:
        sys.exit(f"{os.environ['MCP_CONFORMANCE_SCENARIO']}: {error}")
