"""Instructions instead of seconds: callgrind counts them to the digit, whatever else the machine is doing.

This is the deciding series of the history. One run of a program of its own gives one count: it sets the situation up,
does the timed work ``WARM`` times, so that the interpreter has specialised its bytecode, then ``REPEATS`` times between
two marks. A mark is a call of ``getppid``, which nothing else calls: callgrind writes down what it has counted so far
and starts again from nothing there. Start-up and set-up fall out, and so does their noise.

What could still move a count is held still: the hash seed (it orders sets, and the tables too: their hash is keyed with
the interpreter's), the collector, and the environment. Two counts on one machine with one build are equal. Other
compilers, C libraries and interpreters give others, so a history is of one machine. Without valgrind a count is NaN,
which asv shows as missing.
"""

from __future__ import annotations

import gc
import importlib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

WARM = 3
REPEATS = 2
TIMEOUT_S = 600.0
MARK = "getppid"
# asv measures an installed erlmcp with the benchmarks of the checkout, which must not put its own erlmcp first on the
# path: only this package is taken from it, as asv itself does.
PROGRAM = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("asv_benchmarks", sys.argv[1] + "/__init__.py")
sys.modules["asv_benchmarks"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from asv_benchmarks.instruction import work
work(*sys.argv[2:])
"""


class Counted:
    """The instructions of timed methods of another class.

    A subclass names the class as ``situation`` and the methods, without ``time_``, as ``counted``; for each there is
    a ``track_instructions_...`` of that name, with the parameters of the situation.
    """

    version = "1"
    timeout = TIMEOUT_S
    unit = "instructions"
    params: ClassVar[list[Any]]
    param_names: ClassVar[list[str]]
    situation: ClassVar[type]
    counted: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.params = cls.situation.params  # type: ignore[attr-defined]
        cls.param_names = cls.situation.param_names  # type: ignore[attr-defined]
        for name in cls.counted:
            setattr(cls, f"track_instructions_{name}", _tracker(cls.situation, f"time_{name}"))


def _tracker(situation: type, method: str) -> Any:
    def track(self: Counted, *parameters: str) -> float:
        return count(situation, method, *parameters)

    return track


def count(situation: type, method: str, *parameters: str) -> float:
    """Instructions of one run of ``method``; NaN where there is no valgrind."""
    if shutil.which("valgrind") is None:
        return math.nan
    module = situation.__module__.rpartition(".")[2]
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        ran = subprocess.run(
            [
                *("valgrind", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={out}"),
                *(sys.executable, "-P", "-B", "-c", PROGRAM),
                *(here, module, situation.__name__, method, *parameters),
            ],
            env=_environment(),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if ran.returncode != 0:
            raise RuntimeError(f"the counted program ended with {ran.returncode}: {ran.stderr[-1000:]}")
        # The first part ends at the first mark, the second at the second.
        text = Path(f"{out}.2").read_text(encoding="utf-8")
    found = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"callgrind wrote no total: {text[:1000]}")
    return int(found[1]) / REPEATS


def _environment() -> dict[str, str]:
    """What the counted program sees: nothing that differs from one terminal to the next."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "VALGRIND_LIB") if name in os.environ}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONPATH": path, "LC_ALL": "C.UTF-8"}


def work(module: str, kind: str, method: str, *parameters: str) -> None:
    """The counted program: set up, then the method as often as it takes."""
    benchmark = getattr(importlib.import_module(f"asv_benchmarks.{module}"), kind)()
    benchmark.setup(*parameters)
    timed = getattr(benchmark, method)
    for _ in range(WARM):
        timed(*parameters)
    gc.collect()
    gc.disable()  # asv's timer does so too: when it would run depends on what ran before
    mark = getattr(os, MARK)
    mark()
    for _ in range(REPEATS):
        timed(*parameters)
    mark()
    if hasattr(benchmark, "teardown"):
        benchmark.teardown(*parameters)
