"""Kinds of trouble, each with and without the policies against it, and what they are judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from erlmcp.bench.simulate.house import House
from erlmcp.bench.simulate.world import HANGING, HEALTHY, Load, World
from erlmcp.policy.breaker import BreakerRule
from erlmcp.policy.bulkhead import BulkheadRule
from erlmcp.policy.limiter import RateRule
from erlmcp.policy.protection import Guards
from erlmcp.policy.retry import RetryRule
from erlmcp.policy.timeouts import TimeoutRule

Curve = Callable[[float], float]


@dataclass(frozen=True)
class Marks:
    """What a scenario has to show: at least so much of the goodput that is possible, at least so much of the work in
    vain avoided, and back to nine tenths of the usual goodput within so many seconds after the trouble."""

    goodput: float
    avoided: float
    recovery_s: int


@dataclass(frozen=True)
class Scenario:
    """``trouble`` are the seconds from and to; ``possible(second, offered)`` is the goodput that a perfect caller would
    have."""

    key: str
    title: str
    load: Load
    server_count: int
    mode: Callable[[float], str]
    service_s: Curve
    guards: Guards
    trouble: tuple[tuple[int, int], ...]
    possible: Callable[[int, int], float]
    marks: Marks
    bare: Guards = field(default_factory=Guards)  # what the run without protection has all the same
    seed: int = 7

    def world(self, guards: Guards) -> World:
        return World(self.load, self.server_count, self.mode, self.service_s, guards, self.seed).run()


@dataclass(frozen=True)
class ServerScenario:
    """The same for a server: with the flag ``backpressure``, and without it."""

    key: str
    title: str
    load: Load
    server_count: int
    service_s: Curve
    trouble: tuple[tuple[int, int], ...]
    possible: Callable[[int, int], float]
    marks: Marks
    admission: str = "gradient"
    is_on_loop: bool = False
    guards: bool = True
    bare: bool = False
    seed: int = 7

    def world(self, guards: bool) -> House:
        load, count, service_s = self.load, self.server_count, self.service_s
        return House(load, count, service_s, guards, self.admission, self.is_on_loop, self.seed).run()


@dataclass(frozen=True)
class Figures:
    """The figures of merit of one scenario."""

    key: str
    goodput: float  # of what is possible
    goodput_bare: float
    avoided: float  # of what is held in vain without protection
    in_vain_s: float
    in_vain_bare_s: float
    recovery_s: int | None
    recovery_bare_s: int | None


@dataclass(frozen=True)
class Result:
    scenario: Scenario | ServerScenario
    guarded: World | House
    bare: World | House

    @property
    def figures(self) -> Figures:
        scenario, guarded, bare = self.scenario, self.guarded, self.bare
        offered = [each.offered for each in guarded.seconds[: scenario.load.seconds]]  # as in the other one
        possible = sum(scenario.possible(second, count) for second, count in enumerate(offered))
        end = scenario.trouble[-1][1]
        usual = sum(offered[: scenario.trouble[0][0]]) / scenario.trouble[0][0]
        held, held_bare = guarded.in_vain_s(), bare.in_vain_s()
        return Figures(
            scenario.key,
            guarded.total("good") / possible,
            bare.total("good") / possible,
            1 - held / held_bare,
            held,
            held_bare,
            guarded.recovery_s(end, usual),
            bare.recovery_s(end, usual),
        )


def run(scenario: Scenario | ServerScenario) -> Result:
    if isinstance(scenario, ServerScenario):
        return Result(scenario, scenario.world(scenario.guards), scenario.world(scenario.bare))
    return Result(scenario, scenario.world(scenario.guards), scenario.world(scenario.bare))


def constant(value: float) -> Curve:
    return lambda second: value


def during(spans: tuple[tuple[int, int], ...], inside: str) -> Callable[[float], str]:
    return lambda second: inside if any(first <= second < last for first, last in spans) else HEALTHY


def _outside(spans: tuple[tuple[int, int], ...]) -> Callable[[int, int], float]:
    return lambda second, offered: 0.0 if any(first <= second < last for first, last in spans) else offered


STEP = ((20, 50),)
SPIKE = ((20, 35),)
HANG = ((100, 120),)
FLAPS: Final = tuple((first, first + 8) for first in range(20, 170, 24))
STALL = ((20, 24),)
CAPACITY: Final = 100.0  # of the upstream in the spike and in the storm: ten servers, a tenth of a second each
CROWD: Final = Load(
    lambda second: 5 * CAPACITY if 20 <= second < 35 else 70.0, patience_s=1.0, timeout_s=1.0, seconds=120
)


def _drift(second: float) -> float:
    """From 20 ms to half a second within 80 seconds."""
    return 0.02 + 0.48 * min(1.0, max(0.0, (second - 10) / 80))


SCENARIOS: Final = (
    Scenario(
        "step",
        "an upstream stops answering for 30 seconds: a breaker",
        Load(constant(50.0), patience_s=5.0, timeout_s=2.0, seconds=90),
        20,
        during(STEP, HANGING),
        constant(0.05),
        Guards(breaker=BreakerRule(open_s_max=5.0)),
        STEP,
        _outside(STEP),
        Marks(goodput=0.9, avoided=0.9, recovery_s=6),
    ),
    Scenario(
        "spike",
        "five times what the upstream can do, for 15 seconds: a rate that adapts",
        CROWD,
        10,
        during((), HANGING),
        constant(0.1),
        Guards(rate_limit=RateRule(300, burst=30, rate_per_s_min=30)),
        SPIKE,
        lambda second, offered: min(offered, CAPACITY),
        Marks(goodput=0.85, avoided=0.9, recovery_s=5),
    ),
    Scenario(
        "crowd",
        "the same spike: a bulkhead of 40 calls",
        CROWD,
        10,
        during((), HANGING),
        constant(0.1),
        Guards(bulkhead=BulkheadRule(40)),
        SPIKE,
        lambda second, offered: min(offered, CAPACITY),
        Marks(goodput=0.9, avoided=0.9, recovery_s=5),
    ),
    Scenario(
        "drift",
        "calls become slower and slower, and then there is no answer for 20 seconds: an adaptive timeout",
        Load(constant(20.0), patience_s=30.0, timeout_s=10.0, seconds=150),
        60,
        during(HANG, HANGING),
        _drift,
        Guards(timeout=TimeoutRule(min_s=0.1, start_s=10.0, max_s=20.0, window_s=10.0)),
        HANG,
        _outside(HANG),
        Marks(goodput=0.9, avoided=0.6, recovery_s=5),
    ),
    Scenario(
        "flap",
        "no answer for 8 of each 24 seconds: a breaker that learns how long that takes",
        Load(constant(50.0), patience_s=5.0, timeout_s=1.0, seconds=200),
        20,
        during(FLAPS, HANGING),
        constant(0.05),
        Guards(breaker=BreakerRule(window_s=2.0, outcomes_min=10)),
        FLAPS,
        _outside(FLAPS),
        Marks(goodput=0.9, avoided=0.8, recovery_s=6),
    ),
    Scenario(
        "storm",
        "a stall of 4 seconds before callers that try four times: a budget for retries, with jitter",
        Load(constant(70.0), patience_s=2.0, timeout_s=0.5, attempt_max=4, seconds=150),
        10,
        during(STALL, HANGING),
        constant(0.1),
        Guards(retry=RetryRule(attempt_max=4, budget=0.1, reserve=5)),
        STALL,
        _outside(STALL),
        Marks(goodput=0.9, avoided=0.9, recovery_s=10),
    ),
)
PLACES: Final = 20  # of what a server's calls wait for
LONG: Final = ((20, 40),)
SHORT: Final = ((20, 22),)
SLOW: Final = ((20, 60),)


def _crowd(times: float, span: tuple[int, int], capacity: float = 200.0, seconds: int = 60) -> Load:
    """Seven tenths of what the server can do, and so many times as much as it can within the span."""
    first, last = span
    return Load(
        lambda second: times * capacity if first <= second < last else 0.7 * capacity,
        patience_s=1.0,
        timeout_s=1.0,
        seconds=seconds,
    )


def _up_to(capacity: float) -> Callable[[int, int], float]:
    return lambda second, offered: min(offered, capacity)


def _slower(second: float) -> float:
    """From a tenth of a second to four tenths within 20 seconds, and back within 20 more."""
    return 0.1 + 0.3 * max(0.0, 1 - abs(second - 40) / 20)


DOUBLE: Final = ServerScenario(
    "double",
    "a server at twice what its calls' upstream can do, for 20 seconds: a limit by the gradient",
    _crowd(2, LONG[0]),
    PLACES,
    constant(0.1),
    LONG,
    _up_to(200),
    Marks(goodput=0.95, avoided=0.9, recovery_s=2),
)
FIVEFOLD: Final = replace(
    DOUBLE, key="fivefold", title="the same at five times: a limit by the gradient", load=_crowd(5, LONG[0])
)
SERVER_SCENARIOS: Final = (
    DOUBLE,
    FIVEFOLD,
    replace(FIVEFOLD, key="aimd", title="the same at five times: a limit by additive increase", admission="aimd"),
    replace(
        DOUBLE,
        key="rush",
        title="ten times as much for two seconds: a limit by the gradient",
        load=_crowd(10, SHORT[0]),
        trouble=SHORT,
        marks=Marks(goodput=0.9, avoided=0.8, recovery_s=5),
    ),
    ServerScenario(
        "slower",
        "an upstream that takes up to four times as long, and less again: a limit by additive increase",
        _crowd(0.7, SLOW[0], seconds=80),
        PLACES,
        _slower,
        SLOW,
        lambda second, offered: min(offered, PLACES / _slower(second + 0.5)),
        Marks(goodput=0.9, avoided=0.9, recovery_s=2),
        admission="aimd",
    ),
    ServerScenario(
        "loop",
        "calls that cost two milliseconds of the loop, at five times what that gives: levels of overload",
        _crowd(5, LONG[0], 500.0),
        1,
        constant(0.002),
        LONG,
        _up_to(500),
        Marks(goodput=0.9, avoided=0.9, recovery_s=2),
        is_on_loop=True,
    ),
)
BY_KEY: Final = {scenario.key: scenario for scenario in (*SCENARIOS, *SERVER_SCENARIOS)}
