"""The raw clients of these tests (rawpeer.py) are importable from the folders that load this file's path."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

Drive = Callable[[Coroutine[Any, Any, None]], None]


def on_asyncio(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def on_uvloop(main: Coroutine[Any, Any, None]) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


@pytest.fixture(params=[on_asyncio, on_uvloop], ids=["asyncio", "uvloop"])
def drive(request: pytest.FixtureRequest) -> Drive:
    """``drive(coroutine)`` runs it to its end, once on each event loop that a server may run on."""
    found: Drive = request.param
    return found
