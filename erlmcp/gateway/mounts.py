"""What all upstreams offer together: one table of names, and the lists that clients get.

The order is that of the configuration, and within an upstream its own, so that it is the same each time. Where two
upstreams offer one name, ``collision`` decides: "first" keeps that of the first, "error" offers it from neither.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from erlmcp.errors import ResourceNotFoundError
from erlmcp.gateway.access import Caller
from erlmcp.gateway.mount import CHANGED_OF, LISTS, PROMPT, RESOURCE, TEMPLATE, TOOL, Mount, mounts_of
from erlmcp.gateway.translate import fit_schema
from erlmcp.server.listing import Listing
from erlmcp.spec import method as m
from erlmcp.spec.descriptor import fit_other, fit_tool

if TYPE_CHECKING:
    from erlmcp.core import Routes
    from erlmcp.gateway.upstream import Upstream

log = logging.getLogger("erlmcp.gateway")

ROUTED: Final = {TOOL: m.TOOLS_CALL, PROMPT: m.PROMPTS_GET, RESOURCE: m.RESOURCES_READ}
KIND_OF: Final = {method: kind for kind, method in ROUTED.items()}


class Mounts:
    """``tables``: kind -> the name that clients know -> its mount."""

    def __init__(self, routes: Routes, collision: str) -> None:
        self._routes = routes
        self.collision = collision
        self.tables: dict[str, dict[str, Mount]] = {kind: {} for kind in LISTS}
        self.collisions: list[tuple[str, str, str, str]] = []  # kind, name, who has it, who wanted it
        self._listings: dict[tuple[str, str], Listing] = {}
        self._readers: list[Upstream] = []  # those that offer resources

    def rebuild(self, upstreams: Iterable[Upstream]) -> list[str]:
        """Take over what the upstreams offer now; the notifications that tell of what changed."""
        upstreams = list(upstreams)
        collisions, self.collisions = self.collisions, []
        changed = set()
        for kind in LISTS:
            new = self._table(kind, upstreams)
            old, self.tables[kind] = self.tables[kind], new
            if [(name, mount.descriptor) for name, mount in old.items()] != [
                (name, mount.descriptor) for name, mount in new.items()
            ]:
                changed.add(kind)
            if kind in ROUTED:
                self._route(ROUTED[kind], old, new)
        self._readers = [each for each in upstreams if each.catalog.get(RESOURCE) or each.catalog.get(TEMPLATE)]
        self._listings.clear()
        for kind, name, first, second in self.collisions:
            if (kind, name, first, second) not in collisions:
                log.warning(
                    "%s %s is offered by %s and by %s (collision=%s)", kind, name, first, second, self.collision
                )
        return [method for method, kinds in CHANGED_OF.items() if changed.intersection(kinds)]

    def _table(self, kind: str, upstreams: Iterable[Upstream]) -> dict[str, Mount]:
        found: dict[str, Mount] = {}
        doubled = set()
        for upstream in upstreams:
            for mount in mounts_of(upstream, kind, upstream.catalog):
                first = found.setdefault(mount.exposed, mount)
                if first is not mount:
                    doubled.add(mount.exposed)
                    self.collisions.append((kind, mount.exposed, first.upstream.name, upstream.name))
        if self.collision == "error":
            for name in doubled:
                del found[name]
        return found

    def _route(self, method: str, old: dict[str, Mount], new: dict[str, Mount]) -> None:
        for name in old:
            if name not in new:
                self._routes.drop_entry(method, name)
        for name, mount in new.items():
            self._routes.set_entry(method, name, mount)

    # -- what clients see ----------------------------------------------------------------------------------------------

    def listing(self, kind: str, caller: Caller) -> Listing:
        """The list of one kind, as a caller sees it."""
        whose = caller.view.key
        found = self._listings.get((kind, whose))
        if found is None:
            found = Listing(LISTS[kind][1], _fit_tool if kind == TOOL else fit_other, None)
            for name, mount in self.tables[kind].items():
                if caller.sees(name):
                    found.descriptors[name] = mount.descriptor
            self._listings[kind, whose] = found
        return found

    def named(self, method: str, name: str) -> Mount | None:
        """What a request of this method names. Raises ResourceNotFoundError."""
        return self.by_uri(name) if method == m.RESOURCES_READ else self.tables[KIND_OF[method]].get(name)

    def by_uri(self, uri: str) -> Mount:
        """Where a resource is read: where it is listed, where a template fits, by its prefix, or the one upstream that
        has any without.

        Raises ResourceNotFoundError.
        """
        listed = self.tables[RESOURCE].get(uri)
        if listed is not None:
            return listed
        for mount in self.tables[TEMPLATE].values():
            if mount.pattern is not None and mount.pattern.match(uri, safe=False) is not None:
                return self._unlisted(mount.upstream, uri)
        prefixed = [each for each in self._readers if each.config.uri_prefix and uri.startswith(each.config.uri_prefix)]
        for each in prefixed:
            return self._unlisted(each, uri)
        plain = [each for each in self._readers if not each.config.uri_prefix]
        if len(plain) == 1:
            return self._unlisted(plain[0], uri)
        raise ResourceNotFoundError(uri)

    @staticmethod
    def _unlisted(upstream: Upstream, uri: str) -> Mount:
        return Mount(upstream, RESOURCE, uri.removeprefix(upstream.config.uri_prefix), uri, {}, is_http=False)

    def template(self, text: str) -> Mount | None:
        """By the template itself, or the URI of a resource."""
        return self.tables[TEMPLATE].get(text) or self.tables[RESOURCE].get(text)


def _fit_tool(descriptor: dict[str, Any], version: str) -> dict[str, Any]:
    return fit_schema(fit_tool(descriptor, version), version)
