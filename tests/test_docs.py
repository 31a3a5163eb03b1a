"""The pages keep what they promise: tables match the code, links lead somewhere, commands are the real ones."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from erlmcp.cli.parser import build_parser
from erlmcp.flags import PHASE_OF
from erlmcp.limits import Limits
from erlmcp.policy.rollout import Rules
from erlmcp.server.control import CONNECTION_COUNT_MAX, DEPTH_MAX, MESSAGE_BYTES_MAX
from erlmcp.server.shadow import INFLIGHT_MAX

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


def test_the_page_of_flags_says_of_each_when_a_change_counts() -> None:
    found = [row for row in rows((ROOT / "docs/flags.md").read_text(encoding="utf-8")) if row[0].strip("`") in PHASE_OF]
    names = [row[0].strip("`") for row in found]
    assert names == [name for name in PHASE_OF if name in names]
    assert len(found) >= 11
    assert all(row[1] == str(PHASE_OF[name]) and any(row[2:]) for name, row in zip(names, found, strict=True))


def test_the_page_of_flags_has_the_rules_as_they_are() -> None:
    text, rules = " ".join((ROOT / "docs/flags.md").read_text(encoding="utf-8").split()), Rules()
    said = [
        f"*alpha* is {rules.alpha:.0%}".replace("%", " %"),
        f"With {rules.first_look} calls of the new side",
        f"`error_margin`, {rules.error_margin:.0%}".replace("%", " %"),
        f"`slower_max`, {rules.slower_max:.0%}".replace("%", " %"),
        f"`margin`, {rules.margin:.0%}".replace("%", " %"),
        f"(`shadow_share`, {rules.shadow_share:.0%})".replace("%", " %"),
        f"{rules.shadow_count} equal answers end the shadow",
        f"at most {INFLIGHT_MAX} copies are under way",
        f"at most {MESSAGE_BYTES_MAX // 1024} KiB and a nesting of {DEPTH_MAX}; {CONNECTION_COUNT_MAX} operators",
    ]
    assert [part for part in said if part not in text] == []


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
