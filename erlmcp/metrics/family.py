"""The families of metrics: names, units, labels and buckets.

Names, attributes and buckets of ``mcp.*`` are those of the OpenTelemetry semantic conventions for generative AI
(open-telemetry/semantic-conventions-genai, docs/gen-ai/mcp.md, status Development), written as Prometheus wants them:
dots become underscores and the unit a suffix. Their lowest bucket is 10 ms, so the same durations are given once more
from a microsecond on, as ``erlmcp_*_microseconds``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from erlmcp.errors import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RESOURCE_NOT_FOUND_LEGACY,
)
from erlmcp.spec import method as m

SECONDS_BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
MICROSECONDS_BOUNDS: Final = (
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000,
)  # fmt: skip

# Attributes of the conventions, and the labels that they become.
METHOD: Final = "mcp.method.name"
TOOL: Final = "gen_ai.tool.name"
PROMPT: Final = "gen_ai.prompt.name"
GENAI_OPERATION: Final = "gen_ai.operation.name"
ERROR: Final = "error.type"
STATUS: Final = "rpc.response.status_code"
VERSION: Final = "mcp.protocol.version"
TRANSPORT: Final = "network.transport"
PROTOCOL: Final = "network.protocol.name"
PROTOCOL_VERSION: Final = "network.protocol.version"
SESSION_ID: Final = "mcp.session.id"
URI: Final = "mcp.resource.uri"
REQUEST_ID: Final = "jsonrpc.request.id"
ADDRESS: Final = "client.address"
PORT: Final = "client.port"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ARGUMENTS: Final = "gen_ai.tool.call.arguments"
RESULT: Final = "gen_ai.tool.call.result"
EXECUTE_TOOL: Final = "execute_tool"
TOOL_ERROR: Final = "tool_error"

METHODS: Final = frozenset().union(
    *m.CLIENT_REQUESTS.values(), *m.SERVER_REQUESTS.values(), (m.INITIALIZED, m.CANCELLED, m.PROGRESS, m.ROOTS_CHANGED)
)
# What stands for all names that nobody registered: a label's value must not come from outside.
UNKNOWN: Final = "_unknown"
OTHER_ERROR: Final = "_OTHER"
OTHER_METHOD: Final = "_other"

# kind of transport -> network.transport, network.protocol.name, network.protocol.version ("Recording MCP transport").
NETWORK: Final[dict[str, tuple[str, str, str]]] = {
    "stdio": ("pipe", "", ""),
    "memory": ("", "", ""),
    "tcp": ("tcp", "", ""),
    "unix": ("unix", "", ""),
    "http": ("tcp", "http", "1.1"),
    "http2": ("tcp", "http", "2"),
    "asgi": ("tcp", "http", ""),
    "sse": ("tcp", "http", "1.1"),
}
KINDS: Final = tuple(NETWORK)

# Faults of the caller: the server did its work, so they are no errors of the server.
CALLER_FAULTS: Final = frozenset(
    map(str, (PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, RESOURCE_NOT_FOUND_LEGACY))
)


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which a family's histograms are given: a name, a unit and upper bounds in that unit."""

    name: str
    unit: str
    bounds: tuple[float, ...]

    @property
    def unit_ns(self) -> int:
        return 1_000_000_000 if self.unit == "seconds" else 1_000

    @property
    def bounds_ns(self) -> list[int]:
        return [round(bound * self.unit_ns) for bound in self.bounds]


@dataclass(frozen=True, slots=True)
class Family:
    """Histograms of durations by labels. ``is_windowed``: spans of the last second to the last hour are kept, too."""

    name: str
    help: str
    forms: tuple[Form, ...]
    is_windowed: bool = False


def _seconds(name: str) -> Form:
    return Form(f"{name}_seconds", "seconds", SECONDS_BOUNDS)


def _microseconds(name: str) -> Form:
    return Form(f"{name}_microseconds", "microseconds", MICROSECONDS_BOUNDS)


OPERATION: Final = Family(
    "operation",
    "Duration of requests and notifications as observed by the server, from their begin until the answer is written.",
    (_seconds("mcp_server_operation_duration"), _microseconds("erlmcp_operation_duration")),
    is_windowed=True,
)
SESSION: Final = Family(
    "session", "Duration of sessions as observed by the server.", (_seconds("mcp_server_session_duration"),)
)
POINT: Final = Family(
    "point",
    "Time spent in one room on the way of a message; of the short ones a sample.",
    (_microseconds("erlmcp_point_duration"),),
    is_windowed=True,
)
TRANSPORT_OPERATION: Final = Family(
    "transport",
    "Duration of an operation of a transport, by record_transport_operation.",
    (_microseconds("erlmcp_transport_operation_duration"),),
)
SERVER_OPERATION: Final = Family(
    "server",
    "Duration of an operation of a server, by record_server_operation.",
    (_microseconds("erlmcp_server_operation_duration"),),
)
REGISTRY_OPERATION: Final = Family(
    "registry",
    "Duration of an operation of a registry, by record_registry_operation.",
    (_microseconds("erlmcp_registry_operation_duration"),),
)
UPSTREAM_OPERATION: Final = Family(
    "upstream",
    "Duration of requests to an upstream of a gateway, each attempt, from the begin of its sending until its answer.",
    (_microseconds("erlmcp_upstream_duration"),),
    is_windowed=True,
)
CLIENT_OPERATION: Final = Family(
    "client",
    "Duration of requests as observed by the sender, from their begin until the answer is there.",
    (_seconds("mcp_client_operation_duration"), _microseconds("erlmcp_client_operation_duration")),
    is_windowed=True,
)
CLIENT_SESSION: Final = Family(
    "client session", "Duration of sessions as observed by the client.", (_seconds("mcp_client_session_duration"),)
)
FAMILIES: Final = {
    each.name: each
    for each in (
        OPERATION, SESSION, POINT, TRANSPORT_OPERATION, SERVER_OPERATION, REGISTRY_OPERATION, UPSTREAM_OPERATION,
        CLIENT_OPERATION, CLIENT_SESSION,
    )
}  # fmt: skip

# The points on the way of a message that erlmcp records; docs/metrics.md says of each what lies between its two clocks.
POINTS: Final = (
    "read", "parse", "lookup", "session", "dispatch", "queue", "handler", "upstream", "pool", "encode", "flush"
)  # fmt: skip
