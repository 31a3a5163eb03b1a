"""``erlmcp.sync.Pool``: real threads, brought to the points that matter by events, on a clock that the tests push."""

from __future__ import annotations

import gc
import importlib
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from erlmcp.errors import LimitError, PoolClosedError, PoolTimeoutError, StaleHandleError
from erlmcp.sync import Pool
from erlmcp.sync import pool as room

SECOND_NS = 1_000_000_000
BOUND_S = 30


class Member:
    def __init__(self, number: int) -> None:
        self.number = number
        self.is_closed = False
        self.is_good = True
        self.user: object = None

    def __repr__(self) -> str:
        return f"member {self.number}"


class Factory:
    """Opens, closes and checks members; ``open_gate`` is what an opening waits for."""

    def __init__(self) -> None:
        self.now_ns = 1
        self.made: list[Member] = []
        self.failures: list[BaseException] = []
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.lock = threading.Lock()

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)

    def open(self) -> Member:
        assert self.open_gate.wait(BOUND_S)
        with self.lock:
            if self.failures:
                raise self.failures.pop(0)
            self.made.append(Member(len(self.made)))
            return self.made[-1]

    def close(self, member: Member) -> None:
        assert not member.is_closed, "closed twice"
        member.is_closed = True

    @property
    def open_numbers(self) -> list[int]:
        return [member.number for member in self.made if not member.is_closed]


class Running(threading.Thread):
    """A call in a thread of its own: ``result()`` waits for it, with a bound."""

    def __init__(self, function: Callable[[], Any], name: str | None = None) -> None:
        super().__init__(daemon=True, name=name)
        self.function = function
        self.value: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.value = self.function()
        except BaseException as error:
            self.error = error

    def result(self) -> Any:
        self.join(BOUND_S)
        assert not self.is_alive(), "it hangs"
        if self.error is not None:
            raise self.error
        return self.value


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    """Threads take turns every 20 us, so that they meet in the pool."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


def pool_of(factory: Factory, *, check: bool = False, **options: Any) -> Pool[Member]:
    options.setdefault("idle_s", None)
    good = (lambda member: member.is_good) if check else None
    return Pool(factory.open, factory.close, good, clock_ns=lambda: factory.now_ns, **options)


def until(condition: Callable[[], bool]) -> None:
    """Lets the other threads run until it holds."""
    tick = threading.Event()
    for _ in range(BOUND_S * 1000):
        if condition():
            return
        tick.wait(0.001)
    pytest.fail("it did not come to that")


def wait_in_line(pool: Pool[Member], count: int) -> list[Running]:
    """So many threads that wait for a member, in this order."""
    line = []
    for number in range(count):
        line.append(Running(pool.acquire, name=f"waiter {number}"))
        until(lambda number=number: pool.stats()["waiting_count"] == number + 1)  # type: ignore[misc]
    return line


def whole(pool: Pool[Member]) -> None:
    """Nothing is lent, waited for or being opened."""
    pool.core.check()
    stats = pool.stats()
    assert (stats["lent_count"], stats["opening_count"], stats["waiting_count"]) == (0, 0, 0)


def test_the_member_that_came_back_last_is_lent_first(factory):
    with pool_of(factory) as pool:
        with pool.lend() as first, pool.lend() as second:
            assert (first.number, second.number) == (0, 1)
        with pool.lend() as again:
            assert again is first, "it came back after the second"
        assert len(pool) == 2
        whole(pool)
    assert factory.open_numbers == []


def test_waiters_are_served_in_the_order_in_which_they_came(factory):
    with pool_of(factory, count_max=1) as pool:
        member = pool.acquire()
        line = wait_in_line(pool, 4)
        for waiter in line:
            pool.release(member)
            assert waiter.result() is member
        pool.release(member)
        assert len(factory.made) == 1
        whole(pool)


def test_who_comes_later_does_not_overtake_the_line(factory):
    with pool_of(factory, count_max=1) as pool:
        member = pool.acquire()
        first, late = wait_in_line(pool, 2)
        pool.release(member)
        assert first.result() is member
        assert late.is_alive()
        pool.release(member)
        pool.release(late.result())
        whole(pool)


def test_a_failure_to_open_goes_to_the_one_who_caused_it_and_the_place_to_the_next(factory):
    with pool_of(factory, count_max=1) as pool:
        factory.open_gate.clear()
        factory.failures = [OSError("refused")]
        first = Running(pool.acquire)
        until(lambda: pool.stats()["opening_count"] == 1)
        second = wait_in_line(pool, 1)[0]
        factory.open_gate.set()
        with pytest.raises(OSError, match="refused"):
            first.result()
        pool.release(second.result())
        whole(pool)


@pytest.mark.parametrize("setting", ["wait_s", "timeout_s"])
def test_a_loan_that_takes_longer_than_its_deadline_says_which_setting_that_was(factory, setting):
    with pool_of(factory, count_max=1, wait_s=1e-6 if setting == "wait_s" else None) as pool:
        member = pool.acquire()
        with pytest.raises(PoolTimeoutError, match="1 of 1 members are lent") as caught:
            pool.acquire(timeout_s=0 if setting == "timeout_s" else None)
        assert caught.value.limit == setting
        pool.release(member)
        assert pool.acquire() is member, "nothing was lost with the waiter"
        pool.release(member)
        whole(pool)


def test_a_wait_that_no_clock_can_measure_is_one_without_end(factory):
    with pool_of(factory, count_max=1, wait_s=1e300) as pool:
        member = pool.acquire()
        waiter = wait_in_line(pool, 1)[0]
        pool.release(member)
        pool.release(waiter.result())


def test_no_more_wait_than_are_allowed_to(factory):
    with pool_of(factory, count_max=1, waiter_count_max=1) as pool:
        member = pool.acquire()
        waiter = wait_in_line(pool, 1)[0]
        with pytest.raises(LimitError) as caught:
            pool.acquire()
        assert (caught.value.limit, caught.value.maximum) == ("waiter_count_max", 1)
        pool.release(member)
        pool.release(waiter.result())
        whole(pool)


@pytest.mark.parametrize("change", ["another one came after it", "the one before it was served"])
def test_who_is_within_the_bound_stays_in_the_line(factory, change):
    with pool_of(factory, count_max=1, waiter_count_max=1) as pool:
        member, other, settle = pool.acquire(), room.Waiter("another"), pool._settle
        if change == "the one before it was served":
            pool._waiters[other] = None

        def change_the_line() -> None:
            pool._settle = settle  # type: ignore[method-assign]
            if pool._waiters.pop(other, pool) is pool:
                pool._waiters[other] = None

        pool._settle = change_the_line  # type: ignore[method-assign]
        with pytest.raises(PoolTimeoutError):
            pool.acquire(timeout_s=0)
        pool._waiters.pop(other, None)
        pool.release(member)
        whole(pool)


def test_of_those_who_come_at_one_time_as_many_wait_as_are_allowed_to(factory):
    with pool_of(factory, count_max=1, waiter_count_max=2) as pool:
        member = pool.acquire()
        start = threading.Barrier(6)

        def borrow() -> Any:
            start.wait(BOUND_S)
            return pool.acquire()

        threads = [Running(borrow) for _ in range(6)]
        until(lambda: sum(thread.is_alive() for thread in threads) == 2)
        waiting = [thread for thread in threads if thread.is_alive()]
        assert all(isinstance(thread.error, LimitError) for thread in threads if thread not in waiting)
        pool.release(member)
        until(lambda: sum(thread.is_alive() for thread in waiting) == 1)
        pool.release(member)
        assert {thread.result() for thread in waiting} == {member}
        pool.release(member)
        whole(pool)


@pytest.mark.parametrize("moment", ["in the line", "handed a member", "handed a place", "handed what was reclaimed"])
def test_a_waiter_that_is_interrupted_takes_nothing_with_it(factory, moment):
    """The lock that it waits on is exchanged for one that raises: as a signal's handler does in the main thread."""
    with pool_of(factory, count_max=1) as pool:
        member = pool.acquire()

        class Wake:
            def acquire(self, timeout: float) -> bool:
                if moment == "handed a place":
                    pool.reclaim(pool.leaks()[0])
                elif moment != "in the line":
                    pool.release(member)
                if moment == "handed what was reclaimed":
                    pool.reclaim(pool.leaks()[0])
                raise KeyboardInterrupt

            def release(self) -> None:
                pass

        waiter = room.Waiter("me")
        waiter.wake = Wake()
        with pytest.raises(KeyboardInterrupt):
            pool._wait(waiter, None)
        if moment == "in the line":
            pool.release(member)
        whole(pool)
        pool.release(pool.acquire())
        whole(pool)


def test_code_that_runs_while_the_line_is_served_may_serve_it(factory):
    """Dropping an object can run a destructor anywhere, and that can give a member back."""
    with pool_of(factory, count_max=2) as pool:
        kept = [pool.acquire() for _ in range(2)]
        line = wait_in_line(pool, 1)
        real = pool._lend_to

        def lend_and_collect(who: object) -> Any:
            lease = real(who)
            if kept:
                pool.release(kept.pop())
            return lease

        pool._lend_to = lend_and_collect
        pool.release(kept.pop())
        pool._lend_to = real
        got = line[0].result()
        assert pool.stats()["lent_count"] == 1, "what was lent to it twice came back once"
        pool.release(got)
        whole(pool)
        line, kept = wait_in_line_of_full(pool, factory), [None]
        pool._lend_to = lambda who: settle_within(pool, kept)
        pool._settle()
        pool._lend_to = real
        assert line.is_alive()
        pool.reclaim(pool.leaks()[0])
        pool.release(line.result())
        pool.reclaim(pool.leaks()[0])
        whole(pool)


def wait_in_line_of_full(pool: Pool[Member], factory: Factory) -> Running:
    for _ in range(2):
        pool.acquire()
    return wait_in_line(pool, 1)[0]


def settle_within(pool: Pool[Member], once: list[None]) -> None:
    """Lends nothing, and settles once more while that is being done."""
    if once:
        once.pop()
        pool._settle()


def test_a_member_that_fails_its_check_is_closed_and_another_one_opened(factory):
    with pool_of(factory, count_max=1, check=True) as pool:
        with pool.lend() as member:
            member.is_good = False
            waiter = wait_in_line(pool, 1)[0]
        other = waiter.result()
        assert other is not member
        assert member.is_closed
        pool.release(other)
        assert pool.acquire() is other, "it was good"
        pool.release(other)
        whole(pool)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_check_that_raises_counts_as_failed(factory, quiet, error):
    def check(member: Member) -> bool:
        raise error

    with Pool(factory.open, factory.close, check) as pool:
        member = pool.acquire()
        if error is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                pool.release(member)
        else:
            pool.release(member)
        assert member.is_closed
        whole(pool)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_check_whose_member_was_reclaimed_meanwhile_ends_as_it_was_ended(factory, error):
    def check(member: Member) -> bool:
        pool.reclaim(pool.leaks()[0])
        if error is not None:
            raise error
        return True

    with Pool(factory.open, factory.close, check) as pool:
        with pytest.raises(error or StaleHandleError):
            pool.release(pool.acquire())
        whole(pool)


def test_a_broken_member_is_closed_at_its_return(factory):
    with pool_of(factory) as pool:
        lending = pool.lend()
        with lending as member:
            lending.is_broken = True
        assert member.is_closed
        member = pool.acquire()
        pool.release(member, is_broken=True)
        assert member.is_closed
        assert len(pool) == 0


def test_what_is_not_lent_cannot_be_released(factory):
    with pool_of(factory) as pool:
        member = pool.acquire()
        pool.release(member)
        with pytest.raises(StaleHandleError, match="not lent by acquire"):
            pool.release(member)


def test_a_lending_serves_once(factory):
    with pool_of(factory) as pool:
        lending = pool.lend()
        with lending, pytest.raises(RuntimeError, match="lend\\(\\) of its own"), lending:
            pass
        whole(pool)


def test_the_idle_go_after_their_time_down_to_the_least(factory):
    with pool_of(factory, count_min=1, idle_s=1000) as pool:
        members = [pool.acquire() for _ in range(3)]
        for member in members:
            pool.release(member)
        factory.wait(999)
        pool.upkeep()
        assert len(pool) == 3
        factory.wait(1)
        pool.upkeep()
        assert factory.open_numbers == [2]


def test_the_old_go_at_their_return_and_others_are_opened_for_them(factory):
    with pool_of(factory, count_min=1, age_s=1000) as pool:
        member = pool.acquire()
        factory.wait(1000)
        pool.upkeep()
        assert not member.is_closed, "it is lent"
        pool.release(member)
        assert member.is_closed
        pool.upkeep()
        assert factory.open_numbers == [1]


def test_warming_opens_the_least_at_the_same_time(factory):
    factory.open_gate.clear()
    pool = pool_of(factory, count_max=64, count_min=40)
    warming = Running(pool.warm)
    until(lambda: pool.stats()["opening_count"] == 32)
    factory.open_gate.set()
    warming.result()
    assert (len(pool), pool.core.idle_count) == (40, 40)
    pool.close()
    assert factory.open_numbers == []


def test_the_upkeep_does_not_warm_what_is_being_warmed(factory):
    factory.open_gate.clear()
    pool = pool_of(factory, count_max=64, count_min=40)
    warming = Running(pool.warm)
    until(lambda: pool.stats()["opening_count"] == 32)
    pool.upkeep()
    assert pool.stats()["opening_count"] == 32
    factory.open_gate.set()
    warming.result()
    assert len(pool) == 40
    pool.close()


def test_warming_tells_every_failure_and_keeps_what_could_be_opened(factory):
    factory.failures = [OSError("one"), OSError("two")]
    pool = pool_of(factory, count_min=3)
    with pytest.raises(ExceptionGroup, match="2 of 3 members") as caught:
        pool.warm()
    assert len(caught.value.exceptions) == 2
    assert len(pool) == 1
    whole(pool)
    pool.close()


def test_entering_a_pool_that_cannot_be_warmed_closes_what_was_opened(factory):
    factory.failures = [OSError("one")]
    with pytest.raises(ExceptionGroup), pool_of(factory, count_min=2):
        pytest.fail("it was entered")
    assert factory.open_numbers == []


def test_what_is_lent_is_listed_with_its_borrower_and_its_age(factory):
    with pool_of(factory, trace=True) as pool:
        member = Running(pool.acquire, name="the careless").result()
        factory.wait(5)
        kept = pool.acquire()
        factory.wait(1)
        leaks = pool.leaks()
        assert [(leak.member, leak.age_s, leak.is_lost) for leak in leaks] == [(member, 6.0, False), (kept, 1.0, False)]
        assert leaks[0].borrower.startswith("the careless at ")
        assert "test_pool.py" in leaks[1].borrower
        assert [leak.member for leak in pool.leaks(older_than_s=2)] == [member]
        pool.reclaim(leaks[0])
        assert member.is_closed
        with pytest.raises(StaleHandleError):
            pool.reclaim(leaks[0])
        with pytest.raises(StaleHandleError):
            pool.release(member)
        pool.release(kept)
        whole(pool)


def test_a_thread_is_named_where_nothing_was_traced(factory):
    with pool_of(factory) as pool:
        Running(pool.acquire, name="the careless").result()
        lending = pool.lend()
        lending.__enter__()
        del lending
        leaks = pool.leaks()
        assert [(leak.borrower, leak.is_lost) for leak in leaks] == [("the careless", False), ("MainThread", True)]
        for leak in leaks:
            pool.reclaim(leak)
        whole(pool)


def test_what_is_never_given_back_is_reclaimed_and_the_line_served(factory, quiet):
    with pool_of(factory, count_max=1, reclaim_s=1000) as pool:
        with pytest.raises(StaleHandleError), pool.lend() as member:
            waiter = wait_in_line(pool, 1)[0]
            factory.wait(1000)
            pool.upkeep()
            assert member.is_closed
        pool.release(waiter.result())
        assert pool.stats()["reclaimed_total"] == 1
        whole(pool)


def test_a_block_that_failed_keeps_its_own_error_when_its_member_was_reclaimed(factory):
    with pool_of(factory) as pool, pytest.raises(KeyError, match="its own"), pool.lend():
        pool.reclaim(pool.leaks()[0])
        raise KeyError("its own")


def test_closing_turns_the_waiters_away_and_waits_for_what_is_lent(factory):
    pool = pool_of(factory, count_max=1)
    member = pool.acquire()
    waiter = wait_in_line(pool, 1)[0]
    closing = Running(pool.close)
    with pytest.raises(PoolClosedError):
        waiter.result()
    for call in (pool.acquire, pool.warm, pool.start):
        with pytest.raises(PoolClosedError):
            call()
    assert pool.is_closed
    assert closing.is_alive()
    assert not member.is_closed
    pool.release(member)
    assert closing.result() == []
    assert member.is_closed
    assert pool.close() == [], "a second time does nothing"


def test_closing_takes_what_does_not_come_back(factory, quiet):
    pool = pool_of(factory, close_s=1e-6)
    member = pool.acquire()
    assert [leak.member for leak in pool.close()] == [member]
    assert member.is_closed
    with pytest.raises(StaleHandleError):
        pool.release(member)


@pytest.mark.parametrize("moment", ["while it is opened", "when it is open"])
def test_a_member_that_is_opened_while_the_pool_closes_is_closed(factory, moment):
    pool = pool_of(factory)
    if moment == "while it is opened":
        factory.open_gate.clear()
        borrower = Running(pool.acquire)
        until(lambda: pool.stats()["opening_count"] == 1)
        closing = Running(pool.close)
        until(lambda: pool.is_closed)
        factory.open_gate.set()
        with pytest.raises(PoolClosedError):
            borrower.result()
    else:
        make = pool._make

        def make_and_close() -> Member:
            member = make()
            nonlocal closing
            closing = Running(pool.close)
            until(lambda: pool.is_closed and pool._stop.is_set())
            return member

        closing = Running(lambda: None)
        pool._make = make_and_close  # type: ignore[method-assign]
        pool.release(pool.acquire())
    assert closing.result() == []
    assert factory.open_numbers == []


def test_a_close_that_raises_is_told_to_the_log_alone(factory, caplog):
    def close(member: Member) -> None:
        raise OSError("already gone")

    with Pool(factory.open, close) as pool, pool.lend():
        pass
    assert [record.getMessage().partition(" raised")[0] for record in caplog.records] == ["close of member 0"]


def test_the_upkeep_tells_the_log_what_fails_and_tries_again(factory, caplog):
    factory.failures = [OSError("refused")]
    pool = pool_of(factory, idle_s=0.004, count_min=1)
    pool.start()
    until(lambda: len(pool) == 1)
    pool.close()
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "upkeep of the pool: ExceptionGroup('1 of 1 members could not be opened'"
    ]


def test_the_upkeep_runs_by_itself_and_ends_with_the_pool(factory):
    pool = pool_of(factory, idle_s=0.004, count_min=1)
    for member in [pool.acquire(), pool.acquire()]:
        pool.release(member)
    factory.wait(1)
    until(lambda: len(factory.open_numbers) == 1)
    upkeeper, gone = pool._upkeeper, weakref.ref(pool)
    assert upkeeper is not None
    del pool
    gc.collect()
    upkeeper.join(BOUND_S)
    assert not upkeeper.is_alive()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("name", ["idle_s", "age_s", "wait_s", "reclaim_s", "close_s"])
def test_a_bound_that_is_not_above_zero_is_refused(factory, name):
    with pytest.raises(ValueError, match=name):
        pool_of(factory, **{name: 0})


def test_a_negative_count_of_waiters_is_refused(factory):
    with pytest.raises(ValueError, match="waiter_count_max"):
        pool_of(factory, waiter_count_max=-1)


@pytest.mark.parametrize("kind", ["core", "model"])
def test_threads_that_borrow_at_random_share_no_member_and_lose_none(factory, monkeypatch, kind):
    monkeypatch.setattr(room, "IMPLEMENTATION", kind)
    monkeypatch.setattr(room, "Core", importlib.import_module(f"erlmcp._{kind}.pool").Pool)
    sys.setswitchinterval(1e-6)

    def work(seed: int) -> int:
        dice, timeouts = random.Random(seed), 0
        for _ in range(300):
            try:
                with pool.lend(timeout_s=0 if dice.random() < 0.1 else None) as member:
                    assert member.user is None, "two have it"
                    assert not member.is_closed
                    member.user = threading.current_thread()
                    member.is_good = dice.random() < 0.95
                    member.user = None
            except PoolTimeoutError:
                timeouts += 1
        return timeouts

    with pool_of(factory, check=True, count_max=3, wait_s=BOUND_S) as pool:
        workers = [Running(lambda seed=seed: work(seed)) for seed in range(6)]  # type: ignore[misc]
        timeouts = sum(worker.result() for worker in workers)
        assert pool.stats()["lent_total"] + timeouts >= 1800
        assert len(pool) == len(factory.open_numbers) <= 3
        whole(pool)
    assert factory.open_numbers == []
