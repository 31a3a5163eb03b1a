"""Loggers below ``fastmcp``."""

from __future__ import annotations

import logging


def get_logger(name: str) -> logging.Logger:
    """The logger of that name below ``fastmcp``."""
    return logging.getLogger(name if name == "fastmcp" or name.startswith("fastmcp.") else f"fastmcp.{name}")
