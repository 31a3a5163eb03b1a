"""``erlmcp bench``: hands over to the benchmarks that come with the package."""

from __future__ import annotations

import argparse
import importlib


def run(options: argparse.Namespace) -> int:
    code = importlib.import_module(f"erlmcp.bench.{options.suite}").main(options.rest)
    return int(code or 0)
