"""Messages of prompts, by the first line's name for the place."""

from __future__ import annotations

from erlmcp.compat.sdk.prompts.base import *  # noqa: F403
