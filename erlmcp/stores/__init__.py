"""State in files: what outlives a process."""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = ("journal", "snapshot")  # record.py is the journal's own


def __getattr__(name: str) -> ModuleType:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"erlmcp.stores.{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
