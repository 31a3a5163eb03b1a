"""What a server records of itself, and the forms in which it is given: Prometheus, OpenTelemetry, JSON, logs.

``Recorder`` is what ``Server.metrics`` is; ``instrument(server)`` gives a server the spans and metrics of OpenTelemetry
(extra ``otel``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.metrics.opentelemetry import instrument as instrument
    from erlmcp.metrics.recorder import Recorder as Recorder

_HOME = {"Recorder": "recorder", "instrument": "opentelemetry"}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return list(__all__)
