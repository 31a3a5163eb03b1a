"""The guide keeps what it promises: its programs run, and its table of limits is the record."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from ways import ROOT, nothing_left

from erlmcp.client.bound import ClientLimits

PAGE = (ROOT / "docs/client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
PROGRAMS = [block for block in BLOCKS if "asyncio.run(" in block or "erlmcp.sync" in block]
SAID = [
    "42 quickstart 2026-07-28",
    "1.5\n1.5\n{'result': 1.5}\n[TextContent(type='text', text='1.5', annotations=None, meta=None)]\n"
    "The moon is not for sale True\n2475.0",
    "1 2 water\ninfo it boils\nHow much salt?\n1 2 water\ninfo it boils\npasta with 2 spoons of salt",
    "notifications/tools/list_changed ['grow', 'flower']",
    "3\n['add']",
]


def test_every_program_on_the_page_is_known() -> None:
    assert len(PROGRAMS) == len(SAID)


@pytest.mark.usefixtures(nothing_left.__name__)
@pytest.mark.parametrize("index", range(len(SAID)))
def test_a_program_of_the_guide_says_what_it_should(
    index: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(PROGRAMS[index], f"docs/client.md program {index}", "exec"), names)
    assert capsys.readouterr().out.strip() == SAID[index]


def test_the_table_of_limits_is_the_record() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| .+ \|$", PAGE, re.M)
    assert rows == [(field.name, str(field.default)) for field in fields(ClientLimits)]


def test_every_error_on_the_page_is_one() -> None:
    from erlmcp import errors

    table = PAGE[PAGE.index("## When it goes wrong") :]
    assert [name for name in re.findall(r"^\| `(\w+Error)`", table, re.M) if not hasattr(errors, name)] == []


def test_the_page_is_where_it_is_looked_for() -> None:
    assert "docs/client.md" in (Path(ROOT) / "README.md").read_text(encoding="utf-8")
