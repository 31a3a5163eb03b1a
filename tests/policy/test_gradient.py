"""The limit of calls in flight by the gradient of their latency, beside the one by additive increase, in simulation."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from erlmcp.policy.gradient import GradientSize
from erlmcp.policy.inflight import InflightSize

MS_NS = 1_000_000
BASE_NS = 10 * MS_NS


class Backend:
    """Answers ``capacity`` calls side by side in ``BASE_NS`` each; more of them wait for one another. One call at a
    time is timed."""

    def __init__(self, capacity: int, seed: int = 1) -> None:
        self.capacity = capacity
        self.now_ns = 0
        self.source = random.Random(seed)

    def run(self, size: Any, demand: int, rounds: int) -> tuple[list[int], list[float]]:
        """Rounds of as many calls as are allowed and wanted; the limits and the latencies over the base."""
        limits, slowness = [], []
        for _ in range(rounds):
            inflight = min(size.limit, demand)
            latency = BASE_NS * max(1.0, inflight / self.capacity) * self.source.uniform(0.9, 1.1)
            self.now_ns += int(latency)
            size.answered(self.now_ns, int(latency), is_full=inflight >= size.limit)
            limits.append(size.limit)
            slowness.append(latency / BASE_NS)
        return limits, slowness


KINDS: list[Callable[[], Any]] = [lambda: GradientSize(4, 1000), lambda: InflightSize(4, 1000)]


def test_it_begins_at_the_upper_bound_and_stays_while_nothing_is_slow() -> None:
    size = GradientSize(4, 1000)
    limits, _ = Backend(2000).run(size, 500, 300)
    assert set(limits) == {1000}


def test_a_spike_of_latency_shrinks_it_at_once_and_it_comes_back() -> None:
    size = GradientSize(4, 200)
    backend = Backend(1000)
    backend.run(size, 100, 50)
    backend.capacity = 20
    limits, _ = backend.run(size, 400, 20)
    assert limits[-1] < 100
    backend.capacity = 1000
    limits, _ = backend.run(size, 400, 400)
    assert limits[-1] == 200


@pytest.mark.parametrize("make", KINDS)
def test_a_step_down_of_the_backend_is_followed_and_goodput_kept(make: Callable[[], Any]) -> None:
    size = make()
    backend = Backend(100)
    backend.run(size, 80, 300)
    backend.capacity = 50
    limits, slowness = backend.run(size, 5000, 60)
    assert min(limits) >= 4
    # Never fewer in flight than the backend works on, so that none of its places stays empty for long.
    assert sum(limit >= 40 for limit in limits) / len(limits) > 0.9
    assert min(slowness[5:]) < 8


@pytest.mark.parametrize("make", KINDS)
def test_whatever_is_seen_the_limit_stays_between_its_bounds(make: Callable[[], Any]) -> None:
    size, source = make(), random.Random(7)
    for step in range(5000):
        size.answered(step * MS_NS, source.choice([1, MS_NS, 1000 * MS_NS]), is_full=source.random() < 0.5)
        if source.random() < 0.1:
            size.slowed()
        assert 4 <= size.limit <= 1000


def step(size: GradientSize, now_ns: int, latency_ns: int, *, inflight: int, is_full: bool = False) -> int:
    """As many answers as make a step."""
    for _ in range(size.step_count):
        size.answered(now_ns, latency_ns, is_full=is_full, inflight=inflight)
    return size.limit


def test_a_limit_that_falls_begins_at_twice_what_is_in_flight() -> None:
    size = GradientSize(4, 1000)
    for number in range(10):
        assert step(size, number * MS_NS, BASE_NS, inflight=18) == 1000
    assert step(size, 10 * MS_NS, 4 * BASE_NS, inflight=18) == 36 // 2 + 6


def test_one_slow_answer_among_many_moves_nothing() -> None:
    size = GradientSize(4, 1000)
    for number in range(100):
        slow = 4 * BASE_NS if number % 10 == 0 else BASE_NS
        assert size.answered(number * MS_NS, slow, is_full=False, inflight=18) == 1000


def test_what_is_overdue_follows_the_mean_and_is_not_known_before_it() -> None:
    size = GradientSize(4, 1000)
    assert size.overdue_ns == 0
    step(size, 0, BASE_NS, inflight=10)
    assert size.overdue_ns == 3 * BASE_NS


def test_a_server_that_stays_slow_is_taken_for_one_that_is_so_within_minutes() -> None:
    size = GradientSize(4, 1000)
    for second in range(60):
        step(size, second * 10**9, BASE_NS, inflight=100)
    found = [step(size, second * 10**9, 3 * BASE_NS, inflight=100, is_full=True) for second in range(60, 260)]
    assert min(found) < 50
    assert found[-1] == 1000


def test_calls_that_get_no_answer_shrink_it_down_to_the_lower_bound() -> None:
    size = GradientSize(10, 100)
    found = [size.slowed() for _ in range(30)]
    assert found[:3] == [90, 81, 72]
    assert found[-1] == 10


@pytest.mark.parametrize(
    "wrong", [{"count_min": 0}, {"count_min": 11}, {"tolerance": 0.5}, {"step_count": 0}, {"memory_ns": 0}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"wanted|at least"):
        GradientSize(**{"count_min": 1, "count_max": 10, **wrong})  # type: ignore[arg-type]
