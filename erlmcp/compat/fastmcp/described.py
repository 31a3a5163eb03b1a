"""What a docstring says of a function: the text before its first section."""

from __future__ import annotations

import inspect
import re
from typing import Any

from erlmcp.server.plan import doc_of

_GOOGLE = re.compile(r"[A-Za-z][\w -]*:(?:\s.*)?")
_SPHINX = re.compile(r":(?:param|parameter|arg|argument|key|keyword|type|returns?|rtype|raises?|exception)\b")


def docstring_of(fn: Any) -> str | None:
    """The whole docstring, without its indentation."""
    doc = doc_of(fn)
    return inspect.cleandoc(doc) if doc else None


def description_of(fn: Any) -> str | None:
    """The text before ``Args:``, ``Returns:`` and their like, in the styles of Google, NumPy and Sphinx; None where
    there is none."""
    doc = docstring_of(fn)
    if not doc:
        return None
    lines = doc.splitlines()
    kept = []
    for number, line in enumerate(lines):
        if _begins_section(line, lines[number + 1 : number + 2]):
            break
        kept.append(line)
    text = "\n".join(kept).strip()
    return text or (doc if len(kept) == len(lines) else None)


def _begins_section(line: str, after: list[str]) -> bool:
    if _SPHINX.match(line):
        return True
    below = after[0] if after else ""
    if line.strip() and re.fullmatch(r"-{3,}\s*", below):
        return True
    return _GOOGLE.fullmatch(line) is not None and below.startswith((" ", "\t")) and bool(below.strip())
