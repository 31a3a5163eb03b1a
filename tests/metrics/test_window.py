"""The sliding spans: what leaves, what stays, percentiles beside numpy, and a walk beside a list of all values."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmcp.core import Histogram
from erlmcp.metrics.series import SUB_BITS, VALUE_MAX
from erlmcp.metrics.window import (
    FIVE_MINUTES,
    HOUR,
    MINUTE,
    PERCENTS,
    SECOND,
    SPANS,
    WIDTH_S,
    Window,
    check,
    merged,
    percentiles,
    seconds_of,
)


def counts_of(values: np.ndarray) -> dict[int, int]:
    histogram = Histogram(VALUE_MAX, SUB_BITS)
    histogram.record_many(np.ascontiguousarray(values, np.int64))
    return {first + last: count for first, last, count in histogram.buckets()}


RANDOM = np.random.default_rng(7)
DISTRIBUTIONS = {
    "uniform": RANDOM.uniform(1_000, 1_000_000, 200_000),
    "normal": RANDOM.normal(500_000, 50_000, 200_000).clip(1),
    "exponential": RANDOM.exponential(200_000, 200_000) + 500,
    "lognormal": RANDOM.lognormal(11, 1, 200_000) + 1,
    "gamma": RANDOM.gamma(2, 100_000, 200_000) + 1_000,
    "weibull": RANDOM.weibull(0.8, 200_000) * 300_000 + 1_000,
    "pareto": (RANDOM.pareto(2, 200_000) + 1) * 10_000,
    "two peaks": np.concatenate([RANDOM.normal(20_000, 500, 150_000), RANDOM.normal(9_000_000, 9_000, 50_000)]),
    "constant": np.full(1_000, 123_457.0),
    "beta": RANDOM.beta(2, 5, 200_000) * 1e9 + 1_000,
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_percentiles_are_within_a_percent_of_numpy(name: str) -> None:
    values = DISTRIBUTIONS[name].astype(np.int64)
    exact = np.percentile(values, PERCENTS, method="inverted_cdf")
    histogram = Histogram(VALUE_MAX, SUB_BITS)
    histogram.record_many(values)
    assert histogram.percentiles(PERCENTS) == pytest.approx(exact, rel=0.01)
    window = Window()
    for second, part in enumerate(np.array_split(values, 50)):
        window.put(second, counts_of(part))
    for span in (MINUTE, FIVE_MINUTES, HOUR):
        assert percentiles(window.counts(span, 49)) == pytest.approx(exact, rel=0.01)
    assert percentiles(window.counts(SECOND, 49)) == pytest.approx(
        np.percentile(np.array_split(values, 50)[-1], PERCENTS, method="inverted_cdf"), rel=0.01
    )


def test_of_nothing_every_percentile_is_zero() -> None:
    assert percentiles({}) == [0.0] * 4
    assert percentiles({7: 1}, (0.0, 100.0)) == [3.5, 3.5]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_a_walk_beside_a_list_of_all_values(seed: int, steps: int) -> None:
    source = random.Random(seed)
    window, kept = Window(), []
    second = 0
    for _ in range(steps):
        second += source.choice((1, 1, 1, 2, 30, 70, 400))
        fresh = {source.randrange(10): source.randrange(1, 5) for _ in range(source.randrange(1, 4))}
        kept.append((second, fresh))
        window.put(second, fresh)
        check(window)
        second += source.choice((0, 0, 1, 90))
        for span in SPANS:
            width = WIDTH_S.get(span, 1)
            slots = 1 if span == SECOND else 60
            inside = [fresh for at, fresh in kept if at // width > second // width - slots]
            assert window.counts(span, second) == merged(inside), span
        check(window)


def test_a_span_says_how_many_seconds_it_covers() -> None:
    assert [seconds_of(span, 0) for span in SPANS] == [1, 1, 1, 1]
    assert [seconds_of(span, 10) for span in SPANS] == [1, 11, 11, 11]
    assert [seconds_of(span, 7199) for span in SPANS] == [1, 60, 300, 3600]
    assert [seconds_of(span, 7200) for span in SPANS] == [1, 60, 296, 3541]
