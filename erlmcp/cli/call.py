"""``erlmcp call``: one tool, of a file or of a running server."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from erlmcp.cli.fault import CANNOT_REACH, TOOL_FAILED, CommandError, nearest
from erlmcp.cli.paint import paint
from erlmcp.errors import INVALID_PARAMS, MISSING_CLIENT_CAPABILITY, ConnectionClosedError, ErlmcpError, McpError


class Callee(Protocol):
    """What a tool is called through."""

    def call_tool(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]: ...
    def tool_names(self) -> list[str]: ...


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
    words = list(options.words)
    target = None if options.module else words.pop(0)
    if not words:
        raise CommandError("which tool? erlmcp call FILE|URL TOOL key=value ...; erlmcp inspect FILE shows the tools")
    tool, arguments = words[0], read_arguments(words[1:])
    if target is not None and target.startswith(("http://", "https://")):
        from erlmcp.cli.callee import RemoteCallee

        callee: Callee = RemoteCallee(target, options.timeout, options.header, show_notice)
    else:
        from erlmcp.cli.callee import LocalCallee
        from erlmcp.cli.load import load_server

        server = load_server(target, options.module, keep_traceback=options.traceback)
        callee = LocalCallee(server, options.timeout, show_notice)
    return show(call(callee, tool, arguments), as_json=options.json)


def call(callee: Callee, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The result, or a CommandError that says what to do."""
    try:
        return callee.call_tool(tool, arguments)
    except McpError as error:
        if error.code == MISSING_CLIENT_CAPABILITY:
            raise _cannot_answer(", ".join(_needed(error.data)) or "something") from None
        if error.code == INVALID_PARAMS:
            names = callee.tool_names()
            if tool not in names:
                raise CommandError(f"no tool {tool}; {nearest(tool, names)}") from None
        raise CommandError(f"the server refused: {error}", TOOL_FAILED) from None
    except (ConnectionClosedError, TimeoutError) as error:
        raise CommandError(f"{error or 'no answer in time; --timeout SECONDS waits longer'}", CANNOT_REACH) from None
    except ErlmcpError as error:
        raise CommandError(str(error), CANNOT_REACH) from None


def _needed(data: object) -> list[str]:
    """The capabilities that a -32021 error names."""
    wanted = data.get("requiredCapabilities") if isinstance(data, dict) else None
    return sorted(wanted) if isinstance(wanted, dict) else []


def _cannot_answer(asked: str) -> CommandError:
    return CommandError(
        f"the tool asks for {asked}, which this command cannot answer; call it from a client", TOOL_FAILED
    )


def show(result: dict[str, Any], *, as_json: bool) -> int:
    """Print a result; 1 where it is an error or is not there yet."""
    failed = bool(result.get("isError"))
    stream = sys.stderr if failed and not as_json else sys.stdout
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False), file=stream)
    elif result.get("resultType") == "input_required":
        asked = ", ".join(item.get("method", "?") for item in result.get("inputRequests", {}).values()) or "a retry"
        raise CommandError(
            f"the tool asks for {asked}, which this command cannot answer; call it from a client", TOOL_FAILED
        )
    else:
        for block in result.get("content", []):
            text = show_block(block)
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


def show_notice(message: dict[str, Any]) -> None:
    """Progress and log messages go to stderr while the tool runs."""
    params = message.get("params", {})
    if message.get("method") == "notifications/progress":
        total = f"/{params['total']}" if params.get("total") is not None else ""
        line = f"{params.get('progress')}{total} {params.get('message') or ''}"
    elif message.get("method") == "notifications/message":
        data = params.get("data")
        line = f"{params.get('level')}: {data if isinstance(data, str) else json.dumps(data)}"
    else:
        return
    print(paint(line.rstrip(), "dim", sys.stderr), file=sys.stderr)
