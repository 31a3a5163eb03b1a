"""The public names of the first line, as an interpreter that has it tells them, are those of the façade."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from typing import Any

import pytest

from erlmcp.compat.v1 import Context, FastMCP
from erlmcp.compat.v1.server import Settings

pytestmark = pytest.mark.interop
PROGRAM = """
import inspect, json
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.server import Settings
from pydantic import BaseModel
def surface(cls):
    found = {}
    for name, member in inspect.getmembers(cls):
        if (not name.startswith("_") or name == "__init__") and name not in dir(BaseModel):
            found[name] = list(inspect.signature(member).parameters) if callable(member) else None
    return found
print(json.dumps({
    "server": {**surface(FastMCP), "__init__": list(inspect.signature(FastMCP.__init__).parameters)},
    "context": surface(Context),
    "settings": sorted(Settings.model_fields),
}))
"""


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    python = os.environ.get("ERLMCP_MCP1_PYTHON")
    if not python:
        pytest.skip("ERLMCP_MCP1_PYTHON is not set: no interpreter that has mcp 1.x")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    told = subprocess.run(
        [python, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment
    )
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def test_the_server_has_each_method_with_its_parameters(theirs: dict[str, Any]) -> None:
    for name, parameters in theirs["server"].items():
        assert hasattr(FastMCP, name), name
        if parameters is not None and name != "__init__":
            own = list(inspect.signature(getattr(FastMCP, name)).parameters)
            assert own[: len(parameters)] == parameters, name


def test_the_constructor_takes_each_argument(theirs: dict[str, Any]) -> None:
    own = set(inspect.signature(FastMCP.__init__).parameters) | set(Settings.__dataclass_fields__)
    assert set(theirs["server"]["__init__"]) <= own


def test_the_context_has_each_name_and_the_settings_each_field(theirs: dict[str, Any]) -> None:
    assert theirs["context"].keys() <= set(dir(Context))
    assert theirs["settings"] == sorted(Settings.__dataclass_fields__)
