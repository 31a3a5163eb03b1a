"""The pages keep what they promise: tables match the code, links lead somewhere, commands are the real ones."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from erlmcp.cli.parser import build_parser
from erlmcp.limits import Limits

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def rows(text: str) -> list[list[str]]:
    """The cells of each table row that begins with a name in backticks."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]


def test_the_page_of_limits_lists_each_limit_with_its_default_in_order() -> None:
    found = rows((ROOT / "docs/limits.md").read_text(encoding="utf-8"))
    wanted = [[f"`{field.name}`", str(field.default), f"`ERLMCP_{field.name.upper()}`"] for field in fields(Limits)]
    assert [row[:3] for row in found] == wanted
    assert all(len(row) == 4 and row[3] for row in found)


def test_the_page_of_dependencies_names_each_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    wanted += [item for group in extras.values() for item in group]
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    names = {re.split(r"[\[<>=~! ;]", item)[0] for item in wanted} - {"erlmcp"}
    assert sorted(name for name in names if f"`{name}`" not in page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


def test_the_readme_has_the_two_commands_that_are_tested() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/erlmcp serve examples/quickstart.py" in text
    assert "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest" in text


def test_the_readme_shows_the_quickstart_as_it_is() -> None:
    code = (ROOT / "examples/quickstart.py").read_text(encoding="utf-8")
    assert code.partition('"""\n\n')[2].strip() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_commands_on_the_pages_are_understood() -> None:
    parser = build_parser()
    for page in PAGES:
        for line in re.findall(r"^    (?:ERLMCP_\w+=\S+ |\$ )?erlmcp (.+)$", page.read_text(encoding="utf-8"), re.M):
            parser.parse_args(shlex.split(line, comments=True))
