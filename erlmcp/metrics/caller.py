"""OpenTelemetry spans of who asks: a client, or a server that asks its client something.

A CLIENT span lasts from where a request is made until its answer is there, with the ambient span as its parent; its
context goes with the request, in ``params._meta`` (traceparent, tracestate, baggage), by the propagators that are set.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from erlmcp.metrics import family as f
from erlmcp.metrics.sent import Asked, Where
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

TEXT_CHARS_MAX: Final = 10_000
TARGETS: Final = {m.TOOLS_CALL: f.TOOL, m.PROMPTS_GET: f.PROMPT}
URI_METHODS: Final = frozenset({m.RESOURCES_READ, m.SUBSCRIBE, m.UNSUBSCRIBE})
Attributes = dict[str, Any]


class Caller:
    """The spans and instruments of one who asks."""

    def __init__(self, tracer: Tracer, meter: Meter, capture_arguments: bool, capture_results: bool) -> None:
        self.tracer = tracer
        self.capture_arguments = capture_arguments
        self.capture_results = capture_results
        bounds = list(f.SECONDS_BOUNDS)
        self.operation = meter.create_histogram(
            "mcp.client.operation.duration",
            "s",
            "The duration of the MCP request or notification as observed on the sender from the time it was sent until "
            "the response or ack is received.",
            explicit_bucket_boundaries_advisory=bounds,
        )
        self.session = meter.create_histogram(
            "mcp.client.session.duration",
            "s",
            "The duration of the MCP session as observed on the MCP client.",
            explicit_bucket_boundaries_advisory=bounds,
        )

    def start(self, method: str, name: str | None, params: Any, where: Where, version: str) -> Asked:
        """A request that begins now."""
        asked = Asked(method, name, params, where, version)
        self.begin(asked)
        return asked

    def begin(self, asked: Asked) -> None:
        target = asked.name if asked.method in TARGETS and isinstance(asked.name, str) else None
        attributes = {**self._common(asked), **self._details(asked)}
        name = asked.method if target is None else f"{asked.method} {target}"
        asked.span = self.tracer.start_span(name, None, SpanKind.CLIENT, attributes)
        propagate.inject(asked.meta, trace.set_span_in_context(asked.span))

    def finished(
        self, asked: Asked, outcome: tuple[str, str], result: Any, error: BaseException | None, ns: int
    ) -> None:
        found: Attributes = dict(zip((f.ERROR, f.STATUS), outcome, strict=True))
        found = {name: value for name, value in found.items() if value}
        common = self._common(asked)  # the revision, and who answers, may be known by now only
        span = asked.span
        span.set_attributes({**common, **found})
        if outcome[0]:
            span.set_status(Status(StatusCode.ERROR, None if error is None else str(error)[:TEXT_CHARS_MAX] or None))
        elif self.capture_results and asked.method == m.TOOLS_CALL:
            span.set_attribute(f.RESULT, text_of(result))
        span.end(time.time_ns())
        if outcome[1] in f.CALLER_FAULTS and asked.method in TARGETS:
            common[TARGETS[asked.method]] = f.UNKNOWN  # a name that perhaps nobody has
        self.operation.record(ns / 1e9, {**common, **found})

    def session_ended(self, where: Where, version: str, ns: int) -> None:
        self.session.record(ns / 1e9, {**_server(where), f.VERSION: version})

    def _common(self, asked: Asked) -> Attributes:
        """What spans and metrics share."""
        found: Attributes = {f.METHOD: asked.method, **_server(asked.where)}
        if asked.version:
            found[f.VERSION] = asked.version
        if asked.method in TARGETS and isinstance(asked.name, str):
            found[TARGETS[asked.method]] = asked.name
        if asked.method == m.TOOLS_CALL:
            found[f.GENAI_OPERATION] = f.EXECUTE_TOOL
        return found

    def _details(self, asked: Asked) -> Attributes:
        """What is for spans alone."""
        found: Attributes = {}
        given = asked.params if isinstance(asked.params, dict) else {}
        if asked.method in URI_METHODS and isinstance(given.get("uri"), str):
            found[f.URI] = given["uri"]
        if self.capture_arguments and asked.method == m.TOOLS_CALL:
            found[f.ARGUMENTS] = text_of(given.get("arguments"))
        return found


def _server(where: Where) -> Attributes:
    """The network, and who is asked there."""
    kind, address, port = where
    found = network_of(kind)
    if address:
        found[f.SERVER_ADDRESS] = address
    if port:
        found[f.SERVER_PORT] = int(port)
    return found


def network_of(kind: str) -> Attributes:
    names = (f.TRANSPORT, f.PROTOCOL, f.PROTOCOL_VERSION)
    return {name: value for name, value in zip(names, f.NETWORK[kind], strict=True) if value}


def with_meta(params: Any, extra: dict[str, Any]) -> Any:
    """``params`` with more in their ``_meta``; as they are where they are bytes already."""
    if not extra or not (params is None or isinstance(params, dict)):
        return params
    given = params or {}
    before = given.get("_meta")
    return {**given, "_meta": {**(before if isinstance(before, dict) else {}), **extra}}


def text_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:TEXT_CHARS_MAX]
