"""Bounded FIFO over a power of two of slots."""

from typing import Generic, Literal, TypeVar, overload

T = TypeVar("T")
D = TypeVar("D")

class Ring(Generic[T]):
    """A queue with a fixed number of places; full and empty are answers, not errors.

    ``mode`` is the discipline of the C face (ring.pxd): "local" for one thread, "spsc" for one pushing and one popping
    thread, "mpmc" for any number. Python threads may share a Ring in every mode: the GIL makes each method one step.
    """

    def __init__(self, capacity: int, mode: Literal["local", "spsc", "mpmc"] = "local") -> None:
        """``capacity`` is rounded up to a power of two, at least 2. ValueError below 1 or for an unknown mode,
        LimitError above 2**30."""
    def __len__(self) -> int: ...
    @property
    def capacity(self) -> int:
        """Places in all."""
    @property
    def mode(self) -> str: ...
    @property
    def is_full(self) -> bool: ...
    def push(self, item: T) -> bool:
        """False where the ring is full."""
    @overload
    def pop(self) -> T | None: ...
    @overload
    def pop(self, default: D) -> T | D:
        """The oldest item; the default where the ring is empty."""
    def push_many(self, items: list[T]) -> int:
        """Pushes from the front of the list as many as there are places for, and says how many."""
    def pop_many(self, count: int) -> list[T]:
        """Up to ``count`` items, the oldest first. ValueError below 0."""
    def clear(self) -> None: ...
    def check(self) -> None:
        """AssertionError where an invariant is broken. O(n)."""

class WordRing:
    """Whole numbers through a ring between threads that do not hold the GIL: the measure of the C face's
    disciplines."""

    def __init__(self, capacity: int, mode: Literal["spsc", "mpmc"] = "mpmc") -> None: ...
    def push_range(self, first: int, count: int, batch: int = 1) -> None:
        """Pushes ``first``, ``first + 1`` ... , ``batch`` (1 to 64) at a time; waits for room as often as it must."""
    def pop_sum(self, count: int, batch: int = 1) -> tuple[int, bool]:
        """Pops ``count`` numbers, waiting for them; their sum (modulo 2**64), and whether none was less than the one
        before."""
    def check(self) -> None:
        """AssertionError where an invariant is broken; while no thread is in the ring."""
