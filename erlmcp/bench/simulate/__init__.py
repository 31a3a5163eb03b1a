"""Trouble in simulated time, with the policies against it and without them.

    python -m erlmcp bench simulate --plots docs/

Prints the figures of merit of each scenario, and writes its picture. It takes a second or two, needs no network, and
comes out the same each time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from erlmcp.bench.simulate.plot import plot
from erlmcp.bench.simulate.scenario import BY_KEY, Result, run
from erlmcp.bench.table import write


def row(result: Result) -> list[str]:
    """The figures of one scenario, as words."""
    found = result.figures

    def seconds(value: int | None) -> str:
        return "never" if value is None else f"{value} s"

    return [
        found.key,
        f"{100 * found.goodput:.0f} %",
        f"{100 * found.goodput_bare:.0f} %",
        f"{100 * found.avoided:.0f} %",
        f"{found.in_vain_s:,.0f}",
        f"{found.in_vain_bare_s:,.0f}",
        seconds(found.recovery_s),
        seconds(found.recovery_bare_s),
    ]


HEADS = ["scenario", "goodput", "without", "avoided", "in vain s", "without", "recovery", "without"]


NOTES = (
    "goodput: of what a perfect caller would get; avoided: of the seconds held in vain without protection",
    "recovery: after the trouble, until nine tenths of the usual goodput for three seconds on end",
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="erlmcp bench simulate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(BY_KEY)}; several with commas")
    parser.add_argument("--plots", metavar="FOLDER", type=Path, help="write simulate-NAME.svg there")
    options = parser.parse_args(argv)
    wanted = list(BY_KEY) if options.only is None else options.only.split(",")
    unknown = [name for name in wanted if name not in BY_KEY]
    if unknown:
        parser.error(f"unknown scenario {unknown[0]!r}; expected of {', '.join(BY_KEY)}")
    results = [run(BY_KEY[name]) for name in wanted]
    write(sys.stdout, "trouble in simulated time", HEADS, [row(each) for each in results], NOTES)
    if options.plots is not None:
        for each in results:
            path = options.plots / f"simulate-{each.scenario.key}.svg"
            path.write_text(plot(each), encoding="utf-8")
            print(f"wrote {path}")
    return 0
