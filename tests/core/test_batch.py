"""The batch: when it is due, and that it keeps order and loses nothing."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
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
    assert not batch.is_due(10**18)
    assert batch.due_ns() is None
    assert batch.take() == b""
    batch.check()


def test_frames_come_out_in_order_and_once(new: Any) -> None:
    batch = new()
    for frame in (b"one", b"", b"two", b"three"):
        assert batch.put(frame, 0) is False
    assert (len(batch), batch.byte_count) == (4, 11)
    assert batch.take() == b"onetwothree"
    assert batch.take() == b""
    assert (len(batch), batch.byte_count) == (0, 0)
    batch.put(b"four", 0)
    assert batch.take() == b"four"
    batch.check()


def test_a_single_frame_comes_back_as_it_is(new: Any) -> None:
    batch, frame = new(), b"only " * 3
    batch.put(frame, 0)
    assert batch.take() is frame


def test_it_is_due_by_count(new: Any) -> None:
    batch = new(count_max=3)
    assert [batch.put(b"x", 0) for _ in range(4)] == [False, False, True, True]
    assert batch.is_due(0) is True
    batch.take()
    assert batch.put(b"x", 0) is False


def test_it_is_due_by_bytes(new: Any) -> None:
    batch = new(bytes_max=10)
    assert [batch.put(b"four", 0) for _ in range(3)] == [False, False, True]
    batch.take()
    assert batch.put(b"x" * 10, 0) is True


def test_it_is_due_by_the_age_of_its_first_frame(new: Any) -> None:
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


def test_a_lone_frame_is_due_at_once_where_that_is_wanted(new: Any) -> None:
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


def test_held_bytes_max_bounds_what_is_gathered(new: Any) -> None:
    batch = new(held_bytes_max=10)
    batch.put(b"x" * 6, 0)
    with pytest.raises(LimitError, match="held_bytes_max=10"):
        batch.put(b"y" * 5, 0)
    batch.put(b"z" * 4, 0)
    assert batch.take() == b"xxxxxxzzzz"
    batch.check()


@pytest.mark.parametrize("frame", [None, "text", bytearray(b"a"), memoryview(b"a"), 1])
def test_only_bytes_are_frames(new: Any, frame: Any) -> None:
    batch = new()
    with pytest.raises(TypeError, match="a frame is bytes"):
        batch.put(frame, 0)
    assert len(batch) == 0


def test_settings_are_checked_and_can_be_read(new: Any) -> None:
    batch = new(1, 2, 3, lone=True, held_bytes_max=4)
    assert (batch.count_max, batch.bytes_max, batch.age_ns, batch.lone, batch.held_bytes_max) == (1, 2, 3, True, 4)
    for bad in ({"count_max": 0}, {"bytes_max": 0}, {"age_ns": -1}, {"held_bytes_max": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            new(**bad)
    with pytest.raises(AttributeError):
        batch.count_max = 5


def test_frames_are_let_go_with_the_batch(new: Any) -> None:
    class Frame(bytes):
        pass

    batch = new()
    frames = [Frame(b"a"), Frame(b"b")]
    for frame in frames:
        frame.batch = batch  # type: ignore[attr-defined]
        batch.put(frame, 0)
    assert batch.take() == b"ab"
    for frame in frames:
        batch.put(frame, 0)
    del frame, frames, batch
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Frame]


class BatchMachine(RuleBasedStateMachine):
    """Core and model in step."""

    @initialize(count_max=st.integers(1, 5), bytes_max=st.integers(1, 20), age_ns=st.integers(0, 9), lone=st.booleans())
    def start(self, **settings: Any) -> None:
        rooms = [importlib.import_module(f"erlmcp.{side}.batch") for side in ("_core", "_model")]
        self.both = [room.Batch(held_bytes_max=30, **settings) for room in rooms]
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

    @rule(frame=st.binary(max_size=12), step=st.integers(0, 4))
    def put(self, frame: bytes, step: int) -> None:
        self.now += step
        if not isinstance(self.same("put", frame, self.now), str):
            self.frames.append(frame)

    @rule(step=st.integers(0, 4))
    def ask(self, step: int) -> None:
        self.now += step
        assert self.same("is_due", self.now) == (self.same("due_ns") is not None and self.both[0].is_due(self.now))

    @rule(lone=st.booleans())
    def set_lone(self, lone: bool) -> None:
        for batch in self.both:
            batch.lone = lone

    @rule()
    def take(self) -> None:
        assert self.same("take") == b"".join(self.frames)
        self.frames = []

    @invariant()
    def is_whole(self) -> None:
        if hasattr(self, "both"):
            for batch in self.both:
                batch.check()
            assert self.same("__len__") == len(self.frames)
            self.same("due_ns")


TestBatchMachine = BatchMachine.TestCase


@pytest.mark.deep
class TestBatchMachineDeep(BatchMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=250, stateful_step_count=100, deadline=None)
