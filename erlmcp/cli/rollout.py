"""``erlmcp rollout``: the roll-outs of a running server, and a demonstration of two that go wrong."""

from __future__ import annotations

import argparse
import json
from typing import Any

from erlmcp.cli.control import ask
from erlmcp.cli.evidence import show
from erlmcp.cli.fault import CommandError


def run(options: argparse.Namespace) -> int:
    if options.action == "demo":
        from erlmcp.cli.demo import demonstrate

        return demonstrate(as_json=options.json)
    if not options.control:
        raise CommandError(f"rollout {options.action} needs --control PATH, of a server started with --control PATH")
    params = {} if options.name is None else {"name": options.name}
    found: list[dict[str, Any]] = ask(options.control, f"rollout/{options.action}", params)["rollouts"]
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    if not found:
        print("no roll-out is under way")
    for each in found:
        show(each)
    return 0
