"""The pool: loans and their ends, limits, ages, leaks, in both implementations."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from erlmcp.errors import LimitError, StaleHandleError

Impl = Callable[[str], ModuleType]


class Thing:
    """Unlike an int it can be referred to weakly, and may refer to others."""


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("pool").Pool


def filled(new: Any, count: int, **options: Any) -> Any:
    pool = new(count, **options)
    for number in range(count):
        pool.add(number)
    return pool


def scan_all(pool: Any, count: int) -> list[Any]:
    cursor, found = pool.scan(0, count)
    while cursor:
        cursor, more = pool.scan(cursor, count)
        assert 0 < len(more) <= count
        found += more
    return list(found)


def test_the_member_that_came_back_last_is_lent_first(new: Any) -> None:
    pool = filled(new, 3)
    leases = [pool.lend() for _ in range(3)]
    assert [lease.member for lease in leases] == [2, 1, 0]
    assert pool.lend() is None
    for lease in (leases[1], leases[2], leases[0]):
        assert pool.take_back(lease) is True
    assert [pool.lend().member for _ in range(3)] == [2, 0, 1]
    pool.check()


def test_none_and_equal_and_the_same_object_are_members_like_others(new: Any) -> None:
    pool, thing = new(4), Thing()
    for member in (None, thing, thing, [1]):
        pool.add(member)
    leases = pool.lend_many(4)
    assert [lease.member for lease in leases] == [[1], thing, thing, None]
    assert len({lease.handle for lease in leases}) == 4


def test_the_end_of_a_with_takes_the_member_back_whatever_happened(new: Any) -> None:
    pool = filled(new, 1)
    with pool.lend() as member:
        assert member == 0
        assert (pool.lent_count, pool.idle_count) == (1, 0)
    assert (pool.lent_count, pool.idle_count) == (0, 1)
    with pytest.raises(KeyError), pool.lend():
        raise KeyError
    assert (pool.lent_count, pool.idle_count) == (0, 1)


def test_a_lease_is_stale_after_its_end(new: Any) -> None:
    pool = filled(new, 2)
    lease = pool.lend()
    handle = lease.handle
    pool.take_back(lease)
    uses = [pool.take_back, pool.retire, pool.reclaim, lambda lease: lease.member, lambda lease: lease.__enter__()]
    for use in (*uses, lambda lease: lease.__exit__(None, None, None), lambda lease: pool.take_back_many([lease])):
        with pytest.raises(StaleHandleError, match=hex(handle)):
            use(lease)
    with pytest.raises(StaleHandleError, match=hex(handle)):
        pool.reclaim(handle)
    assert lease.handle == handle
    assert (len(pool), pool.idle_count) == (2, 2)


def test_a_stale_lease_never_touches_the_next_borrowers_loan(new: Any) -> None:
    pool = filled(new, 1)
    old = [pool.lend()]
    for _ in range(5):
        pool.take_back(old[-1])
        old.append(pool.lend())
    assert len({id(lease) for lease in old}) == len({lease.handle for lease in old}) == 6
    for lease in old[:-1]:
        with pytest.raises(StaleHandleError):
            pool.take_back(lease)
    assert old[-1].member == 0
    pool.take_back(old[-1])
    pool.check()


def test_a_lease_of_another_pool_is_refused(new: Any) -> None:
    mine, other = filled(new, 1), filled(new, 1)
    lease = other.lend()
    for use in (mine.take_back, mine.retire, mine.reclaim, lambda lease: mine.take_back_many([lease])):
        with pytest.raises(StaleHandleError, match="another pool"):
            use(lease)
    assert other.take_back(lease)


@pytest.mark.parametrize("thing", [None, 1, "lease", [], object()])
def test_what_is_no_lease_is_a_type_error(new: Any, thing: Any) -> None:
    pool = filled(new, 1)
    for use in (pool.take_back, pool.retire, lambda thing: pool.take_back_many([thing])):
        with pytest.raises(TypeError):
            use(thing)
    pool.check()


def test_a_lease_cannot_be_made(impl: Impl) -> None:
    room = impl("pool")
    with pytest.raises(TypeError, match=r"Pool\.lend"):
        room.Lease()


@pytest.mark.parametrize("handle", [0, 1, 1 << 32, 2 << 32, 1 << 32 | 99, 3 << 32, (1 << 64) - 1])
def test_a_handle_that_was_never_given_out_is_stale(new: Any, handle: int) -> None:
    pool = filled(new, 2)
    with pytest.raises(StaleHandleError):
        pool.reclaim(handle)
    with pytest.raises(StaleHandleError):
        new().reclaim(handle)
    assert len(pool) == 2


@pytest.mark.parametrize("handle", [-1, 1 << 64])
def test_a_handle_of_more_than_64_bits_is_refused(new: Any, handle: int) -> None:
    with pytest.raises(OverflowError):
        filled(new, 1).reclaim(handle)


def test_count_max_bounds_members_and_reserved_places_together(new: Any) -> None:
    pool = new(3)
    pool.add("a")
    assert pool.reserve()
    assert pool.room == 1
    assert pool.reserve()
    assert not pool.reserve()
    assert pool.room == 0
    with pytest.raises(LimitError) as caught:
        pool.add("too many")
    assert (caught.value.limit, caught.value.maximum) == ("count_max", 3)
    pool.add("b", is_reserved=True)
    pool.unreserve()
    pool.add("c")
    assert len(pool) == pool.idle_count == 3
    for use in (pool.unreserve, lambda: pool.add("d", is_reserved=True), lambda: pool.lend_new("d")):
        with pytest.raises(ValueError, match="nothing is reserved"):
            use()
    pool.check()


def test_a_new_member_can_be_lent_at_once(new: Any) -> None:
    pool = new(2)
    pool.reserve()
    lease = pool.lend_new("fresh", "who")
    assert lease.member == "fresh"
    assert (pool.lent_count, pool.idle_count, pool.room) == (1, 0, 1)
    assert pool.leaks()[0].who == "who"
    assert pool.take_back(lease)


def test_the_shortage_counts_what_is_being_made_and_not_what_leaves(new: Any) -> None:
    pool = new(4, count_min=3, age_ns=10)
    assert pool.shortage == 3
    pool.reserve()
    assert pool.shortage == 2
    pool.unreserve()
    for member in range(3):
        pool.add(member)
    assert pool.shortage == 0
    pool.now_ns = 10
    assert pool.lend() is None
    assert pool.stats()["leaving_count"] == 3
    assert pool.shortage == pool.room == 1
    assert pool.expire() == [2, 1, 0]
    assert pool.shortage == 3


def test_a_retired_member_is_out_and_its_place_is_free(new: Any) -> None:
    pool = filled(new, 1)
    lease = pool.lend()
    assert pool.retire(lease) == 0
    assert len(pool) == 0
    assert pool.stats()["retired_total"] == 1
    pool.add("next")
    with pytest.raises(StaleHandleError):
        pool.retire(lease)


def test_leaks_say_who_has_what_and_for_how_long(new: Any) -> None:
    pool = filled(new, 3, now_ns=100)
    assert pool.leaks() == []
    first = pool.lend_to("alice")
    pool.now_ns = 150
    second = pool.lend()
    pool.now_ns = 170
    found = [(leak.handle, leak.member, leak.who, leak.age_ns, leak.is_lost) for leak in pool.leaks()]
    assert found == [(first.handle, 2, "alice", 70, False), (second.handle, 1, None, 20, False)]
    assert [leak.who for leak in pool.leaks(70)] == ["alice"]
    assert pool.leaks(71) == []
    assert "alice" in repr(pool.leaks()[0])
    pool.take_back(first)
    again = pool.lend()
    assert [leak.who for leak in pool.leaks()] == [None, None]
    pool.take_back_many([again, second])
    assert pool.leaks() == []


def test_a_leak_can_be_reclaimed_by_its_handle_and_by_its_lease(new: Any) -> None:
    pool = filled(new, 2)
    leases = pool.lend_many(2, "carol")
    assert pool.reclaim(pool.leaks()[0].handle) == 0
    assert pool.reclaim(leases[0]) == 1
    assert len(pool) == pool.lent_count == 0
    assert pool.room == 2
    assert pool.stats()["reclaimed_total"] == 2
    for lease in leases:
        with pytest.raises(StaleHandleError):
            pool.take_back(lease)
    pool.check()


def test_a_dropped_lease_is_known_to_be_lost(new: Any) -> None:
    pool = filled(new, 2)
    kept, dropped = pool.lend(), pool.lend()
    handle = dropped.handle
    del dropped
    gc.collect()
    assert [(leak.handle, leak.is_lost) for leak in pool.leaks()] == [(handle, True), (kept.handle, False)]
    assert pool.reclaim(handle) == 0
    pool.take_back(kept)
    pool.check()


def test_a_member_too_old_is_not_lent_and_leaves_at_its_return(new: Any) -> None:
    pool = new(3, age_ns=10)
    pool.add("old")
    pool.add("lent")
    lent = pool.lend()
    pool.now_ns = 5
    pool.add("young")
    pool.now_ns = 10
    assert pool.take_back(lent) is False
    young = pool.lend()
    assert young.member == "young"
    assert pool.take_back(young) is True
    assert pool.expire() == ["lent", "old"]
    assert pool.idle_count == len(pool) == 1
    pool.now_ns = 15
    with pytest.raises(StaleHandleError):
        pool.take_back(young)
    assert pool.lend() is None
    assert pool.expire() == ["young"]
    pool.check()


def test_a_with_lets_a_member_that_became_too_old_leave(new: Any) -> None:
    pool = filled(new, 1, age_ns=10)
    with pool.lend():
        pool.now_ns = 10
    assert pool.lend() is None
    assert pool.expire() == [0]


def test_members_idle_too_long_leave_from_the_bottom_down_to_count_min(new: Any) -> None:
    pool = filled(new, 5, count_min=2, idle_ns=10)
    pool.now_ns = 4
    leases = pool.lend_many(2)
    pool.take_back_many(leases)
    assert pool.expire(9) == []
    assert pool.expire(10) == [0, 1, 2]
    assert pool.expire(100) == []
    assert pool.idle_count == 2
    assert [pool.lend().member for _ in range(2)] == [3, 4]
    pool.check()


def test_those_too_old_leave_below_count_min_too_and_count_before_the_idle(new: Any) -> None:
    pool = new(4, count_min=2, age_ns=20, idle_ns=10)
    pool.add("old")
    pool.now_ns = 11
    pool.add("idle")
    pool.now_ns = 12
    pool.add("young")
    assert pool.expire(21) == ["old"]
    assert pool.expire(31) == ["idle"]
    assert pool.expire(32) == ["young"]
    assert pool.shortage == 2


def test_the_clock_does_not_go_back(new: Any) -> None:
    pool = new(now_ns=50)
    pool.now_ns = 40
    assert pool.now_ns == 50
    pool.expire(60)
    assert pool.now_ns == 60
    for bad in (-1, 1 << 62):
        with pytest.raises(ValueError, match="now_ns"):
            pool.now_ns = bad
        with pytest.raises(ValueError, match="now_ns"):
            pool.expire(bad)
    pool.now_ns = (1 << 62) - 1
    pool.add("a")
    assert pool.lend().member == "a"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"count_max": 0}, "count_max"),
        ({"count_max": -1}, "count_max"),
        ({"count_max": 1 << 31}, "count_max"),
        ({"count_min": -1}, "count_min"),
        ({"count_max": 3, "count_min": 4}, "count_min"),
        ({"idle_ns": -1}, "idle_ns"),
        ({"age_ns": 1 << 62}, "age_ns"),
        ({"now_ns": 1 << 200}, "now_ns"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(new: Any, arguments: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        new(**arguments)


def test_settings_can_be_read_back(new: Any) -> None:
    pool = new(7, count_min=2, idle_ns=3, age_ns=4, now_ns=5)
    assert (pool.count_max, pool.count_min, pool.idle_ns, pool.age_ns, pool.now_ns) == (7, 2, 3, 4, 5)


def test_after_retire_all_every_member_leaves_and_new_ones_stay(new: Any) -> None:
    pool = filled(new, 3)
    lent = pool.lend()
    pool.retire_all()
    assert pool.expire() == [0, 1]
    pool.add("new")
    assert pool.take_back(lent) is False
    assert pool.expire() == [2]
    assert pool.lend().member == "new"


def test_many_are_lent_and_taken_back_at_once(new: Any) -> None:
    pool = filled(new, 100)
    some = pool.lend_many(40)
    assert [lease.member for lease in some] == list(range(99, 59, -1))
    rest = pool.lend_many(1000, "bulk")
    assert len(rest) == 60
    assert pool.lend_many(1) == pool.lend_many(0) == []
    assert {leak.who for leak in pool.leaks()} == {None, "bulk"}
    assert pool.take_back_many(tuple(some)) == 40
    assert pool.take_back_many(rest) == 60
    assert pool.take_back_many([]) == 0
    assert pool.lend().member == 0
    with pytest.raises(ValueError, match="count"):
        pool.lend_many(-1)
    with pytest.raises(TypeError, match="list or a tuple"):
        pool.take_back_many({})
    pool.check()


def test_a_batch_skips_the_old_ones_and_counts_those_that_are_idle_again(new: Any) -> None:
    pool = new(40, age_ns=10)
    for number in range(20):
        pool.now_ns = number % 2 * 5
        pool.add(number)
    pool.now_ns = 10
    leases = pool.lend_many(30)
    assert [lease.member for lease in leases] == list(range(19, 0, -1))
    pool.now_ns = 15
    assert pool.take_back_many(leases) == 0
    assert pool.expire() == [0, *range(19, 0, -1)]


def test_a_batch_with_a_stale_lease_stops_there(new: Any) -> None:
    pool = filled(new, 4)
    leases = pool.lend_many(4)
    pool.take_back(leases[2])
    with pytest.raises(StaleHandleError):
        pool.take_back_many(leases)
    assert pool.lent_count == 1
    assert leases[3].member == 0


def test_a_scan_sees_every_member_once_in_its_state(new: Any) -> None:
    pool = filled(new, 20, age_ns=100, now_ns=5)
    leases = [pool.lend_to(number) for number in range(3)]
    pool.now_ns = 12
    for count in (1, 7, 100):
        found = scan_all(pool, count)
        assert sorted(member for member, *_ in found) == list(range(20))
        assert {member: (state, who, age) for member, state, who, age in found if state == "lent"} == {
            19: ("lent", 0, 7),
            18: ("lent", 1, 7),
            17: ("lent", 2, 7),
        }
    pool.now_ns = 200
    pool.take_back(leases[0])
    assert (19, "leaving", None, 0) in scan_all(pool, 5)
    for bad in ((-1, 1), (0, 0)):
        with pytest.raises(ValueError, match="cursor"):
            pool.scan(*bad)


def test_the_totals_count_everything(new: Any) -> None:
    pool = filled(new, 3, idle_ns=1)
    pool.retire(pool.lend())
    pool.reclaim(pool.lend())
    pool.reserve()
    pool.expire(5)
    assert pool.stats() == {
        "count": 0,
        "idle_count": 0,
        "lent_count": 0,
        "leaving_count": 0,
        "opening_count": 1,
        "added_total": 3,
        "lent_total": 2,
        "retired_total": 2,
        "reclaimed_total": 1,
    }


def test_references_are_given_back(new: Any) -> None:
    thing, who = Thing(), Thing()
    before = sys.getrefcount(thing), sys.getrefcount(who)
    pool = new(50, age_ns=10)
    for _ in range(40):
        pool.add(thing)
    leases = pool.lend_many(10, who)
    leases += [pool.lend_to(who) for _ in range(10)]
    pool.leaks()
    pool.scan()
    pool.take_back_many(leases[:5])
    pool.retire(leases[5])
    pool.reclaim(leases[6])
    with leases[7]:
        pass
    pool.now_ns = 10
    pool.take_back(leases[8])
    pool.expire()
    with pytest.raises(LimitError):
        filled(new, 1).add(thing)
    del pool, leases
    gc.collect()
    assert (sys.getrefcount(thing), sys.getrefcount(who)) == before


@pytest.mark.parametrize("way", ["idle", "lent", "who", "lease"])
def test_a_cycle_through_the_pool_is_collected(new: Any, way: str) -> None:
    pool, thing = new(4), Thing()
    thing.pool = pool
    pool.add(1 if way == "who" else thing)
    if way != "idle":
        lease = pool.lend_to(thing if way == "who" else None)
        if way == "lease":
            thing.lease = lease
        del lease
    gone = weakref.ref(thing)
    del pool, thing
    gc.collect()
    assert gone() is None


def test_a_lease_outlives_its_pool_harmlessly(impl: Impl) -> None:
    pool = impl("pool").Pool(2)
    pool.add("a")
    pool.add("b")
    live, ended = pool.lend(), pool.lend()
    pool.take_back(ended)
    del pool
    gc.collect()
    with pytest.raises(StaleHandleError):
        _ = ended.member
    if impl("pool").__name__.startswith("erlmcp._core"):
        with pytest.raises(StaleHandleError):
            _ = live.member
        with pytest.raises(StaleHandleError):
            live.__exit__(None, None, None)


def test_destructors_may_call_back_into_the_pool(new: Any) -> None:
    pool = filled(new, 30)
    seen: list[Any] = []

    class Nosy:
        def __del__(self) -> None:
            lease = pool.lend()
            pool.leaks()
            pool.scan()
            seen.append(lease.member)
            pool.take_back(lease)
            pool.check()

    for end in (pool.take_back, pool.retire, pool.reclaim, lambda lease: lease.__exit__(None, None, None)):
        end(pool.lend_to(Nosy()))
    gc.collect()
    assert len(seen) == 4
    leases = [pool.lend_to(Nosy()) for _ in range(5)]
    pool.take_back_many(leases)
    gc.collect()
    assert len(seen) == 9
    pool.check()


def test_a_borrower_that_empties_the_list_while_it_is_taken_back_is_survived(new: Any) -> None:
    pool = filled(new, 10)
    leases = pool.lend_many(5)

    class Emptier:
        def __del__(self) -> None:
            leases.clear()

    leases.insert(1, pool.lend_to(Emptier()))
    pool.take_back_many(leases)
    gc.collect()
    pool.check()


@pytest.fixture
def _frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_frequent_switches")
def test_threads_never_have_the_same_member_and_lose_none(new: Any) -> None:
    pool = new(3)
    users = [[0], [0], [0]]
    for cell in users:
        pool.add(cell)
    doubled: list[int] = []
    done = []

    def work(number: int) -> None:
        count = 0
        while count < 400:
            lease = pool.lend_to(number)
            if lease is None:
                continue
            cell = lease.member
            cell[0] += 1
            if cell[0] != 1:
                doubled.append(number)
            cell[0] -= 1
            pool.take_back(lease)
            count += 1
        done.append(count)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == [400] * 4
    assert not doubled
    assert (pool.idle_count, pool.lent_count, pool.stats()["lent_total"]) == (3, 0, 1600)
    pool.check()


def test_every_allocation_can_fail_and_nothing_is_lost() -> None:
    memory = importlib.import_module("erlmcp._core.memory")
    if not memory.IS_CHECKED:
        pytest.skip("needs ERLMCP_BUILD=checked")
    core = importlib.import_module("erlmcp._core.pool")
    thing = Thing()
    before, references = memory.live_blocks(), sys.getrefcount(thing)
    failed = 0
    for nth in range(1, 12):
        pool = core.Pool(60)
        memory.fail_after(nth)
        refused = 0
        try:
            for number in range(60):
                try:
                    if number % 2:
                        pool.add(thing)
                    elif pool.reserve():
                        pool.lend_new(thing, thing)
                except MemoryError:
                    refused += 1
                pool.check()
        finally:
            memory.fail_never()
        failed += refused
        assert len(pool) + refused == 60
        assert pool.stats()["opening_count"] <= refused
        pool.add(thing, is_reserved=bool(pool.stats()["opening_count"])) if refused else None
        pool.check()
        del pool
        assert memory.live_blocks() == before
        assert sys.getrefcount(thing) == references
    assert failed >= 6
