"""The client and the parts of ``erlmcp.core`` for programs without a loop: what has to wait blocks its thread here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.sync.client import Client as Client
    from erlmcp.sync.pool import Pool as Pool
    from erlmcp.sync.threads import ThreadPool as ThreadPool

_MODULE_OF = {"Client": "client", "Pool": "pool", "ThreadPool": "threads"}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"erlmcp.sync.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
