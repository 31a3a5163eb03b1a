"""``erlmcp call``: one tool, of a file or of a running server; many times over for a small load test."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from erlmcp.cli.dial import dial, list_all
from erlmcp.cli.fault import TOOL_FAILED, CommandError, nearest
from erlmcp.cli.paint import paint
from erlmcp.cli.target import read_target
from erlmcp.errors import INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CLIENT_CAPABILITY, McpError

if TYPE_CHECKING:
    from erlmcp.client.client import Client

QUESTIONS: Final = ("elicitation/create", "sampling/createMessage", "roots/list")


def read_arguments(words: Sequence[str]) -> dict[str, Any]:
    """``["a=1", "b=x"]`` -> ``{"a": 1, "b": "x"}``: JSON where a value is JSON, a string otherwise."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise CommandError(f"{word}: expected key=value, for instance city=Lund or 'tags=[\"a\"]'")
        if name in found:
            raise CommandError(f"{word}: {name} was given twice")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def run(options: argparse.Namespace) -> int:
    target, words = read_target(options, options.words)
    if not words:
        raise CommandError("which tool? erlmcp call TARGET TOOL key=value ...; erlmcp list TARGET shows the tools")
    tool, arguments = words[0], read_arguments(words[1:])
    if options.repeat is None and options.concurrency is None:

        async def once(client: Client, connect_s: float) -> int:
            return show(await call(client, tool, arguments), as_json=options.json)

        return dial(options, target, once)
    from erlmcp.cli.loadtest import attack

    async def one(client: Client) -> None:
        await client.call_tool(tool, arguments)

    return attack(options, target, f"call of {tool}", one)


async def call(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The result as it came, or a CommandError that says what to do."""
    try:
        return (await client.call_tool(tool, arguments, raise_on_error=False)).raw
    except McpError as error:
        if error.code == MISSING_CLIENT_CAPABILITY:
            raise _cannot_answer(", ".join(_needed(error.data)) or "something") from None
        if error.code == METHOD_NOT_FOUND and (asked := str(error.message).rpartition(": ")[2]) in QUESTIONS:
            raise _cannot_answer(asked) from None
        if error.code == INVALID_PARAMS:
            names = [str(item.get("name")) for item in await list_all(client, "tools/list", "tools")]
            if tool not in names:
                raise CommandError(f"no tool {tool}; {nearest(tool, names)}") from None
        raise


def _needed(data: object) -> list[str]:
    """The capabilities that a -32021 error names."""
    wanted = data.get("requiredCapabilities") if isinstance(data, dict) else None
    return sorted(wanted) if isinstance(wanted, dict) else []


def _cannot_answer(asked: str) -> CommandError:
    return CommandError(
        f"the tool asks for {asked}, which this command cannot answer; call it from a client", TOOL_FAILED
    )


def show(result: dict[str, Any], *, as_json: bool) -> int:
    """Print a result; 1 where it is an error."""
    failed = bool(result.get("isError"))
    stream = sys.stderr if failed and not as_json else sys.stdout
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False), file=stream)
    else:
        blocks = result.get("content") or []
        texts = [show_block(block) for block in blocks]
        if not texts and "structuredContent" in result:
            texts = [json.dumps(result["structuredContent"], indent=2, ensure_ascii=False)]
        for text in texts:
            print(paint(text, "red", stream) if failed else text, file=stream)
    return TOOL_FAILED if failed else 0


def show_block(block: dict[str, Any]) -> str:
    """A content block as text."""
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text", ""))
    if kind in ("image", "audio"):
        return f"[{kind} {block.get('mimeType')}, {len(block.get('data', '')) * 3 // 4} bytes]"
    if kind == "resource_link":
        return f"[resource {block.get('uri')}]"
    if kind == "resource":
        resource = block.get("resource", {})
        return str(resource.get("text") or f"[resource {resource.get('uri')}, {resource.get('mimeType')}]")
    return json.dumps(block, ensure_ascii=False)
