"""``erlmcp.aio.Pool``: who waits, who is served, and what becomes of members, on a clock that the tests push."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from typing import Any

import pytest

from erlmcp.aio import Pool
from erlmcp.errors import LimitError, PoolClosedError, PoolTimeoutError, StaleHandleError

SECOND_NS = 1_000_000_000


class Member:
    def __init__(self, number: int) -> None:
        self.number = number
        self.is_closed = False
        self.is_good = True

    def __repr__(self) -> str:
        return f"member {self.number}"


class Factory:
    """Opens, closes and checks members, each when its gate (an Event) lets it."""

    def __init__(self) -> None:
        self.now_ns = 1
        self.made: list[Member] = []
        self.open_gate: asyncio.Event | None = None
        self.close_gate: asyncio.Event | None = None
        self.check_gate: asyncio.Event | None = None
        self.failures: list[BaseException] = []

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)

    async def open(self) -> Member:
        if self.open_gate is not None:
            await self.open_gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        member = Member(len(self.made))
        self.made.append(member)
        return member

    async def close(self, member: Member) -> None:
        if self.close_gate is not None:
            await self.close_gate.wait()
        assert not member.is_closed, "closed twice"
        member.is_closed = True

    async def check(self, member: Member) -> bool:
        if self.check_gate is not None:
            await self.check_gate.wait()
        return member.is_good

    @property
    def open_numbers(self) -> list[int]:
        return [member.number for member in self.made if not member.is_closed]


@pytest.fixture
def factory() -> Factory:
    return Factory()


def pool_of(factory: Factory, *, check: bool = False, **options: Any) -> Pool[Member]:
    options.setdefault("idle_s", None)
    return Pool(
        factory.open, factory.close, factory.check if check else None, clock_ns=lambda: factory.now_ns, **options
    )


async def settled(*tasks: asyncio.Task[Any]) -> list[bool]:
    """Lets the loop run until nothing but the tasks' waiting is left to do."""
    for _ in range(12):
        await asyncio.sleep(0)
    return [task.done() for task in tasks]


def whole(pool: Pool[Member]) -> None:
    """Nothing is lent, waited for or being opened."""
    pool.core.check()
    stats = pool.stats()
    assert (stats["lent_count"], stats["opening_count"], stats["waiting_count"]) == (0, 0, 0)


async def test_the_member_that_came_back_last_is_lent_first(loop_kind, factory):
    async with pool_of(factory) as pool:
        async with pool.lend() as first, pool.lend() as second:
            assert (first.number, second.number) == (0, 1)
        async with pool.lend() as again:
            assert again is first, "it came back after the second"
        assert len(pool) == 2
        whole(pool)
    assert factory.open_numbers == []


async def test_functions_serve_as_well_as_coroutine_functions(loop_kind):
    closed = []
    async with Pool(lambda: object(), closed.append, lambda member: True) as pool:
        async with pool.lend() as member:
            pass
        assert await pool.acquire() is member
        await pool.release(member)
    assert closed == [member]


async def test_waiters_are_served_in_the_order_in_which_they_came(loop_kind, factory):
    served = []

    async def borrow(number: int) -> None:
        async with pool.lend():
            served.append(number)
            await asyncio.sleep(0)

    async with pool_of(factory, count_max=2) as pool:
        await asyncio.gather(*(borrow(number) for number in range(20)))
        assert served == list(range(20))
        assert len(factory.made) == 2
        whole(pool)


async def test_who_comes_later_does_not_overtake_the_line(loop_kind, factory):
    async with pool_of(factory, count_max=1) as pool:
        member = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await settled()
        await pool.release(member)
        late = asyncio.create_task(pool.acquire())
        assert await settled(waiting, late) == [True, False]
        await pool.release(waiting.result())
        await pool.release(await late)
        whole(pool)


@pytest.mark.parametrize("moment", ["in the line", "handed a member", "handed a place"])
async def test_a_cancelled_waiter_takes_nothing_with_it(loop_kind, factory, moment):
    async with pool_of(factory, count_max=1) as pool:
        member = await pool.acquire()
        tasks = [asyncio.create_task(pool.acquire()) for _ in range(2)]
        await settled()
        if moment == "in the line":
            tasks[0].cancel()
            await settled()
            await pool.release(member)
        elif moment == "handed a member":
            await pool.release(member)
            tasks[0].cancel()
        else:
            pool.reclaim(pool.leaks()[0])
            tasks[0].cancel()
        got = await tasks[1]
        assert tasks[0].cancelled()
        assert (got is member) == (moment != "handed a place")
        await pool.release(got)
        whole(pool)


async def test_a_waiter_whose_member_was_reclaimed_before_it_was_cancelled_ends_as_cancelled(loop_kind, factory):
    async with pool_of(factory, count_max=1) as pool:
        member = await pool.acquire()
        task = asyncio.create_task(pool.acquire())
        await settled()
        await pool.release(member)
        pool.reclaim(pool.leaks()[0])
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        whole(pool)


async def test_a_cancelled_opening_gives_its_place_to_the_next(loop_kind, factory):
    async with pool_of(factory, count_max=1) as pool:
        factory.open_gate = asyncio.Event()
        tasks = [asyncio.create_task(pool.acquire()) for _ in range(2)]
        assert await settled(*tasks) == [False, False]
        assert pool.stats()["opening_count"] == 1
        tasks[0].cancel()
        await settled()
        factory.open_gate.set()
        await pool.release(await tasks[1])
        assert tasks[0].cancelled()
        whole(pool)


async def test_a_failure_to_open_goes_to_the_one_who_caused_it_and_the_place_to_the_next(loop_kind, factory):
    async with pool_of(factory, count_max=1) as pool:
        factory.failures = [OSError("refused")]
        factory.open_gate = asyncio.Event()
        tasks = [asyncio.create_task(pool.acquire()) for _ in range(2)]
        await settled()
        factory.open_gate.set()
        with pytest.raises(OSError, match="refused"):
            await tasks[0]
        await pool.release(await tasks[1])
        whole(pool)


async def test_a_timeout_of_open_itself_is_not_taken_for_the_deadline(loop_kind, factory):
    async with pool_of(factory) as pool:
        factory.failures = [TimeoutError("the server's")]
        with pytest.raises(TimeoutError, match="the server's"):
            await pool.acquire()
        whole(pool)


@pytest.mark.parametrize("where", ["in the line", "while it is opened"])
async def test_a_loan_that_takes_longer_than_its_deadline_says_which_setting_that_was(loop_kind, factory, where):
    async with pool_of(factory, count_max=1, wait_s=30) as pool:
        if where == "in the line":
            member = await pool.acquire()
        else:
            factory.open_gate = asyncio.Event()
        with pytest.raises(PoolTimeoutError) as caught:
            await pool.acquire(timeout_s=0)
        assert (caught.value.limit, caught.value.seconds) == ("timeout_s", 0)
        assert pool.stats()["waiting_count"] == 0
        if where == "in the line":
            await pool.release(member)
        whole(pool)


async def test_the_pools_own_deadline_is_named_too(loop_kind, factory):
    async with pool_of(factory, count_max=1, wait_s=1e-6) as pool:
        factory.open_gate = asyncio.Event()
        with pytest.raises(PoolTimeoutError, match="wait_s=1e-06 passed: 0 of 1 members are lent, 0 wait"):
            await pool.acquire()
        whole(pool)


async def test_no_more_wait_than_are_allowed_to(loop_kind, factory):
    async with pool_of(factory, count_max=1, waiter_count_max=1) as pool:
        member = await pool.acquire()
        task = asyncio.create_task(pool.acquire())
        await settled()
        with pytest.raises(LimitError) as caught:
            await pool.acquire()
        assert (caught.value.limit, caught.value.maximum) == ("waiter_count_max", 1)
        await pool.release(member)
        await pool.release(await task)
        whole(pool)


async def test_a_member_that_fails_its_check_is_closed_and_another_one_opened(loop_kind, factory):
    async with pool_of(factory, count_max=1, check=True) as pool:
        async with pool.lend() as member:
            member.is_good = False
            waiting = asyncio.create_task(pool.acquire())
            await settled()
        other = await waiting
        assert other is not member
        assert member.is_closed
        await pool.release(other)
        assert await pool.acquire() is other, "it was good"
        await pool.release(other)
        whole(pool)


async def test_a_check_that_raises_counts_as_failed(loop_kind, factory, quiet):
    def check(member: Member) -> bool:
        raise OSError("gone")

    pool: Pool[Member] = Pool(factory.open, factory.close, check, count_max=1)
    async with pool:
        async with pool.lend() as member:
            pass
        await settled()
        assert member.is_closed
        assert len(pool) == 0


async def test_a_check_that_is_cancelled_closes_the_member(loop_kind, factory):
    async with pool_of(factory, count_max=1, check=True) as pool:
        factory.check_gate = asyncio.Event()
        member = await pool.acquire()
        task = asyncio.create_task(pool.release(member))
        await settled()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await settled()
        assert member.is_closed
        whole(pool)


async def test_a_check_whose_member_was_reclaimed_meanwhile_ends_as_it_was_ended(loop_kind, factory):
    async with pool_of(factory, count_max=2, check=True) as pool:
        factory.check_gate = asyncio.Event()
        tasks = [asyncio.create_task(pool.release(await pool.acquire())) for _ in range(2)]
        await settled()
        for leak in pool.leaks():
            pool.reclaim(leak)
        tasks[0].cancel()
        factory.check_gate.set()
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()
        assert isinstance(tasks[1].exception(), StaleHandleError)
        whole(pool)


async def test_a_broken_member_is_closed_at_its_return(loop_kind, factory):
    async with pool_of(factory) as pool:
        lending = pool.lend()
        async with lending as member:
            lending.is_broken = True
        await settled()
        assert member.is_closed
        member = await pool.acquire()
        await pool.release(member, is_broken=True)
        await settled()
        assert member.is_closed
        assert len(pool) == 0


async def test_what_is_not_lent_cannot_be_released(loop_kind, factory):
    async with pool_of(factory) as pool:
        member = await pool.acquire()
        await pool.release(member)
        with pytest.raises(StaleHandleError, match="not lent by acquire"):
            await pool.release(member)
        with pytest.raises(StaleHandleError):
            await pool.release(Member(7))
        whole(pool)


async def test_a_lending_serves_once(loop_kind, factory):
    async with pool_of(factory) as pool:
        lending = pool.lend()
        async with lending:
            with pytest.raises(RuntimeError, match="lend\\(\\) of its own"):
                async with lending:
                    pass
        whole(pool)


async def test_the_idle_go_after_their_time_down_to_the_least(loop_kind, factory):
    async with pool_of(factory, count_min=1, idle_s=10) as pool:
        members = [await pool.acquire() for _ in range(3)]
        for member in members:
            await pool.release(member)
        factory.wait(9)
        await pool.upkeep()
        assert len(pool) == 3
        factory.wait(1)
        await pool.upkeep()
        await settled()
        assert factory.open_numbers == [2]
        whole(pool)


async def test_the_old_go_at_their_return_and_others_are_opened_for_them(loop_kind, factory):
    async with pool_of(factory, count_min=1, age_s=10) as pool:
        member = await pool.acquire()
        factory.wait(10)
        await pool.upkeep()
        assert not member.is_closed, "it is lent"
        await pool.release(member)
        await settled()
        assert member.is_closed
        await pool.upkeep()
        assert factory.open_numbers == [1]
        factory.wait(10)
        await pool.upkeep()
        await settled()
        assert factory.open_numbers == [2], "an idle one of that age goes too"
        whole(pool)


async def test_a_line_is_served_when_the_old_make_room(loop_kind, factory):
    async with pool_of(factory, count_max=1, age_s=10) as pool:
        member = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await settled()
        factory.wait(10)
        pool.core.now_ns = factory.now_ns
        await pool.release(member)
        other = await waiting
        assert other is not member
        await pool.release(other)
        whole(pool)


async def test_warming_opens_the_least_at_the_same_time(loop_kind, factory):
    factory.open_gate = asyncio.Event()
    pool = pool_of(factory, count_min=3)
    warming = asyncio.create_task(pool.warm())
    await settled()
    assert pool.stats()["opening_count"] == 3
    factory.open_gate.set()
    await warming
    assert (len(pool), pool.core.idle_count) == (3, 3)
    await pool.aclose()


async def test_warming_tells_every_failure_and_keeps_what_could_be_opened(loop_kind, factory):
    factory.failures = [OSError("one"), OSError("two")]
    pool = pool_of(factory, count_min=3)
    with pytest.raises(ExceptionGroup, match="2 of 3 members") as caught:
        await pool.warm()
    assert len(caught.value.exceptions) == 2
    assert len(pool) == 1
    whole(pool)
    await pool.aclose()


async def test_entering_a_pool_that_cannot_be_warmed_closes_what_was_opened(loop_kind, factory):
    factory.failures = [OSError("one")]
    with pytest.raises(ExceptionGroup):
        async with pool_of(factory, count_min=2):
            pytest.fail("it was entered")
    assert factory.open_numbers == []


async def test_warming_that_is_cancelled_reserves_nothing(loop_kind, factory):
    factory.open_gate = asyncio.Event()
    pool = pool_of(factory, count_min=2)
    warming = asyncio.create_task(pool.warm())
    await settled()
    warming.cancel()
    await asyncio.wait([warming])
    whole(pool)
    await pool.aclose()


async def test_what_is_lent_is_listed_with_its_borrower_and_its_age(loop_kind, factory):
    async with pool_of(factory, trace=True) as pool:

        async def leak_one() -> Member:
            return await pool.acquire()

        member = await asyncio.create_task(leak_one(), name="the careless")
        factory.wait(5)
        kept = await pool.acquire()
        factory.wait(1)
        leaks = pool.leaks()
        assert [(leak.member, leak.age_s, leak.is_lost) for leak in leaks] == [(member, 6.0, False), (kept, 1.0, False)]
        assert leaks[0].borrower.startswith("the careless at ")
        assert "test_pool.py" in leaks[0].borrower
        assert leaks[0].borrower.endswith(" in leak_one")
        assert [leak.member for leak in pool.leaks(older_than_s=2)] == [member]
        pool.reclaim(leaks[0])
        with pytest.raises(StaleHandleError):
            pool.reclaim(leaks[0])
        with pytest.raises(StaleHandleError):
            await pool.release(member)
        await pool.release(kept)
        await settled()
        assert member.is_closed
        whole(pool)


async def test_a_block_that_was_dropped_without_an_end_is_known_as_lost(loop_kind, factory):
    async with pool_of(factory) as pool:
        lending = pool.lend()
        await lending.__aenter__()
        assert [leak.is_lost for leak in pool.leaks()] == [False]
        del lending
        leak = pool.leaks()[0]
        assert leak.is_lost
        pool.reclaim(leak)
        whole(pool)


async def test_what_is_never_given_back_is_reclaimed_and_the_line_served(loop_kind, factory, quiet):
    async with pool_of(factory, count_max=1, reclaim_s=10) as pool:
        async with pool.lend() as other:
            pass
        with pytest.raises(StaleHandleError):
            async with pool.lend() as member:
                assert member is other
                waiting = asyncio.create_task(pool.acquire())
                await settled()
                factory.wait(10)
                await pool.upkeep()
                await settled()
                assert member.is_closed
        got = await waiting
        assert got is not member
        await pool.release(got)
        assert pool.stats()["reclaimed_total"] == 1
        whole(pool)


async def test_a_block_that_failed_keeps_its_own_error_when_its_member_was_reclaimed(loop_kind, factory):
    async with pool_of(factory) as pool:
        with pytest.raises(KeyError, match="its own"):
            async with pool.lend():
                pool.reclaim(pool.leaks()[0])
                raise KeyError("its own")
        whole(pool)


async def test_a_close_that_gives_back_another_member_does_not_stop_the_reclaiming(loop_kind, factory, quiet):
    lendings: dict[Member, Any] = {}
    closed: list[int] = []

    def close(member: Member) -> None:
        closed.append(member.number)
        for other in [each for each in lendings if each is not member]:
            pool.core.take_back(lendings.pop(other).lease)

    pool: Pool[Member] = Pool(factory.open, close, reclaim_s=10, idle_s=None, clock_ns=lambda: factory.now_ns)
    for _ in range(2):
        lending = pool.lend()
        lendings[await lending.__aenter__()] = lending
    factory.wait(10)
    await pool.upkeep()
    assert closed == [0]
    assert (pool.core.lent_count, pool.core.idle_count) == (0, 1)
    lendings.clear()
    await pool.aclose()


async def test_closing_turns_the_waiters_away_and_waits_for_what_is_lent(loop_kind, factory):
    pool = pool_of(factory, count_max=1)
    member = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await settled()
    closing = asyncio.create_task(pool.aclose())
    assert await settled(waiting, closing) == [True, False]
    assert isinstance(waiting.exception(), PoolClosedError)
    with pytest.raises(PoolClosedError):
        await pool.acquire()
    with pytest.raises(PoolClosedError):
        await pool.warm()
    with pytest.raises(PoolClosedError):
        pool.start()
    assert pool.is_closed
    assert not member.is_closed
    await pool.release(member)
    assert await closing == []
    assert member.is_closed
    assert await pool.aclose() == [], "a second time does nothing"


async def test_closing_takes_what_does_not_come_back(loop_kind, factory, quiet):
    pool = pool_of(factory, close_s=1e-6)
    member = await pool.acquire()
    leaks = await pool.aclose()
    assert [leak.member for leak in leaks] == [member]
    assert member.is_closed
    with pytest.raises(StaleHandleError):
        await pool.release(member)


async def test_closing_that_is_cancelled_has_turned_the_waiters_away_and_can_be_finished(loop_kind, factory):
    pool = pool_of(factory, count_max=1)
    member = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await settled()
    closing = asyncio.create_task(pool.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing, waiting])
    assert closing.cancelled()
    assert isinstance(waiting.exception(), PoolClosedError)
    await pool.release(member)
    assert await pool.aclose() == []
    assert factory.open_numbers == []


async def test_a_member_that_is_opened_while_the_pool_closes_is_closed_and_not_lent(loop_kind, factory):
    pool = pool_of(factory)
    factory.open_gate = asyncio.Event()
    task = asyncio.create_task(pool.acquire())
    await settled()
    closing = asyncio.create_task(pool.aclose())
    assert await settled(closing) == [False]
    factory.open_gate.set()
    await closing
    assert isinstance(task.exception(), PoolClosedError)
    assert len(factory.made) == 1
    assert factory.open_numbers == []


async def test_a_waiter_that_has_a_place_when_the_pool_closes_opens_nothing(loop_kind, factory):
    pool = pool_of(factory, count_max=1)
    await pool.acquire()
    task = asyncio.create_task(pool.acquire())
    await settled()
    pool.reclaim(pool.leaks()[0])
    await pool.aclose()
    assert isinstance(task.exception(), PoolClosedError)
    assert len(factory.made) == 1


async def test_a_close_that_hangs_is_cancelled_in_the_end(loop_kind, factory):
    pool = pool_of(factory, close_s=1e-6)
    await pool.release(await pool.acquire())
    factory.close_gate = asyncio.Event()
    await pool.aclose()
    assert not pool._closings


async def test_a_close_that_raises_is_told_to_the_log_alone(loop_kind, factory, caplog):
    async def close(member: Member) -> None:
        raise OSError("already gone")

    def close_now(member: Member) -> None:
        raise OSError("already gone")

    for each in (close, close_now):
        async with Pool(factory.open, each) as pool, pool.lend():
            pass
    assert [record.getMessage().partition(" raised")[0] for record in caplog.records] == [
        "close of member 0",
        "close of member 1",
    ]


async def test_an_opening_that_takes_long_does_not_hold_up_the_upkeep(loop_kind, factory, quiet):
    pool = pool_of(factory, count_min=1, reclaim_s=10)
    member = await pool.acquire()
    factory.open_gate = asyncio.Event()
    pool._beat()
    factory.wait(10)
    pool._beat()
    await settled()
    assert member.is_closed, "reclaimed"
    assert pool.stats()["opening_count"] == 1, "and one opening is enough"
    factory.open_gate.set()
    await settled()
    assert pool.core.idle_count == 1
    factory.failures = [OSError("refused")]
    factory.wait(1)
    await pool.release(await pool.acquire(), is_broken=True)
    pool._beat()
    await settled()
    assert len(pool) == 0, "a failure is logged, and tried again"
    await pool.aclose()


async def test_the_upkeep_runs_by_itself_and_ends_with_the_pool(loop_kind, factory):
    pool = pool_of(factory, idle_s=0.001)
    await pool.release(await pool.acquire())
    factory.wait(1)
    upkeeper = pool._upkeeper
    assert upkeeper is not None
    async with asyncio.timeout(20):
        while factory.open_numbers:
            await asyncio.sleep(0)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    async with asyncio.timeout(20):
        await upkeeper
    assert gone() is None


def test_a_pool_stays_with_its_loop(run, factory):
    pool = pool_of(factory)

    async def borrow() -> None:
        await pool.release(await pool.acquire())
        await pool.release(await pool.acquire(), is_broken=True)

    run(borrow)
    with pytest.raises(RuntimeError, match="another event loop"):
        run(borrow)


@pytest.mark.parametrize("name", ["idle_s", "age_s", "wait_s", "reclaim_s", "close_s", "waiter_count_max"])
def test_a_bound_out_of_its_range_is_refused(factory, name):
    with pytest.raises(ValueError, match=name):
        pool_of(factory, **{name: -1 if name == "waiter_count_max" else 0})


async def test_many_tasks_that_are_cancelled_at_random_leave_the_pool_whole(loop_kind, factory):
    dice = random.Random(7)

    async def borrow() -> None:
        async with pool.lend() as member:
            assert not member.is_closed
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
            member.is_good = dice.random() < 0.9

    async with pool_of(factory, check=True, count_max=3) as pool:
        tasks: list[asyncio.Task[None]] = []
        for _ in range(400):
            tasks.append(asyncio.create_task(borrow()))
            if dice.random() < 0.3:
                dice.choice(tasks).cancel()
            if dice.random() < 0.1:
                factory.failures.append(OSError("refused"))
            if dice.random() < 0.3:
                await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {type(None), asyncio.CancelledError, OSError}
        await settled()
        assert len(pool) == len(factory.open_numbers) <= 3
        whole(pool)
