"""The rules of protection, as a configuration writes them: a number, a word or a table for each."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from erlmcp.errors import ConfigurationError
from erlmcp.gateway.document import Table
from erlmcp.policy.balance import BalanceRule
from erlmcp.policy.breaker import BreakerRule
from erlmcp.policy.bulkhead import BulkheadRule
from erlmcp.policy.limiter import RateRule
from erlmcp.policy.protection import ADAPTIVE, Guards
from erlmcp.policy.retry import RetryRule
from erlmcp.policy.timeouts import TimeoutRule
from erlmcp.runtime.guard import Guard

RULES: Final[dict[str, type]] = {
    "breaker": BreakerRule,
    "rate_limit": RateRule,
    "bulkhead": BulkheadRule,
    "timeout": TimeoutRule,
    "retry": RetryRule,
}
SHORT: Final = {
    "breaker": "true, or a table",
    "rate_limit": "calls a second, or a table",
    "bulkhead": "calls at a time, or a table",
    "timeout": f'"{ADAPTIVE}", or a table',
    "retry": "true, or a table",
}
NOT_HERE: Final = {"per", "listener"}


def read_guards(table: Table, name: str) -> Guards | None:
    """The guards of one key; None where it is not there or wrong, which is reported."""
    inner = table.table(name)
    if inner is None:
        return None
    given: dict[str, Any] = {}
    for key, kind in RULES.items():
        value = inner.raw(key)
        if isinstance(value, dict):
            value = _read_rule(inner, key, kind)
        if value is not None:
            given[key] = value
    inner.finish()
    for key, value in list(given.items()):
        try:
            Guard(key, Guards(**{key: value}))
        except (ConfigurationError, OverflowError, TypeError, ValueError) as error:
            inner.report(key, str(error), f"write {SHORT[key]}")
            del given[key]
    return Guards(**given) if given else None


def read_balance(table: Table) -> BalanceRule | None:
    """The rule of replicas; None where it is not there or wrong, which is reported."""
    inner = table.table("balance")
    if inner is None:
        return None
    given: dict[str, Any] = {}
    for each in fields(BalanceRule):
        if each.name in inner:
            usual: Any = each.default
            is_whole = isinstance(usual, int)
            number = inner.number(each.name, usual, is_whole=is_whole, least=1 if is_whole else 0)
            given[each.name] = int(number) if is_whole else float(number)
    inner.finish()
    try:
        return BalanceRule(**given)
    except ValueError as error:
        inner.report("", str(error), "see docs/gateway.md")
        return None


def _read_rule(table: Table, key: str, kind: type) -> Any:
    inner = table.table(key)
    assert inner is not None
    known = {field.name for field in fields(kind)} - NOT_HERE
    values = {name: inner.raw(name) for name in known if name in inner}
    if key == "rate_limit" and "per" in inner:
        values["per"] = inner.choice("per", {"tool": "tool", "caller": "caller"}, "tool")
    inner.finish()
    for name, value in values.items():
        if not isinstance(value, int | float) and name != "per":
            inner.report(name, "is no number", "write a number, or true or false where it is a switch")
            return None
    try:
        return kind(**values)
    except (TypeError, ValueError, ConfigurationError) as error:
        inner.report("", str(error), "see docs/gateway.md")
        return None
