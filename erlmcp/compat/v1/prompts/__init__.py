"""Prompts, by the first line's name for the place."""

from __future__ import annotations

from erlmcp.compat.v1.prompts.base import *  # noqa: F403
