"""The context of a trace in ``_meta`` (2026-07-28, basic/index; W3C Trace Context)."""

from __future__ import annotations

import re
from typing import Any, Final

TRACEPARENT: Final = "traceparent"
_FORM: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id(meta: Any) -> str:
    """The id of the trace that a request's ``_meta`` (``Call.meta``) belongs to; "" where it says nothing of one."""
    text = meta.values.get(TRACEPARENT) if meta is not None else None
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    return found[1] if found is not None else ""
