"""Jobs: what a server does by itself, once or again and again, on the same loop as its calls.

Operations wanted: run a function after a while, at a fixed rate, or with a fixed pause; end, pause and list it; have
no more runs at a time than was said, shared fairly between those for whom they are.

Plan: each job has at most one deadline on the server's wheel (``erlmcp.runtime.timers``). When it comes the job asks
for a run, and runs are given out by ``erlmcp.policy.fair`` while fewer than ``running_max`` are on: the critical
first, and within a level each owner by its weight. An ordinary function runs in a thread lane, a coroutine function as
a handler does: to its first wait at once.

What holds:

- a job runs ``runs_max`` times at once at most (1 unless told); what comes due meanwhile is missed, and ``missed`` says
  what becomes of it: one run as soon as there is room (``coalesce``), none (``skip``), or one for each (``all``, up to
  1,000 that wait);
- the times of a fixed rate are ``start + n * every_s``, however long runs take and however late the loop is; jitter is
  added to each of them and does not add up;
- an error is logged and counted, and the job goes on, unless ``stop_on_error`` was said;
- a job that was given before the server started begins with each start; one that was given while it runs ends with it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.errors import ConfigurationError, LimitError
from erlmcp.policy.fair import BULK, CRITICAL, NORMAL, FairShare
from erlmcp.runtime.executor import cancel_soon

if TYPE_CHECKING:
    from erlmcp.runtime.lane import ThreadLanes
    from erlmcp.runtime.timers import Deadline, Timers

log = logging.getLogger("erlmcp.server")

LEVEL_OF = {"critical": CRITICAL, "normal": NORMAL, "bulk": BULK}
MISSED = ("coalesce", "skip", "all")
PACES = ("rate", "pause")
BACKLOG_MAX = 1_000
PAGE_COUNT = 100
Drive = Callable[..., "asyncio.Task[None] | None"]


@dataclass(frozen=True, slots=True)
class Plan:
    """When a job runs, and how. Raises ConfigurationError for what makes no sense.

    ``every_s`` None: once. ``pace``: ``rate`` counts from start to start, ``pause`` from the end to the next start.
    ``first_s``: until the first run (None: ``every_s``, or 0 for a job that runs once). ``jitter_s``: each run comes up
    to so much later. ``timeout_s``: a run that takes longer is cancelled; one in a thread cannot be, its end is waited
    for.
    """

    every_s: float | None = None
    pace: str = "rate"
    first_s: float | None = None
    jitter_s: float = 0.0
    missed: str = "coalesce"
    priority: str = "normal"
    runs_max: int = 1
    timeout_s: float | None = None
    stop_on_error: bool = False

    def __post_init__(self) -> None:
        for name in ("every_s", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0.001 <= value <= 1e9:
                raise ConfigurationError(f"{name} of a job is 0.001 to 1e9 seconds, got {value!r}")
        for name in ("first_s", "jitter_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1e9:
                raise ConfigurationError(f"{name} of a job is 0 to 1e9 seconds, got {value!r}")
        for name, known in (("pace", PACES), ("missed", MISSED), ("priority", tuple(LEVEL_OF))):
            if getattr(self, name) not in known:
                raise ConfigurationError(f"{name} of a job is one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.runs_max < 1:
            raise ConfigurationError(f"runs_max of a job is at least 1, got {self.runs_max}")
        if self.pace == "pause" and (self.every_s is None or self.runs_max > 1):
            raise ConfigurationError("a job with a pause between its runs needs every_s, and runs once at a time")

    @property
    def delay_s(self) -> float:
        return self.first_s if self.first_s is not None else self.every_s or 0.0


class Job:
    """A function with a plan, as ``Scheduler.add`` gives it. Its counts are for reading."""

    __slots__ = (
        "_deadline",
        "_scheduler",
        "args",
        "backlog",
        "due_ns",
        "error_count",
        "fn",
        "id",
        "is_async",
        "is_ended",
        "is_lasting",
        "is_paused",
        "is_waiting",
        "last_error",
        "missed_count",
        "name",
        "owner",
        "plan",
        "run_count",
        "runs",
    )

    def __init__(
        self,
        scheduler: Scheduler,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        plan: Plan,
        name: str,
        owner: Hashable,
    ) -> None:
        self._scheduler = scheduler
        self._deadline: Deadline | None = None
        self.fn = fn
        self.args = args
        self.is_async = any(inspect.iscoroutinefunction(each) for each in (fn, type(fn).__call__))
        self.plan = plan
        self.name = name
        self.owner = owner
        self.id = 0
        self.due_ns = 0  # of the next run, without jitter
        self.is_paused = self.is_ended = self.is_waiting = False
        self.is_lasting = False  # begins anew with each start of the scheduler
        self.backlog = 0  # runs to be made as soon as there is room
        self.runs: list[Run] = []
        self.run_count = self.error_count = self.missed_count = 0
        self.last_error: BaseException | None = None

    @property
    def next_s(self) -> float | None:
        """Seconds until the next run is due, 0 for one that waits for its turn; None where none is planned."""
        return self._scheduler.next_s(self)

    def cancel(self, *, running: bool = False) -> bool:
        """No more runs; with ``running`` those that go on are cancelled, too. False where it had ended."""
        return self._scheduler.end(self, running=running)

    def pause(self) -> None:
        """No runs until ``resume``; those that go on end as they will."""
        self._scheduler.pause(self)

    def resume(self) -> None:
        """Go on: at the next time of its rate, a pause from now, or, for a job that runs once, when it would have."""
        self._scheduler.resume(self)

    def describe(self) -> dict[str, Any]:
        """What a list of jobs shows of it, as JSON values."""
        return {
            "id": self.id,
            "name": self.name,
            "priority": self.plan.priority,
            "everySeconds": self.plan.every_s,
            "nextSeconds": self.next_s,
            "paused": self.is_paused,
            "running": len(self.runs),
            "runs": self.run_count,
            "errors": self.error_count,
            "missed": self.missed_count,
        }


class Run:
    """One run of a job, from its start to its end."""

    __slots__ = ("deadline", "is_late", "job", "task")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.task: Any = None
        self.deadline: Deadline | None = None
        self.is_late = False


class Scheduler:
    """The jobs of a server, or of any program that has an executor, timers and lanes.

    ``count_max`` jobs at a time, ``running_max`` runs at a time. Everything belongs to the loop's thread once it was
    started. ``clock_ns`` is the clock of the timers; ``draw`` gives a number from 0 to 1.
    """

    def __init__(
        self,
        count_max: int = 10_000,
        running_max: int = 64,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.count_max = count_max
        self.running_max = running_max
        self._jobs: core.Slab[Job] = core.Slab(count_max)
        self._of_owner: dict[Hashable, set[Job]] = {}
        self._fair: FairShare[Job] = FairShare()
        self._runs: set[Run] = set()
        self._clock = clock_ns
        self._draw = draw
        self._timers: Timers | None = None
        self._drive: Drive | None = None
        self._lanes: ThreadLanes | None = None
        self._pumping = False

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def running_count(self) -> int:
        """How many runs are on."""
        return len(self._runs)

    @property
    def waiting_count(self) -> int:
        """How many jobs are due and wait for their turn."""
        return len(self._fair)

    # -- in and out ----------------------------------------------------------------------------------------------------

    def add(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        name: str | None = None,
        owner: Hashable = None,
        **plan: Any,
    ) -> Job:
        """A job that calls ``fn(*args)`` as the fields of ``Plan`` say; a coroutine function on the loop, any other in
        a thread.

        ``owner`` is whose share its runs are taken from, and with whom it ends (``drop``). Raises LimitError naming
        ``job_count_max`` where there are too many, ConfigurationError for a plan that makes no sense.
        """
        if not callable(fn):
            raise ConfigurationError(f"a job is a function, got {fn!r}")
        job = Job(self, fn, args, Plan(**plan), str(name or getattr(fn, "__name__", "job")), owner)
        if len(self._jobs) >= self.count_max:
            raise LimitError("job_count_max", self.count_max, "cancel jobs that are not needed, or raise the limit")
        job.id = self._jobs.put(job)
        if owner is not None:
            self._of_owner.setdefault(owner, set()).add(job)
        job.is_lasting = self._timers is None
        if self._timers is not None:
            self._begin(job)
        return job

    def weigh(self, owner: Hashable, weight: int) -> None:
        """Give an owner's jobs ``weight`` times the share of one that weighs 1 (1 to 1,000)."""
        self._fair.weigh(owner, weight)

    def drop(self, owner: Hashable) -> None:
        """An owner left: its jobs end, those that run are cancelled, its weight is forgotten."""
        for job in list(self._of_owner.get(owner, ())):
            self.end(job, running=True)
        self._fair.drop(owner)

    def get(self, id: int) -> Job:
        """Raises StaleHandleError (a LookupError) for a job that ended, or never was."""
        return self._jobs.get(id)

    def page(self, cursor: int = 0, count: int = PAGE_COUNT) -> tuple[int, list[Job]]:
        """Up to ``count`` jobs, and the cursor to go on with, 0 at the end. A job that is there from the first page to
        the last is given exactly once."""
        cursor, found = self._jobs.scan(cursor, count)
        return cursor, [job for _id, job in found]

    def jobs(self) -> Iterator[Job]:
        """All jobs, page by page, while they may come and go."""
        cursor, found = self.page()
        yield from found
        while cursor:
            cursor, found = self.page(cursor)
            yield from found

    # -- with the server -----------------------------------------------------------------------------------------------

    def start(self, timers: Timers, drive: Drive, lanes: ThreadLanes) -> None:
        """Begin: ``drive(coroutine, done)`` runs coroutines, ``lanes`` ordinary functions."""
        self._timers, self._drive, self._lanes = timers, drive, lanes
        for run in self._runs:  # Left behind in threads of before.
            run.job.runs.clear()
        self._runs.clear()
        for job in self.jobs():
            self._begin(job)

    def stop(self) -> None:
        """No more runs. Jobs that were given while it ran are gone; those that go on are cancelled."""
        for job in self.jobs():
            if job.is_lasting:
                self._halt(job)
            else:
                self.end(job)
        self._timers = self._drive = self._lanes = None
        for run in list(self._runs):
            self._cancel(run)

    def end(self, job: Job, *, running: bool = False) -> bool:
        """See ``Job.cancel``."""
        was_live = not job.is_ended
        if was_live:
            self._halt(job)
            job.is_ended = True
            self._jobs.take(job.id)
            mine = self._of_owner.get(job.owner)
            if mine is not None:
                mine.discard(job)
                if not mine:
                    del self._of_owner[job.owner]
        if running:
            for run in list(job.runs):
                self._cancel(run)
        return was_live

    def pause(self, job: Job) -> None:
        """See ``Job.pause``."""
        if not job.is_ended and not job.is_paused:
            self._halt(job)
            job.is_paused = True

    def resume(self, job: Job) -> None:
        """See ``Job.resume``."""
        if job.is_ended or not job.is_paused:
            return
        job.is_paused = False
        if self._timers is None:
            return
        now_ns, every_s = self._clock(), job.plan.every_s
        if every_s is not None and job.plan.pace == "pause":
            job.due_ns = now_ns + _ns(every_s)
        elif every_s is not None and job.due_ns < now_ns:
            job.due_ns += -(-(now_ns - job.due_ns) // _ns(every_s)) * _ns(every_s)
        self._plan(job)

    def next_s(self, job: Job) -> float | None:
        """See ``Job.next_s``."""
        if job.is_waiting:
            return 0.0
        if job._deadline is None or not job._deadline.is_pending:
            return None
        return max(0, job.due_ns - self._clock()) / 1e9

    # -- from due to done ----------------------------------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        job.due_ns = self._clock() + _ns(job.plan.delay_s)
        if not job.is_paused:
            self._plan(job)

    def _plan(self, job: Job) -> None:
        """Set the job's deadline to its next time."""
        timers = self._timers
        if timers is not None:
            delay_s = (job.due_ns - self._clock()) / 1e9 + job.plan.jitter_s * self._draw()
            job._deadline = timers.add(delay_s, self._due, job)

    def _halt(self, job: Job) -> None:
        """Take back what is planned and what waits."""
        if job._deadline is not None and self._timers is not None:
            self._timers.cancel(job._deadline)
        job._deadline = None
        job.backlog = 0
        if job.is_waiting:
            job.is_waiting = False
            self._fair.discard(job.owner, job, level=LEVEL_OF[job.plan.priority])

    def _due(self, job: Job) -> None:
        plan = job.plan
        times = 1
        if plan.every_s is not None and plan.pace == "rate":
            every_ns = _ns(plan.every_s)
            times += max(0, self._clock() - job.due_ns) // every_ns  # more than one where the loop was held up
            job.due_ns += times * every_ns
            self._plan(job)
        if plan.missed == "all":
            wanted = min(times, BACKLOG_MAX - job.backlog)
        elif plan.missed == "coalesce":
            wanted = 1 if job.backlog == 0 else 0
        else:
            wanted = 1 if len(job.runs) + job.backlog < plan.runs_max else 0
        job.missed_count += times - wanted
        job.backlog += wanted
        self._wait_turn(job)
        self._pump()

    def _wait_turn(self, job: Job) -> None:
        """Line up for a run, where one is wanted and the job may run once more."""
        if job.backlog and not job.is_waiting and len(job.runs) < job.plan.runs_max:
            job.is_waiting = True
            self._fair.push(job.owner, job, level=LEVEL_OF[job.plan.priority])

    def _pump(self) -> None:
        """Start runs while there is room. A run that ends at once does not come back in here."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while len(self._runs) < self.running_max and (job := self._fair.take()) is not None:
                job.is_waiting = False
                job.backlog -= 1
                self._run(job)
                self._wait_turn(job)
        finally:
            self._pumping = False

    def _run(self, job: Job) -> None:
        drive, lanes, timers = self._drive, self._lanes, self._timers
        if drive is None or lanes is None or timers is None:
            return
        run = Run(job)
        self._runs.add(run)
        job.runs.append(run)
        job.run_count += 1
        done = partial(self._done, run)
        try:
            if job.is_async:
                run.task = drive(job.fn(*job.args), done)
                if run.task is not None and job.plan.timeout_s is not None:
                    run.deadline = timers.add(job.plan.timeout_s, self._time_out, run)
            else:
                run.task = lanes.submit(job.fn, job.args, done)
        except Exception as error:  # Too many calls wait for a thread, or the arguments are not the function's.
            self._done(run, None, error)

    def _time_out(self, run: Run) -> None:
        run.is_late = True
        cancel_soon(run.task)

    def _done(self, run: Run, value: Any, error: BaseException | None) -> None:
        job, timers = run.job, self._timers
        if run not in self._runs:  # It went on in a thread when its scheduler stopped.
            return
        self._runs.remove(run)
        job.runs.remove(run)
        if run.deadline is not None and timers is not None:
            timers.cancel(run.deadline)
        if run.is_late:
            error = TimeoutError(f"a run of the job {job.name} took longer than {job.plan.timeout_s:g} s")
        if error is not None and not (isinstance(error, asyncio.CancelledError) and (job.is_ended or timers is None)):
            job.error_count += 1
            job.last_error = error
            log.error("the job %s failed", job.name, exc_info=error)
        if not job.is_ended and timers is not None:
            if error is not None and job.plan.stop_on_error:
                self.end(job)
            elif job.plan.every_s is None:
                if not job.is_lasting:
                    self.end(job)
            elif job.plan.pace == "pause" and not job.is_paused:
                job.due_ns = self._clock() + _ns(job.plan.every_s)
                self._plan(job)
        self._wait_turn(job)
        self._pump()

    def _cancel(self, run: Run) -> None:
        if isinstance(run.task, asyncio.Task):
            cancel_soon(run.task)
        elif run.task is not None and run.task.cancel():  # no thread had taken it
            self._done(run, None, None)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
