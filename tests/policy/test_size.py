"""How many connections a pool should have, with a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.policy.size import SECOND_NS, PoolSize


def make(count_min: int = 2, count_max: int = 10, **more: int) -> PoolSize:
    return PoolSize(count_min, count_max, **more)


def test_without_demand_the_least_is_wanted() -> None:
    assert make().wanted(0) == 2


def test_the_peak_is_wanted_within_the_bounds() -> None:
    size = make()
    size.observe(0, 7)
    size.observe(1, 3)
    assert size.wanted(2) == 7
    size.observe(3, 99)
    assert size.wanted(4) == 10


def test_the_peak_is_remembered_for_two_windows_and_no_longer() -> None:
    size = make(window_ns=100)
    size.observe(0, 7)
    assert size.wanted(99) == 7
    assert size.wanted(100) == 7  # of the window before
    size.observe(150, 3)
    assert size.wanted(200) == 3
    assert size.wanted(300) == 2


def test_a_pause_of_two_windows_forgets_at_once() -> None:
    size = make(window_ns=100)
    size.observe(0, 7)
    assert size.wanted(200) == 2


def test_surplus_is_what_is_idle_beyond_the_peak() -> None:
    size = make(window_ns=100)
    size.observe(0, 5)
    assert size.surplus(1, count=8, idle_count=8) == 3
    assert size.surplus(1, count=8, idle_count=1) == 1
    assert size.surplus(1, count=4, idle_count=4) == 0


def test_growth_opens_for_those_who_wait_and_are_not_opened_for() -> None:
    size = make(opening_count_max=4)
    assert size.growth(0, count=0, opening_count=0, waiting_count=3) == 3
    assert size.growth(0, count=0, opening_count=3, waiting_count=3) == 0
    assert size.growth(0, count=0, opening_count=0, waiting_count=9) == 4
    assert size.growth(0, count=9, opening_count=0, waiting_count=9) == 1
    assert size.growth(0, count=10, opening_count=0, waiting_count=9) == 0


def test_until_one_connection_told_what_it_carries_there_is_one() -> None:
    size = make()
    assert size.growth(0, count=0, opening_count=0, waiting_count=9, is_known=False) == 1
    assert size.growth(0, count=0, opening_count=1, waiting_count=9, is_known=False) == 0


def test_after_failures_nothing_is_opened_for_a_while_that_doubles() -> None:
    size = make(retry_ns=10, retry_ns_max=35)
    now = 0
    for wait in (10, 20, 35, 35):
        size.failed(now)
        assert size.growth(now + wait - 1, count=1, opening_count=0, waiting_count=1) == 0
        assert size.growth(now + wait, count=1, opening_count=0, waiting_count=1) == 1
        now += wait
    size.opened()
    size.failed(now)
    assert size.growth(now + 10, count=1, opening_count=0, waiting_count=1) == 1


def test_where_nothing_is_open_a_failure_holds_nobody_back() -> None:
    size = make()
    size.failed(0)
    assert size.growth(0, count=0, opening_count=0, waiting_count=1) == 1


def test_the_least_is_kept_open_while_there_is_demand() -> None:
    size = make(window_ns=100)
    assert size.shortage(0, count=0) == 0
    size.observe(0, 1)
    assert size.shortage(1, count=0) == 2
    assert size.shortage(1, count=5) == 0
    assert size.shortage(200, count=0) == 0
    size.observe(201, 1)
    size.failed(201)
    assert size.shortage(202, count=0) == 0
    assert size.shortage(202 + SECOND_NS, count=0) == 0  # two windows later nobody asked


@pytest.mark.parametrize("bounds", [(3, 2), (-1, 2), (0, 0)])
def test_bounds_that_contradict_each_other_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="count_min"):
        PoolSize(*bounds)
    with pytest.raises(ValueError, match="at least 1"):
        PoolSize(0, 1, window_ns=0)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 40)), max_size=50),
    st.integers(0, 5),
    st.integers(5, 12),
)
def test_what_is_wanted_is_the_peak_of_two_windows(
    steps: list[tuple[int, int]], count_min: int, count_max: int
) -> None:
    size = PoolSize(count_min, count_max, window_ns=60)
    now, seen = 0, []
    for passed, demand in steps:
        now += passed
        size.observe(now, demand)
        seen.append((now, demand))
        recent = [found for at, found in seen if now - at < 60]
        all_that_may_count = [found for at, found in seen if now - at < 180]
        wanted = size.wanted(now)
        assert count_min <= wanted <= count_max
        assert wanted >= min(count_max, max(recent))
        assert wanted <= max(count_min, *all_that_may_count)
