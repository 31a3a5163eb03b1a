"""``erlmcp bench``: hands over to the benchmarks that come with the package."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys


def run(options: argparse.Namespace) -> int:
    # What is measured runs in processes of its own: who ends this one ends them, too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    code = importlib.import_module(f"erlmcp.bench.{options.suite}").main(options.rest)
    return int(code or 0)
