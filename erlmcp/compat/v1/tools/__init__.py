"""Tools, by the first line's name for the place."""

from __future__ import annotations

from erlmcp.compat.sdk.tools import *  # noqa: F403
