"""The thread pool on the compiled parts, and on their plain twins."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

import erlmcp.runtime
from erlmcp import core
from erlmcp.runtime import future as _future  # noqa: F401  the modules that are put back have to be there

PARTS = ("line", "threads", "future")


@cache
def load(implementation: str) -> Any:
    """The modules of the pool, anew, standing on one implementation for good."""
    lanes, deque = (importlib.import_module(f"erlmcp._{implementation}.{room}") for room in ("lanes", "deque"))
    stair = SimpleNamespace(IMPLEMENTATION=implementation, Lanes=lanes.Lanes, WorkStealingDeque=deque.WorkStealingDeque)
    before, kept = core.IMPLEMENTATION, {name: sys.modules.pop(f"erlmcp.runtime.{name}") for name in PARTS}
    core.IMPLEMENTATION = implementation
    try:
        line, threads, future = (importlib.import_module(f"erlmcp.runtime.{name}") for name in PARTS)
    finally:
        core.IMPLEMENTATION = before
        for name, module in kept.items():
            sys.modules[f"erlmcp.runtime.{name}"] = module
            setattr(erlmcp.runtime, name, module)
    line.core = threads.core = stair  # type: ignore[attr-defined]
    return SimpleNamespace(
        ThreadPool=threads.ThreadPool,
        Worker=threads.Worker,
        Future=future.Future,
        Job=threads.Job,
        line=line,
        implementation=implementation,
    )


@pytest.fixture(params=["core", "model"])
def kit(request: pytest.FixtureRequest) -> Any:
    """The pool's classes; the deque and the lanes, the jobs and the way in are compiled, or plain."""
    return load(request.param)
