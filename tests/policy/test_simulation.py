"""The policies against trouble, in simulated time: what they keep, what they save, how soon all is well again."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from erlmcp.bench.simulate import main
from erlmcp.bench.simulate.house import House
from erlmcp.bench.simulate.plot import plot
from erlmcp.bench.simulate.scenario import BY_KEY, HANG, Result, run
from erlmcp.bench.simulate.world import HEALTHY, Clockwork, Load, World
from erlmcp.policy.breaker import BreakerRule
from erlmcp.policy.overload import BULK, CRITICAL
from erlmcp.policy.protection import Guards
from erlmcp.policy.retry import RetryRule

DOCS = Path(__file__).resolve().parents[2] / "docs"


@cache
def result(key: str) -> Result:
    return run(BY_KEY[key])


@pytest.mark.parametrize("key", sorted(BY_KEY))
def test_a_scenario_keeps_its_goodput_saves_work_and_recovers(key: str) -> None:
    found, marks = result(key).figures, BY_KEY[key].marks
    assert found.goodput >= marks.goodput, found
    assert found.avoided >= max(marks.avoided, 0.4), found
    assert found.recovery_s is not None, found
    assert found.recovery_s <= marks.recovery_s, found


@pytest.mark.parametrize("key", ["spike", "crowd", "storm", "double", "fivefold", "aimd", "rush", "loop"])
def test_without_protection_an_overload_outlives_its_cause(key: str) -> None:
    found = result(key).figures
    assert found.recovery_bare_s is None
    assert found.goodput_bare < 0.36
    assert found.goodput > 2 * found.goodput_bare


def test_a_run_comes_out_the_same_each_time_and_another_seed_is_another_run() -> None:
    scenario = BY_KEY["storm"]
    assert run(scenario).figures == result("storm").figures
    other = run(replace(scenario, seed=8)).figures
    assert other != result("storm").figures
    assert other.goodput >= scenario.marks.goodput


@pytest.mark.parametrize("seed", [11, 12, 13])
@pytest.mark.parametrize("key", sorted(BY_KEY))
def test_it_holds_for_other_arrivals_too(key: str, seed: int) -> None:
    scenario = replace(BY_KEY[key], seed=seed)
    found = run(scenario).figures
    assert found.goodput >= scenario.marks.goodput - 0.1, found
    assert found.avoided >= 0.4, found
    assert found.recovery_s is not None, found


def test_an_open_breaker_lets_hardly_anything_through_while_nothing_answers() -> None:
    step = result("step").guarded
    assert step.total("sent", 25, 50) <= 16  # probes; some 1,250 were wanted
    assert [event.after for event in step.events][-1] == "closed"
    assert all(event.open_s <= 5 for event in step.events)


def test_a_breaker_that_learned_how_long_an_outage_takes_needs_fewer_probes() -> None:
    flap = BY_KEY["flap"]
    rule = flap.guards.breaker
    assert isinstance(rule, BreakerRule)
    forgetful = flap.world(Guards(breaker=replace(rule, adapts=False)))

    def failed_probes(world: World) -> int:
        return sum(event.before == "half-open" and event.after == "open" for event in world.events)

    learned = result("flap").guarded
    assert failed_probes(learned) < 0.7 * failed_probes(forgetful)
    assert learned.total("good") >= 0.95 * forgetful.total("good")


def test_a_timeout_follows_a_slow_drift_and_does_not_learn_from_a_hang() -> None:
    drift = result("drift")
    timeouts = drift.guarded.timeouts
    before, after = timeouts[4 * HANG[0][0] - 1], timeouts[4 * HANG[0][1] + 8]
    assert timeouts[4 * 9] < 0.3  # calls took some 20 ms
    assert 1.5 < before < 6  # and then half a second
    assert after < 1.5 * before
    healthy = [*range(5, HANG[0][0]), *range(HANG[0][1] + 8, 150)]
    sent = sum(drift.guarded.seconds[second].sent for second in healthy)
    assert sum(drift.guarded.seconds[second].timed_out for second in healthy) < 0.02 * sent


def test_a_rate_falls_to_what_the_upstream_can_do_and_comes_back() -> None:
    rates = result("spike").guarded.rates
    assert min(rates[4 * 21 : 4 * 35]) < 100
    assert all(30 <= each <= 300 for each in rates)
    assert rates[-1] > 70


def test_a_server_refuses_bulk_before_normal_and_critical_never() -> None:
    loop = result("loop").guarded
    assert isinstance(loop, House)
    assert loop.refused[CRITICAL] == 0
    offered = loop.total("offered")
    # A fifth of all is bulk: of what is refused it is more, as it is refused for longer.
    assert loop.refused[BULK] > 0.2 * loop.total("refused") > 0.02 * offered
    assert max(loop.levels) == 3
    assert loop.levels[-1] == 0


@pytest.mark.parametrize("key", ["double", "fivefold", "aimd"])
def test_the_limit_of_a_server_falls_in_a_crowd_and_is_never_below_what_its_upstream_works_on(key: str) -> None:
    house = result(key).guarded
    assert isinstance(house, House)
    crowded = house.limits[4 * 30 : 4 * 40]
    assert min(crowded) >= 20
    assert max(crowded) < 250  # of 1,000 that there may be


@pytest.mark.parametrize("seed", [7, 11, 12, 13])
@pytest.mark.parametrize("key", ["double", "fivefold", "rush", "slower"])
def test_the_gradient_keeps_nine_tenths_of_what_is_possible_and_refuses_nobody_before_the_trouble(
    key: str, seed: int
) -> None:
    found = run(replace(BY_KEY[key], admission="gradient", seed=seed))
    assert found.figures.goodput >= 0.9, found.figures
    assert found.guarded.total("refused", 0, BY_KEY[key].trouble[0][0]) <= 5  # of some 2,800


def test_retries_are_no_more_than_their_budget() -> None:
    storm = result("storm").guarded
    rule = BY_KEY["storm"].guards.retry
    assert isinstance(rule, RetryRule)
    offered = storm.total("offered")
    assert storm.total("sent") - offered <= rule.budget * offered + rule.reserve * 150 / rule.window_s
    assert result("storm").bare.total("sent") > 3 * offered


def test_where_nothing_is_wrong_protection_costs_nothing() -> None:
    load = Load(lambda second: 50.0, patience_s=2.0, timeout_s=2.0, seconds=60)
    guards = Guards(breaker=True, rate_limit=200, bulkhead=50, timeout="adaptive", retry=True)

    def world(given: Guards) -> World:
        return World(load, 20, lambda second: HEALTHY, lambda second: 0.05, given).run()

    guarded = world(guards)
    assert guarded.total("refused") == guarded.total("timed_out") == guarded.total("too_late") == 0
    assert guarded.total("good") >= guarded.total("offered") - 20
    assert guarded.events == []


def test_events_happen_in_order_and_none_twice() -> None:
    clockwork, seen = Clockwork(1), []
    clockwork.at(30, seen.append, "late")
    clockwork.at(10, lambda: clockwork.after(5, seen.append, "then"))
    clockwork.at(10, seen.append, "first")
    clockwork.run(20)
    assert seen == ["first", "then"]
    clockwork.run(100)
    assert seen == ["first", "then", "late"]


@pytest.mark.parametrize("key", sorted(BY_KEY))
def test_the_pictures_on_the_page_are_those_of_the_scenarios(key: str) -> None:
    drawn = plot(result(key))
    ElementTree.fromstring(drawn)
    assert len(drawn) < 16_000
    assert (DOCS / f"simulate-{key}.svg").read_text(encoding="utf-8") == drawn


def test_the_command_prints_a_row_for_each_and_writes_the_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "step,crowd", "--plots", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "never" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["simulate-crowd.svg", "simulate-step.svg"]
    with pytest.raises(SystemExit):
        main(["--only", "flood"])
