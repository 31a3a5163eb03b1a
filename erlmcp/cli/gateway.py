"""``erlmcp gateway``: one endpoint in front of many servers."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from erlmcp.cli.control import ask
from erlmcp.cli.fault import CANNOT_LOAD, TOOL_FAILED, CommandError
from erlmcp.cli.load import load_server
from erlmcp.cli.paint import paint
from erlmcp.cli.serve import check_http, control_path, explain, make_tls
from erlmcp.cli.setting import apply_limits, show_metrics, start_logging
from erlmcp.gateway.config import GatewayConfig, shown
from erlmcp.gateway.load import load
from erlmcp.gateway.problem import ConfigError

if TYPE_CHECKING:
    from erlmcp.gateway.app import Gateway

CHECK, STATUS = "check", "status"
COLOURS = {"up": "green", "down": "red", "starting": "cyan", "idle": "dim"}


def run(options: argparse.Namespace) -> int:
    if options.words == [STATUS]:
        return show_status(options)
    check_http(options, "--stdio" if options.stdio else None)
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
        counts = f"{len(config.upstreams)} servers, {len(config.keys)} keys"
        if config.oauth is not None:
            count = len(config.oauth.auth.issuers)
            counts += f", tokens of {count} issuer{'s' if count > 1 else ''}"
        print(f"{', '.join(config.files)}: {counts}, no mistakes")
        return 0
    start_logging(options.log_level, options.log_format)
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.reload import Watcher

    never = float("inf")
    watcher = Watcher(lambda: load(files), **({"poll_s": never} if options.no_watch else {}))
    gateway = Gateway(config, load_server=lambda target: load_server(target, None), watcher=watcher)
    if options.control:
        gateway.control_path = control_path(options.control)
        print(f"erlmcp: control socket {gateway.control_path}", file=sys.stderr, flush=True)
    serve(gateway, options)
    return 0


def show_status(options: argparse.Namespace) -> int:
    """The upstreams of a gateway that runs. 1 where one of them is down."""
    if not options.control:
        raise CommandError("gateway status needs --control PATH, of a gateway started with --control PATH")
    found = ask(options.control, "gateway/status")["upstreams"]
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for each in found:
            print(status_line(each))
    return TOOL_FAILED if any(each["state"] == "down" for each in found) else 0


def status_line(status: dict[str, Any]) -> str:
    """One upstream: its state, and what it offers or why it does not."""
    line = f"{status['name']:<20} {paint(status['state'].ljust(8), COLOURS.get(status['state'], 'dim'))}"
    if status["state"] == "up":
        counts = ", ".join(f"{status[kind]} {kind}s" for kind in ("tool", "prompt", "resource", "template"))
        line += f" {status['version']}, {counts}, {status['inflight']} in flight, started {status['starts']} times"
    elif "why" in status:
        line += f" {status['why']}"
    if "next_try" in status:
        line += f"; next try in {max(0.0, status['next_try'] - time.time()):.1f} s"
    return line


def read(files: list[str]) -> GatewayConfig:
    """Raises CommandError with all that is wrong, a line for each."""
    try:
        return load(files)
    except ConfigError as error:
        lines = "\n".join(f"  {each}" for each in sorted(error.problems, key=lambda each: (each.file, each.line)))
        count = len(error.problems)
        raise CommandError(
            f"{count} mistake{'s' if count > 1 else ''} in the configuration\n{lines}", CANNOT_LOAD
        ) from None


def serve(gateway: Gateway, options: argparse.Namespace) -> None:
    """Until it is stopped. Raises CommandError where the address cannot be had."""
    from erlmcp.gateway.serve import run_http

    show_metrics(gateway, options)
    if options.stdio:
        gateway.run_stdio()
        return
    try:
        tls = make_tls(options)
        run_http(gateway, options.host, options.port, options.path, tls=tls, http2=options.http2)
    except OSError as error:
        host = options.host or gateway.config.host
        port = gateway.config.port if options.port is None else options.port
        raise explain(error, f"{host}:{port}", "--port") from error
