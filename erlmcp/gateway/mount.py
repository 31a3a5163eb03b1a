"""What an upstream offers, and the names under which the gateway offers it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.client import annotation
from erlmcp.errors import ConfigurationError, InvalidAnswerError, LimitError, McpError
from erlmcp.server.schema import param_headers
from erlmcp.server.uri import UriTemplate
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.gateway.config import UpstreamConfig
    from erlmcp.gateway.line import Talk
    from erlmcp.gateway.upstream import Upstream

log = logging.getLogger("erlmcp.gateway")

TOOL, PROMPT, RESOURCE, TEMPLATE = "tool", "prompt", "resource", "template"
# Kind -> the method that lists it, the field of its result, the capability, the key that names one.
LISTS: Final = {
    TOOL: (m.TOOLS_LIST, "tools", "tools", "name"),
    PROMPT: (m.PROMPTS_LIST, "prompts", "prompts", "name"),
    RESOURCE: (m.RESOURCES_LIST, "resources", "resources", "uri"),
    TEMPLATE: (m.TEMPLATES_LIST, "resourceTemplates", "resources", "uriTemplate"),
}
CHANGED_OF: Final = {
    m.TOOLS_CHANGED: (TOOL,),
    m.PROMPTS_CHANGED: (PROMPT,),
    m.RESOURCES_CHANGED: (RESOURCE, TEMPLATE),
}
Catalog = dict[str, list[dict[str, Any]]]


@dataclass(slots=True)
class Mirror:
    """What the endpoint wants to know of a tool: which headers repeat its arguments."""

    param_headers: dict[str, Any] = field(default_factory=dict)


class Mount:
    """One thing of one upstream, under the name that clients know."""

    __slots__ = (
        "descriptor", "exposed", "is_idempotent", "kind", "mirrored", "name", "name_text", "pattern", "plan",
        "upstream", "uri_prefix",
    )  # fmt: skip

    def __init__(
        self, upstream: Upstream, kind: str, name: str, exposed: str, descriptor: dict[str, Any], *, is_http: bool
    ) -> None:
        """ValueError for a tool that must not be offered, as it has no schema (no client could read a list with it), or
        its header annotations break the rules."""
        if kind == TOOL and not isinstance(descriptor.get("inputSchema"), dict):
            raise ValueError("its inputSchema is no object")
        self.upstream = upstream
        self.uri_prefix = upstream.config.uri_prefix
        self.kind = kind
        self.name = name
        self.exposed = exposed
        self.name_text = None if name == exposed else core.encode(name)
        self.descriptor = descriptor
        hints = descriptor.get("annotations")
        self.is_idempotent = kind != TOOL or (
            isinstance(hints, dict) and (hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True)
        )
        self.mirrored: annotation.Paths = {}
        self.plan = Mirror()
        self.pattern: UriTemplate | None = None
        if kind == TOOL:
            self._read_mirrors(descriptor.get("inputSchema"), is_http)
        elif kind == TEMPLATE:
            self.pattern = make_pattern(exposed)

    def _read_mirrors(self, schema: Any, is_http: bool) -> None:
        if is_http:
            self.mirrored = annotation.mirrored(schema)
        try:
            self.plan.param_headers = param_headers(schema, self.exposed) if isinstance(schema, dict) else {}
        except ConfigurationError:
            self.plan.param_headers = {}


def make_pattern(template: str) -> UriTemplate | None:
    """None for a template that URIs cannot be matched against."""
    try:
        found = UriTemplate(template)
        found.check_matchable()
    except ConfigurationError:
        return None
    return found


# -- reading -----------------------------------------------------------------------------------------------------------


async def fetch(talk: Talk, kinds: Iterable[str]) -> Catalog:
    """The lists of these kinds, whole; empty ones for what the upstream does not offer, or refuses to list. Raises what
    the conversation raises, InvalidAnswerError, and LimitError for a list without an end."""
    found: Catalog = {}
    for kind in kinds:
        found[kind] = []
        if LISTS[kind][2] in talk.capabilities:
            try:
                found[kind] = await _pages(talk, kind)
            except McpError as error:  # Many servers have resources, and no answer to resources/templates/list.
                log.debug("%s refused: %s", LISTS[kind][0], error)
    return found


async def _pages(talk: Talk, kind: str) -> list[dict[str, Any]]:
    method, name, _, key = LISTS[kind]
    limits = talk.owner.limits
    found: list[dict[str, Any]] = []
    params: dict[str, Any] | None = None
    for _ in range(limits.page_count_max):
        page = await talk.ask(method, params, is_idempotent=True)
        items = page.get(name)
        if not isinstance(items, list):
            raise InvalidAnswerError(f"the result of {method} has no list of {name}")
        found += [item for item in items if isinstance(item, dict) and isinstance(item.get(key), str)]
        cursor = page.get("nextCursor")
        if not isinstance(cursor, str):
            return found
        params = {"cursor": cursor}
    raise LimitError("page_count_max", limits.page_count_max, f"{method} has no end")


# -- naming ------------------------------------------------------------------------------------------------------------


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def is_offered(config: UpstreamConfig, kind: str, name: str) -> bool:
    """By the allow and deny lists, which are of tools; prompts and resources are denied by name or URI as well."""
    if config.allow is not None and kind == TOOL and not matches(name, config.allow):
        return False
    return not matches(name, config.deny)


def exposed_name(config: UpstreamConfig, kind: str, name: str) -> str:
    if kind in (RESOURCE, TEMPLATE):
        return config.uri_prefix + name
    return config.rename.get(name) or config.prefix + name


def described(config: UpstreamConfig, kind: str, item: dict[str, Any], exposed: str) -> dict[str, Any]:
    """A descriptor under its new name, with what the configuration says instead of it."""
    key = LISTS[kind][3]
    found = {**item, key: exposed}
    override = config.override.get(item[key])
    if override is not None:
        found.update({name: text for name in ("title", "description") if (text := getattr(override, name)) is not None})
        if override.annotations:
            own = item.get("annotations")
            found["annotations"] = {**(own if isinstance(own, dict) else {}), **override.annotations}
    return found


def mounts_of(upstream: Upstream, kind: str, catalog: Mapping[str, list[dict[str, Any]]]) -> list[Mount]:
    """What is offered of one kind, in the upstream's own order."""
    config = upstream.config
    found = []
    for item in catalog.get(kind, ()):
        name = item[LISTS[kind][3]]
        if not is_offered(config, kind, name):
            continue
        exposed = exposed_name(config, kind, name)
        is_http = upstream.is_http and upstream.is_modern
        try:
            found.append(Mount(upstream, kind, name, exposed, described(config, kind, item, exposed), is_http=is_http))
        except ValueError as error:
            log.warning("tool %s of %s is left out: %s", name, config.name, error)
    return found
