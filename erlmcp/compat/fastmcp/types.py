"""Hints that say how a form should show an argument."""

from __future__ import annotations

from typing import Annotated

from erlmcp.server.param import Param

Textarea = Annotated[str, Param(schema_extra={"format": "textarea"})]
"""A string of several lines."""

__all__ = ["Textarea"]
