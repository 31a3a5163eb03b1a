"""Bounded FIFO over a power of two of places."""

from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
D = TypeVar("D")

class RingQueue(Generic[T]):
    """A queue with a fixed number of places; full and empty are answers, not errors.

    ``mode`` is the discipline of the C face (ring.pxd): "local" for one thread, "spsc" for one pushing and one popping
    thread, "mpmc" for any number.

    Thread rule: Python threads may share a RingQueue in every mode, as the GIL makes each method one step. Threads
    without the GIL may push in the modes "spsc" and "mpmc" (``queue_push_owned``); objects are always popped with it.

    A side with nothing to do may sleep on a file descriptor. It sets ``wake_fd`` (or ``space_fd``) once, and before it
    waits calls ``arm_items()`` (or ``arm_space()``): True says that the next push (pop) writes 8 bytes to the
    descriptor, False that there is something to do already. Only an armed queue writes, and once for each arming, so
    a busy queue makes no system call.
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
    @property
    def is_closed(self) -> bool: ...
    def push(self, item: T) -> bool:
        """False where the queue is full, or closed."""
    def pop(self) -> T | None:
        """The oldest item; None where the queue is empty (``pop_or`` tells an empty queue from an item None)."""
    def pop_or(self, default: D) -> T | D:
        """The oldest item; the default where the queue is empty."""
    def push_many(self, items: list[T] | tuple[T, ...]) -> int:
        """Pushes from the front of ``items`` as many as there are places for, and says how many. TypeError for
        anything but a list or a tuple."""
    def pop_many(self, count: int) -> list[T]:
        """Up to ``count`` items, the oldest first. ValueError below 0."""
    def clear(self) -> None:
        """Drops what is there now."""
    def close(self) -> None:
        """Every later push is refused; what is there can still be popped. Cannot be undone."""
    @property
    def wake_fd(self) -> int:
        """Written to when an item comes while the popping side sleeps: an eventfd or the writing end of a pipe, -1 for
        none. It must not block (ValueError), and stays its owner's: set -1 here before closing it. OSError for a
        number that is no open file."""
    @wake_fd.setter
    def wake_fd(self, fd: int) -> None: ...
    @property
    def space_fd(self) -> int:
        """As ``wake_fd``, when an item goes while the pushing side sleeps. May be the same descriptor."""
    @space_fd.setter
    def space_fd(self, fd: int) -> None: ...
    def arm_items(self) -> bool:
        """True: there is no item, and the next push writes to ``wake_fd``. False: there is one, and nothing is armed.
        ValueError where ``wake_fd`` is -1."""
    def disarm_items(self) -> None:
        """The popping side is awake again by itself."""
    def arm_space(self) -> bool:
        """True: there is no place, and the next pop writes to ``space_fd``. False: there is one, and nothing is armed.
        ValueError where ``space_fd`` is -1."""
    def disarm_space(self) -> None:
        """The pushing side is awake again by itself."""
    def check(self) -> None:
        """AssertionError where an invariant is broken; while no thread without the GIL is in the queue. O(n)."""

def feed(ring: RingQueue[Any], items: list[Any] | tuple[Any, ...]) -> int:
    """Pushes all the items without holding the GIL, waiting for places as often as it must: what a C thread would do
    with ``queue_push_owned``. How many went in: fewer only where the queue was closed. ValueError for mode "local"."""

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
