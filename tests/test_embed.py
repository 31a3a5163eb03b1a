"""The example extension builds against the installed rooms alone, and works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from erlmcp import core

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples/embed_cython"

PROGRAM = """
import sys, threading
from erlmcp.core import Registry, SessionStore
from router import Router

registry, sessions = Registry(), SessionStore(idle_ns=100)
getter = object()
registry["get"] = getter
registry["put"] = 7
sessions.put("ann", "a record", now_ns=1)
sessions.put("bob", "another", now_ns=50)
router = Router(registry, sessions, capacity=4)
assert router.route(b"ann get one\\nbob put two three\\nann unknown\\neve get\\nbob get") == 5
assert router.results() == [getter, 7, None, getter], router.results()
assert router.stranger_count == 1
assert router.route(b"ann get\\n" * 6) == 6
assert router.dropped_count == 2
assert router.sizes.count == 11 and router.sizes.max == 18 and router.sizes.min == 7

# A line touches its session, as Python would.
sessions.now_ns = 99
router.route(b"ann get\\n")
sessions.now_ns = 160
assert sessions.get("ann") == "a record" and sessions.get("bob") is None
assert router.route(b"bob get\\n") == 1 and router.stranger_count == 2

# What lies in the ring is the router's own, whatever becomes of the registry.
count = sys.getrefcount(getter)
registry.clear()
assert sys.getrefcount(getter) == count - 1
assert router.results() == [getter] * 4
assert sys.getrefcount(getter) == count - 5
router.route(b"ann none\\n")
del router
assert sys.getrefcount(getter) == count - 5

# Without the GIL, while another thread changes the registry.
router = Router(registry, sessions)
registry["get"] = 1
stop = threading.Event()

def change():
    number = 0
    while not stop.is_set():
        registry[f"name {number % 1000}"] = number
        registry.remove(f"name {(number * 7) % 1000}")
        number += 1

thread = threading.Thread(target=change)
thread.start()
data = b"ann get it\\nann nothing\\n" * 2000
assert [router.count_known(data) for _ in range(200)] == [2000] * 200
stop.set()
thread.join()
registry.check()
print("routed")
"""


def environment(*folders: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, folders), *filter(None, sys.path)])}


def run(*arguments: str, folder: Path, env: dict[str, str]) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(core.IMPLEMENTATION != "core", reason="there is nothing to cimport without the compiled rooms")
def test_an_extension_of_ones_own_builds_on_the_rooms_and_runs(tmp_path: Path) -> None:
    pytest.importorskip("Cython")
    for name in ("setup.py", "router.pyx"):
        shutil.copy(EXAMPLE / name, tmp_path)
    env = environment(tmp_path)
    run("setup.py", "-q", "build_ext", "--inplace", folder=tmp_path, env=env)
    assert run("-c", PROGRAM, folder=tmp_path, env=env) == "routed\n"


def test_the_headers_lie_where_get_include_says() -> None:
    folder = Path(core.get_include())
    assert (folder / "text.h").is_file()
    assert (folder / "registry.pxd").is_file()


def test_the_wheel_has_every_declaration_header_and_stub() -> None:
    """What setuptools is told to take along fits each such file, and each folder that has one is a package."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = settings["package-data"]["*"]
    files = [path for path in (ROOT / "erlmcp").rglob("*") if path.suffix in (".pxd", ".pyi", ".h", ".typed")]
    assert len(files) > 50
    assert [path for path in files if not any(path.match(pattern) for pattern in patterns)] == []
    assert [path for path in files if not (path.parent / "__init__.py").exists()] == []
