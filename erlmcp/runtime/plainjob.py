"""The jobs of a thread pool in plain Python: what ``job.pyx`` compiles, and what serves where that is not built."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, Final

LOG = logging.getLogger("erlmcp.threads")
PENDING, RUNNING, FINISHED, CANCELLED = 0, 1, 2, 3
BURIALS_MAX: Final = 100
# As ``concurrent.futures`` calls them, whose ``wait`` and ``as_completed`` look.
NAMES: Final = ("PENDING", "RUNNING", "FINISHED", "CANCELLED_AND_NOTIFIED")
STEP: Final = threading.Lock()  # makes the steps of all jobs whole; nothing of the user's runs under it


class Job:
    """A function to be called in a thread, and what became of it.

    It ends once: in the function's value or exception, cancelled before a thread took it, or lost with its thread.
    ``live`` is the dict of its pool's jobs that have not ended, which it leaves at its end. Unless it was cancelled,
    ``home(job.tell)`` is called then, whose part it is to call that where ``told(value, error)`` is to be called.
    ``level`` and ``owner`` say where it waits. The function runs in a copy of the context in which the job was made.
    """

    __slots__ = (
        "__weakref__", "_args", "_callbacks", "_context", "_error", "_fn", "_home", "_live", "_step", "_told", "_value",
        "_wakers", "level", "owner",
    )  # fmt: skip

    def __init__(
        self,
        live: dict[Any, None],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        level: int = 1,
        owner: object = None,
        home: Any = None,
        told: Any = None,
    ) -> None:
        self._live = live
        self._fn: Any = fn
        self._args: Any = args
        self._context: Any = contextvars.copy_context()
        self._home = home
        self._value: Any = None
        self._error: BaseException | None = None
        self._wakers: list[Callable[[], object]] = []
        self._callbacks: list[Callable[[Any], object]] = []
        self._step = PENDING
        self.level = level
        self.owner = owner
        self._told = told

    @property
    def _state(self) -> str:
        return NAMES[self._step]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.split('_')[0].lower()}>"

    def run(self) -> bool:
        """Call the function, in the thread of the caller. False where another one did, or the job was cancelled."""
        with STEP:
            if self._step != PENDING:
                return False
            self._step = RUNNING
        value, error = None, None
        try:
            value = self._context.run(self._fn, *self._args)
        except BaseException as exc:
            error = exc
        self._end(FINISHED, value, error)
        del error, self  # The traceback holds this frame.
        return True

    def cancel(self) -> bool:
        """False where a thread took the job already. It is never run then."""
        return self._end(CANCELLED, None, None) or self._step == CANCELLED

    def lose(self, error: BaseException) -> None:
        """The thread that ran this died: what it left undone of the job's end is done."""
        self._end(FINISHED, None, error)
        self._settle()

    def _end(self, step: int, value: Any, error: BaseException | None) -> bool:
        with STEP:
            if self._step >= FINISHED or (step == CANCELLED and self._step != PENDING):
                return False
            self._value, self._error, self._step = value, error, step
        self._fn = self._args = self._context = self.owner = None
        self._settle()
        return True

    def _settle(self) -> None:
        """Tell of the end. May be done again where it was broken off: who was told already is not told twice."""
        self._live.pop(self, None)
        home = self._home
        if home is not None and self._step == FINISHED:
            home(self.tell)
            self._home = None
        while self._wakers:
            waker = self._wakers[-1]
            waker()
            self._forget(waker)
        while self._callbacks:
            self._call_back(self._callbacks.pop(0))

    def _call_back(self, fn: Callable[[Any], object]) -> None:
        try:
            fn(self)
        except Exception:
            LOG.exception("a callback of %r failed", self)

    def done(self) -> bool:
        return self._step >= FINISHED

    def running(self) -> bool:
        return self._step == RUNNING

    def cancelled(self) -> bool:
        return self._step == CANCELLED

    def _wait(self, timeout: float | None) -> None:
        if self._step < FINISHED:
            lock = threading.Lock()
            lock.acquire()
            wake = partial(_open, lock)
            self.wake_by(wake)
            if not lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
                self._forget(wake)
                raise TimeoutError(f"the call did not end within timeout={timeout:g}")
        if self._step == CANCELLED:
            raise CancelledError()

    def wake_by(self, waker: Callable[[], object]) -> None:
        """``waker()`` is called when the job ended, at once where it has; twice, should the thread die in it."""
        with STEP:
            if self._step < FINISHED:
                self._wakers.append(waker)
                return
        waker()

    def _forget(self, waker: Callable[[], object]) -> None:
        with STEP:
            if waker in self._wakers:
                self._wakers.remove(waker)

    def result(self, timeout: float | None = None) -> Any:
        """What the function gave, waiting for it at most ``timeout`` seconds. Raises what it raised; CancelledError;
        TimeoutError."""
        self._wait(timeout)
        if self._error is None:
            return self._value
        try:
            raise self._error
        finally:
            del self  # The traceback holds this frame.

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the function raised; otherwise as ``result``."""
        self._wait(timeout)
        return self._error

    def tell(self) -> None:
        """Call ``told``, the first time that this is called."""
        told, self._told = self._told, None
        if told is not None:
            told(self._value, self._error)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """``fn(job)`` is called when the job ended, in the thread that ended it; at once where it has. An Exception of
        it is logged; another one ends the thread, and the callbacks behind it are called in another."""
        with STEP:
            if self._step < FINISHED:
                self._callbacks.append(fn)
                return
        self._call_back(fn)


def _open(lock: threading.Lock) -> None:
    if lock.locked():
        lock.release()


class Intake:
    """The hot part of a thread pool: how a job gets in, and how a worker goes through what it has before it.

    Of the pool it needs ``push_any``, the general way in, ``take_urgent`` and ``bury``. The compiled intake spares a
    job without an owner the lock: it is put where it belongs (``put``) in one step, and only where no worker is on its
    way to look for work (``searcher``), ``wake`` takes the lock and looks who sleeps.
    """

    __slots__ = ("is_closed", "is_urgent", "job_count_max", "live", "put", "searcher")

    is_urgent: bool
    bury: Callable[[Any, BaseException], None]
    push_any: Callable[[Any], None]
    take_urgent: Callable[[], Any]

    def push(self, job: Any) -> None:
        """Accept a job. PoolClosedError; LimitError; RuntimeError where not one thread can be started."""
        self.push_any(job)

    def live_as(self, worker: Any) -> None:
        """The life of a worker's thread: ``worker.work()`` and, where that fails, ``bury`` until it goes through.

        Who is killed while it is being buried may get lost between two lines of this; not so where it is compiled.
        """
        try:
            worker.work()
        except BaseException as error:
            fault = error
        else:
            return
        for _ in range(BURIALS_MAX):
            try:
                self.bury(worker, fault)
            except BaseException as error:
                fault = error
            else:
                return

    def work(self, worker: Any, pop: Callable[[], Any]) -> None:
        """Run what ``pop`` gives, and critical jobs before it, until there is nothing."""
        while True:
            job = (self.take_urgent() if self.is_urgent else None) or pop()
            if job is None:
                return
            worker.job = job
            job.run()
            worker.job = None
