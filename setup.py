"""Build the compiled rooms of ``erlmcp._core``.

Everything that can be said in pyproject.toml is said there; this file holds only what setuptools cannot express
there: the extension modules, and the build flavours chosen by ``ERLMCP_BUILD``:

    release   optimised, assertions compiled out (the default)
    checked   assertions, bounds checks, allocation counters and the failing allocator
    trace     line tracing for coverage of the .pyx files
    asan      AddressSanitizer and UndefinedBehaviorSanitizer over the checked code
    tsan      ThreadSanitizer over the checked code

Each flavour has a folder of its own below ``build/``, so that objects of one never end up in another.
``ERLMCP_ONLY=buffer,table`` builds just those rooms, for work on one of them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

FLAVOUR = os.environ.get("ERLMCP_BUILD", "release")
HERE = Path(__file__).resolve().parent
CORE = "erlmcp/_core"

# They stand on epoll; elsewhere the loop's own sockets serve, and there are no load generators.
LINUX_ONLY = {"poller", "fixed", "limit", "load", "stream"}
COMMON_FLAGS = ["-std=c11", "-fvisibility=hidden", "-Wno-unused-function", "-Wno-unreachable-code"]
SANITIZER_FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer"]
CHECKED_MACROS = [("ERLMCP_CHECKED", "1")]
FLAVOURS: dict[str, tuple[list[str], list[str], list[tuple[str, str]]]] = {
    "release": (["-O3", "-fno-semantic-interposition"], [], [("CYTHON_WITHOUT_ASSERTIONS", "1"), ("NDEBUG", "1")]),
    "checked": (["-O1", "-g", "-UNDEBUG"], [], CHECKED_MACROS),
    "trace": (
        ["-O0", "-UNDEBUG"],
        [],
        [*CHECKED_MACROS, ("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")],
    ),
    "asan": (
        [*SANITIZER_FLAGS, "-UNDEBUG", "-fsanitize=address,undefined"],
        ["-fsanitize=address,undefined"],
        CHECKED_MACROS,
    ),
    "tsan": ([*SANITIZER_FLAGS, "-UNDEBUG", "-fsanitize=thread"], ["-fsanitize=thread"], CHECKED_MACROS),
}
if FLAVOUR not in FLAVOURS:
    sys.exit(f"setup.py: ERLMCP_BUILD={FLAVOUR!r} is unknown; expected one of {', '.join(FLAVOURS)}")

CHECKS = FLAVOUR != "release"
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": CHECKS,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "auto_pickle": False,
    "embedsignature": True,
    "binding": False,
    "show_performance_hints": True,
    "linetrace": FLAVOUR == "trace",
}


def rooms() -> list[Path]:
    """The .pyx files to build: all of them, or those that ERLMCP_ONLY names."""
    found = sorted((HERE / CORE).glob("*.pyx")) + sorted((HERE / "erlmcp/bench").glob("*.pyx"))
    found += sorted((HERE / "erlmcp/runtime").glob("*.pyx")) + sorted((HERE / "erlmcp/client").glob("*.pyx"))
    found += sorted((HERE / "erlmcp/transports").glob("*.pyx"))
    if sys.platform != "linux":
        found = [path for path in found if path.stem not in LINUX_ONLY]
    only = os.environ.get("ERLMCP_ONLY")
    if only:
        wanted = set(only.split(","))
        found = [path for path in found if path.stem in wanted]
    return [path.relative_to(HERE) for path in found]


def extensions() -> list[Extension]:
    compile_flags, link_flags, macros = FLAVOURS[FLAVOUR]
    headers = [str(path.relative_to(HERE)) for path in sorted((HERE / CORE).glob("*.h"))]
    return [
        Extension(
            ".".join(path.with_suffix("").parts),
            [str(path)],
            include_dirs=[CORE],
            depends=headers,
            extra_compile_args=[*COMMON_FLAGS, *compile_flags],
            extra_link_args=link_flags,
            define_macros=macros,
        )
        for path in rooms()
    ]


def cythonize_without_hints(modules: list[Extension]) -> list[Extension]:
    """Run cythonize, and fail the build where it prints a performance hint.

    A ``cdef`` function that forgets its error contract costs 50 ns a call instead of 1.4 without the GIL, and the hint
    is the only sign of it. Cython writes it to the file descriptor, from worker processes too: it is read from there.
    """
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = os.dup(1), os.dup(2)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            built = cythonize(
                modules,
                nthreads=0 if len(modules) < 2 else (os.cpu_count() or 1),
                # The trace flavour keeps the generated C beside the .pyx: that is where the coverage plugin looks.
                build_dir=None if FLAVOUR == "trace" else f"build/{FLAVOUR}/c",
                compiler_directives=DIRECTIVES,
                force=FLAVOUR == "trace",
            )
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])
            log.seek(0)
            said = log.read().decode(errors="replace")
            sys.stderr.write(said)
    hints = [line for line in said.splitlines() if "performance hint:" in line]
    if hints:
        sys.exit("setup.py: the build must not print a performance hint:\n" + "\n".join(hints))
    return built


class FlavouredBuild(build):
    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_base = f"build/{FLAVOUR}"


class ParallelBuildExt(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()
        if FLAVOUR != "release":
            self.force = True


setup(
    ext_modules=cythonize_without_hints(extensions()),
    cmdclass={"build": FlavouredBuild, "build_ext": ParallelBuildExt},
)
