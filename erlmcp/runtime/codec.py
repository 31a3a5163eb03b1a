"""JSON by ujson, where the native codec is switched off (flag ``native_json``): values are decoded from, and encoded
into, whole messages by the library instead of by the core. The core still checks every message against RFC 8259 and
the limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.errors import JsonError

if TYPE_CHECKING:
    from erlmcp.core import Call, Raw


def params_of(call: Call) -> Any:
    """The params of a message; None where it has none."""
    import ujson

    message = ujson.loads(call.raw)
    return message.get("params")


def encoded(value: object) -> Raw:
    """A result as ready JSON. Raises JsonError for a value that JSON cannot hold."""
    import ujson

    try:
        text = ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False, reject_bytes=True)
        return core.Raw(text.encode())
    except (TypeError, ValueError, OverflowError) as error:
        raise JsonError(str(error)) from None
