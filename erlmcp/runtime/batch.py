"""The answer to a JSON-RPC batch (2025-03-26): the answers of its requests, in one array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmcp.errors import INTERNAL_ERROR, ErlmcpError, LimitError

if TYPE_CHECKING:
    from erlmcp import core
    from erlmcp.core import Call, Template
    from erlmcp.runtime.exchange import Channel

REQUEST, INVALID = 1, 6


class Collector:
    """A channel that holds answers back until the last one is there; notifications and questions pass through."""

    __slots__ = ("_answers", "_expected", "_out", "_sealed", "_sent", "channel")

    def __init__(self, channel: Channel, items: list[Call], stack: Any) -> None:
        self.channel = channel
        self._out: core.Outbound = stack.Outbound(framing="none")
        self._answers: list[bytes] = []
        self._expected = sum(
            1 for each in items if each.kind == REQUEST or (each.kind == INVALID and not each.is_response)
        )
        self._sealed = self._sent = False

    @property
    def kind(self) -> str:
        return self.channel.kind

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        self._out.fill(id_raw, template, values)
        self._add()

    def result(self, id_raw: bytes, value: object) -> None:
        self._out.result(id_raw, value)
        self._add()

    def error(self, id_raw: bytes, code: int, message: str, data: object) -> None:
        self._out.error(id_raw, code, message, data)
        self._add()

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        self.channel.notify(method, params)

    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None:
        self.channel.ask(id, method, params)

    def whole(self, message: bytes, code: int = 0) -> None:
        """An answer of a request of the batch as ready JSON; a batch holds no batches."""
        self._answers.append(message)
        self._send()

    def detach(self) -> None:
        raise ErlmcpError("the stream of a batch cannot be closed early")

    def beat(self) -> None:
        self.channel.beat()

    def drop(self) -> None:
        """A request of the batch was cancelled: the others are answered without it."""
        self._expected -= 1
        self._send()

    def seal(self) -> None:
        """All items were handed out."""
        self._sealed = True
        self._send()

    def _add(self) -> None:
        self._answers.append(self._out.take())
        self._send()

    def _send(self) -> None:
        if self._sent or not self._sealed or len(self._answers) < self._expected:
            return
        self._sent = True
        if not self._answers:
            self.channel.drop()
            return
        try:
            self.channel.whole(b"[" + b",".join(self._answers) + b"]")
        except LimitError as error:
            self.channel.error(b"null", INTERNAL_ERROR, f"The answer of the batch cannot be sent: {error}", None)
