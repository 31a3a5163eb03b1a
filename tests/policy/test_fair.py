"""Fair shares: convergence to the weights, no starvation, a constant price for each decision."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.policy.fair import BULK, CRITICAL, LEVELS, NORMAL, WEIGHT_MAX, FairShare

WEIGHTS = st.lists(st.integers(1, 20), min_size=2, max_size=6)


def test_one_owner_gets_its_items_in_order() -> None:
    fair: FairShare[int] = FairShare()
    for item in range(5):
        assert fair.push("a", item)
    assert not fair.push("a", 3)
    assert len(fair) == 5
    assert [fair.take() for _ in range(6)] == [0, 1, 2, 3, 4, None]
    assert len(fair) == 0


def test_owners_take_turns_however_many_items_one_of_them_has() -> None:
    fair: FairShare[str] = FairShare()
    for number in range(100):
        fair.push("greedy", f"g{number}")
    for number in range(2):
        fair.push("modest", f"m{number}")
    assert [fair.take() for _ in range(6)] == ["g0", "m0", "g1", "m1", "g2", "g3"]


def test_a_weight_is_the_items_of_a_turn() -> None:
    fair: FairShare[tuple[str, int]] = FairShare()
    fair.weigh("a", 3)
    for number in range(9):
        fair.push("a", ("a", number))
        fair.push("b", ("b", number))
    assert "".join(item[0] for item in iter(fair.take, None)) == "aaabaaabaaabbbbbbb"


@given(weights=WEIGHTS, cost_max=st.integers(1, 8), data=st.data())
def test_shares_converge_to_the_weights_whatever_the_items_cost(weights: list[int], cost_max: int, data: Any) -> None:
    costs = data.draw(st.lists(st.integers(1, cost_max), min_size=5, max_size=40))
    fair: FairShare[tuple[int, int]] = FairShare(cost_max=cost_max)
    cost_of: dict[tuple[int, int], int] = {}
    for owner, weight in enumerate(weights):
        fair.weigh(owner, weight)
        for number in range(3):
            cost_of[owner, number] = costs[(number * 7 + owner) % len(costs)]
            fair.push(owner, (owner, number), cost=cost_of[owner, number])
    taken: Counter[int] = Counter()
    for _ in range(400):
        item = fair.take()
        assert item is not None
        owner, number = item
        taken[owner] += cost_of[item]
        fair.push(owner, item, cost=cost_of[item])  # its owner always wants more
        # Each owner's share per unit of weight is that of the others, but for a turn and an item.
        shares = [taken[owner] / weight for owner, weight in enumerate(weights)]
        assert max(shares) - min(shares) <= 2 * cost_max + cost_max / min(weights)


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(LEVELS), st.booleans()), max_size=200))
def test_every_item_is_taken_once_in_the_order_of_its_owner_and_level(pushes: list[tuple[int, int, bool]]) -> None:
    fair: FairShare[tuple[int, int, int]] = FairShare(age_takes=4)
    taken, pushed = [], []
    for number, (owner, level, takes) in enumerate(pushes):
        pushed.append((owner, level, number))
        fair.push(owner, pushed[-1], level=level)
        if takes:
            taken.append(fair.take())
    taken.extend(iter(fair.take, None))
    assert sorted(taken) == sorted(pushed)  # type: ignore[type-var]
    for key in {item[:2] for item in pushed}:
        mine = [item[2] for item in taken if item is not None and item[:2] == key]
        assert all(before < after for before, after in pairwise(mine))


@given(WEIGHTS)
def test_nobody_starves_an_item_waits_for_the_turns_of_the_others_at_most(weights: list[int]) -> None:
    fair: FairShare[tuple[str, int]] = FairShare()
    for owner, weight in enumerate(weights):
        fair.weigh(owner, weight)
        for number in range(2 * weight):
            fair.push(owner, (str(owner), number))
    fair.push("late", ("late", 0))
    waited = 0
    while (item := fair.take()) != ("late", 0):
        assert item is not None
        fair.push(int(item[0]), item)
        waited += 1
    assert waited <= sum(weights)


def test_the_critical_go_first_and_the_bulk_is_served_all_the_same() -> None:
    fair: FairShare[tuple[int, int]] = FairShare(age_takes=10)
    for level in LEVELS:
        for number in range(200):
            fair.push("a", (level, number), level=level)
    levels = [item[0] for item in (fair.take() for _ in range(120)) if item is not None]
    assert levels[:10] == [CRITICAL] * 10
    counts = Counter(levels)
    assert counts[CRITICAL] == 100
    assert counts[NORMAL] == counts[BULK] == 10
    for level in (NORMAL, BULK):
        places = [-1, *(place for place, found in enumerate(levels) if found == level)]
        assert max(after - before for before, after in pairwise(places)) <= 13


def test_an_owner_that_has_nothing_saves_nothing_up() -> None:
    fair: FairShare[str] = FairShare(cost_max=10)
    fair.push("a", "a0")
    assert fair.take() == "a0"
    for number in range(20):
        fair.push("a", f"a{number}")
        fair.push("b", f"b{number}")
    assert sum(str(fair.take()).startswith("a") for _ in range(20)) == 10


def test_an_item_can_be_taken_back_and_an_owner_dropped() -> None:
    fair: FairShare[str] = FairShare()
    fair.weigh("a", 5)
    for level in LEVELS:
        fair.push("a", f"a{level}", level=level)
        fair.push("b", f"b{level}", level=level)
    assert fair.discard("a", "a1", level=NORMAL)
    assert not fair.discard("a", "a1", level=NORMAL)
    assert not fair.discard("c", "a1")
    assert sorted(fair.drop("a")) == ["a0", "a2"]
    assert [*iter(fair.take, None)] == ["b0", "b1", "b2"]
    assert fair.drop("a") == []
    fair.push("a", "x")
    fair.push("a", "y")
    fair.push("b", "z")
    assert [*iter(fair.take, None)] == ["x", "z", "y"]  # its weight was forgotten with it


@pytest.mark.parametrize("weight", [0, -1, WEIGHT_MAX + 1])
def test_a_weight_out_of_range_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match="a weight is from 1 to 1000"):
        FairShare[int]().weigh("a", weight)


def test_a_level_a_cost_or_a_bound_out_of_range_is_refused() -> None:
    fair: FairShare[int] = FairShare(cost_max=2)
    for bad in ({"level": 3}, {"level": -1}, {"cost": 0}, {"cost": 3}):
        with pytest.raises(ValueError, match="a level is 0 to 2 and a cost 1 to 2"):
            fair.push("a", 1, **bad)
    assert len(fair) == 0
    for bounds in ({"cost_max": 0}, {"age_takes": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            FairShare(**bounds)


def steps_of_a_take(owner_count: int) -> int:
    """The most calls, of Python and of C, that one of a round of takes makes."""
    fair: FairShare[int] = FairShare(cost_max=3)
    for owner in range(owner_count):
        fair.push(owner, owner, cost=1 + owner % 3)
        fair.push(owner, -owner - 1, cost=3)
    steps, most = 0, 0

    def count(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    for _ in range(2 * owner_count):
        steps = 0
        sys.setprofile(count)
        try:
            fair.take()
        finally:
            sys.setprofile(None)
        most = max(most, steps)
    return most


def test_a_decision_costs_the_same_with_ten_owners_and_with_three_thousand() -> None:
    assert steps_of_a_take(10) == steps_of_a_take(3_000) < 40
