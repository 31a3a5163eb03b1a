"""What protects a tool, an endpoint or a function: the rules of all policies in one record."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from erlmcp.errors import ConfigurationError
from erlmcp.policy.breaker import BreakerRule
from erlmcp.policy.bulkhead import BulkheadRule
from erlmcp.policy.limiter import RateRule
from erlmcp.policy.retry import RetryRule
from erlmcp.policy.timeouts import TimeoutRule

ADAPTIVE = "adaptive"


@dataclass(frozen=True, slots=True)
class Guards:
    """The protections of a tool (``Server``), or of an endpoint (``Client``). None: without it.

    ``breaker``: a ``BreakerRule``, or True for the defaults. ``rate_limit``: a ``RateRule``, several of them, or a
    number of calls a second. ``bulkhead``: a ``BulkheadRule``, or a number of calls at a time. ``timeout``: a
    ``TimeoutRule``, or "adaptive" for the defaults. ``retry``: a ``RetryRule``, or True; only a caller can ask again,
    so a server has no use for it.

    Raises ConfigurationError for what is none of these.
    """

    breaker: BreakerRule | bool | None = None
    rate_limit: RateRule | float | tuple[RateRule, ...] | None = None
    bulkhead: BulkheadRule | int | None = None
    timeout: TimeoutRule | str | bool | None = None
    retry: RetryRule | bool | None = None

    def __post_init__(self) -> None:
        try:
            found = {
                "breaker": _rule(self.breaker, BreakerRule, {True: BreakerRule()}),
                "rate_limit": _rates(self.rate_limit),
                "bulkhead": _sized(self.bulkhead),
                "timeout": _rule(self.timeout, TimeoutRule, {ADAPTIVE: TimeoutRule()}),
                "retry": _rule(self.retry, RetryRule, {True: RetryRule()}),
            }
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @property
    def rates(self) -> tuple[RateRule, ...]:
        return self.rate_limit if isinstance(self.rate_limit, tuple) else ()

    def over(self, other: Guards | None) -> Self:
        """These, and where they say nothing the others. False, () or 0 says that there is none."""
        if other is None:
            return self
        return type(self)(
            **{
                each.name: getattr(other if getattr(self, each.name) is None else self, each.name)
                for each in fields(self)
            }
        )

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))


def _rule(given: Any, kind: type, shorthand: dict[object, object]) -> Any:
    if given is None or given is False or isinstance(given, kind):
        return given
    if isinstance(given, bool | str) and given in shorthand:
        return shorthand[given]
    wanted = ", ".join([f"a {kind.__name__}", *map(repr, shorthand), "False", "None"])
    raise ValueError(f"expected {wanted}, got {given!r}")


def _sized(given: Any) -> Any:
    if given is False or (isinstance(given, int) and not isinstance(given, bool) and given == 0):
        return False
    if isinstance(given, int) and not isinstance(given, bool):
        return BulkheadRule(given)
    return _rule(given, BulkheadRule, {})


def _rates(given: Any) -> Any:
    if given is False:
        return ()
    if isinstance(given, int | float) and not isinstance(given, bool):
        return (RateRule(given),) if given else ()
    if isinstance(given, RateRule):
        return (given,)
    if given is None:
        return None
    if not isinstance(given, tuple | list) or not all(isinstance(each, RateRule) for each in given):
        raise ValueError(f"expected a RateRule, several of them, calls a second, or None; got {given!r}")
    places = [each.per for each in given]
    if len(set(places)) != len(places):
        raise ValueError(f"at most one RateRule for each of server, tool and caller, got {places}")
    return tuple(given)
