"""``erlmcp list``: what a running server offers."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, Final

from erlmcp.cli.dial import dial, list_all
from erlmcp.cli.fault import CommandError, nearest
from erlmcp.cli.inspect import show_offer
from erlmcp.cli.target import read_target
from erlmcp.errors import METHOD_NOT_FOUND, McpError

if TYPE_CHECKING:
    from erlmcp.client.client import Client

# What can be typed -> the method, and the field of its result.
LISTS: Final = {
    "tools": ("tools/list", "tools"),
    "resources": ("resources/list", "resources"),
    "templates": ("resources/templates/list", "resourceTemplates"),
    "prompts": ("prompts/list", "prompts"),
}


def run(options: argparse.Namespace) -> int:
    target, words = read_target(options, options.words)
    if len(words) > 1:
        raise CommandError(f"one list at a time, or none for all of them: {' '.join(words)}")
    if words and words[0] not in LISTS:
        raise CommandError(f"no list {words[0]}; {nearest(words[0], list(LISTS))}")
    wanted = words or list(LISTS)

    async def show(client: Client, connect_s: float) -> int:
        found = {LISTS[kind][1]: await offered(client, kind, is_sure=bool(words)) for kind in wanted}
        if options.json:
            print(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            info = client.server_info
            show_offer(f"{info.get('name', client.name)} {info.get('version', '')}".rstrip(), found)
        return 0

    return dial(options, target, show)


async def offered(client: Client, kind: str, *, is_sure: bool) -> list[dict[str, Any]]:
    """One list; empty where the server has no such list, unless it was asked for by name."""
    capability = "resources" if kind == "templates" else kind
    if not is_sure and capability not in client.server_capabilities:
        return []
    try:
        return await list_all(client, *LISTS[kind])
    except McpError as error:
        if is_sure or error.code != METHOD_NOT_FOUND:
            raise
        return []
