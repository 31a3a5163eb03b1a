"""The raw clients of tests/transports/rawpeer.py and the stage of tests/gateway, importable from here."""

from __future__ import annotations

import sys
from pathlib import Path

for room in ("transports", "gateway"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))
