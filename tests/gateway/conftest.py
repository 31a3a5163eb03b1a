"""The stage of the gateway's tests, and a setting on it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stage import MODES, Setting, behind, build_shop, in_front, nothing_is_left

from erlmcp.gateway.app import Gateway
from erlmcp.gateway.config import GatewayConfig


@pytest.fixture
def through() -> Callable[..., contextlib.AbstractAsyncContextManager[Setting]]:
    """``async with through(down, up, way, over) as setting``: eras, ``way`` (memory, stdio, http) and ``over``."""

    @contextlib.asynccontextmanager
    async def open_setting(
        down: str = "modern",
        up: str = "modern",
        way: str = "memory",
        over: str = "memory",
        *,
        config: dict[str, Any] | None = None,
        upstream: dict[str, Any] | None = None,
        **options: Any,
    ) -> AsyncIterator[Setting]:
        server = build_shop()
        async with behind(server, way, mode=MODES[up], **(upstream or {})) as made:
            gateway = Gateway(replace(GatewayConfig((made,)), **(config or {})))
            async with in_front(gateway, over, mode=MODES[down], **options) as client:
                yield Setting(client, gateway, None if way == "stdio" else server)
        await nothing_is_left(gateway)

    return open_setting
