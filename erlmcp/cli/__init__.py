"""The command ``erlmcp``.

Exit codes: 0 done, 1 the tool or the server answered with an error, 2 the command was written wrongly, 3 the server's
file or object cannot be loaded, 4 an address cannot be used, a server cannot be reached, or it broke off, 130
interrupted.

Starting must be quick: this module and the parser import nothing heavy, and each command imports what it needs itself.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    from erlmcp.cli.fault import CommandError, describe
    from erlmcp.cli.parser import build_parser

    parser = build_parser()
    options, more = parser.parse_known_args(arguments)
    if more:
        if not hasattr(options, "words") or any(word.startswith("-") for word in more):
            parser.error(f"unrecognized arguments: {' '.join(more)}")
        options.words += more  # argparse takes the words before the first option among them only
    try:
        code: int = importlib.import_module(options.module_of_command).run(options)
        return code
    except CommandError as fault:
        print(f"erlmcp: {fault}", file=sys.stderr)
        return fault.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        if options.traceback:
            raise
        print(f"erlmcp: {describe(error)}", file=sys.stderr)
        return 1
