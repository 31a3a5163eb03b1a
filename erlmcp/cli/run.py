"""``erlmcp run``: serve over stdin and stdout."""

from __future__ import annotations

import argparse
import contextlib
import sys

from erlmcp.cli.load import load_server
from erlmcp.cli.setting import apply_limits, show_metrics, start_logging


def run(options: argparse.Namespace) -> int:
    apply_limits(options.limit)
    start_logging(options.log_level, options.log_format)
    # stdout belongs to the protocol: what the file prints while it is imported goes to stderr.
    with contextlib.redirect_stdout(sys.stderr):
        server = load_server(options.target, options.module, keep_traceback=options.traceback)
    show_metrics(server, options)
    server.run_stdio()
    return 0
