"""Where an answer of ours is not the SDK's own, and why. Each is looked for: one that no longer holds fails a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """``asked`` is how a line of the corpus begins; ``same`` is what of the two answers must be equal all the same."""

    corpus: str
    asked: str
    eras: tuple[str, ...]
    same: str  # "code": both are errors of one code; "error": both are errors; "": nothing
    why: str


OLD = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = ("2026-07-28",)
ALL = OLD + MODERN
UNKNOWN = "a method that the revision does not have is refused before the app is asked: the text names it, not data"
META = "what a request says of itself is judged before the app is asked: the text says what is wrong with it"
MISSAID = (
    'logs", "arguments": {"text": "no level"}',
    'goes_on", "arguments": {"steps": 1}, "_meta": {"progressToken": 1.5}',
)
DIFFERENCES: tuple[Difference, ...] = (
    Difference("*", "server/discover", OLD, "code", UNKNOWN),
    Difference("*", "resources/subscribe", MODERN, "code", UNKNOWN),
    Difference("*", "resources/unsubscribe", MODERN, "code", UNKNOWN),
    Difference("*", "logging/setLevel", MODERN, "code", UNKNOWN),
    Difference("*", "ping", MODERN, "code", UNKNOWN),
    Difference("*", "no/such", ALL, "code", UNKNOWN),
    *(Difference("*", f'tools/call {{"name": "{asked}', MODERN, "code", META) for asked in MISSAID),
    Difference(
        "fast_told",
        'tools/call {"name": "rounds"',
        OLD,
        "error",
        "FastMCP has words and a code of its own for a question that the revision has no result for",
    ),
    Difference(
        "sdk_values",
        'tools/call {"name": "text_liar", "arguments": {"what": "surrogate"}}',
        ALL,
        "",
        "half a character has no UTF-8: ours answers -32603, the SDK's stdio breaks when it writes it",
    ),
)


def excused(difference: Difference, stock: list[dict[str, Any]], ours: list[dict[str, Any]]) -> bool:
    """Whether two answers differ as it says, and not further."""
    errors = [messages[-1].get("error") if messages else None for messages in (stock, ours)]
    if difference.same == "code":
        return all(errors) and errors[0]["code"] == errors[1]["code"]
    return all(errors) if difference.same == "error" else True
