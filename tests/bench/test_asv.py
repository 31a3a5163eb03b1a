"""The asv benchmarks: their configuration says what asv knows, each timed method runs, on both implementations, and
counts are exact. The history that is kept has a test file of its own."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "asv_benchmarks"
NOT_BENCHMARKS = {"__init__", "history", "instruction", "message"}
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
IMPLEMENTATIONS = ["core", "model"]
PARAMS = {"journey": [IMPLEMENTATIONS, ["baseline", "1", "2", "3", "4", "5"]]}
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


def is_counted(of: type) -> bool:
    return issubclass(of, instruction.Counted)


def timed() -> Iterator[tuple[str, str, str, str]]:
    """What runs in this process; counting is for programs of its own, and so is the journey."""
    for name in MODULES:
        if name in PARAMS:
            continue
        for found in classes(module(name)):
            for method in [] if is_counted(found) else timed_methods(found):
                for implementation in IMPLEMENTATIONS:
                    yield name, found.__name__, method, implementation


instruction = module("instruction")


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
    assert (ROOT / str(read["results_dir"])).is_dir()
    for key in ("env_dir", "html_dir"):
        assert str(read[key]).startswith(".asv/")


def test_every_module_holds_a_benchmark() -> None:
    assert [name for name in MODULES if not classes(module(name))] == []


@pytest.mark.parametrize("name", MODULES)
def test_each_module_times_and_counts(name: str) -> None:
    methods = [method for found in classes(module(name)) for method in timed_methods(found)]
    for kind in ("time_", "track_instructions_"):
        assert [method for method in methods if method.startswith(kind)], f"{name} has no {kind}"


@pytest.mark.parametrize("name", MODULES)
def test_each_class_has_a_version_and_both_implementations(name: str) -> None:
    for found in classes(module(name)):
        assert found.version == "1"  # type: ignore[attr-defined]
        assert found.params == PARAMS.get(name, IMPLEMENTATIONS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", MODULES)
def test_what_is_counted_is_a_timed_method_of_the_same_file(name: str) -> None:
    for found in filter(is_counted, classes(module(name))):
        assert found.situation.__module__ == found.__module__  # type: ignore[attr-defined]
        for method in found.counted:  # type: ignore[attr-defined]
            assert f"track_instructions_{method}" in timed_methods(found)
            assert callable(getattr(found.situation, f"time_{method}"))  # type: ignore[attr-defined]


def run_twice(name: str, kind: str, method: str, *parameters: str) -> None:
    benchmark = getattr(module(name), kind)()
    benchmark.setup(*parameters)
    try:
        getattr(benchmark, method)(*parameters)
        getattr(benchmark, method)(*parameters)
    finally:
        getattr(benchmark, "teardown", lambda *_: None)(*parameters)


@pytest.mark.parametrize(("name", "kind", "method", "implementation"), list(timed()))
def test_a_timed_method_runs(name: str, kind: str, method: str, implementation: str) -> None:
    run_twice(name, kind, method, implementation)


@pytest.mark.parametrize(("implementation", "phase"), list(itertools.product(*PARAMS["journey"])))
def test_the_journey_runs_in_a_process_of_its_own(implementation: str, phase: str) -> None:
    methods = timed_methods(module("journey").Journey)
    code = "import sys, test_asv; [test_asv.run_twice('journey', 'Journey', m, *sys.argv[1:3]) for m in sys.argv[3:]]"
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-c", code, implementation, phase, *methods],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_two_counts_are_equal_whatever_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    situation = module("jsonrpc").Scan
    first = instruction.count(situation, "time_a_call_100_times", "core")
    monkeypatch.setenv("ERLMCP_TEST_WORDS", "long " * 1000)
    assert instruction.count(situation, "time_a_call_100_times", "core") == first
    assert first > 100 * len(module("message").CALL) / 64, "fewer instructions than words to read"


def test_a_count_without_valgrind_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert math.isnan(instruction.count(module("jsonrpc").Scan, "time_a_call_100_times", "core"))


FAKE = """#!/bin/sh
out=${3#--callgrind-out-file=}
shift 3
"$@" || exit $?
echo "totals: 100" > "$out.1"
%s
"""


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str) -> None:
    """A valgrind that runs its program and counts nothing."""
    fake = tmp_path / "valgrind"
    fake.write_text(FAKE % second, encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("name", "kind", "method", "parameters"),
    [
        ("jsonrpc", "Scan", "time_a_call_100_times", ("core",)),
        ("journey", "Journey", "time_100_pings_in_one_read", ("model", "baseline")),
    ],
)
def test_a_count_is_what_lies_between_the_marks_divided_by_the_repeats(
    name: str,
    kind: str,
    method: str,
    parameters: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(tmp_path, monkeypatch, 'printf "version: 1\\ntotals: 2468\\n" > "$out.2"')
    counted = instruction.count(getattr(module(name), kind), method, *parameters)
    assert counted == 2468 / instruction.REPEATS


def test_a_program_that_fails_has_no_count_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, 'echo "totals: 2" > "$out.2"')
    with pytest.raises(RuntimeError, match=r"ended with 1: (?s:.*)time_nothing"):
        instruction.count(module("jsonrpc").Scan, "time_nothing", "core")


def test_a_part_without_a_total_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, 'echo "version: 1" > "$out.2"')
    with pytest.raises(RuntimeError, match="no total: version: 1"):
        instruction.count(module("jsonrpc").Scan, "time_a_call_100_times", "core")
