"""What tools, resources, templates and prompts have in common."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from erlmcp.compat.fastmcp.exceptions import unsupported
from erlmcp.server.content import dump_model

Json = dict[str, Any]


class Component:
    """Something that a server offers. Its attributes are FastMCP's; ``model_copy(update=...)`` gives another one.

    ``owner`` is the server behind whose middleware it runs, where that is not the one that lists it, and ``own_name``
    what it is called there; ``home`` refers to the server whose context it runs in.
    """

    KEY_PREFIX: ClassVar[str] = ""

    def __init__(
        self,
        *,
        name: str,
        version: str | int | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: Sequence[Any] | None = None,
        tags: Iterable[str] | None = None,
        meta: Mapping[str, Any] | None = None,
        auth: object = None,
    ) -> None:
        if auth is not None:
            unsupported(
                f"auth= of {name!r}",
                "there are no access tokens behind it that a check could read",
                "an access rule of the gateway, or a Middleware that reads get_http_headers()",
            )
        self.name = name
        self.version = None if version is None else str(version)
        if self.version is not None and "@" in self.version:
            raise ValueError(f"{name!r}: a version has no '@', got {self.version!r}")
        self.title = title
        self.description = description
        self.icons = icons
        self.tags: set[str] = set(tags or ())
        self.meta: dict[str, Any] | None = None if meta is None else dict(meta)
        self.auth = None
        self.is_enabled = True
        self.owner: Any = None
        self.home: Any = None
        self.own_name = name

    @property
    def identifier(self) -> str:
        """What it is asked for by."""
        return self.name

    @classmethod
    def make_key(cls, identifier: str) -> str:
        return f"{cls.KEY_PREFIX}:{identifier}"

    @property
    def key(self) -> str:
        """The kind, the identifier, and the version after an ``@`` that is always there."""
        return f"{self.make_key(self.identifier)}@{self.version or ''}"

    def get_meta(self) -> Json:
        """``_meta`` of its descriptor: the author's, and the tags and version below ``fastmcp``."""
        meta = dict(self.meta or {})
        given = meta.get("fastmcp") or {}
        if not isinstance(given, dict):
            raise TypeError(f"{self.name!r}: meta['fastmcp'] is an object, got {given!r}")
        own: Json = {"tags": sorted(self.tags)}
        if self.version is not None:
            own["version"] = self.version
        meta["fastmcp"] = {**{name: each for name, each in given.items() if not name.startswith("_")}, **own}
        return meta

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some attributes replaced."""
        made = copy.copy(self)
        for name, value in (update or {}).items():
            setattr(made, name, value)
        return made

    def copy(self) -> Self:
        return self.model_copy()

    def enable(self) -> None:
        unsupported(
            f"{type(self).__name__}.enable()", "FastMCP 4 took it away too", f"server.enable(names={{{self.name!r}}})"
        )

    def disable(self) -> None:
        unsupported(
            f"{type(self).__name__}.disable()", "FastMCP 4 took it away too", f"server.disable(names={{{self.name!r}}})"
        )

    def public(self, **fields: Any) -> Json:
        """A descriptor of these fields and those that all have; what is None is left out."""
        found = {
            "title": self.title,
            "description": self.description,
            "icons": dump_model(self.icons),
            **fields,
            "_meta": dump_model(self.get_meta()),
        }
        return {name: each for name, each in found.items() if each is not None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.identifier!r})"


_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)(.*)")


def version_order(version: str | None) -> tuple[Any, ...]:
    """A key that sorts versions: none at all, then words, then numbers with their parts; a pre-release before its
    release."""
    if version is None:
        return (0,)
    found = _RELEASE.fullmatch(version)
    if found is None:
        return 1, version
    numbers = [int(part) for part in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return 2, tuple(numbers), not found[2], found[2], version


def newest(components: Iterable[Any], identify: Any) -> dict[str, Any]:
    """The highest version of each; where there are versions, ``meta`` has all of them."""
    found: dict[str, list[Any]] = {}
    for each in components:
        found.setdefault(identify(each), []).append(each)
    made = {}
    for name, group in found.items():
        best = group[0] if len(group) == 1 else max(group, key=lambda each: version_order(each.version))
        versions = sorted((each.version for each in group if each.version is not None), key=version_order, reverse=True)
        if versions:
            meta = dict(best.meta or {})
            meta["fastmcp"] = {**meta.get("fastmcp", {}), "versions": versions}
            best = best.model_copy(update={"meta": meta})
        made[name] = best
    return made
