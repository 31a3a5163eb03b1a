"""``erlmcp bench server``: our server alone, quickly: HTTP with 1, 16, 64 connections, stdio with 1, 64 in flight."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from erlmcp.bench import peers, result
from erlmcp.bench.process import PEERS


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="erlmcp bench server", description="Measure our server alone.")
    made.add_argument("--transport", choices=("http", "stdio"), help="default: both")
    made.add_argument("--connections", type=peers.numbers, default=[1, 16, 64], metavar="N,N", help="HTTP; 1,16,64")
    made.add_argument("--inflight", type=peers.numbers, default=[1, 64], metavar="N,N", help="stdio; 1,64")
    made.add_argument("--stateful", action="store_true", help="2025-11-25 with sessions and SSE, too")
    made.add_argument("--seconds", type=float, default=0.5, help="of each measurement; default 0.5")
    made.add_argument("--rounds", type=int, default=3, help="default 3")
    made.add_argument("--pin", choices=("apart", "together"), help="bind server and generator to CPUs")
    made.add_argument("--json", metavar="FILE", help="write all results there")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 where the server failed."""
    options = parser().parse_args(argv)
    own = [peer for peer in PEERS if peer.name == "erlmcp"]
    if not options.stateful:
        own = [peers.without(peer, "stateful") for peer in own]
    options.python, options.rate = sys.executable, None
    out, say = sys.stdout, sys.stderr
    print(result.title("server"), file=out, flush=True)
    rows = peers.echo_or_large(options, own, say, suite="echo")
    peers.report(rows, out)
    if options.json:
        found = result.document("server", vars(options), [asdict(row) for row in rows], versions=result.versions())
        result.write(options.json, found)
    return 1 if any(row.error for row in rows) else 0
