"""The heads of a channel's requests: what the revision, the session and the user want said in each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from erlmcp.client.annotation import header_value
from erlmcp.client.http_connection import RequestHead
from erlmcp.errors import ConfigurationError
from erlmcp.spec import key
from erlmcp.spec import method as methods
from erlmcp.spec.version import MODERN

if TYPE_CHECKING:
    from erlmcp.client.channel import Request
    from erlmcp.client.http_proxy import Proxy

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
KEPT_COUNT_MAX: Final = 256


class Heads:
    """Makes heads, and keeps those of requests that come again."""

    def __init__(
        self,
        url: str,
        authority: str,
        headers: Mapping[str, str],
        *,
        is_kept_alive: bool = True,
        proxy: Proxy | None = None,
    ) -> None:
        """``proxy``: one that reads the heads. ConfigurationError for headers that cannot be sent."""
        self.url = url
        self._proxy = proxy
        self._is_last = not is_kept_alive
        self.authority = authority
        self.kept: dict[tuple[str, str | None], RequestHead] = {}
        self.authorization = ""
        self._plain = [*headers.items()]
        if "user-agent" not in {name.lower() for name in headers}:
            self._plain.append(("User-Agent", "erlmcp"))
        self._given = self._plain
        self.target = target_of(url)
        self.era = self.version = self.session = ""
        try:
            self.of_stream("")
        except ValueError as error:
            raise ConfigurationError(f"a header for {url} cannot be sent: {error}") from error

    def keep_alive(self, is_kept_alive: bool) -> None:
        """Whether requests let the server keep their connection, from the next one on."""
        self._is_last = not is_kept_alive
        self.kept.clear()

    def authorize(self, authorization: str) -> None:
        """Show this from the next request on; nothing where it is ""."""
        self.authorization = authorization
        self._given = [*self._plain, ("Authorization", authorization)] if authorization else self._plain
        self.kept.clear()

    def forget(self) -> None:
        """Another conversation begins."""
        self.target = target_of(self.url)
        self.era = self.version = self.session = ""
        self.kept.clear()

    def set(self, **changed: str) -> None:
        """``era``, ``version``, ``session`` or ``target`` is another one from here on."""
        for name, value in changed.items():
            setattr(self, name, value)
        self.kept.clear()

    def of_request(self, request: Request) -> RequestHead:
        """ConfigurationError for a header of the request's own that cannot be sent."""
        method, name = request.method, request.name
        fields = [("Content-Type", JSON), ("Accept", f"{JSON}, {EVENTS}"), *self._given]
        version, is_modern = self.version, self.era == MODERN
        if method == methods.INITIALIZE:
            version, is_modern = "", False
        elif not self.era:
            version = _version_within(request.params)
            is_modern = bool(version)
        if version:
            fields.append(("MCP-Protocol-Version", version))
        if is_modern:
            fields.append(("Mcp-Method", method))
            if name is not None:
                fields.append(("Mcp-Name", header_value(name)))
        elif self.session:
            fields.append(("Mcp-Session-Id", self.session))
        if request.headers is not None:
            fields += request.headers.items()
        try:
            head = self._head("POST", fields)
        except ValueError as error:
            raise ConfigurationError(f"a header of {method} cannot be sent: {error}") from error
        if request.headers is None and self.era:
            if len(self.kept) >= KEPT_COUNT_MAX:
                self.kept.clear()
            self.kept[method, name] = head
        return head

    def of_word(self, method: str) -> RequestHead:
        """Of a notification, or of an answer to the server ("")."""
        fields = [("Content-Type", JSON), ("Accept", f"{JSON}, {EVENTS}"), *self._of_session()]
        if method and self.era == MODERN:
            fields.append(("Mcp-Method", method))
        return self._head("POST", fields)

    def of_stream(self, last_id: str) -> RequestHead:
        fields = [("Accept", EVENTS), *self._of_session()]
        if last_id:
            fields.append(("Last-Event-ID", last_id))
        return self._head("GET", fields)

    def of_farewell(self) -> RequestHead:
        return self._head("DELETE", self._of_session())

    def _head(self, verb: str, fields: list[tuple[str, str]]) -> RequestHead:
        return RequestHead(verb, self.target, self.authority, fields, is_last=self._is_last, proxy=self._proxy)

    def _of_session(self) -> list[tuple[str, str]]:
        fields = [*self._given]
        if self.version:
            fields.append(("MCP-Protocol-Version", self.version))
        if self.session:
            fields.append(("Mcp-Session-Id", self.session))
        return fields


def target_of(url: str) -> str:
    """What a request line has of a URL."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _version_within(params: dict[str, Any] | None) -> str:
    meta = (params or {}).get("_meta")
    version = meta.get(key.PROTOCOL_VERSION) if isinstance(meta, dict) else None
    return version if isinstance(version, str) else ""
