"""What the compiled short way knows of a tool, and of a method with ready answers."""

from collections.abc import Callable
from typing import Any

from erlmcp.core import Template
from erlmcp.runtime.guard import Guard

class Entry:
    """What a tool that may be called the short way shows of itself: ``is_simple`` says whether it may, ``fence`` what a
    call has to pass (None: nothing), ``span_ns`` how long it may take, where it hands that on (0: it does not)."""

    invoke: Any
    result_class: type | None
    modern: Template | None
    structured: Template | None
    plain: Template | None
    is_simple: bool
    fence: Guard | None
    span_ns: int
    lane: int
    def set_direct(
        self,
        function: Callable[..., Any],
        keys: tuple[str, ...],
        classes: tuple[type | None, ...],
        defaults: tuple[object, ...],
        missing: object,
        strict: bool,
    ) -> None:
        """Arguments that are each of their class (None: any) go to the function by position, without ``invoke``; what
        is not given takes its default (``missing``: there is none), and ``strict`` allows no other keys. Everything
        else is left to ``invoke``.
        """

class Ready:
    """A route whose answer is ready bytes where the request has no params but ``_meta``.

    ``find(peer)`` gives them as a Template without slots. Calling the route takes the general way. ``is_modern`` and
    ``is_legacy`` say in which era the method exists.
    """

    def __init__(
        self,
        general: Callable[[Any], Any],
        find: Callable[[Any], Template],
        *,
        is_modern: bool = True,
        is_legacy: bool = True,
    ) -> None: ...
    def __call__(self, exchange: Any) -> Any: ...
