"""Servers that hand on what another server offers: over HTTP, from a process, or of this one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from erlmcp.client.client import Client
from erlmcp.client.result import CallResult
from erlmcp.compat.fastmcp.client.target import target_of
from erlmcp.compat.fastmcp.prompts.base import Message, Prompt, PromptArgument, PromptResult
from erlmcp.compat.fastmcp.resources.base import Resource, ResourceContent, ResourceResult
from erlmcp.compat.fastmcp.resources.template import ResourceTemplate
from erlmcp.compat.fastmcp.server.providers import Provider
from erlmcp.compat.fastmcp.server.server import FastMCP
from erlmcp.compat.fastmcp.tools.base import Tool, ToolResult
from erlmcp.server.content import dump_model


class ProxyTool(Tool):
    """A tool of the server behind."""

    def __init__(self, client: Client, **options: Any) -> None:
        super().__init__(**options)
        self._client = client
        self._behind = self.name

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        found: CallResult = await self._client.call_tool(self._behind, arguments, raise_on_error=False)
        return ToolResult.from_wire({key: each for key, each in found.raw.items() if key != "resultType"})


class ProxyResource(Resource):
    """A resource of the server behind."""

    def __init__(self, client: Client, **options: Any) -> None:
        super().__init__(**options)
        self._client = client
        self._behind = self.uri

    async def read(self) -> ResourceResult:
        return await read(self._client, self._behind)


class ProxyTemplate(ResourceTemplate):
    """A template of the server behind."""

    def __init__(self, client: Client, **options: Any) -> None:
        super().__init__(**options)
        self._client = client

    async def _read(self, uri: str, variables: dict[str, Any]) -> ResourceResult:
        return await read(self._client, self.own_uri(uri))


class ProxyPrompt(Prompt):
    """A prompt of the server behind."""

    def __init__(self, client: Client, **options: Any) -> None:
        super().__init__(**options)
        self._client = client
        self._behind = self.name

    async def render(self, arguments: dict[str, Any] | None = None) -> PromptResult:
        found = dump_model(await self._client.get_prompt(self._behind, arguments or {}))
        messages = [Message.from_wire(each) for each in found["messages"]]
        return PromptResult(messages, found.get("description"), found.get("_meta"))


async def read(client: Client, uri: str) -> ResourceResult:
    """The contents of a resource behind."""
    found = dump_model(await client.read_resource(uri))
    return ResourceResult([ResourceContent.from_wire(each) for each in found["contents"]])


def _common(found: dict[str, Any]) -> dict[str, Any]:
    """What all components have, out of a descriptor."""
    meta = dict(found.get("_meta") or {})
    own = meta.pop("fastmcp", {})
    return {
        "name": found["name"],
        "title": found.get("title"),
        "description": found.get("description"),
        "icons": found.get("icons"),
        "annotations": found.get("annotations"),
        "tags": own.get("tags") if isinstance(own, dict) else None,
        "meta": meta or None,
    }


class ProxyProvider(Provider):
    """What the server behind offers, asked with each request; answers are kept for as long as it says."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """The connection: open while the server runs."""
        async with self.client:
            yield

    async def _list_tools(self) -> Sequence[Tool]:
        made = []
        for each in await self.client.list_tools():
            found = dump_model(each)
            schemas = {"parameters": found["inputSchema"], "output_schema": found.get("outputSchema")}
            made.append(ProxyTool(self.client, **_common(found), **schemas))
        return made

    async def _list_resources(self) -> Sequence[Resource]:
        made = []
        for each in await self.client.list_resources():
            found = dump_model(each)
            made.append(ProxyResource(self.client, uri=found["uri"], mime_type=found.get("mimeType"), **_common(found)))
        return made

    async def _list_resource_templates(self) -> Sequence[ResourceTemplate]:
        made = []
        for each in await self.client.list_resource_templates():
            found = dump_model(each)
            place = {"uri_template": found["uriTemplate"], "mime_type": found.get("mimeType")}
            made.append(ProxyTemplate(self.client, **place, **_common(found)))
        return made

    async def _list_prompts(self) -> Sequence[Prompt]:
        made = []
        for each in await self.client.list_prompts():
            found = dump_model(each)
            arguments = [PromptArgument(**argument) for argument in found.get("arguments") or ()]
            given = _common(found)
            del given["annotations"]
            made.append(ProxyPrompt(self.client, arguments=arguments, **given))
        return made


class FastMCPProxy(FastMCP):
    """A server that offers what another one does, and whatever is added to it."""


def create_proxy(target: Any, *, mode: str | None = None, **options: Any) -> FastMCPProxy:
    """A server in front of ``target``: a URL, a path, a FastMCP, a Client, a transport, or an mcpServers configuration,
    whose entries get their names as namespaces where they are several.

    For many servers, with balancing, trials and an audit, there is the gateway (docs/gateway.md).
    """
    server = FastMCPProxy(**options)
    entries = target.get("mcpServers") if isinstance(target, dict) else None
    if isinstance(entries, dict) and len(entries) > 1:
        for name, entry in entries.items():
            server.add_provider(ProxyProvider(_client(entry, mode)), namespace=name)
    else:
        server.add_provider(ProxyProvider(_client(target, mode)))
    return server


def _client(target: Any, mode: str | None) -> Client:
    found, headers = target_of(target)
    return Client(found, mode=mode or "auto", headers=headers)
