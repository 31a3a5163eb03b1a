"""The options of the benchmarks that go over rows by turns: which rows, how many rounds, how long."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

ROUNDS, ROUNDS_QUICK = 7, 3


def add_to(made: argparse.ArgumentParser, kind: str, keys: Iterable[str], of: str, time_s: float) -> None:
    """``kind`` is what the rows are called, ``of`` what ``--time-s`` is the time of, ``time_s`` its default."""
    made.add_argument("--only", metavar=kind.upper(), help=f"of {', '.join(keys)}")
    made.add_argument("--rounds", type=int, help=f"default {ROUNDS}, with --quick {ROUNDS_QUICK}")
    made.add_argument("--time-s", type=float, metavar="S", help=f"of each {of}, over all rounds; default {time_s:g}")
    made.add_argument("--quick", action="store_true", help="few short rounds")
    made.add_argument("--json", metavar="FILE", help="write all results there")


def settle(
    made: argparse.ArgumentParser, options: argparse.Namespace, keys: Iterable[str], time_s: float, quick_time_s: float
) -> set[str]:
    """Fill in the defaults; the keys that are wanted. Ends with usage where one is unknown."""
    options.rounds = options.rounds or (ROUNDS_QUICK if options.quick else ROUNDS)
    options.time_s = options.time_s or (quick_time_s if options.quick else time_s)
    known = list(keys)
    wanted = set(options.only.split(",") if options.only else known)
    if wanted - set(known):
        made.error(f"unknown: {', '.join(sorted(wanted - set(known)))}; expected of {', '.join(known)}")
    return wanted
