"""The decorators: on ordinary functions and on coroutine functions, one by one and together."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from erlmcp import protect
from erlmcp.errors import (
    CallTimeoutError,
    ConfigurationError,
    ConnectionClosedError,
    HttpStatusError,
    McpError,
    RefusedError,
    ToolError,
)
from erlmcp.flags import Flags
from erlmcp.policy.breaker import BreakerRule
from erlmcp.policy.limiter import RateRule
from erlmcp.policy.protection import Guards
from erlmcp.protect import (
    BreakerOpenError,
    BulkheadFullError,
    RateLimitedError,
    bulkhead,
    circuit_breaker,
    guard,
    rate_limit,
    retry,
    timeout,
)
from erlmcp.runtime.again import is_transient, retry_after_ns, was_refused
from erlmcp.runtime.within import left_s, shortened_s, timers_of, within


@pytest.fixture(autouse=True)
def usual_flags() -> Iterator[None]:
    yield
    protect.switch(Flags())


def both(decorator: Any, function: Any) -> tuple[Any, Any]:
    """The function decorated, and the same as a coroutine function; each is called to its end."""

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    guarded = decorator(coroutine)
    return decorator(function), lambda *args, **kwargs: asyncio.run(guarded(*args, **kwargs))


def test_a_guarded_function_looks_like_the_bare_one() -> None:
    @circuit_breaker
    def ordinary(text: str, count: int = 2) -> str:
        """Says it."""
        return text * count

    @rate_limit(5)
    async def coroutine(text: str) -> str:
        return text

    assert (ordinary.__name__, ordinary.__doc__) == ("ordinary", "Says it.")
    assert str(inspect.signature(ordinary)) == "(text: 'str', count: 'int' = 2) -> 'str'"
    assert inspect.iscoroutinefunction(coroutine)
    assert not inspect.iscoroutinefunction(ordinary)
    assert ordinary("a", count=3) == "aaa"
    assert asyncio.run(coroutine("b")) == "b"


def test_a_method_is_guarded_for_all_its_objects() -> None:
    class Shop:
        @rate_limit(0.001, burst=2)
        def buy(self, what: str) -> tuple[Any, str]:
            return self, what

    one, two = Shop(), Shop()
    assert one.buy("tea") == (one, "tea")
    assert two.buy("tea") == (two, "tea")
    with pytest.raises(RateLimitedError):
        one.buy("tea")


def test_a_breaker_opens_by_failures_and_its_fallback_serves_meanwhile() -> None:
    def fail(number: int) -> int:
        raise OSError(number)

    async def plan_b(number: int) -> int:
        return -number

    for made in both(circuit_breaker(failures_in_row=2), fail):
        for number in range(2):
            with pytest.raises(OSError, match=str(number)):
                made(number)
        with pytest.raises(BreakerOpenError):
            made(3)
    served, _ = both(circuit_breaker(failures_in_row=1, fallback=lambda number: -number), fail)
    _, served_async = both(circuit_breaker(failures_in_row=1, fallback=plan_b), fail)
    for made in (served, served_async):
        with pytest.raises(OSError, match="1"):
            made(1)
        assert made(5) == -5


def test_what_a_failure_is_can_be_told() -> None:
    @circuit_breaker(failures_in_row=1, is_failure=lambda error: isinstance(error, KeyError))
    def fail(error: Exception) -> None:
        raise error

    for error in (ValueError(), ToolError("x")):
        with pytest.raises(type(error)):
            fail(error)
    with pytest.raises(KeyError):
        fail(KeyError())
    with pytest.raises(BreakerOpenError):
        fail(ValueError())


def test_a_breaker_can_be_forced_by_hand_and_tells_its_listener() -> None:
    told: list[tuple[str, str]] = []

    @circuit_breaker(BreakerRule(), name="shop", listener=lambda event: told.append((event.name, event.after)))
    def work() -> int:
        return 1

    breaker = work.guard.breaker
    breaker.force_open(time.monotonic_ns())
    with pytest.raises(BreakerOpenError, match="shop"):
        work()
    breaker.release(time.monotonic_ns())
    assert work() == 1
    assert told == [("shop", "open"), ("shop", "closed")]


def test_a_bulkhead_bounds_the_tasks_at_a_time() -> None:
    async def run() -> int:
        inside, most = 0, 0

        @bulkhead(3, queue_max=20, wait_s=30)
        async def work() -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

        await asyncio.gather(*(work() for _ in range(20)))
        return most

    assert asyncio.run(run()) == 3


def test_a_bulkhead_without_a_line_refuses() -> None:
    async def run() -> list[Any]:
        @bulkhead(1)
        async def work() -> str:
            await asyncio.sleep(0)
            return "done"

        return await asyncio.gather(work(), work(), return_exceptions=True)

    first, second = asyncio.run(run())
    assert first == "done"
    assert isinstance(second, BulkheadFullError)


async def test_a_coroutine_that_takes_too_long_is_cancelled() -> None:
    cancelled = []

    @timeout(0.001)
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(CallTimeoutError, match=r"0\.001"):
        await work()
    assert cancelled == [True]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert len(timers_of(asyncio.get_running_loop())) == 0


async def test_a_cancellation_from_outside_is_not_taken_for_the_timeout() -> None:
    @timeout(30)
    async def work() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.guard.failure_count == 0


async def test_what_ends_in_the_moment_of_its_timeout_has_its_value() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "kept"
        return "never"

    assert await within(0.001, "stubborn", stubborn, (), {}) == "kept"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


def test_an_ordinary_function_that_takes_too_long_is_left_behind_in_its_thread() -> None:
    leave = threading.Event()

    @timeout(30)
    def quick() -> int:
        return threading.get_ident()

    @timeout(0.01)
    def slow() -> None:
        leave.wait(30)

    assert quick() != threading.get_ident()
    with pytest.raises(CallTimeoutError):
        slow()
    leave.set()
    assert (quick.guard.expired_count, slow.guard.expired_count) == (0, 1)


def test_a_function_that_raises_a_timeout_of_its_own_is_not_taken_for_given_up() -> None:
    @timeout(30)
    def work() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        work()


async def test_the_deadline_is_handed_on_to_what_is_called_within() -> None:
    seen: list[float | None] = []

    async def note() -> None:
        seen.append(left_s())

    @timeout(60)
    async def inner() -> None:
        await note()

    @timeout(20)
    async def outer() -> None:
        await inner()
        await asyncio.create_task(note())
        await asyncio.to_thread(lambda: seen.append(shortened_s(60)))

    assert left_s() is None
    assert shortened_s(60) == 60
    await outer()
    assert all(each is not None and 19 < each <= 20 for each in seen)
    assert len(seen) == 3
    assert left_s() is None


async def test_the_time_of_the_first_step_counts() -> None:
    async def late() -> None:
        await asyncio.Event().wait()

    with pytest.raises(CallTimeoutError, match="60"):
        await within(60.0, "late", late, (), {}, time.monotonic_ns() - 61 * 10**9)


async def test_no_time_left_is_said_before_anything_is_asked() -> None:
    async def late() -> None:
        shortened_s(5, "tools/call")

    with pytest.raises(CallTimeoutError, match="tools/call"):
        await within(0.005, "late", late, (), {})


def test_it_is_tried_again_after_what_is_transient_and_not_after_anything_else() -> None:
    def flaky(errors: list[BaseException]) -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    for made in both(retry(backoff_s=1e-9, attempt_max=3), flaky):
        assert made([ConnectionClosedError("lost"), TimeoutError()]) == "done"
        with pytest.raises(ConnectionClosedError):
            made([ConnectionClosedError("lost")] * 3)
        left: list[BaseException] = [ValueError(), ValueError()]
        with pytest.raises(ValueError):
            made(left)
        assert len(left) == 1
    for made in both(retry(backoff_s=1e-9, idempotent=False), flaky):
        with pytest.raises(ConnectionClosedError):
            made([ConnectionClosedError("lost")])
        assert made([RefusedError("busy")]) == "done"


def test_retries_stop_where_their_budget_ends() -> None:
    tries: list[int] = []

    @retry(backoff_s=1e-9, attempt_max=10, budget=0.0, reserve=4)
    def work() -> None:
        tries.append(1)
        raise ConnectionError

    for _ in range(3):
        with pytest.raises(ConnectionError):
            work()
    assert len(tries) == 3 + 4


def test_what_an_exception_says_about_trying_again() -> None:
    def answered(status: int, **headers: str) -> HttpStatusError:
        return HttpStatusError(status, "No", "http://shop", headers={"retry-after": "7", **headers})

    assert [is_transient(answered(status)) for status in (429, 500, 502, 503, 504)] == [True, False, True, True, True]
    assert [was_refused(answered(status)) for status in (429, 502, 503)] == [True, False, True]
    assert is_transient(McpError(-32000, "busy"))
    assert not is_transient(McpError(-32602, "wrong"))
    assert retry_after_ns(answered(503)) == 7_000_000_000
    assert retry_after_ns(McpError(-32000, "busy", {"retryAfterMs": 250})) == 250_000_000
    assert retry_after_ns(RefusedError("busy", 0.5)) == 500_000_000
    for data in ({"retryAfterMs": True}, {"retryAfterMs": "5"}, {"retryAfterMs": -5}, {}, None, []):
        assert retry_after_ns(McpError(-32000, "busy", data)) == 0
    assert retry_after_ns(HttpStatusError(503, "No", "u", headers={"retry-after": "Fri, 31 Dec 1999"})) == 0
    assert retry_after_ns(OSError()) == 0


def test_several_protections_in_one_guard() -> None:
    @guard(Guards(breaker=True, rate_limit=RateRule(0.001, burst=2), bulkhead=5, timeout="adaptive", retry=True))
    async def work() -> int:
        return 1

    async def run() -> list[Any]:
        return await asyncio.gather(*(work() for _ in range(3)), return_exceptions=True)

    found = asyncio.run(run())
    assert found[:2] == [1, 1]
    assert isinstance(found[2], RateLimitedError)
    assert set(work.guard.report()) >= {"breaker", "rate", "bulkhead", "timeout_s"}


@pytest.mark.parametrize("flag", ["circuit_breaker", "rate_limit"])
def test_the_flags_of_the_process_hold_and_can_be_switched(flag: str) -> None:
    @guard(breaker=BreakerRule(failures_in_row=1, failure_rate=0), rate_limit=RateRule(0.001, burst=2))
    def work() -> None:
        raise OSError

    with pytest.raises(OSError):
        work()
    with pytest.raises(RefusedError) as first:
        work()
    assert isinstance(first.value, BreakerOpenError)
    protect.switch(Flags(**{flag: False}))
    expected = BreakerOpenError if flag == "rate_limit" else OSError
    with pytest.raises(expected):
        work()
    with pytest.raises(BreakerOpenError if flag == "rate_limit" else RateLimitedError):
        work()


@pytest.mark.parametrize(
    "make",
    [
        lambda: rate_limit(5, per="caller"),
        lambda: rate_limit(0, burst=2),
        lambda: circuit_breaker(open_s=-1),
        lambda: circuit_breaker(colour="red"),
        lambda: bulkhead(3, queue_max=-1),
        lambda: timeout("soon"),
        lambda: guard(breaker="yes"),
        lambda: guard(bulkhead="many"),
        lambda: guard(rate_limit=[1, 2]),
        lambda: guard(rate_limit=(RateRule(1), RateRule(2))),
        lambda: circuit_breaker(fallback=3),
        lambda: retry(attempt_max=0),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(make: Any) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_a_generator_is_not_guarded() -> None:
    with pytest.raises(ConfigurationError, match="yields"):

        @circuit_breaker
        def numbers() -> Iterator[int]:
            yield 1


def test_guards_over_others_keep_what_they_say_and_take_the_rest() -> None:
    default = Guards(breaker=True, bulkhead=10, rate_limit=5)
    own = Guards(bulkhead=0, rate_limit=(), timeout="adaptive").over(default)
    assert own.breaker == BreakerRule()
    assert (own.bulkhead, own.rates) == (False, ())
    assert own.timeout is not None
    assert own.over(None) == own
    assert bool(own)
    assert not Guards()
    assert not Guards(breaker=False, rate_limit=False)
