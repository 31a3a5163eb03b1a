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
DIFFERENCES: tuple[Difference, ...] = (
    Difference("*", "server/discover", OLD, "code", UNKNOWN),
    Difference("*", "resources/subscribe", MODERN, "code", UNKNOWN),
    Difference("*", "resources/unsubscribe", MODERN, "code", UNKNOWN),
    Difference("*", "logging/setLevel", MODERN, "code", UNKNOWN),
    Difference("*", "ping", MODERN, "code", UNKNOWN),
    Difference("*", "no/such", ALL, "code", UNKNOWN),
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
    errors = [messages[-1].get("error") for messages in (stock, ours)]
    if difference.same == "code":
        return all(errors) and errors[0]["code"] == errors[1]["code"]
    return all(errors) if difference.same == "error" else True
