"""``erlmcp ping``: whether a server answers, what it is, and how long it takes."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from erlmcp.cli.dial import dial
from erlmcp.cli.fault import CommandError
from erlmcp.cli.target import read_target

if TYPE_CHECKING:
    from erlmcp.client.client import Client


def run(options: argparse.Namespace) -> int:
    target, words = read_target(options, options.words)
    if words:
        raise CommandError(f"ping takes a server and nothing else, got {' '.join(words)}")
    if options.repeat is None and options.concurrency is None:

        async def once(client: Client, connect_s: float) -> int:
            started = time.perf_counter()
            await client.ping()
            show(client, connect_s * 1e3, (time.perf_counter() - started) * 1e3, as_json=options.json)
            return 0

        return dial(options, target, once)
    from erlmcp.cli.loadtest import attack

    async def one(client: Client) -> None:
        await client.ping()

    return attack(options, target, "ping", one)


def show(client: Client, connect_ms: float, ping_ms: float, *, as_json: bool) -> None:
    info, version = client.server_info, client.protocol_version
    if as_json:
        found = {"server": info, "protocol": version, "connect_ms": round(connect_ms, 3), "ping_ms": round(ping_ms, 3)}
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        name = f"{info.get('name', client.name)} {info.get('version', '')}".rstrip()
        print(f"{name} answers in {ping_ms:.2f} ms: protocol {version}, connected in {connect_ms:.1f} ms")
