"""Tools that the servers of both lines of the official Python SDK have."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Count(BaseModel):
    count: int


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def weather(city: str) -> dict[str, str]:
    return {"city": city, "sky": "clear"}


def fail() -> str:
    raise ValueError("broken")


def register(server: Any) -> None:
    for each in (add, weather, fail):
        server.tool()(each)
