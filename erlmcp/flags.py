"""Feature flags: one frozen record, from defaults, the environment and arguments.

A phase is a set of flags; each phase holds those of the phases before it. ``ERLMCP_PHASE=baseline|1..5`` sets a phase,
``ERLMCP_FLAGS=-zero_copy,+async_execution`` changes single flags on top of it. Only flags whose feature is built are
listed here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace

from erlmcp.errors import ConfigurationError

PHASE_OF = {
    "batching": 1,
    "aggregation": 1,
    "caching": 1,
    "prewarm": 1,
    "pooling": 2,
    "pipelining": 2,
    "http2": 2,
    "keepalive": 2,
    "async_execution": 3,
    "native_json": 4,
    "zero_copy": 4,
    "iterators": 4,
}


@dataclass(frozen=True, slots=True)
class Flags:
    """What is switched on.

    Of both ends of a byte stream. ``batching``: the messages of a turn of the loop leave in one write; off: a write for
    each.

    Of a client. ``aggregation``: on 2025-03-26 the requests of a turn are one JSON-RPC array, where the client was made
    with ``json_rpc_batch``; off: they are not, whatever was asked for. ``caching``: answers are kept for as long as the
    server says; off: none is. ``prewarm``: opening an HTTP channel opens its connections; off: each is opened when a
    request waits for it. ``pooling``: an HTTP/1.1 connection is kept for the next request; off: the client closes it
    after its answer. ``keepalive``: the server may keep it, too; off: each request says ``Connection: close``.
    ``http2``: HTTP/2 is offered where it may be; off: never. ``pipelining``: many requests are in flight on a byte
    stream; off: one, and the streams that hear of changes.

    Of a server.
    ``async_execution``: a handler's first step runs inline, a task is made only where it waits; off: a task per
    request. ``native_json``: values are decoded and encoded by the core; off: by ujson.
    ``zero_copy``: lists are kept as ready bytes; off: built for each request. ``iterators``: what is walked (sessions,
    connections, questions that wait) is walked page by page; off: a list of it is made first.
    """

    batching: bool = True
    aggregation: bool = True
    caching: bool = True
    prewarm: bool = True
    pooling: bool = True
    pipelining: bool = True
    http2: bool = True
    keepalive: bool = True
    async_execution: bool = True
    native_json: bool = True
    zero_copy: bool = True
    iterators: bool = True

    @classmethod
    def load(cls, **given: bool | None) -> Flags:
        """The defaults, changed by the environment, changed by the arguments that are not None."""
        found: dict[str, bool] = {}
        known = [field.name for field in fields(cls)]
        phase = os.environ.get("ERLMCP_PHASE")
        if phase is not None:
            level = 0 if phase == "baseline" else int(phase) if phase in ("1", "2", "3", "4", "5") else -1
            if level < 0:
                raise ConfigurationError(f"ERLMCP_PHASE={phase!r} is unknown; expected baseline or 1 to 5")
            found.update({name: PHASE_OF[name] <= level for name in known})
        for word in filter(None, os.environ.get("ERLMCP_FLAGS", "").split(",")):
            if word[0] not in "+-" or word[1:] not in known:
                raise ConfigurationError(
                    f"ERLMCP_FLAGS: {word!r} is unknown; expected + or - and one of {', '.join(known)}"
                )
            found[word[1:]] = word[0] == "+"
        for name, value in given.items():
            if name not in known:
                raise ConfigurationError(f"unknown flag {name!r}; expected one of {', '.join(known)}")
            if value is not None:
                found[name] = value
        return replace(cls(), **found)
