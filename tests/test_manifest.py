"""The requirements manifest and the tests agree: what it names is there, and is run."""

from __future__ import annotations

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parent


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("erlmcp_manifest", TESTS / "manifest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MANIFEST = load()
RULES = MANIFEST.RULES


@cache
def names_in(path: Path) -> frozenset[str]:
    """The tests of a file: functions and classes at its top, and names that are bound to a machine's TestCase."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return frozenset(name for name in found if name.startswith(("test_", "Test")))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_has_a_source_and_tests_that_exist(rule: object) -> None:
    assert rule.source.strip()  # type: ignore[attr-defined]
    assert rule.text.endswith(".")  # type: ignore[attr-defined]
    tests = rule.tests  # type: ignore[attr-defined]
    assert tests
    assert len(set(tests)) == len(tests)
    for test in tests:
        path, _, name = test.partition("::")
        file = TESTS / path
        assert file.name.startswith("test_"), f"{path} is not collected"
        assert file.exists(), f"there is no tests/{path}"
        assert name in names_in(file), f"tests/{path} has no {name}"


def test_every_id_is_given_once() -> None:
    ids = [each.id for each in (*RULES, *MANIFEST.GAPS)]
    assert sorted(ids) == sorted(set(ids))


def test_every_gap_says_what_and_why() -> None:
    for gap in MANIFEST.GAPS:
        assert gap.source.strip(), gap.id
        assert gap.text.endswith("."), gap.id
        assert gap.why.endswith("."), gap.id


def test_every_test_of_the_manifest_is_collected_with_its_file(request: pytest.FixtureRequest) -> None:
    if request.config.option.keyword or getattr(request.config.option, "lf", False):
        pytest.skip("only some tests were chosen")
    if any("::" in argument for argument in request.config.args):
        pytest.skip("single tests were chosen")
    collected: dict[str, set[str]] = {}
    for item in request.session.items:
        path = item.path.relative_to(TESTS).as_posix() if item.path.is_relative_to(TESTS) else ""
        names = {getattr(item, "originalname", item.name), getattr(item.parent, "name", "")}
        collected.setdefault(path, set()).update(names)
    missing = [
        test
        for rule in RULES
        for test in rule.tests
        if (path := test.partition("::")[0]) in collected and test.partition("::")[2] not in collected[path]
    ]
    assert not missing
