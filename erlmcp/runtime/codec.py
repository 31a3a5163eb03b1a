"""JSON by a library, where the native codec is switched off (flag ``native_json``): values are decoded from, and
encoded into, whole messages by it instead of by the core. The core still checks every message against RFC 8259 and the
limits.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from erlmcp.errors import JsonError

if TYPE_CHECKING:
    from erlmcp.core import Call, Raw


class Codec:
    """``stack`` is the one whose messages these are (``erlmcp.core``); ``is_plain`` takes the json module, the plan's
    baseline, instead of ujson."""

    __slots__ = ("_dumps", "_loads", "_raw")

    def __init__(self, stack: Any, *, is_plain: bool = False) -> None:
        self._raw = stack.Raw
        if is_plain:
            import json

            self._loads: Any = json.loads
            self._dumps: Any = partial(json.dumps, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        else:
            import ujson

            self._loads = ujson.loads
            self._dumps = partial(
                ujson.dumps, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False, reject_bytes=True
            )

    def params_of(self, call: Call) -> Any:
        """The params of a message; None where it has none."""
        return self._loads(call.raw).get("params")

    def encoded(self, value: object) -> Raw:
        """A result as ready JSON. Raises JsonError for a value that JSON cannot hold."""
        try:
            made: Raw = self._raw(self._dumps(value).encode())
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise JsonError(str(error)) from None
        return made
