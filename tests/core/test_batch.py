"""The batch: when it is due, and that it keeps order and loses nothing."""

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
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from erlmcp.errors import LimitError

Impl = Callable[[str], ModuleType]


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("batch").Batch


def test_an_empty_batch_is_never_due_and_gives_nothing(new: Any) -> None:
    batch = new()
    assert len(batch) == batch.byte_count == 0
    assert batch.is_due(10**18) is False
    assert batch.due_ns() is None
    assert batch.take() == []
    assert batch.take_bytes() == b""
    assert batch.add_many([]) is False
    batch.check()


def test_items_come_out_in_order_and_once_as_they_went_in(new: Any) -> None:
    batch = new()
    items = [object(), b"bytes", None, "text", [1], b""]
    assert [batch.add(item) for item in items] == [False] * 6
    assert (len(batch), batch.byte_count) == (6, 5)
    taken = batch.take()
    assert all(one is other for one, other in zip(taken, items, strict=True))
    assert batch.take() == []
    assert (len(batch), batch.byte_count) == (0, 0)
    batch.put("again")
    assert batch.take() == ["again"]
    batch.check()


def test_frames_are_joined_in_order(new: Any) -> None:
    batch = new()
    for frame in (b"one", b"", b"two", b"three"):
        assert batch.put(frame, 0) is False
    assert batch.take_bytes() == b"onetwothree"
    assert batch.take_bytes() == b""


def test_a_single_frame_comes_back_as_it_is(new: Any) -> None:
    batch, frame = new(), b"only " * 3
    batch.put(frame, 0)
    assert batch.take_bytes() is frame


def test_only_bytes_are_joined_and_nothing_is_lost_by_trying(new: Any) -> None:
    for odd in (None, "text", bytearray(b"a")):
        batch = new()
        batch.add_many([b"a", odd, b"b"])
        with pytest.raises(TypeError, match="only bytes are joined"):
            batch.take_bytes()
        assert batch.take() == [b"a", odd, b"b"]


def test_it_is_due_by_count(new: Any) -> None:
    batch = new(count_max=3)
    assert [batch.add(b"x") for _ in range(4)] == [False, False, True, True]
    assert batch.is_due(0) is True
    batch.take()
    assert batch.put(b"x", 0) is False
    assert batch.add_many([b"x", b"x"]) is True


def test_it_is_due_by_bytes(new: Any) -> None:
    batch = new(bytes_max=10)
    assert [batch.put(b"four", 0) for _ in range(3)] == [False, False, True]
    batch.take()
    assert batch.put(b"x" * 10, 0) is True
    batch.take()
    assert batch.put("counts for nothing") is False
    assert batch.put("counts for ten", size=10) is True
    assert batch.byte_count == 10
    batch.take()
    assert batch.put(b"x" * 100, size=9) is False


def test_it_is_due_by_the_age_of_its_first_item(new: Any) -> None:
    batch = new(age_ns=100)
    assert batch.put(b"a", 1000) is False
    assert batch.put(b"b", 1099) is False
    assert batch.due_ns() == 1100
    assert not batch.is_due(1099)
    assert batch.is_due(1100)
    assert batch.put(b"c", 1100) is True
    batch.take()
    assert batch.put(b"d", 1150) is False
    assert batch.due_ns() == 1250
    assert new(age_ns=0).put(b"e", 5) is True


def test_the_clock_is_pushed_and_does_not_go_back(new: Any) -> None:
    batch = new(age_ns=100, now_ns=-500)
    batch.add("a")
    assert (batch.now_ns, batch.due_ns()) == (-500, -400)
    batch.now_ns = -401
    assert batch.is_due() is False
    batch.now_ns = -400
    assert batch.is_due() is True
    batch.now_ns = -450
    assert (batch.now_ns, batch.is_due(-450), batch.add("b")) == (-400, True, True)
    for bad in (2**63, -(2**63) - 1):
        with pytest.raises(OverflowError):
            batch.now_ns = bad
        with pytest.raises(OverflowError):
            batch.put("c", bad)
    assert len(batch) == 2
    far = new(age_ns=2**63 - 1, now_ns=-(2**63))
    far.add("a")
    assert far.is_due(-2) is False
    assert far.is_due(2**63 - 1) is True
    assert far.due_ns() == -1


def test_a_lone_item_is_due_at_once_where_that_is_wanted(new: Any) -> None:
    batch = new(lone=True)
    assert batch.put(b"a", 7) is True
    assert batch.due_ns() == 7
    assert batch.put(b"b", 8) is False
    assert batch.due_ns() == 7 + batch.age_ns
    batch.take()
    batch.lone = False
    assert batch.lone is False
    assert batch.put(b"a", 9) is False
    batch.lone = True
    assert batch.is_due(9)


def test_what_is_held_is_bounded_by_bytes_and_by_count(new: Any) -> None:
    batch = new(held_bytes_max=10)
    batch.put(b"x" * 6, 0)
    for act in (
        lambda: batch.put(b"y" * 5, 0),
        lambda: batch.add(b"y" * 5),
        lambda: batch.add_many([b"y", b"y" * 4]),
        lambda: batch.put("y", size=2**70),
    ):
        with pytest.raises(LimitError, match="held_bytes_max=10"):
            act()
    batch.put(b"z" * 4, 0)
    assert batch.take_bytes() == b"xxxxxxzzzz"
    batch = new(held_count_max=3)
    batch.add_many("ab")
    with pytest.raises(LimitError, match="held_count_max=3"):
        batch.add_many("cd")
    batch.add("c")
    with pytest.raises(LimitError, match="held_count_max=3"):
        batch.add("d")
    assert batch.take() == ["a", "b", "c"]
    batch.check()


def test_settings_are_checked_and_can_be_read(new: Any) -> None:
    wanted = {
        "lone": True,
        "count_min": 1,
        "latency_goal_ns": 9,
        "held_count_max": 5,
        "held_bytes_max": 4,
        "now_ns": 6,
    }
    batch = new(1, 2, 3, **wanted)
    assert (batch.count_max, batch.bytes_max, batch.age_ns) == (1, 2, 3)
    assert {name: getattr(batch, name) for name in wanted} == wanted
    bad: list[dict[str, int]] = [{"count_max": 0}, {"bytes_max": 0}, {"age_ns": -1}, {"held_bytes_max": 0}]
    bad += [{"count_min": 0}, {"count_min": 65}, {"latency_goal_ns": -1}, {"held_count_max": 0}, {"count_max": 2**40}]
    for each in bad:
        with pytest.raises(ValueError, match=next(iter(each))):
            new(**each)
    with pytest.raises(AttributeError):
        batch.count_max = 5
    with pytest.raises(ValueError, match="size"):
        batch.put(b"", size=-1)


def test_the_count_that_is_due_grows_by_steps_and_shrinks_by_quarters(new: Any) -> None:
    batch = new(64, count_min=4, latency_goal_ns=100)
    assert batch.count_due == 4
    assert [batch.observe(100) for _ in range(4)] == [5, 6, 7, 8]
    assert [batch.observe(101) for _ in range(5)] == [6, 5, 4, 4, 4]
    assert batch.observe(0, 3) == 4
    assert batch.observe(0, 4) == 5
    assert batch.observe(2**70, 10**30) == 4
    assert [batch.observe(0) for _ in range(70)][-1] == 64
    fixed = new(64)
    assert (fixed.observe(0), fixed.observe(10**18), fixed.count_due) == (64, 64, 64)
    for bad in ((-1,), (0, -1)):
        with pytest.raises(ValueError):
            batch.observe(*bad)


@given(
    count_max=st.integers(1, 5000),
    share=st.integers(0, 100),
    latencies=st.lists(st.tuples(st.integers(0, 2**62), st.none() | st.integers(0, 6000)), max_size=200),
    goal=st.integers(1, 2**62),
)
def test_whatever_is_observed_the_count_stays_in_its_bounds(
    count_max: int, share: int, latencies: list[Any], goal: int
) -> None:
    count_min = max(count_max * share // 100, 1)
    pair = [
        importlib.import_module(f"erlmcp.{side}.batch").Batch(count_max, count_min=count_min, latency_goal_ns=goal)
        for side in ("_core", "_model")
    ]
    for observation in latencies:
        one, other = (batch.observe(*observation) for batch in pair)
        assert one == other
        assert count_min <= one <= count_max


@pytest.mark.parametrize(("fixed_ns", "each_ns"), [(10_000, 1000), (50_000, 300), (0, 5000), (90_000, 40)])
def test_it_settles_where_a_server_meets_the_goal(new: Any, fixed_ns: int, each_ns: int) -> None:
    goal = 100_000
    batch = new(1024, age_ns=10**9, count_min=1, latency_goal_ns=goal)
    best = (goal - fixed_ns) // each_ns  # items that the server does just within the goal
    sizes = []
    for _ in range(400):
        while not batch.add("item"):
            pass
        count = len(batch.take())
        sizes.append(count)
        batch.observe(fixed_ns + each_ns * count, count)
    settled = sizes[200:]
    step = 1024 // 64
    assert max(settled) <= best + step
    assert min(settled) >= best * 3 // 4 - 1
    assert sum(settled) / len(settled) >= best * 0.8


def test_each_item_of_a_batch_has_its_own_end(new: Any) -> None:
    items, wrong = [object() for _ in range(4)], ValueError("its own")
    done, failed = new.split(items, [1, wrong, None, 3])
    assert [(id(item), result) for item, result in done] == [(id(items[0]), 1), (id(items[2]), None), (id(items[3]), 3)]
    assert failed == [(items[1], wrong)]
    assert new.split(items, wrong) == ([], [(item, wrong) for item in items])
    assert new.split(iter(items), (result for result in "abcd"))[0][3] == (items[3], "d")
    assert new.split([], []) == ([], [])
    for results in ([], [1] * 5):
        with pytest.raises(ValueError, match="4 items"):
            new.split(items, results)
    with pytest.raises(TypeError):
        new.split(items, None)


def test_references_are_given_back(new: Any) -> None:
    item, frame = object(), bytes([7] * 9)
    before = sys.getrefcount(item), sys.getrefcount(frame)
    batch = new()
    for count in (1, 2, 40):
        batch.add_many([item] * count)
        batch.add(item)
        batch.take()
        for _ in range(count):
            batch.add(frame)
        batch.take_bytes()
    batch.add(item)
    with pytest.raises(TypeError):
        batch.take_bytes()
    assert new.split([item], [item]) == ([(item, item)], [])
    del batch
    assert (sys.getrefcount(item), sys.getrefcount(frame)) == before


def test_a_cycle_through_the_batch_is_collected(new: Any) -> None:
    class Item:
        pass

    batch, item = new(), Item()
    item.batch = batch  # type: ignore[attr-defined]
    batch.add_many([item, batch])
    gone = weakref.ref(item)
    del batch, item
    gc.collect()
    assert gone() is None


def test_an_item_that_comes_back_when_it_dies_does_no_harm(new: Any) -> None:
    batch = new()

    class Frame(bytes):
        def __del__(self) -> None:
            batch.check()
            batch.add(b"from the dead")

    batch.add_many([Frame(b"a") for _ in range(20)])
    assert batch.take_bytes() == b"a" * 20
    batch.check()
    assert batch.take() == [b"from the dead"] * 20


def test_a_failing_iterable_adds_nothing(new: Any) -> None:
    batch = new()

    def items() -> Any:
        yield "a"
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        batch.add_many(items())
    with pytest.raises(TypeError):
        batch.add_many(5)
    assert len(batch) == 0


def test_threads_that_share_a_batch_lose_nothing_and_keep_their_order(new: Any) -> None:
    batch, taken, lock, each = new(8), [], threading.Lock(), 3000
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait(10)
        for count in range(each):
            if batch.add((number, count)):
                with lock:  # who takes writes before another one may take
                    taken.extend(batch.take())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    taken.extend(batch.take())
    batch.check()
    assert len(taken) == len(set(taken)) == 4 * each
    for number in range(4):
        assert [count for who, count in taken if who == number] == list(range(each))


def test_whichever_allocation_fails_the_batch_is_as_it_was() -> None:
    memory = importlib.import_module("erlmcp._core.memory")
    if not memory.IS_CHECKED:
        pytest.skip("needs ERLMCP_BUILD=checked")
    new, before, failed = importlib.import_module("erlmcp._core.batch").Batch, memory.live_blocks(), 0
    for nth in range(1, 10):
        batch, held = new(), []
        memory.fail_after(nth)
        for act, items in [(batch.add, b"one"), (batch.add_many, [b"x"] * 40), (batch.add, b"two")]:
            try:
                act(items)
            except MemoryError:
                failed += 1
            else:
                held += items if isinstance(items, list) else [items]
            batch.check()
        memory.fail_never()
        assert batch.take() == held
        del batch, act
        assert memory.live_blocks() == before
    assert failed == 2


class BatchMachine(RuleBasedStateMachine):
    """Core and model in step."""

    @initialize(
        count_max=st.integers(1, 70),
        bytes_max=st.integers(1, 20),
        age_ns=st.integers(0, 9),
        lone=st.booleans(),
        goal=st.sampled_from([0, 5]),
    )
    def start(self, goal: int, **settings: Any) -> None:
        rooms = [importlib.import_module(f"erlmcp.{side}.batch") for side in ("_core", "_model")]
        settings |= {"held_bytes_max": 30, "held_count_max": 50, "latency_goal_ns": goal}
        self.both = [room.Batch(**settings) for room in rooms]
        self.now = 10**15
        self.frames: list[bytes] = []

    def same(self, method: str, *args: Any) -> Any:
        answers = []
        for batch in self.both:
            try:
                answers.append(getattr(batch, method)(*args))
            except LimitError as error:
                answers.append(str(error))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(frame=st.binary(max_size=12), step=st.integers(0, 4), size=st.none() | st.integers(0, 9))
    def put(self, frame: bytes, step: int, size: int | None) -> None:
        self.now += step
        if not isinstance(self.same("put", frame, self.now, size), str):
            self.frames.append(frame)

    @rule(frames=st.lists(st.binary(max_size=3), max_size=40))
    def add_many(self, frames: list[bytes]) -> None:
        if not isinstance(self.same("add_many", frames), str):
            self.frames += frames

    @rule(frame=st.binary(max_size=12))
    def add(self, frame: bytes) -> None:
        if not isinstance(self.same("add", frame), str):
            self.frames.append(frame)

    @rule(step=st.integers(-4, 4))
    def ask(self, step: int) -> None:
        self.now += step
        assert self.same("is_due", self.now) == (self.same("due_ns") is not None and self.both[0].is_due())

    @rule(lone=st.booleans())
    def set_lone(self, lone: bool) -> None:
        for batch in self.both:
            batch.lone = lone

    @rule(latency=st.integers(0, 9), count=st.none() | st.integers(0, 9))
    def observe(self, latency: int, count: int | None) -> None:
        self.same("observe", latency, count)

    @rule()
    def take(self) -> None:
        assert self.same("take") == self.frames
        self.frames = []

    @rule()
    def take_bytes(self) -> None:
        assert self.same("take_bytes") == b"".join(self.frames)
        self.frames = []

    @invariant()
    def is_whole(self) -> None:
        if hasattr(self, "both"):
            for batch in self.both:
                batch.check()
            assert self.same("__len__") == len(self.frames)
            self.same("due_ns")
            assert len({(batch.now_ns, batch.count_due, batch.byte_count) for batch in self.both}) == 1


TestBatchMachine = BatchMachine.TestCase


@pytest.mark.deep
class TestBatchMachineDeep(BatchMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=250, stateful_step_count=100, deadline=None)
