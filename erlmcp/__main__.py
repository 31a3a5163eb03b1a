"""``python -m erlmcp`` is the same as the command ``erlmcp``."""

from __future__ import annotations

import sys

from erlmcp.cli import main

if __name__ == "__main__":
    sys.exit(main())
