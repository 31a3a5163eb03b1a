"""Places and the line before them: bounded, first come first served, nobody passes."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from erlmcp.policy.bulkhead import SECOND_NS, Bulkhead, BulkheadRule


def test_no_more_have_a_place_than_there_are() -> None:
    bulkhead = Bulkhead(BulkheadRule(2))
    assert [bulkhead.enter() for _ in range(3)] == [True, True, False]
    assert not bulkhead.join("third")
    assert bulkhead.refused_count == 1
    assert bulkhead.leave() is None
    assert bulkhead.enter()


def test_a_place_goes_to_who_waits_longest_and_nobody_passes_the_line() -> None:
    bulkhead = Bulkhead(BulkheadRule(1, queue_max=2))
    bulkhead.enter()
    assert [bulkhead.join(who) for who in ("one", "two", "three")] == [True, True, False]
    assert bulkhead.leave() == "one"
    assert (bulkhead.count, bulkhead.waiting_count) == (1, 1)
    assert not bulkhead.enter()
    assert bulkhead.abandon("two")
    assert not bulkhead.abandon("one")
    assert bulkhead.leave() is None
    assert bulkhead.enter()


def test_who_is_refused_is_told_how_long_the_line_takes() -> None:
    bulkhead = Bulkhead(BulkheadRule(2, queue_max=5))
    assert bulkhead.wait_ns(0) == SECOND_NS // 2 + 1
    for who in range(3):
        bulkhead.join(who)
    assert bulkhead.wait_ns(SECOND_NS) == 2 * SECOND_NS + 1


@pytest.mark.parametrize("given_rule", [(0,), (1, -1), (1, 0, 0)], ids=str)
def test_a_rule_that_makes_no_sense_is_refused(given_rule: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="wanted"):
        BulkheadRule(*given_rule)


class Machine(RuleBasedStateMachine):
    """Beside a list of who is in and a list of who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.bulkhead = Bulkhead(BulkheadRule(3, queue_max=4))
        self.inside = 0
        self.waiting: deque[int] = deque()
        self.next = 0

    @rule()
    def come(self) -> None:
        if self.bulkhead.enter():
            assert self.inside < 3
            assert not self.waiting
            self.inside += 1
        elif self.bulkhead.join(self.next):
            assert self.inside == 3
            self.waiting.append(self.next)
        else:
            assert len(self.waiting) == 4
        self.next += 1

    @rule()
    def go(self) -> None:
        if not self.inside:
            return
        found = self.bulkhead.leave()
        if self.waiting:
            assert found == self.waiting.popleft()
        else:
            assert found is None
            self.inside -= 1

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if self.waiting:
            who = data.draw(st.sampled_from(sorted(self.waiting)))
            assert self.bulkhead.abandon(who)
            self.waiting.remove(who)
        assert not self.bulkhead.abandon(-1)

    @invariant()
    def agree(self) -> None:
        assert (self.bulkhead.count, self.bulkhead.waiting_count) == (self.inside, len(self.waiting))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
