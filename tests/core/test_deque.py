"""The room ``deque``: a work-stealing deque."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from erlmcp._core import deque as core
from erlmcp._core import memory
from erlmcp._model import deque as model
from erlmcp.errors import LimitError, WrongThreadError

CAPACITY_FIRST = 64  # places before the first growth
OWNERS_ONLY = {
    "push": lambda deque: deque.push(1),
    "push_many": lambda deque: deque.push_many([1]),
    "pop": lambda deque: deque.pop(),
    "pop_or": lambda deque: deque.pop_or(1),
}


class Thing:
    pass


def elsewhere(act, *given):
    """What ``act`` gives, or the exception that it raises, in another thread."""
    outcome = []

    def run():
        try:
            outcome.append(act(*given))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return outcome[0]


def tally(words):
    words = list(words)
    return len(words), sum(words) % (1 << 64), sum(word * word for word in words) % (1 << 64)


def together(tallies):
    return tuple(sum(part) % (1 << 64) for part in zip(*tallies, strict=True))


@pytest.fixture
def _frequent_switches():
    """Threads take turns every 20 us, so that they meet in the deque."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


def test_the_owner_takes_the_newest_and_a_thief_the_oldest(impl):
    deque = impl("deque").WorkStealingDeque(8)
    assert [deque.push(number) for number in range(5)] == [True] * 5
    assert (deque.pop(), deque.steal(), deque.pop(), deque.steal()) == (4, 0, 3, 1)
    assert len(deque) == 1
    assert (deque.pop(), deque.pop(), deque.steal()) == (2, None, None)
    assert (deque.pop_or("nothing"), deque.steal_or("nothing")) == ("nothing", "nothing")
    assert len(deque) == 0


def test_none_is_an_item_like_others(impl):
    deque = impl("deque").WorkStealingDeque(2)
    assert deque.push_many([None, None]) == 2
    assert deque.pop_or("nothing") is None
    assert deque.steal_or("nothing") is None
    assert deque.steal_or("nothing") == "nothing"


@pytest.mark.parametrize(("asked", "given"), [(1, 2), (2, 2), (3, 4), (64, 64), (65, 128), (300, 512)])
def test_the_capacity_is_rounded_up_to_a_power_of_two(impl, asked, given):
    room = impl("deque")
    deque = room.WorkStealingDeque(asked)
    assert deque.capacity == given
    assert deque.push_many(list(range(1000))) == given
    assert not deque.push(1)
    deque.steal()
    assert deque.push(1)
    assert not deque.push(1)
    assert room.WorkStealingDeque().capacity == 65536


def test_what_is_out_of_range_is_refused(impl):
    room = impl("deque")
    for kind in (room.WorkStealingDeque, room.WordDeque):
        for capacity in (0, -1):
            with pytest.raises(ValueError, match="capacity must be at least 1"):
                kind(capacity)
        for capacity in ((1 << 30) + 1, 1 << 70):
            with pytest.raises(LimitError, match="capacity="):
                kind(capacity)
    deque = room.WorkStealingDeque(4)
    for hostile in ({1, 2}, "ab", None, iter([1])):
        with pytest.raises(TypeError, match="a list or a tuple"):
            deque.push_many(hostile)
    with pytest.raises(ValueError, match="at least 0"):
        deque.steal_many(-1)
    assert len(deque) == 0


def test_a_thief_takes_half_rounded_up_the_oldest_first(impl):
    deque = impl("deque").WorkStealingDeque(16)
    assert deque.steal_many() == []
    assert deque.push_many((0, 1, 2, 3, 4, 5, 6)) == 7
    assert deque.steal_many() == [0, 1, 2, 3]
    assert deque.steal_many(1) == [4]
    assert deque.steal_many(0) == []
    assert deque.steal_many() == [5]
    assert deque.steal_many() == [6]
    assert deque.steal_many() == []


def test_it_grows_while_its_items_lie_across_the_end_of_the_places(impl):
    deque = impl("deque").WorkStealingDeque(1024)
    assert deque.push_many(list(range(CAPACITY_FIRST))) == CAPACITY_FIRST
    assert [deque.steal() for _ in range(40)] == list(range(40))
    for number in range(CAPACITY_FIRST, 300):
        assert deque.push(number)
        deque.check()
    assert deque.push_many(list(range(300, 2000))) == 1024 - 260
    deque.check()
    assert [deque.steal() for _ in range(100)] == list(range(40, 140))
    assert [deque.pop() for _ in range(924)] == list(range(1063, 139, -1))
    assert deque.pop() is None


def test_the_places_are_used_again_many_times(impl):
    deque = impl("deque").WorkStealingDeque(4)
    for number in range(100):
        assert deque.push_many([number, -number]) == 2
        assert deque.steal() == number
        assert deque.pop() == -number
        deque.check()


@pytest.mark.parametrize("name", OWNERS_ONLY)
def test_a_call_in_the_wrong_thread_is_an_error_and_changes_nothing(impl, name):
    deque = impl("deque").WorkStealingDeque(4)
    deque.push("kept")
    assert deque.is_owner
    assert not elsewhere(lambda: deque.is_owner)
    error = elsewhere(OWNERS_ONLY[name], deque)
    assert isinstance(error, WrongThreadError)
    assert "own()" in str(error)
    assert len(deque) == 1
    assert elsewhere(deque.steal) == "kept"


def test_a_thread_that_takes_the_deque_over_is_its_owner(impl):
    deque = impl("deque").WorkStealingDeque(4)
    deque.push(1)

    def take_over():
        deque.own()
        return deque.is_owner, deque.pop(), deque.push(2)

    assert elsewhere(take_over) == (True, 1, True)
    for act in OWNERS_ONLY.values():
        with pytest.raises(WrongThreadError):
            act(deque)
    assert (len(deque), deque.steal_many(), deque.steal_or("nothing")) == (1, [2], "nothing")
    deque.own()
    assert deque.push(3)
    assert elsewhere(deque.clear) is None
    assert len(deque) == 0


def test_references_are_given_back(impl):
    thing = Thing()
    before = sys.getrefcount(thing)
    deque = impl("deque").WorkStealingDeque(128)
    assert deque.push_many([thing] * 200) == 128
    assert not deque.push(thing)
    deque.pop()
    deque.steal()
    assert len(deque.steal_many()) == 63
    assert sys.getrefcount(thing) == before + 63
    deque.clear()
    assert sys.getrefcount(thing) == before
    deque.push(thing)
    del deque
    assert sys.getrefcount(thing) == before


def test_a_cycle_through_the_deque_is_collected(impl):
    deque = impl("deque").WorkStealingDeque(256)
    things = [Thing() for _ in range(100)]
    for thing in things:
        thing.deque = deque
    deque.push_many(things)
    deque.push(deque)
    gone = [weakref.ref(thing) for thing in things]
    del deque, things, thing
    gc.collect()
    assert [each() for each in gone] == [None] * 100


def test_the_collector_sees_what_is_held_and_nothing_else():
    deque = core.WorkStealingDeque(256)
    things = [Thing() for _ in range(100)]
    deque.push_many(things)
    for _ in range(20):
        deque.pop()
        deque.steal()
    seen = [each for each in gc.get_referents(deque) if isinstance(each, Thing)]
    assert seen == things[20:80]


def test_a_destructor_may_call_back_into_the_deque(impl):
    deque = impl("deque").WorkStealingDeque(4)

    class Nosy:
        def __del__(self):
            deque.push("from destructor")
            seen.append(type(deque.steal()).__name__)

    seen: list[str] = []
    deque.push_many([Nosy(), Nosy()])
    deque.clear()
    deque.check()
    assert sorted(seen) == ["Nosy", "str"]
    assert len(deque) == 0


@pytest.mark.usefixtures("_frequent_switches")
def test_python_threads_lose_and_double_nothing(impl):
    deque = impl("deque").WorkStealingDeque(256)
    count, is_done = 5000, threading.Event()
    taken: list[list[int]] = [[], [], []]

    def steal(mine, is_half):
        while not is_done.is_set() or len(deque):
            mine.extend(deque.steal_many(7) if is_half else [deque.steal_or(-1)])

    threads = [threading.Thread(target=steal, args=(taken[i], i == 1)) for i in (1, 2)]
    for thread in threads:
        thread.start()
    for number in range(0, count, 5):
        rest = list(range(number, number + 5))
        while rest:
            rest = rest[deque.push_many(rest) :]
            taken[0].append(deque.pop_or(-1))
    is_done.set()
    for thread in threads:
        thread.join(60)
    assert sorted(number for mine in taken for number in mine if number >= 0) == list(range(count))
    deque.check()


def stolen_in_a_round(room, capacity, pop_every, halves, count):
    """One owner and a thief for each of ``halves``, all at the same time; how many of the numbers were stolen."""
    deque, begin = room.WordDeque(capacity), threading.Barrier(1 + len(halves))
    tallies: list[tuple[int, int, int]] = []

    def steal(half):
        begin.wait(60)
        tallies.append(deque.steal(half))

    thieves = [threading.Thread(target=steal, args=(half,)) for half in halves]
    for thief in thieves:
        thief.start()
    begin.wait(60)
    owned = deque.work(1, count, pop_every)
    for thief in thieves:
        thief.join(60)
    assert together([owned, *tallies]) == tally(range(1, count + 1))
    deque.check()
    return count - owned[0]


ROUNDS = pytest.mark.parametrize(("capacity", "pop_every"), [(2, 1), (8, 2), (64, 3), (1 << 16, 2), (1 << 16, 0)])
HALVES = pytest.mark.parametrize("halves", [(False,), (True,), (False, True, False)])


@ROUNDS
@HALVES
def test_threads_without_the_gil_lose_and_double_nothing(capacity, pop_every, halves):
    done = stolen = 0
    while done < 5 or not stolen:  # threads that did not meet show nothing
        stolen += stolen_in_a_round(core, capacity, pop_every, halves, 50_000)
        done += 1


@pytest.mark.usefixtures("_frequent_switches")
@ROUNDS
def test_the_twin_loses_and_doubles_nothing(capacity, pop_every):
    stolen_in_a_round(model, capacity, pop_every, (False, True), 2000)


@pytest.mark.deep
@ROUNDS
@HALVES
def test_millions_of_numbers_are_neither_lost_nor_doubled(capacity, pop_every, halves):
    done = stolen = 0
    while done < 30 or stolen < 5:
        stolen += stolen_in_a_round(core, capacity, pop_every, halves, 200_000)
        done += 1


@given(count=st.integers(0, 300), pop_every=st.integers(0, 5), capacity=st.integers(1, 100), half=st.booleans())
def test_a_worker_gets_all_and_a_thief_after_it_nothing(count, pop_every, capacity, half):
    outcomes = []
    for room in (core, model):
        deque = room.WordDeque(capacity)
        outcomes.append((deque.work(1, count, pop_every), deque.steal(half)))
        deque.check()
    assert outcomes == [(tally(range(1, count + 1)), (0, 0, 0))] * 2


class DequeMachine(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 200))
    def start(self, capacity):
        self.pair = [room.WorkStealingDeque(capacity) for room in (core, model)]
        self.number = 0

    def both(self, act):
        outcomes = [act(deque) for deque in self.pair]
        assert outcomes[0] == outcomes[1]

    @rule()
    def push(self):
        self.number += 1
        self.both(lambda deque: deque.push(self.number))

    @rule(count=st.integers(0, 120))
    def push_many(self, count):
        items = [self.number + i for i in range(count)]
        self.number += count
        self.both(lambda deque: deque.push_many(items))

    @rule()
    def pop(self):
        self.both(lambda deque: deque.pop_or("empty"))

    @rule(count=st.integers(1, 100))
    def pop_some(self, count):
        self.both(lambda deque: [deque.pop() for _ in range(count)])

    @rule()
    def steal(self):
        self.both(lambda deque: deque.steal_or("empty"))

    @rule(count=st.integers(0, 100))
    def steal_many(self, count):
        self.both(lambda deque: deque.steal_many(count))

    @rule(name=st.sampled_from(sorted(OWNERS_ONLY)))
    def call_in_the_wrong_thread(self, name):
        self.both(lambda deque: type(elsewhere(OWNERS_ONLY[name], deque)))

    @rule(name=st.sampled_from(["steal", "steal_many", "clear"]))
    def call_in_another_thread(self, name):
        self.both(lambda deque: elsewhere(getattr(deque, name)))

    @rule()
    def clear(self):
        self.both(lambda deque: deque.clear())

    @invariant()
    def agree(self):
        for deque in self.pair:
            deque.check()
        self.both(lambda deque: (len(deque), deque.capacity, deque.is_owner))


TestDequeMachine = DequeMachine.TestCase
TestDequeMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together():
    run_state_machine_as_test(DequeMachine, settings=settings(max_examples=60, stateful_step_count=200, deadline=None))


needs_checked = pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")


@needs_checked
@pytest.mark.parametrize("kind", [core.WorkStealingDeque, core.WordDeque])
def test_a_deque_without_memory_is_not_made(kind):
    before = memory.live_blocks()
    memory.fail_after(1)
    try:
        with pytest.raises(MemoryError):
            kind(8)
    finally:
        memory.fail_never()
    deque = kind(8)
    assert memory.live_blocks() == before + 1
    del deque
    assert memory.live_blocks() == before


@needs_checked
@pytest.mark.parametrize("push", [lambda deque: deque.push("more"), lambda deque: deque.push_many(["more"] * 200)])
def test_a_deque_that_cannot_grow_is_as_it_was(push):
    before = memory.live_blocks()
    deque = core.WorkStealingDeque(1024)
    items = list(range(CAPACITY_FIRST))
    assert deque.push_many(items) == CAPACITY_FIRST
    memory.fail_after(1)
    try:
        with pytest.raises(MemoryError):
            push(deque)
    finally:
        memory.fail_never()
    deque.check()
    assert len(deque) == CAPACITY_FIRST
    assert push(deque)
    assert [deque.steal() for _ in items] == items
    assert memory.live_blocks() == before + 2
    del deque
    assert memory.live_blocks() == before


@needs_checked
def test_thieves_end_where_the_owner_has_no_memory():
    deque = core.WordDeque(1 << 16)
    memory.fail_after(1)
    try:
        with pytest.raises(MemoryError):
            deque.work(1, 1000)
    finally:
        memory.fail_never()
    assert deque.steal() == tally(range(1, CAPACITY_FIRST + 1))
    deque.check()
