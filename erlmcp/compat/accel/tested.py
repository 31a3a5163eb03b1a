"""Which versions of which packages the adapters were tested with: what they reach into is not promised by anybody."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

TESTED: Final[dict[str, tuple[str, ...]]] = {"mcp": ("2.3.0",), "fastmcp": ("4.1.2",)}


def untested(*packages: str) -> str:
    """Why plans are not made with what is installed; "" where it was tested."""
    for package in packages:
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "of unknown version"
        if found not in TESTED[package]:
            return f"{package} {found} was not tested with (tested: {', '.join(TESTED[package])})"
    return ""
