"""The room ``gate``: the window and the states of a breaker."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from erlmcp._core import gate as core
from erlmcp._core import memory
from erlmcp._model import gate as model

SECOND = 1_000_000_000


def opened(room, **how):
    """A breaker that has just opened, at 1 s."""
    breaker = room.BreakerWindow(open_failures_in_row=1, **how)
    breaker.now_ns = SECOND
    assert breaker.record(False)
    assert breaker.state == "open"
    return breaker


def half_opened(room, **how):
    breaker = opened(room, **how)
    breaker.now_ns += breaker.open_ns
    return breaker


# -------------------------------------------------------------------------------------------------------- window
def test_outcomes_are_counted_by_kind(impl):
    breaker = impl("gate").BreakerWindow(outcomes_min=100, slow_ns=1000)
    for is_ok, duration in ((True, 10), (True, 999), (False, 10), (True, 1000), (False, 5000)):
        assert breaker.record(is_ok, duration) is False
    assert (breaker.outcome_count, breaker.success_count, breaker.failure_count, breaker.slow_count) == (5, 3, 2, 2)
    assert (breaker.failure_rate, breaker.slow_rate, breaker.failures_in_row) == (0.4, 0.4, 1)
    breaker.record(True)
    assert breaker.failures_in_row == 0
    assert breaker.state == "closed"
    breaker.check()


def test_an_empty_window_has_no_rates(impl):
    breaker = impl("gate").BreakerWindow()
    assert (breaker.outcome_count, breaker.failure_rate, breaker.slow_rate) == (0, 0.0, 0.0)
    assert (breaker.state, breaker.open_until_ns, breaker.probe_count) == ("closed", 0, 0)


def test_outcomes_leave_the_window_with_their_bucket(impl):
    breaker = impl("gate").BreakerWindow(10 * SECOND, 10, outcomes_min=1000)
    for second in range(30):
        breaker.now_ns = second * SECOND
        breaker.record(second % 2 == 0)
        assert breaker.outcome_count == min(second + 1, 10)
        assert breaker.failure_count == min((second + 1) // 2, 5)
    breaker.now_ns = 39 * SECOND - 1
    assert breaker.outcome_count == 1
    breaker.now_ns += 1
    assert breaker.outcome_count == 0
    breaker.check()


def test_at_most_the_last_outcomes_count(impl):
    breaker = impl("gate").BreakerWindow(10 * SECOND, 5, 20, outcomes_min=1000)
    for number in range(100):
        breaker.record(number < 50)
        assert number < 17 or 17 <= breaker.outcome_count <= 20
    assert breaker.failure_count == breaker.outcome_count
    exact = impl("gate").BreakerWindow(10 * SECOND, 7, 7, outcomes_min=1000)
    for number in range(100):
        exact.record(True)
        assert exact.outcome_count == min(number + 1, 7)
    breaker.check()


# ------------------------------------------------------------------------------------------------- closed to open
def test_it_opens_at_the_failure_rate_with_enough_outcomes(impl):
    breaker = impl("gate").BreakerWindow(outcomes_min=10, open_failure_rate=0.5)
    assert [breaker.record(number % 2 == 0) for number in range(10)] == [False] * 9 + [True]
    assert (breaker.state, breaker.opened_count) == ("open", 1)
    assert breaker.open_until_ns == breaker.open_ns


def test_it_stays_closed_below_the_failure_rate(impl):
    breaker = impl("gate").BreakerWindow(outcomes_min=10, open_failure_rate=0.5)
    for number in range(1000):
        assert breaker.allow()
        assert not breaker.record(number % 9 < 5)
    assert breaker.state == "closed"


def test_it_opens_after_failures_in_a_row(impl):
    breaker = impl("gate").BreakerWindow(open_failures_in_row=3, outcomes_min=1000)
    assert [breaker.record(ok) for ok in (False, False, True, False, False, False)] == [False] * 5 + [True]


def test_it_opens_when_too_many_calls_are_slow(impl):
    breaker = impl("gate").BreakerWindow(slow_ns=100, open_slow_rate=0.8, outcomes_min=5)
    assert [breaker.record(True, 50 + 50 * (number > 0)) for number in range(5)] == [False] * 4 + [True]
    never = impl("gate").BreakerWindow(slow_ns=100, outcomes_min=5, open_failure_rate=0.0)
    assert not any(never.record(False, 500) for _ in range(100))


# --------------------------------------------------------------------------------------------------- open, probes
def test_an_open_breaker_lets_nothing_through_until_its_time_is_over(impl):
    breaker = opened(impl("gate"), open_ns=SECOND)
    breaker.now_ns = 2 * SECOND - 1
    assert [breaker.allow() for _ in range(3)] == [0, 0, 0]
    assert breaker.refused_count == 3
    breaker.now_ns = 2 * SECOND
    assert breaker.state == "open"
    assert breaker.allow() == breaker.ticket
    assert (breaker.state, breaker.probe_count) == ("half-open", 1)
    assert breaker.allow() == 0


def test_a_probe_that_succeeds_closes_it(impl):
    breaker = half_opened(impl("gate"))
    assert breaker.allow()
    assert breaker.record(True) is True
    assert (breaker.state, breaker.outcome_count, breaker.failures_in_row) == ("closed", 0, 0)
    assert breaker.allow()
    breaker.check()


def test_a_probe_that_fails_opens_it_again(impl):
    breaker = half_opened(impl("gate"), open_ns=SECOND)
    assert breaker.allow()
    breaker.change(open_ns=5 * SECOND)
    assert breaker.record(False) is True
    assert (breaker.state, breaker.opened_count, breaker.open_until_ns) == ("open", 2, 7 * SECOND)


def test_a_slow_probe_is_no_success_where_slow_calls_open_it(impl):
    for rate, state in ((0.5, "open"), (0.0, "closed")):
        breaker = half_opened(impl("gate"), slow_ns=10, open_slow_rate=rate)
        breaker.allow()
        assert breaker.record(True, 10)
        assert breaker.state == state


def test_several_probes_may_be_asked_for(impl):
    breaker = half_opened(impl("gate"), probe_max=2, probe_successes=3)
    assert [bool(breaker.allow()) for _ in range(3)] == [True, True, False]
    assert not breaker.record(True)
    assert breaker.allow()
    assert not breaker.record(True)
    assert breaker.probe_count == 1
    assert breaker.record(True)
    assert breaker.state == "closed"


def test_a_call_without_an_outcome_gives_its_probe_back(impl):
    breaker = half_opened(impl("gate"))
    ticket = breaker.allow()
    assert breaker.allow() == 0
    breaker.cancel(ticket)
    assert breaker.probe_count == 0
    assert breaker.allow() == ticket
    breaker.check()


def test_probes_that_never_come_back_do_not_block_it_for_ever(impl):
    breaker = half_opened(impl("gate"), open_ns=SECOND)
    lost = breaker.allow()
    breaker.now_ns += SECOND - 1
    assert breaker.allow() == 0
    breaker.now_ns += 1
    ticket = breaker.allow()
    assert ticket not in (0, lost)
    assert not breaker.record(False, 0, lost)
    assert (breaker.state, breaker.late_count) == ("half-open", 1)
    assert breaker.record(True, 0, ticket)
    assert breaker.state == "closed"


def test_late_outcomes_change_nothing(impl):
    breaker = impl("gate").BreakerWindow(open_failures_in_row=1, open_ns=SECOND)
    early = breaker.allow()
    breaker.record(False)
    assert not breaker.record(True, 0, early)
    breaker.now_ns = SECOND
    assert breaker.allow()
    assert not breaker.record(False, 0, early)
    breaker.cancel(early)
    assert (breaker.state, breaker.probe_count, breaker.late_count) == ("half-open", 1, 3)
    assert breaker.record(True)
    assert not breaker.record(False, 0, early)
    assert (breaker.state, breaker.outcome_count) == ("closed", 0)


def test_tickets_are_small_and_differ_between_neighbouring_states(impl):
    breaker = impl("gate").BreakerWindow()
    seen = []
    for _ in range(600):
        seen.append(breaker.ticket)
        breaker.trip()
        breaker.reset()
    assert set(seen) <= set(range(1, 256))
    assert all(one != other for one, other in itertools.pairwise(seen))


# ----------------------------------------------------------------------------------------------------- by policy
def test_it_can_be_forced(impl):
    breaker = impl("gate").BreakerWindow(open_ns=SECOND)
    breaker.record(False)
    breaker.trip()
    assert (breaker.state, breaker.allow(), breaker.open_until_ns) == ("open", 0, SECOND)
    breaker.open_until_ns = 10 * SECOND
    breaker.now_ns = 10 * SECOND - 1
    assert breaker.allow() == 0
    breaker.reset()
    assert breaker.allow()
    assert (breaker.state, breaker.outcome_count, breaker.open_until_ns) == ("closed", 0, 0)
    with pytest.raises(ValueError, match="the breaker is closed"):
        breaker.open_until_ns = 5
    breaker.trip()
    for wrong in (-1, 1 << 62):
        with pytest.raises(ValueError, match="open_until_ns is from 0 to"):
            breaker.open_until_ns = wrong


def test_settings_may_change_at_any_time(impl):
    breaker = impl("gate").BreakerWindow()
    breaker.change(outcomes_min=2, open_failure_rate=1)
    assert (breaker.outcomes_min, breaker.open_failure_rate, breaker.probe_max) == (2, 1.0, 1)
    assert [breaker.record(False), breaker.record(False)] == [False, True]
    with pytest.raises(ValueError, match=r"probe_max is from 1 to 2147483647, got 0"):
        breaker.change(outcomes_min=7, probe_max=0)
    assert breaker.outcomes_min == 2
    with pytest.raises(TypeError, match="no setting 'windows'"):
        breaker.change(windows=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket_count": 0},
        {"bucket_count": 1001},
        {"window_ns": 9},
        {"window_ns": 1 << 62},
        {"outcomes_max": 9},
        {"outcomes_max": -1},
        {"outcomes_min": 0},
        {"outcomes_min": 2.5},
        {"open_failure_rate": 1.1},
        {"open_failure_rate": float("nan")},
        {"open_slow_rate": -0.1},
        {"open_failures_in_row": -1},
        {"slow_ns": -1},
        {"open_ns": 0},
        {"probe_successes": 1 << 40},
    ],
)
def test_settings_out_of_range_are_refused(impl, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        impl("gate").BreakerWindow(**wrong)


def test_an_opening_near_the_end_of_time_does_not_overflow(impl):
    breaker = impl("gate").BreakerWindow(open_ns=(1 << 62) - 1)
    breaker.now_ns = (1 << 62) - 1
    breaker.trip()
    assert breaker.open_until_ns == (1 << 62) - 1


def test_threads_may_share_a_breaker():
    breaker = core.BreakerWindow(outcomes_min=1 << 30)

    def work():
        for number in range(3000):
            ticket = breaker.allow()
            breaker.record(number % 3 > 0, 0, ticket)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (breaker.allowed_count, breaker.outcome_count, breaker.failure_count) == (12_000, 12_000, 4000)
    breaker.check()


# ------------------------------------------------------------------------------------------------- state machine
class BreakerMachine(RuleBasedStateMachine):
    pair: tuple[Any, ...] = ()

    @initialize(
        window_ns=st.sampled_from([7, 100, 10 * SECOND]),
        bucket_count=st.integers(1, 7),
        outcomes_max=st.sampled_from([0, 0, 7, 20]),
        how=st.fixed_dictionaries(
            {
                "outcomes_min": st.integers(1, 5),
                "open_failure_rate": st.sampled_from([0.0, 0.3, 0.5, 1.0]),
                "open_slow_rate": st.sampled_from([0.0, 0.5, 1.0]),
                "open_failures_in_row": st.sampled_from([0, 2, 5]),
                "slow_ns": st.sampled_from([0, 50]),
                "open_ns": st.sampled_from([1, 10, SECOND]),
                "probe_max": st.integers(1, 3),
                "probe_successes": st.integers(1, 3),
            }
        ),
    )
    def start(self, window_ns, bucket_count, outcomes_max, how):
        rooms = (core, model)
        self.pair = tuple(room.BreakerWindow(window_ns, bucket_count, outcomes_max, **how) for room in rooms)
        self.tickets = [0]

    def both(self, act):
        outcomes = []
        for breaker in self.pair:
            try:
                outcomes.append(act(breaker))
            except (ValueError, TypeError) as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    @rule(wait=st.integers(0, 20) | st.integers(0, 2 * SECOND))
    def pass_time(self, wait):
        self.both(lambda breaker: setattr(breaker, "now_ns", breaker.now_ns + wait))

    @rule()
    def allow(self):
        self.tickets.append(self.both(lambda breaker: breaker.allow()))

    @rule(is_ok=st.booleans(), duration=st.integers(0, 100), pick=st.integers(0, 100), count=st.integers(1, 8))
    def record(self, is_ok, duration, pick, count):
        ticket = self.tickets[-1 - pick % len(self.tickets) // 4]
        for _ in range(count):
            self.both(lambda breaker: breaker.record(is_ok, duration, ticket))

    @rule(pick=st.integers(0, 4))
    def cancel(self, pick):
        self.both(lambda breaker: breaker.cancel(self.tickets[-1 - pick % len(self.tickets)]))

    @rule(name=st.sampled_from(sorted(model.SETTINGS)), value=st.integers(-1, 5) | st.floats())
    def change(self, name, value):
        self.both(lambda breaker: breaker.change(**{name: value}))

    @rule(act=st.sampled_from(["trip", "reset"]))
    def force(self, act):
        self.both(lambda breaker: getattr(breaker, act)())

    @rule(wait=st.integers(-5, 100))
    def hold_open(self, wait):
        self.both(lambda breaker: setattr(breaker, "open_until_ns", breaker.now_ns + wait))

    @invariant()
    def agree(self):
        for breaker in self.pair:
            breaker.check()
        if self.pair:
            self.both(lambda b: (b.state, b.ticket, b.probe_count, b.failures_in_row, b.open_until_ns))
            self.both(lambda b: (b.outcome_count, b.success_count, b.failure_rate, b.slow_rate, b.slow_count))
            self.both(lambda b: (b.allowed_count, b.refused_count, b.late_count, b.opened_count))
            self.both(lambda b: [getattr(b, name) for name in model.SETTINGS])


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together():
    how = settings(max_examples=150, stateful_step_count=120, deadline=None)
    run_state_machine_as_test(BreakerMachine, settings=how)


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
def test_a_breaker_without_memory_is_not_made():
    before = memory.live_blocks()
    memory.fail_after(1)
    try:
        with pytest.raises(MemoryError):
            core.BreakerWindow()
    finally:
        memory.fail_never()
    breaker = core.BreakerWindow()
    assert memory.live_blocks() == before + 1
    del breaker
    assert memory.live_blocks() == before
