"""The parts of ``erlmcp.core`` for asyncio: what has to wait waits here, without holding up the loop."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.aio.cache import Cache as Cache
    from erlmcp.aio.pool import Pool as Pool
    from erlmcp.aio.queue import Queue as Queue
    from erlmcp.aio.threads import ThreadPool as ThreadPool

_MODULE_OF = {"Queue": "queue", "Pool": "pool", "Cache": "cache", "ThreadPool": "threads"}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"erlmcp.aio.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
