"""Logs that help: one line a record or JSON, the request and its trace in each, secrets masked, repeats counted.

It is the standard library's logging: ``setup`` is what ``erlmcp serve`` calls, and its parts fit into a logging
configuration of your own (docs/metrics.md). Which request a record belongs to is told by whoever knows: ``request_of``
is set by the server's room.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

TEXT, JSON = "text", "json"
REPEATS_MAX: Final = 10  # records of one kind within PERIOD_S; more are counted
PERIOD_S: Final = 10.0
KINDS_MAX: Final = 1000
KIND_CHARS_MAX: Final = 300
VALUE_CHARS_MAX: Final = 10_000
MASK: Final = "***"

# What a request is known by: request, trace, method, tool.
Known = dict[str, str]
request_of: Callable[[logging.LogRecord], Known] = lambda record: {}  # noqa: E731

_NAMES = r"authorization|proxy-authorization|cookie|set-cookie|mcp-session-id|x-api-key|api[_-]?key|access[_-]?token"
_NAMES += r"|refresh[_-]?token|client[_-]?secret|secret|password|passwd|token|session[_-]?id"
SECRETS: Final = (
    # name=value, name: value, 'name': 'value', with a scheme before the value or without
    re.compile(
        rf"(?i)(?P<keep>['\"]?\b(?:{_NAMES})\b['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|digest)\s+)?)"
        r"(?P<secret>[^\s'\",;}&]+)"
    ),
    re.compile(r"(?i)(?P<keep>\bbearer\s+)(?P<secret>[a-z0-9\-._~+/]{8,}=*)"),
    re.compile(r"(?P<keep>://[^/\s:@]{0,256}:)(?P<secret>[^@/\s]{1,256})(?=@)"),
    re.compile(r"(?P<keep>)(?P<secret>\b(?:sk|pk|ghp|gho|ghs|xox[abp]|AKIA|eyJ)[-_A-Za-z0-9.]{16,})"),
)
_DIGITS: Final = re.compile(r"\d+")
_OWN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "exchange"})


def masked(text: str) -> str:
    """A text without what looks like a secret: values of telling names, bearer tokens, passwords in URLs, keys."""
    for pattern in SECRETS:
        text = pattern.sub(lambda found: found["keep"] + MASK, text)
    return text


def _plainly(text: str) -> str:
    """A name that came from outside, without what would end the line or steer a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class LineFormatter(logging.Formatter):
    """One line a record, with the request it belongs to at its end; a traceback follows."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s%(known)s")

    def format(self, record: logging.LogRecord) -> str:
        known = request_of(record)
        shown = ", ".join(f"{name} {_plainly(value)}" for name, value in known.items())
        record.known = f" [{shown}]" if shown else ""
        return masked(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")  # a record cannot forge another one
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what ``extra`` gave, and the request."""

    def format(self, record: logging.LogRecord) -> str:
        found: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
            **request_of(record),
        }
        for name, value in vars(record).items():
            if name not in _OWN and name not in found:
                found[name] = _plain(name, value)
        if record.exc_info and record.exc_info[0] is not None:
            found["exception"] = masked(self.formatException(record.exc_info))
        if record.stack_info:
            found["stack"] = masked(record.stack_info)
        return json.dumps(found, ensure_ascii=False, default=str)


def _plain(name: str, value: Any) -> Any:
    if re.search(rf"(?i)^({_NAMES})$", name):
        return MASK
    if isinstance(value, bool | int | float) or value is None:
        return value
    return masked(str(value)[:VALUE_CHARS_MAX])


class Repeats(logging.Filter):
    """Lets ``count_max`` records that differ in nothing but numbers through within ``period_s`` seconds; the first one
    after them says how many were left out. What is critical always passes."""

    def __init__(
        self, count_max: int = REPEATS_MAX, period_s: float = PERIOD_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._count_max = count_max
        self._period_s = period_s
        self._clock = clock
        self._kinds: dict[tuple[str, int, str], list[float]] = {}  # -> since when, how many

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.CRITICAL:
            return True
        now = self._clock()
        try:
            text = record.getMessage()
        except Exception:
            return True  # Its arguments do not fit: the handler says so, where it raises nothing.
        key = (record.name, record.levelno, _DIGITS.sub("#", text)[:KIND_CHARS_MAX])
        if len(self._kinds) >= KINDS_MAX and key not in self._kinds:
            self._kinds.clear()
        since, count = self._kinds.get(key, (now, 0))
        if now - since >= self._period_s:
            left_out = count - self._count_max
            if left_out > 0:
                record.msg = f"{text} ({left_out:.0f} more like this in {now - since:.0f} s)"
                record.args = None
            since, count = now, 0
        self._kinds[key] = [since, count + 1]
        return count < self._count_max


def setup(level: str = "info", form: str = TEXT, stream: TextIO | None = None) -> logging.Handler:
    """Log to ``stream`` (stderr), in one of the two forms; what was set up before is replaced."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == JSON else LineFormatter())
    handler.addFilter(Repeats())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    return handler
