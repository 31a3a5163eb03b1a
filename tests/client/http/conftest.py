"""The scripted server of these tests (scripted.py) and the houses of the transports' tests (rawpeer.py)."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parents[1] / "transports")]  # after all others: they have a conftest, too
