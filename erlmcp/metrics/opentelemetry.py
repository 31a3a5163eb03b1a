"""OpenTelemetry spans and metrics of a server or client, by the semantic conventions for MCP (extra ``otel``).

    from erlmcp.metrics import instrument

    instrument(server)  # before it serves; with the providers that are set globally, or those that are given

Every request is a SERVER span from its begin until its answer, with the context of its ``_meta`` (traceparent,
tracestate, baggage) as the parent and the ambient context, say of an HTTP instrumentation, as a link; within the
handler it is the current span. What a caller did wrong (-32700, -32600, -32601, -32602, -32002) is told by
``rpc.response.status_code`` and is no error of the server (semantic-conventions-genai, issue 389).

``instrument(client)`` makes a CLIENT span of each of a client's requests (``erlmcp.metrics.caller``); requests of a
server to its client are such spans, too.

An instrumented server takes the general way for every request: that is the price, and nobody else pays it.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from erlmcp.metrics import family as f
from erlmcp.metrics.caller import URI_METHODS, Attributes, Caller, network_of, text_of, with_meta
from erlmcp.metrics.sent import outcome_of
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

SCOPE: Final = "erlmcp"
SCHEMA: Final = "https://opentelemetry.io/schemas/1.45.0"
NOTIFICATIONS: Final = (m.INITIALIZED, m.CANCELLED, m.PROGRESS, m.ROOTS_CHANGED)
KNOWN_METHODS: Final = frozenset().union(*m.CLIENT_REQUESTS.values(), NOTIFICATIONS)


class Telemetry:
    """The spans and instruments of one server."""

    def __init__(
        self,
        server: Any,
        tracer: trace.Tracer,
        meter: metrics.Meter,
        caller: Caller,
        capture_arguments: bool,
        capture_results: bool,
        session_ids: bool,
    ) -> None:
        self.server = server
        self.caller = caller
        self.capture_arguments = capture_arguments
        self.capture_results = capture_results
        self.session_ids = session_ids
        self.tracer = tracer
        self.operation = meter.create_histogram(
            "mcp.server.operation.duration",
            "s",
            "MCP request or notification duration as observed on the receiver from the time it was received until the "
            "result or ack is sent.",
            explicit_bucket_boundaries_advisory=list(f.SECONDS_BOUNDS),
        )
        self.session = meter.create_histogram(
            "mcp.server.session.duration",
            "s",
            "The duration of the MCP session as observed on the MCP server.",
            explicit_bucket_boundaries_advisory=list(f.SECONDS_BOUNDS),
        )

    # -- requests ------------------------------------------------------------------------------------------------------

    def begin(self, exchange: Any) -> None:
        """The span of a request that has a route; its context is current within the handler."""
        call = exchange.call
        attributes = {
            **self._common(call.method, exchange.channel.kind, exchange.peer.version),
            **self._details(exchange),
        }
        parent, links = self._origin(call)
        span = self.tracer.start_span(_span_name(call), parent, SpanKind.SERVER, attributes, links)
        exchange.span = trace.set_span_in_context(span, parent)

    def finished(self, exchange: Any, error: str, status: str, message: str, duration_ns: int) -> None:
        """The end of a request's span; one that was refused before it had a route gets a span now."""
        call = exchange.call
        outcome: Attributes = {}
        if error:
            outcome[f.ERROR] = error
        if status:
            outcome[f.STATUS] = status
        end_ns = time.time_ns()
        if exchange.span is None:
            attributes = {
                **self._common(call.method, exchange.channel.kind, exchange.peer.version),
                **self._details(exchange),
            }
            parent, links = self._origin(call)
            start_ns = end_ns - duration_ns
            name = _span_name(call)
            span = self.tracer.start_span(name, parent, SpanKind.SERVER, attributes, links, start_time=start_ns)
        else:
            span = trace.get_current_span(exchange.span)
        span.set_attributes(outcome)
        if error:
            span.set_status(Status(StatusCode.ERROR, message or None))
        span.end(end_ns)
        labels = {**self._common(call.method, exchange.channel.kind, exchange.peer.version), **outcome}
        labels |= _target(call, only_known=True)
        self.operation.record(duration_ns / 1e9, labels)

    async def around(self, context: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        """The middleware that makes the request's span the current one."""
        exchange = context._exchange
        if exchange.span is None:
            return await call_next(context)
        token = otel_context.attach(exchange.span)
        try:
            result = await call_next(context)
        finally:
            otel_context.detach(token)
        if self.capture_results and exchange.call.method == m.TOOLS_CALL and not result.get("isError"):
            trace.get_current_span(exchange.span).set_attribute(f.RESULT, text_of(result))
        return result

    def notified(self, route: Callable[[Any, Any], None], session: Any, call: Any) -> None:
        """A notification: a span around its route."""
        started_ns = time.perf_counter_ns()
        attributes = self._common(call.method, session.kind, session.connection.version)
        details = {f.SESSION_ID: session.id} if session.id and self.session_ids else {}
        parent, links = self._origin(call)
        with self.tracer.start_as_current_span(call.method, parent, SpanKind.SERVER, {**attributes, **details}, links):
            route(session, call)
        self.operation.record((time.perf_counter_ns() - started_ns) / 1e9, attributes)

    def session_ended(self, kind: str, version: str, duration_ns: int) -> None:
        self.session.record(duration_ns / 1e9, {**network_of(kind), f.VERSION: version})

    async def asking(self, send: Any, session: Any, method: str, params: Any) -> dict[str, Any]:
        """A request of the server's to its client: a CLIENT span, within that of the request that it is for."""
        where = session.kind, "", ""
        asked = self.caller.start(method, None, params, where, session.connection.version or "")
        began_ns = time.perf_counter_ns()
        result, error = None, None
        try:
            result = await send(with_meta(params, asked.meta))
        except BaseException as exc:
            error = exc
            raise
        finally:
            outcome = outcome_of(result, error)
            self.caller.finished(asked, outcome, result, error, time.perf_counter_ns() - began_ns)
        found: dict[str, Any] = result
        return found

    # -- attributes ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _common(method: str | None, kind: str, version: str | None) -> Attributes:
        """What spans and metrics share."""
        found: Attributes = {f.METHOD: method if method in KNOWN_METHODS else f.OTHER_METHOD, **network_of(kind)}
        if version:
            found[f.VERSION] = version
        return found

    def _details(self, exchange: Any) -> Attributes:
        """What is for spans alone."""
        call, session = exchange.call, exchange.session
        found = _target(call, only_known=False)
        if call.id is not None:
            found[f.REQUEST_ID] = str(call.id)
        if session.id and self.session_ids:
            found[f.SESSION_ID] = session.id
        if call.method in URI_METHODS:
            uri = call.name if call.method == m.RESOURCES_READ else _param(exchange, "uri")
            if isinstance(uri, str):
                found[f.URI] = uri
        address = _address(exchange.channel)
        if address is not None:
            found[f.ADDRESS], found[f.PORT] = address
        if self.capture_arguments and call.method == m.TOOLS_CALL:
            found[f.ARGUMENTS] = text_of(exchange.arguments)
        return found

    @staticmethod
    def _origin(call: Any) -> tuple[otel_context.Context, list[Link]]:
        """The parent that ``_meta`` names, with what is around as a link; else what is around as the parent."""
        around = otel_context.get_current()
        values = call.meta.values if call.meta is not None else {}
        carrier = {key: value for key, value in values.items() if isinstance(value, str)}
        extracted = propagate.extract(carrier, otel_context.Context())
        if not trace.get_current_span(extracted).get_span_context().is_valid:
            return propagate.extract(carrier, around), []
        ambient = trace.get_current_span(around).get_span_context()
        return extracted, [Link(ambient)] if ambient.is_valid else []


def _target(call: Any, *, only_known: bool) -> Attributes:
    """The tool or prompt; for a metric, one that nobody registered has the one name of all such."""
    key = {m.TOOLS_CALL: f.TOOL, m.PROMPTS_GET: f.PROMPT}.get(call.method)
    found: Attributes = {}
    if key is not None:
        is_known = call.entry is not None
        if is_known or only_known:
            found[key] = call.name if is_known else f.UNKNOWN
        elif isinstance(call.name, str):
            found[key] = call.name
    if call.method == m.TOOLS_CALL:
        found[f.GENAI_OPERATION] = f.EXECUTE_TOOL
    return found


def _span_name(call: Any) -> str:
    """``{mcp.method.name} {target}``, where the target is one of a few."""
    method = call.method if call.method in KNOWN_METHODS else f.OTHER_METHOD
    has_target = call.method in (m.TOOLS_CALL, m.PROMPTS_GET) and call.entry is not None
    return f"{method} {call.name}" if has_target else method


def _param(exchange: Any, name: str) -> Any:
    params = exchange.params
    return params.get(name) if isinstance(params, dict) else None


def _address(channel: Any) -> tuple[str, int] | None:
    """Host and port of a client over HTTP."""
    reply = getattr(channel, "reply", None)
    transport = getattr(reply, "transport", None)
    peer = transport.get_extra_info("peername") if transport is not None else getattr(reply, "client", None)
    return (peer[0], peer[1]) if isinstance(peer, tuple | list) and len(peer) >= 2 else None


def instrument(
    target: Any,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_arguments: bool = False,
    capture_results: bool = False,
    session_ids: bool = True,
) -> None:
    """Give a server or a client spans and metrics. To be called once: before the server serves and after the author's
    middleware is there, or before the client is connected.

    ``capture_arguments`` and ``capture_results`` put what tools are called with, and what they return, into the spans:
    it may hold secrets. ``session_ids=False`` leaves the ids of sessions out.
    """
    version = str(importlib.import_module("erlmcp").__version__)
    tracer = trace.get_tracer(SCOPE, version, tracer_provider, SCHEMA)
    meter = metrics.get_meter(SCOPE, version, meter_provider, SCHEMA)
    caller = Caller(tracer, meter, capture_arguments, capture_results)
    if not hasattr(target, "middleware"):
        client = getattr(target, "_client", target)  # of one without an event loop of the program's
        client.watching = client.watching or client.watched()
        client.watching.observers.append(caller)
        return
    found = Telemetry(target, tracer, meter, caller, capture_arguments, capture_results, session_ids)
    target.recorder = target.metrics
    target.metrics.observers.append(found)
    target.middleware.insert(0, found.around)
    target.install()
