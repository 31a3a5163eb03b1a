"""The room ``ring``: a bounded FIFO in three disciplines."""

from __future__ import annotations

import gc
import os
import select
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


def pipe():
    """Both ends do not block."""
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def waking(end):
    """How many wakes there are to read."""
    try:
        return len(os.read(end, 800)) // 8
    except BlockingIOError:
        return 0


@pytest.fixture
def wake():
    ends = pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_items_come_out_in_the_order_they_went_in(impl, mode):
    ring = impl("ring").RingQueue(4, mode)
    assert [ring.push(i) for i in range(5)] == [True, True, True, True, False]
    assert ring.is_full
    assert [ring.pop() for _ in range(5)] == [0, 1, 2, 3, None]
    assert ring.pop_or("nothing") == "nothing"
    assert len(ring) == 0


def test_none_is_an_item_like_others(impl, mode):
    ring = impl("ring").RingQueue(2, mode)
    assert ring.push(None)
    assert ring.pop_or("nothing") is None
    assert ring.pop_or("nothing") == "nothing"


@pytest.mark.parametrize(("asked", "given"), [(1, 2), (2, 2), (3, 4), (64, 64), (65, 128)])
def test_the_capacity_is_rounded_up_to_a_power_of_two(impl, mode, asked, given):
    ring = impl("ring").RingQueue(asked, mode)
    assert ring.capacity == given
    assert ring.mode == mode
    assert ring.push_many(list(range(200))) == given


def test_a_capacity_or_mode_out_of_range_is_refused(impl):
    room = impl("ring")
    with pytest.raises(ValueError, match="at least 1"):
        room.RingQueue(0)
    with pytest.raises(ValueError, match="'local', 'spsc' or 'mpmc'"):
        room.RingQueue(4, "other")
    with pytest.raises(LimitError, match="capacity="):
        room.RingQueue((1 << 30) + 1)


def test_a_batch_takes_what_fits_and_gives_what_there_is(impl, mode):
    ring = impl("ring").RingQueue(8, mode)
    assert ring.push_many([]) == 0
    assert ring.push_many([1, 2, 3]) == 3
    assert ring.pop_many(2) == [1, 2]
    assert ring.push_many(list(range(10, 20))) == 7
    assert ring.pop_many(100) == [3, 10, 11, 12, 13, 14, 15, 16]
    assert ring.pop_many(100) == []
    with pytest.raises(ValueError, match="at least 0"):
        ring.pop_many(-1)
    assert ring.push_many((4, 5)) == 2
    assert ring.pop_many(3) == [4, 5]
    for hostile in ({1, 2}, "ab", None, iter([1])):
        with pytest.raises(TypeError, match="a list or a tuple"):
            ring.push_many(hostile)


def test_the_ring_turns_round_many_times(impl, mode):
    ring = impl("ring").RingQueue(4, mode)
    for i in range(1000):
        assert ring.push_many([i, -i]) == 2
        assert ring.pop() == i
        assert ring.pop_many(5) == [-i]
        ring.check()


def test_references_are_given_back(impl, mode):
    thing = Thing()
    before = sys.getrefcount(thing)
    ring = impl("ring").RingQueue(4, mode)
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
    ring = impl("ring").RingQueue(4, mode)
    thing = Thing()
    thing.ring = ring
    ring.push(thing)
    ring.push(ring)
    gone = weakref.ref(thing)
    del ring, thing
    gc.collect()
    assert gone() is None


def test_a_destructor_may_call_back_into_the_ring(impl, mode):
    ring = impl("ring").RingQueue(4, mode)

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
    ring = impl("ring").RingQueue(16, mode)
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


def test_a_closed_queue_refuses_pushes_and_gives_what_it_has(impl, mode):
    ring = impl("ring").RingQueue(4, mode)
    ring.push(1)
    assert not ring.is_closed
    ring.close()
    ring.close()
    assert ring.is_closed
    assert (ring.push(2), ring.push_many([3])) == (False, 0)
    assert ring.pop_many(4) == [1]


def test_only_an_armed_queue_wakes_and_once_for_each_arming(impl, mode, wake):
    ring = impl("ring").RingQueue(2, mode)
    ring.wake_fd = wake[1]
    assert (ring.wake_fd, ring.space_fd) == (wake[1], -1)
    ring.push(1)
    assert waking(wake[0]) == 0
    assert not ring.arm_items(), "there is an item: nobody may sleep"
    ring.pop()
    assert ring.arm_items()
    assert ring.push(2)
    assert ring.push(3)
    assert not ring.push(4)
    assert waking(wake[0]) == 1
    ring.clear()
    assert ring.arm_items()
    ring.disarm_items()
    ring.push_many([1])
    assert waking(wake[0]) == 0
    ring.clear()
    assert ring.arm_items()
    assert (ring.push_many([]), waking(wake[0])) == (0, 0)
    assert (ring.push_many([5, 6]), waking(wake[0])) == (2, 1)


def test_room_wakes_the_pushing_side(impl, mode, wake):
    ring = impl("ring").RingQueue(2, mode)
    ring.space_fd = wake[1]
    ring.push(1)
    assert not ring.arm_space(), "there is a place: nobody may sleep"
    for take in (ring.pop, lambda: ring.pop_or(0), lambda: ring.pop_many(1), ring.clear):
        ring.push_many([1, 2])
        assert ring.arm_space()
        take()
        take()
        assert waking(wake[0]) == 1
    ring.push_many([1, 2])
    assert ring.arm_space()
    ring.disarm_space()
    ring.pop()
    assert waking(wake[0]) == 0


def test_a_descriptor_that_cannot_wake_is_refused(impl, mode):
    ring = impl("ring").RingQueue(2, mode)
    for arm in (ring.arm_items, ring.arm_space):
        with pytest.raises(ValueError, match="nobody would be woken"):
            arm()
    reading, writing = os.pipe()
    try:
        for side in ("wake_fd", "space_fd"):
            with pytest.raises(ValueError, match="must not block"):
                setattr(ring, side, writing)
            for hostile in (-2, 1 << 40):
                with pytest.raises(ValueError, match="file descriptor"):
                    setattr(ring, side, hostile)
            with pytest.raises(TypeError):
                setattr(ring, side, "stdout")
    finally:
        os.close(reading)
        os.close(writing)
    with pytest.raises(OSError):
        ring.wake_fd = writing
    assert (ring.wake_fd, ring.space_fd) == (-1, -1)


def test_a_full_pipe_loses_no_wake_and_holds_nobody_up(impl, mode, wake):
    ring = impl("ring").RingQueue(2, mode)
    ring.wake_fd = wake[1]
    with pytest.raises(BlockingIOError):
        while True:
            os.write(wake[1], bytes(8))
    assert ring.arm_items()
    assert ring.push(1)
    assert waking(wake[0]) > 0


def test_a_descriptor_taken_away_is_not_written_to(impl, mode, wake):
    ring = impl("ring").RingQueue(2, mode)
    ring.wake_fd = wake[1]
    assert ring.arm_items()
    ring.wake_fd = -1
    ring.push(1)
    assert (ring.wake_fd, waking(wake[0])) == (-1, 0)


@pytest.mark.usefixtures("_frequent_switches")
@pytest.mark.parametrize("kind", ["spsc", "mpmc"])
def test_a_pusher_without_the_gil_wakes_a_sleeping_popper(impl, kind, wake):
    room = impl("ring")
    ring = room.RingQueue(8, kind)
    ring.wake_fd = wake[1]
    things = [Thing() for _ in range(2000)]
    first = things[0]
    before = sys.getrefcount(first)
    pushed: list[int] = []
    thread = threading.Thread(target=lambda: pushed.append(room.feed(ring, things)))
    thread.start()
    popped: list[Thing] = []
    while len(popped) < len(things):
        while ring.arm_items():
            assert select.select([wake[0]], [], [], 60)[0], "a push did not wake its popper"
            waking(wake[0])
        popped += ring.pop_many(8)
    thread.join(60)
    assert popped == things
    assert pushed == [2000]
    ring.check()
    popped.clear()
    assert sys.getrefcount(first) == before


def test_feeding_ends_where_the_queue_is_closed(impl):
    room = impl("ring")
    ring = room.RingQueue(2, "mpmc")
    thing = Thing()
    before = sys.getrefcount(thing)
    ring.close()
    assert room.feed(ring, (thing, thing)) == 0
    assert sys.getrefcount(thing) == before
    with pytest.raises(ValueError, match="got 'local'"):
        room.feed(room.RingQueue(2), [])
    with pytest.raises(TypeError, match="a list or a tuple"):
        room.feed(ring, "text")


@pytest.mark.usefixtures("_frequent_switches")
def test_the_collector_may_run_while_a_thread_without_the_gil_pushes(impl):
    room = impl("ring")
    ring = room.RingQueue(64, "mpmc")
    things = [[number] for number in range(3000)]
    threads = [threading.Thread(target=room.feed, args=(ring, things)) for _ in range(2)]
    for thread in threads:
        thread.start()
    count = 0
    while count < 6000:
        gc.collect(0)
        count += len(ring.pop_many(64))
    for thread in threads:
        thread.join(60)
    assert things == [[number] for number in range(3000)]


class RingMachine(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 20), mode=st.sampled_from(MODES))
    def start(self, capacity, mode):
        self.pair = [room.RingQueue(capacity, mode) for room in (core, model)]
        self.wakes = [pipe() for _ in self.pair]
        self.spaces = [pipe() for _ in self.pair]
        for ring, wake, space in zip(self.pair, self.wakes, self.spaces, strict=True):
            ring.wake_fd, ring.space_fd = wake[1], space[1]
        self.number = 0

    def teardown(self):
        for ring in getattr(self, "pair", []):
            ring.wake_fd = ring.space_fd = -1
        for end in (end for ends in getattr(self, "wakes", []) + getattr(self, "spaces", []) for end in ends):
            os.close(end)

    def both(self, act):
        outcomes = [act(ring) for ring in self.pair]
        assert outcomes[0] == outcomes[1]

    @rule()
    def push(self):
        self.number += 1
        self.both(lambda ring: ring.push(self.number))

    @rule()
    def pop(self):
        self.both(lambda ring: ring.pop_or("empty"))

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

    @rule()
    def close(self):
        if self.number % 7 == 0:
            self.both(lambda ring: ring.close())

    @rule(side=st.sampled_from(["items", "space"]))
    def arm(self, side):
        self.both(lambda ring: getattr(ring, f"arm_{side}")())

    @rule(side=st.sampled_from(["items", "space"]))
    def disarm(self, side):
        self.both(lambda ring: getattr(ring, f"disarm_{side}")())

    @invariant()
    def agree(self):
        for ring in self.pair:
            ring.check()
        self.both(lambda ring: (len(ring), ring.is_full, ring.capacity, ring.is_closed))
        for ends in (self.wakes, self.spaces):
            assert waking(ends[0][0]) == waking(ends[1][0])


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together():
    run_state_machine_as_test(RingMachine, settings=settings(max_examples=50, stateful_step_count=200, deadline=None))


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
@pytest.mark.parametrize("kind", [core.RingQueue, core.WordRing])
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
