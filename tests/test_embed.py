"""The example extension builds against the installed rooms alone, and works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from erlmcp import core

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/embed_cython"

PROGRAM = """
from erlmcp.core import Registry
from router import Router

registry = Registry()
registry["get"] = "a getter"
registry["put"] = 7
router = Router(registry, capacity=4)
assert router.route(b"get one\\nput two three\\nunknown\\nget") == 4
assert router.results() == ["a getter", 7, None, "a getter"], router.results()
assert router.route(b"get\\n" * 6) == 6
assert router.results() == ["a getter"] * 4
assert router.dropped_count == 2
assert router.sizes.count == 10 and router.sizes.max >= 13 and router.sizes.min == 3
print("routed")
"""


@pytest.mark.skipif(core.IMPLEMENTATION != "core", reason="there is nothing to cimport without the compiled rooms")
def test_an_extension_of_ones_own_builds_on_the_rooms_and_runs(tmp_path: Path) -> None:
    pytest.importorskip("Cython")
    for name in ("setup.py", "router.pyx"):
        shutil.copy(EXAMPLE / name, tmp_path)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    for arguments in (["setup.py", "-q", "build_ext", "--inplace"], ["-c", PROGRAM]):
        ran = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=110, check=False
        )
        assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "routed\n"


def test_the_headers_lie_where_get_include_says() -> None:
    folder = Path(core.get_include())
    assert (folder / "text.h").is_file()
    assert (folder / "registry.pxd").is_file()
