"""The roll-out: who gets which side, what steps it forward and back, and how often it is wrong."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.policy.rollout import BACK, DONE, EVENT_COUNT_MAX, RUNNING, SHADOW, Rollout, Rules

MS_NS = 1_000_000
SECOND_NS = 1_000_000_000


def simulate(
    seed: int,
    calls: int,
    *,
    slower: float = 1.0,
    new_errors: float = 0.01,
    old_errors: float = 0.01,
    rules: Rules | None = None,
) -> tuple[Rollout, int]:
    """Calls of many callers, with times of a long tail; the roll-out where it ended, and after how many calls."""
    chance = random.Random(seed)
    rollout = Rollout(rules, name=str(seed))
    for number in range(calls):
        is_new = rollout.is_new(b"%d" % chance.randrange(10**9))
        time_ns = int(MS_NS * math.exp(chance.gauss(0, 0.5)) * (slower if is_new else 1))
        is_error = chance.random() < (new_errors if is_new else old_errors)
        rollout.record(is_new, time_ns, is_error, number * MS_NS)
        if rollout.state in (DONE, BACK):
            return rollout, number + 1
    return rollout, calls


# -- how often it is wrong -------------------------------------------------------------------------------------------


def test_equal_sides_are_stepped_back_no_more_often_than_alpha() -> None:
    ended = [simulate(seed, 8000)[0].state for seed in range(120)]
    assert ended.count(BACK) <= 0.05 * 120


def test_equal_sides_reach_everybody() -> None:
    ended = [simulate(seed, 120_000)[0].state for seed in (1, 2, 3)]
    assert ended == [DONE] * 3


def test_a_p95_that_is_a_fifth_slower_is_caught() -> None:
    ended = [simulate(seed, 40_000, slower=1.2) for seed in range(8)]
    assert [rollout.state for rollout, _ in ended] == [BACK] * 8
    assert all("more than 5% above" in rollout.events[-1]["why"] for rollout, _ in ended)


def test_a_side_with_a_long_tail_only_is_caught_by_its_p95() -> None:
    chance = random.Random(5)
    rollout = Rollout(name="tail")
    while rollout.state == RUNNING:
        is_new = rollout.is_new(b"%d" % chance.randrange(10**9))
        tail = 3 if is_new and chance.random() < 0.1 else 1
        rollout.record(is_new, tail * chance.randrange(MS_NS, 2 * MS_NS), False, 0)
    assert rollout.state == BACK
    assert rollout.events[-1]["why"].startswith("p95 is at least")


def test_two_percent_more_errors_are_caught_within_30_000_calls() -> None:
    ended = [simulate(seed, 30_000, new_errors=0.03) for seed in range(8)]
    assert [rollout.state for rollout, _ in ended] == [BACK] * 8
    assert all("of calls fail" in rollout.events[-1]["why"] for rollout, _ in ended)


def test_a_side_that_always_fails_is_caught_at_the_first_look() -> None:
    rollout, calls = simulate(7, 10_000, new_errors=1.0)
    assert rollout.state == BACK
    assert rollout.events[-1]["new"]["calls"] == Rules().first_look
    assert calls < 1000


def test_a_side_that_is_a_little_slower_stays_for_an_operator_to_decide() -> None:
    ended = [simulate(seed, 30_000, slower=1.1)[0] for seed in (1, 2, 3)]
    assert {rollout.state for rollout in ended} == {RUNNING}
    assert {rollout.stage for rollout in ended} == {0}


def test_a_faster_side_with_fewer_errors_is_never_stepped_back() -> None:
    ended = [simulate(seed, 60_000, slower=0.7, new_errors=0.0)[0] for seed in range(4)]
    assert [rollout.state for rollout in ended] == [DONE] * 4


# -- who gets which side ---------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20), unique=True, min_size=1, max_size=50), st.text(max_size=5))
def test_a_caller_keeps_its_side_and_who_has_the_new_one_keeps_it_when_the_share_grows(
    keys: list[bytes], name: str
) -> None:
    rollout = Rollout(name=name)
    before = {key: rollout.is_new(key) for key in keys}
    assert {key: rollout.is_new(key) for key in keys} == before
    rollout.advance(0)
    after = {key: rollout.is_new(key) for key in keys}
    assert all(after[key] for key in keys if before[key])
    rollout.advance(0)
    assert all(rollout.is_new(key) for key in keys)
    rollout.back(0)
    assert not any(rollout.is_new(key) for key in keys)


def test_the_share_of_the_keys_is_the_share_of_the_stage_and_names_deal_anew() -> None:
    one, two = Rollout(name="one"), Rollout(name="two")
    keys = [b"caller-%d" % number for number in range(20_000)]
    of_one, of_two = ({key for key in keys if each.is_new(key)} for each in (one, two))
    assert 1800 < len(of_one) < 2200
    assert 100 < len(of_one & of_two) < 300


def test_calls_without_a_key_are_dealt_evenly() -> None:
    rollout = Rollout(Rules(shares=(0.25, 1.0)))
    assert [rollout.is_new(None) for _ in range(8)] == [False, False, False, True] * 2


# -- the shadow ------------------------------------------------------------------------------------------------------


def test_in_the_shadow_nobody_gets_the_new_side_and_a_share_of_calls_is_copied() -> None:
    rollout = Rollout(Rules(shadow_share=0.25, shadow_count=3), has_shadow=True)
    assert rollout.state == SHADOW
    assert not any(rollout.is_new(b"%d" % number) for number in range(100))
    assert [rollout.wants_copy() for _ in range(8)] == [False, False, False, True] * 2
    rollout.compared(True, "", 1)
    rollout.compared(True, "", 2)
    assert rollout.state == SHADOW
    rollout.compared(True, "", 3)
    assert (rollout.state, rollout.stage, rollout.share) == (RUNNING, 0, 0.1)
    assert any(rollout.wants_copy() for _ in range(4))


def test_a_wrong_answer_steps_back_at_once_from_the_shadow_and_from_a_stage() -> None:
    for is_running in (False, True):
        rollout = Rollout(has_shadow=True)
        if is_running:
            rollout.advance(0)
        rollout.compared(True, "", 1)
        rollout.compared(False, "3 instead of 4", 2)
        assert rollout.state == BACK
        assert "3 instead of 4" in rollout.events[-1]["why"]
        assert rollout.status()["first_wrong"] == "3 instead of 4"
        assert not rollout.wants_copy()
        rollout.compared(False, "5 instead of 6", 3)
        assert rollout.wrong_count == 1


def test_as_many_wrong_answers_as_are_allowed_are_borne() -> None:
    rollout = Rollout(Rules(wrong_max=2, shadow_count=10), has_shadow=True)
    for number in range(2):
        rollout.compared(False, "differs", number)
    assert rollout.state == SHADOW
    rollout.compared(False, "differs", 3)
    assert rollout.state == BACK


# -- steps -----------------------------------------------------------------------------------------------------------


def test_an_operator_steps_through_all_stages_and_back_to_nobody() -> None:
    rollout = Rollout(has_shadow=True)
    shares = []
    for _ in range(4):
        rollout.advance(5)
        shares.append(rollout.share)
    assert shares == [0.1, 0.5, 1.0, 1.0]
    assert rollout.state == DONE
    rollout.back(6)
    rollout.back(7)
    assert (rollout.state, rollout.share) == (BACK, 0.0)
    rollout.advance(8)
    assert (rollout.state, rollout.share) == (RUNNING, 0.1)
    assert [event["event"] for event in rollout.events] == ["begin", *["forward"] * 3, "back", "forward"]
    assert {event["why"] for event in list(rollout.events)[1:]} == {"the operator"}


def test_a_stage_lasts_as_long_as_it_is_to_whatever_the_evidence() -> None:
    rules = Rules(stage_s_min=10, shares=(0.5, 1.0), margin=0.5)

    def run(step_ns: int) -> Rollout:
        rollout = Rollout(rules)
        chance = random.Random(1)
        for number in range(20_000):
            is_new = rollout.is_new(b"%d" % number)
            rollout.record(is_new, chance.randrange(MS_NS, 2 * MS_NS), False, number * step_ns)
            if rollout.state == DONE:
                break
        return rollout

    assert run(step_ns=SECOND_NS // 2500).state == RUNNING  # 8 seconds
    assert run(step_ns=SECOND_NS // 250).state == DONE


def test_evidence_of_one_stage_is_not_that_of_the_next() -> None:
    rollout = Rollout()
    for number in range(40):
        rollout.record(True, MS_NS, True, number)
        rollout.record(False, MS_NS, False, number)
    rollout.advance(50)
    assert (rollout.new.count, rollout.old.count) == (0, 0)
    assert rollout.events[-1]["new"]["errors"] == 40


def test_many_answers_of_one_read_count_each_and_their_time_once() -> None:
    rollout = Rollout()
    rollout.record_many(False, 30, 2, MS_NS, 0)
    rollout.record_many(False, 5, 0, None, 0)
    assert (rollout.old.count, rollout.old.error_count, rollout.old.times.count) == (35, 2, 1)
    rollout.record_many(True, Rules().first_look, Rules().first_look, MS_NS, 0)
    assert rollout.state == BACK


def test_without_calls_of_the_old_side_nothing_is_judged() -> None:
    rollout = Rollout()
    for number in range(500):
        rollout.record(True, MS_NS, True, number)
    assert rollout.state == RUNNING
    assert rollout.judged == {}


def test_the_status_is_json_whatever_happened_and_the_events_are_bounded() -> None:
    rollout, _ = simulate(3, 3000)
    for number in range(2 * EVENT_COUNT_MAX):
        rollout.advance(number)
        rollout.back(number)
    status: dict[str, Any] = json.loads(json.dumps(rollout.status(), allow_nan=False))
    assert len(status["events"]) == EVENT_COUNT_MAX
    assert status["state"] == BACK
    assert status["old"]["calls"] == 0


@pytest.mark.parametrize(
    "given",
    [
        {"shares": ()},
        {"shares": (0.5,)},
        {"shares": (0.5, 0.1, 1.0)},
        {"shares": (0.0, 1.0)},
        {"shares": (0.5, 0.5, 1.0)},
        {"alpha": 0.0},
        {"alpha": 0.5},
        {"slower_max": 0.2},
        {"error_margin": 0.0},
        {"first_look": 0},
        {"look_growth": 1.0},
        {"shadow_count": 0},
        {"shadow_share": 1.5},
        {"wrong_max": -1},
        {"stage_s_min": -1.0},
    ],
    ids=str,
)
def test_rules_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"wanted|ascend|at least|negative"):
        Rules(**given)
