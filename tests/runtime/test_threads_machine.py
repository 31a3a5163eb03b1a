"""Each call that the pool accepted ends exactly once, whatever comes between: cancelling, threads that die, shutdown.

Twice: a state machine over real threads, some of which are killed from outside; and one scenario in which a thread dies
at each line of the pool's code in turn.
"""

from __future__ import annotations

import ctypes
import linecache
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import erlmcp.runtime
from erlmcp.errors import LimitError, PoolClosedError, WorkerLostError
from erlmcp.runtime.line import CRITICAL, NORMAL
from erlmcp.runtime.threads import LOG

BOUND_S = 30
KINDS = ["value", "error", "exit", "gate", "parent"]


class Record:
    """What is known of one call."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.runs = 0
        self.called = 0
        self.told: list[Any] = []
        self.gate = threading.Lock()  # nothing else can be left half shut by who is killed in waiting for it
        self.gate.acquire()
        self.job: Any = None

    def check(self, *, killed: bool) -> None:
        job = self.job
        assert job.done()
        assert self.called <= 1
        assert self.called == 1 or killed, "its callback was not called"
        if job.cancelled():
            assert (self.runs, self.told) == (0, [])
            with pytest.raises(CancelledError):
                job.result(0)
            return
        error = job.exception(0)
        assert len(self.told) == 1
        assert self.told[0][1] is error
        if isinstance(error, WorkerLostError) or (isinstance(error, SystemExit) and error.code != "asked for"):
            assert killed
            assert self.runs <= 1
        else:
            assert self.runs == 1
            assert isinstance(error, {"error": ValueError, "exit": SystemExit}.get(self.kind, type(None)))


class Machine(RuleBasedStateMachine):
    """Random acts on a pool of real threads, and an account of every call."""

    def __init__(self, kit: Any) -> None:
        super().__init__()
        self.kit = kit
        self.tells: list[Callable[[], None]] = []
        self.gated: list[Record] = []
        self.records: list[Record] = []
        self.is_killed = False
        self.is_shut = False

    @initialize(
        threads=st.integers(1, 4), jobs=st.sampled_from([5, 64]), idle_s=st.sampled_from([0.0001, 0.001, 1000.0])
    )
    def start(self, threads: int, jobs: int, idle_s: float) -> None:
        self.pool = self.kit.ThreadPool(threads, jobs, idle_s=idle_s)

    def make(self, kind: str, level: int = NORMAL, owner: object = None) -> Record:
        record = Record(kind)
        if kind == "gate":
            self.gated.append(record)

        def run() -> Any:
            record.runs += 1
            if kind == "error":
                raise ValueError
            if kind == "exit":
                raise SystemExit("asked for")
            if kind == "gate":
                record.gate.acquire(timeout=BOUND_S)
            if kind == "parent":
                for _ in range(3):
                    self.push(self.make("value"))
            return kind

        record.job = self.kit.Future(
            self.pool.live, run, (), level, owner, self.tells.append, lambda *found: record.told.append(found)
        )
        record.job.add_done_callback(lambda _: self.called(record))
        return record

    def called(self, record: Record) -> None:
        record.called += 1

    def push(self, *records: Record) -> None:
        """Accepted they are kept; refused they have to be as if they had never been."""
        try:
            if len(records) == 1:
                self.pool.push(records[0].job)
            else:
                self.pool.push_many([record.job for record in records])
        except PoolClosedError:
            assert self.is_shut
        except LimitError:
            pass
        else:
            self.records += records
            return
        for record in records:
            assert not record.job.done()

    @rule(
        kind=st.sampled_from(KINDS),
        level=st.sampled_from([0, 1, 1, 2]),
        owner=st.sampled_from([None, None, "a", "b"]),
        count=st.integers(1, 4),
    )
    def submit(self, kind: str, level: int, owner: object, count: int) -> None:
        for _ in range(count):
            self.push(self.make(kind, level, owner))

    @rule(kind=st.sampled_from(KINDS), count=st.integers(2, 20), owner=st.sampled_from([None, "a"]))
    def submit_many(self, kind: str, count: int, owner: object) -> None:
        self.push(*(self.make(kind, NORMAL, owner) for _ in range(count)))

    @rule(numbers=st.lists(st.integers(0, 1000), max_size=6))
    def cancel(self, numbers: list[int]) -> None:
        for number in numbers if self.records else []:
            job = self.records[number % len(self.records)].job
            assert job.cancel() is job.cancelled()

    @rule()
    def open(self) -> None:
        while self.gated:
            self.gated.pop().gate.release()

    @rule(number=st.integers(0, 10))
    def kill(self, number: int) -> None:
        """An exception is thrown into a thread, wherever it is; under the lock, so that it has not left the pool."""
        with self.pool.lock:
            idents = list(self.pool._here)
            # The plain twin stands one kill at a time.
            if idents and not (self.is_killed and self.kit.implementation == "model"):
                self.is_killed = True
                ident = ctypes.c_ulong(idents[number % len(idents)])
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))

    @rule()
    def wait(self) -> None:
        """Everything that was accepted ends by itself."""
        self.open()
        for record in list(self.records):
            if not record.job.cancelled():
                record.job.exception(BOUND_S)

    @rule(cancel=st.booleans())
    def shut_down(self, cancel: bool) -> None:
        self.is_shut = True
        self.pool.shutdown(wait=False, cancel=cancel)

    @invariant()
    def never_more_than_allowed(self) -> None:
        if hasattr(self, "pool"):
            assert len(self.pool.workers) <= self.pool.thread_count_max
            assert len(self.pool) <= self.pool.job_count_max

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.wait()
        self.pool.shutdown()
        assert len(self.pool) == 0
        assert self.pool.workers == []
        for tell in self.tells:
            tell()
        for record in self.records:
            record.check(killed=self.is_killed)


@pytest.fixture
def _frequent_switches() -> Iterator[None]:
    """Threads take turns every 20 us, so that they meet."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(20e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is killed while it logs leaves the lock of a handler shut, which is the standard library's, for everybody."""
    monkeypatch.setattr(LOG, "disabled", True)


# Who is killed may be about to clear away what others left: the standard library's own weak references to threads.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("_frequent_switches", "_silent")
def test_each_accepted_call_ends_exactly_once(kit: Any) -> None:
    run_state_machine_as_test(
        lambda: Machine(kit),
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("_frequent_switches", "_silent")
@pytest.mark.timeout(1200)
def test_each_accepted_call_ends_exactly_once_in_long_runs(kit: Any) -> None:
    run_state_machine_as_test(
        lambda: Machine(kit),
        settings=settings(
            max_examples=1000, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# -- a thread that dies at each line -----------------------------------------------------------------------------------

HOME = Path(erlmcp.runtime.__path__[0])
FILES = {str(HOME / name) for name in ("threads.py", "line.py", "plainjob.py")}


class Killed(BaseException):
    """Nothing catches it by its name."""


class Killer:
    """Raises Killed in a thread of the pool at the ``at``-th line that one comes to, and again ``then`` lines later."""

    def __init__(self, at: int, then: int = 0) -> None:
        self.left = [at, then] if then else [at]

    def trace(self, frame: FrameType, _event: str, _arg: Any) -> Callable[..., Any] | None:
        # Within ``live_as`` there is nobody yet, or nobody any more, to notice it.
        return self.line if frame.f_code.co_filename in FILES and frame.f_code.co_name != "live_as" else None

    def line(self, frame: FrameType, event: str, _arg: Any) -> Callable[..., Any]:
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        # The line of a ``with`` comes again at its end, after the last place where an exception can be thrown in.
        if self.left and event == "line" and not text.startswith("with "):
            self.left[0] -= 1
            if not self.left[0]:
                del self.left[0]
                raise Killed
        return self.line


def live_through(kit: Any, killer: Killer) -> None:
    """Six jobs of every kind on two threads, of which the killer meets one."""
    threading.settrace(killer.trace)
    try:
        pool = kit.ThreadPool(2, 100)
        tells: list[Callable[[], None]] = []
        told: list[list[Any]] = [[] for _ in range(7)]
        runs = [0] * 7

        def work(number: int) -> int:
            runs[number] += 1
            if number == 2:
                pool.push(jobs[6])
            return number

        owners = {1: "a", 3: "a", 4: "b"}
        jobs = [
            kit.Future(
                pool.live,
                work,
                (number,),
                CRITICAL if number == 5 else NORMAL,
                owners.get(number),
                tells.append,
                lambda *found, number=number: told[number].append(found),
            )
            for number in range(7)
        ]
        pool.push_many(jobs[:1])
        for job in jobs[1:6]:
            pool.push(job)
        errors = [job.exception(BOUND_S) for job in jobs[:6]]
        if runs[2] and errors[2] is None:
            errors.append(jobs[6].exception(BOUND_S))
        pool.shutdown()
    finally:
        threading.settrace(None)  # type: ignore[arg-type]
    assert (len(pool), pool.workers) == (0, [])
    for tell in tells:
        tell()
    for number, error in enumerate(errors):
        if error is None:
            assert (runs[number], told[number]) == (1, [(number, None)])
        else:
            assert isinstance(error, WorkerLostError | Killed)
            assert runs[number] <= 1
            assert told[number] == [(None, error)]


def test_a_thread_may_die_at_any_line(kit: Any) -> None:
    for at in range(1, 10_000):
        killer = Killer(at)
        live_through(kit, killer)
        if killer.left:
            break
    assert at > 100


@pytest.mark.parametrize("then", [1, 2, 3, 5, 8, 13, 21])
def test_a_thread_may_die_at_any_line_and_soon_after_again(kit: Any, then: int) -> None:
    for at in range(1, 200, 7):
        live_through(kit, Killer(at, then))
