"""What stands where a running server has its executor and its lanes."""

from __future__ import annotations

from typing import Any

from erlmcp.errors import ConfigurationError


def not_running() -> ConfigurationError:
    return ConfigurationError("the server is not running; use async with server.running(), or one of the run_ methods")


class _Stopped:
    def __getattr__(self, name: str) -> Any:
        raise not_running()


STOPPED: Any = _Stopped()
