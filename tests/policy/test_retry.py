"""Who is asked again, after how long, and never more often than the budget has it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.policy.retry import SECOND_NS, Retry, RetryBudget, RetryRule, backoff_ns

S = SECOND_NS


def make(chance: float = 1.0, **more: float) -> Retry:
    return Retry(RetryRule(**{"budget": 1.0, "reserve": 100, **more}), lambda: chance)  # type: ignore[arg-type]


def test_the_pause_is_a_random_share_of_what_doubles_up_to_its_maximum() -> None:
    rule = RetryRule(backoff_s=0.1, backoff_s_max=1.0)
    assert [backoff_ns(rule, retry, 1.0) for retry in range(1, 7)] == [S // 10, S // 5, S * 2 // 5, S * 4 // 5, S, S]
    assert backoff_ns(rule, 3, 0.25) == S // 10
    assert backoff_ns(rule, 10_000, 0.0) == 0


def test_what_may_have_been_done_is_asked_again_only_where_that_does_no_harm() -> None:
    retry = make()
    assert retry.pause_ns(0, 1, may_repeat=False) is None
    assert retry.pause_ns(0, 1, may_repeat=True) is not None
    assert retry.pause_ns(0, 1, may_repeat=False, was_refused=True) is not None


def test_there_are_no_more_attempts_than_the_rule_has() -> None:
    retry = make(attempt_max=3)
    assert [retry.pause_ns(0, attempt, may_repeat=True) is None for attempt in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]


def test_it_waits_at_least_as_long_as_the_other_side_said() -> None:
    assert make(0.0).pause_ns(0, 1, may_repeat=True, retry_after_ns=2 * S) == 2 * S
    assert make(1.0, backoff_s=1).pause_ns(0, 1, may_repeat=True, retry_after_ns=2 * S) == 3 * S
    assert make(0.0, wait_s_max=1).pause_ns(0, 1, may_repeat=True, retry_after_ns=2 * S) is None


def test_nothing_is_asked_again_that_could_not_be_answered_before_the_deadline() -> None:
    retry = make(1.0, backoff_s=1)
    assert retry.pause_ns(0, 1, may_repeat=True, deadline_ns=S) is None
    assert retry.pause_ns(0, 1, may_repeat=True, deadline_ns=S + 1) == S


def test_a_verdict_of_none_spends_nothing() -> None:
    retry = make(reserve=1, budget=0.0)
    for options in ({"deadline_ns": 0}, {"retry_after_ns": 60 * S}):
        assert retry.pause_ns(0, 1, may_repeat=True, **options) is None  # type: ignore[arg-type]
    assert retry.pause_ns(0, 3, may_repeat=True) is None
    assert retry.pause_ns(0, 1, may_repeat=True) is not None
    assert retry.pause_ns(0, 1, may_repeat=True) is None
    assert retry.budget.refused_count == 1


def test_the_budget_is_a_share_of_the_requests_and_comes_back_with_the_window() -> None:
    budget = RetryBudget(RetryRule(budget=0.2, reserve=0, window_s=10))
    for _ in range(20):
        budget.requested(0)
    assert [budget.spend(0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert not budget.spend(6 * S)  # the half-window before still counts
    assert not budget.spend(30 * S)  # and so few requests allow none
    for _ in range(5):
        budget.requested(30 * S)
    assert budget.spend(30 * S)


@given(
    st.lists(st.tuples(st.integers(0, 3 * S), st.integers(0, 5), st.integers(0, 20)), max_size=120),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_the_retries_never_exceed_their_share_of_the_requests(
    steps: list[tuple[int, int, int]], share: float, reserve: int
) -> None:
    budget = RetryBudget(RetryRule(budget=share, reserve=reserve, window_s=4))
    now_ns, requests, retries, halves = 0, 0, 0, 1
    for passed_ns, asked, wanted in steps:
        now_ns += passed_ns
        halves += passed_ns // (2 * S) + 1
        for _ in range(asked):
            budget.requested(now_ns)
        requests += asked
        retries += sum(budget.spend(now_ns) for _ in range(wanted))
        assert retries <= halves * reserve + 2 * share * requests + 1e-9


def test_under_a_steady_load_the_share_holds_over_all() -> None:
    chance = random.Random(1)
    budget = RetryBudget(RetryRule(budget=0.1, reserve=0, window_s=10))
    retries = 0
    for number in range(20_000):
        now_ns = number * S // 100
        budget.requested(now_ns)
        retries += chance.random() < 0.9 and budget.spend(now_ns)
    assert 1500 < retries <= 2000 * 1.01


@pytest.mark.parametrize(
    "given_rule", [{"attempt_max": 0}, {"backoff_s": 0}, {"backoff_s": 9}, {"budget": 1.5}, {"reserve": -1}], ids=str
)
def test_a_rule_that_makes_no_sense_is_refused(given_rule: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"attempt_max|budget"):
        RetryRule(**given_rule)  # type: ignore[arg-type]
