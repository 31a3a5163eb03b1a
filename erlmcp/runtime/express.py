"""The channel of critical messages on a byte stream: its answers leave before those that are gathered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmcp import core

if TYPE_CHECKING:
    from erlmcp.core import Template
    from erlmcp.runtime.link import Link


class Express:
    """As the link that it belongs to, with a box of its own for answers. Order between messages means nothing on a byte
    stream (JSON-RPC 2.0, section 6, says so of batches; MCP orders nothing but progress before its answer)."""

    __slots__ = ("_link", "_out")

    def __init__(self, link: Link) -> None:
        self._link = link
        limits = link.session.host.limits
        self._out = core.Outbound(framing=link.framing, bytes_max=limits.outbox_bytes_max)

    @property
    def kind(self) -> str:
        return self._link.kind

    def take(self) -> bytes:
        """What is gathered, for the link to write first."""
        return self._out.take()

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        self._out.fill(id_raw, template, values)
        self._link.touch()

    def result(self, id_raw: bytes, value: object) -> None:
        self._out.result(id_raw, value)
        self._link.touch()

    def error(self, id_raw: bytes, code: int, message: str, data: object) -> None:
        self._out.error(id_raw, code, message, data)
        self._link.touch()

    def whole(self, message: bytes, code: int = 0) -> None:
        self._link.whole(message, code)

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        self._link.notify(method, params)

    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None:
        self._link.ask(id, method, params)

    def detach(self) -> None:
        self._link.detach()

    def drop(self) -> None:
        self._link.drop()

    def beat(self) -> None:
        self._link.beat()
