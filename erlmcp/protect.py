"""Protection for any function, ordinary or coroutine: ``circuit_breaker``, ``rate_limit``, ``bulkhead``, ``timeout``,
``retry``, and ``guard`` for several at once, which costs less than one above the other.

    @circuit_breaker(failures_in_row=5, fallback=lambda city: "no forecast")
    async def forecast(city: str) -> str: ...

Each takes a rule, or the settings of one by name. The guarded function has its ``Guard`` as ``.guard``: its state, and
``.guard.breaker.force_open(...)``. A refused call raises BreakerOpenError, RateLimitedError or BulkheadFullError, all
of them RefusedError with ``retry_after_s``; a call that takes too long raises CallTimeoutError.

The process's flags (``circuit_breaker``, ``rate_limit``, ``adaptive_timeouts``) hold for them; ``switch`` changes those
at run time.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from erlmcp.errors import BreakerOpenError as BreakerOpenError
from erlmcp.errors import BulkheadFullError as BulkheadFullError
from erlmcp.errors import CallTimeoutError, ConfigurationError
from erlmcp.errors import RateLimitedError as RateLimitedError
from erlmcp.errors import RefusedError as RefusedError
from erlmcp.flags import Flags
from erlmcp.policy.breaker import BreakerEvent as BreakerEvent
from erlmcp.policy.breaker import BreakerRule
from erlmcp.policy.bulkhead import BulkheadRule
from erlmcp.policy.limiter import RateRule
from erlmcp.policy.protection import Guards
from erlmcp.policy.retry import RetryRule
from erlmcp.policy.timeouts import TimeoutRule
from erlmcp.runtime.again import Again, is_transient
from erlmcp.runtime.guard import Guard, is_failure
from erlmcp.runtime.rest import Rest
from erlmcp.runtime.within import DEADLINE, SECOND_NS, until_after, within

F = TypeVar("F", bound=Callable[..., Any])
THREAD_COUNT_MAX = 32  # ordinary functions with a timeout that run at the same time; more wait for a thread

_guards: weakref.WeakSet[Guard] = weakref.WeakSet()
_flags: list[Flags] = []
_threads: list[ThreadPoolExecutor] = []


def _current() -> Flags:
    if not _flags:
        _flags.append(Flags.load())
    return _flags[0]


def switch(flags: Flags) -> None:
    """Use these flags for all functions that are guarded here, from now on."""
    _flags[:] = [flags]
    for each in list(_guards):
        each.switch(flags)


def guard(
    rules: Guards | None = None,
    /,
    *,
    name: str | None = None,
    fallback: Callable[..., Any] | None = None,
    is_failure: Callable[[BaseException], bool] = is_failure,
    is_transient: Callable[[BaseException], bool] = is_transient,
    idempotent: bool = True,
    listener: Callable[[BreakerEvent], object] | None = None,
    **kinds: Any,
) -> Callable[[F], F]:
    """Guard a function by ``Guards``, or by what they are made of (``breaker=``, ``rate_limit=``, ...).

    ``fallback`` gets the arguments of a call that was refused. ``is_failure(error)`` says which exceptions speak
    against the function (all but ToolError and answers of the protocol), ``is_transient(error)`` which are worth
    another try, ``idempotent`` whether a try that may have been made may be made again. ``listener(event)`` is told of
    the breaker.
    """
    rules = Guards(**kinds) if rules is None else rules
    if any(rule.per == "caller" for rule in rules.rates):
        raise ConfigurationError("a function knows no callers: a RateRule per 'caller' is for the tools of a server")
    for each in (fallback, is_failure, is_transient):
        if each is not None and not callable(each):
            raise ConfigurationError(f"expected a function, got {each!r}")

    def decorate(function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(f"{function!r} yields; guard what it calls instead")
        made = Guard(
            name or getattr(function, "__qualname__", "") or repr(function),
            rules,
            flags=_current(),
            is_failure=is_failure,
            fallback=fallback,
            listener=listener,
        )
        _guards.add(made)
        again = Again(rules.retry, is_transient=is_transient) if isinstance(rules.retry, RetryRule) else None
        wrap = _wrap_async if inspect.iscoroutinefunction(function) else _wrap_sync
        wrapped: Any = functools.update_wrapper(wrap(made, function, again, idempotent), function)
        wrapped.guard = made
        return wrapped  # type: ignore[no-any-return]

    return decorate


def _wrap_sync(made: Guard, function: Callable[..., Any], again: Again | None, idempotent: bool) -> Any:
    inner = function if made.timeout is None else _in_thread(made, function)
    guarded = made.wrap(inner)
    if again is None:
        return guarded

    def retried(*args: Any, **kwargs: Any) -> Any:
        return again.call_sync(guarded, *args, may_repeat=idempotent, **kwargs)

    return retried


def _in_thread(made: Guard, function: Callable[..., Any]) -> Callable[..., Any]:
    """In a thread, as nothing else can be left behind. What takes too long goes on there, and nobody hears of it."""

    def timed(*args: Any, **kwargs: Any) -> Any:
        seconds = made.timeout_s
        if seconds is None:
            return function(*args, **kwargs)
        if not _threads:
            _threads.append(ThreadPoolExecutor(THREAD_COUNT_MAX, thread_name_prefix="erlmcp-timeout"))
        context = copy_context()
        context.run(DEADLINE.set, until_after(int(seconds * SECOND_NS)))
        future = _threads[0].submit(context.run, function, *args, **kwargs)
        try:
            return future.result(seconds)
        except TimeoutError:
            if future.done():  # its own
                raise
            future.cancel()
            made.expired_count += 1
            raise CallTimeoutError("timeout", seconds, made.name) from None

    return timed


def _wrap_async(made: Guard, function: Callable[..., Any], again: Again | None, idempotent: bool) -> Any:
    first_step = made.first_step  # most calls of some functions end within it, and need no task to be given up in

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        value = first_step(function, args, kwargs)
        if type(value) is not Rest:
            return value
        token = value.token
        if token > 0:
            return await _carry_on(made, token, lambda: value, (), {}, value.began_ns)
        token = await made.turn(token)
        if token <= 0:
            return await _instead(made, token, args, kwargs)
        return await _carry_on(made, token, function, args, kwargs)

    if again is None:
        return guarded

    async def retried(*args: Any, **kwargs: Any) -> Any:
        return await again.call(guarded, *args, may_repeat=idempotent, **kwargs)

    return retried


async def _carry_on(
    made: Guard, token: int, function: Callable[..., Any], args: Any, kwargs: Any, began_ns: int = 0
) -> Any:
    """A call that was let in, to its end."""
    span_ns = made.span_ns
    try:
        if span_ns:
            value = await within(span_ns / SECOND_NS, made.name, function, args, kwargs, began_ns)
        else:
            value = await function(*args, **kwargs)
    except BaseException as error:
        made.failed_in_time(token, error, bool(span_ns))
        raise
    made.leave(token, True)
    return value


async def _instead(made: Guard, token: int, args: Any, kwargs: Any) -> Any:
    if made.fallback is None:
        raise made.refusal(token)
    value = made.fallback(*args, **kwargs)
    return await value if inspect.isawaitable(value) else value


def _by(kind: str, rule_class: Any, function: Any, rule: Any, options: dict[str, Any]) -> Any:
    """A decorator of one kind: bare, with a rule, or with the settings of one."""
    known = ("name", "fallback", "is_failure", "is_transient", "idempotent", "listener")
    own = {key: options.pop(key) for key in known if key in options}
    if rule is None or options:
        try:
            rule = rule_class(**options) if rule is None else rule_class(rule, **options)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{kind}: {error}") from None
    decorate = guard(Guards(**{kind: rule}), **own)
    return decorate if function is None else decorate(function)


def circuit_breaker(rule: Any = None, /, **options: Any) -> Any:
    """``@circuit_breaker``, ``@circuit_breaker(BreakerRule(...))`` or ``@circuit_breaker(open_s=5, ...)``."""
    if callable(rule):
        return _by("breaker", BreakerRule, rule, None, options)
    return _by("breaker", BreakerRule, None, rule, options)


def rate_limit(rule: RateRule | float, /, **options: Any) -> Any:
    """``@rate_limit(100)`` calls a second, ``@rate_limit(100, burst=10)``, ``@rate_limit(RateRule(...))``."""
    return _by("rate_limit", RateRule, None, rule, options)


def bulkhead(rule: BulkheadRule | int, /, **options: Any) -> Any:
    """``@bulkhead(10)`` calls at a time, ``@bulkhead(10, queue_max=50, wait_s=2)``, ``@bulkhead(BulkheadRule(...))``.

    Who waits for a place waits in its thread where the function is an ordinary one."""
    return _by("bulkhead", BulkheadRule, None, rule, options)


def timeout(rule: TimeoutRule | float | str = "adaptive", /, **options: Any) -> Any:
    """``@timeout(5)`` seconds, ``@timeout("adaptive", min_s=1)``, ``@timeout(TimeoutRule(...))``.

    An ordinary function runs in a thread of its own then: nothing else can be given up. Nested calls of clients and of
    functions with a timeout get no more than what is left."""
    if isinstance(rule, int | float) and not isinstance(rule, bool):
        fixed = float(rule)
        return _by(
            "timeout",
            TimeoutRule,
            None,
            None,
            {"min_s": fixed, "max_s": fixed, "start_s": fixed, "hard_max_s": fixed, **options},
        )
    return _by("timeout", TimeoutRule, None, None if rule == "adaptive" else rule, options)


def retry(rule: Any = None, /, **options: Any) -> Any:
    """``@retry``, ``@retry(RetryRule(...))``, ``@retry(attempt_max=5, idempotent=False, ...)``."""
    if callable(rule):
        return _by("retry", RetryRule, rule, None, options)
    return _by("retry", RetryRule, None, rule, options)
