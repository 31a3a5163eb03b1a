"""What a server does by itself: the author's face of its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from erlmcp.runtime.scheduler import Job, Scheduler

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


class Agenda:
    """The jobs of a ``Server``. They begin when its lifespan has been entered, and end before it is left."""

    scheduler: Scheduler
    _loop: asyncio.AbstractEventLoop | None

    def every(self, seconds: float, /, **options: Any) -> Callable[[F], F]:
        """``@server.every(60)``: run a function without arguments again and again, for as long as the server runs.

        Options: name, pace ("rate", or "pause" from the end of a run to the next), first_s, jitter_s, missed
        ("coalesce", "skip" or "all"), priority ("critical", "normal" or "bulk"), runs_max, timeout_s, stop_on_error,
        owner; see docs/guide.md.
        """

        def register(fn: F) -> F:
            self.schedule(fn, every_s=seconds, **options)
            return fn

        return register

    def schedule(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Job:
        """Run ``fn(*args)`` once after ``first_s`` seconds (now where that is not given), or every ``every_s``.

        The options are those of ``every``. Given while the server runs, the job ends with it; given before, it begins
        with each start. May be called from a thread lane. Raises LimitError naming ``job_count_max``.
        """
        return self._on_loop(partial(self.scheduler.add, fn, *args, **options))

    def _on_loop(self, act: Callable[[], R]) -> R:
        """The value of ``act``, which is called on the server's loop where there is one."""
        if self._loop is None:
            return act()
        try:
            if asyncio.get_running_loop() is self._loop:
                return act()
        except RuntimeError:
            pass
        future: Future[R] = Future()

        def run() -> None:
            try:
                future.set_result(act())
            except Exception as error:
                future.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return future.result()
