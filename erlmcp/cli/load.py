"""From FILE[:OBJECT] or MODULE[:OBJECT] to a server."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from erlmcp.cli.fault import CANNOT_LOAD, CommandError, describe, nearest

if TYPE_CHECKING:
    from erlmcp.server.app import Server

USUAL_NAMES = ("server", "mcp", "app")


def split_target(target: str) -> tuple[str, str]:
    """``"a.py:make"`` -> ``("a.py", "make")``; a colon that is part of an existing file's name is left alone."""
    place, colon, name = target.rpartition(":")
    if not colon or os.path.exists(target) or not name.replace(".", "_").isidentifier():
        return target, ""
    return place, name


def load_server(target: str | None, module: str | None, *, keep_traceback: bool = False) -> Server:
    """The server that a command was pointed at. Raises CommandError with the mend."""
    if (target is None) == (module is None):
        raise CommandError("give either FILE[:OBJECT] or -m MODULE[:OBJECT], for instance: erlmcp serve server.py")
    place, name = split_target(target or module or "")
    try:
        loaded = _load_module(place) if module else _load_file(place)
        return find_server(_beneath(loaded), name, place)
    except CommandError:
        raise
    except (Exception, SystemExit) as error:
        if keep_traceback:
            raise
        said = f"SyntaxError: {error.msg}" if isinstance(error, SyntaxError) else describe(error)
        raise CommandError(f"{_place_of(error, place)}: {said}{_mend(error)}", CANNOT_LOAD) from error


def _beneath(module: ModuleType) -> ModuleType:
    """The module as a command looks at it: a façade of another SDK stands for the server beneath it."""
    from erlmcp import Server

    seen = ModuleType(module.__name__)
    for key, value in vars(module).items():
        is_facade = any(base.__module__.startswith("erlmcp.compat.") for base in type(value).__mro__)
        kernel = getattr(value, "kernel", None) if is_facade else None
        vars(seen)[key] = kernel if isinstance(kernel, Server) else value
    return seen


def _load_file(place: str) -> ModuleType:
    path = Path(place)
    if path.is_dir():
        raise CommandError(
            f"{place} is a folder; give a file in it, {nearest('server.py', _python_files(path))}", CANNOT_LOAD
        )
    if not path.is_file():
        near = _python_files(path.parent if path.parent.is_dir() else Path())
        raise CommandError(f"no file {place}; {nearest(path.name, near)}", CANNOT_LOAD)
    path = path.resolve()
    sys.path.insert(0, str(path.parent))
    stem = path.stem
    is_taken = stem in sys.modules or stem in sys.stdlib_module_names or not stem.isidentifier()
    name = f"erlmcp_app_{stem}" if is_taken else stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{place} is not a Python file; its name must end in .py", CANNOT_LOAD)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            message = f"no module {name}; it is looked for in the current folder and in this environment ({sys.prefix})"
            raise CommandError(message, CANNOT_LOAD) from None
        raise


def _python_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.py"))


def find_server(module: ModuleType, name: str, place: str) -> Server:
    """The object called ``name``, or the one of ``server``, ``mcp``, ``app``, or the only server of the module."""
    if name:
        return _take_named(module, name, place)
    found = {key: value for key, value in vars(module).items() if _is_server(value)}
    for usual in USUAL_NAMES:
        if usual in found:
            return _served(found[usual])
    distinct = {id(value): value for value in found.values()}
    if len(distinct) == 1:
        return _served(next(iter(distinct.values())))
    if found:
        raise CommandError(
            f"{place} has several servers; say which: {place}:{f' or {place}:'.join(sorted(found))}", CANNOT_LOAD
        )
    raise CommandError(
        f"{place} has no server: looked for {', '.join(USUAL_NAMES)} or one erlmcp.Server, FastMCP or MCPServer; "
        'add one: server = Server("name"), or name the object: FILE:OBJECT',
        CANNOT_LOAD,
    )


def _is_server(value: Any) -> bool:
    from erlmcp import Server
    from erlmcp.compat.accel.known import is_app

    return isinstance(value, Server) or is_app(value)


def _served(value: Any) -> Server:
    """A server of ours as it is, an app of another SDK accelerated."""
    from erlmcp import Server

    if isinstance(value, Server):
        return value
    from erlmcp import accelerate

    return accelerate(value)


def _take_named(module: ModuleType, name: str, place: str) -> Server:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [key for key, item in vars(module).items() if _is_server(item)]
            raise CommandError(f"{place} has no object {name}; {nearest(name, known)}", CANNOT_LOAD)
        value = getattr(value, part)
    if callable(value) and not _is_server(value):
        value = value()
    if not _is_server(value):
        raise CommandError(
            f"{place}:{name} is a {type(value).__name__}, expected an erlmcp.Server, or a FastMCP, MCPServer or "
            "low-level Server of the installed packages",
            CANNOT_LOAD,
        )
    return _served(value)


def _place_of(error: BaseException, place: str) -> str:
    """The file and line that the user wrote, innermost first; the machinery of import is passed over."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename} line {error.lineno}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    return f"{own[-1].filename} line {own[-1].lineno}" if own else place


def _is_users(filename: str) -> bool:
    package = str(Path(__file__).resolve().parents[1])
    machinery = filename.startswith(("<", package, sys.base_prefix + os.sep + "lib")) or "site-packages" in filename
    return not machinery


def _mend(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"; install it into this environment ({sys.prefix}), or run erlmcp from the one that has it"
    return "; --traceback shows where it came from" if not isinstance(error, SyntaxError) else ""
