"""Rolls: walked while they change, paged by cursors that clients may hold, at the memory of one page."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.runtime.roll import Roll, Rolls


class Thing:
    __slots__ = ("name", "place")

    def __init__(self, name: int) -> None:
        self.name = name
        self.place = 0


def fill(count: int) -> tuple[Roll[Thing], list[Thing]]:
    roll: Roll[Thing] = Roll()
    things = [Thing(number) for number in range(count)]
    for thing in things:
        roll.add(thing)
    return roll, things


def test_a_roll_is_a_set() -> None:
    roll, things = fill(3)
    assert list(roll) == things
    assert len(roll) == 3
    assert things[1] in roll
    roll.add(things[1])
    roll.discard(things[1])
    roll.discard(things[1])
    assert things[1] not in roll
    assert list(roll) == [things[0], things[2]]
    other, _ = fill(3)
    assert things[0] not in other
    other.discard(things[0])
    assert len(other) == 3
    assert not Roll()


def test_what_is_there_throughout_comes_once_whatever_comes_and_goes() -> None:
    rng = random.Random(5)
    roll, things = fill(1_000)
    seen: Counter[Thing] = Counter()
    for thing in roll:
        seen[thing] += 1
        roll.discard(things[rng.randrange(1_000)])
        roll.add(Thing(-1))
        if len(seen) > 3_000:
            break
    assert max(seen.values()) == 1
    if len(seen) <= 3_000:
        assert all(seen[thing] == 1 for thing in things if thing in roll)


def walked_bytes(count: int) -> int:
    roll, _things = fill(count)
    next(iter(roll))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _thing in roll:
            pass
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_a_walk_needs_the_same_memory_for_a_thousand_and_for_a_hundred_thousand() -> None:
    few, many = walked_bytes(1_000), walked_bytes(100_000)
    assert many <= few + 4_096
    assert many < 64 * 1024


def rolls_of(sizes: list[int]) -> tuple[Rolls, list[Thing]]:
    rolls, everything = Rolls(), []
    for size in sizes:
        roll, things = fill(size)
        rolls.put(roll)
        everything += things
    return rolls, everything


def pages(rolls: Rolls, count: int) -> list[list[Thing]]:
    cursor, found = rolls.page(None, count)
    all_pages = [found]
    while cursor is not None:
        cursor, found = rolls.page(cursor, count)
        all_pages.append(found)
    return all_pages


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(1, 40))
def test_pages_of_many_rolls_are_full_and_give_each_once(sizes: list[int], count: int) -> None:
    rolls, everything = rolls_of(sizes)
    assert list(rolls) == everything
    found = pages(rolls, count)
    assert [thing for page in found for thing in page] == everything
    assert all(len(page) == count for page in found[:-1])


def test_a_roll_that_goes_between_two_pages_takes_nothing_from_the_others() -> None:
    rolls, handles, contents = Rolls(), [], []
    for _ in range(4):
        roll, things = fill(10)
        handles.append(rolls.put(roll))
        contents.append(things)
    cursor, found = rolls.page(None, 15)
    rolls.take(handles[1])
    late, _things = fill(5)
    rolls.put(late)  # in the place that became free
    while cursor is not None:
        cursor, more = rolls.page(cursor, 15)
        found += more
    assert Counter(found)[contents[3][9]] == 1
    assert set(contents[0]) | set(contents[2]) | set(contents[3]) <= set(found)
    assert max(Counter(found).values()) == 1


@pytest.mark.parametrize("cursor", ["", "x", "1", "1.2.3", "-1.0", "1." + "f" * 20, None, 7])
def test_what_is_no_cursor_is_refused(cursor: Any) -> None:
    rolls, _ = rolls_of([5])
    if cursor is None:
        assert rolls.page(cursor)[0] is None
        return
    with pytest.raises(ValueError, match="is not a cursor of these pages"):
        rolls.page(cursor)


@given(st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 63) - 1))
def test_a_cursor_that_somebody_made_up_does_no_harm(handle: int, inner: int) -> None:
    rolls, everything = rolls_of([5, 5])
    cursor, found = rolls.page(f"{handle:x}.{inner:x}", 3)
    assert set(found) <= set(everything)
    assert cursor is None or rolls.page(cursor)
