"""Failures by address: how many are let pass, and for how long they count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.auth import failure
from erlmcp.auth.failure import Failures, peer_of


def test_so_many_failures_are_let_pass_and_then_one_has_to_wait() -> None:
    failures = Failures(3, 60.0)
    assert [failures.note("a", 0.0) for _ in range(3)] == [False, False, True]
    assert failures.wait_s("a", 0.0) == pytest.approx(20.0)
    assert failures.wait_s("b", 0.0) == 0.0
    assert failures.wait_s("a", 20.0) == pytest.approx(0.0)
    failures.note("a", 20.1)
    assert failures.wait_s("a", 20.1) > 19


def test_after_the_span_all_is_forgotten() -> None:
    failures = Failures(3, 60.0)
    for _ in range(3):
        failures.note("a", 0.0)
    assert failures.wait_s("a", 61.0) == 0.0
    assert [failures.note("a", 61.0) for _ in range(3)] == [False, False, True]


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=60))
def test_no_more_than_so_many_tries_pass_within_a_span(steps: list[tuple[float, bool]]) -> None:
    """Of one who tries whenever he may: at most twice the count within any span (a full bucket, and what runs out)."""
    failures, now, tries = Failures(5, 30.0), 0.0, []
    for pause, is_wrong in steps:
        now += pause
        if is_wrong and failures.wait_s("a", now) == 0.0:
            failures.note("a", now)
            tries.append(now)
    for first in tries:
        assert sum(first <= each <= first + 30.0 for each in tries) <= 10


def test_few_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "PEER_COUNT_MAX", 10)
    failures = Failures(1, 60.0)
    for number in range(100):
        failures.note(str(number), 0.0)
    assert len(failures) == 10
    assert failures.wait_s("99", 0.0) > 0


def test_nobody_in_particular_is_never_counted() -> None:
    failures = Failures(1, 60.0)
    assert not failures.note("", 0.0)
    assert failures.wait_s("", 0.0) == 0.0


@pytest.mark.parametrize(
    ("client", "peer"),
    [
        (("192.0.2.7", 5000), "192.0.2.7"),
        (["192.0.2.7", 5000], "192.0.2.7"),
        (("::ffff:192.0.2.7", 5000, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2::1", 5000, 0, 0), "20010db800010002"),
        (("2001:db8:1:2:ffff::9", 5000, 0, 0), "20010db800010002"),
        (("2001:db8:1:3::1", 5000, 0, 0), "20010db800010003"),
        (("fe80::1%eth0", 5000, 0, 2), "fe80000000000000"),
        (("no:address", 1), "no:address"),
        ("", ""), (None, ""), ((), ""), ((None, 1), ""), ("/run/socket", ""),
    ],
)  # fmt: skip
def test_an_address_is_counted_as_what_one_customer_has(client: object, peer: str) -> None:
    assert peer_of(client) == peer
