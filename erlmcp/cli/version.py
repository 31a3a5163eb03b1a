"""``erlmcp version``: what is installed and in use."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import warnings
from importlib import metadata

PACKAGES = ("mcp-types", "pydantic", "numpy", "ujson", "uvloop")


def version_of(package: str) -> str:
    """The installed version, or ``"not installed"``."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def facts() -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        from erlmcp import core
    from erlmcp.spec.version import KNOWN_VERSIONS

    in_use = {"core": "compiled", "model": "plain Python twins (the compiled core is not built or switched off)"}
    return {
        "erlmcp": version_of("erlmcp"),
        "core": in_use[core.IMPLEMENTATION],
        "protocol": ", ".join(KNOWN_VERSIONS),
        "python": f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        **{package: version_of(package) for package in PACKAGES},
    }


def run(options: argparse.Namespace) -> int:
    found = facts()
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    from erlmcp.cli.paint import columns

    print("\n".join(line[2:] for line in columns(list(found.items()))))
    return 0
