"""One of several processes that serve behind one address: what of it concerns the others.

Each accepts on the same port (``SO_REUSEPORT``), and has a Unix socket in a folder that only this user can open, where
it serves the same endpoint. A session of a handshake revision lives in the process that opened it, whose number is the
first part of its id; a request of it that came to another one is handed over by that socket, as is its answer.

``/metrics`` of any of them is that of all: it asks the others, and takes what one wrote down last that is gone or does
not answer in time. A worker writes its numbers down before it tells them to anybody, and every ``WRITE_S``: what was
told is never taken back. A worker whose supervisor is gone ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from erlmcp import core
from erlmcp.errors import ConfigurationError
from erlmcp.metrics import prometheus
from erlmcp.metrics.merge import GONE, merged
from erlmcp.server.handover import Handover, fetch

if TYPE_CHECKING:
    from erlmcp.core import HttpRequest
    from erlmcp.metrics.desk import Ask
    from erlmcp.runtime.endpoint import Endpoint
    from erlmcp.server.app import Server

log = logging.getLogger("erlmcp.worker")
VARIABLE: Final = "ERLMCP_WORKER"
NUMBERS: Final = "/worker/metrics"
ASK_S: Final = 1.0  # that another worker is given to tell its numbers
WRITE_S: Final = 10  # ticks between two times that a worker writes them down
DEAD: Final = "gone"  # the file of what those counted that are gone
FORMS: Final = {False: "text", True: "openmetrics"}


@dataclass(frozen=True)
class Place:
    """Which of how many, where they meet, and at which port they serve: what a worker is started with."""

    index: int
    count: int
    folder: str
    port: int

    @classmethod
    def from_environment(cls) -> Self:
        """That of this process; those that it starts are none of the workers."""
        return cls(**json.loads(os.environ.pop(VARIABLE)))

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    def socket(self, index: int) -> str:
        return os.path.join(self.folder, f"{index}.sock")


class Worker:
    """The side of one worker. It is in use within ``open``."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._ticks = 0
        self._parent = os.getppid()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, server: Server, endpoint: Endpoint) -> AsyncIterator[None]:
        """Serve the others within this context. ConfigurationError for a server that cannot be one of several."""
        from erlmcp.transports.listener import HttpListener
        from erlmcp.transports.stream import bind_unix

        if server.sse_transport:
            raise ConfigurationError("sse_transport is for one process: its two connections must meet; without workers")
        endpoint.elsewhere = Handover(self.place.index, self.place.count, self.place.socket)
        inner = HttpListener(Inner(self, server, endpoint), server.routes, server.limits, server.turn)
        path = self.place.socket(self.place.index)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of the one that had this number before
        await inner.listen(None, 0, bind_unix(path))
        recorder = server.recorder
        write = self._written(server)
        if recorder is not None:
            recorder.after_tick.append(write)
        try:
            yield
        finally:
            if recorder is not None:
                recorder.after_tick.remove(write)
                self.numbers(server)
            await inner.close(server.limits.drain_timeout_s)
            for task in list(self._tasks):
                task.cancel()

    def _written(self, server: Server) -> Any:
        def write() -> None:
            self._ticks += 1
            if os.getppid() != self._parent:
                log.warning("the supervisor of worker %d is gone", self.place.index)
                os.kill(os.getpid(), signal.SIGTERM)
            if self._ticks % WRITE_S == 0:
                self.numbers(server)

        return write

    # -- numbers -------------------------------------------------------------------------------------------------------

    def numbers(self, server: Server) -> dict[str, str]:
        """This worker's own, by format; what is given here is written down first."""
        if server.recorder is None:
            return dict.fromkeys(FORMS.values(), "")
        found = {
            form: prometheus.expose(server.recorder, openmetrics=is_open).decode() for is_open, form in FORMS.items()
        }
        write_numbers(self.place.folder, f"{self.place.index}-{os.getpid()}", found)
        return found

    def expose(self, server: Server, ask: Ask, is_open: bool, content_type: bytes) -> None:
        """Answer with the numbers of all workers."""
        task = asyncio.get_running_loop().create_task(self._expose(server, ask, is_open, content_type))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _expose(self, server: Server, ask: Ask, is_open: bool, content_type: bytes) -> None:
        form, own = FORMS[is_open], self.place.index
        texts = {f"{own}-{os.getpid()}": self.numbers(server)[form]}
        others = [index for index in range(self.place.count) if index != own]
        answers = await asyncio.gather(*(self._ask(index) for index in others))
        for index, answer in zip(others, answers, strict=True):
            if answer is not None:
                texts[f"{index}-{answer['pid']}"] = answer[form]
        shown = [(name.partition("-")[0], text) for name, text in sorted(texts.items())]
        shown += [(GONE, each[form]) for name, each in read_numbers(self.place.folder).items() if name not in texts]
        ask.answer(merged(shown).encode(), content_type)

    async def _ask(self, index: int) -> dict[str, Any] | None:
        """What another worker tells; None where it is not there, or takes too long."""
        try:
            async with asyncio.timeout(ASK_S):
                found: dict[str, Any] = core.decode(
                    await fetch(self.place.socket(index), NUMBERS), string_bytes_max=1 << 28
                )
        except (OSError, EOFError, ValueError):
            return None
        return found


class Inner:
    """What a worker's own socket answers: the endpoint, and its numbers."""

    def __init__(self, worker: Worker, server: Server, endpoint: Endpoint) -> None:
        self._worker = worker
        self._server = server
        self._endpoint = endpoint

    def handle(self, request: HttpRequest, reply: Any) -> None:
        head = request.head
        if head is not None and head.target == NUMBERS:
            numbers = self._worker.numbers(self._server)
            reply.plain(200, core.encode({"pid": os.getpid(), **numbers}), b"", b"application/json")
        else:
            self._endpoint.handle(request, reply)

    def front_of(self, request: HttpRequest, reply: Any) -> object:
        return self._endpoint.front_of(request, reply)


# -- what is written down ----------------------------------------------------------------------------------------------


def write_numbers(folder: str, name: str, numbers: dict[str, str]) -> None:
    """Put a worker's numbers where they outlive it."""
    path = Path(folder, f"{name}.json")
    part = path.with_suffix(".part")
    try:
        part.write_bytes(core.encode(numbers))
        part.replace(path)
    except OSError as error:  # its supervisor is gone, or the disk is full
        log.warning("the numbers of worker %s cannot be written down: %s", name, error)


def read_numbers(folder: str) -> dict[str, dict[str, str]]:
    """By worker and process, and what those counted together that are long gone."""
    with locked(folder):
        return {
            path.stem: core.decode(path.read_bytes(), string_bytes_max=1 << 28) for path in Path(folder).glob("*.json")
        }


def bury_numbers(folder: str, pid: int) -> None:
    """Add the numbers of a process that is gone to those of all that are."""
    with locked(folder):
        dead = Path(folder, f"{DEAD}.json")
        found = list(Path(folder).glob(f"*-{pid}.json"))
        if found:
            known = [path for path in (dead, *found) if path.exists()]
            texts = [core.decode(path.read_bytes(), string_bytes_max=1 << 28) for path in known]
            together = {form: merged((GONE, text[form]) for text in texts) for form in FORMS.values()}
            write_numbers(folder, DEAD, together)
            for path in found:
                path.unlink()


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """No file is taken away while others are read."""
    with open(os.path.join(folder, "lock"), "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
