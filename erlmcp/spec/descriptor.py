"""What older revisions lack in the descriptors of tools, resources and prompts."""

from __future__ import annotations

from typing import Any, Final

# Field -> the first revision that has it (schema of each revision).
_TOOL_FIELDS: Final = {
    "annotations": "2025-03-26",
    "title": "2025-06-18",
    "outputSchema": "2025-06-18",
    "_meta": "2025-06-18",
    "icons": "2025-11-25",
}
_OTHER_FIELDS: Final = {"title": "2025-06-18", "_meta": "2025-06-18", "icons": "2025-11-25"}


def fit_tool(descriptor: dict[str, Any], version: str) -> dict[str, Any]:
    """A tool's descriptor without the fields that ``version`` does not know."""
    return {key: value for key, value in descriptor.items() if _TOOL_FIELDS.get(key, "") <= version}


def fit_other(descriptor: dict[str, Any], version: str) -> dict[str, Any]:
    """The same for a resource, a resource template or a prompt."""
    return {key: value for key, value in descriptor.items() if _OTHER_FIELDS.get(key, "") <= version}


def fit_implementation(info: dict[str, Any], version: str) -> dict[str, Any]:
    """The same for an Implementation (serverInfo)."""
    first = {"title": "2025-06-18", "description": "2025-11-25", "icons": "2025-11-25", "websiteUrl": "2025-11-25"}
    return {key: value for key, value in info.items() if first.get(key, "") <= version}


def has_structured(version: str) -> bool:
    """Whether ``CallToolResult.structuredContent`` exists in this revision."""
    return version >= "2025-06-18"
