"""``ctx.session``: what a handler may send to its client besides its answer."""

from __future__ import annotations

from typing import Any

from erlmcp.compat.sdk import types
from erlmcp.compat.sdk.ask import ask_one, form_params
from erlmcp.compat.sdk.record import Record, give, wire_name
from erlmcp.errors import NoBackChannelError
from erlmcp.server.content import dump_model
from erlmcp.server.context import Context as Inner
from erlmcp.server.input import sampling_messages
from erlmcp.spec import method as m

PING_TIMEOUT_S = 30.0
_RESULTS: dict[str, type[Record]] = {
    m.ELICIT: types.ElicitResult,
    m.SAMPLE: types.CreateMessageResult,
    m.ROOTS_LIST: types.ListRootsResult,
}


class ServerSession:
    """The conversation that a request belongs to, as its handler sees it."""

    def __init__(self, inner: Inner, *, camel: bool = False) -> None:
        self._inner = inner
        self._camel = camel

    # -- who it is -----------------------------------------------------------------------------------------------------

    @property
    def protocol_version(self) -> str:
        return self._inner.protocol_version

    @property
    def client_capabilities(self) -> Any:
        return give(types.ClientCapabilities, self._inner.client_capabilities, camel=self._camel)

    @property
    def client_params(self) -> Any:
        """What the client said of itself when it began."""
        found = types.Params(
            protocol_version=self._inner.protocol_version, capabilities=self.client_capabilities, client_info=None
        )
        if self._inner.client_info is not None:
            found.client_info = give(types.Implementation, self._inner.client_info, camel=self._camel)
        return found

    @property
    def can_send_request(self) -> bool:
        """Whether a request to the client can be sent in the middle of a call: not in 2026-07-28, where what is asked
        ends the round instead."""
        return self._inner.era == "legacy"

    def check_client_capability(self, capability: Any) -> bool:
        """Did the client declare all of this?"""
        return _holds(self._inner.client_capabilities, dump_model(capability))

    # -- telling -------------------------------------------------------------------------------------------------------

    async def send_notification(self, notification: Any, related_request_id: Any = None) -> None:
        wire = dump_model(notification)
        wire = wire.get("root", wire)
        self._inner._exchange.notify(wire["method"], wire.get("params"))

    async def send_log_message(
        self, level: str, data: Any, logger: str | None = None, related_request_id: Any = None
    ) -> None:
        await self._inner.log(level, data, logger)

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        await self._inner.progress(progress, total, message)

    async def send_progress_notification(
        self,
        progress_token: Any,
        progress: float,
        total: float | None = None,
        message: str | None = None,
        related_request_id: Any = None,
    ) -> None:
        params = {"progressToken": progress_token, "progress": progress, "total": total, "message": message}
        given = {name: value for name, value in params.items() if value is not None}
        self._inner._exchange.notify(m.PROGRESS, given)

    async def send_resource_updated(self, uri: Any) -> None:
        await self._inner.resource_updated(str(uri))

    async def send_resource_list_changed(self) -> None:
        await self._inner.resources_changed()

    async def send_tool_list_changed(self) -> None:
        await self._inner.tools_changed()

    async def send_prompt_list_changed(self) -> None:
        await self._inner.prompts_changed()

    async def send_elicit_complete(self, elicitation_id: str, related_request_id: Any = None) -> None:
        params = {"elicitationId": elicitation_id}
        self._inner._exchange.notify("notifications/elicitation/complete", params)

    # -- asking --------------------------------------------------------------------------------------------------------

    async def send_ping(self) -> Any:
        exchange = self._inner._exchange
        if not self.can_send_request:
            raise NoBackChannelError(
                "Cannot send 'ping': this transport context has no back-channel for server-initiated requests."
            )
        found = await exchange.session.ask(exchange.channel, m.PING, None, PING_TIMEOUT_S)
        return give(types.EmptyResult, found, camel=self._camel)

    async def send_request(self, request: Any, result_type: Any = None, *_more: Any, **_options: Any) -> Any:
        """Ask by a request object: an elicitation, sampling, or the roots."""
        wire = dump_model(request)
        wire = wire.get("root", wire)
        if wire["method"] == m.PING:
            return await self.send_ping()
        found = await ask_one(self._inner, _kind(wire["method"]), wire["method"], wire.get("params"))
        if result_type is not None and hasattr(result_type, "model_validate"):
            return result_type.model_validate(found)
        return give(_RESULTS[wire["method"]], found, camel=self._camel)

    async def create_message(
        self, messages: Any, *, max_tokens: int, related_request_id: Any = None, **options: Any
    ) -> Any:
        """Let the client's model answer; ``options`` are the further fields of the request, by their Python names."""
        given = {wire_name(name): dump_model(value) for name, value in options.items() if value is not None}
        params = {"messages": sampling_messages(messages), "maxTokens": max_tokens, **given}
        found = await ask_one(self._inner, "sample", m.SAMPLE, params)
        return give(types.CreateMessageResult, found, camel=self._camel)

    async def list_roots(self) -> Any:
        found = await ask_one(self._inner, "roots", m.ROOTS_LIST, None)
        return give(types.ListRootsResult, found, camel=self._camel)

    async def elicit_form(
        self,
        message: str,
        requested_schema: dict[str, Any] | None = None,
        related_request_id: Any = None,
        **other: Any,
    ) -> Any:
        schema = requested_schema if requested_schema is not None else other.pop("requestedSchema")
        found = await ask_one(self._inner, "elicit", m.ELICIT, form_params(self._inner, message, schema))
        return give(types.ElicitResult, found, camel=self._camel)

    elicit = elicit_form

    async def elicit_url(self, message: str, url: str, elicitation_id: str, related_request_id: Any = None) -> Any:
        params = {"mode": "url", "message": message, "url": url, "elicitationId": elicitation_id}
        found = await ask_one(self._inner, "elicit", m.ELICIT, params)
        return give(types.ElicitResult, found, camel=self._camel)


def _kind(method: str) -> str:
    return {m.ELICIT: "elicit", m.SAMPLE: "sample"}.get(method, "roots")


def _holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(name in found and _holds(found[name], wanted[name]) for name in wanted)
    return bool(found == wanted) or wanted is None
