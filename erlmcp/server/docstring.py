"""Docstrings: what a function does, and what each parameter means. Google, NumPy and Sphinx styles."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

_GOOGLE_HEAD = re.compile(r"(Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments|Other Parameters):\s*")
_GOOGLE_ITEM = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:(?:\s+(.*))?$")
_NUMPY_HEAD = re.compile(r"(Parameters|Other Parameters|Keyword Arguments)\s*")
_NUMPY_ITEM = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SPHINX_ITEM = re.compile(r":(?:param|parameter|arg|argument|key|keyword)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)$")
_SPHINX_OTHER = re.compile(r":(type|rtype|vartype)\b[^:]*:")


@dataclass(slots=True)
class Docstring:
    """``text`` is the docstring without its parameter sections; ``params`` maps parameter names to descriptions."""

    text: str = ""
    params: dict[str, str] = field(default_factory=dict)


def parse_docstring(doc: str | None) -> Docstring:
    """Never fails: what is not recognised stays in ``text``."""
    lines = inspect.cleandoc(doc).splitlines() if doc else []
    kept: list[str] = []
    params: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        if _GOOGLE_HEAD.fullmatch(line) and _starts_block(lines, at + 1):
            at = _read_google(lines, at + 1, params)
        elif _NUMPY_HEAD.fullmatch(line) and at + 1 < len(lines) and re.fullmatch(r"-{3,}\s*", lines[at + 1]):
            at = _read_numpy(lines, at + 2, params)
        elif found := _SPHINX_ITEM.match(line):
            parts = [found[2]]
            at = _read_indented(lines, at + 1, parts)
            params[found[1]] = _join(parts)
        elif _SPHINX_OTHER.match(line):
            at = _read_indented(lines, at + 1, [])
        else:
            kept.append(line.rstrip())
            at += 1
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
    return Docstring(text, {name: text for name, text in params.items() if text})


def _join(parts: list[str]) -> str:
    return " ".join(part.strip() for part in parts if part.strip())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _starts_block(lines: list[str], at: int) -> bool:
    return at < len(lines) and _indent(lines[at]) > 0 and bool(lines[at].strip())


def _read_indented(lines: list[str], at: int, parts: list[str]) -> int:
    while at < len(lines) and _indent(lines[at]) > 0 and lines[at].strip():
        parts.append(lines[at])
        at += 1
    return at


def _read_google(lines: list[str], at: int, params: dict[str, str]) -> int:
    depth = _indent(lines[at])
    name = ""
    parts: dict[str, list[str]] = {}
    while at < len(lines):
        line = lines[at]
        if line.strip():
            if _indent(line) == 0:
                break
            found = _GOOGLE_ITEM.match(line.strip()) if _indent(line) <= depth else None
            if found:
                name = found[1]
                parts[name] = [found[2] or ""]
            elif name:
                parts[name].append(line)
        at += 1
    params.update({key: _join(value) for key, value in parts.items()})
    return at


def _read_numpy(lines: list[str], at: int, params: dict[str, str]) -> int:
    names: list[str] = []
    parts: list[str] = []

    def close() -> None:
        for name in names:
            params[name] = _join(parts)

    while at < len(lines):
        line = lines[at]
        if at + 1 < len(lines) and line.strip() and re.fullmatch(r"-{3,}\s*", lines[at + 1]):
            break  # the next section
        if line.strip() and _indent(line) == 0:
            found = _NUMPY_ITEM.match(line)
            if found is None:
                break
            close()
            names = [name.strip().lstrip("*") for name in found[1].split(",")]
            parts = []
        else:
            parts.append(line)
        at += 1
    close()
    return at
