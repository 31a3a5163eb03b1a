"""Configuration files as trees: read, their variables filled in, their places known.

``${NAME}`` in any string stands for an environment variable, ``${NAME:-text}`` for ``text`` where it is unset or empty,
``$${`` for ``${`` itself; ``${env:NAME}``, as an editor writes it, is ``${NAME}``. A value is never expanded twice.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from erlmcp.gateway.config import Mark
from erlmcp.gateway.problem import Problem, nearest

VARIABLE: Final = re.compile(r"\$\$\{|\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{([^}]*)\}")
NUMBER_MAX: Final = 1e9
T = TypeVar("T")


def mark_of(path: str | os.PathLike[str]) -> Mark:
    """When a file was written last, how long it is, and which it is; () where it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


class Document:
    """One file. ``tree`` is what it holds, None where it cannot be read; ``problems`` gets what is wrong with it.
    ``mark`` is that of before it was read: what changes meanwhile has another."""

    def __init__(self, path: str | os.PathLike[str], problems: list[Problem], environ: Mapping[str, str]) -> None:
        self.path = Path(path)
        self.problems = problems
        self.environ = environ
        self.text = ""
        self.mark = mark_of(path)
        self.tree: dict[str, Any] | None = self._read()

    def _read(self) -> dict[str, Any] | None:
        try:
            self.text = self.path.read_text(encoding="utf-8")
        except OSError as error:
            self.report("", f"cannot be read: {(error.strerror or str(error)).lower()}", "give the path of a file")
            return None
        except UnicodeDecodeError as error:
            self.report("", f"is no UTF-8 text: byte {error.start}", "save it as UTF-8")
            return None
        try:
            tree = tomllib.loads(self.text) if self.path.suffix == ".toml" else self._json()
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"\(at line (\d+)", str(error))
            self.report("", f"is no TOML: {error}", "mend the line", int(found[1]) if found else 0)
            return None
        except json.JSONDecodeError as error:
            is_unexpected = "Expecting" in error.msg or "comma" in error.msg  # as it is told from 3.13 on
            mend = "a comma too many, or a quote missing?" if is_unexpected else "mend the line"
            self.report("", f"is no JSON: {error.msg} in column {error.colno}", mend, error.lineno)
            return None
        except RecursionError:
            self.report("", "is nested too deep to be read", "a bracket too many?")
            return None
        if not isinstance(tree, dict):
            self.report("", f"holds {kind_of(tree)}", 'write an object: {"mcpServers": {"NAME": {...}}}')
            return None
        return tree

    def _json(self) -> Any:
        """JSON, with every name that stands twice in one object reported: the first value would be lost in silence."""

        def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for name, value in items:
                if name in found:
                    self.report(name, "stands twice in one object", "rename or remove one of them")
                found[name] = value
            return found

        return json.loads(self.text, object_pairs_hook=pairs)

    def report(self, key: str, text: str, mend: str, line: int = 0) -> None:
        self.problems.append(Problem(str(self.path), line or self.line_of(key), key, text, mend))

    def line_of(self, key: str) -> int:
        """The line where a key stands, as well as it can be told without a parser of our own; 0 for none."""
        at = 0
        for part in re.split(r"\.|\[\d+\]", key):
            quoted = re.compile(rf'(?<![\w-])"?{re.escape(part)}"?(?=\s*[:=\].])')
            found = quoted.search(self.text, at) if part else None
            at = found.start() if found is not None else at
        return self.text.count("\n", 0, at) + 1 if at else 0

    def expanded(self, text: str, key: str) -> str:
        """``text`` with its variables filled in; what cannot be is reported."""

        def fill(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            if match[3] is not None:
                self.report(key, f"{match[0]} cannot be filled in", "write ${NAME} or ${NAME:-default}, or $${ for ${")
                return match[0]
            name, default = match[1], match[2]
            value = self.environ.get(name)
            if value or (value is not None and default is None):
                return value
            if default is None:
                mend = f"export {name}, or write ${{{name}:-default}}"
                self.report(key, f"the environment variable {name} is not set", mend)
                return ""
            return default

        return VARIABLE.sub(fill, text)


class Table:
    """A table of a document, read key by key; ``finish`` reports the keys that nobody asked for."""

    def __init__(self, document: Document, key: str, values: dict[str, Any]) -> None:
        self.document = document
        self.key = key
        self._values = values
        self._asked: set[str] = set()
        self._passed: set[str] = set()

    def __contains__(self, name: str) -> bool:
        self._asked.add(name)
        return name in self._values

    @property
    def names(self) -> list[str]:
        return list(self._values)

    def path(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name

    def report(self, name: str, text: str, mend: str) -> None:
        self.document.report(self.path(name) if name else self.key, text, mend)

    def _take(self, name: str, fits: Callable[[Any], bool], what: str, default: T) -> T:
        self._asked.add(name)
        value = self._values.get(name)
        if value is None:
            return default
        if not fits(value):
            self.report(name, f"is {kind_of(value)}", f"write {what}")
            return default
        return value  # type: ignore[no-any-return]

    def text(self, name: str, default: str | None = None) -> str | None:
        found = self._take(name, lambda value: isinstance(value, str), "a text in quotes", default)
        return self.document.expanded(found, self.path(name)) if name in self._values and found is not None else found

    def choice(self, name: str, known: Mapping[str, T], default: T) -> T:
        """One of the values of ``known``, by its name."""
        found = self.text(name)
        if found is None:
            return default
        if found not in known:
            self.report(name, f"{found!r} is unknown", nearest(found, known))
            return default
        return known[found]

    def flag(self, name: str, default: bool) -> bool:
        return self._take(name, lambda value: isinstance(value, bool), "true or false", default)

    def number(self, name: str, default: float, *, is_whole: bool = False, least: float = 0.0) -> float:
        """Above ``least``, or a whole number from it on."""
        wanted = f"a whole number from {least:g} on" if is_whole else f"a number above {least:g}"

        def fits(value: Any) -> bool:
            if isinstance(value, bool) or not isinstance(value, int if is_whole else int | float):
                return False
            return (value >= least if is_whole else value > least) and value <= NUMBER_MAX

        self._asked.add(name)
        value = self._values.get(name)
        if value is None:
            return default
        if not fits(value):
            shown = value if isinstance(value, int | float) else kind_of(value)
            self.report(name, f"is {shown}", f"write {wanted}")
            return default
        return value  # type: ignore[no-any-return]

    def texts(self, name: str) -> tuple[str, ...] | None:
        """An array of texts; None where there is none."""
        found: list[Any] | None = self._take(name, lambda value: isinstance(value, list), "an array of texts", None)
        if found is None:
            return None
        made = []
        for index, each in enumerate(found):
            key = f"{self.path(name)}[{index}]"
            if isinstance(each, str):
                made.append(self.document.expanded(each, key))
            elif isinstance(each, int | float) and not isinstance(each, bool):
                self.document.report(key, f"is the number {each}", f'write "{each}", in quotes')
            else:
                self.document.report(key, f"is {kind_of(each)}", "write a text in quotes")
        return tuple(made)

    def map_of_texts(self, name: str) -> dict[str, str]:
        found = self.table(name)
        if found is None:
            return {}
        made = {each: found.text(each) for each in found.names}
        return {each: value for each, value in made.items() if value is not None}

    def table(self, name: str) -> Table | None:
        found: dict[str, Any] | None = self._take(name, lambda value: isinstance(value, dict), "a table {...}", None)
        return None if found is None else Table(self.document, self.path(name), found)

    def tables(self, name: str) -> dict[str, Table]:
        """A table of tables."""
        found = self.table(name)
        if found is None:
            return {}
        made = {each: found.table(each) for each in found.names}
        return {each: value for each, value in made.items() if value is not None}

    def raw(self, name: str) -> Any:
        """Any value, as it stands."""
        self._asked.add(name)
        return self._values.get(name)

    def pass_over(self, *names: str) -> list[str]:
        """Keys that mean something to others; which of them are there."""
        self._passed.update(names)
        return [name for name in names if name in self._values]

    def finish(self) -> None:
        for name in self._values:
            if name not in self._asked and name not in self._passed:
                self.report(name, "is no key that is known here", nearest(name, self._asked))


def kind_of(value: Any) -> str:
    """What a value is called in a configuration file."""
    if value is None:
        return "null"
    for kind, name in ((bool, "true or false"), (int | float, "a number"), (str, "a text"), (list, "an array")):
        if isinstance(value, kind):  # a bool is an int, and comes first
            return name
    return "a table" if isinstance(value, dict) else f"a {type(value).__name__}"
