"""Hierarchical timing wheel: thousands of deadlines, O(1) add and cancel (Varghese and Lauck, 1987)."""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

class TimingWheel(Generic[K]):
    """Deadlines of hashable keys, each at most once. The clock is an argument: the wheel never reads the time.

    Times are nanoseconds, 0 to 2**64 - 1 on any one clock (OverflowError beyond). A key fires at the first
    ``advance`` whose ``now_ns`` has reached the end of the tick that its deadline lies in: never before the deadline,
    less than ``tick_ns`` after.

    Thread rule: Python threads may share a wheel, as each method is one step under the GIL; each key fires, or is
    cancelled, once. Where keys compare by code in Python another thread may come in; the wheel is whole then. The C
    face is for one thread at a time.
    """

    def __init__(self, tick_ns: int = 1000000, now_ns: int = 0) -> None:
        """ValueError for ``tick_ns`` below 1."""
    def __len__(self) -> int: ...
    def __contains__(self, key: Hashable) -> bool: ...
    @property
    def tick_ns(self) -> int: ...
    def add(self, key: K, deadline_ns: int) -> None:
        """A deadline in the past fires at the next ``advance``. ValueError where the key is in the wheel already."""
    def cancel(self, key: Hashable) -> bool:
        """False where it was not there."""
    def move(self, key: K, deadline_ns: int) -> bool:
        """Gives a key a new deadline; False where it is not there."""
    def advance(self, now_ns: int) -> list[K]:
        """Removes and gives the keys that are due, in order of deadline, equal ones in order of adding (or moving). A
        time before the last one given counts as the last one."""
    def next_deadline_ns(self) -> int | None:
        """A lower bound of the first time at which ``advance`` gives a key; None where the wheel is empty. Advancing
        to it makes the next answer a better one: after at most nine steps a key has fired."""
    def clear(self) -> None: ...
    def check(self) -> None:
        """AssertionError where an invariant is broken. O(n)."""
