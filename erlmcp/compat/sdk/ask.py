"""Questions to the client by their method and params, in both eras; what ``Context`` and ``Resolve`` stand on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from erlmcp.compat.sdk.request_state import RequestStateSecurity, SealedRound
from erlmcp.errors import NoBackChannelError
from erlmcp.server.context import Context as Inner
from erlmcp.server.input import check_capability
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.compat.sdk.kernel import Kernel

Question = tuple[str, dict[str, Any] | None]
FORM_MODES_FROM = "2025-11-25"  # the revision whose forms say their mode


def security_of(inner: Inner) -> RequestStateSecurity:
    """How this server keeps the state of a call."""
    server: Kernel = inner.server  # type: ignore[assignment]
    return server.security


def sealed_round(inner: Inner) -> SealedRound:
    """The round of this request, made when it is first asked for."""
    exchange = inner._exchange
    if exchange.round is None:
        if inner.method not in m.MULTI_ROUND:
            raise NoBackChannelError(f"{inner.method} cannot ask the client anything (2026-07-28, mrtr)")
        exchange.round = SealedRound(inner, security_of(inner), inner.server.limits.input_round_max)
    return exchange.round  # type: ignore[no-any-return]


async def ask(inner: Inner, questions: Mapping[str, Question]) -> dict[str, Any]:
    """Ask these at once: key -> question in, key -> answer out. McpError -32021 where the client cannot be asked."""
    for method, params in questions.values():
        check_capability(inner._exchange, method, params)
    if inner.era == "legacy":
        return await inner._ask_directly(dict(questions))
    sealed_round(inner)
    return await inner._ask_by_rounds(dict(questions))


async def ask_one(inner: Inner, kind: str, method: str, params: dict[str, Any] | None) -> Any:
    """Ask one, under a key made of its kind and its place among those of the call."""
    key = kind if inner.era == "legacy" else sealed_round(inner).key(kind, None)
    return (await ask(inner, {key: (method, params)}))[key]


def form_params(inner: Inner, message: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The params of a form elicitation."""
    mode = {"mode": "form"} if inner.protocol_version >= FORM_MODES_FROM else {}
    return {**mode, "message": message, "requestedSchema": schema}
