"""What this façade has the shape of, and its settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Final

VERSION: Final = "4.1.2"
"""The release of FastMCP whose documents this follows; what a server says to be where it has no version of its own."""

NOT_SET: Final[Any] = ...
"""Stands where an argument was not given and None means something."""


def _flag(name: str) -> bool:
    return os.environ.get(f"FASTMCP_{name}", "").strip().lower() in ("1", "true", "yes", "on")


def _word(name: str, default: str) -> str:
    return os.environ.get(f"FASTMCP_{name}") or default


@dataclass
class Settings:
    """The defaults that FastMCP reads from ``FASTMCP_...``; those that mean something here."""

    log_level: str = field(default_factory=lambda: _word("LOG_LEVEL", "INFO"))
    host: str = field(default_factory=lambda: _word("HOST", "127.0.0.1"))
    port: int = field(default_factory=lambda: int(_word("PORT", "8000")))
    streamable_http_path: str = field(default_factory=lambda: _word("STREAMABLE_HTTP_PATH", "/mcp"))
    transport: str = field(default_factory=lambda: _word("TRANSPORT", "stdio"))
    mask_error_details: bool = field(default_factory=lambda: _flag("MASK_ERROR_DETAILS"))
    strict_input_validation: bool = field(default_factory=lambda: _flag("STRICT_INPUT_VALIDATION"))

    def chosen(self, masks: bool | None, strict: bool | None) -> tuple[bool, bool]:
        """Whether errors are masked and arguments strict: as given, or else as set here."""
        return (
            self.mask_error_details if masks is None else masks,
            self.strict_input_validation if strict is None else strict,
        )


settings: Final = Settings()
