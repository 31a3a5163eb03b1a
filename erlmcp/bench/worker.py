"""A process that measures on demand: a build or a variant of its own, alternately with others.

It reads a line of JSON for each request and answers with one: ``{"make": "module:function", "given": [...],
"repeats": n}`` -> ``{"ns": elapsed, "count": operations in one repeat}``, or its percentiles with 0 repeats;
``{"tell": "module:function", "given": [...]}`` -> ``{"value": ...}``; ``{"error": text}`` where it fails. What was made
is kept for the next request. It ends with its input.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from erlmcp.bench.room import MissingError
from erlmcp.bench.timing import Timed, percentiles

ROOT = Path(__file__).resolve().parents[2]
ANSWER_TIMEOUT_S = 300.0


class WorkerError(MissingError):
    """A worker that died, stayed silent, or could not do what was asked."""


def answer(request: dict[str, Any], kept: dict[str, Timed]) -> dict[str, Any]:
    """What one request is answered with."""
    module, _, name = request.get("make", request.get("tell", "")).partition(":")
    function = getattr(importlib.import_module(module), name)
    if "tell" in request:
        return {"value": function(*request["given"])}
    key = json.dumps([request["make"], request["given"]])
    if key not in kept:
        kept.clear()  # one at a time is in memory
        kept[key] = function(*request["given"])
    one = kept[key]
    if request["repeats"] == 0:
        return percentiles(one.single) if one.single is not None else {}
    gc.disable()
    try:
        return {"ns": one.elapsed(request["repeats"]), "count": one.count}
    finally:
        gc.enable()


def main() -> None:
    kept: dict[str, Timed] = {}
    for line in sys.stdin:
        try:
            said = answer(json.loads(line), kept)
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


class Worker:
    """The other end. ``python`` may be another build's interpreter, ``path`` the checkout that it is to import."""

    def __init__(
        self, python: str = sys.executable, path: Path | None = ROOT, environment: dict[str, str] | None = None
    ) -> None:
        self.like = (python, path, environment)
        given = {**os.environ, **(environment or {})}
        given.pop("PYTHONPATH", None)
        if path is not None:
            given["PYTHONPATH"] = str(path)
        self.process = subprocess.Popen(
            [python, "-W", "ignore", "-m", "erlmcp.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=given,
            cwd=path or "/",
            text=True,
        )

    def tell_afresh(self, function: str, *given: Any) -> Any:
        """What this function gives in a fresh process of the same build. Raises WorkerError."""
        other = Worker(*self.like)
        try:
            return other.ask(tell=function, given=given)["value"]
        finally:
            other.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request and its answer. Raises WorkerError."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            ready = select.select([self.process.stdout], [], [], ANSWER_TIMEOUT_S)[0]
            line = self.process.stdout.readline() if ready else ""
        except OSError:
            line = ""
        if not line:
            raise WorkerError(f"the measuring process ended: {self.last_words()}")
        read: dict[str, Any] = json.loads(line)
        if "error" in read:
            raise WorkerError(read["error"].removeprefix("MissingError: "))
        return read

    def timed(self, make: str, *given: Any) -> Timed:
        """What is made there, to be measured from here. Raises WorkerError."""

        def ask(repeats: int) -> dict[str, Any]:
            return self.ask(make=make, given=given, repeats=repeats)

        return Timed(ask(1)["count"], lambda repeats: int(ask(repeats)["ns"]))

    def last_words(self) -> str:
        """The last line that it wrote on stderr."""
        assert self.process.stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        if self.process.poll() is None:
            return "(it stays silent)"
        lines = self.process.stderr.read().strip().splitlines()
        return lines[-1][:200] if lines else f"status {self.process.returncode}"

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.communicate()


if __name__ == "__main__":
    main()
