"""The one stair between Python and the compiled rooms: offers ``_core``, or its twins in ``_model``.

``ERLMCP_CORE=core|model`` decides; without it the compiled rooms are taken, and the twins (with a warning, as they
are some fifty times slower) where they were not built. ``IMPLEMENTATION`` says which are in use. ``stack("model")`` has
the same names of one implementation, whichever is in use: for a process that holds both side by side.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from erlmcp.errors import ConfigurationError

_ROOM_OF = {
    "Buffer": "buffer",
    "Table": "table",
    "RingQueue": "ring",
    "Lanes": "lanes",
    "WorkStealingDeque": "deque",
    "Chain": "chain",
    "TimingWheel": "wheel",
    "Slab": "slab",
    "Registry": "registry",
    "SessionStore": "sessions",
    "Correlation": "correlation",
    "Batch": "batch",
    "Cache": "cache",
    "Pool": "pool",
    "Meter": "meter",
    "Counter": "meter",
    "Histogram": "meter",
    "Clock": "gate",
    "TokenBucket": "gate",
    "TokenBuckets": "gate",
    "InflightLimit": "gate",
    "BreakerWindow": "gate",
    "LineFramer": "frame",
    "LengthFramer": "frame",
    "SseFramer": "frame",
    "frame_sse": "frame",
    "scan": "jsonrpc",
    "decode": "json",
    "encode": "json",
    "Raw": "json",
    "RequestParser": "http1",
    "ResponseParser": "http1",
    "Response": "http1",
    "BodyPart": "http1",
    "BodyEnd": "http1",
    "HttpError": "http1",
    "request_head": "http1",
    "Inbound": "corridor",
    "HttpInbound": "corridor_http",
    "Outbound": "corridor_out",
    "Routes": "corridor",
    "Template": "corridor_out",
    "Call": "corridor",
    "Meta": "corridor",
    "Head": "corridor_http",
    "HttpRequest": "corridor_http",
    "relay_params": "corridor_relay",
    "relay_answer": "corridor_relay",
    "result_text": "corridor_relay",
    "error_text": "corridor_relay",
}
if TYPE_CHECKING:
    from erlmcp._core.batch import Batch as Batch
    from erlmcp._core.buffer import Buffer as Buffer
    from erlmcp._core.cache import Cache as Cache
    from erlmcp._core.chain import Chain as Chain
    from erlmcp._core.correlation import Correlation as Correlation
    from erlmcp._core.corridor import Call as Call
    from erlmcp._core.corridor import Inbound as Inbound
    from erlmcp._core.corridor import Meta as Meta
    from erlmcp._core.corridor import Routes as Routes
    from erlmcp._core.corridor_http import Head as Head
    from erlmcp._core.corridor_http import HttpInbound as HttpInbound
    from erlmcp._core.corridor_http import HttpRequest as HttpRequest
    from erlmcp._core.corridor_out import Outbound as Outbound
    from erlmcp._core.corridor_out import Template as Template
    from erlmcp._core.corridor_relay import error_text as error_text
    from erlmcp._core.corridor_relay import relay_answer as relay_answer
    from erlmcp._core.corridor_relay import relay_params as relay_params
    from erlmcp._core.corridor_relay import result_text as result_text
    from erlmcp._core.deque import WorkStealingDeque as WorkStealingDeque
    from erlmcp._core.frame import LengthFramer as LengthFramer
    from erlmcp._core.frame import LineFramer as LineFramer
    from erlmcp._core.frame import SseFramer as SseFramer
    from erlmcp._core.frame import frame_sse as frame_sse
    from erlmcp._core.gate import BreakerWindow as BreakerWindow
    from erlmcp._core.gate import Clock as Clock
    from erlmcp._core.gate import InflightLimit as InflightLimit
    from erlmcp._core.gate import TokenBucket as TokenBucket
    from erlmcp._core.gate import TokenBuckets as TokenBuckets
    from erlmcp._core.http1 import BodyEnd as BodyEnd
    from erlmcp._core.http1 import BodyPart as BodyPart
    from erlmcp._core.http1 import HttpError as HttpError
    from erlmcp._core.http1 import RequestParser as RequestParser
    from erlmcp._core.http1 import Response as Response
    from erlmcp._core.http1 import ResponseParser as ResponseParser
    from erlmcp._core.http1 import request_head as request_head
    from erlmcp._core.json import Raw as Raw
    from erlmcp._core.json import decode as decode
    from erlmcp._core.json import encode as encode
    from erlmcp._core.jsonrpc import scan as scan
    from erlmcp._core.lanes import Lanes as Lanes
    from erlmcp._core.meter import Counter as Counter
    from erlmcp._core.meter import Histogram as Histogram
    from erlmcp._core.meter import Meter as Meter
    from erlmcp._core.pool import Pool as Pool
    from erlmcp._core.registry import Registry as Registry
    from erlmcp._core.ring import RingQueue as RingQueue
    from erlmcp._core.sessions import SessionStore as SessionStore
    from erlmcp._core.slab import Slab as Slab
    from erlmcp._core.table import Table as Table
    from erlmcp._core.wheel import TimingWheel as TimingWheel

IMPLEMENTATION: str


def _choose() -> str:
    wanted = os.environ.get("ERLMCP_CORE", "")
    if wanted not in ("", "core", "model"):
        raise ConfigurationError(f"ERLMCP_CORE={wanted!r} is unknown; expected 'core' or 'model'")
    if wanted:
        return wanted
    try:
        importlib.import_module("erlmcp._core.memory")
    except ImportError:
        warnings.warn(
            "erlmcp._core is not built, the pure-Python twins serve instead; build it with: pip install .",
            RuntimeWarning,
            stacklevel=3,
        )
        return "model"
    return "core"


IMPLEMENTATION = _choose()


def get_include() -> str:
    """The folder of the rooms' C headers, for the ``include_dirs`` of an extension that cimports ``erlmcp._core``."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "_core")


def walk(scan: Callable[..., tuple[int, list[Any]]], count: int = 100) -> Iterator[Any]:
    """Everything that a room's ``scan`` gives, page by page, at the memory of one page: what is there throughout comes
    exactly once, whatever changes meanwhile."""
    cursor, found = scan(0, count)
    yield from found
    while cursor:
        cursor, found = scan(cursor, count)
        yield from found


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"erlmcp._{IMPLEMENTATION}.{room}"), name)
    globals()[name] = value
    return value


class Stack:
    """The rooms of one implementation, under the names that this module has."""

    def __init__(self, implementation: str) -> None:
        self.IMPLEMENTATION = implementation

    def __getattr__(self, name: str) -> Any:
        room = _ROOM_OF.get(name)
        if room is None:
            raise AttributeError(f"a stack has no {name!r}")
        value = getattr(importlib.import_module(f"erlmcp._{self.IMPLEMENTATION}.{room}"), name)
        setattr(self, name, value)
        return value


@functools.cache
def stack(implementation: str = IMPLEMENTATION) -> Stack:
    """The stack "core" or "model"; objects of the two do not mix. Raises ConfigurationError for any other, and where
    the compiled rooms were not built."""
    if implementation not in ("core", "model"):
        raise ConfigurationError(f"stack {implementation!r} is unknown; expected 'core' or 'model'")
    try:
        importlib.import_module(f"erlmcp._{implementation}.memory")
    except ImportError:
        raise ConfigurationError("erlmcp._core is not built; build it with: pip install .") from None
    return Stack(implementation)


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOM_OF])
