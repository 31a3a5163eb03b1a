"""``erlmcp gateway``: one endpoint in front of many servers."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from erlmcp.cli.fault import CANNOT_LOAD, CommandError
from erlmcp.cli.load import load_server
from erlmcp.cli.serve import explain
from erlmcp.cli.setting import apply_limits, start_logging
from erlmcp.gateway.config import GatewayConfig, shown
from erlmcp.gateway.load import load
from erlmcp.gateway.problem import ConfigError

if TYPE_CHECKING:
    from erlmcp.gateway.app import Gateway

CHECK = "check"


def run(options: argparse.Namespace) -> int:
    is_check = bool(options.words) and options.words[0] == CHECK
    files = options.words[1:] if is_check else options.words
    apply_limits(options.limit)
    config = read(files)
    if options.print_config:
        print(json.dumps(shown(config), indent=2, ensure_ascii=False))
        return 0
    for note in config.notes:
        print(f"erlmcp: {note}", file=sys.stderr)
    if is_check:
        print(f"{', '.join(config.files)}: {len(config.upstreams)} servers, {len(config.keys)} keys, no mistakes")
        return 0
    start_logging(options.log_level)
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.reload import Watcher

    never = float("inf")
    watcher = Watcher(lambda: load(files), **({"poll_s": never} if options.no_watch else {}))
    serve(Gateway(config, load_server=lambda target: load_server(target, None), watcher=watcher), options)
    return 0


def read(files: list[str]) -> GatewayConfig:
    """Raises CommandError with all that is wrong, a line for each."""
    try:
        return load(files)
    except ConfigError as error:
        lines = "\n".join(f"  {problem}" for problem in error.problems)
        count = len(error.problems)
        raise CommandError(
            f"{count} mistake{'s' if count > 1 else ''} in the configuration\n{lines}", CANNOT_LOAD
        ) from None


def serve(gateway: Gateway, options: argparse.Namespace) -> None:
    """Until it is stopped. Raises CommandError where the address cannot be had."""
    from erlmcp.gateway.serve import run_http

    if options.stdio:
        gateway.run_stdio()
        return
    try:
        run_http(gateway, options.host, options.port, options.path)
    except OSError as error:
        host = options.host or gateway.config.host
        port = gateway.config.port if options.port is None else options.port
        raise explain(error, f"{host}:{port}", "--port") from error
