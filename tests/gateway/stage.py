"""Gateways with something behind them, and clients in front: what the tests of the gateway share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "client"))

from shop import build as build_shop  # noqa: E402

from erlmcp import Client, Server  # noqa: E402
from erlmcp.gateway.app import Gateway  # noqa: E402
from erlmcp.gateway.config import UpstreamConfig  # noqa: E402
from erlmcp.gateway.serve import http as gateway_http  # noqa: E402
from erlmcp.server.serve import http as server_http  # noqa: E402

WAIT_S = 10.0
MODES = {"legacy": "legacy", "modern": "2026-07-28"}


__all__ = ["MODES", "Setting", "behind", "build_shop", "in_front", "nothing_is_left", "stdio_config", "until"]


@dataclass
class Setting:
    """``client`` in front of ``gateway``, with ``server`` behind it (None where that is a process)."""

    client: Client
    gateway: Gateway
    server: Any


def stdio_config(name: str, *words: str, **options: Any) -> UpstreamConfig:
    """A program of this interpreter, with this checkout on its path."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return UpstreamConfig(name, "stdio", command=(sys.executable, *words), env={"PYTHONPATH": path}, **options)


def shop_config(**options: Any) -> UpstreamConfig:
    return stdio_config("shop", "-m", "erlmcp", "run", str(HERE.parent / "client/shop.py"), **options)


@contextlib.asynccontextmanager
async def behind(server: Server, way: str, **options: Any) -> AsyncIterator[UpstreamConfig]:
    """The upstream that a server is, in this process or over HTTP."""
    options = {"prefix": "shop_", "restart_s": 0.01, **options}
    if way == "memory":
        yield UpstreamConfig("shop", "server", target=server, **options)
    elif way == "stdio":
        yield shop_config(**options)
    else:
        async with server_http(server) as listener:
            yield UpstreamConfig("shop", "http", url=f"http://127.0.0.1:{listener.port}/mcp", **options)


@contextlib.asynccontextmanager
async def in_front(gateway: Gateway, over: str, **options: Any) -> AsyncIterator[Client]:
    """A client of the gateway, in this process or over HTTP."""
    if over == "memory":
        async with Client(gateway, **options) as client:
            yield client
    else:
        async with (
            gateway_http(gateway, port=0) as listener,
            Client(f"http://127.0.0.1:{listener.port}/mcp", **options) as client,
        ):
            yield client


async def nothing_is_left(gateway: Gateway) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    assert not gateway.upstreams
    assert not len(gateway.followers)
    assert not len(gateway.service.rounds)
    assert not gateway.service.asking
    assert not len(gateway.hub)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what becomes true by itself."""
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.005)
