"""Servers under measurement: how each is started, and what its process costs."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from erlmcp.bench import message
from erlmcp.bench.load import ID_SLOT

SERVERS = Path(__file__).parent / "servers"
ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


class PeerError(Exception):
    """A server that is not there, does not start, dies, or answers wrong. The text goes into its row."""


@dataclass(frozen=True)
class Peer:
    """One server of the comparison. ``command(mode, port)`` are the arguments of its interpreter."""

    name: str
    package: str  # whose version is printed; must be importable by the interpreter
    modes: tuple[str, ...]  # of stdio, stateless, stateful
    command: Callable[[str, int], list[str]]
    is_own: bool = False  # runs under this interpreter and not under --python
    is_limit: bool = False  # no server, but what a server could reach at best


def _script(file: str) -> Callable[[str, int], list[str]]:
    return lambda mode, port: [str(SERVERS / file), mode, *([str(port)] if port else [])]


def own_peer(file: str) -> Peer:
    """A server of ours for one benchmark, over HTTP."""
    return Peer("erlmcp", "erlmcp", ("stateless",), _script(file), is_own=True)


def _erlmcp(mode: str, port: int) -> list[str]:
    file = str(SERVERS / "echo_erlmcp.py")
    return ["-m", "erlmcp", "run", file] if mode == "stdio" else ["-m", "erlmcp", "serve", file, "--port", str(port)]


def _limit(mode: str, port: int) -> list[str]:
    run = "limit.stdio()" if mode == "stdio" else f"limit.http({port})"
    return ["-c", f"from erlmcp.bench import limit; {run}"]


ALL_MODES = ("stdio", "stateless", "stateful")
PEERS = (
    Peer("erlmcp", "erlmcp", ALL_MODES, _erlmcp, is_own=True),
    Peer("erlmcp-fastmcp", "erlmcp", ALL_MODES, _script("echo_shape.py"), is_own=True),
    Peer("mcp", "mcp", ALL_MODES, _script("echo_mcp.py")),
    Peer("fastmcp", "fastmcp", ALL_MODES, _script("echo_fastmcp.py")),
    Peer("limit-uvloop", "uvloop", ("stdio", "stateless"), _script("fixed_uvloop.py"), is_limit=True),
    Peer("limit-c", "erlmcp", ("stdio", "stateless"), _limit, is_own=True, is_limit=True),
)


def version_of(peer: Peer, python: str) -> str:
    """The version of the peer's package under its interpreter. Raises PeerError where it is missing."""
    probe = (
        "import importlib, importlib.metadata as metadata, sys\n"
        f"module = importlib.import_module({peer.package!r})\n"
        f"try: print(metadata.version({peer.package!r}))\n"
        "except metadata.PackageNotFoundError: print(getattr(module, '__version__', 'source'))\n"
    )
    ran = subprocess.run([python, "-c", probe], capture_output=True, text=True, env=environment(peer, {}), check=False)
    if ran.returncode:
        raise PeerError("not installed")
    return ran.stdout.split()[-1]


def environment(peer: Peer, extra: dict[str, str]) -> dict[str, str]:
    """The environment of a server: ours, and where this very erlmcp lies if the server is ours too."""
    found = {**os.environ, "PYTHONUNBUFFERED": "1", **extra}
    if peer.is_own:
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    else:
        found.pop("PYTHONPATH", None)
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


@dataclass
class Running:
    """A started server that has answered once. To be stopped by its owner."""

    peer: Peer
    mode: str
    python: str
    extra: dict[str, str] = field(default_factory=dict)
    cpu: int | None = None  # the only one that it may run on
    port: int = 0
    tool: str = "echo"  # that is called first
    process: subprocess.Popen[bytes] = field(init=False)
    first_answer_s: float = 0.0
    sessions: list[str] = field(default_factory=list)
    _stderr: IO[bytes] = field(init=False)

    def start(self) -> None:
        """Start, and wait for the first right answer. Raises PeerError."""
        self.port = 0 if self.mode == "stdio" else free_port()
        self._launch()

    def start_again(self) -> None:
        """After it was killed: on the port that it had. Raises PeerError."""
        self.process.wait()
        self._stderr.close()
        self._launch()

    def _launch(self) -> None:
        self.sessions = []
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        pipe = subprocess.PIPE if self.mode == "stdio" else subprocess.DEVNULL
        here = os.sched_getaffinity(0)
        if self.cpu is not None:
            os.sched_setaffinity(0, {self.cpu})  # inherited
        began = time.monotonic()
        self.process = subprocess.Popen(
            [self.python, *self.peer.command(self.mode, self.port)],
            stdin=pipe,
            stdout=pipe,
            stderr=self._stderr,
            env=environment(self.peer, self.extra),
        )
        os.sched_setaffinity(0, here)
        try:
            if self.mode == "stdio":
                self._first_line(began + START_TIMEOUT_S)
            else:
                self._first_response(began + START_TIMEOUT_S)
        except PeerError:
            self.stop()
            raise
        self.first_answer_s = time.monotonic() - began

    def stop(self) -> None:
        """End the process: by the end of its input or SIGTERM, and by SIGKILL where that does not help in 3 s."""
        if self.mode == "stdio" and self.process.stdin is not None:
            self.process.stdin.close()
        else:
            self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._stderr.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def check(self) -> None:
        """Raises PeerError where the process is gone."""
        if self.process.poll() is not None:
            raise PeerError(f"died with status {self.process.returncode}: {self.last_words()}")

    def last_words(self, count: int = 1) -> str:
        """The last lines that it wrote on stderr."""
        # By its place, as the process shares the file's position.
        lines = os.pread(self._stderr.fileno(), 1 << 16, max(0, os.fstat(self._stderr.fileno()).st_size - (1 << 16)))
        found = [line[:200] for line in lines.decode(errors="replace").strip().splitlines()[-count:]]
        return "\n".join(found) if found else "(silent)"

    def post(
        self, body: bytes, *, era: str = message.MODERN, session: str | None = None
    ) -> tuple[int, str | None, bytes]:
        """(status, session id, body) of one request on a connection of its own. Raises OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/mcp", body, message.headers(self.port, body, era=era, session=session))
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Mcp-Session-Id"), answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def open_session(self) -> str:
        """A handshake session (2025-11-25), ready for calls. Raises PeerError."""
        status, session, body = self.post(message.initialize(), era=message.LEGACY)
        if status != 200 or not session:
            raise PeerError(f"initialize answered {status}, session {session!r}: {body[:200]!r}")
        status, _, body = self.post(message.INITIALIZED, era=message.LEGACY, session=session)
        if status != 202:
            raise PeerError(f"notifications/initialized answered {status}: {body[:200]!r}")
        return session

    def requests(self, body: bytes, connections: int) -> list[bytes]:
        """Whole HTTP requests, one for each connection; in stateful mode each has a session of its own."""
        if self.mode != "stateful":
            return [message.http(self.port, body)]
        while len(self.sessions) < connections:
            self.sessions.append(self.open_session())
        return [message.http(self.port, body, era=message.LEGACY, session=one) for one in self.sessions[:connections]]

    def _first_response(self, deadline: float) -> None:
        body = message.call(self.tool, {"text": message.TEXT})
        while True:
            self.check()
            try:
                if self.mode == "stateful":
                    self.sessions.append(self.open_session())
                    return
                status, _, answer = self.post(body)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise PeerError(f"no answer in {START_TIMEOUT_S:.0f} s ({error}): {self.last_words()}") from error
                time.sleep(0.002)
        if status != 200 or message.EXPECT not in answer:
            raise PeerError(f"echo answered {status}: {answer[:200]!r}")

    def _first_line(self, deadline: float) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            os.write(self.process.stdin.fileno(), message.call("echo", {"text": message.TEXT}) + b"\n")
        except OSError as error:
            self.process.wait(3)
            raise PeerError(f"closed its input: {self.last_words()}") from error
        held = b""
        while True:
            if not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise PeerError(f"no answer in {START_TIMEOUT_S:.0f} s: {self.last_words()}")
            read = os.read(self.process.stdout.fileno(), 65536)
            if not read:
                self.process.wait(3)
                raise PeerError(f"closed its output: {self.last_words()}")
            *lines, held = (held + read).split(b"\n")
            for line in filter(None, lines):
                try:
                    is_answer = json.loads(line).get("id") == int(ID_SLOT)
                except (ValueError, AttributeError):
                    raise PeerError(f"wrote what is no message: {line[:200]!r}") from None
                if is_answer:
                    if message.EXPECT not in line:
                        raise PeerError(f"echo answered {line[:200]!r}")
                    return

    # -- what it costs
    def children(self) -> list[int]:
        """The processes that it started, and those that they did."""
        return self._pids()[1:]

    def _pids(self) -> list[int]:
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    found.extend(int(child) for child in task.read_text().split())
                except OSError:  # the thread ended meanwhile
                    pass
        return found

    def cpu_s(self) -> float:
        """CPU time (user and system) of the process and its children so far, in steps of 10 ms on most machines."""
        ticks = 0
        for pid in self._pids():
            try:
                after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            own = (11, 12, 13, 14) if pid == self.process.pid else (11, 12)
            ticks += sum(int(after_name[i]) for i in own)
        return ticks * TICK_S

    def rss_mb(self) -> float:
        """Resident memory of the process and its children."""
        pages = 0
        for pid in self._pids():
            try:
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except OSError:
                continue
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def interpreter(peer: Peer, python: str) -> str:
    return sys.executable if peer.is_own else python
