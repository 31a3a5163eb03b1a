"""The jobs of a thread pool and their short way into it, compiled; ``plainjob.py`` says what they do."""

from collections.abc import Callable
from typing import Any

class Job:
    """A function to be called in a thread, and what became of it."""

    def __init__(
        self,
        live: dict[Any, None],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        level: int = 1,
        owner: object = None,
        home: Any = None,
        told: Any = None,
    ) -> None: ...
    @property
    def level(self) -> int: ...
    @property
    def owner(self) -> object: ...
    @property
    def _state(self) -> str: ...
    def run(self) -> bool:
        """Call the function, in the thread of the caller. False where another one did, or the job was cancelled."""
    def cancel(self) -> bool:
        """False where a thread took the job already. It is never run then."""
    def lose(self, error: BaseException) -> None:
        """The thread that ran this died: what it left undone of the job's end is done."""
    def done(self) -> bool: ...
    def running(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def result(self, timeout: float | None = None) -> Any:
        """What the function gave, waiting for it at most ``timeout`` seconds. Raises what it raised; CancelledError;
        TimeoutError."""
    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the function raised; otherwise as ``result``."""
    def tell(self) -> None:
        """Call ``told``, the first time that this is called."""
    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """``fn(job)`` is called when the job ended, in the thread that ended it; at once where it has. An Exception of
        it is logged; another one ends the thread, and the callbacks behind it are called in another."""
    def wake_by(self, waker: Callable[[], object]) -> None:
        """``waker()`` is called when the job ended, at once where it has; twice, should the thread die in it."""

class Intake:
    """The hot part of a thread pool: how a job gets in, and how a worker goes through what it has before it."""

    live: dict[Any, None]
    put: Callable[[Any, int], bool]
    searcher: Any
    job_count_max: int
    is_closed: bool
    is_urgent: bool
    def push(self, job: Any) -> None:
        """Accept a job. PoolClosedError; LimitError; RuntimeError where not one thread can be started."""
    def live_as(self, worker: Any) -> None:
        """The life of a worker's thread: ``worker.work()`` and, where that fails, ``bury`` until it goes through."""
    def work(self, worker: Any, pop: Callable[[], Any]) -> None:
        """Run what ``pop`` gives, and critical jobs before it, until there is nothing."""
