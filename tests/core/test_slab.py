"""The room ``slab``: slots whose handles notice their own age."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from erlmcp._core import memory
from erlmcp._core import slab as core
from erlmcp._model import slab as model
from erlmcp.errors import LimitError, StaleHandleError


class Thing:
    pass


def test_a_handle_finds_its_object(impl):
    slab = impl("slab").Slab()
    handles = [slab.put(f"item {i}") for i in range(100)]
    assert len(set(handles)) == 100
    assert 0 not in handles
    assert [slab.get(handle) for handle in handles] == [f"item {i}" for i in range(100)]
    assert slab.take(handles[7]) == "item 7"
    assert len(slab) == 99
    assert handles[7] not in slab
    assert handles[8] in slab


def test_a_handle_is_generation_and_index(impl):
    slab = impl("slab").Slab()
    first, second = slab.put("a"), slab.put("b")
    assert (first, second) == (1 << 32, 1 << 32 | 1)
    slab.take(first)
    assert slab.put("c") == 2 << 32


def test_a_stale_handle_never_finds_the_next_owner(impl):
    slab = impl("slab").Slab()
    old = slab.put("old")
    slab.take(old)
    new = slab.put("new")
    assert new != old
    for act in (slab.get, slab.take):
        with pytest.raises(StaleHandleError, match=hex(old)):
            act(old)
    assert slab.get(new) == "new"


@pytest.mark.parametrize("handle", [0, 1, 5 << 32, 1 << 32 | 99, (1 << 64) - 1])
def test_a_handle_that_was_never_given_out_is_stale(impl, handle):
    slab = impl("slab").Slab()
    for act in (slab.get, slab.take):
        with pytest.raises(StaleHandleError):
            act(handle)
    slab.put("x")
    with pytest.raises(StaleHandleError):
        slab.get(handle)
    assert handle not in slab


@pytest.mark.parametrize("handle", [-1, 1 << 64])
def test_a_handle_of_more_than_64_bits_is_refused(impl, handle):
    with pytest.raises(OverflowError):
        impl("slab").Slab().get(handle)


def test_the_limit_is_exact_and_names_itself(impl):
    slab = impl("slab").Slab(capacity_max=20)
    handles = [slab.put(i) for i in range(20)]
    with pytest.raises(LimitError) as caught:
        slab.put(20)
    assert (caught.value.limit, caught.value.maximum) == ("capacity_max", 20)
    slab.take(handles[3])
    slab.put("fits again")
    slab.check()


@pytest.mark.parametrize("capacity_max", [0, -1, 1 << 32])
def test_a_limit_out_of_range_is_refused(impl, capacity_max):
    with pytest.raises(ValueError, match="capacity_max must be"):
        impl("slab").Slab(capacity_max)


def test_none_is_an_object_like_others(impl):
    slab = impl("slab").Slab()
    handle = slab.put(None)
    assert handle in slab
    assert slab.take(handle) is None
    assert handle not in slab


def test_clearing_makes_every_handle_stale(impl):
    slab = impl("slab").Slab()
    handles = [slab.put(i) for i in range(30)]
    slab.clear()
    slab.check()
    assert len(slab) == 0
    assert not any(handle in slab for handle in handles)


def test_references_are_given_back(impl):
    thing = Thing()
    before = sys.getrefcount(thing)
    slab = impl("slab").Slab()
    handles = [slab.put(thing) for _ in range(40)]
    assert slab.get(handles[0]) is thing
    slab.take(handles[1])
    slab.clear()
    slab.put(thing)
    del slab
    assert sys.getrefcount(thing) == before


def test_a_cycle_through_the_slab_is_collected(impl):
    slab = impl("slab").Slab()
    thing = Thing()
    thing.slab = slab
    slab.put(thing)
    slab.put(slab)
    gone = weakref.ref(thing)
    del slab, thing
    gc.collect()
    assert gone() is None


def test_a_destructor_may_call_back_into_the_slab(impl):
    slab = impl("slab").Slab(capacity_max=1000)
    given_back: list[int] = []

    class Nosy:
        def __del__(self):
            given_back.extend(slab.put("from destructor") for _ in range(20))

    handles = [slab.put(Nosy()) for _ in range(10)]
    slab.take(handles[0])
    assert slab.get(given_back[0]) == "from destructor"
    slab.clear()
    slab.check()
    assert len(given_back) == 200


def scan_all(slab, count):
    cursor, found = slab.scan(0, count)
    while cursor:
        cursor, more = slab.scan(cursor, count)
        assert 0 < len(more) <= count
        found += more
    return found


def test_a_scan_gives_every_handle_once(impl):
    slab = impl("slab").Slab()
    assert slab.scan() == (0, [])
    handles = [slab.put(i) for i in range(50)]
    for handle in handles[::3]:
        slab.take(handle)
    wanted = [(handle, i) for i, handle in enumerate(handles) if i % 3]
    for count in (1, 7, len(wanted), 100):
        assert scan_all(slab, count) == wanted
    assert slab.scan(1 << 40) == (0, [])


def test_what_stays_is_scanned_once_whatever_comes_and_goes(impl):
    slab = impl("slab").Slab()
    handles = [slab.put(i) for i in range(100)]
    cursor, found = slab.scan(0, 10)
    step = 0
    while cursor:
        slab.take(handles[step * 3])
        slab.take(handles[99 - step])
        for _ in range(5):
            slab.put("new")
        step += 1
        cursor, more = slab.scan(cursor, 10)
        found += more
    seen = [handle for handle, _ in found]
    assert len(seen) == len(set(seen))
    assert {handle for handle in handles if handle in slab} <= set(seen)


def test_a_scan_out_of_range_is_refused(impl):
    slab = impl("slab").Slab()
    for cursor, count in ((-1, 1), (0, 0)):
        with pytest.raises(ValueError, match="cursor is 0 or more and count is 1 or more"):
            slab.scan(cursor, count)


class SlabMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.pair = [room.Slab(40) for room in (core, model)]
        self.handles: list[int] = [0]

    def both(self, act):
        outcomes = []
        for slab in self.pair:
            try:
                outcomes.append(act(slab))
            except (LookupError, LimitError) as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    @rule(count=st.integers(1, 20))
    def put(self, count):
        for i in range(count):
            handle = self.both(lambda slab, i=i: slab.put(i))
            if isinstance(handle, int):
                self.handles.append(handle)

    @rule(pick=st.integers(0, 1 << 20))
    def get(self, pick):
        self.both(lambda slab: slab.get(self.handles[pick % len(self.handles)]))

    @rule(pick=st.integers(0, 1 << 20), count=st.integers(1, 20))
    def take(self, pick, count):
        for i in range(count):
            handle = self.handles[(pick + 7 * i) % len(self.handles)]
            self.both(lambda slab, handle=handle: slab.take(handle))

    @rule(cursor=st.integers(0, 50), count=st.integers(1, 50))
    def scan(self, cursor, count):
        self.both(lambda slab: slab.scan(cursor, count))

    @rule()
    def clear(self):
        self.both(lambda slab: slab.clear())

    @invariant()
    def agree(self):
        for slab in self.pair:
            slab.check()
        self.both(lambda slab: (len(slab), [handle in slab for handle in self.handles]))


TestSlabMachine = SlabMachine.TestCase
TestSlabMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together():
    run_state_machine_as_test(SlabMachine, settings=settings(max_examples=50, stateful_step_count=200, deadline=None))


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
def test_whichever_allocation_fails_the_slab_is_as_it_was():
    before = memory.live_blocks()
    thing = Thing()
    references = sys.getrefcount(thing)
    for count in range(1, 6):
        slab, handles = core.Slab(), []
        memory.fail_after(count)
        failures = 0
        try:
            for _ in range(100):
                try:
                    handles.append(slab.put(thing))
                except MemoryError:
                    failures += 1
                slab.check()
        finally:
            memory.fail_never()
        assert failures == (1 if count <= 4 else 0)
        assert all(slab.get(handle) is thing for handle in handles)
        del slab
        assert memory.live_blocks() == before
        assert sys.getrefcount(thing) == references
