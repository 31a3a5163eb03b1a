"""What is measured: the compiled rooms, their twins, and the libraries of the same trade, as far as they are there."""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType
from typing import Any

# The distribution that a module comes from, where its name is another one.
DISTRIBUTIONS = {"lru": "lru-dict", "token_bucket": "token_bucket", "sqlalchemy": "SQLAlchemy", "hdrh": "hdrhistogram"}


class MissingError(Exception):
    """What a row wants to measure is not there. The text goes into the row."""


def load(implementation: str, room: str) -> ModuleType:
    """A room, compiled ("core") or in plain Python ("model"). Raises MissingError where it is not built.

    The one place of the package beside ``erlmcp.core`` that opens both doors: a process offers one implementation
    through the stair, and a benchmark has to measure the two alternately within one process.
    """
    try:
        return importlib.import_module(f"erlmcp._{implementation}.{room}")
    except ImportError:
        raise MissingError("not built") from None


def part(implementation: str, room: str, name: str) -> Any:
    """One name of a room. Raises MissingError where the room or the name is not there."""
    found = getattr(load(implementation, room), name, None)
    if found is None:
        raise MissingError("not built")
    return found


def loop(name: str) -> Any:
    """A compiled loop of ``erlmcp.bench.loop``. Raises MissingError where it is not built."""
    try:
        found = getattr(importlib.import_module("erlmcp.bench.loop"), name, None)
    except ImportError:
        found = None
    if found is None:
        raise MissingError("not built")
    return found


def library(name: str) -> ModuleType:
    """A library of another maker. Raises MissingError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingError("not installed") from None


def version(module: str) -> str:
    """The version of the distribution that a module belongs to; "" for the standard library's."""
    top = module.partition(".")[0]
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(top, top))
    except importlib.metadata.PackageNotFoundError:
        return ""
