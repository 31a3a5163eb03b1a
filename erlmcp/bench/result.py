"""Result files: what was measured, where, when, of which commit, with which settings."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

from erlmcp import flags
from erlmcp.bench import room

ROOT = Path(__file__).resolve().parents[2]


def machine() -> dict[str, str]:
    """Where and when this runs."""
    model = platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), model)
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": f"{os.getloadavg()[0]:.2f}",
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def commit(root: Path = ROOT) -> str:
    """The commit of the checkout that this code lies in, with ``+`` where files differ from it; "" outside of one."""
    if not (root / ".git").exists():
        return ""
    words = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*words, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*words, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def versions(modules: Iterable[str] = ()) -> dict[str, str]:
    """Versions of erlmcp, and of the libraries that these modules belong to."""
    try:
        own = distribution_version("erlmcp")
    except PackageNotFoundError:
        own = "source"
    found = {module.partition(".")[0]: room.version(module) for module in sorted(set(filter(None, modules)))}
    return {"erlmcp": own, **{name: value for name, value in found.items() if value}}


def document(kind: str, settings: dict[str, Any], rows: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """All that a result file holds. ``kind`` is the command that made it."""
    head = {"kind": kind, "machine": machine(), "commit": commit(), "flags": switched(), "settings": settings}
    return {**head, **more, "rows": list(rows)}


def write(path: str, found: dict[str, Any]) -> None:
    """Raises OSError."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


def title(command: str) -> str:
    """The line above every report."""
    here = machine()
    what = f"{here['cpu']}, {here['system']}, Python {here['python']}, load average {here['load_average']}"
    at = commit()
    return (
        f"erlmcp bench {command}: {what}, {here['date']}"
        + (f", commit {at[:12]}{at[40:]}" if at else "")
        + f", flags: {switched_text()}"
    )


def switched() -> dict[str, dict[str, Any]]:
    """Each flag of this process: its value, and where it comes from. What a row runs elsewhere may have others, and
    says so."""
    return {row["name"]: {"value": row["value"], "origin": row["origin"]} for row in flags.trace().table()}


def switched_text() -> str:
    """The flags in a word, or the names of those that are off."""
    off = [name for name, found in switched().items() if not found["value"]]
    return f"all on but {', '.join(off)}" if off else "all on"
