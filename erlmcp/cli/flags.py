"""``erlmcp flags``: what is switched on, here or in a running server, and switching it there."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from erlmcp.bench import table
from erlmcp.cli.control import ask
from erlmcp.cli.fault import CommandError
from erlmcp.errors import ConfigurationError
from erlmcp.flags import Traced, names, of_phase, parse_changes, trace


def run(options: argparse.Namespace) -> int:
    rows = _rows(options)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows, title_of(options))
    return 0


def _rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.set is not None and not options.control:
        raise CommandError("--set needs --control PATH: flags of a process that begins are set by ERLMCP_FLAGS")
    if options.phase is not None and options.control:
        raise CommandError("--phase is for this environment; a running server has the flags that it has")
    try:
        if options.control:
            given = {} if options.set is None else parse_changes(options.set, "--set")
            found = ask(options.control, "flags/set", given) if given else ask(options.control, "flags/list")
            rows: list[dict[str, Any]] = found["flags"]
            return rows
        if options.phase is not None:
            made = Traced(of_phase(options.phase), dict.fromkeys(names(), f"phase {options.phase}"))
            return made.table()
        return trace().table()
    except ConfigurationError as error:
        raise CommandError(str(error)) from None


def title_of(options: argparse.Namespace) -> str:
    if options.control:
        return f"flags of the server at {options.control}"
    return "flags of this environment" if options.phase is None else f"flags of phase {options.phase}"


def show(rows: list[dict[str, Any]], title: str) -> None:
    """A line for each, and below what those do that are off."""
    heads = ["flag", "phase", "default", "value", "from"]
    cells = [
        [row["name"], str(row["phase"]), _word(row["default"]), _word(row["value"]), row["origin"]] for row in rows
    ]
    notes = [f"{row['name']} is off. {row['text']}" for row in rows if not row["value"]]
    table.write(sys.stdout, title, heads, cells, notes)


def _word(value: bool) -> str:
    return "on" if value else "off"
