"""When a breaker opens and closes, how long it stays open, and what it tells, with a clock and a chance of our own."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant
from hypothesis.stateful import rule as step

from erlmcp.policy.breaker import NEVER_NS, SECOND_NS, Breaker, BreakerEvent, BreakerRule

S = SECOND_NS


def make(chance: float = 0.0, **more: object) -> tuple[Breaker, list[BreakerEvent]]:
    """A breaker that opens after three failures in a row, and what it tells."""
    told: list[BreakerEvent] = []
    given = {"failures_in_row": 3, "probe_successes": 1, "outcomes_min": 1000, **more}
    rule = BreakerRule(**given)  # type: ignore[arg-type]
    return Breaker("shop", rule, chance=lambda: chance, listener=told.append), told


def fail(breaker: Breaker, now_ns: int, times: int = 3) -> None:
    for _ in range(times):
        breaker.record(now_ns, False, ticket=breaker.allow(now_ns))


def probe(breaker: Breaker, now_ns: int, is_ok: bool) -> None:
    ticket = breaker.allow(now_ns)
    assert ticket, "the probe was not let through"
    breaker.record(now_ns, is_ok, ticket=ticket)


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    breaker, _ = make()
    for _ in range(5):
        fail(breaker, S, times=2)
        probe(breaker, S, True)
    assert breaker.state == "closed"
    fail(breaker, S)
    assert (breaker.state, breaker.allow(S)) == ("open", 0)


def test_a_share_of_failures_and_a_share_of_slow_calls_open_it() -> None:
    breaker, _ = make(failures_in_row=0, outcomes_min=10, failure_rate=0.3)
    for number in range(10):
        breaker.record(S, number % 4 != 0, ticket=breaker.allow(S))
    assert breaker.state == "open"
    slow, _ = make(failures_in_row=0, outcomes_min=10, failure_rate=0.0, slow_rate=0.5, slow_s=0.1)
    for number in range(9):
        slow.record(S, True, S // 5 if number % 2 else S // 20, slow.allow(S))
    assert slow.state == "closed"
    slow.record(S, True, S // 10, slow.allow(S))
    assert slow.state == "open"


def test_the_open_time_doubles_with_each_failed_probe_up_to_its_maximum() -> None:
    breaker, told = make(open_s=1, open_s_max=5)
    fail(breaker, 0)
    now_ns = 0
    for seconds in (1, 2, 4, 5, 5):
        assert not breaker.allow(now_ns + seconds * S - 1)
        assert breaker.wait_ns(now_ns + seconds * S - 1) == 1
        now_ns += seconds * S
        probe(breaker, now_ns, False)
    assert [event.open_s for event in told if event.after == "open"] == [1, 2, 4, 5, 5, 5]


def test_jitter_shortens_the_open_time_by_at_most_its_share() -> None:
    breaker, told = make(chance=1.0, open_s=2, jitter=0.25)
    fail(breaker, 0)
    assert told[0].open_s == 1.5
    assert not breaker.allow(3 * S // 2 - 1)
    assert breaker.allow(3 * S // 2)


def test_the_first_open_time_goes_by_the_last_outages() -> None:
    breaker, told = make(open_s=1, open_s_max=60)
    # It recovers after 10 seconds, each time.
    now_ns, lengths = 0, []
    for _ in range(8):
        fail(breaker, now_ns)
        began_ns = now_ns
        while breaker.state != "closed":
            now_ns += breaker.wait_ns(now_ns)
            probe(breaker, now_ns, now_ns - began_ns >= 10 * S)
        lengths.append((now_ns - began_ns) / S)
        now_ns += 20 * S
    assert lengths[0] == 15  # 1 + 2 + 4 + 8
    assert max(lengths[3:]) < 12.5
    probes = sum(event.after == "half-open" for event in told)
    # Four probes for the first outage, and hardly more than two for each that follows.
    assert probes <= 4 + 7 * 3


def test_outages_of_long_ago_are_forgotten() -> None:
    breaker, told = make(open_s=1, memory_s=60)
    fail(breaker, 0)
    for now_s, is_ok in ((1, False), (3, False), (7, True)):
        probe(breaker, now_s * S, is_ok)
    fail(breaker, 30 * S)
    assert told[-1].open_s == pytest.approx(0.8 * 7)
    probe(breaker, 36 * S, True)
    fail(breaker, 200 * S)  # This one was drawn while the last was known ...
    probe(breaker, 206 * S, True)
    fail(breaker, 1000 * S)
    probe(breaker, 1010 * S, False)
    probe(breaker, 1020 * S, True)  # ... and all of them are older than a minute here.
    assert breaker.window.open_ns == int(0.8 * 20 * S)


def test_it_needs_as_many_good_probes_as_it_was_told_and_lets_no_more_through_at_a_time() -> None:
    breaker, told = make(probe_max=2, probe_successes=3)
    fail(breaker, 0)
    tickets = [breaker.allow(S) for _ in range(5)]
    assert [bool(ticket) for ticket in tickets] == [True, True, False, False, False]
    breaker.record(S, True, ticket=tickets[0])
    breaker.record(S, True, ticket=tickets[1])
    assert breaker.state == "half-open"
    assert breaker.wait_ns(S) == S
    probe(breaker, S, True)
    assert [(event.before, event.after) for event in told] == [
        ("closed", "open"),
        ("open", "half-open"),
        ("half-open", "closed"),
    ]


def test_a_cancelled_probe_gives_its_place_back() -> None:
    breaker, _ = make()
    fail(breaker, 0)
    breaker.cancel(breaker.allow(S))
    assert breaker.allow(S)


def test_forced_open_it_stays_open_and_forced_closed_it_stays_closed() -> None:
    breaker, told = make()
    breaker.force_open(0)
    assert not breaker.allow(NEVER_NS - 1)
    assert breaker.forced == "open"
    breaker, told = make()
    breaker.force_closed(0)
    fail(breaker, 0, times=50)
    assert (breaker.state, told) == ("closed", [])
    breaker.release(0)
    fail(breaker, 0)
    assert breaker.state == "open"
    breaker.force_closed(0)
    assert breaker.allow(0)
    breaker.release(0)
    assert (breaker.forced, breaker.state) == (None, "closed")
    breaker.force_open(0)
    breaker.release(50 * S)
    assert breaker.window.open_ns == S  # what lasted by hand is nothing to learn from


def test_what_is_told_says_why() -> None:
    breaker, told = make(failures_in_row=0, outcomes_min=4, failure_rate=0.5)
    for is_ok in (True, True, False, False):
        breaker.record(7, is_ok, ticket=breaker.allow(7))
    assert told == [BreakerEvent("shop", "closed", "open", 7, 1.0, 0.5, 0.0)]


@pytest.mark.parametrize(
    "given",
    [
        {"open_s": 0},
        {"open_s": 2, "open_s_max": 1},
        {"growth": 0.5},
        {"jitter": 1},
        {"slow_rate": 0.5},
        {"slow_s": 1.0},
        {"failure_rate": 0, "failures_in_row": 0},
    ],
    ids=str,
)
def test_a_rule_that_makes_no_sense_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"wanted|go together|give one"):
        BreakerRule(**given)  # type: ignore[arg-type]


class Machine(RuleBasedStateMachine):
    """Whatever is done in whatever order, the states follow each other as they may."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[BreakerEvent] = []
        self.chance = 0.5
        self.now_ns = 0
        self.tickets: list[int] = []
        self.breaker = Breaker(
            "any",
            BreakerRule(
                failures_in_row=3,
                outcomes_min=5,
                window_s=4,
                open_s=1,
                open_s_max=10,
                probe_max=2,
                probe_successes=2,
                slow_rate=0.8,
                slow_s=1,
            ),
            chance=lambda: self.chance,
            listener=self.told.append,
        )

    @step(passed_ns=st.integers(0, 12 * S), chance=st.floats(0, 1))
    def pass_time(self, passed_ns: int, chance: float) -> None:
        self.now_ns += passed_ns
        self.chance = chance

    @step()
    def allow(self) -> None:
        breaker = self.breaker
        before, until_ns = breaker.state, breaker.window.open_until_ns
        ticket = breaker.allow(self.now_ns)
        if before == "closed":
            assert ticket
        elif before == "open":
            assert bool(ticket) == (self.now_ns >= until_ns)
        if ticket:
            self.tickets.append(ticket)

    @step(data=st.data(), is_ok=st.booleans(), duration_ns=st.integers(0, 2 * S))
    def record(self, data: st.DataObject, is_ok: bool, duration_ns: int) -> None:
        if self.tickets:
            ticket = self.tickets.pop(data.draw(st.integers(0, len(self.tickets) - 1)))
            self.breaker.record(self.now_ns, is_ok, duration_ns, ticket)

    @step()
    def cancel(self) -> None:
        if self.tickets:
            self.breaker.cancel(self.tickets.pop())

    @step(how=st.sampled_from(["force_open", "force_closed", "release"]))
    def force(self, how: str) -> None:
        getattr(self.breaker, how)(self.now_ns)

    @invariant()
    def is_sound(self) -> None:
        breaker = self.breaker
        breaker.window.check()
        assert breaker.window.probe_count <= 2
        assert breaker.forced is None or breaker.state == breaker.forced
        assert 0.8 * S <= breaker.window.open_ns <= 10 * S or breaker.forced == "open"
        legal = {("closed", "open"), ("open", "half-open"), ("half-open", "open"), ("half-open", "closed")}
        steps = [(event.before, event.after) for event in self.told]
        assert set(steps) <= legal | {("open", "closed")}  # the last one by hand
        assert all(one[1] == next_one[0] for one, next_one in pairwise(steps))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
