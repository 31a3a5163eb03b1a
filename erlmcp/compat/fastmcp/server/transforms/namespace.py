"""Names with a prefix, and URIs with a first segment."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from erlmcp.compat.fastmcp.server.transforms.base import Transform

_URI = re.compile(r"([^:]+://)(.*)", re.DOTALL)


class Namespace(Transform):
    """``name`` -> ``prefix_name``, and ``scheme://rest`` -> ``scheme://prefix/rest``."""

    is_static: ClassVar[bool] = True

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def apply(self, component: Any) -> Any:
        if component.KEY_PREFIX == "resource":
            return component.model_copy(update={"uri": self._uri(component.uri)})
        if component.KEY_PREFIX == "template":
            return component.model_copy(update={"uri_template": self._uri(component.uri_template)})
        return component.model_copy(update={"name": f"{self._prefix}_{component.name}"})

    def _uri(self, uri: str) -> str:
        found = _URI.fullmatch(uri)
        return uri if found is None else f"{found[1]}{self._prefix}/{found[2]}"

    def __repr__(self) -> str:
        return f"Namespace({self._prefix!r})"
