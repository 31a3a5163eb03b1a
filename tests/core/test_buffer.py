"""The room ``buffer``: growable bytes with a read mark and a write mark."""

from __future__ import annotations

import array
import contextlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from erlmcp._core import buffer as core
from erlmcp._core import memory
from erlmcp._model import buffer as model
from erlmcp.errors import LimitError


def test_bytes_come_out_in_the_order_they_went_in(impl):
    buffer = impl("buffer").Buffer()
    buffer.put(b"hello, ")
    buffer.put(bytearray(b"wor"))
    buffer.put(memoryview(b"ld"))
    assert len(buffer) == 12
    assert buffer.peek(5) == b"hello"
    assert buffer.take(7) == b"hello, "
    assert buffer.take() == b"world"
    assert buffer.take() == b""


def test_any_contiguous_memory_can_be_put(impl):
    buffer = impl("buffer").Buffer()
    buffer.put(array.array("H", [0x4141, 0x4242]))
    assert buffer.take() == b"AABB"


def test_what_is_not_bytes_is_refused(impl):
    buffer = impl("buffer").Buffer()
    with pytest.raises(TypeError):
        buffer.put("text")
    assert len(buffer) == 0


def test_the_limit_is_exact_and_names_itself(impl):
    buffer = impl("buffer").Buffer(10)
    buffer.put(b"12345")
    buffer.put(b"67890")
    with pytest.raises(LimitError) as caught:
        buffer.put(b"x")
    assert (caught.value.limit, caught.value.maximum) == ("bytes_max", 10)
    assert buffer.peek() == b"1234567890"


def test_consumed_bytes_do_not_count_against_the_limit(impl):
    buffer = impl("buffer").Buffer(10)
    for i in range(50):
        buffer.put(b"%07d" % i)
        assert buffer.take(7) == b"%07d" % i
    buffer.put(b"1234567890")
    buffer.consume(1)
    buffer.put(b"1")
    assert buffer.peek() == b"2345678901"


def test_an_initial_capacity_above_the_limit_is_refused(impl):
    with pytest.raises(LimitError, match="bytes_max=10"):
        impl("buffer").Buffer(10, capacity=11)


@pytest.mark.parametrize("size", [-1, 4])
@pytest.mark.parametrize("verb", ["consume", "truncate"])
def test_what_is_not_there_cannot_be_consumed_or_kept(impl, verb, size):
    buffer = impl("buffer").Buffer()
    buffer.put(b"123")
    with pytest.raises(ValueError, match=f"{size} of 3"):
        getattr(buffer, verb)(size)
    assert buffer.peek() == b"123"


def test_truncating_undoes_the_latest_writes(impl):
    buffer = impl("buffer").Buffer()
    buffer.put(b"keep")
    mark = len(buffer)
    buffer.put(bytes(1000))
    buffer.truncate(mark)
    buffer.put(b"!")
    assert buffer.take() == b"keep!"


@pytest.mark.parametrize("verb", ["peek", "take", "consume", "truncate"])
def test_a_size_whose_code_changes_the_buffer_gives_nothing_that_is_not_there(impl, verb):
    buffer = impl("buffer").Buffer()
    buffer.put(b"x" * 1000)

    class Size:
        def __index__(self) -> int:
            buffer.clear()
            buffer.trim()
            return 500

        def __gt__(self, other: object) -> bool:
            return bool(self.__index__() > other)

        def __lt__(self, other: object) -> bool:
            return bool(self.__index__() < other)

    with contextlib.suppress(ValueError, TypeError):
        assert not getattr(buffer, verb)(Size())
    buffer.check()
    assert len(buffer) in (0, 1000)  # the plain twin may find no use for such a size


def test_a_negative_size_is_refused(impl):
    buffer = impl("buffer").Buffer()
    with pytest.raises(ValueError, match="at least 0"):
        buffer.peek(-1)
    with pytest.raises(ValueError, match="at least 1"):
        impl("buffer").Buffer(0)


def test_trimming_gives_memory_back_only_where_nothing_is_held():
    buffer = core.Buffer()
    buffer.put(bytes(5000))
    buffer.trim()
    assert buffer.capacity >= 5000
    buffer.clear()
    buffer.trim(keep=100_000)
    assert buffer.capacity >= 5000
    buffer.trim()
    assert buffer.capacity == 0
    buffer.put(b"again")
    assert buffer.take() == b"again"


def test_a_stream_through_the_buffer_takes_a_few_times_the_memory_that_is_held_at_once():
    buffer = core.Buffer()
    buffer.put(bytes(60))
    for _ in range(1000):
        buffer.put(bytes(100))
        buffer.put(bytes(50))
        buffer.consume(150)
        buffer.check()
    assert len(buffer) == 60
    assert buffer.capacity <= 1024


class BufferMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.pair = [room.Buffer(300, capacity=16) for room in (core, model)]

    def both(self, act):
        outcomes = []
        for buffer in self.pair:
            try:
                outcomes.append(act(buffer))
            except (ValueError, LimitError) as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]

    @rule(data=st.binary(max_size=120))
    def put(self, data):
        self.both(lambda buffer: buffer.put(data))

    @rule(size=st.none() | st.integers(-1, 200))
    def take(self, size):
        self.both(lambda buffer: buffer.take(size))

    @rule(size=st.none() | st.integers(-1, 200))
    def peek(self, size):
        self.both(lambda buffer: buffer.peek(size))

    @rule(size=st.integers(-1, 200))
    def consume(self, size):
        self.both(lambda buffer: buffer.consume(size))

    @rule(size=st.integers(-1, 200))
    def truncate(self, size):
        self.both(lambda buffer: buffer.truncate(size))

    @rule(verb=st.sampled_from(["compact", "clear", "trim"]))
    def plain(self, verb):
        self.both(lambda buffer: getattr(buffer, verb)())

    @invariant()
    def agree(self):
        for buffer in self.pair:
            buffer.check()
        assert len(self.pair[0]) == len(self.pair[1])
        assert self.pair[0].peek() == self.pair[1].peek()


TestBufferMachine = BufferMachine.TestCase
TestBufferMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together():
    run_state_machine_as_test(BufferMachine, settings=settings(max_examples=50, stateful_step_count=200, deadline=None))


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
def test_whichever_allocation_fails_the_buffer_is_as_it_was():
    before = memory.live_blocks()
    for count in range(1, 20):
        buffer = None
        memory.fail_after(count)
        try:
            buffer = core.Buffer(capacity=10)
            held = b""
            for i in range(12):
                piece = bytes([i]) * (50 << i)
                try:
                    buffer.put(piece)
                    held += piece
                except MemoryError:
                    pass
                buffer.check()
                assert buffer.peek() == held
        except MemoryError:
            assert buffer is None
            assert count == 1
        finally:
            memory.fail_never()
        del buffer
        assert memory.live_blocks() == before
