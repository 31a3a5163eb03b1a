"""The rules of direction of docs/rooms.md, read from every import, from-import and cimport in .py, .pyx and .pxd.

Type-only and function-level imports count: a name that is only borrowed for a hint still ties two rooms together.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "erlmcp"

# Imports point down: a room may import rooms of lower floors and itself.
FLOORS = {
    "errors": 0,
    "limits": 1,
    "flags": 1,
    "_core": 1,
    "_model": 1,
    "core": 2,
    "spec": 3,
    "wire": 4,
    "policy": 4,
    "runtime": 5,
    "transports": 5,
    "metrics": 5,
    "dashboard": 5,
    "stores": 5,
    "auth": 5,
    "aio": 5,
    "server": 6,
    "client": 6,
    "protect": 6,
    "gateway": 7,
    "compat": 7,
    "sync": 7,
    "__init__": 8,
    "bench": 9,
    "cli": 10,
    "__main__": 11,
}
# Edges that the floors allow and the plan forbids.
FORBIDDEN = {("transports", "policy")}
# Edges between rooms of one floor that the plan allows, each with its reason.
ALLOWED: dict[tuple[str, str], str] = {
    ("transports", "runtime"): "a transport feeds the driver; the driver never imports a transport",
    ("aio", "runtime"): "the awaiting face of the thread pool that runs a server's ordinary functions; there is one",
    ("auth", "runtime"): "the endpoint that asks who comes is an endpoint; the other one knows no keeper",
    ("dashboard", "metrics"): "a page of what was recorded; the recorder does not know that there is one",
}
# Only these import the compiled rooms or their twins; tests and asv_benchmarks are not part of the package.
STAIR = {"core", "_core", "_model"}
# Compiled rooms above floor 0, which may cimport the C faces: they call user code, or measure as an embedder would.
COMPILED_ABOVE = {
    "runtime/stride.pyx",
    "runtime/stride.pxd",
    "runtime/stride_http.pyx",
    "runtime/stride_http.pxd",
    "transports/intake.pyx",
    "runtime/entry.pyx",
    "runtime/entry.pxd",
    "runtime/deadline.pyx",
    "runtime/deadline.pxd",
    "runtime/watch.pyx",
    "runtime/watch.pxd",
    "client/ask.pyx",
    "runtime/fence.pyx",
    "runtime/fence.pxd",
    "bench/loop.pyx",
    "bench/load.pyx",
    "bench/fixed.pyx",
}
# Rooms that take clock, randomness and bytes as arguments.
PURE = {"errors", "limits", "flags", "_core", "_model", "core", "spec", "wire", "policy"}
IMPURE_MODULES = {"asyncio", "socket", "time", "random", "secrets", "threading", "selectors", "ssl", "uvloop"}
# What the compiled rooms may cimport besides each other.
CIMPORTS = {"libc", "cpython", "posix", "cython"}
# ... and import: constants of the interpreter; numpy within functions that give arrays. Nothing that acts.
CORE_IMPORTS = {"__future__", "sys", "numpy"}
KEEPERS = {"registry", "sessions", "correlation", "cache", "pool", "batch", "gate", "meter"}
TONGUES = {"frame", "jsonrpc", "json", "http1"}


@dataclass(frozen=True)
class Edge:
    """One import: ``source`` is a path below the package, ``target`` a dotted name."""

    source: str
    line: int
    target: str
    is_cimport: bool

    def __str__(self) -> str:
        return f"erlmcp/{self.source}:{self.line} {'cimports' if self.is_cimport else 'imports'} {self.target}"

    @property
    def room(self) -> str:
        return room_of_path(self.source)

    @property
    def target_room(self) -> str | None:
        """The room of this package that is imported; None where the target is another package."""
        parts = self.target.split(".")
        if parts[0] != "erlmcp":
            return None
        return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


def room_of_path(path: str) -> str:
    head = path.split("/")[0]
    return head.removesuffix(".py") if head.endswith(".py") else head


def dotted(path: Path) -> str:
    """``erlmcp/wire/events.py`` -> ``erlmcp.wire.events``; a package's ``__init__`` is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_python(path: Path, text: str) -> Iterator[tuple[int, str, bool]]:
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, False
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base]) if base else ".".join(up)
            yield from ((node.lineno, f"{base}.{alias.name}", False) for alias in node.names)


CYTHON_FROM = re.compile(r"^\s*from\s+([\w.]+)\s+(c?import)\s+(\(?)(.*)$")
CYTHON_PLAIN = re.compile(r"^\s*(c?import)\s+(.+)$")


def read_cython(path: Path, text: str) -> Iterator[tuple[int, str, bool]]:
    package = dotted(path).rpartition(".")[0]
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if match := CYTHON_FROM.match(line):
            base, verb, bracket, names = match.groups()
            if bracket:
                rest = iter(lines[number:])
                while ")" not in names:
                    names += " " + next(rest)
            if base.startswith("."):
                base = package + (base if base != "." else "")
            for name in re.findall(r"(\w+)(?:\s+as\s+\w+)?\s*(?:,|$|\))", names.split("#")[0]):
                yield number, f"{base}.{name}", verb == "cimport"
        elif match := CYTHON_PLAIN.match(line):
            for name in match.group(2).split("#")[0].split(","):
                yield number, name.split(" as ")[0].strip(), match.group(1) == "cimport"


@cache
def edges() -> tuple[Edge, ...]:
    found = []
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix not in (".py", ".pyx", ".pxd"):
            continue
        reader = read_python if path.suffix == ".py" else read_cython
        source = path.relative_to(PACKAGE).as_posix()
        found += [Edge(source, *item) for item in reader(path, path.read_text(encoding="utf-8"))]
    return tuple(found)


def complain(broken: list[str]) -> None:
    assert not broken, "\n".join(["", *broken])


def test_the_reader_sees_every_kind_of_import() -> None:
    python = "import asyncio, os\nfrom . import wire\nfrom ..errors import McpError as M\ndef f():\n    import time\n"
    cython = "from libc.string cimport memcpy, memmove\nfrom .buffer cimport (\n    a,\n    b,\n)\n"
    cython += "cimport cython\nimport time\n"
    seen = [target for _, target, _ in read_python(PACKAGE / "runtime/router.py", python)]
    assert sorted(seen) == ["asyncio", "erlmcp.errors.McpError", "erlmcp.runtime.wire", "os", "time"]
    assert [(line, target, c) for line, target, c in read_cython(PACKAGE / "_core/frame.pyx", cython)] == [
        (1, "libc.string.memcpy", True),
        (1, "libc.string.memmove", True),
        (2, "erlmcp._core.buffer.a", True),
        (2, "erlmcp._core.buffer.b", True),
        (6, "cython", True),
        (7, "time", False),
    ]


def test_imports_are_read_at_all() -> None:
    assert len(edges()) > 50
    assert any(edge.is_cimport for edge in edges())


def test_every_room_has_a_floor() -> None:
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".pxd", ".pyi")]
    rooms = {room_of_path(path.relative_to(PACKAGE).as_posix()) for path in files}
    complain([f"erlmcp/{room} has no floor in {Path(__file__).name}" for room in sorted(rooms - set(FLOORS))])


def test_imports_point_down() -> None:
    broken = []
    for edge in edges():
        room, target = edge.room, edge.target_room
        if target is None or target == room or (room, target) in ALLOWED:
            continue
        if FLOORS[target] >= FLOORS[room]:
            broken.append(f"{edge}: floor {FLOORS[room]} ({room}) must not reach floor {FLOORS[target]} ({target})")
    complain(broken)


def test_errors_imports_nothing() -> None:
    complain([str(edge) for edge in edges() if edge.room == "errors" and not edge.target.startswith("__future__")])


@pytest.mark.parametrize(("room", "target"), sorted(FORBIDDEN | {("server", "client"), ("client", "server")}))
def test_rooms_that_must_not_know_each_other_do_not(room: str, target: str) -> None:
    complain([str(edge) for edge in edges() if edge.room == room and edge.target_room == target])


def test_only_the_stair_imports_the_compiled_rooms_or_their_twins() -> None:
    crossing = [edge for edge in edges() if edge.target_room in ("_core", "_model") and edge.room not in STAIR]
    complain([str(edge) for edge in crossing if not (edge.is_cimport and str(edge.source) in COMPILED_ABOVE)])


def test_the_compiled_rooms_and_their_twins_do_not_import_each_other() -> None:
    crossed = {("_core", "_model"), ("_model", "_core")}
    complain([str(edge) for edge in edges() if (edge.room, edge.target_room) in crossed])


def test_compiled_rooms_cimport_only_each_other_and_c() -> None:
    broken = []
    for edge in edges():
        if edge.room != "_core" or edge.source.endswith(".py"):
            continue
        top = edge.target.split(".")[0]
        is_room = edge.target_room == "_core"
        if edge.is_cimport and not (is_room or top in CIMPORTS):
            broken.append(str(edge))
        if not edge.is_cimport and not (is_room or edge.target_room == "errors" or top in CORE_IMPORTS):
            broken.append(str(edge))
    complain(broken)


def test_keepers_do_not_cimport_keepers_and_tongues_compose_only_the_ground() -> None:
    broken = []
    for edge in edges():
        if edge.room != "_core" or edge.target_room != "_core":
            continue
        own, other = Path(edge.source).stem, edge.target.split(".")[2]
        if other == own or own.startswith("corridor"):
            continue
        if own in KEEPERS and other in KEEPERS | TONGUES:
            broken.append(str(edge))
        if own in TONGUES and other in KEEPERS:
            broken.append(str(edge))
        if own not in KEEPERS | TONGUES and other in KEEPERS | TONGUES:
            broken.append(str(edge))
        if other.startswith("corridor"):
            broken.append(str(edge))
    complain(broken)


def test_clock_randomness_and_sockets_stay_above_the_pure_rooms() -> None:
    complain([str(edge) for edge in edges() if edge.room in PURE and edge.target.split(".")[0] in IMPURE_MODULES])


def test_the_commands_do_not_import_each_other_in_a_circle() -> None:
    needs: dict[str, set[str]] = {}
    for edge in edges():
        if edge.room == "cli" and edge.target.startswith("erlmcp.cli."):
            source = edge.source.removesuffix(".py").partition("/")[2]
            needs.setdefault(source, set()).add(edge.target.split(".")[2])
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        complain([" -> ".join(error.args[1])])


def test_every_module_is_reached_by_another_one() -> None:
    """Imported, or named in a string (the lazy tables of the front door, the stair and the command line; for what a
    process of its own is to import, as ``module:name``)."""
    entries = {"erlmcp", "erlmcp.__main__"}
    programs = {"servers", "callers"}  # of bench: started by path
    imported = {edge.target for edge in edges()}
    texts = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    unreached = []
    for path in texts:
        name = dotted(path)
        if name in entries or path.name == "__init__.py" or path.parent.name in {"_core", "_model", *programs}:
            continue
        is_imported = any(target == name or target.startswith(name + ".") for target in imported)
        is_named = any(
            f'"{name}"' in text or f'"{name}:' in text or f'"{path.stem}"' in text
            for other, text in texts.items()
            if other != path
        )
        if not (is_imported or is_named):
            unreached.append(f"{path.relative_to(ROOT)} is imported by nothing")
    complain(unreached)
