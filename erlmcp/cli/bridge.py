"""``erlmcp bridge``: one server on another transport."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Final

from erlmcp.cli.fault import CommandError
from erlmcp.cli.gateway import serve
from erlmcp.cli.load import load_server
from erlmcp.cli.serve import check_http
from erlmcp.cli.setting import apply_limits, start_logging
from erlmcp.cli.target import read_entry, read_headers

FAR: Final = ("http://", "https://")


def run(options: argparse.Namespace) -> int:
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.config import GatewayConfig

    apply_limits(options.limit)
    upstream = upstream_of(options.words, read_headers(options.header), read_pairs(options.env))
    options.stdio = options.stdio or (upstream.kind == "http" and not options.http)
    check_http(options, "--stdio" if options.stdio else None)
    level = "warning" if options.stdio and options.log_level == "info" else options.log_level
    start_logging(level, options.log_format)
    config = GatewayConfig((upstream,), name="bridge")
    serve(Gateway(config, load_server=lambda target: load_server(target, None)), options)
    return 0


def upstream_of(words: Sequence[str], headers: dict[str, str], env: dict[str, str]) -> Any:
    """The one server behind a bridge. Raises CommandError."""
    first = words[0]
    fields: dict[str, Any]
    if first.startswith(FAR):
        fields = {"kind": "http", "url": first, "headers": headers}
    elif first.startswith("tcp://"):
        fields = {"kind": "tcp", "address": first.removeprefix("tcp://").rstrip("/")}
    elif first.startswith("unix:"):
        fields = {"kind": "unix", "address": first.removeprefix("unix:")}
    elif len(words) == 1 and (first.endswith(".json") or ".json#" in first):
        file, _, name = first.partition("#")
        fields = fields_of(read_entry(file, name), headers, env)
    elif len(words) == 1 and first.partition(":")[0].endswith(".py"):
        fields = {"kind": "server", "target": first}
    else:
        fields = {"kind": "stdio", "command": tuple(words), "env": env, "inherit_env": True}
    if len(words) > 1 and fields["kind"] != "stdio":
        raise CommandError(f"{words[1]}: a bridge leads to one server; for several there is erlmcp gateway")
    if headers and fields["kind"] != "http":
        raise CommandError("--header is for a URL; a program takes --env NAME=VALUE")
    if env and fields["kind"] != "stdio":
        raise CommandError("--env is for a program; a URL takes --header NAME:VALUE")
    from erlmcp.gateway.config import UpstreamConfig

    return UpstreamConfig("bridge", **fields)


def fields_of(entry: Mapping[str, Any], headers: dict[str, str], env: dict[str, str]) -> dict[str, Any]:
    if isinstance(entry.get("url"), str):
        return {"kind": "http", "url": entry["url"], "headers": {**entry.get("headers", {}), **headers}}
    if isinstance(entry.get("command"), str):
        command = (entry["command"], *entry.get("args", ()))
        return {"kind": "stdio", "command": command, "env": {**entry.get("env", {}), **env}, "cwd": entry.get("cwd")}
    raise CommandError(f"the entry has neither 'command' nor 'url', but {', '.join(sorted(entry)) or 'nothing'}")


def read_pairs(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CommandError(f"--env {pair}: expected NAME=VALUE")
        found[name] = value
    return found
