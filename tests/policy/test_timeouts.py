"""How long to wait: by what calls took, between bounds, and never learned from an outage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp import core
from erlmcp.policy.timeouts import SECOND_NS, AdaptiveTimeout, TimeoutRule, extended_ns, nested_s

S = SECOND_NS
MS = S // 1000


def taking(*durations_ns: int) -> core.Histogram:
    made = core.Histogram()
    made.record_many(list(durations_ns))
    return made


def test_it_begins_with_its_start_and_keeps_it_until_enough_is_known() -> None:
    timeout = AdaptiveTimeout(TimeoutRule(start_s=7, outcomes_min=20))
    assert timeout.timeout_s == 7
    timeout.adapt(1, taking(*[MS] * 19), 0)
    assert timeout.timeout_s == 7
    timeout.adapt(2, taking(*[MS] * 20), 0)
    assert timeout.timeout_s == 0.25  # min_s


def test_it_is_a_factor_above_what_the_slowest_hundredth_takes() -> None:
    timeout = AdaptiveTimeout(TimeoutRule(min_s=0.01, factor=1.5))
    timeout.adapt(1, taking(*[S // 2] * 1000), 0)
    assert timeout.timeout_s == pytest.approx(0.75, rel=0.01)
    timeout.adapt(2, taking(*[S // 2] * 980, *[2 * S] * 20), 0)
    assert timeout.timeout_s == pytest.approx(3.0, rel=0.01)


def test_of_a_few_calls_it_takes_twice_the_slowest_twentieth() -> None:
    timeout = AdaptiveTimeout(TimeoutRule(min_s=0.01, factor=1.5, outcomes_min=20))
    timeout.adapt(1, taking(*[S // 2] * 50), 0)
    assert timeout.timeout_s == pytest.approx(1.5, rel=0.01)


def test_where_most_were_given_up_nothing_is_learned() -> None:
    timeout = AdaptiveTimeout(TimeoutRule(min_s=0.01, window_s=10))
    timeout.adapt(1, taking(*[S // 2] * 1000), 0)
    before = timeout.timeout_s
    assert timeout.adapt(11 * S, taking(*[5 * S] * 100), 51)
    assert timeout.timeout_s == before
    timeout.adapt(12 * S, taking(*[S // 2] * 51, *[S] * 49), 49)
    assert timeout.timeout_s == pytest.approx(1.5, rel=0.02)


def test_the_window_before_counts_and_the_one_before_that_does_not() -> None:
    timeout = AdaptiveTimeout(TimeoutRule(min_s=0.01, window_s=10))
    assert timeout.adapt(10 * S, taking(*[2 * S] * 200), 0)
    assert not timeout.adapt(11 * S, taking(*[MS * 100] * 200), 0)
    assert timeout.timeout_s == pytest.approx(3.0, rel=0.01)
    assert timeout.adapt(20 * S, taking(*[MS * 100] * 200), 0)
    timeout.adapt(21 * S, taking(), 0)
    assert timeout.timeout_s == pytest.approx(0.15, rel=0.01)


@given(st.lists(st.tuples(st.integers(0, 20 * S), st.integers(1, 300), st.integers(0, 100 * S), st.integers(0, 300))))
def test_it_stays_between_its_bounds_whatever_comes(steps: list[tuple[int, int, int, int]]) -> None:
    timeout = AdaptiveTimeout(TimeoutRule(min_s=0.5, max_s=20, start_s=5))
    now_ns = 0
    for passed_ns, count, took_ns, expired in steps:
        now_ns += passed_ns
        timeout.adapt(now_ns, taking(*[took_ns] * count), min(count, expired))
        assert 0.5 <= timeout.timeout_s <= 20


def test_progress_extends_up_to_the_hard_maximum() -> None:
    assert extended_ns(3 * S, 0, 5 * S, 20 * S) == 8 * S
    assert extended_ns(18 * S, 0, 5 * S, 20 * S) == 20 * S


def test_a_nested_call_gets_what_is_left_less_the_margin() -> None:
    assert nested_s(60, 2.0, 0.5) == 1.5
    assert nested_s(1, 2.0, 0.5) == 1
    assert nested_s(60, 0.2, 0.5) == 0


@pytest.mark.parametrize(
    "given_rule",
    [{"min_s": 0}, {"start_s": 0.1}, {"max_s": 3}, {"hard_max_s": 3}, {"factor": 1}, {"window_s": 0}],
    ids=str,
)
def test_a_rule_that_makes_no_sense_is_refused(given_rule: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"wanted|factor"):
        TimeoutRule(**given_rule)  # type: ignore[arg-type]
