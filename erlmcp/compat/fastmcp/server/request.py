"""The HTTP request behind a call, for those who look at its headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erlmcp.server.context import Context as Core


class Headers(Mapping[str, str]):
    """Headers by name, whatever its case."""

    __slots__ = ("_found",)

    def __init__(self, found: Mapping[str, str]) -> None:
        self._found = {name.lower(): value for name, value in found.items()}

    def __getitem__(self, name: str) -> str:
        return self._found[name.lower()]

    def __iter__(self) -> Any:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._found


class HttpRequest:
    """What there is of Starlette's Request: ``headers`` and ``method``. Anything else raises AttributeError with what
    to use instead."""

    __slots__ = ("headers",)
    method = "POST"

    def __init__(self, core: Core) -> None:
        self.headers = Headers(core.headers)

    @property
    def cookies(self) -> dict[str, str]:
        from http.cookies import SimpleCookie

        return {name: each.value for name, each in SimpleCookie(self.headers.get("cookie", "")).items()}

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the request of this façade has headers, cookies and method, and no {name!r}")
