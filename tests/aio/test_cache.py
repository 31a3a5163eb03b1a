"""``erlmcp.aio.Cache``: one load for all who wait, and the account of what the cache is worth, on a pushed clock."""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import threading
from typing import Any

import pytest

from erlmcp import core
from erlmcp.aio import Cache
from erlmcp.aio import cache as room
from erlmcp.aio.cache import Account

SECOND_NS = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1

    def __call__(self) -> int:
        return self.now_ns

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)


class Source:
    """A loader that waits for ``gate`` and gives (key, number of the load), or raises what is in ``failures``."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[Any] = []
        self.gate = asyncio.Event()
        self.failures: list[BaseException] = []

    async def load(self, key: Any) -> Any:
        self.begun.append(key)
        number = len(self.begun)
        try:
            await self.gate.wait()
        finally:
            self.ended.append(key)
        if self.failures:
            raise self.failures.pop(0)
        return key, number


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cache_of(clock: Clock, **options: Any) -> Cache:
    options.setdefault("adaptive", False)
    return Cache(100, clock=clock, **options)


async def settled(*tasks: asyncio.Task[Any]) -> list[bool]:
    """Lets the loop run until nothing but the tasks' waiting is left to do."""
    for _ in range(8):
        await asyncio.sleep(0)
    return [task.done() for task in tasks]


def many(cache: Cache, source: Source, count: int, key: Any = "k", **options: Any) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(cache.load(key, source.load, **options)) for _ in range(count)]


async def test_one_load_serves_all_who_wait(loop_kind, clock):
    cache, source = cache_of(clock), Source()
    tasks = many(cache, source, 50)
    await settled()
    assert cache.stats().load_count == 1
    source.gate.set()
    assert await asyncio.gather(*tasks) == [("k", 1)] * 50
    assert source.begun == ["k"]
    assert await cache.load("k", source.load) == ("k", 1), "a hit"
    await settled()
    stats = cache.stats()
    assert (stats.hit_count, stats.miss_count, stats.loaded_count, stats.load_count) == (1, 50, 1, 0)
    assert stats.hit_rate == pytest.approx(1 / 51)


async def test_a_function_is_a_loader_too_and_str_and_bytes_are_one_key(loop_kind, clock):
    cache = cache_of(clock)
    assert await cache.load("a", lambda key: key * 2) == "aa"
    assert await cache.load(b"a", lambda key: pytest.fail("loaded twice")) == "aa"
    assert cache.get("a") == "aa"
    assert cache.get_many(["a", "b"], 0) == ["aa", 0]
    assert len(cache) == 1


async def test_a_failure_is_everybodys_and_the_next_one_loads_again(loop_kind, clock):
    cache, source = cache_of(clock), Source()
    source.failures = [OSError("no route")]
    source.gate.set()
    results = await asyncio.gather(*many(cache, source, 3), return_exceptions=True)
    assert [str(result) for result in results] == ["no route"] * 3
    assert await cache.load("k", source.load) == ("k", 2)
    assert (cache.stats().failed_count, cache.stats().loaded_count) == (1, 1)


async def test_stop_iteration_out_of_a_loader_reaches_those_who_wait(loop_kind, clock):
    cache = cache_of(clock)

    def loader(key: Any) -> Any:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await cache.load("k", loader)


@pytest.mark.parametrize("which", ["the first", "another"])
async def test_a_waiter_that_is_cancelled_leaves_the_load_to_the_others(loop_kind, clock, which):
    cache, source = cache_of(clock), Source()
    tasks = many(cache, source, 3)
    await settled()
    gone = tasks.pop(0 if which == "the first" else 1)
    gone.cancel()
    await settled()
    assert source.ended == []
    source.gate.set()
    assert await asyncio.gather(*tasks) == [("k", 1)] * 2
    assert gone.cancelled()


async def test_the_last_waiter_that_is_cancelled_ends_the_load(loop_kind, clock):
    cache, source = cache_of(clock), Source()
    tasks = many(cache, source, 2)
    await settled()
    for task in tasks:
        task.cancel()
    await settled()
    assert source.ended == ["k"], "the loader was cancelled"
    assert cache.stats().load_count == 0
    source.gate.set()
    assert await cache.load("k", source.load) == ("k", 2)


async def test_a_load_that_nobody_waits_for_any_more_does_not_end_the_next_one(loop_kind, clock):
    cache, source = cache_of(clock), Source()

    async def stubborn(key: Any) -> Any:
        try:
            await source.gate.wait()
        except asyncio.CancelledError:
            await source.gate.wait()
        return "late"

    task = asyncio.create_task(cache.load("k", stubborn))
    await settled()
    task.cancel()
    await settled()
    other = many(cache, source, 1)[0]
    await settled()
    source.gate.set()
    assert await other == ("k", 1)
    await settled()
    assert cache.get("k") == ("k", 1)
    assert cache.stats().load_count == 0


async def test_a_load_that_is_cancelled_before_its_first_step_is_forgotten(loop_kind, clock):
    cache, source = cache_of(clock), Source()
    task = many(cache, source, 1)[0]
    await asyncio.sleep(0)
    assert (source.begun, cache.stats().load_count) == ([], 1), "its task has not run"
    await cache.close()
    await asyncio.wait([task], timeout=20)
    assert task.cancelled()
    assert (cache.stats().load_count, cache.stats().failed_count) == (0, 1)
    source.gate.set()
    assert await cache.load("k", source.load) == ("k", 1)


async def test_a_result_that_comes_as_the_waiter_is_cancelled_stays_in_the_cache(loop_kind, clock):
    cache, source = cache_of(clock), Source()
    source.gate.set()
    task = many(cache, source, 1)[0]
    while not cache.stats().loaded_count:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert cache.get("k") == ("k", 1)


async def test_a_failure_that_comes_as_the_waiter_is_cancelled_is_not_reported_as_lost(loop_kind, clock):
    cache, source = cache_of(clock), Source()
    source.failures = [OSError("no route")]
    source.gate.set()
    task = many(cache, source, 1)[0]
    while not cache.stats().failed_count:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    gc.collect()


async def test_a_loader_that_is_cancelled_from_within_cancels_those_who_wait(loop_kind, clock):
    cache, source = cache_of(clock), Source()
    source.failures = [asyncio.CancelledError()]
    source.gate.set()
    tasks = many(cache, source, 2)
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True, True]
    assert await cache.load("k", source.load) == ("k", 2)


async def test_an_error_beyond_exception_reaches_those_who_wait_and_nobody_else(loop_kind, clock):
    class Beyond(BaseException):
        pass

    cache, source = cache_of(clock, negative_ttl_s=5), Source()
    source.failures = [Beyond()]
    source.gate.set()
    results = await asyncio.gather(*many(cache, source, 2), return_exceptions=True)
    assert [type(result) for result in results] == [Beyond, Beyond]
    assert await cache.load("k", source.load) == ("k", 2), "no negative entry was made of it"
    gc.collect()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_eager_tasks_change_nothing(clock):  # on asyncio's loop: uvloop hands 3.13.0's factory a word too many
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    cache = cache_of(clock)
    assert await cache.load("k", lambda key: "value") == "value"
    await settled()
    assert cache.stats().load_count == 0


async def test_what_was_loaded_is_gone_after_its_time(loop_kind, clock):
    cache, source = cache_of(clock, ttl_s=5), Source()
    source.gate.set()
    await cache.load("k", source.load)
    await cache.load("long", source.load, ttl_s=100)
    await cache.load("ever", source.load, ttl_s=0)
    clock.wait(5)
    assert await cache.load("k", source.load) == ("k", 4)
    assert cache.get_many(["long", "ever"]) == [("long", 2), ("ever", 3)]
    clock.wait(1000)
    assert cache.expire() == 2
    assert cache.get("ever") == ("ever", 3)
    assert cache.stats().expired_count == 3


async def test_a_stale_value_is_given_out_while_it_is_loaded_anew_behind(loop_kind, clock):
    cache, source = cache_of(clock, ttl_s=5, stale_s=60), Source()
    source.gate.set()
    await cache.load("k", source.load)
    source.gate.clear()
    clock.wait(6)
    assert [await cache.load("k", source.load) for _ in range(3)] == [("k", 1)] * 3
    await settled()
    assert source.begun == ["k", "k"], "one load behind for all of them"
    source.gate.set()
    await settled()
    assert await cache.load("k", source.load) == ("k", 2)
    clock.wait(66)
    assert await cache.load("k", source.load) == ("k", 3), "too old even for that"


async def test_a_failure_behind_a_stale_value_disturbs_nobody(loop_kind, clock):
    cache, source = cache_of(clock, ttl_s=5, stale_s=60), Source()
    source.gate.set()
    await cache.load("k", source.load)
    clock.wait(6)
    source.failures = [OSError("no route")]
    assert await cache.load("k", source.load) == ("k", 1)
    await settled()
    assert cache.stats().failed_count == 1
    assert await cache.load("k", source.load) == ("k", 1), "still given out, and tried again"
    await settled()
    assert await cache.load("k", source.load) == ("k", 3)


async def test_a_waiter_beside_a_stale_load_may_go_without_ending_it(loop_kind, clock):
    cache, source = cache_of(clock, ttl_s=5, stale_s=60), Source()
    source.gate.set()
    await cache.load("k", source.load)
    source.gate.clear()
    clock.wait(6)
    await cache.load("k", source.load)
    clock.wait(60)
    task = many(cache, source, 1)[0]
    await settled()
    task.cancel()
    await settled()
    assert source.ended == ["k"], "the load goes on for the keeper"
    source.gate.set()
    await settled()
    assert cache.get("k") == ("k", 2)


async def test_a_failure_is_kept_as_a_negative_entry(loop_kind, clock):
    cache, source = cache_of(clock, negative_ttl_s=5), Source()
    source.gate.set()
    source.failures = [OSError("no route")]
    for _ in range(3):
        with pytest.raises(OSError, match="no route"):
            await cache.load("k", source.load)
    assert source.begun == ["k"]
    assert cache.get("k", "nothing") == "nothing"
    clock.wait(5)
    assert await cache.load("k", source.load) == ("k", 2)


async def test_a_negative_entry_can_be_put(loop_kind, clock):
    cache = cache_of(clock, negative_ttl_s=5)
    cache.put_negative("a")
    cache.put_negative("b", LookupError("no such shop"), ttl_s=100)
    with pytest.raises(KeyError, match="a"):
        await cache.load("a", pytest.fail)
    clock.wait(50)
    with pytest.raises(LookupError, match="no such shop"):
        await cache.load("b", pytest.fail)
    assert await cache.load("a", str.upper) == "A"
    with pytest.raises(TypeError, match="is an exception, not str"):
        cache.put_negative("c", "text")  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["put", "remove", "tag", "prefix", "clear"])
async def test_a_load_that_an_invalidation_overtook_is_given_out_and_not_stored(loop_kind, clock, how):
    cache, source = cache_of(clock), Source()
    task = many(cache, source, 1, key="shop/1", tags=("shops",))[0]
    await settled()
    if how == "put":
        cache.put("shop/1", "newer")
    elif how == "remove":
        assert not cache.remove("shop/1")
    elif how == "tag":
        cache.invalidate_tag("shops")
    elif how == "prefix":
        cache.invalidate_prefix("shop/")
    else:
        cache.clear()
    source.gate.set()
    assert await task == ("shop/1", 1)
    assert cache.get("shop/1") == ("newer" if how == "put" else None)


async def test_tags_and_prefixes_take_out_what_they_name(loop_kind, clock):
    cache, source = cache_of(clock), Source()
    source.gate.set()
    await cache.load("shop/1", source.load, tags=("shops", "red"))
    await cache.load("shop/2", source.load, tags=("shops",))
    await cache.load("town/1", source.load, tags=("red",))
    assert cache.invalidate_tag("red") == 2
    assert cache.get_many(["shop/1", "shop/2", "town/1"]) == [None, ("shop/2", 2), None]
    assert cache.invalidate_prefix("shop/") == 1
    assert len(cache) == 0


async def test_values_count_with_their_size(loop_kind, clock):
    cache = cache_of(clock, bytes_max=10, size_of=len)
    await cache.load("a", lambda key: b"x" * 6)
    assert cache.put("b", b"x" * 6) == 1, "a had to make room"
    assert cache.put("c", b"x", size_bytes=11) == -1
    assert await cache.load("d", lambda key: b"x" * 11) == b"x" * 11, "too large to be kept, and given out"
    stats = cache.stats()
    assert (stats.entry_count, stats.bytes_held, stats.eviction_count) == (1, 6, 1)


async def test_an_argument_that_does_not_fit_fails_the_load_for_all(loop_kind, clock):
    cache = cache_of(clock, negative_ttl_s=5)
    with pytest.raises(TypeError, match="a tag is a str"):
        await cache.load("k", str, tags=(1,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a time to live"):
        await cache.load("j", str, ttl_s=-1)
    assert cache.stats().load_count == 0


async def test_closing_cancels_the_loads_and_those_who_wait(loop_kind, clock):
    cache, source = cache_of(clock), Source()
    cache.put("a", 1)
    async with cache:
        tasks = many(cache, source, 2)
        await settled()
    assert await settled(*tasks) == [True, True]
    assert all(task.cancelled() for task in tasks)
    assert source.ended == ["k"]
    assert (len(cache), cache.stats().load_count) == (0, 0)


async def test_a_load_of_another_loop_is_not_waited_for(loop_kind, clock, run):
    cache, source = cache_of(clock), Source()
    cache.put("there", 1)
    task = many(cache, source, 1)[0]
    await settled()
    found: list[Any] = []

    def elsewhere() -> None:
        for key in ("k", "another", "there"):
            try:
                found.append(asyncio.run(cache.load(key, source.load)))
            except RuntimeError as error:
                found.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0)
    thread.join()
    assert found == [
        "the load under way belongs to another event loop",
        "loads of another event loop are under way in the cache",
        1,
    ]
    source.gate.set()
    assert await task == ("k", 1)
    assert await cache.load("another", source.load) == ("another", 2)


def test_a_cache_serves_one_loop_after_another(run, clock):
    cache = cache_of(clock)
    assert run(lambda: cache.load("a", str.upper)) == "A"
    assert run(lambda: cache.load("b", str.upper)) == "B"
    assert run(lambda: cache.load("a", pytest.fail)) == "A"


@pytest.mark.parametrize("seconds", [-1, float("nan"), 1e10])
def test_a_time_to_live_out_of_range_is_refused(seconds):
    with pytest.raises(ValueError, match="a time to live"):
        Cache(ttl_s=seconds)


# ---- What the cache is worth.


def test_an_account_goes_off_when_its_credit_is_spent_and_on_again_after_a_pause():
    account = Account()
    for _ in range(room.CREDIT_MISSES + 1):
        assert account.is_on(0)
        account.missed(10, 100, 0)
    assert not account.is_on(0)
    assert not account.is_on(room.PAUSE_NS - 1)
    assert account.is_on(room.PAUSE_NS)


def test_the_pause_doubles_up_to_its_end_and_starts_anew_after_a_good_time():
    account, now_ns, pauses = Account(), 0, []
    for _ in range(8):
        while account.is_on(now_ns):
            account.missed(10, 100, now_ns)
        pauses.append(account.off_until_ns - now_ns)
        now_ns = account.off_until_ns
    assert [pause // SECOND_NS for pause in pauses] == [10, 20, 40, 80, 160, 320, 320, 320]
    account.missed(10_000, 100, now_ns)
    for _ in range(100):
        account.hit(now_ns)
    assert account.balance_ns == account.credit_ns
    assert account.pause_ns == room.PAUSE_NS


def test_hits_that_save_more_than_misses_cost_keep_an_account_on_for_ever():
    account = Account()
    for _ in range(10_000):
        account.missed(1_000, 100, 0)
        account.hit(0)
    assert account.is_on(0)
    assert account.balance_ns <= account.credit_ns


def test_a_hit_that_costs_more_than_a_load_counts_against_the_cache():
    account = Account()
    account.hit(0)
    assert account.balance_ns == 0, "nothing is known yet"
    account.missed(100, 10, 0)
    account.measured("hit_ns", 500)
    before = account.balance_ns
    account.hit(0)
    assert account.balance_ns == before - 400


async def test_a_loader_whose_keys_never_come_again_is_called_directly_in_the_end(loop_kind, clock):
    def loader(key: str) -> str:
        clock.now_ns += 10
        return key

    def size_of(value: str) -> int:
        clock.now_ns += 1_000  # which is the cache's own doing
        return 1

    cache = cache_of(clock, adaptive=True, size_of=size_of)
    number = 0
    while cache.is_enabled_for(loader):
        assert await cache.load(f"key {number}", loader) == f"key {number}"
        number += 1
        assert number < 1_000
    assert number > room.CREDIT_MISSES
    assert not cache.enabled
    misses = cache.stats().miss_count
    assert await cache.load("key 0", loader) == "key 0"
    assert (cache.stats().miss_count, cache.stats().bypassed_count) == (misses, 1)

    async def other(key: str) -> str:
        return key

    assert cache.is_enabled_for(other)
    assert await cache.load("other", other) == "other"
    assert cache.enabled, "another loader is on"
    clock.wait(10)
    assert cache.is_enabled_for(loader)


async def test_a_load_that_was_cancelled_is_not_booked(loop_kind, clock):
    cache, source = cache_of(clock, adaptive=True), Source()
    task = many(cache, source, 1)[0]
    await settled()
    task.cancel()
    await settled()
    assert cache.account(source.load).load_ns == -1


async def test_a_waiter_and_a_stale_value_are_booked_as_a_load_spared(loop_kind, clock):
    cache, source = cache_of(clock, adaptive=True, ttl_s=5, stale_s=60), Source()

    async def wait_and_load(key: str) -> Any:
        clock.wait(1)
        return await source.load(key)

    tasks = [asyncio.create_task(cache.load("k", wait_and_load)) for _ in range(3)]
    await settled()
    source.gate.set()
    await asyncio.gather(*tasks)
    account = cache.account(wait_and_load)
    assert (account.load_ns, account.balance_ns) == (SECOND_NS, 2 * SECOND_NS)
    source.gate.clear()
    clock.wait(6)
    await cache.load("k", wait_and_load)
    await cache.load("k", wait_and_load)
    assert account.balance_ns == 3 * SECOND_NS, "the second one spared a load"
    source.gate.set()
    await settled()


def test_loaders_are_told_apart_by_their_code():
    def make(number: int) -> Any:
        return lambda key: number

    class Callable:
        def __call__(self, key: Any) -> Any:
            return key

    cache = Cache()
    assert cache.account(make(1)) is cache.account(make(2))
    assert cache.account(functools.partial(make(1), 3)) is cache.account(make(2))
    assert cache.account(Callable()) is cache.account(Callable())
    assert cache.account(Callable()) is not cache.account(make(1))
    assert cache.account(Source.load) is not cache.account(make(1))


def test_the_number_of_accounts_is_bounded(monkeypatch):
    monkeypatch.setattr(room, "ACCOUNTS_MAX", 2)
    cache = Cache()
    loaders = [lambda key: 1, lambda key: 2, lambda key: 3]
    first = cache.account(loaders[0])
    for loader in loaders[1:]:
        cache.account(loader)
    assert len(cache._accounts) == 2
    assert cache.account(loaders[0]) is not first


def test_the_verdicts_are_those_of_the_core():
    kind = core.Cache
    assert (room.HIT, room.NEGATIVE, room.LOAD) == (kind.HIT, kind.NEGATIVE, kind.LOAD)
