"""The guard of a function, with its compiled fence and with the plain one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from erlmcp import core
from erlmcp.errors import (
    BreakerOpenError,
    BulkheadFullError,
    CallTimeoutError,
    InvalidParamsError,
    McpError,
    RateLimitedError,
    RefusedError,
    ToolError,
)
from erlmcp.flags import Flags
from erlmcp.policy.breaker import SECOND_NS, BreakerRule
from erlmcp.policy.bulkhead import BulkheadRule
from erlmcp.policy.limiter import Limiter, RateRule
from erlmcp.policy.protection import Guards
from erlmcp.policy.timeouts import TimeoutRule
from erlmcp.runtime.guard import BY_CALLER, Guard, PlainGuard
from erlmcp.runtime.within import left_s

KINDS = {"compiled": Guard, "plain": PlainGuard} if core.IMPLEMENTATION == "core" else {"plain": PlainGuard}
Make = Callable[..., PlainGuard]


@pytest.fixture(params=sorted(KINDS))
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a guard of the settings of ``Guards``; ``total`` and the like go to the guard."""
    kind = KINDS[request.param]
    own = ("total", "flags", "is_failure", "fallback", "listener")

    def guard(**given: Any) -> PlainGuard:
        options = {key: given.pop(key) for key in own if key in given}
        return kind("shop", Guards(**given), **options)

    return guard


def work(value: Any = 1) -> Any:
    if isinstance(value, BaseException):
        raise value
    return value


def fails(guarded: Callable[..., Any], error: BaseException) -> None:
    with pytest.raises(type(error)):
        guarded(error)


def test_a_wrapped_function_is_called_with_its_arguments_and_gives_its_value(make: Make) -> None:
    guarded = make(breaker=True, bulkhead=2, rate_limit=100).wrap(lambda *args, **kwargs: (args, kwargs))
    assert guarded(1, 2, three=3) == ((1, 2), {"three": 3})
    assert guarded() == ((), {})


def test_an_open_breaker_refuses_and_says_when_to_come_back(make: Make) -> None:
    guard = make(breaker=BreakerRule(failures_in_row=3, open_s=60, jitter=0))
    guarded = guard.wrap(work)
    for _ in range(3):
        fails(guarded, ValueError())
    with pytest.raises(
        BreakerOpenError, match=r"shop is not called: its circuit breaker is open; retry after"
    ) as caught:
        guarded(1)
    assert caught.value.retry_after_s == pytest.approx(60, abs=1)
    assert caught.value.code == -32000
    data: Any = caught.value.data
    assert data["reason"] == "breaker_open"
    assert 59_000 < data["retryAfterMs"] <= 60_000


def test_what_is_an_answer_is_no_failure_and_what_nobody_wanted_any_more_is_no_outcome(make: Make) -> None:
    guard = make(breaker=BreakerRule(failures_in_row=1))
    guarded = guard.wrap(work)
    for error in (ToolError("isError"), InvalidParamsError("no"), McpError(-32002, "none"), KeyboardInterrupt()):
        fails(guarded, error)
    assert (guard.ok_count, guard.failure_count) == (3, 0)
    fails(guarded, McpError(-32603, "broken"))
    assert guard.breaker is not None
    assert guard.breaker.state == "open"


def test_a_breaker_closes_again_by_its_probes(make: Make) -> None:
    told: list[str] = []
    guard = make(
        breaker=BreakerRule(failures_in_row=1, open_s=60, probe_successes=2),
        listener=lambda event: told.append(event.after),
    )
    assert guard.breaker is not None
    guarded = guard.wrap(work)
    fails(guarded, OSError())
    guard.breaker.window.open_until_ns = 0  # the time has passed
    assert [guarded(number) for number in (1, 2, 3)] == [1, 2, 3]
    assert told == ["open", "half-open", "closed"]
    fails(guarded, OSError())
    guard.breaker.window.open_until_ns = 0
    fails(guarded, OSError())  # the probe
    assert told[3:] == ["open", "half-open", "open"]


def test_a_listener_that_fails_harms_no_call(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    def listen(event: Any) -> None:
        raise KeyError(event.after)

    guard = make(breaker=BreakerRule(failures_in_row=1), listener=listen)
    fails(guard.wrap(work), OSError())
    assert guard.failure_count == 1
    assert [record.message for record in caplog.records] == [
        "the breaker of shop is open",
        "a listener of the breaker of shop failed",
    ]


def test_slow_calls_open_it_though_they_succeed(make: Make) -> None:
    guard = make(breaker=BreakerRule(failure_rate=0, slow_rate=1.0, slow_s=1e-9, outcomes_min=2))
    done = threading.Event()
    guarded = guard.wrap(lambda: done.wait(0.001))
    guarded()
    guarded()
    assert guard.breaker is not None
    assert guard.breaker.state == "open"


def test_no_more_pass_than_the_burst_and_who_is_refused_is_told_how_long(make: Make) -> None:
    guarded = make(rate_limit=RateRule(0.001, burst=3)).wrap(work)
    assert [guarded(number) for number in range(3)] == [0, 1, 2]
    with pytest.raises(RateLimitedError, match="too many calls of shop") as caught:
        guarded(3)
    assert caught.value.retry_after_s == pytest.approx(1000, rel=0.01)


def test_a_total_is_shared_by_guards(make: Make) -> None:
    total = Limiter(RateRule(0.001, burst=3, per="server"))
    one, two = make(rate_limit=RateRule(0.001, burst=9), total=total), make(total=total)
    assert one.wrap(work)(1) + two.wrap(work)(1) + one.wrap(work)(1) == 3
    for guard in (one, two):
        with pytest.raises(RateLimitedError, match="too many calls of all tools"):
            guard.wrap(work)()


def test_each_caller_has_a_rate_of_its_own(make: Make) -> None:
    guard = make(rate_limit=RateRule(0.001, burst=1, per="caller"))
    assert guard.enter_for("ann") > 0
    assert guard.enter_for("ann") == BY_CALLER
    assert guard.enter_for("bob") > 0
    refused = guard.refusal(BY_CALLER, "ann")
    assert isinstance(refused, RateLimitedError)
    assert refused.retry_after_s == pytest.approx(1000, rel=0.01)


def test_what_one_part_refuses_gives_the_others_back(make: Make) -> None:
    guard = make(breaker=True, bulkhead=1, rate_limit=RateRule(0.001, burst=1))
    first = guard.enter()
    assert first > 0
    assert guard.enter() == -1  # no place
    guard.leave(first, True)
    assert guard.enter() == -2  # no token, and the place is free again
    assert guard.bulkhead is not None
    assert guard.bulkhead.count == 0


def test_a_full_bulkhead_without_a_line_refuses_at_once(make: Make) -> None:
    guard = make(bulkhead=1)
    guarded = guard.wrap(lambda inner: inner())

    def again() -> Any:
        with pytest.raises(BulkheadFullError, match="1 calls are running") as caught:
            guarded(work)
        assert caught.value.retry_after_s is not None
        return "outer"

    assert guarded(again) == "outer"
    assert guarded(work) == 1


def test_a_thread_waits_in_line_for_a_place(make: Make) -> None:
    guard = make(bulkhead=BulkheadRule(1, queue_max=1, wait_s=30))
    assert guard.bulkhead is not None
    inside, leave = threading.Event(), threading.Event()
    found: list[Any] = []

    def first() -> str:
        inside.set()
        leave.wait(30)
        return "first"

    threads = [threading.Thread(target=lambda: found.append(guard.wrap(first)()))]
    threads[0].start()
    inside.wait(30)
    joined = threading.Event()
    before = guard.bulkhead.join

    def join(who: Any) -> bool:
        value = before(who)
        joined.set()
        return value

    guard.bulkhead = _Spied(guard.bulkhead, join)  # type: ignore[assignment]
    threads.append(threading.Thread(target=lambda: found.append(guard.wrap(lambda: "second")())))
    threads[1].start()
    joined.wait(30)
    with pytest.raises(BulkheadFullError):
        guard.wrap(work)()
    leave.set()
    for each in threads:
        each.join(30)
    assert sorted(found) == ["first", "second"]
    assert (guard.bulkhead.count, guard.bulkhead.waiting_count) == (0, 0)


def test_who_waited_for_a_place_and_fails_gives_it_back(make: Make) -> None:
    guard = make(bulkhead=BulkheadRule(1, queue_max=1, wait_s=30), breaker=BreakerRule(failures_in_row=1))
    first = guard.enter()
    assert guard.bulkhead is not None
    before = guard.bulkhead.join

    def join(who: Any) -> bool:
        value = before(who)
        threading.Timer(0, lambda: guard.leave(first, True)).start()
        return value

    guard.bulkhead = _Spied(guard.bulkhead, join)  # type: ignore[assignment]
    fails(guard.wrap(work), OSError())
    assert guard.bulkhead.count == 0
    assert guard.failure_count == 1


def test_a_place_that_became_free_while_one_joined_is_taken_at_once(make: Make) -> None:
    guard = make(bulkhead=BulkheadRule(1, queue_max=1, wait_s=30))
    assert guard.otherwise(-1, work, (7,), {}) == 7
    assert guard.bulkhead is not None
    assert (guard.bulkhead.count, guard.bulkhead.waiting_count) == (0, 0)


class _Spied:
    """A bulkhead whose ``join`` is another one."""

    def __init__(self, bulkhead: Any, join: Callable[[Any], bool]) -> None:
        self._bulkhead = bulkhead
        self.join = join

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bulkhead, name)


async def test_a_task_waits_in_line_and_gives_its_turn_back_when_cancelled(make: Make) -> None:
    guard = make(bulkhead=BulkheadRule(1, queue_max=2, wait_s=30))
    first = guard.enter()
    waiting = [asyncio.create_task(guard.enter_in_turn()) for _ in range(2)]
    await asyncio.sleep(0)
    assert await guard.enter_in_turn() == -1  # the line is full
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    guard.leave(first, True)
    token = await waiting[1]
    assert token > 0
    guard.leave(token, True)
    assert guard.bulkhead is not None
    assert (guard.bulkhead.count, guard.bulkhead.waiting_count) == (0, 0)


async def test_a_task_that_is_cancelled_with_its_place_already_given_hands_it_on(make: Make) -> None:
    guard = make(bulkhead=BulkheadRule(1, queue_max=2, wait_s=30))
    first = guard.enter()
    waiting = [asyncio.create_task(guard.enter_in_turn()) for _ in range(2)]
    await asyncio.sleep(0)
    guard.leave(first, True)  # to the first of them ...
    waiting[0].cancel()  # ... which does not want it any more
    token = await waiting[1]
    guard.leave(token, True)
    assert guard.bulkhead is not None
    assert guard.bulkhead.count == 0


async def test_who_waits_too_long_is_refused(make: Make) -> None:
    guard = make(bulkhead=BulkheadRule(1, queue_max=2, wait_s=0.001))
    first = guard.enter()
    assert await guard.enter_in_turn() == -1
    assert guard.bulkhead is not None
    assert guard.bulkhead.waiting_count == 0
    guard.leave(first, True)


async def test_who_had_a_place_handed_over_still_needs_a_token_and_a_closed_breaker(make: Make) -> None:
    guard = make(bulkhead=BulkheadRule(1, queue_max=2), rate_limit=RateRule(0.001, burst=1), breaker=True)
    first = guard.enter()
    waiting = asyncio.create_task(guard.enter_in_turn())
    await asyncio.sleep(0)
    guard.leave(first, True)
    assert await waiting == -2
    assert guard.breaker is not None
    assert guard.bulkhead is not None
    guard.bulkhead.places.enter()
    waiting = asyncio.create_task(guard.enter_in_turn())
    await asyncio.sleep(0)
    guard.breaker.force_open(guard.now_ns())
    guard.hand_over()
    assert await waiting == 0
    assert guard.bulkhead.count == 0
    assert guard.refusal(0).retry_after_s is None  # forced: nobody knows


def test_a_fallback_gets_the_arguments_of_who_is_refused(make: Make) -> None:
    guard = make(rate_limit=RateRule(0.001, burst=1), fallback=lambda value, more=0: ("instead", value, more))
    guarded = guard.wrap(work)
    assert guarded(1) == 1
    assert guarded(2, more=3) == ("instead", 2, 3)


@pytest.mark.parametrize(
    ("flag", "given"),
    [
        ("circuit_breaker", {"breaker": BreakerRule(failures_in_row=1)}),
        ("rate_limit", {"rate_limit": RateRule(0.001, burst=1)}),
        ("rate_limit", {"rate_limit": RateRule(0.001, burst=1, per="caller")}),
    ],
    ids=str,
)
def test_a_flag_lets_everything_pass_while_it_is_off(make: Make, flag: str, given: dict[str, Any]) -> None:
    guard = make(**given)

    def call() -> bool:
        token = guard.enter_for("ann")
        if token > 0:
            guard.leave(token, False)
        return token > 0

    assert [call(), call()] == [True, False]
    guard.switch(Flags(**{flag: False}))
    assert [call(), call()] == [True, True]
    guard.switch(Flags())
    assert not call()


def test_the_timeout_follows_what_calls_take_and_the_flag_takes_it_away(make: Make) -> None:
    rule = TimeoutRule(min_s=0.001, start_s=5, window_s=1, outcomes_min=1)
    guard = make(timeout=rule)
    assert guard.timeout_s == 5
    token = guard.enter()
    guard.leave(token, True)
    guard.adapt(guard.now_ns() + SECOND_NS)
    found = guard.timeout_s
    assert found is not None
    assert 0.001 <= found < 5
    guard.switch(Flags(adaptive_timeouts=False))
    assert guard.timeout_s is None


def test_adapting_is_asked_for_by_the_first_call_that_ends_after_a_period(make: Make) -> None:
    guard = make(rate_limit=RateRule(1000, rate_per_s_min=1))
    seen: list[int] = []
    guard.adapt = seen.append  # type: ignore[method-assign]
    guard.leave(guard.enter(), True)
    assert seen == []
    guard.set_fence(breaker=None, bulkhead=None, bucket=None, total=None, durations=None, is_precise=False, due_ns=0)
    guard.leave(guard.enter(), True)
    assert len(seen) == 1


def test_a_rate_adapts_to_the_failures_of_what_it_guards(make: Make) -> None:
    guard = make(rate_limit=RateRule(1000, rate_per_s_min=1, shrink=0.5))
    now_ns = guard.now_ns()
    guard.adapt(now_ns)
    for _ in range(20):
        guard.leave(guard.enter(), False)
    guard.adapt(now_ns + SECOND_NS)
    assert guard.limiter is not None
    assert guard.limiter.rate_per_s == 500


def test_calls_given_up_count_as_failures_and_teach_the_timeout(make: Make) -> None:
    guard = make(timeout="adaptive", breaker=BreakerRule(failures_in_row=2))
    for _ in range(2):
        guard.expired(guard.enter())
    assert guard.expired_count == 2
    assert guard.breaker is not None
    assert guard.breaker.state == "open"


class Waits:
    """Hands up one thing to wait for, and gives what comes back with it."""

    def __await__(self) -> Any:
        return (yield "waits for this")


def end(rest: Any, value: Any) -> Any:
    with pytest.raises(StopIteration) as caught:
        rest.send(value)
    return caught.value.value


def test_a_coroutine_function_that_does_not_wait_ends_in_its_first_step(make: Make) -> None:
    guard = make(breaker=True, timeout=TimeoutRule())
    seen: list[float | None] = []

    async def note(*values: int, **more: int) -> Any:
        seen.append(left_s())
        return values, more

    assert guard.first_step(note, (1, 2), {"three": 3}) == ((1, 2), {"three": 3})
    assert guard.first_step(note, (StopIteration(5),), {})[0][0].value == 5
    assert (guard.ok_count, guard.failure_count) == (2, 0)
    assert all(each is not None and 29 < each <= 30 for each in seen)
    assert left_s() is None


def test_what_waits_is_carried_on_from_its_first_step_and_ends_once(make: Make) -> None:
    guard = make(bulkhead=1, timeout=TimeoutRule())

    async def ask() -> Any:
        return await Waits(), await Waits()

    rest = guard.first_step(ask, (), {})
    assert left_s() is None
    assert rest.token > 0
    assert rest.began_ns > 0
    assert rest.send(None) == rest.send("one") == "waits for this"
    assert end(rest, ("a", "tuple")) == ("one", ("a", "tuple"))
    assert guard.ok_count == 0  # who awaits it sees to that
    guard.leave(rest.token, True)
    assert type(guard.first_step(ask, (), {})) is type(rest)


def test_an_error_reaches_what_waits_and_closing_it_ends_it(make: Make) -> None:
    guard = make(breaker=True)
    ends: list[str] = []

    async def ask() -> str:
        try:
            return str(await Waits())
        except ValueError:
            return "caught"
        finally:
            ends.append("end")

    rest = guard.first_step(ask, (), {})
    assert rest.began_ns == 0
    with pytest.raises(StopIteration) as caught:
        rest.throw(ValueError())
    assert caught.value.value == "caught"
    rest = guard.first_step(ask, (), {})
    assert next(iter(rest.__await__())) == "waits for this"
    rest.close()
    assert ends == ["end", "end"]


def test_a_first_step_that_fails_counts_and_leaves_no_deadline_behind(make: Make) -> None:
    guard = make(breaker=BreakerRule(failures_in_row=2), timeout=TimeoutRule(), bulkhead=1)

    async def fail(error: BaseException) -> None:
        raise error

    for error in (ToolError("isError"), CallTimeoutError("timeout", 1.0, "nested"), OSError()):
        with pytest.raises(type(error)):
            guard.first_step(fail, (error,), {})
        assert left_s() is None
    assert (guard.ok_count, guard.failure_count, guard.expired_count) == (1, 2, 1)
    refused = guard.first_step(fail, (OSError(),), {})
    assert refused.token == 0
    refused.close()


async def test_what_is_awaitable_and_no_coroutine_is_awaited(make: Make) -> None:
    guard = make(breaker=True)
    future = asyncio.get_running_loop().create_future()
    rest = guard.first_step(lambda: future, (), {})
    future.set_result("done")
    assert await rest == "done"
    assert guard.first_step(lambda: future, (), {}) == "done"


def test_a_report_tells_the_state_of_each_part(make: Make) -> None:
    guard = make(breaker=True, rate_limit=RateRule(5, burst=1), bulkhead=3, timeout="adaptive")
    guard.leave(guard.enter(), True)
    guard.enter()
    found = guard.report()
    assert found["ok"] == 1
    assert found["breaker"]["state"] == "closed"
    assert found["rate"] == {"per_s": 5, "burst": 1, "refused": 1}
    assert found["bulkhead"] == {"running": 0, "waiting": 0, "refused": 0}
    assert found["timeout_s"] == 30.0


def test_many_threads_lose_no_place_and_no_outcome(make: Make) -> None:
    guard = make(breaker=True, bulkhead=BulkheadRule(2, queue_max=8, wait_s=30))
    most, inside, lock = [0], [0], threading.Lock()

    def careful() -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        with lock:
            inside[0] -= 1

    guarded = guard.wrap(careful)
    threads = [threading.Thread(target=lambda: [guarded() for _ in range(300)]) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert guard.ok_count == 1800
    assert most[0] <= 2
    assert guard.bulkhead is not None
    assert (guard.bulkhead.count, guard.bulkhead.waiting_count) == (0, 0)


def test_a_refusal_never_says_sooner_than_it_is() -> None:
    assert RefusedError("no", 0.0011).data == {"reason": "refused", "retryAfterMs": 2}
    assert RefusedError("no").data == {"reason": "refused"}
