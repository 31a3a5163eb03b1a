"""What a tool returns besides data, by the SDK's name for the place."""

from __future__ import annotations

from erlmcp.compat.sdk.convert import Audio as Audio
from erlmcp.compat.sdk.convert import Image as Image
