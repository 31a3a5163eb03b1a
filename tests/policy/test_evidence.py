"""The tests behind a roll-out, against sums written out and against chance itself."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmcp.core import Histogram
from erlmcp.policy.evidence import bounds, chance_of_errors, difference_upper, ranks, spent


def fisher(new_errors: int, new_count: int, old_errors: int, old_count: int) -> float:
    """All tables of these margins with at least as many errors on the new side, counted exactly."""
    errors, count = new_errors + old_errors, new_count + old_count
    hits = range(new_errors, min(errors, new_count) + 1)
    ways = sum(math.comb(new_count, hit) * math.comb(old_count, errors - hit) for hit in hits)
    return float(Fraction(ways, math.comb(count, errors)))


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_the_chance_of_errors_is_fishers(new_count: int, old_count: int, data: st.DataObject) -> None:
    new_errors = data.draw(st.integers(0, new_count))
    old_errors = data.draw(st.integers(0, old_count))
    found = chance_of_errors(new_errors, new_count, old_errors, old_count)
    wanted = fisher(new_errors, new_count, old_errors, old_count)
    if new_errors * old_count > old_errors * new_count:
        assert found == pytest.approx(wanted, rel=1e-9)
    else:
        assert found == 1.0


def test_many_calls_cost_nothing_and_lose_no_digits() -> None:
    # Twice the rate, with a million calls on each side: far out, and yet a number.
    assert 0 < chance_of_errors(1200, 1_000_000, 1000, 1_000_000) < 1e-4
    assert chance_of_errors(5, 5, 0, 5) == pytest.approx(1 / 252)


def binomial_below(hits: int, count: int, quantile: float) -> float:
    """The chance of fewer than ``hits``."""
    return sum(math.comb(count, k) * quantile**k * (1 - quantile) ** (count - k) for k in range(hits))


@settings(max_examples=60)
@given(st.integers(1, 150), st.sampled_from([0.5, 0.9, 0.95]), st.sampled_from([0.1, 0.01, 0.001]))
def test_the_ranks_leave_out_as_much_as_alpha_and_one_step_more_would_be_too_much(
    count: int, quantile: float, alpha: float
) -> None:
    low, high = ranks(count, quantile, alpha)
    assert 0 <= low < high <= count + 1
    # The order statistic of rank r is above the quantile where fewer than r values are below it.
    assert binomial_below(low, count, quantile) <= alpha * (1 + 1e-9)
    assert binomial_below(low + 1, count, quantile) > alpha * (1 - 1e-9)
    assert 1 - binomial_below(high, count, quantile) <= alpha * (1 + 1e-6)
    assert 1 - binomial_below(high - 1, count, quantile) > alpha * (1 - 1e-6)


def test_few_times_allow_no_bound_and_none_allow_nothing() -> None:
    times = Histogram()
    assert bounds(times, 0.95, 0.01) == (0.0, math.inf)
    for time_ns in range(10):
        times.record(time_ns)
    low, high = bounds(times, 0.95, 0.01)
    assert 0 < low < 9
    assert high == math.inf


def test_the_bounds_hold_the_quantile_as_often_as_they_promise() -> None:
    chance = random.Random(3)
    outside = 0
    for _ in range(300):
        times = Histogram(sub_bits=10)
        for _ in range(200):
            times.record(int(1e6 * chance.expovariate(1)))
        low, high = bounds(times, 0.95, 0.05)
        outside += not low <= 1e6 * math.log(20) <= high
    assert outside <= 45  # 10 % of 300 promised; 45 is three sigmas above


@given(st.integers(1, 2000), st.integers(1, 2000), st.data())
def test_the_upper_bound_of_a_difference_is_above_it_and_falls_with_more_calls(
    new_count: int, old_count: int, data: st.DataObject
) -> None:
    new_errors = data.draw(st.integers(0, new_count))
    old_errors = data.draw(st.integers(0, old_count))
    found = difference_upper(new_errors, new_count, old_errors, old_count, 0.01)
    difference = new_errors / new_count - old_errors / old_count
    assert difference <= found
    assert difference_upper(new_errors * 4, new_count * 4, old_errors * 4, old_count * 4, 0.01) <= found + 1e-12
    assert difference_upper(new_errors, new_count, old_errors, old_count, 0.001) >= found - 1e-12


def test_newcombes_example_gives_newcombes_interval() -> None:
    # 56/70 against 48/80 (Newcombe 1998, table II, method 10): the two-sided 95 % interval ends at 0.3339.
    assert difference_upper(56, 70, 48, 80, 0.025) == pytest.approx(0.3339, abs=5e-5)


def test_all_looks_together_spend_alpha() -> None:
    assert sum(spent(0.05, look) for look in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)
    assert spent(0.05, 2) == pytest.approx(spent(0.05, 1) / 4)
