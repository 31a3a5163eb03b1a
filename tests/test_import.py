"""What an import costs, checked by what it loads; and that each module can be imported first."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "erlmcp"
# What a module is for, and what no test extra brings.
NEEDS = {"erlmcp.compat.accel.fastmcp": "fastmcp", "erlmcp.compat.accel.around": "fastmcp"}

# Imports each named module in a fork of its own, so that each is the first one, at the cost of one interpreter.
IMPORT_ALONE = """
import importlib, json, os, sys
failed = {}
for name in json.loads(sys.argv[1]):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode()[:2000])
            os._exit(1)
        os._exit(0)
    os.close(write)
    said = b""
    while chunk := os.read(read, 65536):
        said += chunk
    os.close(read)
    if os.waitpid(child, 0)[1]:
        failed[name] = said.decode()
print(json.dumps(failed))
"""


def module_names() -> list[str]:
    names = []
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyx")]):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        # The peers' servers and clients are programs: they are started, not imported, and need packages of their own.
        if parts[-1] != "__main__" and parts[1:3] not in (("bench", "servers"), ("bench", "callers")):
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in names if name not in NEEDS or find_spec(NEEDS[name]) is not None]


def run_python(*arguments: str) -> str:
    # Without the variables by which coverage follows subprocesses: it would load modules of its own there.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_after(statement: str) -> set[str]:
    """The modules that are loaded once ``statement`` has run in a fresh interpreter."""
    return set(json.loads(run_python("-c", f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))")))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("half", [0, 1])
def test_each_module_can_be_imported_first_and_without_a_warning(half: int) -> None:
    failed = json.loads(run_python("-W", "error", "-c", IMPORT_ALONE, json.dumps(module_names()[half::2])))
    assert not failed, "\n".join(["", *(f"{name}: {said}" for name, said in failed.items())])


def test_the_front_door_alone_loads_no_machinery() -> None:
    loaded = loaded_after("import erlmcp")
    assert not loaded & {"asyncio", "pydantic", "mcp_types", "numpy", "ujson", "uvloop", "inspect", "dataclasses"}
    assert not {name for name in loaded if name.startswith("erlmcp._core")}


def test_a_server_loads_nothing_heavy() -> None:
    loaded = loaded_after("from erlmcp import Server\nserver = Server('x')")
    assert not loaded & {"pydantic", "pydantic_core", "mcp_types", "numpy", "starlette", "mcp", "argparse", "tomllib"}


def test_a_server_loads_policies_with_its_first_guard() -> None:
    server = "from erlmcp import Server\nserver = Server('x')\n@server.tool(timeout=3)\ndef f() -> int: return 1\n"
    policies = {f"erlmcp.policy.{name}" for name in ("breaker", "bulkhead", "limiter", "protection", "retry")}
    assert not loaded_after(server) & {*policies, "erlmcp.runtime.guard"}
    guarded = "@server.tool(name='g', timeout='adaptive')\ndef g() -> int: return 1\n"
    assert policies < loaded_after(server + guarded)


def test_a_plain_tool_loads_no_pydantic() -> None:
    loaded = loaded_after(
        "from erlmcp import Server\n@Server('x').tool\ndef add(a: int, b: int = 1) -> int: return a + b"
    )
    assert not loaded & {"pydantic", "mcp_types", "numpy"}


def test_the_command_line_loads_only_what_its_command_needs() -> None:
    loaded = loaded_after("import erlmcp.cli")
    assert not loaded & {"asyncio", "http.client", "pydantic", "numpy", "erlmcp.server", "erlmcp.core"}


def test_every_name_of_the_front_door_can_be_taken() -> None:
    run_python("-W", "error", "-c", "import erlmcp\nfor name in erlmcp.__all__: getattr(erlmcp, name)")


@pytest.mark.parametrize(
    ("door", "names"),
    [
        ("aio", ["Cache", "Pool", "Queue"]),
        ("metrics", ["Recorder", "instrument"]),
        ("sync", ["Pool"]),
        ("stores", ["journal", "snapshot"]),
    ],
)
def test_the_doors_of_the_parts_load_what_is_asked_for(door: str, names: list[str]) -> None:
    module = importlib.import_module(f"erlmcp.{door}")
    for name in names:
        assert getattr(module, name).__name__.rpartition(".")[2] == name
        assert name in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        module.Nothing  # noqa: B018
    loaded = loaded_after(f"import erlmcp.{door}")
    assert not {name for name in loaded if name.startswith((f"erlmcp.{door}.", "erlmcp._core")) or name == "asyncio"}
