"""The room ``ring``: a bounded FIFO in three disciplines."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from erlmcp._core import memory
from erlmcp._core import ring as core
from erlmcp._model import ring as model
from erlmcp.errors import LimitError

MODES = ["local", "spsc", "mpmc"]


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


class Thing:
    pass


def test_items_come_out_in_the_order_they_went_in(impl, mode):
    ring = impl("ring").Ring(4, mode)
    assert [ring.push(i) for i in range(5)] == [True, True, True, True, False]
    assert ring.is_full
    assert [ring.pop() for _ in range(5)] == [0, 1, 2, 3, None]
    assert ring.pop("nothing") == "nothing"
    assert len(ring) == 0


def test_none_is_an_item_like_others(impl, mode):
    ring = impl("ring").Ring(2, mode)
    assert ring.push(None)
    assert ring.pop("nothing") is None
    assert ring.pop("nothing") == "nothing"


@pytest.mark.parametrize(("asked", "given"), [(1, 2), (2, 2), (3, 4), (64, 64), (65, 128)])
def test_the_capacity_is_rounded_up_to_a_power_of_two(impl, mode, asked, given):
    ring = impl("ring").Ring(asked, mode)
    assert ring.capacity == given
    assert ring.mode == mode
    assert ring.push_many(list(range(200))) == given


def test_a_capacity_or_mode_out_of_range_is_refused(impl):
    room = impl("ring")
    with pytest.raises(ValueError, match="at least 1"):
        room.Ring(0)
    with pytest.raises(ValueError, match="'local', 'spsc' or 'mpmc'"):
        room.Ring(4, "other")
    with pytest.raises(LimitError, match="capacity="):
        room.Ring((1 << 30) + 1)


def test_a_batch_takes_what_fits_and_gives_what_there_is(impl, mode):
    ring = impl("ring").Ring(8, mode)
    assert ring.push_many([]) == 0
    assert ring.push_many([1, 2, 3]) == 3
    assert ring.pop_many(2) == [1, 2]
    assert ring.push_many(list(range(10, 20))) == 7
    assert ring.pop_many(100) == [3, 10, 11, 12, 13, 14, 15, 16]
    assert ring.pop_many(100) == []
    with pytest.raises(ValueError, match="at least 0"):
        ring.pop_many(-1)
    with pytest.raises(TypeError):
        ring.push_many((1, 2))


def test_the_ring_turns_round_many_times(impl, mode):
    ring = impl("ring").Ring(4, mode)
    for i in range(1000):
        assert ring.push_many([i, -i]) == 2
        assert ring.pop() == i
        assert ring.pop_many(5) == [-i]
        ring.check()


def test_references_are_given_back(impl, mode):
    thing = Thing()
    before = sys.getrefcount(thing)
    ring = impl("ring").Ring(4, mode)
    ring.push(thing)
    ring.push_many([thing] * 10)
    assert not ring.push(thing)
    ring.pop()
    assert len(ring.pop_many(2)) == 2
    ring.clear()
    ring.push(thing)
    del ring
    assert sys.getrefcount(thing) == before


def test_a_cycle_through_the_ring_is_collected(impl, mode):
    ring = impl("ring").Ring(4, mode)
    thing = Thing()
    thing.ring = ring
    ring.push(thing)
    ring.push(ring)
    gone = weakref.ref(thing)
    del ring, thing
    gc.collect()
    assert gone() is None


def test_a_destructor_may_call_back_into_the_ring(impl, mode):
    ring = impl("ring").Ring(4, mode)

    class Nosy:
        def __del__(self):
            ring.push("from destructor")
            seen.append(type(ring.pop()).__name__)

    seen: list[str] = []
    ring.push(Nosy())
    ring.push(Nosy())
    ring.clear()
    ring.check()
    assert sorted(seen) == ["Nosy", "str"]
    assert len(ring) == 0


@pytest.fixture
def _frequent_switches():
    """Threads take turns every 20 us, so that they meet in the ring, and a spinning one does not hold up the others."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_frequent_switches")
def test_python_threads_lose_and_double_nothing(impl, mode):
    ring = impl("ring").Ring(16, mode)
    count = 1500
    popped: list[int] = []

    def push(first):
        for i in range(first, first + count):
            while not ring.push(i):
                pass

    def pop():
        for _ in range(count):
            while (item := ring.pop()) is None:
                pass
            popped.append(item)

    threads = [threading.Thread(target=push, args=(first,)) for first in (0, count)]
    threads += [threading.Thread(target=pop) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(popped) == list(range(2 * count))
    ring.check()


@pytest.mark.parametrize(("kind", "pairs"), [("spsc", 1), ("mpmc", 1), ("mpmc", 3)])
@pytest.mark.parametrize("batch", [1, 7])
def test_threads_without_the_gil_lose_and_double_nothing(impl, kind, pairs, batch):
    ring = impl("ring").WordRing(8, kind)
    count = 4000
    sums: list[tuple[int, bool]] = []
    threads = [threading.Thread(target=ring.push_range, args=(1 + i * count, count, batch)) for i in range(pairs)]
    threads += [threading.Thread(target=lambda: sums.append(ring.pop_sum(count, batch))) for _ in range(pairs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(total for total, _ in sums) == pairs * count * (pairs * count + 1) // 2
    if pairs == 1:
        assert sums[0][1], "one pusher's words came out of order"
    ring.check()


def test_a_word_ring_has_no_local_mode(impl):
    with pytest.raises(ValueError, match="'spsc' or 'mpmc'"):
        impl("ring").WordRing(8, "local")


class RingMachine(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 20), mode=st.sampled_from(MODES))
    def start(self, capacity, mode):
        self.pair = [room.Ring(capacity, mode) for room in (core, model)]
        self.number = 0

    def both(self, act):
        outcomes = [act(ring) for ring in self.pair]
        assert outcomes[0] == outcomes[1]

    @rule()
    def push(self):
        self.number += 1
        self.both(lambda ring: ring.push(self.number))

    @rule()
    def pop(self):
        self.both(lambda ring: ring.pop("empty"))

    @rule(count=st.integers(0, 40))
    def push_many(self, count):
        items = [self.number + i for i in range(count)]
        self.number += count
        self.both(lambda ring: ring.push_many(items))

    @rule(count=st.integers(0, 40))
    def pop_many(self, count):
        self.both(lambda ring: ring.pop_many(count))

    @rule()
    def clear(self):
        self.both(lambda ring: ring.clear())

    @invariant()
    def agree(self):
        for ring in self.pair:
            ring.check()
        self.both(lambda ring: (len(ring), ring.is_full, ring.capacity))


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together():
    run_state_machine_as_test(RingMachine, settings=settings(max_examples=50, stateful_step_count=200, deadline=None))


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
@pytest.mark.parametrize("kind", [core.Ring, core.WordRing])
def test_a_ring_without_memory_is_not_made(kind):
    before = memory.live_blocks()
    memory.fail_after(1)
    try:
        with pytest.raises(MemoryError):
            kind(8)
    finally:
        memory.fail_never()
    ring = kind(8)
    assert memory.live_blocks() == before + 1
    del ring
    assert memory.live_blocks() == before
