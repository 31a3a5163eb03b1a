"""Benchmarks for asv: a file for each room, a class for each situation, the compiled room and its twin side by side.

``version`` stands on every class: without it asv takes the source text for it, and an edit orphans the history.
Whatever loops says in its name how often; data come from a fixed seed. ``Memory`` classes fill a structure in the
measured method; the interpreter and the keys are in their figure too, the same for both implementations.
``Instructions`` classes count what timed methods of the same file execute (``instruction``).
"""

from __future__ import annotations

import importlib
import random
from types import ModuleType
from typing import ClassVar


def tool_names(count: int, seed: int = 7) -> list[str]:
    """``count`` different names of the length that tools have."""
    draw = random.Random(seed)
    return [f"tool_{draw.getrandbits(32):08x}_{i:07d}" for i in range(count)]


class Room:
    """What all benchmarks of rooms share. A subclass names its ``room`` and makes what it needs in ``prepare``."""

    version = "1"
    params: ClassVar[list[str]] = ["core", "model"]
    param_names: ClassVar[list[str]] = ["implementation"]
    room = ""

    def setup(self, implementation: str) -> None:
        self.prepare(load(implementation, self.room))

    def prepare(self, room: ModuleType) -> None:
        """Make what the timed methods work on."""


def load(implementation: str, room: str) -> ModuleType:
    """The room, compiled ("core") or in plain Python ("model")."""
    return importlib.import_module(f"erlmcp._{implementation}.{room}")
