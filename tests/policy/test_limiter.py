"""Rates: what a bucket lets through beside the textbook's GCRA, and how a rate adapts within its bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp import core
from erlmcp.policy.limiter import SECOND_NS, AdaptiveRate, Limiter, RateRule, exact


class Gcra:
    """As ITU-T I.371 has it: a theoretical arrival time, and how much sooner a cell may come."""

    def __init__(self, interval_ns: int, burst: int) -> None:
        self.interval_ns, self.tolerance_ns, self.due_ns = interval_ns, (burst - 1) * interval_ns, 0

    def allow(self, now_ns: int) -> bool:
        if now_ns < self.due_ns - self.tolerance_ns:
            return False
        self.due_ns = max(now_ns, self.due_ns) + self.interval_ns
        return True


@given(
    st.lists(st.integers(0, 3_000_000), min_size=1, max_size=200),
    st.integers(1, 20),
    st.sampled_from([1000, 500, 250, 2000, 100_000]),
)
def test_the_bucket_decides_as_gcra_does(passed: list[int], burst: int, rate: int) -> None:
    bucket, gcra = core.TokenBucket(rate, burst), Gcra(SECOND_NS // rate, burst)
    now_ns = 0
    for each in passed:
        now_ns += each
        assert bucket.allow_at(now_ns) == gcra.allow(now_ns)


@given(st.lists(st.tuples(st.integers(0, SECOND_NS), st.floats(0.5, 200.0)), max_size=100), st.integers(1, 10))
def test_never_more_passes_than_burst_and_what_came_in_whatever_the_rate_becomes(
    steps: list[tuple[int, float]], burst: int
) -> None:
    bucket = core.TokenBucket(exact(100.0), burst)
    now_ns, most, passed, rate = 0, float(burst), 0, 100.0
    for waited_ns, next_rate in steps:
        now_ns += waited_ns
        most += rate * waited_ns / SECOND_NS
        while bucket.allow_at(now_ns):
            passed += 1
        assert passed <= most + 1e-6 * most
        rate = exact(next_rate)
        bucket.change(rate, burst)


def test_a_rate_falls_by_its_factor_while_calls_fail_and_rises_by_its_step_when_all_is_well() -> None:
    rate = AdaptiveRate(RateRule(100, rate_per_s_min=10, shrink=0.5, step=0.1))
    found = [rate.adapt(SECOND_NS, 50, 50, 10, 1000) for _ in range(5)]
    assert found == [50, 25, 12.5, 10, 10]
    found = [rate.adapt(SECOND_NS, 50, 0, 10, 1000) for _ in range(10)]
    assert found == [20, 30, 40, 50, 60, 70, 80, 90, 100, 100]


def test_a_rate_that_is_not_what_holds_calls_back_does_not_rise() -> None:
    rate = AdaptiveRate(RateRule(100, rate_per_s_min=10))
    rate.rate_per_s = 50.0
    assert rate.adapt(SECOND_NS, 39, 0, 0, 1000) == 50
    assert rate.adapt(SECOND_NS, 40, 0, 0, 1000) == 55
    assert rate.adapt(SECOND_NS, 3, 0, 1, 1000) == 60


def test_a_tool_that_became_slow_is_throttled_and_one_that_is_slow_by_nature_is_not() -> None:
    rate = AdaptiveRate(RateRule(100, rate_per_s_min=10, tolerance=3.0, baseline_periods=5))
    assert [rate.adapt(SECOND_NS, 90, 0, 0, 2 * SECOND_NS) for _ in range(3)] == [100] * 3
    assert rate.adapt(SECOND_NS, 90, 0, 0, 6 * SECOND_NS) == 100
    assert rate.adapt(SECOND_NS, 90, 0, 0, 6 * SECOND_NS + 1) == 70
    # Slow for longer than is remembered is slow by nature.
    assert [rate.adapt(SECOND_NS, 90, 0, 9, 7 * SECOND_NS) for _ in range(5)][-1] > 25


def test_a_few_calls_prove_nothing() -> None:
    rate = AdaptiveRate(RateRule(100, rate_per_s_min=10, outcomes_min=5))
    assert rate.adapt(SECOND_NS, 0, 4, 0, 1000) == 100


@given(
    st.lists(
        st.tuples(
            st.integers(1, 10 * SECOND_NS),
            st.integers(0, 1000),
            st.integers(0, 1000),
            st.integers(0, 100),
            st.integers(0, 10 * SECOND_NS),
        ),
        max_size=100,
    )
)
def test_the_rate_stays_within_its_bounds_whatever_comes(steps: list[tuple[int, int, int, int, int]]) -> None:
    rate = AdaptiveRate(RateRule(100, rate_per_s_min=7))
    for step in steps:
        assert 7 <= rate.adapt(*step) <= 100


def test_two_who_share_a_capacity_by_additive_increase_come_to_the_same_share() -> None:
    chance = random.Random(3)
    one, two = (AdaptiveRate(RateRule(100, rate_per_s_min=1)) for _ in range(2))
    one.rate_per_s, two.rate_per_s = 5.0, 60.0
    for _ in range(400):
        is_over = one.rate_per_s + two.rate_per_s > 80 + chance.random()
        for each in (one, two):
            count = int(each.rate_per_s)
            each.adapt(SECOND_NS, 0 if is_over else count, count if is_over else 0, 1, 0)
    assert 0.7 < one.rate_per_s / two.rate_per_s < 1.4


@pytest.mark.parametrize(
    "given_rule",
    [
        {"rate_per_s": 0},
        {"rate_per_s": 5, "rate_per_s_min": 6},
        {"rate_per_s": 5, "per": "city"},
        {"rate_per_s": 5, "rate_per_s_min": 1, "per": "caller"},
        {"rate_per_s": 5, "shrink": 1},
        {"rate_per_s": 5, "tolerance": 1},
    ],
    ids=str,
)
def test_a_rule_that_makes_no_sense_is_refused(given_rule: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"wanted|per is one of|does not adapt|lie between"):
        RateRule(**given_rule)  # type: ignore[arg-type]


def test_a_burst_is_a_seconds_worth_where_none_is_given_and_at_least_one() -> None:
    assert [RateRule(rate).size for rate in (0.1, 3.4, 20)] == [1, 3, 20]
    assert RateRule(5, burst=2).size == 2
    assert (exact(5.0), exact(1 / 3)) == (5, 0.333333)


def test_a_limiter_moves_its_bucket_once_in_a_period_and_its_burst_with_the_rate() -> None:
    limiter = Limiter(RateRule(100, burst=10, rate_per_s_min=10, shrink=0.5))
    limiter.note(SECOND_NS, 0, 0, 0)
    limiter.note(SECOND_NS * 3 // 2, 0, 100, 0)
    assert limiter.rate_per_s == 100
    limiter.note(SECOND_NS * 2, 0, 0, 0)
    assert (limiter.rate_per_s, limiter.bucket.burst) == (50, 5)
    assert limiter.bucket.tokens == 5
    for _ in range(5):
        assert limiter.allow(2 * SECOND_NS)
    assert not limiter.allow(2 * SECOND_NS)
    assert limiter.wait_ns(2 * SECOND_NS) == SECOND_NS // 50


def test_what_several_note_counts_by_their_calls() -> None:
    limiter = Limiter(RateRule(100, rate_per_s_min=10, tolerance=2.0, shrink=0.5))
    limiter.note(1, 50, 0, 1000)
    limiter.note(1 + SECOND_NS, 50, 0, 1000)
    limiter.note(2 + SECOND_NS, 90, 0, 1000)
    limiter.note(1 + 2 * SECOND_NS, 10, 0, 50_000)  # on the whole 5,900: six times as long
    assert limiter.rate_per_s == 50


def test_a_rate_that_does_not_adapt_stays_as_it_is() -> None:
    limiter = Limiter(RateRule(100))
    for second in range(5):
        limiter.note(second * SECOND_NS, 0, 1000, 0)
    assert limiter.rate_per_s == 100
