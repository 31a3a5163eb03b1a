"""``erlmcp doctor``: how far each tool of an app of another SDK is taken, and why no further."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from erlmcp.cli.load import load_server
from erlmcp.cli.paint import columns, paint
from erlmcp.errors import ConfigurationError

if TYPE_CHECKING:
    from erlmcp.compat.accel.app import Accelerated

MEANINGS: Final = {"l3": "straight", "l1": "kernel", "own": "a plan of erlmcp's own"}


def add_parser(commands: Any, add_command: Any, add_target: Any) -> None:
    """The command's own words."""
    parser = add_command(
        commands,
        "doctor",
        "show how far each tool of a FastMCP, MCPServer or low-level Server is accelerated",
        "Show the level of each tool, and why it is no higher (docs/accelerate.md).\n\n"
        "  l3   called straight: nothing of its SDK is on the way\n"
        "  l1   through its own kernel, on our transports\n\n"
        "ERLMCP_ACCEL=off|l1|l3 says how far to go at most.",
    )
    add_target(parser)
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(options: argparse.Namespace) -> int:
    server: Any = load_server(options.target, options.module, keep_traceback=options.traceback)
    found = asyncio.run(examine(server))
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    print(paint(f"{found['name']} ({found['kind']}; {', '.join(found['packages']) or 'erlmcp'})", "bold"))
    for each in found["remarks"]:
        print(each)
    tools = found["tools"]
    print("\n".join(columns([(f"{each['level']}  {each['name']}", each["why"] or each["note"]) for each in tools])))
    counts = {level: sum(each["level"] == level for each in tools) for level in MEANINGS}
    print(", ".join(f"{count} {MEANINGS[level]}" for level, count in counts.items() if count) or "no tools")
    return 0


async def examine(server: Any) -> dict[str, Any]:
    """What there is to say of a server, as JSON values."""
    from erlmcp.compat.accel.app import Accelerated

    names = await _tools_of(server)
    if not isinstance(server, Accelerated):
        tools = [{"name": name, "level": "own", "why": "", "note": "a plan of erlmcp's own"} for name in names]
        return {"name": server.name, "kind": type(server).__name__, "packages": [], "remarks": [], "tools": tools}
    verdicts = [server.verdict(name) for name in names]
    return {
        "name": server.name,
        "kind": server.adapter.kind,
        "packages": [f"{name} {_version_of(name)}" for name in server.adapter.packages],
        "remarks": _remarks(server),
        "tools": [{"name": v.name, "level": v.level, "why": v.why, "note": v.note} for v in verdicts],
    }


def _remarks(server: Accelerated) -> list[str]:
    found = []
    if server.why_no_plans:
        found.append(f"no tool is called straight: {server.why_no_plans}")
    try:
        stock = server.adapter.stock("/mcp")
    except ConfigurationError as error:
        return [*found, f"HTTP is not accelerated: {error}"]
    if stock is not None and stock.backend is not None:
        found.append(f"over HTTP its own {type(stock.backend.token_verifier).__name__} is asked for each request")
    if count := len(server.adapter.routes()):
        what = "1 route of its own is" if count == 1 else f"{count} routes of its own are"
        found.append(f"over HTTP {what} served beside the endpoint")
    return found


async def _tools_of(server: Any) -> list[str]:
    """The names that a client is shown."""
    from erlmcp.cli.dial import list_all
    from erlmcp.client.client import Client
    from erlmcp.client.memory import MemoryChannel

    async with Client(MemoryChannel(server, objects=False), cache=False) as client:
        return [str(each.get("name")) for each in await list_all(client, "tools/list", "tools")]


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        print(f"erlmcp: {package} has no metadata", file=sys.stderr)
        return "?"
