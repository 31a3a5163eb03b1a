"""A journal on disk of the calls that are in flight, so that a program that died can say which they were.

Wanted: after a crash, the calls that were opened and not closed, each with what is needed to send it again, and whether
that may be done (``idempotent``); the price in operation a few microseconds, and one write for many records; a file
that does not grow with the number of calls that were ever made.

A journal is one file that is only ever appended to, or replaced as a whole; record.py says what is in it. A call is
known after a crash from the flush on that follows its open, so who sends calls flushes first, once for all of a write.
The end of a call may be lost with the process: then the call is reported though it ended. Never the other way round.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from erlmcp.core import Correlation
from erlmcp.errors import JournalError, LimitError, StaleHandleError
from erlmcp.stores.record import (
    CLOSE,
    CLOSED,
    IDEMPOTENT,
    INT_ID,
    OPEN,
    OPENED,
    TEXT_BYTES_MAX,
    InFlight,
    Recovery,
    frame,
    header,
    new_mark,
    read_records,
)

__all__ = ["InFlight", "Journal", "JournaledCorrelation", "Recovery", "read"]

BATCH_BYTES = 64 * 1024  # so many gathered are written without being asked
SYNCS = ("none", "batch", "always")


def read(path: str | os.PathLike[str]) -> Recovery:
    """What a journal says, without opening it for writing: nothing is locked or changed.

    JournalError where the file is no journal, OSError where it cannot be read.
    """
    return read_records(Path(path).read_bytes(), path)[0]


class Journal:
    """Writes down which calls are in flight. ``with Journal(path) as journal`` closes it at the end.

    Opening a journal reads what the last writer left: ``recovered`` has the calls that it had in flight. They stay in
    the journal until ``close_call(call.serial)`` says what became of them. A file that was damaged is kept beside the
    new one, as ``<path>.damaged``.

    ``open_call`` and ``close_call`` gather records, and ``flush`` writes them in one go; 64 KiB are written without
    being asked. ``sync`` says what is safe after ``flush``, or after ``open_call``:

    - ``"none"``: what was flushed outlives the process. A power cut may take it.
    - ``"batch"``: ``flush`` waits for the disk, so that it outlives a power cut too.
    - ``"always"``: each ``open_call`` flushes, and waits for the disk.

    A file of more than ``bytes_max`` bytes is written anew at the next flush, with the calls alone that are open. These
    may take half of it.

    Any thread may use a journal; of several that flush at a time one writes for all. One process: others, and children
    by fork, get JournalError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: str = "batch",
        bytes_max: int = 64 * 1024 * 1024,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """JournalError where another journal has the file, or it is no journal; OSError where it cannot be opened."""
        if sync not in SYNCS:
            raise ValueError(f"sync is one of {', '.join(SYNCS)}, got {sync!r}")
        if bytes_max < 4096:
            raise ValueError(f"bytes_max is 4096 or more, got {bytes_max}")
        self.path = Path(path)
        self.sync = sync
        self.bytes_max = bytes_max
        self._clock_ns = clock_ns
        # Of what is gathered; reentrant, as dropping an object may run code that ends a call.
        self._lock = threading.RLock()
        # Of the file. Taken before the other.
        self._file_lock = threading.RLock()
        self._pid = os.getpid()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._gathered_count = self._flushed_count = 0
        self._failure: OSError | None = None
        self._is_writing = False
        self._file = _open_locked(self.path)
        try:
            data = self._file.read()
            self.recovered, self._open, self._serial = read_records(data, self.path)
            self._open_bytes = sum(map(len, self._open.values()))
            if not self.recovered.is_whole:
                _keep_beside(self.path)
            self._rewrite()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        """Calls that are open, those of ``recovered`` among them."""
        return len(self._open)

    @property
    def is_closed(self) -> bool:
        return bool(self._file.closed)

    @property
    def file_bytes(self) -> int:
        """Of the file, without what is still gathered."""
        return self._file_bytes

    def open_call(self, id: str | int, method: str = "", payload: bytes = b"", *, idempotent: bool = False) -> int:
        """Writes down that a call is about to be made; gives the serial to close it with.

        ``payload`` is what is needed to make it again. LimitError naming ``text_bytes_max`` for an id or a method of
        64 KiB or more, or ``bytes_max`` where the open calls take half of that; TypeError for an id that is neither str
        nor int; UnicodeError (a ValueError) for one that cannot be written in UTF-8; JournalError where the journal
        cannot be written. The call is not open then.
        """
        if not isinstance(id, str | int) or isinstance(id, bool):
            raise TypeError(f"an id is a str or an int, not {type(id).__name__}")
        flags = IDEMPOTENT * idempotent | INT_ID * isinstance(id, int)
        id_bytes, method_bytes = str(id).encode(), method.encode()
        if len(id_bytes) > TEXT_BYTES_MAX or len(method_bytes) > TEXT_BYTES_MAX:
            raise LimitError("text_bytes_max", TEXT_BYTES_MAX, "the id or the method is too long for a journal")
        self._make_room()
        opened_ns = self._clock_ns()
        with self._lock:
            serial = self._serial
            start = OPENED.pack(OPEN, flags, serial, opened_ns, len(id_bytes), len(method_bytes))
            body = b"".join((start, id_bytes, method_bytes, payload))
            if self._open_bytes + len(body) > self.bytes_max // 2:
                raise LimitError("bytes_max", self.bytes_max, f"{len(self._open)} open calls take half of the journal")
            self._serial += 1
            self._open[serial] = body
            self._open_bytes += len(body)
            self._gather(body)
        if self.sync == "always":
            try:
                self.flush()
            except BaseException:
                self._withdraw(serial)
                raise
        return serial

    def close_call(self, serial: int) -> None:
        """Writes down that a call has ended, however it did. StaleHandleError where it is not open (any more).

        JournalError where the journal cannot be written: the call has ended all the same, but may be reported again.
        """
        with self._lock:
            body = self._open.pop(serial, None)
            if body is None:
                raise StaleHandleError(f"no call is open under the serial {serial} of this journal")
            self._open_bytes -= len(body)
            self._gather(CLOSED.pack(CLOSE, serial))
        self._make_room()

    def flush(self) -> None:
        """What was gathered is written when this returns: by this thread, or by another that flushed at this time.

        JournalError where that fails. It can be tried again, unless the message says that the journal has ended.
        """
        wanted = self._gathered_count
        with self._file_lock:
            self._stop_where_unusable()
            if self._flushed_count >= wanted or self._is_writing:
                return  # another thread did it; or this one is at it, and was interrupted
            self._is_writing = True
            try:
                self._write_gathered()
                if self._file_bytes > max(self.bytes_max, 2 * self._fresh_bytes):
                    self._rewrite()
            except OSError as error:
                raise JournalError(f"{self.path} could not be written: {error}") from error
            finally:
                self._is_writing = False

    def close(self) -> None:
        """Flushes, and lets go of the file. Calls that are open stay so for the next who opens it. May be repeated."""
        with self._file_lock:
            if self.is_closed:
                return
            try:
                if self._pid == os.getpid() and self._failure is None:
                    self.flush()
            finally:
                self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---- Within

    def _gather(self, body: bytes) -> None:
        self._pending.append(body)
        self._pending_bytes += len(body)
        self._gathered_count += 1

    def _make_room(self) -> None:
        if self._pending_bytes >= BATCH_BYTES:
            self.flush()
        elif self._failure is not None or self._file.closed:
            self._stop_where_unusable()

    def _withdraw(self, serial: int) -> None:
        """A call that could not be written down is not open. What is on the disk of it, if anything, is closed."""
        with self._lock:
            body = self._open.pop(serial, None)
            if body is not None:
                self._open_bytes -= len(body)
                self._gather(CLOSED.pack(CLOSE, serial))

    def _stop_where_unusable(self) -> None:
        if self._file.closed:
            raise JournalError(f"{self.path} was closed")
        if self._failure is not None:
            raise JournalError(f"{self.path} has ended, as a write to it failed half way: {self._failure}")
        if self._pid != os.getpid():
            raise JournalError(f"{self.path} belongs to the process {self._pid}, of which this one is a child")

    def _write_gathered(self) -> None:
        with self._lock:
            bodies, count, size = self._pending, self._gathered_count, self._pending_bytes
            self._pending, self._pending_bytes = [], 0
        data = b"".join([frame(self._mark, body) for body in bodies])
        try:
            _write_all(self._file, data)
        except OSError as error:
            self._cut_back(error)
            with self._lock:
                self._pending[:0] = bodies
                self._pending_bytes += size
            raise
        self._file_bytes += len(data)
        if self.sync != "none":
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self._failure = error  # what of it is on the disk nobody knows
                raise
        self._flushed_count = count

    def _cut_back(self, error: OSError) -> None:
        """Takes away what was written of records whose rest was not."""
        try:
            self._file.truncate(self._file_bytes)
            self._file.seek(self._file_bytes)
        except OSError:
            self._failure = error

    def _rewrite(self) -> None:
        """A new file with the open calls alone, in the place of the old one; what was gathered is in it too."""
        with self._lock:
            bodies, count = list(self._open.values()), self._gathered_count
            pending, size = self._pending, self._pending_bytes
            self._pending, self._pending_bytes = [], 0
        mark = new_mark()
        data = b"".join([header(mark), *(frame(mark, body) for body in bodies)])
        try:
            file = _write_beside(self.path, data)
        except BaseException:
            with self._lock:
                self._pending[:0] = pending
                self._pending_bytes += size
            raise
        self._file.close()
        self._file, self._mark, self._flushed_count = file, mark, count
        self._file_bytes = self._fresh_bytes = len(data)


def _open_locked(path: Path) -> Any:
    """The file at a path, made where there is none, and ours until it is closed."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        file = os.fdopen(number, "r+b", buffering=0)
        try:
            _lock(file, path)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(number), os.stat(path)):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()  # it was replaced between the opening and the locking


def _lock(file: Any, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalError(f"{path} is written by another journal") from None


def _write_beside(path: Path, data: bytes) -> Any:
    """Replaces the file at a path as a whole; the new one, locked. OSError, and the old one is as it was."""
    number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    file = os.fdopen(number, "r+b", buffering=0)
    try:
        _lock(file, path)
        _write_all(file, data)
        os.fsync(number)
        os.replace(temporary, path)
    except BaseException:
        file.close()
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _flush_folder(path.parent)
    return file


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _keep_beside(path: Path) -> None:
    """A damaged file gets a second name, under which it stays when it is replaced."""
    kept = path.with_name(f"{path.name}.damaged")
    kept.unlink(missing_ok=True)
    os.link(path, kept)


def _flush_folder(folder: Path) -> None:
    """The rename is on the disk after that."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# -- correlation -------------------------------------------------------------------------------------------------------


class JournaledCorrelation:
    """``erlmcp.core.Correlation`` with a journal beside it: what waits for an answer is written down until it is taken.

    Each ``put`` opens a call in the journal, and whatever takes it out (an answer, its deadline, the loss of the
    connection) closes it. ``flush`` comes before the requests are sent, once for all of a write. After a crash
    ``journal.recovered`` has what was in flight.
    """

    def __init__(self, journal: Journal, count_max: int = 1_000_000) -> None:
        """``count_max`` as for ``Correlation``."""
        self.journal = journal
        self._calls = Correlation(count_max)

    @property
    def count_max(self) -> int:
        return self._calls.count_max

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, id: object) -> bool:
        return id in self._calls

    def next_id(self) -> int:
        return self._calls.next_id()

    def put(
        self,
        id: str | int,
        pending: object,
        deadline_ns: int | None = None,
        *,
        method: str = "",
        payload: bytes = b"",
        idempotent: bool = False,
    ) -> None:
        """As ``Correlation.put`` and ``Journal.open_call``, with the errors of both; all or nothing."""
        serial = self.journal.open_call(id, method, payload, idempotent=idempotent)
        try:
            self._calls.put(id, (serial, pending), deadline_ns)
        except BaseException:
            self.journal.close_call(serial)
            raise

    def put_next(
        self,
        pending: object,
        deadline_ns: int | None = None,
        *,
        method: str = "",
        payload: bytes = b"",
        idempotent: bool = False,
    ) -> int:
        """``put`` under ``next_id()``, which it gives."""
        id = self._calls.next_id()
        self.put(id, pending, deadline_ns, method=method, payload=payload, idempotent=idempotent)
        return id

    def flush(self) -> None:
        """All that was put is written down when this returns. JournalError."""
        self.journal.flush()

    def take(self, id: object) -> object | None:
        return self._end(self._calls.take(id))

    def take_token(self, token: bytes) -> object | None:
        return self._end(self._calls.take_token(token))

    def take_many(self, ids: Iterable[object]) -> list[object | None]:
        return [self._end(entry) for entry in self._calls.take_many(ids)]

    def expire(self, now_ns: int) -> list[tuple[str | int, object]]:
        return [(id, self._end(entry)) for id, entry in self._calls.expire(now_ns)]

    def drain(self) -> list[tuple[str | int, object]]:
        return [(id, self._end(entry)) for id, entry in self._calls.drain()]

    def next_deadline_ns(self) -> int | None:
        return self._calls.next_deadline_ns()

    def check(self) -> None:
        self._calls.check()

    def _end(self, entry: Any) -> object | None:
        """A journal that cannot be written must not cost those who wait their answers: the next ``flush`` tells."""
        if entry is None:
            return None
        serial, pending = entry
        with contextlib.suppress(JournalError):
            self.journal.close_call(serial)
        result: object = pending
        return result
