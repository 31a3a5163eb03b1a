"""The fixtures of the client's tests; what else they share is in ``ways``, a name that no other folder has."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ways import memory, mode, nothing_left, peer, warm, way

__all__ = ["memory", "mode", "nothing_left", "peer", "warm", "way"]
