"""A pool of threads whose idle ones take work from the busy ones.

Wanted: a submitter pays for a job and not for waking a thread; a worker does not go to a shared queue for each job;
nothing waits behind a long job while another thread is idle; critical jobs and other callers do not wait behind a
crowd; what was accepted ends, whatever happens to the thread that has it.

Plan. Jobs wait in one line (``Line``). A worker takes a few of them at a time into a deque of its own, as many as it
would run within half a millisecond by what the last ones took: one, where jobs are long; and never more than its share
of the line. It runs them from one end of the deque; a worker that finds the line empty takes half of another's from
the other end. Jobs that a job submits go into the deque of its worker, at the end where it takes them.

A worker without work parks on a lock of its own. A submitter wakes one only where none is on its way already (the
*searcher*); the searcher wakes the next as soon as it found more than one job. So a burst costs its submitter one
wake-up, and the threads come up one after another as long as there is work. Whoever parks looks for work and goes to
sleep under the pool's lock; whoever brings work looks for a searcher after that, and for sleepers under the lock: no
wake-up is lost, and nobody spins.

Invariant: each accepted job that has not ended is in ``live``, the order of which is that of their coming. Everything
else can be rebuilt from it. That is what happens when a thread dies: its job is answered with WorkerLostError, and all
that no thread has begun is put in line anew. A job that stands in two places then is run by the first that comes to it.

Thread rule: everything here is under the pool's lock, or belongs to one worker; the deques' own steps are whole (those
of the plain twin under a lock of theirs). Only the compiled parts rely on the GIL, and ask for it where an interpreter
runs without.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from _thread import get_ident
from typing import TYPE_CHECKING, Any, Final, NoReturn

from erlmcp import core
from erlmcp.errors import LimitError, PoolClosedError, WorkerLostError
from erlmcp.runtime.line import CRITICAL, NORMAL, Line

if TYPE_CHECKING:
    from erlmcp.runtime.job import Intake as Intake
    from erlmcp.runtime.job import Job as Job
elif core.IMPLEMENTATION == "core":
    from erlmcp.runtime.job import Intake, Job
else:
    from erlmcp.runtime.plainjob import Intake
    from erlmcp.runtime.plainjob import Job as Job

LOG = logging.getLogger("erlmcp.threads")
BATCH_MAX: Final = 64  # jobs that a worker takes at a time ...
BATCH_NS: Final = 500_000  # ... and how long they may take, by the last ones
OWN_MAX: Final = 64  # jobs that the jobs of a worker put in its deque before it looks at the line again
DEQUE_CAPACITY: Final = 256
START_S: Final = 0.25  # a thread that has not begun by then is given up; should it come all the same, it is taken
START_PAUSE_NS: Final = 5_000_000_000  # for so long after that no other is started while there are threads


class LockedDeque:
    """The plain twin of the work-stealing deque, whose steps are whole for threads only under this lock."""

    __slots__ = ("_lock", "_twin")

    def __init__(self, twin: Any) -> None:
        self._twin = twin
        self._lock = threading.RLock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._twin)

    def own(self) -> None:
        self._twin.own()

    def push(self, job: Any) -> bool:
        with self._lock:
            return bool(self._twin.push(job))

    def push_many(self, jobs: list[Any]) -> int:
        with self._lock:
            return int(self._twin.push_many(jobs))

    def pop(self) -> Any:
        with self._lock:
            return self._twin.pop()

    def steal_many(self) -> list[Any]:
        with self._lock:
            stolen: list[Any] = self._twin.steal_many()
            return stolen


def make_deque() -> Any:
    made: Any = core.WorkStealingDeque(DEQUE_CAPACITY)
    return made if core.IMPLEMENTATION == "core" else LockedDeque(made)


class Begun(threading.Event):
    """What ``Thread.start`` waits for, and without a bound. A thread that has no memory for its first step never says
    that it began, and who started it would wait for ever: the event loop, with the pool's lock."""

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(START_S if timeout is None else timeout)


class Worker:
    """One thread: what it has before it, what it does, and the lock on which it parks."""

    __slots__ = ("_began_ns", "_own_count", "_pool", "_size", "begun", "deque", "job", "thread", "wake")

    def __init__(self, pool: ThreadPool, number: int) -> None:
        self._pool = pool
        self._size = 1
        self._began_ns = 0
        self._own_count = 0
        self.deque = make_deque()
        self.job: Any = None
        self.wake = threading.Lock()
        self.wake.acquire()
        self.thread = threading.Thread(target=pool.live_as, args=(self,), name=f"{pool.name}-{number}", daemon=True)
        self.begun = self.thread._started = Begun()  # type: ignore[attr-defined]

    def work(self) -> None:
        """Until there is nothing to do any more."""
        self.deque.own()
        while self._find():
            self._pool.work(self, self.deque.pop)

    def push(self, job: Any) -> bool:
        """Take a job from one that runs here; False where it is to go in line. The pool's lock is held."""
        self._own_count += 1
        return self._own_count <= OWN_MAX and bool(self.deque.push(job))

    def _find(self) -> bool:
        """Fill the deque, waiting for work; False where this thread is to end."""
        pool = self._pool
        took_ns = time.perf_counter_ns() - self._began_ns
        if took_ns < BATCH_NS:
            self._size = min(2 * self._size, BATCH_MAX)
        elif took_ns > 2 * BATCH_NS:
            self._size = 1
        self._own_count = 0
        while True:
            with pool.lock:
                pool.arrived(self)
                if self._take() or self._steal():
                    break
                if not pool.park(self):
                    return False
            if not self.wake.acquire(timeout=pool.idle_s) and pool.retired(self):
                return False
        self._began_ns = time.perf_counter_ns()
        return True

    def _take(self) -> bool:
        """Jobs from the line. Bulk jobs come one by one: what is more urgent is not to wait behind several."""
        pool = self._pool
        critical, normal, bulk = pool.line.counts
        if not critical + normal + bulk:
            return False
        share = -(-(critical + normal) // pool.thread_count_max)
        jobs = pool.line.take(max(1, min(self._size, share)))
        if critical:
            pool.is_urgent = pool.line.counts[CRITICAL] > 0
        self._fill(jobs, len(pool.line) > 0)
        return True

    def _steal(self) -> bool:
        for victim in self._pool.workers:
            if len(victim.deque):
                jobs = victim.deque.steal_many()
                if jobs:
                    jobs.reverse()
                    self._fill(jobs, len(victim.deque) > 0)
                    return True
        return False

    def _fill(self, jobs: list[Any], is_more: bool) -> None:
        """The first of ``jobs`` is run first, the last is the first to be stolen."""
        jobs.reverse()
        self.deque.push_many(jobs)
        if is_more or len(jobs) > 1:
            self._pool.wake_one()


class ThreadPool(Intake):
    """Runs jobs: at most ``thread_count_max`` at a time, at most ``job_count_max`` accepted and not ended.

    Threads are started when they are needed, and end after ``idle_s`` seconds without work. They are daemons; at the
    exit of the interpreter what was accepted is run to its end all the same, as ``concurrent.futures`` does it.
    """

    def __init__(
        self, thread_count_max: int, job_count_max: int, *, idle_s: float = 30.0, name: str = "erlmcp"
    ) -> None:
        if thread_count_max < 1 or job_count_max < 1:
            raise ValueError(f"at least one thread and one job, got {thread_count_max} and {job_count_max}")
        if not 0 < idle_s <= threading.TIMEOUT_MAX:
            raise ValueError(f"idle_s is above 0 and at most {threading.TIMEOUT_MAX:g}, got {idle_s}")
        self.thread_count_max = thread_count_max
        self.job_count_max = job_count_max
        self.idle_s = idle_s
        self.name = name
        self.lock = threading.Lock()
        self.live: dict[Any, None] = {}
        self.is_urgent = False  # a critical job stands in line
        self.is_closed = False
        self.searcher: Worker | None = None
        self.workers: list[Worker] = []
        self._here: dict[int, Worker] = {}  # by the ident of their threads
        self._parked: list[Worker] = []
        self._started_count = 0
        self._pause_until_ns = 0
        self._line_up_anew()

    def __len__(self) -> int:
        """How many jobs wait or run."""
        return len(self.live)

    # -- from outside, beside ``push`` ---------------------------------------------------------------------------------

    def push_any(self, job: Any) -> None:
        """The general way in: for jobs of an owner, critical ones, those of a job, and those to be refused."""
        try:
            with self.lock:
                if self.is_closed or len(self.live) >= self.job_count_max:
                    self._refuse(1)
                self.live[job] = None
                if job.owner is not None or job.level != NORMAL or not self._push_here(job):
                    if job.level == CRITICAL:
                        self.is_urgent = True
                    if not self.line.push(job):
                        self._line_up_anew()
                if self.searcher is None:
                    self._call()
        except BaseException:
            self._withdraw([job])
            raise

    def push_many(self, jobs: list[Any]) -> None:
        """Accept all, of one level and one owner, or none; otherwise as ``push``."""
        if not jobs:
            return
        try:
            with self.lock:
                if self.is_closed or len(self.live) + len(jobs) > self.job_count_max:
                    self._refuse(len(jobs))
                self.live.update(dict.fromkeys(jobs))
                if jobs[0].level == CRITICAL:
                    self.is_urgent = True
                if not self.line.push_many(jobs):
                    self._line_up_anew()
                self._call()
        except BaseException:
            self._withdraw(jobs)
            raise

    def _push_here(self, job: Any) -> bool:
        """Where a job submits it: into the deque of that worker."""
        worker = self._here.get(get_ident())
        return worker is not None and worker.push(job)

    def _refuse(self, count: int) -> NoReturn:
        if self.is_closed:
            raise PoolClosedError("the pool of threads was closed: it takes no more calls")
        wanted = len(self.live) + count
        raise LimitError("job_count_max", self.job_count_max, f"{wanted} calls would wait or run")

    def _withdraw(self, jobs: list[Any]) -> None:
        """Who pushed them is told that it failed: no thread is to be had, or an exception struck in the midst."""
        accepted = [job for job in jobs if job in self.live]
        for job in accepted:
            job.cancel()
        if accepted:
            self.renew()

    def renew(self) -> None:
        """The line is full of jobs that were cancelled, or in doubt."""
        with self.lock:
            self._line_up_anew()

    def wake(self) -> None:
        """There is a job to be come for. RuntimeError where not one thread can be started."""
        with self.lock:
            self._call()

    def _call(self) -> None:
        if not self.wake_one() and not self.workers:
            raise RuntimeError("no thread can be started, and there is none")

    def shutdown(self, *, wait: bool = True, cancel: bool = False) -> None:
        """Take no more jobs; those that were accepted are run, or cancelled where no thread has begun them. ``wait``
        for the threads to end, but for the one that calls. May be repeated."""
        with self.lock:
            self.is_closed = True
            waiting = list(self.live) if cancel else []
        for job in waiting:
            job.cancel()
        with self.lock:
            self._wake_all()
        while wait:
            with self.lock:
                others = [worker for worker in self.workers if worker.thread.ident != get_ident()]
            if not others:
                return
            for worker in others:
                if worker.thread.ident is not None:
                    worker.thread.join()
                if worker in self.workers:  # It was killed before it could say so.
                    self.bury(worker, SystemExit())

    def forget(self) -> None:
        """In the child of a fork: the threads are not there, and what they had to do is the parent's."""
        self.lock = threading.Lock()
        self.live.clear()
        self.workers.clear()
        self._parked.clear()
        self._here.clear()
        self.searcher = None
        self._line_up_anew()

    # -- from the workers ----------------------------------------------------------------------------------------------

    def take_urgent(self) -> Any:
        """A critical job, past what the worker has before it."""
        with self.lock:
            critical = self.line.counts[CRITICAL]
            self.is_urgent = critical > 1
            return next(iter(self.line.take(1)), None) if critical else None

    def arrived(self, worker: Worker) -> None:
        """It looks for work: another may be woken. The lock is held, as in those below."""
        if self.searcher is worker:
            self.searcher = None
        if get_ident() not in self._here:
            self._here[get_ident()] = worker
            if worker not in self.workers:
                self.workers.append(worker)

    def park(self, worker: Worker) -> bool:
        """False where there will be no work any more: it has left the pool then."""
        if self.is_closed:
            self._leave(worker)
            return False
        if worker not in self._parked:
            self._parked.append(worker)
        return True

    def wake_one(self) -> bool:
        """Wake a worker or start one, unless one is on its way. False where none could be started."""
        if self.searcher is not None:
            return True
        if self._parked:
            # In this order an exception that strikes in the midst costs an idle look around, and no wake-up.
            worker = self._parked[-1]
            if worker.wake.locked():
                worker.wake.release()
            self._parked.pop()
            self.searcher = worker
        elif len(self.workers) < self.thread_count_max and not (self.workers and self._is_pausing()):
            return self._start()
        return True

    def _start(self) -> bool:
        self._started_count += 1
        worker = Worker(self, self._started_count)
        try:
            POOLS.add(self)
            self.workers.append(worker)
            self.searcher = worker
            worker.thread.start()
            if not worker.begun.is_set():
                self._pause_until_ns = time.monotonic_ns() + START_PAUSE_NS
                raise RuntimeError(f"the thread {worker.thread.name} did not begin within {START_S} s")
        except BaseException as error:
            if worker in self.workers:
                self.workers.remove(worker)  # Should it have started all the same, it comes back when it arrives.
            self.searcher = None
            if isinstance(error, RuntimeError | MemoryError):
                return False
            raise
        return True

    def _is_pausing(self) -> bool:
        return self._pause_until_ns > 0 and time.monotonic_ns() < self._pause_until_ns

    def retired(self, worker: Worker) -> bool:
        """It was idle for long enough; False where it was woken at that very moment."""
        with self.lock:
            if worker not in self._parked:
                return False
            self._leave(worker)
            return True

    def _leave(self, worker: Worker) -> None:
        for there in (self.workers, self._parked):
            if worker in there:
                there.remove(worker)
        self._here.pop(worker.thread.ident or 0, None)
        if not self.workers:
            POOLS.discard(self)

    def bury(self, worker: Worker, fault: BaseException) -> None:
        """Its thread dies of ``fault``: end its job, and let others have what it had before it. May be repeated."""
        if worker.job is not None:
            worker.job.lose(lost(f"the thread that ran the call died of {fault!r}", fault))
        with self.lock:
            self._leave(worker)
            self._line_up_anew()
            is_stranded = not self._wake_all()
        for job in list(self.live) if is_stranded else []:
            job.lose(lost("the threads died, and no other can be started", fault))
        # Last: whoever is killed while it logs leaves the handler's lock shut, on which the next one waits.
        LOG.error("the thread %s died, its work goes to others", worker.thread.name, exc_info=fault)

    def _line_up_anew(self) -> None:
        """All that no thread has begun, in a line without what was cancelled."""
        self.line = line = Line(2 * self.job_count_max)
        self.put = line.put
        self.is_urgent = False
        for job in list(self.live):
            if not (job.running() or job.done()):
                line.push(job)
                self.is_urgent |= job.level == CRITICAL

    def _wake_all(self) -> bool:
        """Whoever sleeps looks around anew. False where there is work, nobody to do it, and none can be started."""
        self.searcher = None
        self._parked.clear()
        for worker in self.workers:
            if worker.wake.locked():
                worker.wake.release()
        return not self.live or len(self.workers) > 0 or self.wake_one()


def lost(message: str, fault: BaseException) -> WorkerLostError:
    error = WorkerLostError(message)
    error.__cause__ = fault
    return error


POOLS: Final[set[ThreadPool]] = set()  # those that have threads


@atexit.register
def _finish() -> None:
    for pool in list(POOLS):
        pool.shutdown()


def _forget() -> None:
    for pool in POOLS:
        pool.forget()
    POOLS.clear()


os.register_at_fork(after_in_child=_forget)
