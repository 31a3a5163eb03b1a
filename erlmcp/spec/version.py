"""Protocol revisions and their eras (spec: basic/versioning)."""

from __future__ import annotations

from typing import Final

LEGACY_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSIONS: Final = ("2026-07-28",)
KNOWN_VERSIONS: Final = LEGACY_VERSIONS + MODERN_VERSIONS
LATEST_LEGACY: Final = LEGACY_VERSIONS[-1]
LATEST_MODERN: Final = MODERN_VERSIONS[-1]
BATCH_VERSION: Final = "2025-03-26"

MODERN: Final = "modern"
LEGACY: Final = "legacy"


def negotiate(requested: str) -> str:
    """The version an ``initialize`` is answered with: the requested one where it is spoken, else the newest of its
    era."""
    return requested if requested in LEGACY_VERSIONS else LATEST_LEGACY
