"""Style as a test: lengths, error contracts, names, and that every compiled room is complete."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "erlmcp"
CORE = PACKAGE / "_core"

LINE_CHARS_MAX = 120
FILE_LINES_MAX = {".py": 500, ".pyx": 600, ".pyi": 600, ".pxd": 300}
TEST_LINES_MAX = 700  # tests are mostly tables of cases
FUNCTION_LINES_MAX = 70
BANNED_STEMS = {"util", "utils", "helper", "helpers", "misc", "manager", "managers", "common", "stuff"}
# Rooms that need less than the full set, each with its reason.
INCOMPLETE_ROOMS: dict[str, set[str]] = {
    "memory": {"benchmark"},  # libc's allocator in release; the counters exist in the checked build only
}
PRINTERS = {"cli", "bench"}
PYTHON_RETURNS = {"object", "bytes", "str", "dict", "list", "tuple", "set", "type", "bytearray"}

ROOMS = sorted(path.stem for path in CORE.glob("*.pyx"))


def sources(*suffixes: str) -> list[Path]:
    """The project's own files with these suffixes, without what a build or a tool left behind."""
    tops = ("erlmcp", "tests", "asv_benchmarks", "examples")
    found = [path for top in tops for path in (ROOT / top).rglob("*") if path.suffix in suffixes]
    return sorted([*found, *(path for path in ROOT.glob("*") if path.suffix in suffixes)])


def complain(broken: list[str]) -> None:
    assert not broken, "\n".join(["", *broken])


def test_lines_are_short_enough() -> None:
    broken = []
    for path in sources(".py", ".pyx", ".pxd", ".pyi", ".h"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if len(line) > LINE_CHARS_MAX:
                broken.append(f"{path.relative_to(ROOT)}:{number} has {len(line)} characters, at most {LINE_CHARS_MAX}")
    complain(broken)


def test_files_are_short_enough() -> None:
    broken = []
    for path in sources(*FILE_LINES_MAX):
        count = len(path.read_text(encoding="utf-8").splitlines())
        maximum = TEST_LINES_MAX if path.is_relative_to(ROOT / "tests") else FILE_LINES_MAX[path.suffix]
        if count >= maximum:
            broken.append(f"{path.relative_to(ROOT)} has {count} lines, fewer than {maximum} wanted")
    complain(broken)


def python_functions(text: str) -> Iterator[tuple[str, int, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


CYTHON_FUNCTION = re.compile(r"^(\s*)(?:cp?def\s+(?!class\b|struct\b|enum\b|union\b|extern\b)|def\s).*\(")


def cython_functions(text: str) -> Iterator[tuple[str, int, int]]:
    """Name, first line and number of lines of the functions of a .pyx, found by indentation."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        match = CYTHON_FUNCTION.match(line)
        if match is None or "=" in line.split("(")[0]:
            continue
        indent, end, body = len(match.group(1)), start, False
        for number in range(start + 1, len(lines)):
            inner = lines[number]
            if not inner.strip() or inner.lstrip().startswith("#"):
                continue
            if len(inner) - len(inner.lstrip()) <= indent and (body or not inner.lstrip().startswith(")")):
                break
            end, body = number, True
        name = re.findall(r"(\w+)\s*\(", line)
        yield (name[0] if name else line.strip()), start + 1, end - start + 1


def test_functions_fit_a_screen() -> None:
    broken = []
    for path in sources(".py", ".pyx"):
        reader = python_functions if path.suffix == ".py" else cython_functions
        for name, line, count in reader(path.read_text(encoding="utf-8")):
            if count > FUNCTION_LINES_MAX:
                broken.append(f"{path.relative_to(ROOT)}:{line} {name} has {count} lines, at most {FUNCTION_LINES_MAX}")
    complain(broken)


def declarations(text: str) -> Iterator[tuple[int, str]]:
    """Each C function and each function-pointer type, joined to one line; extern blocks are left out."""
    lines = text.splitlines()
    extern_indent = -1
    for number, line in enumerate(lines):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if extern_indent >= 0 and stripped and not stripped.startswith("#"):
            if indent > extern_indent:
                continue
            extern_indent = -1
        if stripped.startswith("cdef extern"):
            extern_indent = indent
            continue
        if not re.match(r"(cdef|cpdef|ctypedef)\s", stripped) or "(" not in stripped:
            continue
        if re.match(r"(cdef|ctypedef)\s+(public\s+|packed\s+)?(class|struct|enum|union|cppclass)\b", stripped):
            continue
        if "=" in stripped.split("(")[0]:
            continue
        whole, last = stripped, number
        while whole.count("(") > whole.count(")"):
            last += 1
            whole += " " + lines[last].strip()
        yield number + 1, whole


POINTER = re.compile(r"^(?:cdef|ctypedef)\s+[\w\s*]+\(\s*\*")
SIGNATURE = re.compile(
    r"^cp?def\s+(?:inline\s+|api\s+|public\s+)*(?P<returns>[\w.\s*\[\]]*?)\s*(?P<name>\w+)\s*\(.*\)[^()]*$"
)


def has_contract(declaration: str) -> bool:
    """Whether a C function says what happens to an exception: noexcept, a sentinel, or an object as its result."""
    bare = declaration.split("#")[0].rstrip().rstrip(":").rstrip()
    tail = bare[bare.rfind(")") + 1 :]
    if re.search(r"\bexcept\s*[*+]", tail):
        return False
    if re.search(r"\bnoexcept\b|\bexcept\b", tail):
        return True
    match = SIGNATURE.match(bare)
    if match is None or POINTER.match(bare):
        return False
    returns = match["returns"].strip()
    return returns in PYTHON_RETURNS or not returns or bool(re.fullmatch(r"(\w+\.)?_?[A-Z]\w*", returns))


@pytest.mark.parametrize(
    ("declaration", "is_fine"),
    [
        ("cdef int table_find(table_t* table, int key) noexcept nogil:", True),
        ("cdef inline int grow(buffer_t* b, size_t n) except -1 nogil:", True),
        ("cdef void* take(int n) except NULL nogil", True),
        ("cdef object peek(Buffer self)", True),
        ("cdef Buffer make(int n):", True),
        ("cdef peek(self):", True),
        ("ctypedef int (*visit_t)(void* item) noexcept nogil", True),
        ("cdef int forgotten(table_t* table) nogil:", False),
        ("cdef void forgotten(int a):", False),
        ("cdef char* forgotten(int a):", False),
        ("cdef int star(int a) except *:", False),
        ("ctypedef int (*visit_t)(void* item) nogil", False),
    ],
)
def test_the_contract_reader_tells_right_from_wrong(declaration: str, is_fine: bool) -> None:
    assert has_contract(declaration) is is_fine


def test_every_c_function_states_its_error_contract() -> None:
    broken = []
    for path in sources(".pyx", ".pxd"):
        for line, declaration in declarations(path.read_text(encoding="utf-8")):
            if not has_contract(declaration):
                broken.append(f"{path.relative_to(ROOT)}:{line} {declaration}")
    complain(broken)


def test_no_module_has_a_name_that_says_nothing() -> None:
    complain([str(path.relative_to(ROOT)) for path in sources(".py", ".pyx") if path.stem in BANNED_STEMS])


@pytest.mark.parametrize("room", ROOMS)
def test_a_compiled_room_is_complete(room: str) -> None:
    wanted = {
        "pxd": CORE / f"{room}.pxd",
        "pyi": CORE / f"{room}.pyi",
        "twin": PACKAGE / "_model" / f"{room}.py",
        "test": ROOT / "tests/core" / f"test_{room}.py",
        "benchmark": ROOT / "asv_benchmarks" / f"{room}.py",
    }
    spared = INCOMPLETE_ROOMS.get(room, set())
    missing = [path for kind, path in wanted.items() if kind not in spared and not path.exists()]
    complain([f"{room} lacks {path.relative_to(ROOT)}" for path in missing])


def test_a_twin_has_a_compiled_room() -> None:
    twins = {path.stem for path in (PACKAGE / "_model").glob("*.py")} - {"__init__"}
    complain([f"erlmcp/_model/{name}.py has no erlmcp/_core/{name}.pyx" for name in sorted(twins - set(ROOMS))])


def test_nothing_is_left_for_later_in_the_source() -> None:
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    broken = []
    for path in sources(".py", ".pyx", ".pxd", ".pyi", ".h"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if mark.search(line):
                broken.append(f"{path.relative_to(ROOT)}:{number} {line.strip()}")
    complain(broken)


def test_only_the_command_line_and_the_benchmarks_print_to_stdout() -> None:
    broken = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in PRINTERS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            if is_print and not any(keyword.arg == "file" for keyword in node.keywords):
                broken.append(f"{path.relative_to(ROOT)}:{node.lineno} prints")
    complain(broken)


def test_modules_postpone_their_annotations() -> None:
    broken = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "def " in text and "from __future__ import annotations" not in text:
            broken.append(str(path.relative_to(ROOT)))
    complain(broken)
