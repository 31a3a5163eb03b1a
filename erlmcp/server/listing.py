"""The lists a server answers with, kept as ready bytes until something changes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from erlmcp import core
from erlmcp.errors import InvalidParamsError

Fit = Callable[[dict[str, Any], str], dict[str, Any]]
KEPT_MAX = 64


class Listing:
    """Descriptors by name, in the order of registration (a deterministic order: 2026-07-28, server/tools)."""

    __slots__ = ("_fit", "_kept", "_page_size", "descriptors", "field")

    def __init__(self, field: str, fit: Fit, page_size: int | None) -> None:
        self.field = field
        self.descriptors: dict[str, dict[str, Any]] = {}
        self._fit = fit
        self._page_size = page_size
        self._kept: dict[tuple[Any, str, str | None], core.Template] = {}

    def put(self, name: str, descriptor: dict[str, Any]) -> None:
        self.descriptors[name] = descriptor
        self._kept.clear()

    def remove(self, name: str) -> None:
        """Raises KeyError where there is no such name."""
        del self.descriptors[name]
        self._kept.clear()

    def over(self, descriptors: dict[str, dict[str, Any]]) -> Listing:
        """A list of others, with the same pages."""
        made = Listing(self.field, self._fit, self._page_size)
        made.descriptors = descriptors
        return made

    def page(self, version: str, cursor: object) -> dict[str, Any]:
        """One page for a revision; raises InvalidParamsError (-32602) for a cursor that was not given out here."""
        names = list(self.descriptors)
        start = _position(cursor, names)
        end = len(names) if self._page_size is None else start + self._page_size
        found: dict[str, Any] = {self.field: [self._fit(self.descriptors[name], version) for name in names[start:end]]}
        if end < len(names):
            found["nextCursor"] = base64.urlsafe_b64encode(names[end - 1].encode()).decode()
        return found

    def template(
        self,
        version: str,
        cursor: str | None,
        finish: Callable[[dict[str, Any]], dict[str, Any]],
        stack: Any = core,
    ) -> core.Template:
        """The same as ready bytes, for a stack; ``finish`` adds what every result of that revision carries."""
        kept = self._kept.get((stack, version, cursor))
        if kept is None:
            kept = stack.Template([core.encode(finish(self.page(version, cursor)))])
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[stack, version, cursor] = kept
        return kept


def _position(cursor: object, names: list[str]) -> int:
    """Where the page after ``cursor`` (the last name of the page before) begins."""
    if cursor is None:
        return 0
    try:
        if not isinstance(cursor, str):
            raise ValueError
        return names.index(base64.urlsafe_b64decode(cursor.encode()).decode()) + 1
    except (ValueError, binascii.Error):
        raise InvalidParamsError(
            "Invalid params: the cursor is unknown or out of date; list again from the start"
        ) from None
