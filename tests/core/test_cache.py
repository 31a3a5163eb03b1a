"""The cache: tags, negative entries, times of single entries, one load for many; the rest is in test_sieve."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from erlmcp._core import memory
from erlmcp.errors import LimitError, StaleHandleError

Impl = Callable[[str], ModuleType]
ROOMS = [importlib.import_module(f"erlmcp.{floor}.cache") for floor in ("_core", "_model")]
HIT, NEGATIVE, LOAD, WAIT = range(4)


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("cache").Cache


def keys_of(cache: Any) -> list[Any]:
    return sorted(key for key, _ in cache.scan(0, 1000)[1])


def test_settings_are_checked_and_can_be_read(new: Any) -> None:
    cache = new(5, bytes_max=6, ttl_ns=7, negative_ttl_ns=8, stale_ns=9, load_count_max=10, now_ns=11)
    read = (cache.count_max, cache.bytes_max, cache.ttl_ns, cache.negative_ttl_ns, cache.stale_ns)
    assert (*read, cache.load_count_max, cache.now_ns) == (5, 6, 7, 8, 9, 10, 11)
    assert (new.HIT, new.NEGATIVE, new.LOAD, new.WAIT) == (HIT, NEGATIVE, LOAD, WAIT)
    assert (new().ttl_ns, new().negative_ttl_ns) == (5_000_000_000, 0)
    for setting in ("negative_ttl_ns", "stale_ns", "load_count_max"):
        with pytest.raises(ValueError, match=setting):
            new(**{setting: -1})
    with pytest.raises(ValueError, match="count_max"):
        new(0)
    with pytest.raises(TypeError):
        new(colour="red")


def test_an_entry_may_have_its_own_time_to_live(new: Any) -> None:
    cache = new(ttl_ns=10)
    cache.put("short", 1, ttl_ns=3)
    cache.put("usual", 2, ttl_ns=None)
    cache.put("long", 3, ttl_ns=30)
    cache.put("endless", 4, ttl_ns=0)
    for now, held in ((2, 4), (3, 3), (9, 3), (10, 2), (29, 2), (30, 1)):
        cache.now_ns = now
        assert len(keys_of(cache)) == held
        cache.check()
    assert cache.expire() == 3
    assert cache.expire(2**63 - 1) == 0
    assert cache["endless"] == 4


def test_an_expired_entry_with_its_own_time_goes_before_live_ones(new: Any) -> None:
    cache = new(3, ttl_ns=100)
    cache["a"] = 1
    cache.put("b", 2, ttl_ns=5)
    cache["c"] = 3
    assert cache["b"] == 2
    cache.now_ns = 5
    assert cache.put("d", 4) == 1
    assert keys_of(cache) == ["a", "c", "d"]
    assert (cache.expired_count, cache.eviction_count) == (1, 0)
    cache.put("a", 5, ttl_ns=1)
    cache.put("a", 6)
    cache.now_ns = 20
    assert cache["a"] == 6
    cache.check()


def test_a_tag_takes_out_its_entries_and_no_others(new: Any) -> None:
    cache = new()
    cache.put("a", 1, tags=("red", "round"))
    cache.put("b", 2, tags=["red", "red"])
    cache.put("c", 3, ttl_ns=7, tags=("round",))
    cache["d"] = 4
    assert cache.invalidate_tag("red") == 2
    assert keys_of(cache) == ["c", "d"]
    assert cache.invalidate_tag("red") == 0
    assert cache.invalidate_tag("never used") == 0
    cache.put("c", 5, tags=("blue",))
    assert cache.invalidate_tag("round") == 0
    assert cache.invalidate_tag("blue") == 1
    assert keys_of(cache) == ["d"]
    cache.check()


def test_an_entry_that_leaves_leaves_its_tags(new: Any) -> None:
    cache = new(2, ttl_ns=10)
    bare = cache.memory_bytes
    for number in range(20):
        cache.put(f"key-{number}", number, ttl_ns=number, tags=(f"tag-{number % 3}", "all"))
        cache.check()
    assert cache.memory_bytes > bare
    cache.expire(50)
    cache.put("key-18", 1)
    assert cache.invalidate_tag("all") == 0
    cache.check()


def test_tags_are_checked(new: Any) -> None:
    cache = new()
    cache["a"] = 1
    ticket = cache.claim("load")[1]
    for act in (
        lambda tags: cache.put("a", 2, tags=tags),
        lambda tags: cache.put_negative("a", tags=tags),
        lambda tags: cache.finish(ticket, 2, tags=tags),
        lambda tags: cache.fail(ticket, tags=tags),
    ):
        with pytest.raises(LimitError, match="tags_max=64"):
            act([f"tag-{number}" for number in range(65)])
        for tags in ("abc", [1], [None], {"a"}, 5):
            with pytest.raises(TypeError, match="tag"):
                act(tags)
    with pytest.raises(TypeError):
        cache.invalidate_tag(b"a")
    assert cache["a"] == 1
    cache.put("a", 2, tags=[f"tag-{number}" for number in range(64)])
    assert cache.invalidate_tag("tag-63") == 1
    assert not ticket.is_done


def test_a_prefix_takes_out_what_starts_so(new: Any) -> None:
    cache = new()
    for key in ("user/1", b"user/2", "user", "users", "é/1", "other"):
        cache[key] = key
    assert cache.invalidate_prefix("user/") == 2
    assert cache.invalidate_prefix(b"user") == 2
    assert cache.invalidate_prefix("é") == 1
    assert cache.invalidate_prefix("\ud800") == 0
    assert cache.invalidate_prefix("") == 1
    with pytest.raises(TypeError):
        cache.invalidate_prefix(1)
    cache.check()


@pytest.mark.parametrize("number", [-1, 2**63, -(2**70)])
def test_hostile_sizes_and_times_are_refused(new: Any, number: int) -> None:
    cache = new()
    ticket = cache.claim("a")[1]
    for act in (
        lambda: cache.put("a", 1, number),
        lambda: cache.finish(ticket, 1, number),
    ):
        with pytest.raises((ValueError, OverflowError)):
            act()
    if number < 0:
        for act in (
            lambda: cache.put("a", 1, ttl_ns=number),
            lambda: cache.put_negative("a", ttl_ns=number),
            lambda: cache.finish(ticket, 1, ttl_ns=number),
            lambda: cache.fail(ticket, 1, ttl_ns=number),
        ):
            with pytest.raises((ValueError, OverflowError)):
                act()
    assert len(cache) == 0
    assert not ticket.is_done


def test_a_negative_entry_answers_a_claim_and_nothing_else(new: Any) -> None:
    cache = new(negative_ttl_ns=5)
    error = LookupError("no such user")
    assert cache.put_negative("a", error, tags=("users",)) == 0
    assert cache.claim("a") == (NEGATIVE, error)
    assert "a" not in cache
    assert cache.get("a", 7) == cache.peek("a", 7) == cache.get_stale("a", 7) == 7
    assert cache.get_many(["a"]) == [None]
    assert cache.scan() == (0, [])
    assert (cache.hit_count, cache.miss_count, len(cache)) == (1, 2, 1)
    cache.now_ns = 5
    assert cache.claim("a")[0] == LOAD
    cache.put_negative("b", tags=("users",), ttl_ns=100)
    assert cache.claim("b") == (NEGATIVE, None)
    assert cache.invalidate_tag("users") == 2
    cache["b"] = 1
    cache.put_negative("b")
    cache["b"] = 2
    assert cache.claim("b") == (HIT, 2)


def test_without_a_time_for_negative_entries_there_are_none(new: Any) -> None:
    cache = new()
    cache["a"] = 1
    assert cache.put_negative("a", "error") == 0
    assert len(cache) == 0
    with pytest.raises(TypeError, match="a key is"):
        cache.put_negative(1)
    with pytest.raises(UnicodeEncodeError):
        cache.put_negative("\ud800")


def test_one_loads_and_all_wait(new: Any) -> None:
    cache = new()
    verdict, ticket = cache.claim("a", "first")
    assert verdict == LOAD
    assert (ticket.key, ticket.waiter_count, ticket.is_done, ticket.is_stale) == ("a", 1, False, False)
    assert cache.claim(b"a", "second") == (WAIT, ticket)
    assert cache.claim("a") == (WAIT, ticket)
    assert cache.join(ticket, "third") == cache.join(ticket, "third") == 3
    assert cache.load_count == 1
    assert cache.finish(ticket, "value", ttl_ns=3, tags=("t",)) == ["first", "second", "third"]
    assert (ticket.is_done, ticket.is_stored, ticket.waiter_count, cache.load_count) == (True, True, 0, 0)
    assert cache.claim("a") == (HIT, "value")
    assert (cache.hit_count, cache.miss_count) == (1, 3)
    assert cache.invalidate_tag("t") == 1
    cache.check()


def test_a_ticket_ends_once(new: Any, impl: Impl) -> None:
    cache = new()
    ticket = cache.claim("a")[1]
    cache.finish(ticket, 1)
    for act in (
        lambda: cache.finish(ticket, 2),
        lambda: cache.fail(ticket),
        lambda: cache.join(ticket, "w"),
        lambda: cache.leave(ticket, "w"),
    ):
        with pytest.raises(StaleHandleError, match="'a' has ended already"):
            act()
    for other in (None, 1, "a"):
        with pytest.raises(TypeError):
            cache.finish(other, 1)
    assert cache["a"] == 1
    nobodys = impl("cache").Ticket()
    assert cache.finish(nobodys, 1) == []
    assert not nobodys.is_stored


def test_a_ticket_of_another_cache_stores_nothing(new: Any) -> None:
    cache, other = new(), new()
    ticket = other.claim("a", "w")[1]
    cache.claim("a")
    assert cache.finish(ticket, 1) == ["w"]
    assert "a" not in cache
    assert cache.load_count == 1


def test_a_failure_is_everybodys(new: Any) -> None:
    cache = new(negative_ttl_ns=5)
    ticket = cache.claim("a", "first")[1]
    cache.claim("a", "second")
    assert cache.fail(ticket, "error") == ["first", "second"]
    assert ticket.is_stored
    assert cache.claim("a") == (NEGATIVE, "error")
    cache.now_ns = 5
    verdict, ticket = cache.claim("a")
    assert verdict == LOAD
    assert cache.fail(ticket) == []
    assert not ticket.is_stored
    verdict, ticket = cache.claim("a")
    assert verdict == LOAD
    cache.fail(ticket, "error", ttl_ns=0)
    assert cache.claim("a")[0] == LOAD


def test_a_failure_leaves_a_value_that_may_be_given_out_stale(new: Any) -> None:
    cache = new(ttl_ns=10, stale_ns=10, negative_ttl_ns=50)
    cache["a"] = 1
    cache.now_ns = 15
    cache.fail(cache.claim("a")[1], "error")
    assert cache.get_stale("a") == 1
    cache.now_ns = 20
    cache.fail(cache.claim("a")[1], "error")
    assert cache.claim("a") == (NEGATIVE, "error")


def test_who_leaves_is_not_woken(new: Any) -> None:
    cache = new()
    ticket = cache.claim("a", "first")[1]
    cache.claim("a", "second")
    assert cache.leave(ticket, "first") == 1
    assert cache.leave(ticket, "stranger") == 1
    assert cache.finish(ticket, 1) == ["second"]


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.put("a/1", "newer"),
        lambda cache: cache.__setitem__(b"a/1", "newer"),
        lambda cache: cache.put_negative("a/1"),
        lambda cache: cache.remove("a/1"),
        lambda cache: cache.invalidate_prefix("a/"),
        lambda cache: cache.clear(),
    ],
)
@pytest.mark.parametrize("is_failure", [False, True])
def test_what_changed_while_it_was_loaded_is_not_stored(new: Any, change: Any, is_failure: bool) -> None:
    cache = new(negative_ttl_ns=0)
    ticket = cache.claim("a/1", "old waiter")[1]
    other = cache.claim("b/1")[1]
    change(cache)
    assert ticket.is_stale
    if "a/1" not in cache:
        verdict, fresh = cache.claim("a/1", "new waiter")
        assert verdict == LOAD
        assert fresh is not ticket
    held = keys_of(cache)
    waiters = cache.fail(ticket, "old", ttl_ns=99) if is_failure else cache.finish(ticket, "old")
    assert waiters == ["old waiter"]
    assert (ticket.is_stored, ticket.is_done) == (False, True)
    assert keys_of(cache) == held
    if not other.is_stale:
        cache.finish(other, 1)
        assert cache["b/1"] == 1
    cache.check()


def test_a_tag_invalidated_while_it_was_loaded_is_not_stored(new: Any) -> None:
    cache = new()
    early, late = cache.claim("a")[1], cache.claim("b")[1]
    cache.invalidate_tag("users")
    fresh = cache.claim("c")[1]
    cache.finish(early, 1, tags=("things", "users"))
    cache.finish(late, 2, tags=("things",))
    cache.finish(fresh, 3, tags=("users",))
    assert (early.is_stale, late.is_stale, fresh.is_stale) == (True, False, False)
    assert keys_of(cache) == ["b", "c"]
    cache.check()


def test_too_many_invalidated_tags_make_all_loads_with_tags_stale(new: Any) -> None:
    cache = new()
    tagged, plain = cache.claim("a")[1], cache.claim("b")[1]
    for number in range(1025):
        cache.invalidate_tag(f"tag-{number}")
    fresh = cache.claim("c")[1]
    cache.finish(tagged, 1, tags=("another",))
    cache.finish(plain, 2)
    cache.finish(fresh, 3, tags=("another",))
    assert keys_of(cache) == ["b", "c"]
    assert (tagged.is_stored, fresh.is_stored) == (False, True)
    cache.check()


def test_a_value_too_large_wakes_its_waiters_and_is_not_stored(new: Any) -> None:
    cache = new(bytes_max=10)
    ticket = cache.claim("a", "w")[1]
    assert cache.finish(ticket, 1, size_bytes=11, tags=("t",)) == ["w"]
    assert (ticket.is_stored, ticket.is_stale) == (False, False)
    assert len(cache) == 0
    cache.check()


def test_the_loads_are_bounded(new: Any) -> None:
    cache = new(load_count_max=2)
    first = cache.claim("a")[1]
    cache.claim("b")
    with pytest.raises(LimitError, match="load_count_max=2"):
        cache.claim("c")
    assert cache.claim("b")[0] == WAIT
    cache.fail(first)
    assert cache.claim("c")[0] == LOAD


def test_what_is_no_key_cannot_be_claimed(new: Any) -> None:
    cache = new()
    for key in (None, 1, ["a"]):
        with pytest.raises(TypeError, match="a key is"):
            cache.claim(key)
    with pytest.raises(UnicodeEncodeError):
        cache.claim("\ud800")
    assert cache.load_count == 0


def test_whatever_the_cache_holds_is_collected_with_it(new: Any) -> None:
    class Value:
        def __init__(self, cache: Any) -> None:
            self.cache = cache

    cache = new()
    values = [Value(cache) for _ in range(4)]
    cache.put("a", values[0], tags=("t",), ttl_ns=5)
    cache.put_negative("b", values[1], ttl_ns=5)
    cache.claim("c", values[2])
    ticket = cache.claim("d", values[3])[1]
    gone = [weakref.ref(value) for value in values]
    del cache, values, ticket
    gc.collect()
    assert [ref() for ref in gone] == [None] * 4


def test_references_are_given_back(new: Any) -> None:
    thing, tag = object(), "a tag of its own".upper()
    before = sys.getrefcount(thing), sys.getrefcount(tag)
    cache = new(3)
    for number in range(10):
        cache.put(f"key-{number % 4}", thing, ttl_ns=number, tags=(tag, "t"))
        ticket = cache.claim(f"load-{number}", thing)[1]
        cache.finish(ticket, thing, tags=(tag,)) if number % 2 else cache.fail(ticket, thing, 5, (tag,))
    cache.invalidate_tag(tag)
    cache.put("a", thing, tags=(tag,))
    del cache, ticket
    gc.collect()
    assert (sys.getrefcount(thing), sys.getrefcount(tag)) == before


def test_a_value_that_comes_back_when_it_dies_does_no_harm(new: Any) -> None:
    cache = new(4, ttl_ns=10, negative_ttl_ns=5)

    class Echo:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        def __del__(self) -> None:
            cache.check()
            if self.depth:
                cache.put(f"from-{self.depth}", Echo(self.depth - 1), ttl_ns=self.depth, tags=("t", f"u-{self.depth}"))
                cache.invalidate_tag("t")
                cache.claim(f"id-{self.depth}")
            else:
                cache.clear()

    for number in range(12):
        cache.put(f"id-{number % 5}", Echo(number % 3), ttl_ns=number % 4, tags=("t",))
        verdict, ticket = cache.claim(f"load-{number}")
        if verdict == LOAD:
            cache.finish(ticket, Echo(2), tags=("t", "v"))
        cache.now_ns = number
        cache.invalidate_prefix("id-1")
        cache.expire()
        cache.check()
    cache.clear()
    gc.collect()
    cache.check()


def test_threads_load_each_key_once_at_a_time() -> None:
    cache = ROOMS[0].Cache(16)
    loading: dict[str, int] = {}
    twice: list[str] = []
    woken = [0] * 4
    waiting = [0] * 4

    def work(number: int) -> None:
        for turn in range(2000):
            key = f"key-{(turn * 7 + number) % 40}"
            verdict, found = cache.claim(key, (number, turn))
            if verdict == LOAD:
                loading[key] = loading.get(key, 0) + 1
                if loading[key] > 1:
                    twice.append(key)
                waiting[number] += 1
                loading[key] -= 1
                waiters = cache.finish(found, key, tags=("t",)) if turn % 3 else cache.fail(found, "e")
                woken[number] += len(waiters)
            elif verdict == WAIT:
                waiting[number] += 1
            elif found != key:
                twice.append(found)
            if turn % 20 == 0:
                cache.invalidate_tag("t")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert twice == []
    assert sum(woken) == sum(waiting)
    assert cache.load_count == 0
    cache.check()


KEYS = st.sampled_from(["a", b"b", "é", *(f"key-{number}" for number in range(8))])
TTLS = st.sampled_from([None, 0, 1, 5, 20, 90])
TAGS = st.lists(st.sampled_from("rgb"), max_size=3)


class CacheMachine(RuleBasedStateMachine):
    pair: tuple[Any, Any]

    @initialize(
        count_max=st.integers(1, 8),
        bytes_max=st.sampled_from([0, 40]),
        stale=st.sampled_from([0, 3]),
        negative=st.sampled_from([0, 4]),
    )
    def start(self, count_max: int, bytes_max: int, stale: int, negative: int) -> None:
        core, model = (
            room.Cache(count_max, bytes_max=bytes_max, ttl_ns=20, stale_ns=stale, negative_ttl_ns=negative)
            for room in ROOMS
        )
        self.pair = (core, model)
        self.tickets: list[tuple[Any, Any]] = []
        self.waiters = 0

    def both(self, act: Callable[..., Any], *pairs: tuple[Any, Any]) -> Any:
        outcomes = []
        for side in (0, 1):
            try:
                outcomes.append(act(self.pair[side], *(pair[side] for pair in pairs)))
            except (KeyError, StaleHandleError) as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    @rule(key=KEYS, size=st.integers(0, 45), ttl=TTLS, tags=TAGS)
    def put(self, key: Any, size: int, ttl: Any, tags: list[str]) -> None:
        self.both(lambda cache: cache.put(key, size, size, ttl, tags))

    @rule(keys=st.lists(KEYS, max_size=5))
    def set_and_ask(self, keys: list[Any]) -> None:
        for key in keys:
            self.both(lambda cache, key=key: cache.__setitem__(key, key))
        self.both(lambda cache: cache.get_many(keys))

    @rule(key=KEYS, ttl=TTLS, tags=TAGS)
    def put_negative(self, key: Any, ttl: Any, tags: list[str]) -> None:
        self.both(lambda cache: cache.put_negative(key, "error", ttl, tags))

    @rule(key=KEYS)
    def claim(self, key: Any) -> None:
        self.waiters += 1
        answers = [cache.claim(key, self.waiters) for cache in self.pair]
        assert answers[0][0] == answers[1][0]
        if answers[0][0] in (HIT, NEGATIVE):
            assert answers[0][1] == answers[1][1]
        else:
            self.tickets.append((answers[0][1], answers[1][1]))

    @rule(pick=st.integers(0, 99), size=st.integers(0, 45), ttl=TTLS, tags=TAGS)
    def finish(self, pick: int, size: int, ttl: Any, tags: list[str]) -> None:
        if self.tickets:
            pair = self.tickets[pick % len(self.tickets)]
            self.both(lambda cache, ticket: cache.finish(ticket, "loaded", size, ttl, tags), pair)

    @rule(pick=st.integers(0, 99), ttl=TTLS, error=st.sampled_from(["error", None]))
    def fail(self, pick: int, ttl: Any, error: Any) -> None:
        if self.tickets:
            pair = self.tickets[pick % len(self.tickets)]
            self.both(lambda cache, ticket: cache.fail(ticket, error, ttl, ["r"]), pair)

    @rule(pick=st.integers(0, 99), waiter=st.integers(0, 20), is_leaving=st.booleans())
    def move(self, pick: int, waiter: int, is_leaving: bool) -> None:
        if self.tickets:
            pair = self.tickets[pick % len(self.tickets)]
            self.both(lambda c, ticket: (c.leave if is_leaving else c.join)(ticket, waiter), pair)

    @rule(key=KEYS, tag=st.sampled_from("rgb"), what=st.integers(0, 12))
    def invalidate(self, key: Any, tag: str, what: int) -> None:
        if what < 5:
            self.both(lambda cache: cache.invalidate_tag(tag))
        elif what < 10:
            self.both(lambda cache: cache.remove(key))
        elif what < 12:
            self.both(lambda cache: cache.invalidate_prefix("key-" if what == 11 else key))
        else:
            self.both(lambda cache: cache.clear())

    @rule(more=st.integers(0, 12), is_expiring=st.booleans())
    def wait(self, more: int, is_expiring: bool) -> None:
        for cache in self.pair:
            cache.now_ns += more
        if is_expiring:
            self.both(lambda cache: cache.expire())

    @invariant()
    def agree(self) -> None:
        for cache in self.pair:
            cache.check()
        self.both(lambda cache: sorted(map(str, cache.scan(0, 100)[1])))
        self.both(lambda c: (len(c), c.bytes_held, c.hit_count, c.miss_count, c.eviction_count, c.expired_count))
        self.both(lambda cache: cache.load_count)
        for one, other in self.tickets:
            state = (one.is_stale, one.is_done, one.is_stored, one.waiter_count, one.key)
            assert state == (other.is_stale, other.is_done, other.is_stored, other.waiter_count, other.key)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together() -> None:
    run_state_machine_as_test(CacheMachine, settings=settings(max_examples=60, stateful_step_count=200, deadline=None))


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
def test_whichever_allocation_fails_the_cache_is_as_it_was() -> None:
    before = memory.live_blocks()
    acts = (
        lambda cache, n: cache.put(f"key-{n}", n, 1, 7, ("t", f"u-{n % 5}")),
        lambda cache, n: cache.put_negative(f"negative-{n}", n, 3),
        lambda cache, n: cache.finish(cache.claim(f"load-{n}")[1], n, tags=("t",)),
    )
    total = failed = 0
    for count in range(1, 60):
        cache = ROOMS[0].Cache(500)
        memory.fail_after(count)
        try:
            for number in range(20):
                for act in acts:
                    held = keys_of(cache)
                    try:
                        act(cache, number)
                    except MemoryError:
                        failed += 1
                        assert keys_of(cache) == held
                    cache.check()
        finally:
            memory.fail_never()
        total += 1
        cache.invalidate_tag("t")
        cache.check()
        del cache
        assert memory.live_blocks() == before
    assert failed == total
