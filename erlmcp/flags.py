"""Feature flags: one frozen record, from defaults, a file, the environment and arguments.

A phase is a set of flags; each phase holds those of the phases before it. ``ERLMCP_PHASE=baseline|1..5`` sets a phase,
``ERLMCP_FLAGS=-zero_copy,+async_execution`` changes single flags on top of it; below both stands the file that
``ERLMCP_CONFIG`` names. Only flags whose feature is built are listed here: a field, its phase, and a sentence in the
record's docstring, which ``erlmcp flags`` shows.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from erlmcp.errors import ConfigurationError

PHASES: Final = ("baseline", "1", "2", "3", "4", "5")

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
    "priority_queues": 3,
    "work_stealing": 3,
    "native_json": 4,
    "priority_messages": 4,
    "zero_copy": 4,
    "iterators": 4,
    "circuit_breaker": 5,
    "adaptive_timeouts": 5,
    "rate_limit": 5,
    "backpressure": 5,
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
    request. ``work_stealing``: functions that run in threads do so in our own pool; off: in a ThreadPoolExecutor.
    ``priority_queues``: in that pool they go by their priority, and callers take turns; off: in the order in which
    they came. ``native_json``: values are decoded and encoded by the core; off: by ujson.
    ``priority_messages``: pings, cancellations, ``server/discover``, ``initialize`` and the tools that say so pass the
    calls that wait, and no limit of work in progress holds them up; off: they wait like every other message.
    ``zero_copy``: what does not change is kept as ready bytes and large results are sent in pieces; off: answers are
    built for each request, and joined. ``iterators``: sessions, connections and questions that wait are walked page by
    page; off: a list of them is made first. ``backpressure``: a server that cannot keep up refuses calls, and gives
    clients up that do not read; off: they wait, as long as it takes.

    Of what was guarded (``erlmcp.Guards``), on both ends. ``circuit_breaker``: an open breaker lets no call through;
    off: all are let through. ``adaptive_timeouts``: a timeout goes by what calls take, and is handed on to nested
    calls; off: the limit's. ``rate_limit``: calls above the rate are refused; off: none is.
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
    priority_queues: bool = True
    work_stealing: bool = True
    native_json: bool = True
    priority_messages: bool = True
    zero_copy: bool = True
    iterators: bool = True
    circuit_breaker: bool = True
    adaptive_timeouts: bool = True
    rate_limit: bool = True
    backpressure: bool = True

    @classmethod
    def load(cls, **given: bool | None) -> Flags:
        """The defaults, changed by the file, the environment, and the arguments that are not None; in this order."""
        return trace(**given).flags

    def changed(self, **given: bool | None) -> Flags:
        """The same with these set; None leaves a flag as it is. Raises ConfigurationError for an unknown name, and for
        what is no bool."""
        return replace(self, **checked(given))


@dataclass(frozen=True, slots=True)
class Traced:
    """Flags, and where each has its value from: "default", "file", "environment", "argument" or "run time"."""

    flags: Flags
    origins: Mapping[str, str] = field(default_factory=dict)

    def changed(self, given: Mapping[str, bool | None], origin: str) -> Traced:
        """These set on top; raises ConfigurationError."""
        found = checked(given)
        return Traced(replace(self.flags, **found), {**self.origins, **dict.fromkeys(found, origin)})

    def table(self) -> list[dict[str, Any]]:
        """A row for each flag: name, phase, default, value, origin, text."""
        default = Flags()
        return [
            {
                "name": name,
                "phase": PHASE_OF[name],
                "default": getattr(default, name),
                "value": getattr(self.flags, name),
                "origin": self.origins.get(name, "default"),
                "text": text_of(name),
            }
            for name in names()
        ]


def names() -> list[str]:
    """All flags, in the order of the record."""
    return [each.name for each in fields(Flags)]


def checked(given: Mapping[str, bool | None]) -> dict[str, bool]:
    """What of ``given`` is not None; raises ConfigurationError for what no flag is or may be."""
    found: dict[str, bool] = {}
    for name, value in given.items():
        if name not in PHASE_OF:
            raise ConfigurationError(f"unknown flag {name!r}; expected one of {', '.join(names())}")
        if value is not None and not isinstance(value, bool):
            raise ConfigurationError(f"flag {name} is on or off (true or false), got {value!r}")
        if value is not None:
            found[name] = value
    return found


def of_phase(phase: str, where: str = "phase") -> Flags:
    """The flags of a phase and of those before it. Raises ConfigurationError, which says ``where`` it stood."""
    if phase not in PHASES:
        raise ConfigurationError(f"{where}={phase!r} is unknown; expected baseline or 1 to 5")
    level = PHASES.index(phase)
    return Flags(**{name: PHASE_OF[name] <= level for name in names()})


def parse_changes(text: str, where: str = "ERLMCP_FLAGS") -> dict[str, bool]:
    """``"-batching,+caching"`` -> what each is set to. Raises ConfigurationError, which says ``where`` it stood."""
    found = {}
    for word in filter(None, text.split(",")):
        if word[0] not in "+-" or word[1:] not in PHASE_OF:
            raise ConfigurationError(f"{where}: {word!r} is unknown; expected + or - and one of {', '.join(names())}")
        found[word[1:]] = word[0] == "+"
    return found


def trace(**given: bool | None) -> Traced:
    """As ``Flags.load``, with the origin of each value."""
    made = Traced(Flags())
    path = os.environ.get("ERLMCP_CONFIG")
    if path:
        made = made.changed(_from_file(path), "file")
    phase = os.environ.get("ERLMCP_PHASE")
    if phase is not None:
        made = made.changed(_as_dict(of_phase(phase, "ERLMCP_PHASE")), "environment")
    made = made.changed(parse_changes(os.environ.get("ERLMCP_FLAGS", "")), "environment")
    return made.changed(given, "argument")


def given_as(flags: Flags | None) -> Traced:
    """What an object works with that was given ``flags``, or None: then what the surroundings say."""
    return trace() if flags is None else Traced(flags, dict.fromkeys(names(), "argument"))


def text_of(name: str) -> str:
    """The sentence of the docstring about a flag; "" where docstrings are stripped."""
    for paragraph in (Flags.__doc__ or "").split("\n\n"):
        found = re.search(rf"``{name}``: ((?:[^`]|``(?!\w+``: ))*)", " ".join(paragraph.split()))
        if found:
            return found[1].strip()
    return ""


def _as_dict(flags: Flags) -> dict[str, bool]:
    return {name: getattr(flags, name) for name in names()}


def _from_file(path: str) -> dict[str, bool]:
    """What ``[tool.erlmcp.flags]`` of a pyproject.toml says, or ``[flags]`` of any other TOML file: ``phase`` first,
    then single flags."""
    try:
        stamp = os.stat(path)
        return _read_file(path, stamp.st_mtime_ns, stamp.st_size)
    except OSError as error:
        raise ConfigurationError(f"ERLMCP_CONFIG={path}: {error.strerror or error}") from None


@functools.lru_cache(maxsize=8)
def _read_file(path: str, _mtime_ns: int, _size_bytes: int) -> dict[str, bool]:
    import tomllib

    with open(path, "rb") as file:
        try:
            table: Any = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path}: {error}") from None
    inner = ("tool", "erlmcp", "flags") if os.path.basename(path) == "pyproject.toml" else ("flags",)
    for step, name in enumerate(inner):
        table = table.get(name, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"{path}: [{'.'.join(inner[: step + 1])}] is to be a table")
    given = dict(table)
    phase = given.pop("phase", None)
    found = {} if phase is None else _as_dict(of_phase(str(phase), f"{path}: phase"))
    try:
        return found | checked(given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
