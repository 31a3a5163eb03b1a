"""The room ``memory``: counters and the failing allocator of the checked build."""

from __future__ import annotations

import pytest

from erlmcp._core import buffer as core_buffer
from erlmcp._core import memory as core_memory

checked = pytest.mark.skipif(not core_memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")


@pytest.fixture(autouse=True)
def _allocation_recovers():
    yield
    core_memory.fail_never()


def test_an_unchecked_build_counts_nothing(impl):
    memory = impl("memory")
    if memory.IS_CHECKED:
        pytest.skip("this build counts")
    assert (memory.live_blocks(), memory.live_bytes()) == (0, 0)


def test_an_unchecked_build_never_fails_on_demand(impl):
    memory = impl("memory")
    if memory.IS_CHECKED:
        pytest.skip("this build fails on demand")
    memory.fail_after(1, forever=True)
    impl("buffer").Buffer().put(b"still here")


def test_a_failure_cannot_be_asked_for_in_the_past(impl):
    with pytest.raises(ValueError, match="at least 1"):
        impl("memory").fail_after(0)


@checked
def test_a_block_of_another_room_is_counted_while_it_lives():
    blocks, size = core_memory.live_blocks(), core_memory.live_bytes()
    held = core_buffer.Buffer(capacity=1000)
    assert core_memory.live_blocks() == blocks + 1
    assert core_memory.live_bytes() >= size + 1000
    del held
    assert (core_memory.live_blocks(), core_memory.live_bytes()) == (blocks, size)


@checked
def test_growing_a_block_counts_its_bytes_and_no_second_block():
    held = core_buffer.Buffer(capacity=100)
    blocks, size = core_memory.live_blocks(), core_memory.live_bytes()
    held.put(bytes(10_000))
    assert core_memory.live_blocks() == blocks
    assert core_memory.live_bytes() >= size + 9_000


@checked
@pytest.mark.parametrize("count", [1, 2, 5])
def test_just_the_asked_allocation_fails(count):
    core_memory.fail_after(count)
    for _ in range(count - 1):
        core_buffer.Buffer(capacity=10)
    with pytest.raises(MemoryError):
        core_buffer.Buffer(capacity=10)
    core_buffer.Buffer(capacity=10)


@checked
def test_with_forever_all_later_allocations_fail_until_it_is_taken_back():
    core_memory.fail_after(2, forever=True)
    core_buffer.Buffer(capacity=10)
    for _ in range(3):
        with pytest.raises(MemoryError):
            core_buffer.Buffer(capacity=10)
    core_memory.fail_never()
    core_buffer.Buffer(capacity=10)
