"""docs/embedding.md: its examples run, and its table of limits says what the code says."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from erlmcp import core

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/embedding.md").read_text(encoding="utf-8")
LIMITS = [
    [cell.strip(" `") for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## Limits")[2].splitlines()
    if line.startswith("| `")
]
# What a constructor takes besides bounds.
NO_BOUNDS = {
    "bucket_count", "check", "clock", "clock_ns", "close", "count_min", "journal", "latency_goal_ns", "lone", "mode",
    "name", "now_ns", "open", "open_failure_rate", "open_failures_in_row", "open_slow_rate", "outcomes_min", "path",
    "probe_successes", "rate_per_s", "size_of", "slow_ns", "sync", "trace", "adaptive",
}  # fmt: skip


def examples() -> list[tuple[str, str]]:
    """Each block of Python, under the heading that it stands below."""
    found, heading = [], ""
    for part in re.split(r"^(## .+|```python\n(?:.*\n)*?```)$", PAGE, flags=re.MULTILINE):
        if part.startswith("## "):
            heading = part[3:]
        elif part.startswith("```python"):
            found.append((heading, part.removeprefix("```python\n").removesuffix("```")))
    return found


def arguments(part: str) -> dict[str, str]:
    """The arguments of a part's constructor, with their defaults as text; "" for none."""
    if "." in part:
        module, _, name = part.rpartition(".")
        cls = getattr(importlib.import_module(f"erlmcp.{module}"), name)
        given = list(inspect.signature(cls).parameters.values())
        return {each.name: "" if each.default is each.empty else str(each.default) for each in given}
    source = (ROOT / f"erlmcp/_core/{core._ROOM_OF[part]}.pyx").read_text(encoding="utf-8")
    body = source[re.search(rf"^cdef class {part}\b", source, re.MULTILINE).start() :]  # type: ignore[union-attr]
    match = re.search(r"def __c?init__\(\s*self,?(.*?)\):", body, re.DOTALL)
    assert match is not None
    found = {}
    for text in filter(None, (each.strip() for each in match[1].split(","))):
        name, _, default = text.partition("=")
        if name != "*":
            is_sum = default.startswith("(")  # of numbers
            found[name.split()[-1]] = str(eval(default, {})) if is_sum else default.replace("_", "").strip('"')
    return found


@pytest.mark.parametrize(("heading", "code"), examples(), ids=[heading for heading, _ in examples()])
def test_an_example_runs(heading: str, code: str) -> None:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("part", sorted({row[0] for row in LIMITS}))
def test_the_limits_of_a_part_are_those_of_its_constructor(part: str) -> None:
    listed = {limit: default for name, limit, default, bounds in LIMITS if name == part and bounds}
    found = arguments(part)
    if part == "Meter":  # it hands these on to its histograms
        del found["value_max"], found["sub_bits"]
    assert listed == {name: default for name, default in found.items() if name not in NO_BOUNDS}


def test_every_part_that_the_page_describes_has_its_limits() -> None:
    described = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    parts = {part for heading in described for part in heading.replace(" and ", ", ").split(", ") if part[0].isupper()}
    parts -= {"Threads", "From Cython", "Limits", "Counter"}  # no part, or one without bounds
    assert parts == {row[0] for row in LIMITS if "." not in row[0]}
