"""Print the requirements that pyproject.toml names, one a line: ``build``, ``runtime``, or an extra."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def named(project: dict[str, dict[str, object]], group: str) -> list[str]:
    """The requirements of one group; a reference to this project's own extra is left out."""
    if group == "build":
        found = project["build-system"]["requires"]
    elif group == "runtime":
        found = project["project"]["dependencies"]
    else:
        found = project["project"]["optional-dependencies"][group]  # type: ignore[index]
    own = str(project["project"]["name"]) + "["
    return [item for item in found if not item.startswith(own)]  # type: ignore[attr-defined]


if __name__ == "__main__":
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for argument in sys.argv[1:]:
        print("\n".join(named(tomllib.loads(text), argument)))
