"""Which methods exist in which revision, by the sender's role; read off the official schemas."""

from __future__ import annotations

from typing import Final

from erlmcp.spec.version import LEGACY_VERSIONS, MODERN_VERSIONS

INITIALIZE: Final = "initialize"
PING: Final = "ping"
DISCOVER: Final = "server/discover"
TOOLS_LIST: Final = "tools/list"
TOOLS_CALL: Final = "tools/call"
RESOURCES_LIST: Final = "resources/list"
TEMPLATES_LIST: Final = "resources/templates/list"
RESOURCES_READ: Final = "resources/read"
SUBSCRIBE: Final = "resources/subscribe"
UNSUBSCRIBE: Final = "resources/unsubscribe"
PROMPTS_LIST: Final = "prompts/list"
PROMPTS_GET: Final = "prompts/get"
COMPLETE: Final = "completion/complete"
SET_LEVEL: Final = "logging/setLevel"
LISTEN: Final = "subscriptions/listen"

TASK_GET: Final = "tasks/get"
TASK_RESULT: Final = "tasks/result"
TASK_UPDATE: Final = "tasks/update"
TASK_CANCEL: Final = "tasks/cancel"

ROOTS_LIST: Final = "roots/list"
SAMPLE: Final = "sampling/createMessage"
ELICIT: Final = "elicitation/create"

INITIALIZED: Final = "notifications/initialized"
CANCELLED: Final = "notifications/cancelled"
PROGRESS: Final = "notifications/progress"
MESSAGE: Final = "notifications/message"
ROOTS_CHANGED: Final = "notifications/roots/list_changed"
TOOLS_CHANGED: Final = "notifications/tools/list_changed"
PROMPTS_CHANGED: Final = "notifications/prompts/list_changed"
RESOURCES_CHANGED: Final = "notifications/resources/list_changed"
RESOURCE_UPDATED: Final = "notifications/resources/updated"
TASK_STATUS: Final = "notifications/tasks/status"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"

_FEATURES = frozenset(
    {TOOLS_LIST, TOOLS_CALL, RESOURCES_LIST, TEMPLATES_LIST, RESOURCES_READ, PROMPTS_LIST, PROMPTS_GET, COMPLETE}
)
_LEGACY_CLIENT = _FEATURES | {INITIALIZE, PING, SUBSCRIBE, UNSUBSCRIBE, SET_LEVEL}
_MODERN_CLIENT = _FEATURES | {DISCOVER, LISTEN}
_LEGACY_SERVER = frozenset({PING, ROOTS_LIST, SAMPLE})

CLIENT_REQUESTS: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(LEGACY_VERSIONS, frozenset(_LEGACY_CLIENT)),
    # Tasks, which a server has or has not: experimental here, and an extension of 2026-07-28.
    "2025-11-25": frozenset(_LEGACY_CLIENT | {TASK_GET, TASK_RESULT, TASK_CANCEL}),
    **dict.fromkeys(MODERN_VERSIONS, frozenset(_MODERN_CLIENT | {TASK_GET, TASK_UPDATE, TASK_CANCEL})),
}
SERVER_REQUESTS: Final[dict[str, frozenset[str]]] = {
    "2024-11-05": _LEGACY_SERVER,
    "2025-03-26": _LEGACY_SERVER,
    "2025-06-18": _LEGACY_SERVER | {ELICIT},
    "2025-11-25": _LEGACY_SERVER | {ELICIT},
    **dict.fromkeys(MODERN_VERSIONS, frozenset()),
}
# Who asks these wants to know whether the other end lives: they wait behind nothing else.
PROBES: Final = frozenset({PING, DISCOVER})
# params key that names what a method is about, and that Mcp-Name repeats over HTTP.
NAME_KEYS: Final = {
    TOOLS_CALL: "name",
    PROMPTS_GET: "name",
    RESOURCES_READ: "uri",
    TASK_GET: "taskId",
    TASK_UPDATE: "taskId",
    TASK_CANCEL: "taskId",
}
# Requests that may be answered with resultType "input_required" (2026-07-28, MRTR).
MULTI_ROUND: Final = frozenset({TOOLS_CALL, PROMPTS_GET, RESOURCES_READ})
# What a client may ask before the handshake is over, and the capability each server request needs of the client.
BEFORE_READY: Final = frozenset({INITIALIZE, PING})
NEEDED_CAPABILITY: Final = {SAMPLE: "sampling", ELICIT: "elicitation", ROOTS_LIST: "roots"}
