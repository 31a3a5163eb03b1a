"""The sieve: budgets, time to live, what goes first."""

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

Impl = Callable[[str], ModuleType]
ROOMS = [importlib.import_module(f"erlmcp.{floor}.sieve") for floor in ("_core", "_model")]


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("sieve").Sieve


def scan_all(sieve: Any, count: int = 100) -> list[tuple[Any, Any]]:
    cursor, found = sieve.scan(0, count)
    while cursor:
        cursor, more = sieve.scan(cursor, count)
        assert 0 < len(more) <= count
        found += more
    return list(found)


def keys_of(sieve: Any) -> list[Any]:
    return sorted(key for key, _ in scan_all(sieve))


@pytest.mark.parametrize("key", ["", "a", "é", "日本語", "a\0b", "x" * 300, b"", b"a", b"\xff\x00", b"y" * 300])
def test_a_value_is_found_by_an_equal_key(new: Any, key: Any) -> None:
    sieve = new()
    assert sieve.put(key, "value") == 0
    equal = key[:1] + key[1:]
    assert sieve[equal] == sieve.get(equal) == sieve.peek(equal) == sieve.get_stale(equal) == "value"
    assert sieve.get_many([equal, "absent"], 7) == sieve.get_many((equal, "absent"), 7) == ["value", 7]
    assert equal in sieve
    assert len(sieve) == 1
    assert sieve.scan() == (0, [(key, "value")])
    assert type(sieve.scan()[1][0][0]) is type(key)
    sieve.check()
    assert sieve.remove(equal) is True
    assert sieve.remove(equal) is False
    assert equal not in sieve
    sieve.check()


def test_text_and_its_utf8_bytes_are_one_key(new: Any) -> None:
    sieve = new()
    sieve["é"] = 1
    sieve["é".encode()] = 2
    sieve[b"a"] = 3
    assert sieve["a"] == 3
    assert sieve["é"] == 2
    assert len(sieve) == 2


def test_keys_of_subclasses_are_kept_as_plain_ones(new: Any) -> None:
    class Text(str):
        pass

    class Data(bytes):
        pass

    sieve = new()
    for number, key in enumerate((Text("a"), Text("é"), Data(b"b"))):
        sieve[key] = number
    assert {(type(key), value) for key, value in scan_all(sieve)} == {(bytes, 2), (str, 0), (str, 1)}
    assert sieve.get_many(["a", "é", "b"]) == [0, 1, 2]


def test_keys_are_compared_in_full(new: Any) -> None:
    sieve = new(1000)
    keys = ["s" * length + last for length in range(80) for last in "xy"]
    for number, key in enumerate(keys):
        sieve[key] = number
    assert sieve.get_many(keys) == list(range(len(keys)))
    assert sieve.get("s" * 80 + "x") is None
    sieve.check()


def test_what_is_not_there_is_a_key_error_a_default_or_false(new: Any) -> None:
    sieve = new()
    for key in ("absent", b"absent", "\ud800"):
        assert key not in sieve
        assert sieve.get(key) is sieve.peek(key) is sieve.get_stale(key) is None
        assert sieve.get(key, 7) == sieve.peek(key, 7) == sieve.get_stale(key, 7) == 7
        assert not sieve.remove(key)
        for act in (sieve.__getitem__, sieve.__delitem__):
            with pytest.raises(KeyError):
                act(key)
    with pytest.raises(UnicodeEncodeError):
        sieve["\ud800"] = 1
    assert sieve.get_many([]) == []
    assert sieve.get_many(["\ud800", "a"]) == [None, None]
    assert len(sieve) == 0


@pytest.mark.parametrize("key", [None, 1, ("a",), bytearray(b"a")])
def test_other_types_are_no_keys(new: Any, key: Any) -> None:
    sieve = new()
    assert key not in sieve
    acts = (sieve.get, sieve.peek, sieve.get_stale, sieve.remove, sieve.__getitem__, sieve.__delitem__)
    for act in (*acts, lambda key: sieve.put(key, 1), lambda key: sieve.get_many(["a", key])):
        with pytest.raises(TypeError, match="a key is a str or bytes"):
            act(key)
    with pytest.raises(TypeError):
        sieve.get_many("abc")
    sieve.check()


def test_settings_are_checked_and_can_be_read(new: Any) -> None:
    sieve = new(5, bytes_max=6, ttl_ns=7, stale_ns=8, now_ns=9)
    assert (sieve.count_max, sieve.bytes_max, sieve.ttl_ns, sieve.stale_ns, sieve.now_ns) == (5, 6, 7, 8, 9)
    assert (new().ttl_ns, new().bytes_max) == (5_000_000_000, 0)
    for count_max in (0, -1, 2**28 + 1):
        with pytest.raises(ValueError, match="count_max"):
            new(count_max)
    for name in ("bytes_max", "ttl_ns", "stale_ns", "now_ns"):
        with pytest.raises(ValueError, match=name):
            new(**{name: -1})
    with pytest.raises(TypeError):
        new(colour="red")


@pytest.mark.parametrize("size", [-1, 2**63, -(2**70)])
def test_a_hostile_size_is_refused(new: Any, size: int) -> None:
    sieve = new()
    sieve.put("a", 1, 5)
    with pytest.raises((ValueError, OverflowError)):
        sieve.put("a", 2, size)
    assert sieve["a"] == 1
    assert sieve.bytes_held == 5


def test_huge_sizes_do_not_overflow_the_budget(new: Any) -> None:
    sieve = new()
    for key in "abc":
        sieve.put(key, key, 2**63 - 1)
    assert keys_of(sieve) == ["c"]
    assert sieve.bytes_held == 2**63 - 1
    sieve.check()


def test_the_clock_does_not_go_back(new: Any) -> None:
    sieve = new(now_ns=100)
    sieve.now_ns = 50
    sieve.expire(70)
    assert sieve.now_ns == 100
    for bad in (lambda: setattr(sieve, "now_ns", -1), lambda: sieve.expire(-1)):
        with pytest.raises(ValueError, match="now_ns"):
            bad()


def test_a_value_expires_exactly_at_its_deadline_and_hits_do_not_move_it(new: Any) -> None:
    sieve = new(ttl_ns=10, now_ns=10**15)
    sieve["a"] = 1
    sieve.now_ns = 10**15 + 9
    assert sieve["a"] == 1
    assert sieve.expire() == 0
    sieve["b"] = 2
    sieve.now_ns = 10**15 + 10
    assert "a" not in sieve
    assert sieve.get("a") is sieve.peek("a") is sieve.get_stale("a") is None
    assert sieve.get_many(["a", "b"]) == [None, 2]
    assert len(sieve) == 2
    assert scan_all(sieve) == [("b", 2)]
    assert sieve.expire() == 1
    assert (len(sieve), sieve.expired_count) == (1, 1)
    sieve.check()


def test_a_new_value_has_a_new_deadline(new: Any) -> None:
    sieve = new(ttl_ns=10)
    sieve["a"] = 1
    sieve["b"] = 2
    sieve.now_ns = 5
    sieve["a"] = 3
    sieve.now_ns = 10
    assert sieve.get_many(["a", "b"]) == [3, None]
    assert sieve.expire() == 1
    assert sieve.expire(15) == 1
    assert len(sieve) == 0


def test_without_a_time_to_live_nothing_expires(new: Any) -> None:
    sieve = new(ttl_ns=0)
    sieve["a"] = 1
    assert sieve.expire(2**63 - 1) == 0
    assert sieve["a"] == 1
    late = new(ttl_ns=2**63 - 1, now_ns=5)
    late["a"] = 1
    assert late.expire(2**63 - 1) == 0
    late.check()


def test_a_stale_value_is_given_out_for_a_while_to_who_asks_for_it(new: Any) -> None:
    sieve = new(ttl_ns=10, stale_ns=5)
    sieve["a"] = 1
    sieve.now_ns = 14
    assert sieve.get("a") is None
    assert sieve.get_stale("a") == 1
    assert sieve.expire() == 0
    sieve.now_ns = 15
    assert sieve.get_stale("a") is None
    assert sieve.expire() == 1


def test_what_has_expired_goes_before_what_is_live(new: Any) -> None:
    sieve = new(3, ttl_ns=10)
    sieve["old"] = 1
    sieve.now_ns = 5
    sieve["a"] = 2
    sieve["b"] = 3
    assert sieve["old"] == 1
    sieve.now_ns = 10
    assert sieve.put("c", 4) == 1
    assert keys_of(sieve) == ["a", "b", "c"]
    assert (sieve.expired_count, sieve.eviction_count) == (1, 0)


def test_the_hand_passes_what_was_used_and_takes_the_oldest_that_was_not(new: Any) -> None:
    sieve = new(4)
    for key in "abcd":
        sieve[key] = key
    assert sieve["a"] == "a"
    assert sieve["c"] == "c"
    assert sieve.put("e", 5) == 1
    assert keys_of(sieve) == ["a", "c", "d", "e"]
    sieve["f"] = 6  # the hand stands at c: passes it, takes d
    assert keys_of(sieve) == ["a", "c", "e", "f"]
    sieve["g"] = 7
    assert keys_of(sieve) == ["a", "c", "f", "g"]
    assert sieve.eviction_count == 3
    sieve.check()


def test_where_all_were_used_the_hand_comes_round(new: Any) -> None:
    sieve = new(3)
    for key in "abc":
        sieve[key] = key
        assert sieve[key] == key
    sieve["d"] = "d"
    assert keys_of(sieve) == ["b", "c", "d"]
    sieve["e"] = "e"
    assert keys_of(sieve) == ["c", "d", "e"]


def test_a_search_gives_at_most_256_second_chances(new: Any) -> None:
    sieve = new(1000)
    keys = [f"key-{number:04}" for number in range(1000)]
    for key in keys:
        sieve[key] = key
    sieve.get_many(keys)
    sieve["new"] = 1
    assert keys[256] not in sieve
    assert sieve.eviction_count == 1
    sieve.check()


def test_the_bytes_budget_is_kept(new: Any) -> None:
    sieve = new(100, bytes_max=100)
    for number in range(10):
        assert sieve.put(f"key-{number}", number, 10) == 0
    assert sieve.bytes_held == 100
    assert sieve.put("large", 1, 35) == 4
    assert sieve.bytes_held == 95
    assert sieve.put("free of charge", 1) == 0
    assert sieve.put("large", 2, 100) == 6
    assert keys_of(sieve) == ["free of charge", "large"]
    assert sieve.put("large", 3, 1) == 0
    assert sieve.bytes_held == 1
    sieve.check()


def test_a_value_larger_than_the_budget_is_not_stored_and_ends_the_one_before(new: Any) -> None:
    sieve = new(bytes_max=100)
    sieve.put("a", 1, 10)
    sieve.put("b", 2, 10)
    assert sieve.put("a", 3, 101) == -1
    assert keys_of(sieve) == ["b"]
    assert sieve.put("c", 3, 101) == -1
    assert (sieve.bytes_held, sieve.eviction_count) == (10, 0)
    sieve.check()


def test_a_value_that_grows_does_not_push_itself_out(new: Any) -> None:
    sieve = new(bytes_max=10)
    sieve.put("a", 1, 1)
    sieve.put("b", 2, 1)
    assert sieve.put("a", 3, 10) == 1
    assert scan_all(sieve) == [("a", 3)]


def test_hits_and_misses_are_counted(new: Any) -> None:
    sieve = new()
    assert sieve.hit_rate == 0.0
    sieve["a"] = 1
    sieve.get("a")
    sieve.get_many(["a", "x", "\ud800"])
    sieve.get("\ud800")
    with pytest.raises(KeyError):
        sieve["y"]
    sieve.peek("a")
    assert "a" in sieve
    assert (sieve.hit_count, sieve.miss_count, sieve.hit_rate) == (2, 4, 1 / 3)


@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_scan_misses_nothing_while_keys_come_and_go(new: Any, count: int) -> None:
    sieve = new(1000)
    for number in range(200):
        sieve[f"id-{number}"] = number
    seen: list[Any] = []
    cursor = turn = 0
    while True:
        cursor, part = sieve.scan(cursor, count)
        seen += [key for key, _ in part]
        if not cursor:
            break
        sieve.remove(f"id-{turn * 2 + 1}")
        if turn < 100:
            sieve[f"new-{turn}"] = 0
            sieve.remove(f"new-{turn - 3}")
        turn += 1
    held = {f"id-{number}" for number in range(0, 200, 2)}
    assert held <= set(seen)
    assert len([key for key in seen if key in held]) == len(held)
    for cursor, count in ((-1, 1), (0, 0)):
        with pytest.raises(ValueError):
            sieve.scan(cursor, count)


def test_get_many_agrees_with_get_in_a_large_sieve(new: Any) -> None:
    sieve = new(20_000)
    keys = [f"0123456789abcdef-{number}" for number in range(20_000)]
    for number, key in enumerate(keys):
        sieve[key] = number
    asked = [key[:1] + key[1:] for key in keys[::7]] + ["absent", "\ud800", "é"] + [key.encode() for key in keys[:9]]
    assert sieve.get_many(asked, -1) == [sieve.peek(key, -1) for key in asked]
    with pytest.raises(TypeError):
        sieve.get_many([*asked, None])
    sieve.check()
    assert sieve.memory_bytes >= 20_000 * 64
    sieve.clear()
    assert len(sieve) == 0
    assert keys[0] not in sieve
    sieve.check()


def test_references_are_given_back(new: Any) -> None:
    thing, key = object(), "a key of its own".upper()
    before = sys.getrefcount(thing), sys.getrefcount(key)
    sieve = new(3, ttl_ns=10)
    for number in range(10):
        sieve[f"{key}-{number}"] = thing
        sieve[key] = thing
        sieve.put(key, thing)
    sieve.now_ns = 20
    sieve.expire()
    sieve[key] = thing
    sieve.get_many([key, key])
    del sieve
    gc.collect()
    assert (sys.getrefcount(thing), sys.getrefcount(key)) == before


def test_a_value_that_refers_to_its_sieve_is_collected(new: Any) -> None:
    class Value:
        def __init__(self, sieve: Any) -> None:
            self.sieve = sieve

    sieve = new()
    value = Value(sieve)
    sieve["a"] = value
    sieve["b"] = [sieve]
    gone = weakref.ref(value)
    del sieve, value
    gc.collect()
    assert gone() is None


def test_a_value_that_comes_back_when_it_dies_does_no_harm(new: Any) -> None:
    sieve = new(4, bytes_max=100, ttl_ns=10)

    class Echo:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        def __del__(self) -> None:
            sieve.check()
            if self.depth:
                for number in range(3):
                    sieve.put(f"from-{self.depth}-{number}", Echo(self.depth - 1), 10)
                sieve.remove("victim")
            else:
                sieve.clear()

    sieve["victim"] = 1
    for number in range(8):
        sieve.put(f"id-{number}", Echo(number % 3), 30)
        sieve.put("id-0", Echo(2), 90)
        sieve.now_ns = number * 4
        sieve.expire()
        sieve.check()
    sieve.clear()
    sieve.clear()
    sieve.check()
    gc.collect()


def test_threads_share_a_compiled_sieve() -> None:
    sieve = ROOMS[0].Sieve(64, bytes_max=1000)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        for number in range(1500):
            key = f"key-{(number * 7 + seed) % 100}"
            sieve.put(key, key, number % 30)
            found = sieve.get(key, key)
            if found != key:
                wrong.append(found)
            sieve.get_many([key, "absent"])
            if number % 50 == 0:
                sieve.remove(key)
                sieve.scan(0, 10)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sieve.hit_count + sieve.miss_count == 4 * 1500 * 3
    sieve.check()


KEYS = st.sampled_from(["a", b"b", "é", "\ud800", *(f"key-{number}" for number in range(12))])


class SieveMachine(RuleBasedStateMachine):
    pair: tuple[Any, Any]

    @initialize(count_max=st.integers(1, 9), bytes_max=st.sampled_from([0, 40]), stale=st.sampled_from([0, 3]))
    def start(self, count_max: int, bytes_max: int, stale: int) -> None:
        core, model = (room.Sieve(count_max, bytes_max=bytes_max, ttl_ns=20, stale_ns=stale) for room in ROOMS)
        self.pair = (core, model)

    def both(self, act: Callable[[Any], Any]) -> Any:
        outcomes = []
        for sieve in self.pair:
            try:
                outcomes.append(act(sieve))
            except (KeyError, UnicodeEncodeError) as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    @rule(key=KEYS, size=st.integers(0, 50), value=st.integers())
    def put(self, key: Any, size: int, value: int) -> None:
        self.both(lambda sieve: sieve.put(key, value, size))

    @rule(keys=st.lists(KEYS, max_size=6))
    def set_and_get(self, keys: list[Any]) -> None:
        for key in keys:
            self.both(lambda sieve, key=key: sieve.__setitem__(key, key))
            self.both(lambda sieve, key=key: sieve[key])

    @rule(keys=st.lists(KEYS, max_size=6))
    def ask(self, keys: list[Any]) -> None:
        self.both(lambda sieve: sieve.get_many(keys, 7))
        self.both(lambda sieve: [(sieve.get(key), sieve.get_stale(key), sieve.peek(key)) for key in keys])

    @rule(key=KEYS)
    def remove(self, key: Any) -> None:
        self.both(lambda sieve: sieve.remove(key))

    @rule(more=st.integers(0, 12))
    def wait(self, more: int) -> None:
        for sieve in self.pair:
            sieve.now_ns += more

    @rule()
    def expire(self) -> None:
        self.both(lambda sieve: sieve.expire())

    @rule(rare=st.integers(0, 9))
    def clear(self, rare: int) -> None:
        if rare == 0:
            self.both(lambda sieve: sieve.clear())

    @invariant()
    def agree(self) -> None:
        for sieve in self.pair:
            sieve.check()
        self.both(lambda sieve: sorted(map(str, scan_all(sieve, 3))))
        self.both(lambda s: (len(s), s.bytes_held, s.hit_count, s.miss_count, s.eviction_count, s.expired_count))


TestSieveMachine = SieveMachine.TestCase
TestSieveMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together() -> None:
    run_state_machine_as_test(SieveMachine, settings=settings(max_examples=60, stateful_step_count=200, deadline=None))


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
def test_whichever_allocation_fails_the_sieve_is_as_it_was() -> None:
    before = memory.live_blocks()
    for count in range(1, 12):
        sieve = ROOMS[0].Sieve(500)
        failures = 0
        memory.fail_after(count)
        try:
            for number in range(200):
                try:
                    sieve[f"key-{number}"] = number
                except MemoryError:
                    failures += 1
                    assert len(sieve) == number
                    sieve[f"key-{number}"] = number
                sieve.check()
        finally:
            memory.fail_never()
        assert failures == (1 if count <= 11 else 0) or count > 9
        assert sieve.get_many([f"key-{number}" for number in range(200)]) == list(range(200))
        del sieve
        assert memory.live_blocks() == before
