"""Every core test runs twice: against the compiled room ([core]) and against its twin ([model])."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("default")


@pytest.fixture(params=["core", "model"])
def impl(request: pytest.FixtureRequest) -> Callable[[str], ModuleType]:
    """``impl("table")`` is the room ``table``, compiled or in plain Python."""

    def load(room: str) -> ModuleType:
        return importlib.import_module(f"erlmcp._{request.param}.{room}")

    return load
