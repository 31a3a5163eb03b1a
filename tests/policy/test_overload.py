"""The level of overload: what raises it, what lowers it, and that it does not flap."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.policy.overload import (
    BULK,
    BUSY,
    CRITICAL,
    MARKS,
    MS_NS,
    NONE,
    NORMAL,
    SHEDDING,
    SHEDDING_BULK,
    Overload,
)

DELAY_NS = 100 * MS_NS


def watch(overload: Overload, delays_ms: list[float], now_ns: int = 0, step_ns: int = 10 * MS_NS) -> list[int]:
    """The levels that a run of delays, 10 ms apart, leads to."""
    return [overload.observe(now_ns + step * step_ns, int(delay * MS_NS)) for step, delay in enumerate(delays_ms)]


def test_one_peak_refuses_nobody() -> None:
    assert set(watch(Overload(DELAY_NS), [0, 0, 5000, 0, 0, 5000, 5000, 5000, 0, 0])) == {NONE}


def test_pressure_that_lasts_raises_the_level_step_by_step_and_its_end_lowers_it_so() -> None:
    overload = Overload(DELAY_NS)
    up = watch(overload, [200] * 60)
    assert up[-1] == SHEDDING
    assert [up.index(level) for level in (BUSY, SHEDDING_BULK, SHEDDING)] == [10, 20, 30]
    down = watch(overload, [0] * 200, now_ns=10_000 * MS_NS)
    assert down[-1] == NONE
    assert down == sorted(down, reverse=True)
    assert down.count(SHEDDING) == 50


@pytest.mark.parametrize(("share", "level"), [(0.4, NONE), (0.6, BUSY), (0.9, SHEDDING_BULK), (1.5, SHEDDING)])
def test_each_input_alone_leads_to_the_level_of_its_share(share: float, level: int) -> None:
    for inputs in ((share, 0.0, 0.0), (0.0, share, 0.0), (0.0, 0.0, share)):
        overload = Overload(DELAY_NS)
        for step in range(100):
            overload.observe(step * 10 * MS_NS, int(inputs[0] * DELAY_NS), inputs[1], inputs[2])
        assert overload.level == level


def test_a_load_that_swings_around_a_mark_does_not_make_the_level_swing() -> None:
    overload = Overload(DELAY_NS)
    watch(overload, [80] * 40)
    assert overload.level == SHEDDING_BULK
    source = random.Random(1)
    swings = watch(overload, [source.uniform(61, 99) for _ in range(2000)], now_ns=1000 * MS_NS)
    assert set(swings) == {SHEDDING_BULK}


def test_what_is_critical_is_never_refused_and_bulk_before_normal() -> None:
    overload = Overload(DELAY_NS, rise_ns=0)
    refused = []
    for _ in range(4):
        refused.append({lane for lane in (CRITICAL, NORMAL, BULK) if lane >= overload.refused_from})
        overload.observe(0, 10 * DELAY_NS)
    assert refused == [set(), set(), {BULK}, {NORMAL, BULK}]


def test_calls_are_admitted_again_as_soon_as_the_line_is_short_whatever_the_level() -> None:
    overload = Overload(DELAY_NS)
    watch(overload, [200] * 60)
    found = []
    for step, delay in enumerate((90, 70, 50, 90)):
        overload.observe(10_000 * MS_NS + step, delay * MS_NS)
        found.append((overload.level, overload.refused_from))
    assert found == [(SHEDDING, NORMAL), (SHEDDING, BULK), (SHEDDING, BULK + 1), (SHEDDING, NORMAL)]


@given(st.lists(st.tuples(st.integers(0, 200 * MS_NS), st.integers(0, 300 * MS_NS)), max_size=100))
def test_a_level_moves_by_one_at_a_time_and_never_against_the_pressure(steps: list[tuple[int, int]]) -> None:
    overload = Overload(DELAY_NS)
    now_ns, before = 0, 0
    for passed, delay in steps:
        now_ns += passed
        level = overload.observe(now_ns, delay)
        assert NONE <= level <= SHEDDING
        assert abs(level - before) <= 1
        if level > before:
            assert overload.pressure >= MARKS[level]
        if level < before:
            assert overload.pressure < MARKS[before]
        before = level


@pytest.mark.parametrize("wrong", [{"delay_max_ns": 0}, {"rise_ns": -1}, {"fall_ns": -1}, {"relief": 0.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="wanted"):
        Overload(**{"delay_max_ns": 1, **wrong})  # type: ignore[arg-type]
