"""Calls in the shadow: the new side gets a copy of a call that the old one has answered, and only the answers meet.

What may be copied: calls of tools that say of themselves that they may be called again (``readOnlyHint``, or
``idempotentHint``) and take no context. A copy begins when the caller has its answer. It is bounded by the share of
calls that the roll-out wants copied, and by ``INFLIGHT_MAX`` copies at a time; what it fails with is evidence, and
reaches nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from erlmcp import core
from erlmcp.errors import SERVER_BUSY, McpError, NoBackChannelError
from erlmcp.runtime.exchange import Exchange

if TYPE_CHECKING:
    from erlmcp.core import Template

log = logging.getLogger("erlmcp.rollout")
INFLIGHT_MAX: Final = 16
TEXT_CHARS_MAX: Final = 120
_ABSENT: Final = object()

Compare = Callable[[Any, Any], bool]
Take = Callable[["bytes | None"], None]


def may_be_copied(plan: Any) -> bool:
    """Whether a tool may be called twice for one call, and nobody can tell."""
    hints = plan.descriptor.get("annotations") or {}
    return not plan.needs_context and (hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True)


class Shade:
    """The conversation of the copies: none."""

    __slots__ = ("host", "id", "inflight", "log_level", "loop", "mask_errors", "resources", "standalone", "state")

    def __init__(self, host: Any) -> None:
        self.host = host
        self.loop = host.loop
        self.mask_errors = host.mask_errors
        self.inflight: set[Exchange] = set()
        self.id = self.log_level = self.standalone = self.state = self.resources = None

    def remember(self, exchange: Exchange) -> None:
        self.inflight.add(exchange)

    def forget(self, exchange: Exchange) -> None:
        self.inflight.discard(exchange)


class Caught:
    """The channel of a copy: its answer goes to ``take``, everything else nowhere."""

    __slots__ = ("_out", "_take")
    accepts_stream = False
    kind = ""  # what is answered here nobody asked for: it is in no metric

    def __init__(self, stack: Any, take: Take) -> None:
        self._out = stack.Outbound(framing="none")
        self._take = take

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        self._out.fill(id_raw, template, values)
        self._take(self._out.take())

    def result(self, id_raw: bytes, value: object) -> None:
        self._out.result(id_raw, value)
        self._take(self._out.take())

    def error(self, id_raw: bytes, code: int, message: str, data: object) -> None:
        self._out.error(id_raw, code, message, data)
        self._take(self._out.take())

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        """Nobody listens."""

    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None:
        raise NoBackChannelError(f"{method} cannot be sent: nobody waits for this call")

    def detach(self) -> None:
        """There is no stream."""

    def drop(self) -> None:
        self._take(None)


class Shadow:
    """The copies of one roll-out's calls."""

    def __init__(self, host: Any, compare: Compare | None = None) -> None:
        self._host = host
        self._compare = compare or _is_equal
        self._shade: Shade | None = None
        self.refused_count = 0  # copies that could not be made, as so many were under way, or the server was busy

    @property
    def inflight_count(self) -> int:
        return 0 if self._shade is None else len(self._shade.inflight)

    def start(
        self, exchange: Exchange, answer: bytes, begin: Callable[[Exchange], None], stack: Any, tell: Any
    ) -> None:
        """Let ``begin`` answer the call of ``exchange`` again, in its ``stack``, and ``tell(is_equal, detail)`` how its
        answer compares to ``answer``. Never raises."""
        if self._shade is None or self._shade.loop is not self._host.loop:
            self._shade = Shade(self._host)
        shade = self._shade
        if len(shade.inflight) >= INFLIGHT_MAX:
            self.refused_count += 1
            return

        def take(found: bytes | None) -> None:
            shade.inflight.discard(copy)
            if found is not None:
                tell(*self.judge(answer, found))

        caught: Any = Caught(stack, take)
        copy = Exchange(exchange.call, exchange.peer, cast(Any, shade), caught, exchange.headers)
        shade.inflight.add(copy)
        try:
            begin(copy)
        except McpError as error:
            if error.code == SERVER_BUSY:  # No room for a copy says nothing about the new side.
                self.refused_count += 1
                shade.inflight.discard(copy)
            else:
                copy.fail(error)
        except KeyError:  # The tool was removed meanwhile.
            self.refused_count += 1
            shade.inflight.discard(copy)
        except Exception as error:
            copy.fail(error)

    def judge(self, old: bytes, new: bytes) -> tuple[bool, str]:
        """(whether two answers are equal, what is different)"""
        before, after = _substance(old), _substance(new)
        try:
            is_equal = bool(self._compare(before, after))
        except Exception as error:
            log.error("two answers could not be compared", exc_info=error)
            return False, f"the comparison failed: {type(error).__name__}"
        return is_equal, "" if is_equal else difference(before, after)


def _substance(answer: bytes) -> Any:
    """What an answer says, without what only carries it."""
    message: Any = core.decode(answer)
    if "error" in message:
        return {"error": message["error"]}
    result = message["result"]
    return {key: value for key, value in result.items() if key != "_meta"} if isinstance(result, dict) else result


def difference(before: Any, after: Any, path: str = "") -> str:
    """Where two values differ first, and in what."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() & after.keys():
        for key in {**before, **after}:
            if before.get(key, _ABSENT) != after.get(key, _ABSENT):
                return difference(before.get(key, _ABSENT), after.get(key, _ABSENT), f"{path}.{key}" if path else key)
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            if one != other:
                return difference(one, other, f"{path}[{index}]")
    where = f"{path[:TEXT_CHARS_MAX]}: " if path else ""
    return f"{where}{_text(after)} instead of {_text(before)}"


def _is_equal(before: Any, after: Any) -> bool:
    return bool(before == after)


def _text(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = core.encode(value).decode("utf-8", "replace")
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[: TEXT_CHARS_MAX - 3]}..."
