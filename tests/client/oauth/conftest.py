"""The realm of these tests (realm.py): an MCP server, and an authorization server for it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # after all others: they have a conftest, too
