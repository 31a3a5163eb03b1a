"""Instructions instead of seconds: callgrind counts them to the digit, whatever else the machine is doing.

This is the deciding series of the history. A count is the difference of two runs of the same program, which do the
timed work ``REPEATS`` and twice ``REPEATS`` times: start-up and set-up fall out. Without valgrind on the machine a
count is NaN, which asv shows as missing.
"""

from __future__ import annotations

import importlib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Any, ClassVar

REPEATS = 4
TIMEOUT_S = 600.0


class Counted:
    """The instructions of timed methods of another class.

    A subclass names the class as ``situation`` and the methods, without ``time_``, as ``counted``; for each there is
    a ``track_instructions_...`` of that name.
    """

    version = "1"
    params: ClassVar[list[str]] = ["core", "model"]
    param_names: ClassVar[list[str]] = ["implementation"]
    timeout = TIMEOUT_S
    unit = "instructions"
    situation: type
    counted: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        for name in cls.counted:
            setattr(cls, f"track_instructions_{name}", _tracker(cls.situation, f"time_{name}"))


def _tracker(situation: type, method: str) -> Any:
    def track(self: Counted, implementation: str) -> float:
        return count(implementation, situation, method)

    track.unit = "instructions"  # type: ignore[attr-defined]
    return track


def count(implementation: str, situation: type, method: str) -> float:
    """Instructions of one run of ``method``; NaN where there is no valgrind."""
    if shutil.which("valgrind") is None:
        return math.nan
    module = situation.__module__.rpartition(".")[2]
    once, twice = (_run(implementation, module, situation.__name__, method, n) for n in (REPEATS, 2 * REPEATS))
    return (twice - once) / REPEATS


def _run(implementation: str, module: str, kind: str, method: str, times: int) -> int:
    """All instructions of a program that does the work so often."""
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            [
                "valgrind",
                "--tool=callgrind",
                f"--callgrind-out-file={folder}/out",
                sys.executable,
                "-c",
                "from asv_benchmarks.instruction import work; work()",
                *(implementation, module, kind, method, str(times)),
            ],
            # The seed fixes the order of sets, and that of the tables: their hash is keyed with the interpreter's.
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join([_root(), *sys.path])},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    found = re.search(r"Collected : (\d+)", ran.stderr)
    if ran.returncode != 0 or found is None:
        raise RuntimeError(f"the counted program ended with {ran.returncode}: {ran.stderr[-1000:]}")
    return int(found[1])


def _root() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def work() -> None:
    """The counted program: set up, then the method as often as the command line says."""
    implementation, module, kind, method, times = sys.argv[1:]
    benchmark = getattr(importlib.import_module(f"asv_benchmarks.{module}"), kind)()
    benchmark.setup(implementation)
    timed = getattr(benchmark, method)
    for _ in range(int(times)):
        timed(implementation)
    if hasattr(benchmark, "teardown"):
        benchmark.teardown(implementation)
