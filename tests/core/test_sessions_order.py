"""The session store: the order under load, load and dump, memory, threads."""

from __future__ import annotations

import importlib
import random
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from erlmcp.errors import LimitError

Impl = Callable[[str], ModuleType]


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("sessions").SessionStore


@pytest.mark.parametrize("idle_ns", [0, 1_000_000])
def test_the_order_is_exact_whatever_was_touched(new: Any, idle_ns: int) -> None:
    """Few and many touches between evictions, so that the order is mended one by one and as a whole."""
    draw = random.Random(3)
    store = new(500, idle_ns=idle_ns)
    touched: dict[str, tuple[int, int]] = {}
    for number in range(3000):
        id = f"id-{number}"
        left = store.put(id, number, now_ns=store.now_ns + draw.choice([0, 1]))
        expected = [min(touched, key=lambda id: touched[id])] if len(touched) == 500 else []
        assert [id for id, _ in left] == expected
        for gone in expected:
            del touched[gone]
        touched[id] = store.now_ns, number
        if draw.random() < 0.1:
            store.now_ns += 1
            used = draw.sample(sorted(touched), draw.choice([0, 1, len(touched) // 2, len(touched)]))
            store.get_many(used)
            touched.update({id: (store.now_ns, touched[id][1]) for id in used})
        if draw.random() < 0.1:
            gone = draw.choice(sorted(touched))
            store.pop(gone)
            del touched[gone]
    store.check()
    assert [id for id, _ in store.drain()] == sorted(touched, key=lambda id: touched[id])


def test_what_is_dumped_can_be_loaded_with_its_age(new: Any) -> None:
    store = new(10, idle_ns=50, age_ns=100, now_ns=1000)
    assert store.dump() == (0, [])
    store.put("a", "A", "owner")
    store.put("b", "B", now_ns=1010)
    store.now_ns = 1020
    store.touch("a")
    cursor, items = store.dump(0, 1)
    cursor, more = store.dump(cursor, 1)
    assert cursor == 0
    items += more
    assert sorted(items) == [("a", "A", "owner", 1000, 1020), ("b", "B", None, 1010, 1010)]
    again = new(10, idle_ns=50, age_ns=100, now_ns=5)
    assert again.load(items, -1020) == 2
    assert sorted(again.dump()[1]) == [("a", "A", "owner", -20, 0), ("b", "B", None, -10, -10)]
    assert again.owner_count("owner") == 1
    assert again.next_deadline_ns() == 40
    again.now_ns = 39
    assert again.peek("a") + again.peek("b") == "AB"
    assert again.expire(40) == [("b", "B")]
    again.touch("a")
    assert again.next_deadline_ns() == 80
    assert again.expire(80) == [("a", "A")]
    again.check()


def test_a_load_is_whole_or_nothing(new: Any) -> None:
    store = new(4, owner_count_max=2, now_ns=100)
    store.put("a", 1, "one")
    good = ("b", 2, "one", 10, 20)
    bad: list[tuple[Any, type[Exception], str]] = [
        (("a", 1, None, 1, 1), ValueError, "there already"),
        (("b", 1, None, 1, 1), ValueError, "there already"),
        (("c", 1, "one", 1, 1), LimitError, "owner_count_max=2"),
        (("c", 1, None, 2, 1), ValueError, "born_ns <= touched_ns"),
        (("c", 1, None, 1, 101), ValueError, "now_ns=100"),
        (("c", 1, None, -(2**62) - 1, 1), ValueError, "born_ns"),
        (("c", 1, None, -(10**30), 10**30), ValueError, "born_ns"),
        (("c", 1, None, 1.0, 1), TypeError, "int"),
        (("c", 1, None, 1, "1"), TypeError, "int"),
        (("c", 1, [], 1, 1), TypeError, "unhashable"),
        (("c", 1, None, 1), TypeError, "an item is a tuple"),
        ((b"c", 1, None, 1, 1), TypeError, "an id is a str"),
        (("\ud800", 1, None, 1, 1), UnicodeError, "surrogates"),
    ]
    for item, kind, words in bad:
        with pytest.raises(kind, match=words):
            store.load([good, item])
        assert store.owner_count("one") == len(store) == 1
        store.check()
    for items in (["abcde"], [None], [["b", 2, None, 1, 1]]):
        with pytest.raises(TypeError):
            store.load(items)
    with pytest.raises(TypeError, match="load takes a list or a tuple"):
        store.load(iter([good]))
    with pytest.raises(TypeError, match="int"):
        store.load([good], 0.5)
    with pytest.raises(LimitError, match="count_max=4"):
        store.load([(f"{number}", 0, None, 1, 1) for number in range(4)])
    assert store.load((good, ("c", 3, None, -(2**62), 100))) == 2
    assert store.load([]) == 0
    assert [id for id, _ in store.drain()] == ["b", "a", "c"]


def test_loaded_ones_take_their_place_in_the_order(new: Any) -> None:
    store = new(6, idle_ns=100, age_ns=1000, now_ns=1000)
    store.put("new", 0)
    store.load([("d", 0, None, 5, 950), ("b", 0, None, 5, 920), ("c", 0, None, 1, 920), ("a", 0, None, 500, 901)])
    store.touch("d")
    assert [id for id, _ in store.expire(1003)] == ["a", "c"]
    assert store.next_deadline_ns() == 1005
    assert [id for id, _ in store.expire(1005)] == ["d", "b"]
    assert len(store) == 1


def test_the_memory_of_a_session_is_bounded(new: Any) -> None:
    is_core = "_core" in new.__module__
    count = 100_000 if is_core else 1000
    store = new(count, age_ns=10**18)
    assert store.memory_bytes < 1000
    for number in range(count):
        store.put(f"{number:032d}", None)
        assert number != 999 or store.memory_bytes < 1000 * 500
    each = store.memory_bytes / count
    assert 100 * is_core <= each < 400
    for number in range(3 * count):  # those that came and went leave nothing behind
        store.put(f"+{number:031d}", None)
    assert store.memory_bytes / count <= each * 1.5


def test_threads_may_share_a_compiled_store() -> None:
    """Each thread has ids of its own and uses everybody's; nothing is lost, nothing is there twice."""
    store = importlib.import_module("erlmcp._core.sessions").SessionStore(1000, idle_ns=50, owner_count_max=300)
    left: list[list[tuple[str, object]]] = [[] for _ in range(4)]
    put: list[int] = [0] * 4
    start = threading.Barrier(4)

    def work(own: int) -> None:
        draw = random.Random(own)
        start.wait(30)
        for number in range(1500):
            if draw.random() < 0.5:
                store.now_ns = store.now_ns + 1
            try:
                left[own] += store.put(f"{own}-{number}", own, own)
                put[own] += 1
            except LimitError:
                left[own] += store.expire()
            store.get_many([f"{draw.randrange(4)}-{draw.randrange(1500)}" for _ in range(10)])
            store.touch(f"{draw.randrange(4)}-{number}")
            if number % 50 == 0:
                store.scan(draw.randrange(100), 20)
                left[own] += store.expire()

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(switch)
    store.check()
    gone = [id for part in left for id, _ in part] + [id for id, _ in store.drain()]
    assert len(gone) == len(set(gone)) == sum(put) > 0


def starve(work: Callable[[Any], tuple[int, list[Any]]], count: int, age_ns: int) -> None:
    """Runs ``work`` on a new store with the n-th allocation failing, for n = 1, 2, 3 ... until none fails."""
    memory = importlib.import_module("erlmcp._core.memory")
    if not memory.IS_CHECKED:
        pytest.skip("needs ERLMCP_BUILD=checked")
    core = importlib.import_module("erlmcp._core.sessions")
    before = memory.live_blocks()
    for nth in range(1, 300):
        store = core.SessionStore(15, age_ns=age_ns)
        memory.fail_after(nth)
        try:
            done, left = work(store)
        finally:
            memory.fail_never()
        store.check()
        assert [number for _, number in [*left, *store.drain()]] == list(range(done))
        del store
        assert memory.live_blocks() == before
        if done == count:
            assert nth > 10
            return
    raise AssertionError("an allocation failed that was not asked for")


@pytest.mark.parametrize("age_ns", [0, 100])
def test_every_allocation_of_a_put_can_fail_and_nothing_is_lost(age_ns: int) -> None:
    def work(store: Any) -> tuple[int, list[Any]]:
        done, left = 0, []
        try:
            for number in range(25):
                left += store.put(f"id-{number}" * 10, number, number % 3)
                done += 1
        except MemoryError:
            pass
        return done, left

    starve(work, 25, age_ns)


@pytest.mark.parametrize("age_ns", [0, 100])
def test_every_allocation_of_a_load_can_fail_and_it_is_undone(age_ns: int) -> None:
    items = [(f"id-{number}", number, number % 3, 0, 0) for number in range(15)]

    def work(store: Any) -> tuple[int, list[Any]]:
        try:
            return store.load(items), []
        except MemoryError:
            assert len(store) == 0
            return 0, []

    starve(work, 15, age_ns)


@pytest.mark.deep
def test_a_million_live_sessions() -> None:
    store = importlib.import_module("erlmcp._core.sessions").SessionStore(1_000_000, idle_ns=1000, age_ns=10**6)
    ids = [f"{number:032x}" for number in range(1_000_000)]
    for number, id in enumerate(ids):
        store.put(id, number)
    assert store.memory_bytes < 400 * len(ids)
    store.now_ns = 999
    for at in range(0, len(ids), 1000):
        assert store.get_many(ids[at : at + 900]) == list(range(at, at + 900))
    gone = store.expire(1000)
    assert len(gone) == 100_000
    assert [number for _, number in gone[:200]] == [*range(900, 1000), *range(1900, 2000)]
    assert [number for _, number in store.put("one", 1)] == []
    cursor, count = 0, 0
    while True:
        cursor, part = store.scan(cursor, 10_000)
        count += len(part)
        if not cursor:
            break
    assert count == 900_001
    store.check()
    live = [number for number in range(1_000_000) if number % 1000 < 900]
    assert [number for _, number in store.expire(1999)] == live
    assert store.drain() == [("one", 1)]
