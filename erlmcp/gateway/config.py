"""The configuration of a gateway: frozen records, and how they are shown without their secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from erlmcp.auth.rule import Auth
from erlmcp.policy.balance import BalanceRule
from erlmcp.policy.protection import Guards

Mark = tuple[int, ...]  # by which a file is known to be another
MASK: Final = "***"
SECRET_CHARS_MIN: Final = 4  # what is shorter stands in every text
_SECRET = re.compile(r"(?i)(key|token|secret|passw|credential|auth|bearer|cookie)")


@dataclass(frozen=True, slots=True)
class Override:
    """What a tool, prompt or resource is described by instead of its own words."""

    title: str | None = None
    description: str | None = None
    annotations: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Credential:
    """What one caller's calls to one upstream are made with, instead of the upstream's own."""

    headers: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CanaryConfig:
    """A new version of an upstream: ``way`` are the fields of ``UpstreamConfig`` that lead there. ``tools`` are
    patterns of the upstream's own names, ``era`` is that of the clients ("modern" or "legacy"); None: all."""

    way: dict[str, Any]
    tools: tuple[str, ...] | None = None
    era: str | None = None
    shares: tuple[float, ...] = (0.1, 0.5, 1.0)
    stage_s_min: float = 60.0


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One server behind the gateway. ``kind``: stdio, http, tcp, unix or server.

    ``prefix`` stands before the names of its tools and prompts, the separator included, and ``uri_prefix`` before the
    URIs of its resources. ``session``: "own" gives every
    handshake session downstream a conversation of its own, "shared" none, "auto" those whose client answers questions
    or sets a log level.
    """

    name: str
    kind: str
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    inherit_env: bool = False
    cwd: str | None = None
    url: str = ""
    urls: tuple[str, ...] = ()  # of its replicas, each an instance
    headers: dict[str, str] = field(default_factory=dict)
    address: str = ""  # host:port, or a path
    target: Any = None  # of a server in this process: the object, or FILE:OBJECT
    prefix: str = ""
    uri_prefix: str = ""
    rename: dict[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    override: dict[str, Override] = field(default_factory=dict)
    mode: str = "auto"
    session: str = "auto"
    instances: int = 1
    balance: BalanceRule | None = None  # among them
    line_count_max: int = 64  # conversations besides the shared ones
    start_queue_max: int = 1024  # calls that wait while it starts
    lazy: bool = False
    cache: bool = True
    start_timeout_s: float = 30.0
    timeout_s: float = 60.0
    health_s: float = 30.0
    restart_s: float = 0.5
    restart_max_s: float = 60.0
    guards: Guards | None = None  # before the upstream as a whole
    tool_guards: Guards | None = None  # before each of its tools
    canary: CanaryConfig | None = None


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """A caller that is known by its API key: ``digest`` is the SHA-256 of the key."""

    name: str
    digest: bytes
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    credentials: dict[str, Credential] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GrantConfig:
    """What somebody may see, by patterns of the gateway's names and of URIs."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OAuthConfig:
    """Callers that are known by access tokens. All see no more than ``grant`` lets; where there are ``grants``, by
    scope, each sees what one of those opens that its token has."""

    auth: Auth
    grant: GrantConfig = field(default_factory=GrantConfig)
    grants: dict[str, GrantConfig] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """All of it. ``files`` are where it was read from, ``marks`` how they were then, ``notes`` what was passed over."""

    upstreams: tuple[UpstreamConfig, ...]
    name: str = "gateway"
    host: str = "127.0.0.1"
    port: int = 8080
    path: str = "/mcp"
    instructions: str | None = None
    collision: str = "first"
    start_timeout_s: float = 30.0
    keys: tuple[KeyConfig, ...] = ()
    oauth: OAuthConfig | None = None
    anonymous: bool = True
    audit: str | None = None
    audit_arguments: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    limits: dict[str, float] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = field(default=(), repr=False, compare=False)


def shown(value: Any) -> Any:
    """A configuration as JSON values, its secrets masked: all values of env and headers, the digests of keys,
    secrets and what is in key sets, and what looks like a secret in arguments and URLs."""
    if is_dataclass(value) and not isinstance(value, type):
        found: dict[str, Any] = {}
        for item in fields(value):
            each = getattr(value, item.name)
            is_unsaid = each in (None, (), {}, "") or item.name == "marks"
            if is_unsaid or (item.name == "target" and not isinstance(each, str)):
                continue
            found[item.name] = _shown_field(item.name, each)
        return found
    if isinstance(value, dict) and "kind" in value:  # the way to a canary
        return {key: _shown_field(key, each) for key, each in value.items() if key != "target" or isinstance(each, str)}
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    if isinstance(value, dict):
        return {key: shown(each) for key, each in value.items()}
    return value


def _shown_field(name: str, value: Any) -> Any:
    if name in ("env", "headers"):
        return dict.fromkeys(value, MASK)
    if name in ("digest", "secret"):
        return MASK
    if name == "jwks":  # which may hold what is not to be shown, by mistake
        return {"keys": [each.get("kid") for each in value.get("keys", ()) if isinstance(each, dict)]}
    if name == "command":
        return _masked_words(value)
    if name == "url":
        return _masked_url(value)
    if name == "urls":
        return [_masked_url(each) for each in value]
    return shown(value)


def _masked_words(words: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    is_value = False
    for word in words:
        name, equals, _ = word.partition("=")
        if is_value and not word.startswith("-"):
            found.append(MASK)
            is_value = False
            continue
        is_value = word.startswith("-") and not equals and _SECRET.search(word) is not None
        found.append(f"{name}={MASK}" if equals and _SECRET.search(name) else word)
    return found


def _masked_url(url: str) -> str:
    parts = urlsplit(url)
    query = re.sub(r"=[^&]*", "=" + MASK, parts.query)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, parts.fragment))


def secrets_of(config: UpstreamConfig, credential: Credential | None = None) -> tuple[str, ...]:
    """What no message may hold: values of headers and the environment, secrets among arguments and within URLs; the
    longest first."""
    found = [*config.env.values(), *config.headers.values()]
    if credential is not None:
        found += [*credential.env.values(), *credential.headers.values()]
    found += [value.partition(" ")[2] for value in found]
    for word, masked in zip(config.command, _masked_words(config.command), strict=True):
        if word != masked:
            found.append(word.partition("=")[2] if masked != MASK else word)
    for url in (config.url, *config.urls):
        found += [value for _, value in parse_qsl(urlsplit(url).query)]
        found += [part.partition("=")[2] for part in urlsplit(url).query.split("&")]  # as it is written
    return tuple(sorted({each for each in found if len(each) >= SECRET_CHARS_MIN}, key=len, reverse=True))


def hidden(text: str, secrets: Iterable[str]) -> str:
    """A message without them."""
    for each in secrets:
        text = text.replace(each, MASK)
    return text
