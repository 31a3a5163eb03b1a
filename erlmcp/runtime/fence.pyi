"""What stands before a guarded call, compiled; see ``erlmcp.runtime.guard`` for what it promises."""

from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any, Final

from erlmcp.core import Histogram, TokenBucket
from erlmcp.policy.breaker import Breaker
from erlmcp.policy.bulkhead import Bulkhead

DEADLINE: ContextVar[Until | None]

class Until:
    """Until when there is time: progress may move it."""

    due_ns: int
    def __init__(self, due_ns: int) -> None: ...

def until_after(span_ns: int) -> Until:
    """For a call that may take so long, within the time of the one it is made in."""

class Rest:
    """What is left of a call of a coroutine function after its first step: to be awaited, or (``token`` zero and below)
    a call that was not let in. ``began_ns``: when it began, where its time is limited."""

    token: Final[int]
    began_ns: Final[int]
    def __await__(self) -> Generator[Any, Any, Any]: ...

class Fence:
    """The hot part of a ``Guard``, which inherits from it and has ``otherwise``, ``failed``, ``hand_over`` and
    ``adapt`` for what is rare."""

    span_ns: int
    """How long a call may take, to be handed on to what it calls; 0: that is not handed on."""
    asks_callers: bool
    """Whether ``enter`` does not do, as each caller has a rate of its own."""
    ok_count: Final[int]
    failure_count: Final[int]
    def set_fence(
        self,
        *,
        breaker: Breaker | None,
        bulkhead: Bulkhead | None,
        bucket: TokenBucket | None,
        total: TokenBucket | None,
        durations: Histogram | None,
        is_precise: bool,
        due_ns: int | None,
    ) -> None:
        """What a call has to pass; None: nothing of the kind. ``adapt`` is called with the first call that ends at
        ``due_ns`` or later."""
    def now_ns(self) -> int: ...
    def enter(self) -> int:
        """A token above zero, or (0 and below) which part did not let the call in."""
    def leave(self, token: int, is_ok: bool) -> None: ...
    def settle(self, token: int, is_ok: bool) -> None:
        """``leave`` without giving the place of the bulkhead back: the call was given up, and goes on."""
    def cancel(self, token: int) -> None:
        """The call came to no outcome."""
    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """An ordinary function, guarded."""
    def first_step(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a coroutine function gives, where it does not wait; else a ``Rest``. What a call that ended teaches is
        learned; who awaits the rest sees to the rest."""
