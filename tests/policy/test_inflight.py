"""How many requests are in flight: growth, shrinking, bounds, and the memory of how fast the server was."""

from __future__ import annotations

import random

import pytest

from erlmcp.policy.inflight import SECOND_NS, InflightSize

MS_NS = 1_000_000


def run(size: InflightSize, steps: int, capacity: int, now_ns: int = 0, base_ns: int = MS_NS) -> int:
    """A server that answers ``capacity`` requests side by side in ``base_ns``, and is asked for more than it may get;
    the time at the end."""
    for _ in range(steps):
        latency_ns = base_ns * size.limit // capacity if size.limit > capacity else base_ns
        now_ns += latency_ns
        size.answered(now_ns, latency_ns, is_full=True)
    return now_ns


def test_it_begins_at_the_lower_bound_and_doubles_while_answers_stay_fast() -> None:
    size = InflightSize(4, 100)
    found = [size.answered(step, MS_NS, is_full=True) for step in range(6)]
    assert found == [8, 16, 32, 64, 100, 100]


def test_it_does_not_grow_while_nobody_waits() -> None:
    size = InflightSize(4, 100)
    assert [size.answered(step, MS_NS, is_full=False) for step in range(5)] == [4] * 5


def test_a_slow_answer_shrinks_it_and_from_then_on_it_grows_by_one() -> None:
    size = InflightSize(4, 1000)
    for step in range(5):
        size.answered(step, MS_NS, is_full=True)
    assert size.limit == 128
    assert size.answered(5, 4 * MS_NS, is_full=True) == 256
    assert size.answered(6, 4 * MS_NS + 1, is_full=True) == 192
    assert [size.answered(step, MS_NS, is_full=True) for step in range(7, 10)] == [193, 194, 195]


def test_it_settles_where_the_server_begins_to_be_crowded() -> None:
    size = InflightSize(2, 1000)
    now_ns = run(size, 200, capacity=20)
    seen = []
    for _ in range(200):
        now_ns = run(size, 1, capacity=20, now_ns=now_ns)
        seen.append(size.limit)
    # Four times the capacity is where an answer takes four times as long.
    assert 60 <= min(seen) <= max(seen) <= 81


def test_calls_that_get_no_answer_shrink_it_down_to_the_lower_bound() -> None:
    size = InflightSize(10, 100)
    run(size, 5, capacity=1000)
    assert [size.slowed() for _ in range(10)] == [75, 56, 42, 31, 23, 17, 12, 10, 10, 10]


def test_how_fast_the_server_was_is_forgotten_after_two_windows() -> None:
    size = InflightSize(1, 1000, window_ns=SECOND_NS)
    size.answered(SECOND_NS, MS_NS, is_full=True)
    assert size.answered(2 * SECOND_NS, 10 * MS_NS, is_full=True) == 1
    assert size.answered(3 * SECOND_NS, 10 * MS_NS, is_full=True) == 2
    # And at once where nothing was timed meanwhile.
    size.answered(3 * SECOND_NS + 1, MS_NS, is_full=True)
    limit = size.limit
    assert size.answered(9 * SECOND_NS, 10 * MS_NS, is_full=True) == limit + 1


def test_it_stays_within_its_bounds_whatever_comes() -> None:
    chance = random.Random(5)
    size = InflightSize(3, 50)
    now_ns = 0
    for _ in range(5000):
        now_ns += chance.randrange(SECOND_NS)
        if chance.random() < 0.1:
            size.slowed()
        else:
            size.answered(now_ns, chance.randrange(1, SECOND_NS), is_full=chance.random() < 0.9)
        assert 3 <= size.limit <= 50


@pytest.mark.parametrize(
    "given",
    [(0, 5), (6, 5), (1, 5, 1.0), (1, 5, 2.0, 0.0), (1, 5, 2.0, 1.0), (1, 5, 2.0, 0.5, 0)],
    ids=str,
)
def test_bounds_that_make_no_sense_are_refused(given: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"wanted|tolerance"):
        InflightSize(*given)  # type: ignore[arg-type]
