"""The settings that ``run`` and ``serve`` share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from erlmcp.cli.fault import CommandError, nearest
from erlmcp.errors import ConfigurationError
from erlmcp.limits import Limits

if TYPE_CHECKING:
    import argparse

    from erlmcp.server.app import Server


def apply_limits(pairs: Iterable[str]) -> None:
    """Put ``NAME=VALUE`` into the environment, where a Server reads its limits; a server's own ``limits=`` stands
    above."""
    names = [field.name for field in fields(Limits)]
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise CommandError(f"--limit {pair}: expected NAME=VALUE, for instance body_bytes_max=1048576")
        if name not in names:
            raise CommandError(f"--limit {pair}: no limit is called {name}; {nearest(name, names)}")
        os.environ["ERLMCP_" + name.upper()] = value
    try:
        Limits.load()
    except ConfigurationError as error:
        raise CommandError(str(error)) from None


def start_logging(level: str, form: str) -> None:
    """Log to stderr, one line a record."""
    from erlmcp.metrics.log import setup
    from erlmcp.server.observe import tell_requests

    setup(level, form)
    tell_requests()


def show_metrics(server: Server, options: argparse.Namespace) -> None:
    """Have a server show its metrics where the options say, besides."""
    if options.metrics_port is not None:
        server.metrics_address = options.metrics_address, options.metrics_port
