"""The asv benchmarks: their configuration says what asv knows, and each timed method runs, on both implementations."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "asv_benchmarks"
NOT_BENCHMARKS = {"__init__", "message"}
# What asv 0.6 reads: the attributes of its Config, and three that it takes from the file by name.
# fmt: off
KNOWN_KEYS = {
    "api_version", "benchmark_dir", "branches", "build_cache_size", "build_command", "conda_channels",
    "conda_environment_file", "default_benchmark_timeout", "dvcs", "env_dir", "environment_type", "exclude",
    "hash_length", "html_dir", "include", "install_command", "install_timeout", "launch_method", "matrix",
    "plugins", "project", "project_url", "pythons", "regressions_first_commits", "regressions_thresholds",
    "repo", "repo_subdir", "results_dir", "show_commit_url", "uninstall_command", "version",
}
# fmt: on
OWN_PROCESS = {"journey"}  # the implementation is chosen once a process
MODULES = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem not in NOT_BENCHMARKS)


def configuration() -> dict[str, object]:
    text = re.sub(r"^\s*//.*$", "", (ROOT / "asv.conf.json").read_text(encoding="utf-8"), flags=re.MULTILINE)
    read: dict[str, object] = json.loads(text)
    return read


def module(name: str) -> ModuleType:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module(f"asv_benchmarks.{name}")


def classes(of: ModuleType) -> list[type]:
    """What asv would take for benchmarks."""
    return [
        found
        for _, found in inspect.getmembers(of, inspect.isclass)
        if found.__module__ == of.__name__ and timed_methods(found)
    ]


def timed_methods(of: type) -> list[str]:
    return [name for name in dir(of) if re.match(r"(time|peakmem|track)_", name)]


def timed() -> Iterator[tuple[str, str, str, str]]:
    for name in MODULES:
        for found in classes(module(name)):
            for method in timed_methods(found):
                for implementation in found.params:  # type: ignore[attr-defined]
                    yield name, found.__name__, method, implementation


def test_the_configuration_holds_only_keys_that_asv_reads() -> None:
    assert set(configuration()) - KNOWN_KEYS == set()


def test_the_known_keys_are_those_of_the_installed_asv() -> None:
    config = pytest.importorskip("asv.config")
    own = {"version", "build_cache_size"}
    assert KNOWN_KEYS - own - {"api_version"} == set(config.Config().__dict__)


def test_the_configuration_names_this_repository_and_its_benchmarks() -> None:
    read = configuration()
    assert read["repo"] == "."
    assert (ROOT / str(read["benchmark_dir"])).is_dir()
    for key in ("env_dir", "results_dir", "html_dir"):
        assert str(read[key]).startswith(".asv/")


def test_every_module_holds_a_benchmark() -> None:
    assert [name for name in MODULES if not classes(module(name))] == []


@pytest.mark.parametrize("name", MODULES)
def test_each_class_has_a_version_and_both_implementations(name: str) -> None:
    for found in classes(module(name)):
        assert found.version == "1"  # type: ignore[attr-defined]
        assert found.params == ["core", "model"]  # type: ignore[attr-defined]


def run_twice(name: str, kind: str, method: str, implementation: str) -> None:
    benchmark = getattr(module(name), kind)()
    benchmark.setup(implementation)
    try:
        getattr(benchmark, method)(implementation)
        getattr(benchmark, method)(implementation)
    finally:
        getattr(benchmark, "teardown", lambda _: None)(implementation)


@pytest.mark.parametrize(("name", "kind", "method", "implementation"), list(timed()))
def test_a_timed_method_runs(name: str, kind: str, method: str, implementation: str) -> None:
    if name not in OWN_PROCESS:
        run_twice(name, kind, method, implementation)
        return
    code = f"from test_asv import run_twice; run_twice({name!r}, {kind!r}, {method!r}, {implementation!r})"
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
