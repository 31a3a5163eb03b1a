"""Balancing in simulated time: the slow one is left, who fails fast attracts nobody, who recovers is found."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.policy.balance import SECOND_NS, Balance, BalanceRule

MS_NS = 1_000_000
Answer = tuple[int, bool]  # (how long it takes, whether it is a failure)


def simulate(
    balance: Balance,
    answer: Callable[[int, int, int], Answer],
    *,
    seconds: float,
    rate: int = 1000,
    begins_ns: int = 0,
) -> Counter[tuple[int, bool]]:
    """Calls at a fixed rate; ``answer(index, calls there, now)`` is what a replica does. (index, failed) -> calls."""
    found: Counter[tuple[int, bool]] = Counter()
    under_way = [0] * len(balance.replicas)
    ends: list[tuple[int, int, int, bool]] = []
    for number in range(int(seconds * rate)):
        now_ns = begins_ns + number * SECOND_NS // rate
        while ends and ends[0][0] <= now_ns:
            end_ns, index, time_ns, is_failure = heapq.heappop(ends)
            under_way[index] -= 1
            balance.record(index, time_ns, is_failure, end_ns)
        index = balance.pick(list(enumerate(under_way)), now_ns)
        time_ns, is_failure = answer(index, under_way[index], now_ns)
        under_way[index] += 1
        found[index, is_failure] += 1
        heapq.heappush(ends, (now_ns + time_ns, index, time_ns, is_failure))
    return found


def of(found: Counter[tuple[int, bool]], index: int) -> int:
    return found[index, False] + found[index, True]


@pytest.mark.parametrize("count", [2, 4, 8])
def test_equal_replicas_get_equal_shares(count: int) -> None:
    balance = Balance(count, random.Random(1).randrange)
    noise = random.Random(2)
    found = simulate(balance, lambda i, n, t: (int(noise.uniform(3, 5) * MS_NS) * (n + 1), False), seconds=10)
    assert min(of(found, index) for index in range(count)) > 0.7 * 10_000 / count


@pytest.mark.parametrize("count", [3, 8])
def test_a_slow_replica_is_left(count: int) -> None:
    balance = Balance(count, random.Random(1).randrange)
    found = simulate(balance, lambda i, n, t: ((200 if i == 0 else 2) * MS_NS, False), seconds=10)
    assert of(found, 0) < 0.02 * 10_000
    assert sum(found.values()) == 10_000


def test_a_replica_that_becomes_slow_is_left_within_a_few_calls() -> None:
    balance = Balance(2, random.Random(1).randrange)
    found = simulate(balance, lambda i, n, t: (2 * MS_NS, False), seconds=2)
    assert min(of(found, 0), of(found, 1)) > 500
    begins_ns = 2 * SECOND_NS
    found = simulate(balance, lambda i, n, t: ((500 if i else 2) * MS_NS, False), seconds=2, begins_ns=begins_ns)
    assert of(found, 1) < 40


def test_one_that_is_quick_again_is_found_out() -> None:
    balance = Balance(2, random.Random(1).randrange)
    simulate(balance, lambda i, n, t: ((500 if i else 2) * MS_NS, False), seconds=2)
    found: Counter[tuple[int, bool]] = Counter()
    for minute in range(2):
        begins_ns = (2 + 60 * minute) * SECOND_NS
        found = simulate(balance, lambda i, n, t: (2 * MS_NS, False), seconds=60, rate=100, begins_ns=begins_ns)
    assert of(found, 1) > 0.2 * 6000


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_replica_that_fails_fast_does_not_attract_everything(count: int) -> None:
    balance = Balance(count, random.Random(1).randrange)
    found = simulate(balance, lambda i, n, t: (1000, True) if i == 0 else (20 * MS_NS, False), seconds=60, rate=200)
    assert of(found, 0) < 0.01 * 12_000


def test_failures_between_right_answers_eject_by_their_share() -> None:
    balance = Balance(2, random.randrange)
    now_ns = 0
    ejections = 0
    for number in range(40):
        now_ns += MS_NS
        ejections += balance.record(0, MS_NS, number % 3 != 0, now_ns)
    assert ejections == 1
    assert balance.is_ejected(0, now_ns)
    for _ in range(100):
        balance.record(1, MS_NS, False, now_ns)
    assert not balance.is_ejected(1, now_ns)


def test_each_ejection_after_the_other_lasts_longer_and_good_conduct_makes_the_next_one_short_again() -> None:
    rule = BalanceRule(eject_s=1, eject_s_max=3, failure_max=3)
    balance = Balance(2, random.randrange, rule)
    now_ns, waits = 0, []
    for _ in range(4):
        while not balance.record(0, MS_NS, True, now_ns):
            now_ns += MS_NS
        until_ns = balance.replicas[0].ejected_until_ns
        waits.append((until_ns - now_ns) / SECOND_NS)
        now_ns = until_ns
    assert waits == [1, 2, 3, 3]
    for _ in range(rule.look_count):
        balance.record(0, MS_NS, False, now_ns)
    assert [balance.record(0, MS_NS, True, now_ns) for _ in range(3)] == [False, False, True]
    assert balance.replicas[0].ejected_until_ns - now_ns == SECOND_NS


def test_on_trial_one_failure_is_enough() -> None:
    balance = Balance(2, random.randrange)
    assert [balance.record(0, MS_NS, True, 0) for _ in range(5)] == [False, False, False, False, True]
    now_ns = balance.replicas[0].ejected_until_ns
    assert not balance.is_ejected(0, now_ns)
    assert balance.record(0, MS_NS, True, now_ns)


@pytest.mark.parametrize(("count", "most"), [(1, 0), (2, 1), (3, 1), (8, 4)])
def test_a_fault_of_all_ejects_few(count: int, most: int) -> None:
    balance = Balance(count, random.randrange)
    for index in range(count):
        for _ in range(30):
            balance.record(index, MS_NS, True, 0)
    assert len(balance.ejected(0)) == most
    assert balance.pick([(index, 0) for index in range(count)], 0) not in balance.ejected(0)


def test_where_only_ejected_ones_are_there_one_of_them_is_asked() -> None:
    balance = Balance(2, random.randrange)
    for _ in range(5):
        balance.record(1, MS_NS, True, 0)
    assert balance.pick([(1, 3)], 0) == 1
    assert balance.pick([(0, 50), (1, 0)], 0) == 0


def test_what_was_replaced_starts_anew() -> None:
    balance = Balance(2, random.randrange)
    for _ in range(5):
        balance.record(0, MS_NS, True, 0)
    balance.renew(0)
    assert not balance.is_ejected(0, 0)
    assert balance.cost(0, 0, 0) == balance.cost(1, 0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**10), st.booleans(), st.integers(0, 10**9)), max_size=60)
)
def test_whatever_happens_somebody_who_is_ready_gets_the_call(events: list[tuple[int, int, bool, int]]) -> None:
    balance = Balance(4, random.Random(3).randrange)
    now_ns = 0
    for index, time_ns, is_failure, step_ns in events:
        now_ns += step_ns
        balance.record(index, time_ns, is_failure, now_ns)
        assert len(balance.ejected(now_ns)) <= 2
        assert all(balance.cost(each, 1, now_ns) > 0 for each in range(4))
        for ready in ([(index, 2)], [(each, 1) for each in range(4)]):
            picked = balance.pick(ready, now_ns)
            assert picked in [each for each, _ in ready]
            assert len(ready) == 1 or not balance.is_ejected(picked, now_ns)


@pytest.mark.parametrize(
    "wrong",
    [
        {"decay_s": 0},
        {"failure_s": -1},
        {"eject_s": 10, "eject_s_max": 5},
        {"failure_max": 0},
        {"look_count": 0},
        {"share_max": 1},
        {"ejected_share_max": 1},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BalanceRule(**wrong)
