"""Nothing of a request, a stream, a session or a connection stays: neither for good nor until the collector comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OBJECTS_MAX = 120  # timers that wait to be forgotten, what a first use makes
THREADS_OBJECTS_MAX = 720  # ... and what threads are still letting go of; one a call would be thousands


def run(rounds: int, core: str) -> list[tuple[str, int, int]]:
    paths = [str(HERE.parents[1]), str(HERE.parent / "transports")]
    done = subprocess.run(
        [sys.executable, str(HERE / "leak_program.py"), str(rounds)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "ERLMCP_CORE": core},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [
        (name, until_collected, for_good)
        for name, until_collected, for_good in map(json.loads, done.stdout.splitlines())
    ]


def check(rounds: int, core: str) -> None:
    found = run(rounds, core)
    assert len(found) > 25
    grown = [each for each in found if max(each[1:]) > (THREADS_OBJECTS_MAX if "thread" in each[0] else OBJECTS_MAX)]
    assert not grown, grown


@pytest.mark.parametrize("core", ["core", "model"])
def test_hundreds_of_requests_of_each_kind_leave_nothing(core: str) -> None:
    check(10, core)  # fewer, and the timers that wait to be forgotten weigh more than a leak would


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize("core", ["core", "model"])
def test_20000_requests_of_each_kind_leave_nothing(core: str) -> None:
    check(200, core)
